import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tidegate.app.init import make
from tidegate.cli import main as cli

EXAMPLES = Path(__file__).parents[3] / "examples"
DOCS = Path(__file__).parents[3] / "docs" / "commands.md"
Run = Callable[..., Result]

GOOD = """\
[[limit]]
name = "flood"
rate = "20/s burst 40"
on_excess = { v3 = "drop", default = "reject" }
"""
GUESSING = '[[limit]]\nname = "guessing"\non = "auth_failure"\nrate = "5/min"\n'
DOUBTFUL = '[class.guest]\nclient_id = "guest-*"\nexempt = true\n'
WRONG = '[[limit]]\nname = "flood"\nrate = 20\ntopik = "a/#"\n'
NOT_YET = '[[limit]]\nname = "later"\nshared = true\nrate = "1/s"\n'


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)

    def invoke(*arguments: str | Path) -> Result:
        return CliRunner().invoke(cli.main, ["policy", *map(str, arguments)])

    return invoke


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_file(text: str) -> Path:
        file = tmp_path / "tidegate.toml"
        file.write_text(text)
        return file

    return write_file


Write = Callable[[str], Path]


def explain(file: Path, *options: str) -> tuple[str | Path, ...]:
    return ("explain", file, "--topic", "a/b", *options)


@pytest.mark.parametrize("command", ["check", "explain", "compile"])
def test_help_explains_every_option(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    _, _, options = result.output.partition("Options:\n")
    listed = [line for line in options.splitlines() if line.lstrip().startswith("-")]
    assert all("  " in line.strip() for line in listed), listed


def test_a_command_that_is_mistyped_is_guessed(run: Run) -> None:
    result = run("chek", "x")
    assert result.exit_code == 2
    assert "check" in result.stderr


@pytest.mark.parametrize("command", ["check", "explain", "compile"])
class TestFile:
    """Whatever is done with it, it must be one."""

    @staticmethod
    def options(command: str, tmp_path: Path) -> list[str]:
        return {"check": [], "explain": ["--topic", "a"], "compile": ["-o", str(tmp_path / "out")]}[command]

    def test_it_must_be_named(self, run: Run, tmp_path: Path, command: str) -> None:
        result = run(command, *self.options(command, tmp_path))
        assert result.exit_code == 2
        assert "FILE" in result.stderr

    def test_it_must_be_there(self, run: Run, tmp_path: Path, command: str) -> None:
        result = run(command, tmp_path / "none.toml", *self.options(command, tmp_path))
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith(f"{tmp_path}/none.toml: cannot be read: No such file or directory; ")

    def test_it_must_be_readable(self, run: Run, tmp_path: Path, command: str) -> None:
        result = run(command, tmp_path, *self.options(command, tmp_path))
        assert result.exit_code == 2
        assert f"{tmp_path}: cannot be read: Is a directory" in result.stderr

    def test_all_that_is_wrong_is_told_with_its_line(
        self, run: Run, write: Write, tmp_path: Path, command: str
    ) -> None:
        file = write(WRONG)
        result = run(command, file, *self.options(command, tmp_path))
        assert result.exit_code == 2
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        assert [line.split(": ")[:2] for line in lines] == [
            [f"{file}:3", "limit.rate = 20"],
            [f"{file}:4", 'limit.topik = "a/#"'],
        ]
        assert not (tmp_path / "out").exists()


class TestCheck:
    def test_good(self, run: Run, write: Write) -> None:
        result = run("check", write(GOOD))
        assert (result.exit_code, result.stdout, result.stderr) == (0, "good: 1 limit, 0 classes\n", "")

    def test_a_doubt_is_no_failure(self, run: Run, write: Write) -> None:
        file = write(GOOD + DOUBTFUL)
        result = run("check", file)
        assert result.exit_code == 0
        warning, verdict = result.stdout.splitlines()
        assert warning.startswith(f"{file}:5: warning: [class.guest]: exempt, though any client can claim")
        assert verdict == "good: 1 limit, 1 class"

    def test_what_serve_refuses_is_told_by_the_exit_code(self, run: Run, write: Write) -> None:
        file = write(NOT_YET)
        result = run("check", file)
        assert result.exit_code == 1
        refused, verdict = result.stdout.splitlines()
        assert refused.startswith(f"{file}:3: limit.shared = true: not enforced yet: ")
        assert verdict == "well-formed, but serve refuses it: 1 limit, 0 classes"

    @pytest.mark.parametrize(("text", "code"), [(GOOD, 0), (NOT_YET, 1), (WRONG, 2)])
    def test_json_has_the_same_exit_codes(self, run: Run, write: Write, text: str, code: int) -> None:
        result = run("check", write(text), "--json")
        assert result.exit_code == code
        assert result.stderr == ""
        told = json.loads(result.stdout)
        assert set(told) == {"problems", "untold", "warnings", "unenforced", "limits", "classes"}
        assert bool(told["problems"]) == (code == 2)
        assert bool(told["unenforced"]) == (code == 1)


class TestExplain:
    def test_text(self, run: Run, write: Write) -> None:
        result = run(*explain(write(GOOD), "--client-id", "c"))
        assert (result.exit_code, result.stderr) == (0, "")
        assert "per         client: c\n" in result.stdout

    def test_json(self, run: Run, write: Write) -> None:
        file = write(GOOD)
        result = run(*explain(file, "--json", "--version", "3.1.1", "--qos", "1", "--username", "u", "--retain"))
        assert (result.exit_code, result.stderr) == (0, "")
        told = json.loads(result.stdout)
        assert told["client"]["username"] == "u"
        assert told["message"]["retain"] == "true"
        assert [(met["name"], met["place"], met["action"]) for met in told["met"]] == [("flood", f"{file}:1", "drop")]

    def test_every_option_reaches_the_question(self, run: Run, write: Write) -> None:
        options: tuple[str, ...] = (
            "--client-id",
            "i",
            "--username",
            "u",
            "--ip",
            "192.0.2.1",
            "--version",
            "3.1",
            "--bridge",
        )
        options += ("--keep-session", "--qos", "2", "--size", "1000", "--json", "--listener", "tcp://127.0.0.1:1883")
        told = json.loads(run(*explain(write(GOOD), *options)).stdout)
        assert told["client"] == {
            "client_id": "i",
            "username": "u",
            "address": "192.0.2.1",
            "listener": "tcp://127.0.0.1:1883",
            "version": "3.1",
            "session": "kept",
            "bridge": "true",
        }
        assert told["message"] == {
            "topic": "a/b",
            "qos": "2",
            "retain": "false",
            "payload": "1000B",
            "packet": "1010B",
        }

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            (("--topic", "a/#"), "--topic: the topic name holds a wildcard"),
            (("--topic", ""), "--topic: "),
            (("--ip", "1.2.3"), "--ip: '1.2.3' is no address; write one of IPv4 or IPv6, or unix"),
            (("--listener", "tcp://127.0.0.1:1"), "--listener: gateway.listen has no tcp://127.0.0.1:1; it has tcp"),
        ],
    )
    def test_a_message_that_cannot_be(self, run: Run, write: Write, options: tuple[str, str], told: str) -> None:
        result = run(*explain(write(GOOD)), *options)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.startswith(f"tidegate policy explain: {told}")

    @pytest.mark.parametrize("options", [("--qos", "3"), ("--size", "-1"), ("--version", "4"), ("--nonsense",)])
    def test_options_that_cannot_be(self, run: Run, write: Write, options: tuple[str, ...]) -> None:
        result = run(*explain(write(GOOD)), *options)
        assert result.exit_code == 2
        assert options[0] in result.stderr

    def test_the_topic_must_be_named(self, run: Run, write: Write) -> None:
        result = run("explain", write(GOOD))
        assert result.exit_code == 2
        assert "--topic" in result.stderr

    def test_a_connection(self, run: Run, write: Write) -> None:
        file = write(GOOD + '[[limit]]\nname = "door"\non = "connect"\nrate = "5/s"\n' + GUESSING)
        result = run("explain", file, "--on", "connect", "--client-id", "c", "--ip", "127.0.0.9")
        assert (result.exit_code, result.stderr) == (0, "")
        assert "connects    by a CONNECT of 16B\n" in result.stdout
        assert "decided     at accept" in result.stdout
        told = json.loads(run("explain", file, "--on", "connect", "--size", "99", "--json").stdout)
        assert (told["on"], told["message"], [met["name"] for met in told["met"]]) == (
            "connect",
            {"packet": "99B"},
            ["door"],
        )
        told = json.loads(run("explain", file, "--on", "auth_failure", "--json").stdout)
        assert (told["message"], [met["name"] for met in told["met"]]) == ({}, ["guessing"])
        assert run("explain", file, "--on", "unsubscribe").exit_code == 2

    def test_a_subscription(self, run: Run, write: Write) -> None:
        file = write(GOOD + '[[limit]]\nname = "asked"\non = "subscribe"\ndepth = 2\nmax_qos = 1\n')
        result = run("explain", file, "--on", "subscribe", "--topic", "a/#", "--qos", "2")
        assert (result.exit_code, result.stderr) == (0, "")
        assert "subscribes  to a/# with QoS 2\n" in result.stdout
        assert "it gets QoS 1 instead of 2\n" in result.stdout
        assert (
            "reject by asked: it asks for too much\n"
            in run(*explain(file, "--on", "subscribe"), "--topic", "a/b/c").stdout
        )

    def test_the_documentation_shows_what_it_says_of_the_first_configuration_and_of_an_example(
        self, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        make(Path("tidegate.toml"))
        Path("public-broker.toml").write_text((EXAMPLES / "public-broker.toml").read_text())
        shown = re.findall(r"^\$ tidegate policy (explain .*)\n((?s:.*?))^```$", DOCS.read_text(), re.MULTILINE)
        assert len(shown) == 3
        for command, text in shown:
            assert run(*shlex.split(command)).stdout == text


class TestCompile:
    def test_it_says_what_it_wrote(self, run: Run, write: Write, tmp_path: Path) -> None:
        out = tmp_path / "policy.bin"
        result = run("compile", write(GOOD), "-o", out)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == f"{out}: {out.stat().st_size} bytes\n"

    def test_the_output_must_be_named(self, run: Run, write: Write) -> None:
        result = run("compile", write(GOOD))
        assert result.exit_code == 2
        assert "--output" in result.stderr

    def test_what_cannot_be_written(self, run: Run, write: Write, tmp_path: Path) -> None:
        out = tmp_path / "nowhere" / "policy.bin"
        result = run("compile", write(GOOD), "-o", out)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr == (
            f"tidegate policy compile: {out} cannot be written: No such file or directory; "
            "name a file in a folder of yours\n"
        )
