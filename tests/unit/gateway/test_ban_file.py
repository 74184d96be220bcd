import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.wait import GUARD
from tidegate.gateway import ban_file
from tidegate.gateway.ban_book import Entry
from tidegate.gateway.ban_file import BanFile, BanFileError
from tidegate.policy.ban_keys import BanKey

ENTRIES = [Entry(BanKey(client_id=name), "guess", 1.0, 2.0, 3, 4.0) for name in ("a", "é", "\x1b")]
AN_ENTRY = json.dumps(ENTRIES[0].as_object())


@pytest.fixture
def file(tmp_path: Path) -> BanFile:
    return BanFile(tmp_path, patience=0)


def test_what_is_written_is_read(file: BanFile) -> None:
    with file.locked():
        file.write(ENTRIES)
    found = file.read()
    assert (found.entries, found.problem) == (ENTRIES, "")
    file.write([])
    assert file.read().entries == []
    assert {path.name for path in file.path.parent.iterdir()} == {"bans.json", "bans.lock"}
    assert file.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
def test_what_root_makes_is_the_gateways(file: BanFile) -> None:
    os.chown(file.path.parent, 4711, 4712)
    with file.locked():
        file.write(ENTRIES)
    for path in file.path.parent.iterdir():
        assert (path.stat().st_uid, path.stat().st_gid) == (4711, 4712)


def test_each_ban_has_a_line(file: BanFile) -> None:
    file.write(ENTRIES)
    assert file.path.read_text().count("\n") == len(ENTRIES) + 2


def test_there_may_be_none(file: BanFile) -> None:
    assert not file.is_changed
    assert file.read().entries == []
    assert not file.is_changed


def test_a_directory_that_is_not_there_is_made(tmp_path: Path) -> None:
    file = BanFile(tmp_path / "a" / "b")
    with file.locked():
        file.write(ENTRIES)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_whether_others_have_written(file: BanFile) -> None:
    other = BanFile(file.path.parent)
    file.write([])
    assert not file.is_changed
    assert other.is_changed
    other.write(ENTRIES)
    assert file.is_changed
    assert file.read().entries == ENTRIES
    assert not file.is_changed
    file.path.unlink()
    assert file.is_changed


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "bans.json:1: not JSON: Expecting value"),
        ('{"version": 1,\n', "bans.json:2: not JSON: "),
        ("\udcff", "bans.json: not JSON: "),
        ("[" * 100_000, "bans.json: not JSON: "),
        ("[]", "bans.json: not a list of bans"),
        ('{"version": 1}', "bans.json: not a list of bans"),
        ('{"version": 2, "bans": []}', "bans.json: version 2 of the format is not known here"),
        ('{"bans": []}', "bans.json: version None of the format is not known here"),
        ('{"version": 1, "bans": [{}]}', "bans.json: bans[0]: nobody is named; "),
    ],
)
def test_what_is_no_file_of_bans(file: BanFile, text: str, told: str) -> None:
    file.path.write_text(text, errors="surrogateescape")
    found = file.read()
    assert found.entries == []
    assert found.problem.startswith(f"{file.path.parent}/{told}")


def test_the_rest_of_a_damaged_file_is_read(file: BanFile) -> None:
    file.path.write_text(f'{{"version": 1, "bans": [{AN_ENTRY}, {{"ip": "x"}}, 5, {AN_ENTRY}]}}')
    found = file.read()
    assert found.entries == ENTRIES[:1] * 2
    assert found.problem == (
        f'{file.path}: bans[1]: ip: not a network; write for instance "10.20.0.0/16", "192.0.2.7" or "2001:db8::/32"'
    )


def test_a_file_that_is_too_large(file: BanFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ban_file, "MAX_BYTES", 1 << 20)
    file.path.write_text(" " * ((1 << 20) + 1))
    assert "larger than 1 MiB" in file.read().problem


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_regular_file_keeps_nobody_waiting(file: BanFile, kind: str) -> None:
    file.path.mkdir() if kind == "folder" else os.mkfifo(file.path)
    found = file.read()
    assert found.entries == []
    assert found.problem.startswith(f"{file.path}")


def test_it_is_kept_aside(file: BanFile) -> None:
    file.path.write_text("mine")
    aside = file.set_aside()
    assert aside == file.path.with_name("bans.json.broken")
    assert aside.read_text() == "mine"
    with pytest.raises(BanFileError, match=r"bans\.json: cannot be renamed: No such file"):
        file.set_aside()


class TestFailure:
    @pytest.fixture
    def full(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        def fail(_: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            yield

    @pytest.mark.usefixtures("full")
    def test_a_full_disk_leaves_what_was_there(self, file: BanFile) -> None:
        file.path.write_text("before")
        with pytest.raises(BanFileError, match=r"bans\.json: cannot be written: No space left on device; let the"):
            file.write(ENTRIES)
        assert [path.name for path in file.path.parent.iterdir()] == ["bans.json"]
        assert file.path.read_text() == "before"

    @pytest.mark.usefixtures("full")
    def test_what_was_read_before_must_be_read_again(self, file: BanFile) -> None:
        file.path.write_text(f'{{"version": 1, "bans": [{AN_ENTRY}]}}')
        assert file.read().entries
        with pytest.raises(BanFileError):
            file.write([])
        assert file.is_changed

    def test_a_file_in_the_place_of_the_directory(self, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("")
        file = BanFile(tmp_path / "state")
        with pytest.raises(BanFileError, match=r"bans\.lock: cannot be opened"), file.locked():
            pass
        with pytest.raises(BanFileError, match=r"bans\.json: cannot be read: Not a directory"):
            file.read()


OTHER = """
import sys
from pathlib import Path
from tidegate.gateway.ban_file import BanFile
with BanFile(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_one_at_a_time_changes_it(file: BanFile) -> None:
    folder = str(file.path.parent)
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(BanFileError, match=r"bans\.lock: another process keeps it locked"), file.locked():
            pass
        assert file.read().entries == [], "reading needs no lock"
        other.stdin.close()
        other.wait(GUARD)
    with BanFile(file.path.parent, patience=GUARD).locked():
        pass
