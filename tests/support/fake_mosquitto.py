"""The plugin in a broker that does what it is told, under ASan and UBSan: tests/native/fake_broker.c."""

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "src/tidegate/engine/native"
PLUGIN = ROOT / "plugin"
NOT_ASKED = -1
SUCCESS, ACL_DENIED, DEFER, IGNORE, QUOTA_EXCEEDED = 0, 12, 17, 32, -6
"""What callbacks return."""


def build(program: Path, *, is_2_1: bool = False) -> Path:
    """Compile it."""
    options = ["-std=gnu11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{NATIVE}"]
    options += [f"-I{NATIVE.parent}", "-Dclock_gettime=fake_clock_gettime"]
    if platform.machine() == "x86_64":
        options.append("-mcx16")
    if is_2_1:
        options.append("-DWITH_2_1")
    sources = [ROOT / "tests/native/fake_broker.c", *sorted(PLUGIN.glob("*.c")), *sorted(NATIVE.glob("*.c"))]
    subprocess.run(["cc", *options, "-o", str(program), *map(str, sources)], check=True)
    return program


def word(text: str | bytes | int | None) -> str:
    """One word of a line."""
    if text is None:
        return "-"
    if isinstance(text, int):
        return str(int(text))
    return (text.encode() if isinstance(text, str) else text).hex() or "="


class FakeMosquitto:
    """A running one; a context manager. `kicks`, `log` and `figures` are what the plugin did, `lost` filters of
    subscriptions that ended with a kick.
    """

    def __init__(self, program: Path) -> None:
        # It ends with leaks of its own words' making; those of the plugin show as growth elsewhere.
        env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
        self.kicks: list[str] = []
        self.lost: list[str] = []
        self.log: list[str] = []
        self.figures: dict[str, str] = {}

    def __enter__(self) -> "FakeMosquitto":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait() == 0
        assert self.process.stdout is not None
        self.process.stdout.close()

    def tell(self, letter: str, *words: str | bytes | int | None) -> int:
        """Say it, and return the answer's number, 0 where it has none."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join([letter, *map(word, words)]) + "\n")
        self.process.stdin.flush()
        while line := self.process.stdout.readline():
            first, *rest = line.split()
            match first:
                case "K":
                    self.kicks.append(bytes.fromhex(rest[0] if rest else "").decode(errors="replace"))
                case "Z":
                    self.lost.append(bytes.fromhex(rest[0]).decode(errors="replace"))
                case "L":
                    self.log.append(bytes.fromhex(rest[0]).decode(errors="replace"))
                case "$":
                    self.figures[bytes.fromhex(rest[0]).decode()] = rest[1]
                case _:
                    assert first == letter, line
                    return int(rest[0]) if rest else 0
        raise AssertionError(f"ended with {self.process.wait()}")

    def begin(self, options: Sequence[tuple[str, str]]) -> int:
        """Load the plugin with these options; what its init returned."""
        self.tell("X")  # an example that failed may have left one
        self.log.clear()
        return self.tell("I", *(part for option in options for part in option))
