from pathlib import Path

import pytest

from tidegate.app.init import NotMade, make
from tidegate.app.policy_check import check
from tidegate.policy.settings import load


def test_what_it_writes_is_a_configuration_that_can_be_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = tmp_path / "tidegate.toml"
    make(file)
    result = check(file)
    assert (result.problems, result.warnings, result.unenforced) == ([], [], [])
    assert result.limits == 3
    settings = load(file)
    # Nothing that keeps it from running anywhere: the broker is found or made, and only this host may connect.
    assert settings.gateway.broker is None
    assert not settings.is_set("gateway.listen")


def test_every_key_that_is_commented_out_would_be_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    file = tmp_path / "tidegate.toml"
    make(file)
    hints = ("# listen =", "# broker =", "# workers =", "# [class.plc]", "# username =", "# cidr =")
    lines = file.read_text().splitlines()
    shown = [line.removeprefix("# ") if line.startswith(hints) else line for line in lines]
    assert sum(line.startswith(hints) for line in lines) == len(hints)
    file.write_text("\n".join(shown) + "\n")
    settings = load(file)
    assert str(settings.gateway.broker) == "unix:/run/mosquitto/mqtt.sock"
    assert [one.name for one in settings.policy.classes] == ["plc"]


def test_a_file_that_exists_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "tidegate.toml"
    file.write_text("mine\n")
    with pytest.raises(NotMade, match=r"tidegate\.toml exists and stays as it is; name another file"):
        make(file)
    assert file.read_text() == "mine\n"


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    link = tmp_path / "tidegate.toml"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotMade, match="exists"):
        make(link)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "tidegate.toml"
    with pytest.raises(NotMade, match=r"there is no folder .*/nowhere; make it: mkdir -p "):
        make(file)


def test_what_cannot_be_written_is_told_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotMade, match=r"cannot be written: Not a directory; name a file where"):
        make(tmp_path / "file" / "tidegate.toml")
