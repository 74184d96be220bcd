"""Reads `[class.NAME]`: what a client must be, and how much it matters."""

import re
from collections.abc import Mapping
from typing import Any

from .address import Address
from .fields import MAX_NAME, Field, Place, choice, one_or_more, plain, read_bool, read_table
from .model import ClientClass, Conditions, Priority
from .patterns import captures_of, read_network, read_pattern
from .problems import BadValue

MAX_ALTERNATIVES = 64
"""Tables of one `any`."""

_VERSIONS = {"3.1": 3, "3.1.1": 4, "5": 5}
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}
PATTERN_KEYS = ("client_id", "username", "cn", "san")
"""Conditions that can capture."""
_GLOB = "glob, or list: `*` is any run of characters, `?` any one, `{name}` a run that `per` can count by"


def read_listener_name(value: object, place: Place) -> str:
    """One of the addresses of gateway.listen, as text."""
    if not isinstance(value, str):
        raise BadValue("not an address", 'write for instance "tcp://0.0.0.0:1883", as gateway.listen does')
    address = str(Address.parse(value))
    known = place.known.listeners
    if known is not None and address not in known:
        raise BadValue("gateway.listen has no such address", f"it has {', '.join(known)}")
    return address


def _read_version(value: object) -> int:
    if isinstance(value, int | float):
        raise BadValue("a version is text", 'write "3.1", "3.1.1" or "5"')
    return choice(_VERSIONS)(value)


CONDITIONS = {
    "client_id": Field(
        one_or_more(plain(read_pattern)),
        _GLOB,
        "any",
        "Client identifiers. Anyone can claim one.",
        ["sensor-*", "probe-*"],
    ),
    "username": Field(
        one_or_more(plain(read_pattern)),
        "likewise",
        "any, or none",
        "User names, which the broker has checked.",
        "{tenant}:*",
    ),
    "cidr": Field(
        one_or_more(plain(read_network)),
        "address or network, or list",
        "any",
        "Where the client connects from.",
        ["10.20.0.0/16", "2001:db8::/32"],
    ),
    "listener": Field(
        one_or_more(read_listener_name),
        "address, or list",
        "any",
        "Where it connects to, as `gateway.listen` writes it.",
        "unix:/run/tidegate/mqtt.sock",
    ),
    "cn": Field(
        one_or_more(plain(read_pattern)),
        "glob, or list",
        "any, or none",
        "The common name of the client's certificate.",
        "plc-*",
    ),
    "san": Field(
        one_or_more(plain(read_pattern)),
        "glob, or list",
        "any, or none",
        "A subject alternative name of the client's certificate.",
        "*.plc.example.com",
    ),
    "version": Field(
        one_or_more(plain(_read_version)),
        '`"3.1"`, `"3.1.1"` or `"5"`, or list',
        "any",
        "The version of MQTT.",
        ["3.1.1", "5"],
    ),
    "clean_start": Field(
        plain(read_bool), "`true` or `false`", "either", "Whether it asks for a new session (3.x: clean session).", True
    ),
    "bridge": Field(
        plain(read_bool),
        "`true` or `false`",
        "either",
        "Whether it says that it is a bridge (bit 7 of the protocol version).",
        False,
    ),
}
"""What a client must be. All keys that are given, any value of each."""


def read_conditions(found: Mapping[str, Any]) -> Conditions:
    """Conditions from keys that are valid; the empty condition without any."""
    return Conditions(**{key: found[key] for key in CONDITIONS if key in found})


def _read_any(value: object, place: Place) -> tuple[Conditions, ...]:
    if not isinstance(value, list):
        raise BadValue("not a list of tables", 'write for instance [{ client_id = "a-*" }, { bridge = true }]')
    if not 1 <= len(value) <= MAX_ALTERNATIVES:
        raise BadValue(f"{len(value)} alternatives", f"write 1 to {MAX_ALTERNATIVES}")
    return tuple(place.at(number).read(_read_alternative, item) for number, item in enumerate(value))


def _read_alternative(value: object, place: Place) -> Conditions:
    if not isinstance(value, dict):
        raise BadValue("not a table", 'write for instance { client_id = "a-*" }')
    if not value:
        raise BadValue("fits every client", 'write for instance { client_id = "a-*" }, or remove it')
    return read_conditions(read_table(value, place, CONDITIONS))


FIELDS = {
    **CONDITIONS,
    "any": Field(
        _read_any,
        f"list of up to {MAX_ALTERNATIVES} tables of the keys above",
        "no alternatives",
        "At least one of these must fit as well.",
        [{"client_id": "gw-*"}, {"cidr": "192.0.2.0/24", "version": "5"}],
    ),
    "priority": Field(
        plain(choice(_PRIORITIES)),
        ", ".join(f'`"{word}"`' for word in _PRIORITIES),
        '`"normal"`',
        "How much it matters: what matters least is limited first when the broker is overloaded.",
        "high",
    ),
    "exempt": Field(plain(read_bool), "`true` or `false`", "`false`", "Counted, but never limited or banned.", False),
}


def read_class(value: object, place: Place) -> ClientClass | None:
    """The class whose table this is; None when something is wrong with it, which is noted."""
    before = len(place.findings)
    name = str(place.path[-1])
    if not isinstance(value, dict):
        place.wrong("not a table", "write [class.NAME] in a line of its own, its keys below")
        return None
    if name == "default":
        place.wrong("the name stands for all other classes where numbers differ by class", "choose another name")
    place.read(lambda text, _: _read_name(text), name)
    found = read_table(value, place, FIELDS)
    if not any(key in CONDITIONS or key == "any" for key in value):
        place.wrong("fits every client", 'say which, for instance client_id = "sensor-*"')
    if len(place.findings) > before:
        return None
    return ClientClass(
        name,
        read_conditions(found),
        found.get("any", ()),
        found.get("priority", Priority.NORMAL),
        found.get("exempt", False),
    )


def _read_name(text: str) -> str:
    if not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}", text):
        raise BadValue("not a name for a class", f"use 1 to {MAX_NAME} letters, digits, _ and -")
    return text


def captures(one: ClientClass) -> list[str]:
    """The names of all captures of a class, in its order."""
    return [
        name
        for conditions in (one.all_of, *one.any_of)
        for key in PATTERN_KEYS
        for pattern in getattr(conditions, key)
        for name in captures_of(pattern)
    ]
