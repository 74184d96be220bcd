import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tidegate import __version__
from tidegate.cli import main as cli
from tidegate.gateway.start_error import StartError
from tidegate.policy.settings import Settings

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def invoke(*arguments: str | Path) -> Result:
        return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings with which the gateway was run, in place of running it."""
    settings: list[Settings] = []

    async def run_gateway(given: Settings) -> None:
        settings.append(given)

    monkeypatch.setattr(cli, "run_gateway", run_gateway)
    return settings


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
    assert set(cli.main.commands) == {"serve", "doctor"}


def test_an_unknown_command_is_told(run: Run) -> None:
    result = run("sevre")
    assert result.exit_code == 2
    assert "sevre" in result.output


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_a_wrong_configuration_tells_every_line(run: Run, served: list[Settings], tmp_path: Path, command: str) -> None:
    file = config(tmp_path, '[gateway]\nworkres = 2\nlisten = "udp://127.0.0.1:1"\n[log]\nlevel = "loud"\n')
    result = run(command, "-c", file)
    assert result.exit_code == 2
    lines = result.output.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"{file}:{number}" for number in (2, 3, 5)]
    for line, key in zip(lines, ("gateway.workres", "gateway.listen", "log.level"), strict=True):
        assert key in line
    assert served == []


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_a_configuration_that_is_not_there(run: Run, served: list[Settings], tmp_path: Path, command: str) -> None:
    result = run(command, "--config", tmp_path / "none.toml")
    assert result.exit_code == 2
    assert "none.toml" in result.output
    assert served == []


def test_serve_runs_what_the_file_says(run: Run, served: list[Settings], tmp_path: Path) -> None:
    result = run(
        "serve", "-c", config(tmp_path, '[gateway]\nlisten = "tcp://127.0.0.1:1884"\n[log]\nlevel = "debug"\n')
    )
    assert (result.exit_code, result.output) == (0, "")
    (settings,) = served
    assert settings.gateway.listen[0].port == 1884
    assert (settings.log.format, settings.log.level) == ("text", "debug")


def test_the_log_format_of_the_command_line_overrides(run: Run, served: list[Settings], tmp_path: Path) -> None:
    file = config(tmp_path, '[log]\nformat = "text"\nlevel = "error"\n')
    assert run("serve", "-c", file, "--log-format", "json").exit_code == 0
    assert (served[0].log.format, served[0].log.level) == ("json", "error")
    assert run("serve", "-c", file, "--log-format", "xml").exit_code == 2
    assert len(served) == 1


@pytest.mark.parametrize(("place", "told"), [("/etc/t.toml:7", "/etc/t.toml:7"), (None, "tidegate")])
def test_what_keeps_the_gateway_from_starting_is_told_with_its_place(
    run: Run, monkeypatch: pytest.MonkeyPatch, place: str | None, told: str
) -> None:
    async def fail(settings: Settings) -> None:
        error = StartError("port 1 is taken", "stop who has it")
        error.place = place
        raise error

    monkeypatch.setattr(cli, "run_gateway", fail)
    result = run("serve")
    assert result.exit_code == 1
    assert result.output == f"{told}: port 1 is taken\n  fix: stop who has it\n"


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
