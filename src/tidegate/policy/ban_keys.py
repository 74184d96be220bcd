"""Whom a ban keeps out: some of network, client identifier, user name and captures. All that is given must fit."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

from .captures import possible_captures
from .keys import MAX_KEYS
from .model import ClientClass, Key, KeyKind
from .patterns import is_capture, read_network
from .problems import BadValue, printable

MAX_TEXT = 64
"""Characters of a text that are kept as they are: few clients call themselves longer, and ten thousand bans of eight
texts each, all of characters that JSON writes in twelve, are 64 MiB at the very most."""
_KEPT = 31
"""Characters that are kept of a longer one, for whoever reads them; a sign and 32 digits follow."""
UNIX = "unix"
"""What is written in the place of a network for clients that come by a Unix socket."""


@dataclass(frozen=True, slots=True)
class BanKey:
    """At least one part is given. Texts are `short`; `str()` is for people and shows no control characters."""

    network: IPv4Network | IPv6Network | None = None
    is_unix: bool = False
    """Whoever comes by a Unix socket, instead of a network."""
    client_id: str | None = None
    username: str | None = None
    is_anonymous: bool = False
    """Whoever sends no user name, instead of one."""
    captures: tuple[tuple[str, str], ...] = ()
    """Names and values, sorted by name."""

    def __str__(self) -> str:
        """In words: `ip 192.0.2.7, client "sensor-1"`."""
        parts = []
        if self.network is not None or self.is_unix:
            parts.append(f"ip {self.ip}")
        if self.client_id is not None:
            parts.append(f"client {_quoted(self.client_id)}")
        if self.username is not None:
            parts.append(f"username {_quoted(self.username)}")
        if self.is_anonymous:
            parts.append("no username")
        parts += [f"{name} {_quoted(value)}" for name, value in self.captures]
        return ", ".join(parts)

    @property
    def ip(self) -> str | None:
        """The network as it may be written, a single address without its length; UNIX; None where any will do."""
        if self.is_unix:
            return UNIX
        return None if self.network is None else str(self.network).removesuffix(f"/{self.network.max_prefixlen}")

    @property
    def is_address(self) -> bool:
        """Whether an address alone tells who is meant."""
        return self.client_id is None and self.username is None and not self.is_anonymous and not self.captures


def short(text: str) -> str:
    """The text, or what stands for a long one: how it begins, and a hash of all of it."""
    if len(text) <= MAX_TEXT:
        return text
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
    return f"{text[:_KEPT]}…{digest}"


def key_of_offence(
    per: Sequence[Key],
    classes: Sequence[ClientClass],
    client_id: str,
    username: str | None,
    address: IPv4Address | IPv6Address | None,
) -> BanKey | None:
    """Whom a limit bans, who was over it: its `per`, with the values of this client. None when that is nobody.

    What `per` says of topic, listener and class does not count: a ban keeps out everywhere. Nobody is a client without
    identifier, whom nothing tells from others; somebody who lacks a capture; all who come by Unix sockets, unless
    something else tells them apart; all without a user name, likewise. `address` None: a Unix socket.
    """
    network = None
    is_unix = False
    names: dict[str, Any] = {}
    captures: dict[str, str] = {}
    needs_captures = any(key.kind is KeyKind.CAPTURE for key in per)
    found = possible_captures(classes, client_id, username, address) if needs_captures else {}
    for key in per:
        match key.kind:
            case KeyKind.IP:
                network, is_unix = _network(address, key.v4, key.v6), address is None
            case KeyKind.CLIENT if client_id:
                names["client_id"] = short(client_id)
            case KeyKind.USERNAME if username is not None:
                names["username"] = short(username)
            case KeyKind.USERNAME:
                names["is_anonymous"] = True
            case KeyKind.CAPTURE if key.capture in found:
                captures[key.capture] = short(found[key.capture])
            case KeyKind.CLIENT | KeyKind.CAPTURE:
                return None
    if network is None and "client_id" not in names and "username" not in names and not captures:
        return None
    return BanKey(network, is_unix, captures=tuple(sorted(captures.items())), **names)


def _network(address: IPv4Address | IPv6Address | None, v4: int, v6: int) -> IPv4Network | IPv6Network | None:
    return None if address is None else ip_network((address, v4 if address.version == 4 else v6), strict=False)


def as_object(key: BanKey) -> dict[str, object]:
    """The key for JSON: `ip`, `client_id`, `username`, `anonymous`, `captures`; what is not given is left out."""
    parts = {
        "ip": key.ip,
        "client_id": key.client_id,
        "username": key.username,
        "anonymous": key.is_anonymous or None,
        "captures": dict(key.captures) or None,
    }
    return {name: part for name, part in parts.items() if part is not None}


def read_key(parts: Mapping[str, object]) -> BanKey:
    """The reverse of `as_object`, of parts that anybody may have written; BadValue names the part that is wrong."""
    ip, captures = parts.get("ip"), parts.get("captures", {})
    client_id, username = (
        None if parts.get(name) is None else _read_text(name, parts[name]) for name in ("client_id", "username")
    )
    is_anonymous = parts.get("anonymous", False)
    if client_id == "":
        raise BadValue("client_id: a client without identifier cannot be told from others", "name one")
    if not isinstance(is_anonymous, bool):
        raise BadValue("anonymous: neither true nor false", "write true or false")
    if is_anonymous and username is not None:
        raise BadValue("anonymous: nobody has a user name and sends none", "leave one of the two out")
    if not isinstance(captures, dict) or len(captures) > MAX_KEYS:
        raise BadValue("captures: not a few names and values", f"write at most {MAX_KEYS}")
    for name, value in captures.items():
        if not is_capture(name):
            raise BadValue(f"captures: {_quoted(name)} is no name of a capture", "name one that a class captures")
        if not value:
            raise BadValue(f"captures: {name} has no value", "a capture has at least one character")
    key = BanKey(
        None if ip in (None, UNIX) else _read_network(ip),
        ip == UNIX,
        client_id,
        username,
        is_anonymous,
        tuple(sorted((name, _read_text(name, value)) for name, value in captures.items())),
    )
    if key == BanKey():
        raise BadValue("nobody is named", "name a network, a client, a user name or a capture")
    return key


def _read_network(value: object) -> IPv4Network | IPv6Network:
    try:
        return read_network(value)
    except BadValue as error:
        raise BadValue(f"ip: {error.text}", error.fix) from error


def _read_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadValue(f"{name}: not text", "write text in quotes")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadValue(f"{name}: not UTF-8", "write it in UTF-8") from error
    if "\0" in value:
        raise BadValue(f"{name}: no text of MQTT holds U+0000", "leave it out")
    return short(value)


def _quoted(text: str) -> str:
    return printable(json.dumps(text, ensure_ascii=False))
