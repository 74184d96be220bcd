import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tidegate.app import bans
from tidegate.app.bans import NotDone
from tidegate.cli import main as cli
from tidegate.cli.ban import ban
from tidegate.gateway.ban_book import Entry
from tidegate.gateway.ban_file import BanFile

DOCS = Path(__file__).parents[3] / "docs" / "bans.md"
TIMES = re.compile(r"[0-9]{4}-[-0-9]{5} [:0-9]{8}|pid [0-9]+|[0-9]+(?:d|h)(?: [0-9]+min)?")
Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "tidegate.toml"
    file.write_text(f'[gateway]\nstate_dir = "{tmp_path}/state"\n')
    return file


@pytest.fixture
def run(config: Path) -> Run:
    def invoke(command: str, *arguments: str) -> Result:
        return CliRunner().invoke(cli.main, ["ban", command, "-c", str(config), *arguments])

    return invoke


@pytest.fixture
def entries(tmp_path: Path) -> Callable[[], list[Entry]]:
    return lambda: BanFile(tmp_path / "state").read().entries


@pytest.mark.parametrize("command", ["list", "add", "remove"])
def test_help_explains_every_option(command: str) -> None:
    result = CliRunner().invoke(cli.main, ["ban", command, "--help"])
    assert result.exit_code == 0
    _, _, options = result.output.partition("Options:\n")
    listed = [line for line in options.splitlines() if line.lstrip().startswith("-")]
    assert all("  " in line.strip() or line.endswith(("TEXT", "VALUE", "FILE")) for line in listed), listed
    assert "..." not in ban.commands[command].get_short_help_str(60)


@pytest.mark.parametrize("command", ["list", "add", "remove"])
def test_a_wrong_configuration_is_told(run: Run, config: Path, command: str) -> None:
    config.write_text("[gateway]\nworkres = 2\n")
    result = run(command)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"{config}:2: gateway.workres")


def test_a_ban_comes_and_goes(run: Run, entries: Callable[[], list[Entry]]) -> None:
    result = run("add", "--ip", "192.0.2.0/24", "--for", "90min", "--note", "scans")
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert re.fullmatch(r"banned ip 192\.0\.2\.0/24, until [0-9]{4}-[-0-9]{5} [:0-9]{8} \(for 1h 30min\)", first)
    assert second == "no gateway runs: it holds from the next start on"
    head, row = run("list").stdout.splitlines()
    assert head.split() == ["who", "limit", "times", "since", "until", "left", "note"]
    assert re.split(" {2,}", row)[:3] == ["ip 192.0.2.0/24", "by hand", "1"]
    assert row.endswith("scans")
    (told,) = json.loads(run("list", "--json").stdout)
    assert (told["ip"], told["note"], told["limit"]) == ("192.0.2.0/24", "scans", "")
    result = run("remove", "--ip", "192.0.2.0/24")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "lifted 1 ban\nno gateway runs: it holds from the next start on\n"
    assert run("list").stdout == "nobody is banned\n"
    assert entries() == []


def test_every_option_reaches_the_key(run: Run, entries: Callable[[], list[Entry]]) -> None:
    options = ["--ip", "unix", "--client-id", "c", "--username", "u", "--capture", "tenant=acme", "--capture", "b=1"]
    result = run("add", *options, "--forever")
    assert result.exit_code == 0
    assert result.stdout.startswith('banned ip unix, client "c", username "u", b "1", tenant "acme", until for ever\n')
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == ["note", "note"]
    assert run("add", "--anonymous", "--ip", "::1").exit_code == 0
    assert len(entries()) == 2
    assert run("remove", *options).exit_code == 0
    assert run("remove", "--anonymous", "--ip", "::1").exit_code == 0
    assert entries() == []


def test_it_lasts_an_hour_unless_told(run: Run, entries: Callable[[], list[Entry]]) -> None:
    assert "(for 1h)" in run("add", "--client-id", "c").stdout
    (entry,) = entries()
    assert entry.until - entry.since == 3600


def test_all_are_lifted(run: Run) -> None:
    for name in ("a", "b"):
        run("add", "--client-id", name)
    assert run("remove", "--all").stdout.startswith("lifted 2 bans\n")
    result = run("remove", "--all")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "nobody was banned")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["add"], "nobody is named; name a network, a client, a user name or a capture"),
        (
            ["add", "--ip", "192.0.2.7/24"],
            '--ip: an address with a network\'s length; write "192.0.2.0/24", or the addr',
        ),
        (["add", "--client-id", ""], "--client-id: a client without identifier"),
        (["add", "--username", "u", "--anonymous"], "--anonymous: nobody has a user name and sends none"),
        (["add", "--capture", "tenant"], "--capture: 'tenant' has no value; write NAME=VALUE"),
        (["add", "--ip", "::1", "--for", "5"], "--for: not a time; write a number and ms, s, min or h"),
        (["add", "--ip", "::1", "--for", "0.5s"], '--for: out of range; write "1s" to "87600h"'),
        (["add", "--ip", "::1", "--for", "1h", "--forever"], "--forever: --for is given too; leave one of the two out"),
        (["add", "--ip", "::1", "--note", "x" * 201], "--note: 201 characters; write at most 200"),
        (["remove"], "nobody is named; "),
        (["remove", "--all", "--ip", "::1"], "--all: somebody is named too; leave one of the two out"),
    ],
)
def test_what_cannot_be_meant(run: Run, entries: Callable[[], list[Entry]], options: list[str], told: str) -> None:
    result = run(*options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(f"tidegate ban {options[0]}: {told}")
    assert entries() == []


@pytest.mark.parametrize("command", ["add", "remove"])
def test_what_could_not_be_done_is_told(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    def fail(*_: object) -> object:
        raise NotDone("the disk is full; make room")

    monkeypatch.setattr(bans, command, fail)
    result = run(command, "--ip", "::1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"tidegate ban {command}: the disk is full; make room\n"


def test_who_is_not_banned_cannot_be_let_in(run: Run) -> None:
    result = run("remove", "--client-id", "c")
    assert result.exit_code == 1
    assert (
        result.stderr == 'tidegate ban remove: there is no ban of client "c"; tidegate ban list shows those there are\n'
    )


def test_a_broken_file_is_told_beside_what_can_be_read(run: Run, tmp_path: Path) -> None:
    run("add", "--ip", "192.0.2.7")
    file = tmp_path / "state" / "bans.json"
    file.write_text(file.read_text().replace("[", "[5,", 1))
    result = run("list")
    assert result.exit_code == 1
    assert "ip 192.0.2.7" in result.stdout
    assert result.stderr.startswith(f"tidegate ban list: {file}: bans[0]: not an object; ")


def test_of_a_file_that_cannot_be_read_nothing_is_said_but_that(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state" / "bans.json").mkdir(parents=True)
    result = run("list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "bans.json: cannot be read: Is a directory; " in result.stderr


def test_a_running_gateway_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bans, "_have_read", lambda _: 4711)
    result = run("add", "--ip", "192.0.2.7")
    assert result.stdout.splitlines()[1] == "in force: all workers of the gateway (pid 4711) go by it"


def test_the_documentation_shows_what_it_says(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands and answers on the page, but for times and pids."""
    monkeypatch.setattr(bans, "_have_read", lambda _: 4711)
    shown = re.findall(
        r"^\$ tidegate ban (.*?) -c tidegate\.toml(.*)\n((?:(?!\$ |```).*\n)*)", DOCS.read_text(), re.MULTILINE
    )
    assert len(shown) == 3
    for command, options, text in shown:
        said = run(command, *shlex.split(options)).stdout
        assert TIMES.sub("X", said).split() == TIMES.sub("X", text).split()
