from fractions import Fraction

import pytest

from tidegate.engine.rate import MAX_AMOUNT, parse_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s", (100, Fraction(1), 100)),
        ("100/s burst 20", (100, Fraction(1), 20)),
        ("100/s  burst  20", (100, Fraction(1), 20)),
        ("600/min", (600, Fraction(60), 600)),
        ("1/h", (1, Fraction(3600), 1)),
        ("1000/d burst 1", (1000, Fraction(86400), 1)),
        ("5/10s", (5, Fraction(10), 5)),
        ("100/500ms burst 7", (100, Fraction(1, 2), 7)),
        ("1/365d", (1, Fraction(365 * 86400), 1)),
        (f"{MAX_AMOUNT}/s", (MAX_AMOUNT, Fraction(1), MAX_AMOUNT)),
    ],
)
def test_what_a_rate_says(text: str, rate: tuple[int, Fraction, int]) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no rate"),
        ("100", "no rate"),
        ("/s", "no rate"),
        ("100/", "no rate"),
        ("100/s burst", "no rate"),
        ("100/s bursts 5", "no rate"),
        (" 100/s", "no rate"),
        ("100/s\n", "no rate"),
        ("100/m", '"m" is no unit of time; write ms, s, min, h, d'),
        ("100/S", '"S" is no unit'),
        ("1.5/s", '"1.5" is not a whole number'),
        ("-1/s", '"-1" is not a whole number'),
        ("٣/s", "is not a whole number"),
        ("0/s", "from 1 to 1000000000"),
        ("1/s burst 0", '"0" is not a whole number'),
        (f"{MAX_AMOUNT + 1}/s", "is not a whole number from 1"),
        ("1/0s", "the period is out of range"),
        ("1/366d", "the period is out of range"),
        (f"{MAX_AMOUNT}/ms", "a second"),
        ("1/365d burst 2", "more than a year"),
    ],
)
def test_what_is_no_rate_names_text_and_fix(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_rate(text)
    assert text in str(caught.value)
