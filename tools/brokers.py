"""Fetch other versions of Mosquitto for the tests of the plugin: `python tools/brokers.py [VERSION ...]`.

Prints for each the path of a script that runs it: `.brokers/VERSION/mosquitto`. Below `root` beside that lies what
Debian has of it, with the libraries that it was linked with, the C library too, and the script starts it by the dynamic
linker that is there. So a broker of another Debian runs here, and nothing is installed.

apt does the fetching, and checks by Debian's keys what it fetches: from the mirror that this machine's own apt has
Debian from, but with sources, state and cache of its own below `.brokers`, which go when it is done. To that apt no
package is installed, so it lists all that the broker needs. What is there already is not fetched again.

Debian's suites keep only the newest version of a package. When theirs is not the one that was asked for, it is taken
in its place, under its own version, and that is said.

Exit 1: it cannot be fetched, or does not run. Exit 2: a version that is not known here.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
BROKERS = ROOT / ".brokers"
SUITES = {"2.0.21": ("bookworm-backports", "bookworm"), "2.1.2": ("sid",)}
"""Where Debian has it; a second one is for its libraries."""

DEFAULT_MIRROR = "http://deb.debian.org/debian/"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# The machine's own apt.conf is read before this one: its proxy is wanted, its hooks are not (they would clear caches
# that are not ours). The user that apt would become to fetch may not write here.
APT_CONF = """\
Dir::State "{0}/state";
Dir::State::status "{0}/status";
Dir::Cache "{0}/cache";
Dir::Etc::sourcelist "{0}/sources.list";
Dir::Etc::sourceparts "{0}/none";
Dir::Etc::preferences "{0}/none";
Dir::Etc::preferencesparts "{0}/none";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Retries "2";
Acquire::http::Timeout "30";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""

LAUNCHER = """\
#!/bin/sh
# Mosquitto {version} by its own dynamic linker and libraries.
root="$(dirname "$(readlink -f "$0")")/root"
exec "$root/{linker}" --library-path "{path}" "$root/usr/sbin/mosquitto" "$@"
"""


class CannotFetchError(Exception):
    """Why, in one line or more."""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What it prints; CannotFetchError with what it said when it fails or is not there."""
    words = [str(word) for word in command]
    env = {**os.environ, "LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    try:
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, env=env, check=False)
    except FileNotFoundError as error:
        raise CannotFetchError(f"there is no {words[0]}; this needs a system with apt, such as Debian") from error
    if done.returncode != 0:
        raise CannotFetchError(f"{shlex.join(words)}\n{(done.stderr or done.stdout).strip()}")
    return done.stdout


def mirror() -> str:
    """Where this machine's apt has Debian's main archive from; its path is /debian everywhere."""
    for address in run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").splitlines():
        if address.rstrip("/").endswith("/debian"):
            return address
    return DEFAULT_MIRROR


def write_apt(directory: Path, suites: tuple[str, ...]) -> Path:
    """An apt that has nothing installed and knows these suites alone: its configuration."""
    if not KEYRING.exists():
        raise CannotFetchError(f"no {KEYRING} to check it by; run: apt-get install debian-archive-keyring")
    for name in ("state/lists/partial", "cache/archives/partial", "none"):
        (directory / name).mkdir(parents=True)
    (directory / "status").touch()
    sources = "".join(f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n" for suite in suites)
    (directory / "sources.list").write_text(sources)
    conf = directory / "apt.conf"
    conf.write_text(APT_CONF.format(directory))
    return conf


def found_version(conf: Path, wanted: str, suite: str) -> str:
    """Debian's full version, such as 2.1.2-3."""
    there = []
    for line in run("apt-cache", "-c", conf, "madison", "mosquitto").splitlines():
        _, version, source = (field.strip() for field in line.split("|"))
        if f" {suite}/" in source:
            there.append(version)
    if not there:
        raise CannotFetchError(f"Debian's {suite} has no mosquitto")
    full = next((one for one in there if one.startswith(f"{wanted}-")), there[0])
    if upstream(full) != wanted:
        print(f"tidegate: Debian's {suite} has {upstream(full)} in the place of Mosquitto {wanted}", file=sys.stderr)
    return full


def upstream(version: str) -> str:
    """Without what Debian adds to it."""
    return version.rpartition("-")[0]


def is_needed(package: str) -> bool:
    """Whether it is the broker or what that may be linked with, of all that Debian would install with it."""
    return package == "mosquitto" or (package.startswith(("lib", "zlib")) and "perl" not in package)


def download(conf: Path, full: str, into: Path) -> list[Path]:
    """The packages, each in a file."""
    broker = [f"{name}={full}" for name in ("mosquitto", "libmosquitto1")]
    options = ("-qq", "--yes", "--no-install-recommends", "--print-uris")
    listed = run("apt-get", "-c", conf, *options, "install", *broker).splitlines()
    # 'ADDRESS' NAME_VERSION_ARCHITECTURE.deb SIZE SUM
    parts = [unquote(line.split()[1]).split("_") for line in listed if line.startswith("'")]
    needed = [f"{name}={version}" for name, version, _ in parts if is_needed(name)]
    run("apt-get", "-c", conf, "-q", "download", *needed, cwd=into)
    return sorted(into.glob("*.deb"))


def unpack(debs: list[Path], target: Path, version: str) -> Path:
    """All into one tree; the script that runs it."""
    root = target / "root"
    root.mkdir(parents=True)
    for deb in debs:
        run("dpkg-deb", "-x", deb, root)
    # Where it lies depends on whether that Debian's /lib is still a folder of its own.
    linker = next((one for one in sorted(root.glob("**/ld-linux*.so.*")) if not one.is_symlink()), None)
    if linker is None:
        raise CannotFetchError("its C library has no dynamic linker")
    folders = sorted({one.parent for one in root.glob("**/*-linux-gnu/lib*.so.*")})
    run("ldconfig", "-n", *folders)  # the short names of libraries, which installing would have made
    path = ":".join(f"$root/{folder.relative_to(root)}" for folder in folders)
    launcher = target / "mosquitto"
    launcher.write_text(LAUNCHER.format(version=version, linker=linker.relative_to(root), path=path))
    launcher.chmod(0o755)
    return launcher


def check(launcher: Path, version: str) -> None:
    """It must run, and be what it is said to be."""
    done = subprocess.run([launcher, "-h"], capture_output=True, text=True, check=False)
    if f"mosquitto version {version}" not in done.stdout:
        raise CannotFetchError(f"it does not run: {(done.stderr or done.stdout).strip()}")


def fetch(wanted: str) -> Path:
    """See to it that it is there: the script that runs it, or the one that Debian has in its place."""
    launcher = BROKERS / wanted / "mosquitto"
    if launcher.exists():
        return launcher
    print(f"tidegate: fetching Mosquitto {wanted} ...", file=sys.stderr)
    BROKERS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BROKERS) as name:
        directory = Path(name)
        conf = write_apt(directory, SUITES[wanted])
        run("apt-get", "-c", conf, "-q", "update")
        full = found_version(conf, wanted, SUITES[wanted][0])
        target = BROKERS / upstream(full)
        launcher = target / "mosquitto"
        if launcher.exists():
            return launcher
        debs = directory / "debs"
        debs.mkdir()
        fresh = directory / "fresh"
        check(unpack(download(conf, full, debs), fresh, upstream(full)), upstream(full))
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    return launcher


def main(versions: list[str]) -> int:
    """Fetch each, or all; the exit code."""
    for version in versions or SUITES:
        if version not in SUITES:
            print(f"tidegate: Mosquitto {version}: where? There are {', '.join(SUITES)}", file=sys.stderr)
            return 2
        try:
            print(fetch(version), flush=True)
        except CannotFetchError as error:
            print(f"tidegate: Mosquitto {version} cannot be fetched: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
