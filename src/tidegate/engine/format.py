"""The flat form of a compiled policy: the records of `native/engine.h`, written; of its limits, what is told of them.

Both sides say the same layout; `tests/unit/engine/test_format.py` compares the sizes. All numbers are little-endian,
every section begins at a multiple of eight, and texts, patterns and lists of numbers are kept once.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

LAYOUT = 4
NONE = 0xFFFF_FFFF
EVENTS = 7
SHARES = 7
"""The tree of `$share/NAME/FILTER`, behind those of the events."""
MAX_LIMITS = 10_000
MAX_CLASSES = 256
MAX_SLOTS = 65_534
MAX_LEVELS = 128
MAX_CAPTURES = 16
MAX_COMPONENTS = 64
MAX_KEYS = 8
OWN, CONFLATE, NO_WILD = 1, 2, 4
"""Flags of a limit (`native/engine.h`)."""
MAX_RATES = 4
"""Rates, and as many bandwidths, of one limit for one client."""

TICKS = 16 * 10**9
"""Ticks of a second (`native/gcra.h`)."""
LONGEST = 1 << 60
"""Ticks: no burst takes longer to refill. Two years."""

Range = tuple[int, int]

_HEAD = struct.Struct("<8sIIQ13I8I4xQ")
_COVERED = 8 + 4 + 4 + 8
"""Bytes of the head before what the checksum covers."""
RECORDS = {
    "limit": struct.Struct("<QII2I2I2I2I2I2I2I2I2I4B8B8BIQI4x"),
    "class": struct.Struct("<QIII2B2x"),
    "group": struct.Struct("<II"),
    "condition": struct.Struct("<III"),
    "value": struct.Struct("<IIII16s"),
    "component": struct.Struct("<III"),
    "choice": struct.Struct("<IIIIQ"),
    "budget": struct.Struct("<QQIIQQ"),
    "node": struct.Struct("<IIIII"),
    "edge": struct.Struct("<IIII"),
    "ban": struct.Struct("<QQd"),
}
_EVENT_OF_LIMIT = 3 + 2 * 9
"""Its place in the record: behind three numbers and nine ranges."""

# Tokens of a pattern (native/subject.c).
_TEXT = 1
RUN = b"\x02"
ONE = b"\x03"
_CAPTURE = 4


def literal(text: bytes) -> bytes:
    """The token of a pattern that stands for these bytes; at most 65,535."""
    return bytes([_TEXT]) + len(text).to_bytes(2, "little") + text


def capture(number: int) -> bytes:
    """The token that remembers a run of at least one character as capture `number`."""
    return bytes([_CAPTURE, number])


@dataclass(frozen=True, slots=True)
class Price:
    """A rate as the engine charges it, in ticks: `units * multiplier >> shift`, rounded up to an even number."""

    multiplier: int
    shift: int
    burst: int
    largest: int

    def ticks(self, units: int) -> int:
        """What so many messages or bytes cost."""
        whole = (units * self.multiplier + (1 << self.shift) - 1) >> self.shift
        return (whole + 1) & ~1


_SLACK = 1024
"""Ticks, 64 ns, by which a burst in bytes may be exceeded: packets' costs are rounded up, their sum must still pass."""


def price(amount: int, period: Fraction, burst: int, largest: int | None = None) -> Price:
    """The price of `amount` units per `period` seconds with `burst` at once.

    `largest`: bytes of the largest packet, for a rate of bytes; None for one of messages. ValueError when the burst
    would take longer than LONGEST to refill.
    """
    interval = period * TICKS / amount
    shift = max(0, min(63, 62 - int(interval).bit_length()))
    multiplier = -(-interval.numerator * (1 << shift) // interval.denominator)
    one = Price(multiplier, shift, 0, 0)
    if largest is None:
        # A burst is so many whole messages, so that their rounding cannot cost the last of them its place.
        whole, most = burst * one.ticks(1), one.ticks(1)
    else:
        whole, most = one.ticks(burst) + _SLACK, one.ticks(largest)
    if whole > LONGEST or most > LONGEST:
        raise ValueError("a burst that takes more than two years to refill")
    return Price(multiplier, shift, whole, most)


@dataclass(slots=True)
class Sections:
    """A policy being compiled: records as tuples, in the order of RECORDS; numbers and text are shared."""

    records: dict[str, list[tuple[object, ...]]] = field(default_factory=lambda: {name: [] for name in RECORDS})
    numbers: list[int] = field(default_factory=list)
    text: bytearray = field(default_factory=bytearray)
    roots: list[int] = field(default_factory=lambda: [NONE] * 8)
    horizon: int = 0
    _texts: dict[bytes, Range] = field(default_factory=dict)
    _lists: dict[tuple[int, ...], Range] = field(default_factory=dict)

    def add(self, name: str, *values: object) -> int:
        """Append a record; its number."""
        self.records[name].append(values)
        return len(self.records[name]) - 1

    def extend(self, name: str, rows: Iterable[tuple[object, ...]]) -> Range:
        """Append records that lie together; where."""
        first = len(self.records[name])
        self.records[name].extend(rows)
        return first, len(self.records[name]) - first

    def write_text(self, text: bytes) -> Range:
        """The place of a text, written once."""
        if text not in self._texts:
            self._texts[text] = (len(self.text), len(text))
            self.text += text
        return self._texts[text]

    def write_numbers(self, numbers: Sequence[int]) -> Range:
        """The place of a list of numbers, written once."""
        key = tuple(numbers)
        if key not in self._lists:
            self._lists[key] = (len(self.numbers), len(key))
            self.numbers.extend(key)
        return self._lists[key]

    def pack(self) -> bytes:
        """The whole policy."""
        parts = [b"".join(RECORDS[name].pack(*row) for row in rows) for name, rows in self.records.items()]
        parts += [struct.pack(f"<{len(self.numbers)}I", *self.numbers), bytes(self.text)]
        body = b"".join(part + bytes(-len(part) % 8) for part in parts)
        counts = [len(rows) for rows in self.records.values()] + [len(self.numbers), len(self.text)]
        size = _HEAD.size + len(body)
        head = _HEAD.pack(b"TGPOLICY", LAYOUT, size, 0, *counts, *self.roots, self.horizon)
        checksum = _fnv(head[_COVERED:] + body)
        return head[: _COVERED - 8] + checksum.to_bytes(8, "little") + head[_COVERED:] + body


def _fnv(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFF_FFFF_FFFF_FFFF
    return value


@dataclass(frozen=True, slots=True)
class Written:
    """What a compiled policy says of one limit."""

    name: str
    event: int
    kinds: frozenset[int]
    """Of the keys that it counts by (`policy.model.KeyKind`)."""


def limits_of(blob: bytes) -> list[Written]:
    """The limits of a policy that the engine has loaded: only then are its ranges known to lie within it."""
    counts = _HEAD.unpack_from(blob)[4 : 4 + len(RECORDS) + 1]
    places, at = {}, _HEAD.size
    for (name, record), count in zip([*RECORDS.items(), ("number", struct.Struct("<I"))], counts, strict=True):
        places[name] = blob[at : at + count * record.size]
        at += count * record.size + -(count * record.size) % 8
    components = [kind for kind, *_ in RECORDS["component"].iter_unpack(places["component"])]
    numbers = [number for (number,) in struct.iter_unpack("<I", places["number"])]
    found = []
    for row in RECORDS["limit"].iter_unpack(places["limit"]):
        text, size, per, keys, event = row[3], row[4], row[9], row[10], row[_EVENT_OF_LIMIT]
        name = blob[at + text : at + text + size].decode(errors="replace")
        found.append(Written(name, event, frozenset(components[number] for number in numbers[per : per + keys])))
    return found
