"""Rates as they are written: "20/s burst 40", "600/min", "64KiB/s burst 256KiB"; and numbers that differ by class."""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from ..engine.rate import FORM, MAX_AMOUNT, UNITS, YEAR
from .fields import Place, Reader, check_class
from .model import ByClass, Rate
from .problems import BadValue
from .units import Size

MAX_BYTES_PER_SECOND = 10 << 30
"""What the engine's fixed point is exact for."""
MIN_BYTES_PER_SECOND = 16
"""Below it a packet of 256 MiB would be a debt of more than half a year."""
MAX_RATES = 4
"""In a list: of each kind, as many budgets of one limit as the engine charges."""
NO_LIMIT = "none"

_MISTAKEN = {
    "m": "min", "sec": "s", "second": "s", "seconds": "s", "mins": "min", "minute": "min", "minutes": "min",
    "hour": "h", "hours": "h", "hr": "h", "day": "d", "days": "d", "msec": "ms",
}  # fmt: skip
_SIZE = Size("1B", "1024GiB")


def read_rate(value: object) -> Rate:
    """Messages per time."""
    amount, period, burst = _parts(value, _count, "a rate", '"20/s burst 40" or "5/10s"', '"{}/s"')
    rate = Rate(amount, period, burst)
    if rate.per_second > MAX_AMOUNT:
        raise BadValue("out of range", f"write at most {MAX_AMOUNT} a second")
    return _within_a_year(rate)


def read_bandwidth(value: object) -> Rate:
    """Bytes per time."""
    amount, period, burst = _parts(value, _SIZE, "a bandwidth", '"64KiB/s burst 256KiB"', '"{}B/s"')
    rate = Rate(amount, period, burst)
    if not MIN_BYTES_PER_SECOND <= rate.per_second <= MAX_BYTES_PER_SECOND:
        raise BadValue("out of range", f'write "{MIN_BYTES_PER_SECOND}B/s" to "10GiB/s"')
    return _within_a_year(rate)


def several(read: Callable[[object], Rate]) -> Reader:
    """Reads one rate, or a list of rates that must all hold."""

    def read_all(value: object, place: Place) -> tuple[Rate, ...]:
        if not isinstance(value, list):
            return (read(value),)
        if not 1 <= len(value) <= MAX_RATES:
            raise BadValue(f"{len(value)} rates", f"write 1 to {MAX_RATES}")
        return tuple(place.at(number).read(lambda item, _: read(item), item) for number, item in enumerate(value))

    return read_all


def by_class(read: Reader) -> Reader:
    """Reads a number that is the same for all, or a table of numbers by class."""

    def read_all(value: object, place: Place) -> ByClass[Any]:
        if value == NO_LIMIT:
            raise BadValue("only a class of a table by class can have that", "remove the key")
        if not isinstance(value, dict):
            return ByClass(read(value, place))
        if not value:
            raise BadValue("an empty table", 'write for instance { default = …, NAME = "none" }, NAME of a class')
        numbers: dict[str, Any] = {}
        for name, item in value.items():
            here = place.at(name)
            if name != "default":
                here.read(lambda text, there: check_class(text, there.known), name)
            numbers[name] = None if item == NO_LIMIT else here.read(read, item)
        return ByClass(numbers.pop("default", None), numbers)

    return read_all


def _parts(
    value: object, read: Callable[[str], int], what: str, example: str, with_unit: str
) -> tuple[int, Fraction, int]:
    if isinstance(value, int) and not isinstance(value, bool):
        shown = value if 0 < value <= MAX_AMOUNT else 20
        raise BadValue(f"{what} needs its period", f"write {with_unit.format(shown)} if seconds are meant")
    found = FORM.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise BadValue(f"not {what}", f"write for instance {example}")
    written, number, unit, burst = found.groups()
    if unit not in UNITS:
        meant = _MISTAKEN.get(unit.lower())
        fix = f'write "{written}/{number}{meant}"' if meant and len(written) < 20 else "write ms, s, min, h or d"
        raise BadValue("the unit of time is not known", fix)
    period = int(number or 1) * UNITS[unit]
    if not 0 < period <= YEAR:
        raise BadValue("the period is out of range", 'write "1ms" to "365d" behind the /')
    amount = read(written)
    return amount, period, amount if burst is None else read(burst)


def _count(text: str) -> int:
    if re.fullmatch(r"[0-9]+\.[0-9]+", text):
        raise BadValue("not a whole number", 'lengthen the period: "1/2s" is one every two seconds')
    if not re.fullmatch(r"[0-9]{1,10}", text) or not 1 <= int(text) <= MAX_AMOUNT:
        raise BadValue(f"not a number from 1 to {MAX_AMOUNT}", 'write for instance "20/s burst 40"')
    return int(text)


def _within_a_year(rate: Rate) -> Rate:
    if rate.burst / rate.per_second > YEAR:
        raise BadValue("the burst would take more than a year to come back", "write a smaller burst")
    return rate
