"""The promise of the Limiter: however many processes hit a key at the same time, exactly its budget passes."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tidegate.engine import memory
from tidegate.engine.binding import Segment

PROCESSES = 4
SECOND = 10**9
START = 1000 * SECOND
HITTER = """
import sys
from tidegate import Limiter

path, rate = sys.argv[1:]
now = 0
limiter = None
for line in sys.stdin:  # a time, the hits of each key, and how many keys
    now, hits, keys = map(int, line.split())
    limiter = limiter or Limiter(path, rate, clock=lambda: now)
    passed = [key for _ in range(hits) for key in range(keys) if limiter.hit(f"key {key}")]
    print(*passed, flush=True)
"""
FORKING = """
import os, sys
from tidegate import Limiter

limiter = Limiter(sys.argv[1], "1/s burst 1000", clock=lambda: 10**12)
for _ in range(int(sys.argv[2])):
    if os.fork() == 0:
        os.write(1, b"%d\\n" % sum(bool(limiter.hit("a")) for _ in range(300)))
        os._exit(0)
for _ in range(int(sys.argv[2])):
    os.wait()
"""


class Hitters:
    """Processes that hit the same keys at once."""

    def __init__(self, running: list[subprocess.Popen[str]]) -> None:
        self.running = running

    def hit(self, now: int, hits: int, keys: int) -> Counter[int]:
        """Let each of them hit every key so often; how many passed, by key."""
        for one in self.running:
            assert one.stdin
            one.stdin.write(f"{now} {hits} {keys}\n")
            one.stdin.flush()
        passed: Counter[int] = Counter()
        for one in self.running:
            assert one.stdout
            passed.update(map(int, one.stdout.readline().split()))
        return passed


@contextmanager
def hitters(path: Path, rate: str) -> Iterator[Hitters]:
    with ExitStack() as stack:
        running = []
        for _ in range(PROCESSES):
            one = subprocess.Popen(
                [sys.executable, "-c", HITTER, str(path), rate],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            running.append(stack.enter_context(one))
            stack.callback(one.kill)
        yield Hitters(running)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits"


def test_exactly_the_budget_passes(path: Path) -> None:
    with hitters(path, "100/s burst 500") as all_of_them:
        first = all_of_them.hit(START, 300, 3)
        assert first == {0: 500, 1: 500, 2: 500}
        later = all_of_them.hit(START + 2 * SECOND, 300, 3)
        assert later == {0: 200, 1: 200, 2: 200}


def test_keys_that_are_new_to_all_get_one_budget_each(path: Path) -> None:
    with hitters(path, "1/h") as all_of_them:
        assert all_of_them.hit(START, 1, 5000) == dict.fromkeys(range(5000), 1)


def test_all_replace_what_a_former_boot_has_left_by_the_same_file(path: Path) -> None:
    size = Segment.size(0, 16, 0, 1024, 0)
    boot = memory.boot() ^ 1
    memory.open_named(path, size, lambda m: Segment.create(m, 0, 16, 0, 1024, 0, boot, memory.secret()))
    with hitters(path, "100/s burst 10") as all_of_them:
        assert all_of_them.hit(START, 10, 20) == dict.fromkeys(range(20), 10)
    assert os.listdir(path.parent) == ["limits"]


def test_a_process_that_is_killed_leaves_its_charges_and_no_lock(path: Path) -> None:
    with hitters(path, "100/s burst 500") as all_of_them:
        assert all_of_them.hit(START, 100, 1) == {0: 400}
        all_of_them.running.pop().kill()
        assert all_of_them.hit(START, 100, 1) == {0: 100}


def test_a_limiter_may_be_opened_before_a_fork(path: Path) -> None:
    command = [sys.executable, "-c", FORKING, str(path), str(PROCESSES)]
    passed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(passed) == PROCESSES
    assert sum(map(int, passed)) == 1000
