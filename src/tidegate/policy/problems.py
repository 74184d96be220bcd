"""What can be wrong with a configuration, said so that a person can mend it at once."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time

MAX_PROBLEMS = 100
"""Problems told at a time: a file with more is the wrong file, or has the same mistake everywhere."""

_SHOWN = 80
"""Characters shown of one value: with place and key, it still fits two lines of a terminal."""
_SECRET = re.compile(r"(?:passw(?:or)?d|passphrase|secret|token|credentials?|(?:^|[_-])key)\"?$", re.IGNORECASE)
_BARE = re.compile(r"[A-Za-z0-9_-]+")

Path = tuple[str | int, ...]
"""Where a value stands in a document: names of keys, and numbers of elements from 0."""


class BadValue(ValueError):
    """A value that does not do: `text` says why, `fix` what to write instead.

    A fix that takes long to find is given as a function: most of very many mistakes are never told.
    """

    def __init__(self, text: str, fix: str | Callable[[], str]) -> None:
        super().__init__(text)
        self.text = text
        self._fix = fix

    def __str__(self) -> str:
        return f"{self.text}; {self.fix}"

    @property
    def fix(self) -> str:
        """What to write instead."""
        return self._fix if isinstance(self._fix, str) else self._fix()


class UnknownKey(BadValue):
    """A key that its table does not have; `known` are those that it has."""

    def __init__(self, known: Iterable[str]) -> None:
        self.known = tuple(known)
        super().__init__("unknown key", f"known are {', '.join(self.known)}")


Finding = tuple[Path, BadValue]
"""The key to complain about, and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `str()` is its line, which shows no secret and no control character."""

    file: str
    line: int
    """From 1; 0 where no file is to blame."""
    key: str
    """As `name` writes it; empty where the file itself is the problem."""
    value: object | None = field(repr=False)
    """What the file gives the key; None where it is absent or does not matter."""
    text: str
    fix: str

    def __str__(self) -> str:
        place = f"{printable(self.file)}:{self.line}" if self.line else printable(self.file)
        what = f"{self.key}: " if self.key else ""
        if self.value is not None:
            hidden = _SECRET.search(self.key) is not None
            what = f"{self.key} = {'***' if hidden else show(self.value)}: "
        return f"{place}: {what}{self.text}; {self.fix}"


class SettingsError(Exception):
    """The configuration cannot be used. Its text is a line for each problem, in the file's order."""

    def __init__(self, problems: Iterable[Problem], untold: int = 0) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        self.untold = untold
        """Problems left out beyond MAX_PROBLEMS."""
        lines = [str(problem) for problem in self.problems]
        if untold:
            lines.append(f"and {untold} more: mend these first")
        super().__init__("\n".join(lines))


def name(path: Path) -> str:
    """The key as TOML writes it, without numbers of elements: `gateway.listen`."""
    parts = (part for part in path if isinstance(part, str))
    return ".".join(part if _BARE.fullmatch(part) and len(part) <= _SHOWN else show(part) for part in parts)


def show(value: object) -> str:
    """A value nearly as TOML writes it: one line, shortened, without the password of an address."""
    if isinstance(value, str):
        return printable(json.dumps(_short(_without_userinfo(value)), ensure_ascii=False))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 64:  # TOML has none; Python refuses to write the longest
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, list):
        return _short(f"[{', '.join(show(item) for item in value[:_SHOWN])}]")
    if isinstance(value, dict):
        return "{…}"
    return str(value)


def printable(text: str) -> str:
    """The text with whatever a terminal might obey, or not show, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _without_userinfo(text: str) -> str:
    """User and password of an address hidden; an @ in the path of a Unix socket stands behind a slash."""
    before, at, behind = text.rpartition("@")
    scheme, separator, _ = before.partition("://")
    if at and separator:
        return f"{scheme}://***@{behind}"
    return f"***@{behind}" if ":" in before and "/" not in before else text


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
