import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from support.wait import until
from tidegate.gateway.state import Owner, StateDir, StateDirError, StateDirTaken

ADMIN = "127.0.0.1:9883"
OTHER = """
import sys
from pathlib import Path
from tidegate.gateway.state import StateDir
StateDir(Path(sys.argv[1])).lock("other:1")
print("locked", flush=True)
sys.stdin.read()
"""


def test_the_first_lock_makes_a_private_directory(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "a" / "b")
    state.lock(ADMIN)
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    assert state.owner() == Owner(os.getpid(), ADMIN)
    state.unlock()
    assert state.owner() is None


def test_a_second_gateway_is_told_of_the_first(tmp_path: Path) -> None:
    first, second = StateDir(tmp_path), StateDir(tmp_path)
    first.lock(ADMIN)
    with pytest.raises(StateDirTaken) as caught:
        second.lock("127.0.0.1:1", patience=0)
    assert f"pid {os.getpid()}, admin endpoint at {ADMIN}" in str(caught.value)
    assert caught.value.fix == f"kill {os.getpid()}, or set another gateway.state_dir for this one"
    assert first.owner() == Owner(os.getpid(), ADMIN)
    first.unlock()
    second.lock("127.0.0.1:1", patience=0)
    assert second.owner() == Owner(os.getpid(), "127.0.0.1:1")
    second.unlock()


def test_a_gateway_that_has_locked_but_not_written_yet_is_told(tmp_path: Path) -> None:
    first = StateDir(tmp_path)
    first.lock(ADMIN)
    (tmp_path / "lock").write_text("")
    with pytest.raises(StateDirTaken, match="just starting"):
        StateDir(tmp_path).lock(ADMIN, patience=0)
    first.unlock()


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OTHER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        assert other.stdout.readline() == b"locked\n"
        state = StateDir(tmp_path)
        assert state.owner() == Owner(other.pid, "other:1")
        other.kill()
        until(lambda: state.owner() is None, "the lock's release")
        state.lock(ADMIN, patience=0)
        state.unlock()


def test_who_inherits_the_descriptor_keeps_the_directory(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.lock(ADMIN)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[state.lock_fd]) as worker:
        assert worker.stdin
        state.unlock()
        assert state.owner() == Owner(os.getpid(), ADMIN)
        worker.stdin.close()
        worker.wait()
    assert state.owner() is None


def test_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("")
    with pytest.raises(StateDirError, match="cannot be used") as caught:
        StateDir(path).lock(ADMIN)
    assert "gateway.state_dir" in caught.value.fix
    with pytest.raises(StateDirError, match="is not a folder"):
        StateDir(path).check_writable()


def test_a_directory_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(StateDirError, match="may not write"):
        StateDir(tmp_path / "new").check_writable()
    assert not (tmp_path / "new").exists()


def test_a_folder_on_the_way_that_may_not_be_entered_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", hidden)
    with pytest.raises(StateDirError, match="Permission denied"):
        StateDir(tmp_path / "new").check_writable()


def test_looking_makes_nothing(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "new")
    state.check_writable()
    assert state.owner() is None
    assert not state.path.exists()
