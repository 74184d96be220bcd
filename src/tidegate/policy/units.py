"""Times and sizes, which are written with their unit."""

import re
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from .problems import BadValue

_SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1), "min": Fraction(60), "h": Fraction(3600)}
_BYTES = {
    "B": 1,
    "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3,
    "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3,
}  # fmt: skip
# Fifteen digits are more than anybody needs, and exact in a float.
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)([A-Za-z]+)")


@dataclass(frozen=True, slots=True)
class Duration:
    """Reads times from `low` to `high`, such as "250ms", "5s", "2min", "1h", as seconds."""

    low: str
    high: str

    @property
    def kind(self) -> str:
        """What may be written, for the documentation."""
        return f'time, `"{self.low}"` to `"{self.high}"`'

    def __call__(self, value: object) -> float:
        """The seconds that `value` writes; BadValue when it is no time or out of range."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise BadValue("a time needs its unit", f'write "{_plain(value)}s" if seconds are meant')
        seconds = _quantity(value, _SECONDS)
        if seconds is None:
            raise BadValue("not a time", 'write a number and ms, s, min or h, for instance "5s"')
        if not _known(self.low, _SECONDS) <= seconds <= _known(self.high, _SECONDS):
            raise BadValue("out of range", f'write "{self.low}" to "{self.high}"')
        return float(seconds)


@dataclass(frozen=True, slots=True)
class Size:
    """Reads sizes from `low` to `high`, such as "64KiB", "1MB" or 65536, as bytes."""

    low: str
    high: str

    @property
    def kind(self) -> str:
        """What may be written, for the documentation."""
        return f'size, `"{self.low}"` to `"{self.high}"`'

    def __call__(self, value: object) -> int:
        """The bytes that `value` writes; BadValue when it is no size or out of range."""
        if isinstance(value, int) and not isinstance(value, bool):
            size: Fraction | None = Fraction(value)
        else:
            size = _quantity(value, _BYTES)
        if size is None:
            raise BadValue("not a size", 'write a number and B, KiB, MiB, GiB, kB, MB or GB, for instance "1MiB"')
        if size.denominator != 1:
            raise BadValue("not a whole number of bytes", 'write a whole number, for instance "1536KiB"')
        if not _known(self.low, _BYTES) <= size <= _known(self.high, _BYTES):
            raise BadValue("out of range", f'write "{self.low}" to "{self.high}"')
        return int(size)


def duration_text(seconds: Fraction | float) -> str:
    """A time as it may be written, a part of a millisecond rounded up: the largest unit that leaves a whole number."""
    whole = Fraction(ceil(round(Fraction(seconds) * 1000, 6)), 1000)
    unit = next(unit for unit in ("h", "min", "s", "ms") if (whole / _SECONDS[unit]).denominator == 1)
    return f"{whole / _SECONDS[unit]}{unit}"


def size_text(size: int) -> str:
    """A size as it may be written: the largest unit that leaves a whole number."""
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "B") if size % _BYTES[unit] == 0)
    return f"{size // _BYTES[unit]}{unit}"


def _quantity(value: object, units: dict[str, Fraction] | dict[str, int]) -> Fraction | None:
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[2] not in units:
        return None
    return Fraction(found[1]) * units[found[2]]


def _known(text: str, units: dict[str, Fraction] | dict[str, int]) -> Fraction:
    """A bound, which our own schema writes."""
    quantity = _quantity(text, units)
    if quantity is None:
        raise ValueError(f"the bound {text!r} has no such unit")
    return quantity


def _plain(value: float) -> str:
    """The number as it may stand before its unit; 5 where it could not stand there."""
    return f"{value:.10g}" if value == 0 or 0.001 <= value < 1e6 else "5"
