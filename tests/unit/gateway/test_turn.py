"""One client's place in the queues, and what it has of the pool."""

import pytest

from support.fake_engine import FakeEngine
from tidegate.engine.counters import HELD_MESSAGES, HOLD_BYTES, ROW_WORDS, Counters
from tidegate.gateway.hold import OVERHEAD
from tidegate.gateway.turn import Turn
from tidegate.gateway.waiting import GONE, PASSED, Lane, Waiting

A = bytes([192, 0, 2, 1])
KEY, OTHER = 7, 8


class Connection:
    """One that has a packet to send. It passes when its turn has come."""

    def __init__(self, waiting: Waiting, address: bytes = A) -> None:
        self.turn = Turn(waiting, self, address, 2, 3, 10.0, 5.0)
        self.tried: list[float] = []
        self.flushes = 0
        self.cuts = 0

    def serve_packet(self, now: float) -> int:
        self.tried.append(now)
        self.turn.end(now)
        return PASSED

    def serve(self, lane: Lane, now: float) -> int:
        return GONE

    def flush(self) -> None:
        self.flushes += 1

    def cut(self) -> None:
        self.cuts += 1
        self.turn.end(10.0)

    def holds(self) -> int:
        return 0


class Scene:
    def __init__(self, pool: int = 10_000) -> None:
        self.engine = FakeEngine()
        self.counters = Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0)
        self.waiting = Waiting(self.engine.real, self.counters, 10, 1000, pool)

    @property
    def held(self) -> tuple[int, int]:
        return self.counters.value(HELD_MESSAGES), self.counters.value(HOLD_BYTES)


def test_its_deadline() -> None:
    assert Connection(Scene().waiting).turn.deadline == 15.0


def test_it_is_served_in_turn_and_what_that_leads_to_is_written() -> None:
    scene = Scene()
    one = Connection(scene.waiting)
    assert one.turn.queue(KEY, 0.05, 10.0)
    scene.waiting.run(10.0)
    assert one.tried == []
    scene.waiting.run(10.05)
    assert (one.tried, one.flushes, scene.engine.passed) == ([10.05], 1, [KEY])
    assert scene.engine.announced == {KEY: 0}


def test_it_waits_for_one_thing_at_a_time() -> None:
    scene = Scene()
    turn = Connection(scene.waiting).turn
    assert turn.queue(KEY, 0.05, 10.0)
    assert not turn.queue(KEY, 0.05, 10.0)
    assert turn.queue(OTHER, 0.05, 10.0)
    assert scene.engine.announced == {KEY: 0, OTHER: 1}
    turn.end(10.0)
    assert scene.engine.announced == {KEY: 0, OTHER: 0}


def test_what_it_has_of_the_pool_is_given_back_once() -> None:
    scene = Scene()
    one, other = Connection(scene.waiting), Connection(scene.waiting)
    one.turn.keep(100)
    other.turn.keep(50)
    assert scene.held == (2, 2 * OVERHEAD + 150)
    one.turn.end(10.0)
    one.turn.end(11.0)
    assert scene.held == (1, OVERHEAD + 50)
    other.turn.end(11.0)
    assert scene.held == (0, 0)


@pytest.mark.parametrize("last", [500, 5000])
def test_who_has_the_most_of_a_full_pool_is_cut(last: int) -> None:
    scene = Scene(pool=5000)
    sizes = (1000, 2500, last)
    made = [Connection(scene.waiting, bytes([192, 0, 2, number])) for number in range(3)]
    for one, size in zip(made, sizes, strict=True):
        one.turn.keep(size)
    assert [one.cuts for one in made] == [int(size == max(sizes)) for size in sizes]
    scene.waiting.run(10.0)
    assert made[1].flushes == made[1].cuts, "one that has nothing to do with what is going on has to be written"
