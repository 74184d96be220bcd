from fractions import Fraction

import pytest

from tidegate.policy.model import ByClass, Rate
from tidegate.policy.strictness import choose, of_number, of_rates, ranked


def rates(*per_second: int) -> tuple[Rate, ...]:
    return tuple(Rate(amount, Fraction(1), 100) for amount in per_second)


NUMBERS = ByClass(5, {"many": 9, "free": None, "few": 1, "some": 3})
RATES = ByClass(rates(5), {"many": rates(9), "free": None, "few": rates(100, 1), "slow": (Rate(1, Fraction(60), 1),)})


def test_the_strictest_is_first_and_none_is_last() -> None:
    assert [name for name, _ in ranked(NUMBERS, of_number)] == ["few", "some", "many", "free"]
    assert [name for name, _ in ranked(RATES, of_rates)] == ["slow", "few", "many", "free"]


def test_the_default_is_not_ranked() -> None:
    assert ranked(ByClass(5), of_number) == []


@pytest.mark.parametrize(
    ("classes", "number"),
    [
        ((), 5),
        (("other",), 5),
        (("many",), 9),
        (("free",), None),
        (("free", "many"), 9),
        (("many", "some", "free"), 3),
        (("few", "some", "other"), 1),
    ],
)
def test_a_client_of_several_classes_gets_the_strictest(classes: tuple[str, ...], number: int | None) -> None:
    assert choose(NUMBERS, classes, of_number) == number
    assert choose(NUMBERS, tuple(reversed(classes)), of_number) == number


def test_the_slowest_of_a_list_counts_not_the_burst() -> None:
    assert choose(RATES, {"many", "few"}, of_rates) == rates(100, 1)
    quick_but_small = (Rate(10, Fraction(1), 1),)
    slow_but_large = (Rate(9, Fraction(1), 1000),)
    numbers = ByClass(None, {"a": quick_but_small, "b": slow_but_large})
    assert choose(numbers, {"a", "b"}, of_rates) == slow_but_large


def test_zero_is_a_number_and_the_strictest() -> None:
    assert choose(ByClass(None, {"a": 0, "b": 1, "c": None}), {"a", "b", "c"}, of_number) == 0


def test_without_a_default_there_is_no_limit() -> None:
    assert choose(ByClass(None, {"a": 1}), {"b"}, of_number) is None
    nobody: ByClass[int] = ByClass()
    assert choose(nobody, {"b"}, of_number) is None
