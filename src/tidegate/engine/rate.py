"""Rates as they are written: "100/s", "600/min", "5/10s burst 20"."""

import re
from fractions import Fraction

UNITS = {
    "ms": Fraction(1, 1000), "s": Fraction(1), "min": Fraction(60), "h": Fraction(3600), "d": Fraction(86400),
}  # fmt: skip
"""Seconds of each unit of time."""
FORM = re.compile(r"([^/ ]+)/([0-9]{0,9})([A-Za-z]+)(?: +burst +([^ ]+))?")
"""Amount, number of units, unit, burst; the last is None when it is not written."""
MAX_AMOUNT = 10**9
"""Of a rate and of a burst, and a second: beyond it an interval is too few of the engine's ticks to be exact."""
YEAR = Fraction(365 * 86400)
"""Seconds of the longest period, and of the longest that a burst may take to come back."""

_EXAMPLE = 'write for instance "100/s", "600/min" or "5/10s burst 20"'


def parse_rate(text: str) -> tuple[int, Fraction, int]:
    """Amount, period in seconds, and burst, which is the amount when none is written.

    ValueError, with the text, what is wrong and the fix, when it is no rate.
    """
    found = FORM.fullmatch(text)
    if found is None:
        raise ValueError(f'"{text}" is no rate; {_EXAMPLE}')
    amount, number, unit, burst = found.groups()
    if unit not in UNITS:
        raise ValueError(f'"{text}": "{unit}" is no unit of time; write {", ".join(UNITS)}')
    period = int(number or 1) * UNITS[unit]
    if not 0 < period <= YEAR:
        raise ValueError(f'"{text}": the period is out of range; write "1ms" to "365d" behind the /')
    count = _count(amount, text)
    at_once = count if burst is None else _count(burst, text)
    if count / period > MAX_AMOUNT:
        raise ValueError(f'"{text}": more than {MAX_AMOUNT} a second')
    if at_once * period / count > YEAR:
        raise ValueError(f'"{text}": the burst would take more than a year to come back; write a smaller one')
    return count, period, at_once


def _count(written: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", written) or not 1 <= int(written) <= MAX_AMOUNT:
        raise ValueError(f'"{text}": "{written}" is not a whole number from 1 to {MAX_AMOUNT}')
    return int(written)
