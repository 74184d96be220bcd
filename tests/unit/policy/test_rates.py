from fractions import Fraction

import pytest

from tidegate.policy.fields import Known, Place
from tidegate.policy.model import ByClass, Rate
from tidegate.policy.problems import BadValue
from tidegate.policy.rates import by_class, read_bandwidth, read_rate, several

DAY = 86400


@pytest.mark.parametrize(
    ("text", "amount", "period", "burst"),
    [
        ("20/s burst 40", 20, 1, 40),
        ("20/s", 20, 1, 20),
        ("600/min", 600, 60, 600),
        ("5/10s", 5, 10, 5),
        ("100/500ms  burst  7", 100, Fraction(1, 2), 7),
        ("1/h", 1, 3600, 1),
        ("1/365d", 1, 365 * DAY, 1),
        ("1000000000/s burst 1000000000", 10**9, 1, 10**9),
    ],
)
def test_rates(text: str, amount: int, period: int | Fraction, burst: int) -> None:
    assert read_rate(text) == Rate(amount, Fraction(period), burst)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (20, 'a rate needs its period; write "20/s" if seconds are meant'),
        (0, 'a rate needs its period; write "20/s" if seconds are meant'),
        *[
            (value, 'not a rate; write for instance "20/s burst 40" or "5/10s"')
            for value in ("", "20", "20/", "/s", "20 /s", "20/s burst", "20/s bust 4", " 20/s", "20/s\n", True, 1.5)
        ],
        ("20/m", 'the unit of time is not known; write "20/min"'),
        ("5/10Seconds", 'the unit of time is not known; write "5/10s"'),
        ("5/y", "the unit of time is not known; write ms, s, min, h or d"),
        ("0.5/s", 'not a whole number; lengthen the period: "1/2s" is one every two seconds'),
        *[
            (value, 'not a number from 1 to 1000000000; write for instance "20/s burst 40"')
            for value in ("0/s", "-1/s", "1000000001/s", "1/s burst 0", "1/s burst x", "\u0665/s", "9" * 5000 + "/s")
        ],
        ("1000000000/500ms", "out of range; write at most 1000000000 a second"),
        ("1/0s", 'the period is out of range; write "1ms" to "365d" behind the /'),
        ("1/366d", 'the period is out of range; write "1ms" to "365d" behind the /'),
        ("1/d burst 366", "the burst would take more than a year to come back; write a smaller burst"),
    ],
)
def test_what_is_no_rate(value: object, told: str) -> None:
    with pytest.raises(BadValue) as raised:
        read_rate(value)
    assert str(raised.value) == told


@pytest.mark.parametrize(
    ("text", "amount", "period", "burst"),
    [
        ("64KiB/s burst 256KiB", 1 << 16, 1, 1 << 18),
        ("1MB/10s", 10**6, 10, 10**6),
        ("10GiB/s", 10 << 30, 1, 10 << 30),
        ("16B/s", 16, 1, 16),
        ("1.5KiB/s", 1536, 1, 1536),
    ],
)
def test_bandwidths(text: str, amount: int, period: int, burst: int) -> None:
    assert read_bandwidth(text) == Rate(amount, Fraction(period), burst)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (65536, 'a bandwidth needs its period; write "65536B/s" if seconds are meant'),
        ("64KiB", 'not a bandwidth; write for instance "64KiB/s burst 256KiB"'),
        ("64/s", 'not a size; write a number and B, KiB, MiB, GiB, kB, MB or GB, for instance "1MiB"'),
        ("64KiB/s burst 5", 'not a size; write a number and B, KiB, MiB, GiB, kB, MB or GB, for instance "1MiB"'),
        ("64KiB/m", 'the unit of time is not known; write "64KiB/min"'),
        ("11GiB/s", 'out of range; write "16B/s" to "10GiB/s"'),
        ("1B/s", 'out of range; write "16B/s" to "10GiB/s"'),
        ("1KiB/min burst 1024GiB", "the burst would take more than a year to come back; write a smaller burst"),
    ],
)
def test_what_is_no_bandwidth(value: object, told: str) -> None:
    with pytest.raises(BadValue) as raised:
        read_bandwidth(value)
    assert str(raised.value) == told


def read(value: object) -> tuple[ByClass[tuple[Rate, ...]], list[tuple[tuple[str | int, ...], str]]]:
    place = Place(Known(classes=("a", "b")), ("rate",))
    numbers = place.read(by_class(several(read_rate)), value)
    return numbers, [(path, bad.text) for path, bad in place.findings]


ONE, TWO = (Rate(1, Fraction(1), 1),), (Rate(2, Fraction(1), 2),)


def test_numbers_by_class() -> None:
    assert read("1/s") == (ByClass(ONE), [])
    assert read(["1/s", "2/s"]) == (ByClass(ONE + TWO), [])
    assert read({"default": "1/s", "a": ["2/s"], "b": "none"}) == (ByClass(ONE, {"a": TWO, "b": None}), [])
    assert read({"a": "2/s"}) == (ByClass(None, {"a": TWO}), [])


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("none", [(("rate",), "only a class of a table by class can have that")]),
        ({}, [(("rate",), "an empty table")]),
        ([], [(("rate",), "0 rates")]),
        (["1/s"] * 5, [(("rate",), "5 rates")]),
        (["none", "1/s"], [(("rate", 0), "not a rate")]),
        (
            {"c": "1/s", "a": ["1/s", 5], "default": "x"},
            [
                (("rate", "c"), "there is no [class.c]"),
                (("rate", "a", 1), "a rate needs its period"),
                (("rate", "default"), "not a rate"),
            ],
        ),
    ],
)
def test_what_is_wrong_by_class(value: object, found: list[tuple[tuple[str | int, ...], str]]) -> None:
    assert read(value)[1] == found
