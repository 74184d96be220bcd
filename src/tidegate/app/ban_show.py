"""Bans for people, a line each, and for machines."""

import json
import math
from collections.abc import Iterator, Sequence
from datetime import datetime

from ..gateway.ban_book import BY_HAND, Entry
from ..policy.problems import printable

_HEAD = ("who", "limit", "times", "since", "until", "left", "note")
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def table(bans: Sequence[Entry], now: float) -> Iterator[str]:
    """The lines of a table; in columns, so that it is read on a terminal and by awk with two spaces between fields."""
    if not bans:
        yield "nobody is banned"
        return
    rows = [_HEAD, *(_row(ban, now) for ban in bans)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def as_json(bans: Sequence[Entry], now: float) -> str:
    """A list of objects, as docs/commands.md describes them."""
    return json.dumps([_object(ban, now) for ban in bans], indent=2)


def until_text(ban: Entry) -> str:
    """When it ends, by the clock on the wall here."""
    return "for ever" if math.isinf(ban.until) else _date(ban.until)


def left_text(seconds: float) -> str:
    """A time in its two largest units, rounded up: `1h 5min`."""
    rest = math.ceil(seconds)
    parts: list[tuple[int, str]] = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count}{unit}" for count, unit in parts[:2] if count) or "0s"


def _row(ban: Entry, now: float) -> tuple[str, ...]:
    left = "-" if math.isinf(ban.until) else left_text(ban.until - now)
    limit = "by hand" if ban.limit == BY_HAND else ban.limit
    return str(ban.key), limit, str(ban.level), _date(ban.since), until_text(ban), left, printable(ban.note)


def _object(ban: Entry, now: float) -> dict[str, object]:
    told = ban.as_object()
    del told["forget"]
    return {**told, "left": None if math.isinf(ban.until) else ban.until - now}


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
