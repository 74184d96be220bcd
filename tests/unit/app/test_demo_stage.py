import json
from pathlib import Path

import pytest

from tidegate.app import demo_stage
from tidegate.app.demo_stage import POLICY, Stage, limited, serving
from tidegate.gateway.mosquitto_binary import MissingMosquitto
from tidegate.gateway.start_error import StartError
from tidegate.policy.enforced import unenforced
from tidegate.policy.settings import load


def test_the_policy_is_enforced_as_it_is_shown(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text(POLICY)
    settings = load(file)
    assert unenforced(settings.policy, settings.document) == []
    assert [limit.name for limit in settings.policy.limits] == ["each-device"]


def test_what_was_limited_was_delayed_whatever_came_then() -> None:
    metrics = """\
# HELP tidegate_limited_total Messages over a limit.
# TYPE tidegate_limited_total counter
tidegate_limited_total{action="delay",limit="each-device"} 3.8e+03
tidegate_limited_total{action="drop",limit="each-device"} 5.0
# HELP tidegate_passed_total Messages.
# TYPE tidegate_passed_total counter
tidegate_passed_total{limit="each-device"} 1043.0
"""
    assert limited(metrics) == 3800
    assert limited("") == 0


def test_the_gateway_tells_where_it_serves() -> None:
    told = {"event": "serving", "listen": ["tcp://127.0.0.1:41883"], "admin": "http://127.0.0.1:49883"}
    assert serving(json.dumps(told)) == (41883, 49883)


@pytest.mark.parametrize("line", ["", "Traceback (most recent call last):", "[1]", '"serving"', '{"event": "started"}'])
def test_other_lines_tell_nothing(line: str) -> None:
    assert serving(line) is None


def test_without_mosquitto_the_fix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise MissingMosquitto

    monkeypatch.setattr(demo_stage, "find_mosquitto", missing)
    monkeypatch.setattr(demo_stage, "install_command", lambda: "apt-get install mosquitto")
    with pytest.raises(StartError) as caught:
        Stage()
    assert str(caught.value) == (
        "the demo needs Mosquitto, and there is none on this machine\n  fix: apt-get install mosquitto"
    )


async def test_a_stage_that_was_never_started_leaves_no_folder() -> None:
    stage = Stage()
    assert stage.folder.is_dir()
    await stage.stop()
    assert not stage.folder.exists()


async def test_a_mosquitto_that_does_not_start_is_told_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mosquitto"
    program.write_text("#!/bin/sh\necho 'Error: no room' >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(demo_stage, "find_mosquitto", lambda: program)
    stage = Stage()
    assert stage.mosquitto == "of unknown version"
    with pytest.raises(StartError, match="Mosquitto ended at once: Error: no room"):
        await stage.start()
    await stage.stop()
    assert not stage.folder.exists()
