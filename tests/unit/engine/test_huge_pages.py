"""Large memory is aligned for huge pages and takes them where it can; else it is the same memory in small ones."""

import contextlib
import ctypes
import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.engine import huge_pages
from tidegate.engine.errors import SegmentError
from tidegate.engine.huge_pages import HUGE_PAGE, are_given, map_aligned, take
from tidegate.engine.memory import create_anonymous, map_memory, open_named

SIZE = 2 * HUGE_PAGE + 3 * mmap.PAGESIZE


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that does not know MADV_COLLAPSE, as before 6.1."""
    monkeypatch.setattr(huge_pages, "_COLLAPSE", 9999)


@contextlib.contextmanager
def anonymous(size: int = SIZE) -> Iterator[int]:
    fd = create_anonymous(size)
    try:
        yield fd
    finally:
        os.close(fd)


def address(memory: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


def in_huge_pages(memory: memoryview) -> int:
    """Bytes of the mapping that the processor sees as huge pages (proc(5), smaps)."""
    found = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.startswith(f"{address(memory):x}-"):
            found = True
        if found and line.startswith("ShmemPmdMapped:"):
            return int(line.split()[1]) << 10
    raise LookupError


def test_large_memory_is_aligned_and_shared() -> None:
    with anonymous() as fd:
        memory, other = map_memory(fd), map_memory(fd)
    assert [address(one) % HUGE_PAGE for one in (memory, other)] == [0, 0]
    assert len(memory) == len(other) == SIZE
    assert bytes(memory) == bytes(SIZE)
    memory[0], memory[HUGE_PAGE + 1], memory[SIZE - 1] = 1, 2, 3
    assert (other[0], other[HUGE_PAGE + 1], other[SIZE - 1]) == (1, 2, 3)


@pytest.mark.skipif(not are_given(), reason="this machine has no huge pages for shared memory")
def test_every_process_that_maps_it_has_its_whole_pieces_in_huge_pages(tmp_path: Path) -> None:
    with anonymous() as fd:
        memory, other = map_memory(fd), map_memory(fd)
    for one in (memory, other):
        one[0] = one[HUGE_PAGE] = one[2 * HUGE_PAGE] = 1
        assert in_huge_pages(one) == 2 * HUGE_PAGE


def test_it_takes_no_byte_more() -> None:
    with anonymous() as fd:
        assert os.fstat(fd).st_size == os.fstat(fd).st_blocks * 512 == SIZE


@pytest.mark.usefixtures("refused")
def test_where_they_are_refused_it_is_the_same_memory(tmp_path: Path) -> None:
    assert not are_given()
    with anonymous() as fd:
        assert os.fstat(fd).st_size == os.fstat(fd).st_blocks * 512 == SIZE
        memory = map_memory(fd)
    assert bytes(memory) == bytes(SIZE)
    memory[SIZE - 1] = 7
    named = open_named(tmp_path / "segment", SIZE, lambda _: None)
    assert bytes(named) == bytes(SIZE)
    assert (tmp_path / "segment").stat().st_blocks * 512 >= SIZE


def test_the_mapping_ends_with_the_object() -> None:
    with anonymous() as fd:
        before = Path("/proc/self/maps").read_text().count("tidegate-segment")
        memory = map_memory(fd)
        assert Path("/proc/self/maps").read_text().count("tidegate-segment") == before + 1
        del memory
        assert Path("/proc/self/maps").read_text().count("tidegate-segment") == before


def test_whoever_tries_leaves_nothing_open() -> None:
    before = os.listdir("/proc/self/fd")
    are_given()
    assert os.listdir("/proc/self/fd") == before


def test_less_than_a_huge_page_is_left_alone() -> None:
    fd = os.memfd_create("small")
    try:
        assert not take(fd, HUGE_PAGE - 1)
        assert os.fstat(fd).st_size == 0
    finally:
        os.close(fd)


def test_what_cannot_be_mapped_is_an_error() -> None:
    fd = os.open("/proc/self", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=r"No such device|Permission denied|Bad file|not permitted"):
            map_aligned(fd, SIZE)
    finally:
        os.close(fd)


def test_no_room_is_said_as_for_small_pages(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HUGE_PAGE, hard))
    try:
        with pytest.raises(SegmentError, match=r"no room for 4.0 MiB"):
            open_named(tmp_path / "segment", SIZE, lambda _: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("keys", "loaded"), [(1000, False), (65_536, True)])
def test_a_small_limiter_does_not_even_load_what_it_takes(tmp_path: Path, keys: int, loaded: bool) -> None:
    program = (
        "import sys; from tidegate import Limiter; "
        f"limiter = Limiter({str(tmp_path / 'limits')!r}, '1/s', keys={keys}); "
        "print(bool(limiter.hit('a')), bool(limiter.hit('a')), 'tidegate.engine.huge_pages' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told == f"True False {loaded}\n"
