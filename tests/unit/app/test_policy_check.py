import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tidegate.app import policy_compile
from tidegate.app.policy_check import Checked, check, check_json, exit_code, show_check
from tidegate.policy.compile import TooMuch
from tidegate.policy.problems import MAX_PROBLEMS, Problem

LIMIT = '[[limit]]\nname = "{}"\nrate = "1/s"\non_excess = "drop"\n'
DOUBTFUL = '[class.guest]\nclient_id = "[guest]-*"\npriority = "critical"\n'


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "[t].toml"


def shown(result: Checked, *, terminal: bool = False) -> tuple[list[str], list[str]]:
    """Lines for standard output and for standard error."""
    out, err = (Console(file=io.StringIO(), width=40, force_terminal=terminal) for _ in range(2))
    show_check(result, out, err)
    assert isinstance(out.file, io.StringIO)
    assert isinstance(err.file, io.StringIO)
    return out.file.getvalue().splitlines(), err.file.getvalue().splitlines()


def test_what_is_good_is_counted(file: Path) -> None:
    file.write_text(LIMIT.format("a") + LIMIT.format("b") + '[class.u]\nusername = "u"\n')
    result = check(file)
    assert result == Checked([], [], [], 2, 1)
    assert shown(result) == (["good: 2 limits, 1 class"], [])


def test_nothing_to_limit_is_good_too(file: Path) -> None:
    file.write_text("")
    assert shown(check(file)) == (["good: 0 limits, 0 classes"], [])


def test_problems_go_to_standard_error_and_nothing_else_is_told(file: Path) -> None:
    file.write_text('[[limit]]\nname = "a"\n' + DOUBTFUL + "[gatway]\n")
    result = check(file)
    assert [problem.line for problem in result.problems] == [1, 6]
    assert (result.warnings, result.unenforced, result.limits, result.classes) == ([], [], 0, 0)
    out, err = shown(result)
    assert out == []
    assert err == [str(problem) for problem in result.problems]


def test_problems_that_are_left_out_are_counted(file: Path) -> None:
    file.write_text("[gateway]\n" + "".join(f"k{number} = 1\n" for number in range(MAX_PROBLEMS + 7)))
    result = check(file)
    assert (len(result.problems), result.untold) == (MAX_PROBLEMS, 7)
    _, err = shown(result)
    assert err[-1] == "and 7 more: mend these first"
    assert json.loads(check_json(result))["untold"] == 7


def test_a_policy_that_cannot_be_compiled_is_a_problem(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise TooMuch("too many levels")

    monkeypatch.setattr(policy_compile, "compile_policy", refuse)
    file.write_text(LIMIT.format("a"))
    (problem,) = check(file).problems
    assert (problem.line, problem.text) == (1, "too many levels")


def test_doubts_and_what_serve_refuses_stand_in_the_order_of_the_file(file: Path) -> None:
    later = '[[limit]]\nname = "a"\nshared = true\nrate = "1/s"\non_excess = "disconnect"\n'
    file.write_text(later + DOUBTFUL + LIMIT.format("b") + "shared = true\n")
    result = check(file)
    assert [problem.line for problem in result.warnings] == [6]
    assert [problem.line for problem in result.unenforced] == [3, 13]
    out, err = shown(result)
    assert err == []
    assert [line.split(": ")[0] for line in out[:-1]] == [f"{file}:3", f"{file}:6", f"{file}:13"]
    assert ["warning: " in line for line in out[:-1]] == [False, True, False]
    assert out[-1] == "well-formed, but serve refuses it: 2 limits, 1 class"


def test_lines_are_not_wrapped_so_that_programs_can_read_them(file: Path) -> None:
    file.write_text(DOUBTFUL)
    out, _ = shown(check(file), terminal=True)
    assert "add a condition that is proven: username, cidr, listener or cn" in out[0]


def test_a_file_name_is_not_obeyed() -> None:
    problem = Problem("[red]\x1b[2J.toml", 3, "limit.x", None, "[bold]wrong", "mend it")
    (line, _), _ = shown(Checked([], [problem], [], 0, 0))
    assert line == "[red]\\x1b[2J.toml:3: warning: limit.x: [bold]wrong; mend it"


def test_json_tells_each_part_of_a_problem(file: Path) -> None:
    file.write_text(DOUBTFUL)
    told = json.loads(check_json(check(file)))
    (warning,) = told["warnings"]
    assert warning == {
        "file": str(file),
        "line": 1,
        "key": "[class.guest]",
        "text": "critical, though any client can claim to be in it",
        "fix": "add a condition that is proven: username, cidr, listener or cn",
    }
    assert {name: told[name] for name in ("problems", "untold", "unenforced", "limits", "classes")} == {
        "problems": [],
        "untold": 0,
        "unenforced": [],
        "limits": 0,
        "classes": 1,
    }


def test_for_the_plugin_each_limit_is_told(file: Path) -> None:
    file.write_text(LIMIT.format("a") + '[[limit]]\nname = "b"\non = "packet"\nrate = "1/s"\n')
    result = check(file, for_plugin=True)
    out, err = shown(result)
    assert out[0].startswith(f"{file}:7: warning: ")
    assert out[1].startswith("a: publish: refused; MQTT 5 is told 0x97")
    assert out[2:] == [
        "b: packet: not enforced",
        "well-formed, but the plugin does not enforce 1 of them: 2 limits, 0 classes",
    ]
    assert err == []
    told = json.loads(check_json(result))["in_plugin"]
    assert [(limit["name"], limit["on"], limit["enforced"]) for limit in told] == [
        ("a", "publish", True),
        ("b", "packet", False),
    ]
    assert [change["line"] for limit in told for change in limit["changes"]] == [7]
    assert exit_code(result) == 1
    assert (exit_code(check(file)), "in_plugin" in json.loads(check_json(check(file)))) == (0, False)


def test_for_the_plugin_what_is_all_enforced_is_good(file: Path) -> None:
    file.write_text(LIMIT.format("a"))
    result = check(file, for_plugin=True)
    assert (shown(result)[0][-1], exit_code(result)) == ("good: 1 limit, 0 classes", 0)
