import os
from collections.abc import Iterator

import pytest

from tidegate.gateway.presence import CELLS, Presence, clear_presence, create_presence

WORKERS = 3
KEY = bytes(range(16))
OTHER = bytes(range(1, 17))
SAME_CELL = (int.from_bytes(KEY[:4]) + CELLS).to_bytes(4) + bytes(12)


@pytest.fixture
def fd() -> Iterator[int]:
    made = create_presence(WORKERS)
    yield made
    os.close(made)


@pytest.fixture
def workers(fd: int) -> list[Presence]:
    return [Presence(fd, WORKERS, row) for row in range(WORKERS)]


def test_nobody_is_there_at_first(workers: list[Presence]) -> None:
    assert all(one.is_empty and one.others(KEY) == [] for one in workers)


def test_the_others_see_who_came_and_went(workers: list[Presence]) -> None:
    workers[1].enter(KEY)
    assert [one.others(KEY) for one in workers] == [[1], [], [1]]
    assert not workers[0].is_empty
    assert workers[0].others(OTHER) == []
    workers[1].leave(KEY)
    assert [one.others(KEY) for one in workers] == [[], [], []]
    assert workers[0].is_empty


def test_several_workers_may_have_one(workers: list[Presence]) -> None:
    workers[2].enter(KEY)
    workers[0].enter(KEY)
    assert workers[1].others(KEY) == [0, 2]


def test_a_cell_is_taken_until_the_last_has_left_it(workers: list[Presence]) -> None:
    workers[0].enter(KEY)
    workers[0].enter(SAME_CELL)
    workers[0].leave(KEY)
    assert workers[1].others(KEY) == [0], "asked in vain, which does no harm"
    workers[0].leave(SAME_CELL)
    assert workers[1].others(KEY) == []


def test_those_of_a_worker_that_died_are_forgotten(fd: int, workers: list[Presence]) -> None:
    workers[0].enter(KEY)
    workers[1].enter(KEY)
    workers[1].enter(OTHER)
    clear_presence(fd, WORKERS, 1)
    assert workers[2].others(KEY) == [0]
    assert workers[2].others(OTHER) == []
    workers[0].leave(KEY)
    assert workers[2].is_empty
