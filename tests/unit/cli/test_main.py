import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from tidegate import __version__
from tidegate.app.policy_check import check
from tidegate.app.reload import NotReloaded, Report
from tidegate.cli import main as cli
from tidegate.cli.ban import ban
from tidegate.cli.plugin import plugin
from tidegate.cli.policy import policy
from tidegate.gateway.start_error import StartError
from tidegate.policy.problems import Problem, SettingsError
from tidegate.policy.settings import Settings

DOCS = Path(__file__).parents[3] / "docs" / "commands.md"
Run = Callable[..., Result]
Served = tuple[Settings, Path | None]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: str | Path) -> Result:
        return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Served]:
    """With what the gateway was run, in place of running it: the settings, and the file that a reload reads."""
    runs: list[Served] = []

    async def run_gateway(settings: Settings, config: Path | None) -> None:
        runs.append((settings, config))

    monkeypatch.setattr(cli, "run_gateway", run_gateway)
    return runs


def config(folder: Path, text: str) -> Path:
    file = folder / "tidegate.toml"
    file.write_text(text)
    return file


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"tidegate, version {__version__}\n")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_the_commands(run: Run, flag: str) -> None:
    result = run(flag)
    assert result.exit_code == 0
    for name, command in cli.main.commands.items():
        assert f"  {name} " in result.output
        assert command.get_short_help_str(200)[:40] in result.output
        assert "..." not in command.get_short_help_str(40)
    assert set(cli.main.commands) == {"serve", "reload", "init", "demo", "doctor", "policy", "ban", "plugin"}


def test_the_documentation_names_every_command_and_option() -> None:
    text = DOCS.read_text()
    commands = {name: command for name, command in cli.main.commands.items() if not isinstance(command, click.Group)}
    for group in (policy, ban, plugin):
        commands |= {f"{group.name} {name}": command for name, command in group.commands.items()}
    assert set(re.findall(r"^\| `tidegate ([a-z ]+?)(?= [^a-z])", text, re.MULTILINE)) == set(commands)
    for name, command in commands.items():
        options = [option.opts for option in command.params if isinstance(option, click.Option)]
        assert all(any(re.search(rf"(?<![\w-]){word}\b", text) for word in words) for words in options), name


def test_an_unknown_command_is_told(run: Run) -> None:
    result = run("sevre")
    assert result.exit_code == 2
    assert "sevre" in result.output


@pytest.mark.parametrize("command", ["serve", "reload", "doctor"])
def test_a_wrong_configuration_tells_every_line(run: Run, served: list[Served], tmp_path: Path, command: str) -> None:
    file = config(tmp_path, '[gateway]\nworkres = 2\nlisten = "udp://127.0.0.1:1"\n[log]\nlevel = "loud"\n')
    result = run(command, "-c", file)
    assert result.exit_code == 2
    lines = result.output.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{file}:{number}" for number in (2, 3, 5)]
    for line, key in zip(lines, ("gateway.workres", "gateway.listen", "log.level"), strict=True):
        assert key in line
    assert served == []


@pytest.mark.parametrize("command", ["serve", "reload", "doctor"])
def test_a_configuration_that_is_not_there(run: Run, served: list[Served], tmp_path: Path, command: str) -> None:
    result = run(command, "--config", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert "none.toml" in result.output
    assert served == []


def test_serve_runs_what_the_file_says(run: Run, served: list[Served], tmp_path: Path) -> None:
    file = config(tmp_path, '[gateway]\nlisten = "tcp://127.0.0.1:1884"\n[log]\nlevel = "debug"\n')
    result = run("serve", "-c", file)
    assert (result.exit_code, result.output) == (0, "")
    ((settings, reloaded),) = served
    assert reloaded == file
    assert settings.gateway.listen[0].port == 1884
    assert (settings.log.format, settings.log.level) == ("text", "debug")


def test_without_a_configuration_there_is_nothing_to_read_again(run: Run, served: list[Served]) -> None:
    assert run("serve").exit_code == 0
    ((_, reloaded),) = served
    assert reloaded is None


def test_the_log_format_of_the_command_line_overrides(run: Run, served: list[Served], tmp_path: Path) -> None:
    file = config(tmp_path, '[log]\nformat = "text"\nlevel = "error"\n')
    assert run("serve", "-c", file, "--log-format", "json").exit_code == 0
    ((settings, _),) = served
    assert (settings.log.format, settings.log.level) == ("json", "error")
    assert run("serve", "-c", file, "--log-format", "xml").exit_code == 2
    assert len(served) == 1


@pytest.mark.parametrize(("place", "told"), [("/etc/t.toml:7", "/etc/t.toml:7"), (None, "tidegate")])
def test_what_keeps_the_gateway_from_starting_is_told_with_its_place(
    run: Run, monkeypatch: pytest.MonkeyPatch, place: str | None, told: str
) -> None:
    async def fail(settings: Settings, config: Path | None) -> None:
        error = StartError("port 1 is taken", "stop who has it")
        error.place = place
        raise error

    monkeypatch.setattr(cli, "run_gateway", fail)
    result = run("serve")
    assert result.exit_code == 1
    assert result.output == f"{told}: port 1 is taken\n  fix: stop who has it\n"


def test_limits_that_would_not_hold_keep_it_from_starting(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(settings: Settings, config: Path | None) -> None:
        raise SettingsError([Problem("t.toml", 7, "limit.shared", True, "not enforced yet", "remove it")])

    monkeypatch.setattr(cli, "run_gateway", fail)
    result = run("serve")
    assert result.exit_code == 2
    assert result.stderr == "t.toml:7: limit.shared = true: not enforced yet; remove it\n"
    assert result.stdout == ""


class TestReload:
    @pytest.fixture
    def answer(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Path]]:
        def set_answer(problems: list[str], notes: list[str], limits: int = 2) -> list[Path]:
            asked: list[Path] = []

            def request(settings: Settings, config: Path) -> Report:
                asked.append(config)
                return Report(1, str(config), 3, 4, limits, problems, notes)

            monkeypatch.setattr(cli, "request", request)
            return asked

        return set_answer

    def test_success_tells_what_is_in_force(self, run: Run, answer: Callable[..., list[Path]], tmp_path: Path) -> None:
        file = config(tmp_path, "")
        asked = answer([], [])
        result = run("reload", "-c", file)
        assert asked == [file]
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == "reloaded: 2 limits in force, generation 4 of the policy\n"
        answer([], [], limits=1)
        assert run("reload", "-c", file).stdout == "reloaded: 1 limit in force, generation 4 of the policy\n"

    def test_notes_are_no_failure(self, run: Run, answer: Callable[..., list[Path]], tmp_path: Path) -> None:
        answer([], ["t.toml:2: gateway.workers: takes effect at the next start"])
        result = run("reload", "-c", config(tmp_path, ""))
        assert result.exit_code == 0
        assert result.stderr == "t.toml:2: gateway.workers: takes effect at the next start\n"
        assert result.stdout.startswith("reloaded")

    def test_problems_of_the_gateway_are_the_exit_code(
        self, run: Run, answer: Callable[..., list[Path]], tmp_path: Path
    ) -> None:
        answer(["t.toml:3: limit.on: not enforced yet; remove it", "t.toml:9: too"], [])
        result = run("reload", "-c", config(tmp_path, ""))
        assert result.exit_code == 2
        assert result.stderr == "t.toml:3: limit.on: not enforced yet; remove it\nt.toml:9: too\n"
        assert result.stdout == ""

    def test_who_cannot_be_asked_is_told(self, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        def request(settings: Settings, config: Path) -> Report:
            raise NotReloaded("no gateway runs; start it")

        monkeypatch.setattr(cli, "request", request)
        result = run("reload", "-c", config(tmp_path, ""))
        assert result.exit_code == 1
        assert result.stderr == "tidegate reload: no gateway runs; start it\n"

    def test_the_file_must_be_named(self, run: Run) -> None:
        result = run("reload")
        assert result.exit_code == 2
        assert "--config" in result.stderr


class TestInit:
    def test_it_writes_what_can_be_served_and_says_how_to_go_on(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "my limits.toml"
        result = run("init", file)
        assert (result.exit_code, result.stderr) == (0, "")
        wrote, following, last = result.stdout.splitlines()
        assert wrote == f"wrote {file}"
        assert following == f"next: tidegate policy check {shlex.quote(str(file))}"
        assert last == f"then: tidegate serve -c {shlex.quote(str(file))}"
        assert check(file).problems == []

    def test_the_file_has_a_name_unless_told(self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert run("init").exit_code == 0
        assert (tmp_path / "tidegate.toml").exists()

    def test_a_file_that_is_there_stays(self, run: Run, tmp_path: Path) -> None:
        file = config(tmp_path, "mine")
        result = run("init", file)
        assert result.exit_code == 1
        assert result.stderr == f"tidegate init: {file} exists and stays as it is; name another file, or remove it\n"
        assert file.read_text() == "mine"


class TestDoctor:
    @pytest.fixture
    def healthy(self, tmp_path: Path) -> Path:
        return config(
            tmp_path,
            f'[gateway]\nlisten = "tcp://127.0.0.1:0"\nstate_dir = "{tmp_path}/state"\n'
            '[admin]\nlisten = "127.0.0.1:0"\n',
        )

    @pytest.fixture
    def ill(self, tmp_path: Path) -> Path:
        (tmp_path / "file").write_text("")
        return config(
            tmp_path,
            f'[gateway]\nlisten = "tcp://127.0.0.1:0"\nstate_dir = "{tmp_path}/file/state"\n'
            '[admin]\nlisten = "127.0.0.1:0"\n',
        )

    def test_json_is_json(self, run: Run, healthy: Path) -> None:
        result = run("doctor", "-c", healthy, "--json")
        told = json.loads(result.output)
        assert told["ok"] is True
        assert result.exit_code == 0
        assert {"name", "state", "text", "fix"} == set(told["findings"][0])

    def test_a_failure_is_the_exit_code(self, run: Run, ill: Path) -> None:
        result = run("doctor", "-c", ill, "--json")
        assert json.loads(result.output)["ok"] is False
        assert result.exit_code == 1

    def test_the_table_is_for_people(self, run: Run, ill: Path) -> None:
        result = run("doctor", "-c", ill)
        assert result.exit_code == 1
        assert "fail" in result.output
        assert "fix: " in result.output
