"""Which of a limit's numbers a client gets: the strictest of those for its classes, else the default."""

from collections.abc import Callable, Collection
from typing import TypeVar

from .model import ByClass, Rate

T = TypeVar("T")
Strictness = Callable[[T | None], tuple[bool, object]]
"""Sorts values with the strictest first; "none" is the last."""


def of_rates(rates: tuple[Rate, ...] | None) -> tuple[bool, object]:
    """The lower the slowest rate, the stricter."""
    return (rates is None, min(rate.per_second for rate in rates) if rates else 0)


def of_number(value: int | None) -> tuple[bool, object]:
    """The lower, the stricter."""
    return (value is None, value or 0)


def of_duration(value: float | None) -> tuple[bool, object]:
    """The longer something is held back, the stricter."""
    return (value is None, -(value or 0))


def ranked(numbers: ByClass[T], strictness: Strictness[T]) -> list[tuple[str, T | None]]:
    """Class and value, the strictest first."""
    return sorted(numbers.classes.items(), key=lambda item: strictness(item[1]))


def choose(numbers: ByClass[T], classes: Collection[str], strictness: Strictness[T]) -> T | None:
    """What a client of these classes gets; None: no limit."""
    return next((value for name, value in ranked(numbers, strictness) if name in classes), numbers.default)
