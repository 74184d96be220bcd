"""The bans in force as workers read them: tables by what a key consists of, in memory that the supervisor writes.

A worker finds a client by one look into each table, however many bans there are. The tables are made here, once for all
workers. What is added later stands behind them, a line each, so that a new ban costs no worker the time to load all of
them (10,000: 16 ms). The memory has no name, and no disk is behind it.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..policy.ban_keys import BanKey
from ..policy.model import ClientClass, Conditions, Limit
from .ban_book import Entry

CAPTURE = "capture:"
"""What the name of a table's part begins with that is a capture."""
MAX_BYTES = 64 << 20
"""The largest sheet: 16,000 bans of the longest names are less."""
_HEAD = struct.Struct("<QQII")
"""Generation, that of the tables, size and checksum of what follows: the tables, and the lines behind them."""

Shape = tuple[int | None, int, tuple[str, ...]]
"""What keys of a table consist of: family (4, 6; 0: a Unix socket; None: any address), bits of the address, parts."""


class Sheet(NamedTuple):
    """What a worker reads."""

    generation: int
    """One more with every change."""
    base: int
    """The generation of its tables: while it is the same, lines have been added and nothing else has changed."""
    text: bytes
    """What `sheet_of` and `lines_of` have written."""


class BanSheet:
    """The memory, and the one who writes it. Who reads while tables are written sees it, and must read again."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("tidegate-bans")
        self.generation = 0
        self._base = 0
        self._size = 0
        self._checksum = 0
        self.publish(sheet_of((), ()))

    def publish(self, sheet: bytes) -> int:
        """Have this in the place of what was there: its generation. OSError when there is no memory for it."""
        self._base, self._size, self._checksum = self.generation + 1, 0, 0
        return self.add(sheet)

    def add(self, lines: bytes) -> int:
        """Have these lines behind what is there: the new generation. OSError likewise."""
        self._write(lines, _HEAD.size + self._size)
        self.generation += 1
        self._size += len(lines)
        self._checksum = zlib.crc32(lines, self._checksum)
        self._write(_HEAD.pack(self.generation, self._base, self._size, self._checksum), 0)
        return self.generation

    def close(self) -> None:
        """Give the memory back, once the workers have done so too."""
        os.close(self.fd)

    def _write(self, data: bytes, at: int) -> None:
        written = 0
        while written < len(data):
            written += os.pwrite(self.fd, data[written:], at + written)


def read_sheet(fd: int) -> Sheet | None:
    """What is there; None while it is being written."""
    generation, base, size, checksum = _HEAD.unpack(os.pread(fd, _HEAD.size, 0))
    text = os.pread(fd, min(size, MAX_BYTES), _HEAD.size)
    return Sheet(generation, base, text) if len(text) == size and zlib.crc32(text) == checksum else None


def sheet_of(bans: Iterable[Entry], classes: Sequence[ClientClass], limits: Iterable[Limit] = ()) -> bytes:
    """The bans as tables. `classes`: all that capture anything, by which clients of banned captures are found.

    `limits`: those that ban, so that a worker knows at once whom.
    """
    tables: dict[Shape, dict[str, tuple[float, str]]] = {}
    for ban in bans:
        shape, text = place_of(ban.key)
        table = tables.setdefault(shape, {})
        if text not in table or table[text][0] < ban.until:  # of several limits, the ban that lasts longest
            table[text] = ban.until, ban.limit
    document = {
        "classes": [_class(one) for one in classes],
        "limits": {limit.name: [(key.kind, key.v4, key.v6, key.capture) for key in limit.per] for limit in limits},
        "tables": [(*shape, table) for shape, table in tables.items()],
    }
    return _line(document)


def lines_of(bans: Iterable[Entry]) -> bytes:
    """The bans as lines behind tables."""
    return b"".join(_line([*place_of(ban.key), ban.until, ban.limit]) for ban in bans)


def _line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def place_of(key: BanKey) -> tuple[Shape, str]:
    """Table and place in it. No text of MQTT holds U+0000, which therefore separates them."""
    texts = []
    family: int | None = None
    bits = 0
    if key.network is not None:
        family, bits = key.network.version, key.network.prefixlen
        texts.append(address_text(int(key.network.network_address), key.network.max_prefixlen - bits))
    elif key.is_unix:
        family = 0
        texts.append(address_text(0, 0))
    parts = [("client_id", key.client_id), ("username", key.username), ("anonymous", "" if key.is_anonymous else None)]
    parts += [(CAPTURE + name, value) for name, value in key.captures]
    given = [(name, text) for name, text in parts if text is not None]
    return (family, bits, tuple(name for name, _ in given)), "\0".join([*texts, *(text for _, text in given)])


def address_text(address: int, shift: int) -> str:
    """The bits of an address that count: all but the last `shift`."""
    return f"{address >> shift:x}"


def _class(one: ClientClass) -> dict[str, object]:
    return {"all_of": _conditions(one.all_of), "any_of": [_conditions(group) for group in one.any_of]}


def _conditions(conditions: Conditions) -> dict[str, list[str]]:
    """As much of them as `possible_captures` looks at."""
    return {
        "client_id": [*conditions.client_id],
        "username": [*conditions.username],
        "cidr": [str(network) for network in conditions.cidr],
        "cn": [*conditions.cn],
        "san": [*conditions.san],
    }
