"""The bans in force as workers read them: tables by what a key consists of, in memory that the supervisor writes.

A worker finds a client by one look into each table, however many bans there are; the tables are made here, once for all
workers, so that loading them is hardly more than parsing JSON. The memory has no name and no disk is behind it.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterable, Sequence

from ..policy.ban_keys import BanKey
from ..policy.model import ClientClass, Conditions
from .ban_book import Entry

CAPTURE = "capture:"
"""What the name of a table's part begins with that is a capture."""
MAX_BYTES = 64 << 20
"""The largest sheet: 10,000 bans with the longest texts are a quarter of it."""
_HEAD = struct.Struct("<QII")
"""Generation, size and checksum of what follows."""

Shape = tuple[int | None, int, tuple[str, ...]]
"""What keys of a table consist of: family (4, 6; 0: a Unix socket; None: any address), bits of the address, parts."""


class BanSheet:
    """The memory, and the one who writes it."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("tidegate-bans")
        self.generation = 0
        self.publish(sheet_of((), ()))

    def publish(self, sheet: bytes) -> int:
        """Have this in the place of what was there: its generation. OSError when there is no memory for it.

        Who reads meanwhile sees that it is neither the one nor the other, and must read again.
        """
        self.generation += 1
        for at, part in (_HEAD.size, sheet), (0, _HEAD.pack(self.generation, len(sheet), zlib.crc32(sheet))):
            written = 0
            while written < len(part):
                written += os.pwrite(self.fd, part[written:], at + written)
        return self.generation

    def close(self) -> None:
        """Give the memory back, once the workers have done so too."""
        os.close(self.fd)


def read_sheet(fd: int) -> tuple[int, bytes] | None:
    """Generation and content; None while it is being written."""
    generation, size, checksum = _HEAD.unpack(os.pread(fd, _HEAD.size, 0))
    sheet = os.pread(fd, min(size, MAX_BYTES), _HEAD.size)
    return (generation, sheet) if len(sheet) == size and zlib.crc32(sheet) == checksum else None


def sheet_of(bans: Iterable[Entry], classes: Sequence[ClientClass]) -> bytes:
    """The bans as tables. `classes`: all that capture anything, by which clients of banned captures are found."""
    tables: dict[Shape, dict[str, tuple[float, str]]] = {}
    needed = False
    for ban in bans:
        shape, text = _place(ban.key)
        needed = needed or bool(ban.key.captures)
        table = tables.setdefault(shape, {})
        if text not in table or table[text][0] < ban.until:  # of several limits, the ban that lasts longest
            table[text] = ban.until, ban.limit
    document = {
        "classes": [_class(one) for one in classes] if needed else [],
        "tables": [(*shape, table) for shape, table in tables.items()],
    }
    return json.dumps(document, ensure_ascii=False).encode()


def _place(key: BanKey) -> tuple[Shape, str]:
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
