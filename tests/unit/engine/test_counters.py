import os

import pytest

from tidegate.engine.counters import ROW_WORDS, Counters, create_block, open_block


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
