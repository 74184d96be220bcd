from fractions import Fraction

import pytest

from tidegate.policy.problems import BadValue
from tidegate.policy.units import Duration, Size, duration_text, size_text

DURATION = Duration("100ms", "1h")
SIZE = Size("1KiB", "256MiB")


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("5s", 5.0), ("1.5s", 1.5), ("2min", 120.0), ("1h", 3600.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert DURATION(text) == seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, 'a time needs its unit; write "5s" if seconds are meant'),
        (0.5, 'a time needs its unit; write "0.5s" if seconds are meant'),
        (-1, 'a time needs its unit; write "5s" if seconds are meant'),
        (float("nan"), 'a time needs its unit; write "5s" if seconds are meant'),
        *[
            (value, 'not a time; write a number and ms, s, min or h, for instance "5s"')
            for value in ("", "s", "5", "5 s", "5m", "-5s", "5S", "5s\n", "\u0665s", "9" * 16 + "s", True, None, ["5s"])
        ],
        ("99ms", 'out of range; write "100ms" to "1h"'),
        ("61min", 'out of range; write "100ms" to "1h"'),
    ],
)
def test_wrong_durations(value: object, text: str) -> None:
    with pytest.raises(BadValue) as raised:
        DURATION(value)
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (65536, 65536),
        ("2000B", 2000),
        ("64KiB", 65536),
        ("1.5KiB", 1536),
        ("1MiB", 1 << 20),
        ("1MB", 10**6),
        ("2kB", 2000),
        ("2KB", 2000),
    ],
)
def test_sizes(value: object, size: int) -> None:
    assert SIZE(value) == size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[
            (value, 'not a size; write a number and B, KiB, MiB, GiB, kB, MB or GB, for instance "1MiB"')
            for value in ("", "64", "64 KiB", "1mib", "1Mb", True, 1.5, None)
        ],
        ("1024.5B", 'not a whole number of bytes; write a whole number, for instance "1536KiB"'),
        (1023, 'out of range; write "1KiB" to "256MiB"'),
        (-1, 'out of range; write "1KiB" to "256MiB"'),
        ("1GiB", 'out of range; write "1KiB" to "256MiB"'),
    ],
)
def test_wrong_sizes(value: object, text: str) -> None:
    with pytest.raises(BadValue) as raised:
        SIZE(value)
    assert str(raised.value) == text


def test_a_bound_of_ours_without_a_known_unit_is_found_at_once() -> None:
    with pytest.raises(ValueError, match="no such unit"):
        Duration("1day", "2day")("1s")


@pytest.mark.parametrize(
    ("size", "text"), [(1 << 20, "1MiB"), (1536, "1536B"), (3 << 10, "3KiB"), (10 << 30, "10GiB"), (1000, "1000B")]
)
def test_sizes_as_they_may_be_written(size: int, text: str) -> None:
    assert size_text(size) == text
    assert Size("1B", "64GiB")(text) == size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5.0, "5s"),
        (0.1, "100ms"),
        (90.0, "90s"),
        (600, "10min"),
        (86400, "24h"),
        (Fraction(10, 3), "3334ms"),
        (Fraction(1, 3000), "1ms"),
    ],
)
def test_times_as_they_may_be_written(seconds: Fraction | float, text: str) -> None:
    assert duration_text(seconds) == text
