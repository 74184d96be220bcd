"""Memory that processes share is there whole, or it is refused with a reason and what to do."""

import errno
import fcntl
import os
import resource
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from mmap import mmap
from pathlib import Path

import pytest

from support.segments import BOOT, SECRET, room
from tidegate.engine import memory
from tidegate.engine.binding import Segment
from tidegate.engine.errors import SegmentError, StaleSegment
from tidegate.engine.memory import create_anonymous, map_memory, open_named, replace_named, row_is_held

SHAPE = (1, 4, 4, 16, 100)
SIZE = Segment.size(*SHAPE)


def fill(memory: memoryview) -> None:
    Segment.create(memory, *SHAPE, BOOT, SECRET)


def test_anonymous_memory_is_shared_by_whoever_has_its_descriptor() -> None:
    fd = create_anonymous(SIZE)
    try:
        first, second = map_memory(fd), map_memory(fd)
        first[SIZE - 1] = 7
        assert second[SIZE - 1] == 7
        assert os.fstat(fd).st_blocks * 512 >= SIZE  # taken, not only promised
    finally:
        os.close(fd)


def test_a_boot_has_a_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert 0 <= memory.boot() < 2**32
    assert memory.boot() == memory.boot()
    (tmp_path / "id").write_text("another\n")
    monkeypatch.setattr(memory, "BOOT_ID", tmp_path / "id")
    other = memory.boot()
    (tmp_path / "id").write_text("and another\n")
    assert memory.boot() != other
    monkeypatch.setattr(memory, "BOOT_ID", tmp_path / "absent")
    assert memory.boot() == 0


def test_secrets_differ() -> None:
    assert len({memory.secret() for _ in range(20)}) == 20
    assert all(0 <= half < 2**64 for half in memory.secret())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "segment"


def test_the_first_makes_it_and_the_others_take_it(path: Path) -> None:
    first = open_named(path, SIZE, fill)
    second = open_named(path, 5 * SIZE, lambda _: pytest.fail("it is there"))
    assert len(first) == len(second) == SIZE
    first[SIZE - 1] = 7
    assert second[SIZE - 1] == 7
    assert os.listdir(path.parent) == ["segment"]
    assert path.stat().st_blocks * 512 >= SIZE


def test_it_is_for_user_and_group_whatever_the_umask(path: Path) -> None:
    before = os.umask(0o077)
    try:
        open_named(path, SIZE, fill)
        open_named(path.with_name("own"), SIZE, fill, 0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert stat.S_IMODE(path.with_name("own").stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM])
def test_no_room_is_said_and_nothing_is_left(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(_fd: int, _offset: int, _length: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        SegmentError, match=f"no room for {SIZE / 2**20:.1f} MiB in {path.parent}: {os.strerror(number)}; make room"
    ):
        open_named(path, SIZE, fill)
    assert os.listdir(path.parent) == []
    open_fds = os.listdir("/proc/self/fd")
    with pytest.raises(SegmentError, match="in memory"):
        create_anonymous(SIZE)
    assert os.listdir("/proc/self/fd") == open_fds


def test_a_file_larger_than_may_be_is_refused_before_anybody_writes_to_it(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE - 1, hard))
    try:
        with pytest.raises(SegmentError, match="no room") as refused:
            open_named(path, SIZE, fill)
        open_named(path, SIZE - 4096, lambda _: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "lower the number of buckets" in refused.value.fix


def test_another_error_of_the_system_is_not_called_a_lack_of_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_fd: int, _offset: int, _length: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "posix_fallocate", broken)
    with pytest.raises(OSError, match="broken"):
        open_named(path, SIZE, fill)
    assert os.listdir(path.parent) == []


def test_what_cannot_be_filled_is_not_left(path: Path) -> None:
    def fails(_memory: memoryview) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        open_named(path, SIZE, fails)
    assert os.listdir(path.parent) == []


def test_a_folder_that_is_not_there(path: Path) -> None:
    absent = path.parent / "absent" / "segment"
    with pytest.raises(SegmentError, match="cannot be made: No such file") as refused:
        open_named(absent, SIZE, fill)
    assert refused.value.fix == f"make {absent.parent} a folder that this user may write to"


def test_a_link_is_not_followed(path: Path) -> None:
    path.with_name("other").write_bytes(bytes(SIZE))
    path.symlink_to(path.with_name("other"))
    with pytest.raises(SegmentError, match="cannot be opened"):
        open_named(path, SIZE, fill)


def test_a_folder_and_an_empty_file_are_no_memory(path: Path) -> None:
    path.mkdir()
    with pytest.raises(SegmentError, match="cannot be opened: Is a directory"):
        open_named(path, SIZE, fill)
    empty = path.with_name("empty")
    empty.touch()
    with pytest.raises(SegmentError, match="empty") as refused:
        open_named(empty, SIZE, fill)
    assert refused.value.fix == f"remove it: rm {empty}"


# Processes that begin at once


OPENER = """
import os, sys
from pathlib import Path
from tidegate.engine.memory import open_named

token = os.urandom(8)

def fill(memory):
    memory[:8] = token

for line in sys.stdin:
    memory = open_named(
        Path(line.strip()),
        int(sys.argv[1]),
        fill,
        is_stale=lambda memory: memory[:8] == b"outdated",
    )
    print(token.hex(), memory[:8].hex(), flush=True)
"""


@contextmanager
def openers(number: int) -> Iterator[list[subprocess.Popen[str]]]:
    with ExitStack() as stack:
        command = [sys.executable, "-c", OPENER, str(SIZE)]
        yield [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(number)
        ]


def test_of_processes_that_begin_at_once_all_get_one_memory(path: Path) -> None:
    with openers(4) as running:
        for number in range(60):
            one = path.with_name(str(number))
            if number % 2:
                one.write_bytes(b"outdated".ljust(SIZE, b"\0"))
            for process in running:
                assert process.stdin
                process.stdin.write(f"{one}\n")
                process.stdin.flush()
            found = [process.stdout.readline().split() for process in running if process.stdout]
            assert len({seen for _, seen in found}) == 1
            assert found[0][1] in {token for token, _ in found}
    assert [process.returncode for process in running] == [0] * 4
    assert set(os.listdir(path.parent)) == {str(number) for number in range(60)}


# What a segment's head may say


def broken(change: Callable[[mmap], object], size: int | None = None) -> mmap:
    memory = room(*SHAPE)
    change(memory)
    if size is None:
        return memory
    shorter = mmap(-1, size)
    shorter[:] = memory[:size]
    return shorter


def put(at: int, form: str, *values: int) -> Callable[[mmap], object]:
    return lambda memory: struct.pack_into(form, memory, at, *values)


CORRUPT = {
    "rows": put(24, "<I", 257),
    "no slots": put(28, "<I", 0),
    "slots": put(28, "<I", 65_535),
    "records": put(32, "<I", 1 << 17),
    "records, no power of two": put(32, "<I", 3),
    "no words": put(40, "<Q", 0),
    "few words": put(40, "<Q", 8),
    "words": put(40, "<Q", 1 << 33),
    "words, no power of two": put(40, "<Q", 17),
    "policy": put(48, "<Q", (1 << 30) + 1),
    "policy, beyond reckoning": put(48, "<Q", (1 << 64) - 9),
}


@pytest.mark.parametrize("name", CORRUPT)
def test_numbers_that_no_version_writes(name: str) -> None:
    with pytest.raises(SegmentError, match="corrupt: its head holds numbers that no version writes; remove the file"):
        Segment(broken(CORRUPT[name]), BOOT)


OTHERS: dict[str, tuple[mmap, str]] = {
    "foreign": (broken(lambda memory: memory.write(b"SQLite format 3\0")), "not a segment of Tidegate"),
    "zeroes": (mmap(-1, SIZE), "not a segment of Tidegate"),
    "layout": (broken(put(8, "<I", 99)), "of another version of Tidegate"),
    "size": (broken(put(16, "<Q", SIZE + 4096)), "corrupt: its head contradicts itself"),
    "more words": (broken(put(40, "<Q", 32768)), "corrupt: its head contradicts itself"),
    "cut": (broken(lambda _: None, SIZE - 1), "truncated: it is shorter than its head says"),
    "head alone": (broken(lambda _: None, 4096), "truncated: it is shorter than its head says"),
    "half a head": (broken(lambda _: None, 4095), "truncated: it has not even a head"),
    "byte": (broken(lambda _: None, 1), "truncated: it has not even a head"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_segment_of_ours_is_refused_with_a_fix(name: str) -> None:
    memory, text = OTHERS[name]
    with pytest.raises(SegmentError) as refused:
        Segment(memory, BOOT)
    assert (refused.value.text, refused.value.fix) == (text, "remove the file, so that it is made anew")
    assert not isinstance(refused.value, StaleSegment)
    assert str(refused.value) == f"{text}; remove the file, so that it is made anew"


def test_a_segment_from_before_the_last_boot_is_stale() -> None:
    with pytest.raises(StaleSegment, match="left over from before the last boot"):
        Segment(room(*SHAPE, boot=2), BOOT)
    with pytest.raises(SegmentError) as refused:  # broken as well: no segment at all
        Segment(broken(lambda memory: (put(12, "<I", 2)(memory), put(40, "<Q", 17)(memory))), BOOT)
    assert not isinstance(refused.value, StaleSegment)


def test_memory_that_is_no_memory() -> None:
    with pytest.raises(SegmentError, match="not even a head"):
        Segment(bytearray(), BOOT)
    with pytest.raises(SegmentError, match="mapped where no bucket can lie"):
        Segment(memoryview(room(*SHAPE))[8:], BOOT)
    with pytest.raises(ValueError, match="smaller than the segment"):
        Segment.create(mmap(-1, SIZE - 4096), *SHAPE, BOOT, SECRET)


def test_every_single_byte_of_a_head_may_be_wrong() -> None:
    for at in range(4096):
        memory = room(*SHAPE)
        memory[at] ^= 0xFF
        try:
            segment = Segment(memory, BOOT)
        except SegmentError:
            continue
        shape = (segment.rows, segment.slots, SHAPE[2], segment.words, segment.policy_room)
        assert Segment.size(*shape) == SIZE, f"byte {at} was believed"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_a_stranger_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "segment"
    open_named(path, 4096, lambda _: None).release()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(os, "getegid", lambda: 12345)
    monkeypatch.setattr(os, "getgroups", lambda: [23456])
    os.chown(path, 34567, 34567)
    with pytest.raises(SegmentError, match="belongs to user"):
        open_named(path, 4096, lambda _: None)
    os.chown(path, -1, 23456)
    open_named(path, 4096, lambda _: None).release()
    path.chmod(0o666)
    with pytest.raises(SegmentError, match="belongs to user"):
        open_named(path, 4096, lambda _: None)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SegmentError, match="not a regular file"):
        open_named(tmp_path / "fifo", 4096, lambda _: None)


def test_anonymous_memory_cannot_be_taken_away() -> None:
    fd = create_anonymous(8192)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    os.close(fd)


def test_a_named_segment_is_replaced_and_the_former_kept(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    first = replace_named(path, 4096, lambda memory: memory.__setitem__(slice(0, 3), b"one"))
    second = replace_named(path, 8192, lambda memory: memory.__setitem__(slice(0, 3), b"two"))
    try:
        assert (os.pread(first, 3, 0), os.pread(second, 3, 0)) == (b"one", b"two")
        assert path.read_bytes()[:3] == b"two"
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert [one.name for one in tmp_path.iterdir()] == ["segment"]
    finally:
        os.close(first)
        os.close(second)


def test_a_segment_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match="cannot be made"):
        replace_named(tmp_path / "absent" / "segment", 4096, lambda _: None)
    (tmp_path / "folder").mkdir()
    with pytest.raises(SegmentError, match="cannot be used"):
        replace_named(tmp_path / "folder", 4096, lambda _: None)
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_a_row_is_held_until_its_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    fd = replace_named(path, 4096, lambda _: None)
    holder = os.open(path, os.O_RDWR)
    try:
        assert not row_is_held(fd, 5)
        lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, (1 << 62) + 5, 1, 0)
        fcntl.fcntl(holder, fcntl.F_OFD_SETLK, lock)
        assert row_is_held(fd, 5)
        assert not row_is_held(fd, 4)
        os.close(holder)
        assert not row_is_held(fd, 5)
    finally:
        os.close(fd)
