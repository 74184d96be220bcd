import os
from pathlib import Path

import pytest

from tidegate.app.replacing import replace


def test_a_new_file_has_the_mode_that_files_have(tmp_path: Path) -> None:
    (tmp_path / "as-usual").touch()
    replace(tmp_path / "new", b"text", None)
    assert (tmp_path / "new").read_bytes() == b"text"
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "as-usual").stat().st_mode


def test_a_link_in_the_place_of_the_draft_is_not_followed(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.write_text("stays")
    (tmp_path / ".file.new").symlink_to(others)
    replace(tmp_path / "file", b"text", None)
    assert others.read_text() == "stays"
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"text"


def test_a_file_whose_owner_cannot_be_kept_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("former")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(PermissionError):
        replace(file, b"text", file.stat())
    assert file.read_text() == "former"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
