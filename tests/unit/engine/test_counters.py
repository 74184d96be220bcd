import os

import pytest

from tidegate.engine.counters import (
    DELAY_BOUNDS,
    DELAY_SERIES,
    DELAY_WORDS,
    DELAYS,
    HOLD_DISCARDED,
    OTHERS,
    ROW_WORDS,
    Counters,
    Discard,
    create_block,
    open_block,
)


def test_rows_are_apart_and_start_at_zero() -> None:
    words = memoryview(bytearray(2 * ROW_WORDS * 8)).cast("Q")
    first, second = Counters(words, 0), Counters(words, 1)
    first.add(3, 5)
    first.add(3, 1)
    second.put(3, 9)
    assert (first.value(3), second.value(3), first.value(4)) == (6, 9, 0)
    assert words[3] == 6
    assert words[ROW_WORDS + 3] == 9


@pytest.mark.parametrize("row", [-1, 2])
def test_a_row_outside_the_block(row: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        Counters(memoryview(bytearray(2 * ROW_WORDS * 8)).cast("Q"), row)


def test_a_word_outside_the_block_is_refused() -> None:
    counters = Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0)
    with pytest.raises(IndexError):
        counters.add(ROW_WORDS, 1)


def test_a_block_is_shared_by_whoever_has_its_descriptor() -> None:
    fd = create_block(2)
    try:
        Counters(open_block(fd), 1).add(7, 4)
        assert Counters(open_block(fd), 1).value(7) == 4
    finally:
        os.close(fd)


def series(words: memoryview, number: int, row: int = 0) -> list[int]:
    first = row * ROW_WORDS + DELAYS + number * DELAY_WORDS
    return words[first : first + DELAY_WORDS].tolist()


def counted(words: memoryview, row: int = 0) -> list[tuple[int, int, int]]:
    """Place, class and count of each series that is in use."""
    found = (series(words, number, row) for number in range(DELAY_SERIES))
    return [(place, identity, count) for place, identity, count, *_ in found if place]


def test_the_rows_of_two_workers_share_no_cache_line() -> None:
    assert ROW_WORDS * 8 % 1024 == 0


def test_there_is_a_word_for_every_reason_to_discard() -> None:
    assert HOLD_DISCARDED + len(Discard) <= DELAYS
    assert sorted(Discard) == list(range(len(Discard)))


class TestDelayed:
    @pytest.fixture
    def words(self) -> memoryview:
        return memoryview(bytearray(2 * ROW_WORDS * 8)).cast("Q")

    def test_each_limit_and_class_has_a_series_of_its_own(self, words: memoryview) -> None:
        counters = Counters(words, 1)
        for slot, identity in ((0, 0), (7, 2**64 - 1), (0, 5), (7, 2**64 - 1), (0, 0), (8, 5), (7, 2**64 - 1)):
            counters.delayed(slot, identity, 0.1)
        assert counted(words, 1) == [(1, 0, 2), (8, 2**64 - 1, 3), (1, 5, 1), (9, 5, 1)]
        assert counted(words, 0) == []

    def test_a_successor_goes_on_in_the_same_series(self, words: memoryview) -> None:
        for _ in range(2):
            Counters(words, 0).delayed(3, 4, 0.1)
        assert counted(words) == [(4, 4, 2)]

    @pytest.mark.parametrize(
        ("seconds", "bucket"),
        [
            (0.0, 0),
            *((bound, index) for index, bound in enumerate(DELAY_BOUNDS)),
            *((bound * 1.01, index + 1) for index, bound in enumerate(DELAY_BOUNDS)),
            (1e6, len(DELAY_BOUNDS)),
        ],
    )
    def test_it_is_in_the_bucket_of_the_least_bound_that_it_does_not_exceed(
        self, words: memoryview, seconds: float, bucket: int
    ) -> None:
        Counters(words, 0).delayed(0, 0, seconds)
        buckets = [0] * len(DELAY_BOUNDS)
        if bucket < len(buckets):  # what is longer than all bounds is in the count alone
            buckets[bucket] = 1
        assert series(words, 0) == [1, 0, 1, int(seconds * 1e6), *buckets]

    def test_the_sum_is_in_microseconds(self, words: memoryview) -> None:
        counters = Counters(words, 0)
        for seconds in (0.25, 2.5, 0.000_001_5):
            counters.delayed(0, 0, seconds)
        assert series(words, 0)[2:4] == [3, 2_750_001]

    def test_the_last_series_takes_all_that_have_none(self, words: memoryview) -> None:
        counters = Counters(words, 0)
        own = DELAY_SERIES - 1
        for slot in range(own):
            counters.delayed(slot, 1, 0.1)
        assert len(counted(words)) == own
        counters.delayed(own, 1, 0.1)
        counters.delayed(0, 2, 0.5)
        counters.delayed(own - 1, 1, 0.1)  # has one
        assert counted(words)[-2:] == [(own, 1, 2), (OTHERS, 0, 2)]
        assert series(words, own)[3] == 600_000
        assert not any(words[ROW_WORDS:])
