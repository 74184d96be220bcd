"""The book of bans: who is kept out until when, and how often before. No clock, no files: the time is a parameter.

A limit's ban lasts `first`, then `factor` times as long with each further offence of the same key, and `longest` at
most. How often it was is remembered for `longest` after a ban has ended: who offends no sooner begins anew.
"""

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..policy.ban_keys import BanKey, as_object, read_key
from ..policy.fields import MAX_NAME
from ..policy.model import BanTimes
from ..policy.problems import BadValue

MOST = 10_000
"""Entries of a book: an attacker with many addresses must not make it grow."""
SLACK = 1_000
"""Entries that may be too many for a while, as to find out which must go takes a look at all."""
MAX_NOTE = 200
"""Characters of a note."""
BY_HAND = ""
"""The limit of a ban that an operator has added."""

_MOST_LEVEL = 1_000_000
_LAST_TIME = float(1 << 37)
"""In the year 6325: later times are no times of anybody's, and Python's dates end at 9999."""

Ident = tuple[str, BanKey]
"""What tells an entry from all others: limit and key."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One ban, in force or ended and remembered. Times are wall time in seconds; math.inf is for ever."""

    key: BanKey
    limit: str
    """The limit's name, or BY_HAND."""
    since: float
    until: float
    level: int = 1
    """How many bans in a row this is."""
    forget: float = 0.0
    """When nothing of it counts any more; not before `until`."""
    note: str = ""

    @property
    def ident(self) -> Ident:
        """Its place in a book."""
        return self.limit, self.key

    def as_object(self) -> dict[str, object]:
        """The entry for JSON, which knows no infinity: null is for ever."""
        return {
            **as_object(self.key),
            "limit": self.limit,
            "since": self.since,
            "until": _finite(self.until),
            "level": self.level,
            "forget": _finite(self.forget),
            "note": self.note,
        }


def read_entry(value: object) -> Entry:
    """The reverse of `Entry.as_object`, of what anybody may have written; BadValue says what is wrong with it."""
    if not isinstance(value, dict):
        raise BadValue("not an object", "write one as docs/bans.md shows")
    limit, note, level = value.get("limit", BY_HAND), value.get("note", ""), value.get("level", 1)
    if not isinstance(limit, str) or len(limit) > MAX_NAME:
        raise BadValue("limit: not the name of one", 'write its name, or "" for a ban by hand')
    if not isinstance(note, str) or len(note) > MAX_NOTE:
        raise BadValue("note: not a short text", f"write at most {MAX_NOTE} characters")
    if isinstance(level, bool) or not isinstance(level, int) or not 1 <= level <= _MOST_LEVEL:
        raise BadValue("level: not a number from 1", "write 1")
    since = _read_time("since", value.get("since", 0.0))
    until = _read_time("until", value.get("until"))
    forget = _read_time("forget", value.get("forget", value.get("until")))
    return Entry(read_key(value), limit, min(since, until), until, level, max(until, forget), note)


def duration(times: BanTimes, level: int) -> float:
    """Seconds of the ban of this level."""
    if (level - 1) * math.log(times.factor) >= math.log(times.longest / times.first):
        return times.longest
    return min(times.first * times.factor ** (level - 1), times.longest)


class BanBook:
    """All entries, by limit and key. Not more than MOST after each `trim`, which is due when `is_full`."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        """Of two entries for one limit and key the later holds."""
        self._entries = {entry.ident: entry for entry in entries}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def is_full(self) -> bool:
        """Whether it must be trimmed now."""
        return len(self) > MOST + SLACK

    def active(self, now: float) -> Iterator[Entry]:
        """The bans in force."""
        return (entry for entry in self if entry.until > now)

    def offend(self, limit: str, key: BanKey, times: BanTimes, now: float) -> Entry | None:
        """Ban whom a limit has found over it: the new entry.

        None while its last ban is in force: what had been on its way then is no further offence.
        """
        before = self._entries.get((limit, key))
        if before is not None and before.until > now:
            return None
        level = min(before.level + 1, _MOST_LEVEL) if before is not None and before.forget > now else 1
        until = now + duration(times, level)
        return self.put(Entry(key, limit, now, until, level, until + times.longest))

    def put(self, entry: Entry) -> Entry:
        """Add an entry, in the place of an earlier one for its limit and key."""
        self._entries[entry.ident] = entry
        return entry

    def remove(self, key: BanKey | None) -> list[Entry]:
        """Take out all entries of this key, None: of every key, with what is remembered; these entries."""
        gone = [entry for entry in self if key is None or entry.key == key]
        for entry in gone:
            del self._entries[entry.ident]
        return gone

    def trim(self, now: float) -> int:
        """Forget what is over, and beyond MOST what ends first, but nothing that was added by hand.

        How many bans in force were dropped.
        """
        self._entries = {ident: entry for ident, entry in self._entries.items() if entry.forget > now}
        surplus = len(self) - MOST
        if surplus <= 0:
            return 0
        dropped = heapq.nsmallest(surplus, (one for one in self if one.limit != BY_HAND), key=lambda one: one.until)
        for entry in dropped:
            del self._entries[entry.ident]
        return sum(entry.until > now for entry in dropped)


def _finite(time: float) -> float | None:
    return None if math.isinf(time) else time


def _read_time(name: str, time: object) -> float:
    if time is None and name != "since":
        return math.inf
    if isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time <= _LAST_TIME:
        raise BadValue(f"{name}: not a time", "write seconds since 1970, or null for ever")
    return float(time)
