import os
from pathlib import Path

import pytest

from tidegate.app import policy_compile
from tidegate.app.policy_compile import NotWritten, compile_to, compiled
from tidegate.policy.compile import TooMuch, assign_slots, compile_policy
from tidegate.policy.problems import SettingsError
from tidegate.policy.settings import load

LIMIT = '[[limit]]\nname = "x"\nrate = "1/s"\non_excess = "drop"\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    file = tmp_path / "t.toml"
    file.write_text(LIMIT)
    return file


def test_the_output_is_what_the_engine_reads(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    policy = load(file).policy
    expected = compile_policy(policy, assign_slots(policy), 1 << 20)
    assert compile_to(file, out) == len(expected)
    assert out.read_bytes() == expected


def test_the_largest_packet_is_the_gateways(file: Path) -> None:
    file.write_text(f'{LIMIT}bandwidth = "1KiB/s"\n')
    with_default = compiled(load(file))
    file.write_text(f'[gateway]\nmax_packet = "2KiB"\n{LIMIT}bandwidth = "1KiB/s"\n')
    assert compiled(load(file)) != with_default


def test_a_policy_that_does_not_fit_is_a_problem_of_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise TooMuch("more than 8 names of captures")

    monkeypatch.setattr(policy_compile, "compile_policy", refuse)
    with pytest.raises(SettingsError, match=rf"^{file}:1: .*more than 8 names of captures; make the policy smaller$"):
        compiled(load(file))


def test_an_output_that_is_there_is_replaced_at_once(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("former")
    with out.open() as reading:
        compile_to(file, out)
        assert reading.read() == "former"  # whoever reads it has the whole of the old one
    assert out.read_bytes() == compiled(load(file))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "t.toml"]


def test_an_output_stays_as_it_is_when_there_is_no_room_for_the_new_one(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.write_text("former")

    def fail(number: int) -> None:  # what was written before is on its way to the disk
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(NotWritten, match="out cannot be written: No space left on device; name"):
        compile_to(file, out)
    assert out.read_text() == "former"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "t.toml"]


def test_who_could_read_the_former_output_can_read_the_new_one(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "policy.tgp"
    out.write_text("old")
    out.chmod(0o640)
    group = 12345 if os.geteuid() == 0 else os.getegid()
    os.chown(out, -1, group)
    compile_to(file, out)
    assert (out.stat().st_gid, out.stat().st_mode & 0o777) == (group, 0o640)
    out.chmod(0o604)
    compile_to(file, out)
    assert out.stat().st_mode & 0o777 == 0o604


def test_an_output_whose_owner_cannot_be_kept_is_replaced(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    out = tmp_path / "policy.tgp"
    out.write_text("another's")
    monkeypatch.setattr(os, "fchown", refuse)
    monkeypatch.setattr(os, "fchmod", refuse)
    compile_to(file, out)
    assert out.read_bytes() == compiled(load(file))


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    compile_to(file, link)
    assert link.is_symlink()
    assert (tmp_path / "target").read_bytes() == compiled(load(file))


def test_a_pipe_is_written_to_not_replaced(file: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        size = compile_to(file, pipe)
        assert os.read(reader, 1 << 16) == compiled(load(file))
    finally:
        os.close(reader)
    assert size > 0
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("out", "reason"), [("", "Is a directory"), ("t.toml/out", "Not a directory"), ("none/out", "No such file")]
)
def test_what_cannot_be_written(file: Path, tmp_path: Path, out: str, reason: str) -> None:
    with pytest.raises(NotWritten, match=rf"cannot be written: {reason}"):
        compile_to(file, tmp_path / out)
    assert file.read_text() == LIMIT


def test_the_current_folder_is_no_file(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotWritten, match="Is a directory"):
        compile_to(file, Path())
