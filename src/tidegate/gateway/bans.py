"""The bans as a worker looks them up: by address when it accepts, by all the rest when CONNECT has been read.

An address takes one look for each length of prefix that is banned, a client one for each combination of parts. Whom no
ban may touch is for the caller to know.
"""

import json
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple

from ..policy.ban_keys import key_of_offence, short
from ..policy.captures import possible_captures
from ..policy.model import ClientClass, Conditions, Key, KeyKind
from .ban_sheet import CAPTURE, Shape, Sheet, address_text, place_of

AHEAD = 1.0
"""Seconds that a worker bans by itself, the shortest ban there is: by then the supervisor has said for how long."""

BY_HAND = ""
"""What a ban by hand has in the place of a limit's name."""

_SIZES = {0: 0, 4: 4, 6: 16}
"""Bytes of an address, by family; a Unix socket has none."""


class Ban(NamedTuple):
    """Who is kept out, by what and until when."""

    limit: str
    """The limit's name; BY_HAND."""
    until: float
    """Wall time in seconds; infinite: for ever."""


class _Table(NamedTuple):
    """Bans whose keys consist of the same parts."""

    size: int | None
    """Bytes of the addresses that count; None: any address."""
    shift: int
    """Bits of the address that do not count."""
    parts: tuple[str, ...]
    bans: dict[str, list[Any]]
    """Until when, and the limit's name."""


class Bans:
    """What one worker knows of bans. Times are wall time: `time.time()`."""

    def __init__(self) -> None:
        self._tables: dict[Shape, _Table] = {}
        self._addresses: dict[int, list[_Table]] = {}
        """Tables of addresses alone, by the size of an address."""
        self._clients: list[_Table] = []
        self._has_captures = False
        self._classes: tuple[ClientClass, ...] = ()
        self._limits: dict[str, tuple[Key, ...]] = {}
        """What those count by that ban."""
        self._base = 0
        self._known = 0
        """Bytes of the sheet that have been read."""

    def take(self, sheet: Sheet) -> bool:
        """Go by this sheet from now on: whether there may be new bans by hand in it."""
        is_new = sheet.base != self._base
        if is_new:
            self.load(sheet.text)
        else:
            self._add(sheet.text[self._known :])
        self._base, self._known = sheet.base, len(sheet.text)
        return is_new and any(ban[1] == BY_HAND for table in self._tables.values() for ban in table.bans.values())

    def load(self, text: bytes) -> None:
        """Go by these tables, and the lines behind them."""
        first, _, lines = text.partition(b"\n")
        document = json.loads(first)
        self._tables, self._addresses, self._clients, self._has_captures = {}, {}, [], False
        for family, bits, parts, bans in document["tables"]:
            self._make((family, bits, tuple(parts)), bans)
        self._classes = tuple(map(_class, document["classes"]))
        self._limits = {
            name: tuple(Key(KeyKind(kind), v4, v6, capture=capture) for kind, v4, v6, capture in per)
            for name, per in document["limits"].items()
        }
        self._add(lines)

    def _add(self, lines: bytes) -> None:
        for line in lines.split(b"\n")[:-1]:
            (family, bits, parts), text, until, limit = json.loads(line)
            self._put((family, bits, tuple(parts)), text, until, limit)

    def _put(self, shape: Shape, text: str, until: float, limit: str) -> None:
        bans = (self._tables.get(shape) or self._make(shape, {})).bans
        if text not in bans or bans[text][0] < until:
            bans[text] = [until, limit]

    def expect(self, limit: str, client_id: str, username: str | None, address: bytes, now: float) -> None:
        """Ban whom this limit has found over it, until the supervisor has done so: not one more attempt slips in."""
        per = self._limits.get(limit)
        key = None if per is None else key_of_offence(per, self._classes, client_id, username, _parsed(address))
        if key is not None:
            self._put(*place_of(key), now + AHEAD, limit)

    def _make(self, shape: Shape, bans: dict[str, list[Any]]) -> _Table:
        family, bits, parts = shape
        size = None if family is None else _SIZES[family]
        table = self._tables[shape] = _Table(size, 0 if size is None else 8 * size - bits, parts, bans)
        if size is not None and not parts:
            self._addresses.setdefault(size, []).append(table)
        else:
            self._clients.append(table)
            self._has_captures = self._has_captures or any(part.startswith(CAPTURE) for part in parts)
        return table

    def of_address(self, address: bytes, now: float) -> Ban | None:
        """The ban of an address (4 or 16 bytes; none: a Unix socket), whoever it is; of several, the longest."""
        tables = self._addresses.get(len(address))
        if tables is None:
            return None
        number = int.from_bytes(address)
        return _longest(tables, lambda table: address_text(number, table.shift), now)

    def of_client(self, client_id: str, username: str | None, address: bytes, now: float) -> Ban | None:
        """The ban of a client for more than its address; of several, the longest. `username` None: it sends none."""
        if not self._clients:
            return None
        texts = {"client_id": short(client_id)}
        if username is None:
            texts["anonymous"] = ""
        else:
            texts["username"] = short(username)
        if self._has_captures:
            captures = possible_captures(self._classes, client_id, username, _parsed(address))
            texts |= {CAPTURE + name: short(value) for name, value in captures.items()}
        number = int.from_bytes(address)

        def text_of(table: _Table) -> str | None:
            found = [] if table.size is None else [address_text(number, table.shift)]
            if table.size not in (None, len(address)) or any(part not in texts for part in table.parts):
                return None
            return "\0".join([*found, *(texts[part] for part in table.parts)])

        return _longest(self._clients, text_of, now)


def _longest(tables: list[_Table], text_of: Callable[[_Table], str | None], now: float) -> Ban | None:
    found: Ban | None = None
    for table in tables:
        text = text_of(table)
        if text is None or text not in table.bans:
            continue
        until, limit = table.bans[text]
        if until > now and (found is None or until > found.until):
            found = Ban(limit, until)
    return found


def _parsed(address: bytes) -> IPv4Address | IPv6Address | None:
    return ip_address(address) if address else None


def _class(written: Mapping[str, object]) -> ClientClass:
    any_of = written["any_of"]
    assert isinstance(any_of, list)
    return ClientClass("", _conditions(written["all_of"]), tuple(map(_conditions, any_of)))


def _conditions(written: object) -> Conditions:
    assert isinstance(written, dict)
    return Conditions(
        client_id=tuple(written["client_id"]),
        username=tuple(written["username"]),
        cidr=tuple(map(ip_network, written["cidr"])),
        cn=tuple(written["cn"]),
        san=tuple(written["san"]),
    )
