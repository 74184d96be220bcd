"""Tables that are read key by key, so that each mistake has its own place and hides no other."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from .problems import BadValue, Finding, Path, UnknownKey
from .words import instead_of_key, instead_of_value

MAX_VALUES = 1000
"""Values of one key: each client is compared with them when it connects."""
MAX_NAME = 64
"""Characters of a name."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known:
    """What the rest of the file defines; None where that is wrong itself, so that nothing can be said against it."""

    listeners: tuple[str, ...] | None = None
    """`gateway.listen` as text."""
    classes: tuple[str, ...] | None = ()
    """All that have a table, be it wrong."""
    captures: tuple[str, ...] | None = ()
    """Of all classes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands, and what has been found wrong, there and elsewhere."""

    known: Known
    path: Path = ()
    findings: list[Finding] = field(default_factory=list)

    def at(self, *parts: str | int) -> "Place":
        """A place below this one."""
        return Place(self.known, (*self.path, *parts), self.findings)

    def wrong(self, text: str, fix: str | Callable[[], str]) -> None:
        """Note what is wrong here."""
        self.findings.append((self.path, BadValue(text, fix)))

    def read(self, read: "Reader", value: object, otherwise: Any = None) -> Any:
        """The value as read; `otherwise` when it is wrong, which is noted."""
        try:
            return read(value, self)
        except BadValue as error:
            self.findings.append((self.path, error))
            return otherwise


Reader = Callable[[Any, Place], Any]
"""Reads a value; raises BadValue for the whole of it, and notes what is wrong with its parts."""


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a table: the one source of how it is read and documented."""

    read: Reader
    kind: str
    """What may be written."""
    absent: str
    """What its absence means."""
    description: str
    example: object


def read_table(value: Mapping[str, object], place: Place, fields: Mapping[str, Field]) -> dict[str, Any]:
    """What a table says, by key; keys that are wrong or unknown are noted and left out."""
    found = {}
    for key, item in value.items():
        here = place.at(key)
        if key not in fields:
            here.findings.append((here.path, UnknownKey(fields)))
            continue
        before = len(here.findings)
        read = here.read(fields[key].read, item)
        if len(here.findings) == before:
            found[key] = read
    return found


def plain(read: Callable[[object], Any]) -> Reader:
    """A reader of values that have no parts."""
    return lambda value, place: read(value)


def choice(choices: Mapping[str, T]) -> Callable[[object], T]:
    """Reads one of the words."""

    def read(value: object) -> T:
        if not isinstance(value, str) or value not in choices:
            raise BadValue("unknown value", partial(instead_of_value, value, tuple(choices)))
        return choices[value]

    return read


def one_or_more(read: Reader) -> Reader:
    """Reads one value or a list of them, as a tuple without repetitions."""

    def read_all(value: object, place: Place) -> tuple[Any, ...]:
        if not isinstance(value, list):
            return (read(value, place),)
        if not 1 <= len(value) <= MAX_VALUES:
            raise BadValue(f"{len(value)} values", f"name 1 to {MAX_VALUES}")
        return tuple(dict.fromkeys(place.at(number).read(read, item) for number, item in enumerate(value)))

    return read_all


def elements(value: object) -> list[tuple[Path, object]]:
    """One value or a list of them: each, and its place below the key."""
    return [((number,), item) for number, item in enumerate(value)] if isinstance(value, list) else [((), value)]


def read_bool(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise BadValue("neither true nor false", "write true or false, without quotes")
    return value


def read_label(value: object) -> str:
    """A name that can be a metric's label, an event's name and a key of a table."""
    if not isinstance(value, str):
        raise BadValue("not a name", 'write text, for instance "flood"')
    if not re.fullmatch(rf"[A-Za-z0-9_.-]{{1,{MAX_NAME}}}", value):
        raise BadValue("not a name", f"use 1 to {MAX_NAME} letters, digits, _, . and -")
    return value


def check_class(name: str, known: Known) -> None:
    """Raise BadValue when there is no such class."""
    if known.classes is None or name in known.classes:
        return
    fix = partial(instead_of_key, name, known.classes) if known.classes else "define it: [class.NAME], its keys below"
    raise BadValue(f"there is no [class.{name[:MAX_NAME]}]", fix)
