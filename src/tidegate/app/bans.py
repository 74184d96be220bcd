"""`tidegate ban`: bans by hand, with a gateway that runs or without; and how that gateway answers.

The commands change the file of bans under its lock. A gateway that runs is told by SIGUSR1, takes the file over, and
writes an answer into the state directory once all workers go by it.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Self

from ..gateway.ban_book import BY_HAND, MAX_NOTE, MOST, BanBook, Entry
from ..gateway.ban_file import BanFile, BanFileError
from ..gateway.state import StateDir, StateDirError
from ..policy.ban_keys import BanKey, read_key
from ..policy.classes import captures
from ..policy.model import ClientClass, Conditions
from ..policy.patterns import first_fit
from ..policy.problems import BadValue
from ..policy.settings import Settings

ANSWER = "bans.answer.json"
PATIENCE = 10.0
"""Seconds that a command waits for the gateway's answer: 10,000 bans are in force within one."""
_POLL = 0.01
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass(frozen=True)
class Answer:
    """What became of the gateway's last look at the file."""

    pid: int
    began: float
    """When it began, in seconds of the monotonic clock: later ones have read later files."""
    problem: str
    """Why what the file says is not in force; empty when it is."""

    @classmethod
    def read(cls, state_dir: Path) -> Self | None:
        """The answer in a state directory; None while there is none that can be read."""
        try:
            return cls(**json.loads((state_dir / ANSWER).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, state_dir: Path) -> None:
        """Put it where `read` finds it, at once or not at all. OSError."""
        draft = state_dir / f"{ANSWER}.new"
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(state_dir / ANSWER)


class NotDone(Exception):
    """It could not be done, or not be seen to the end; the text says what, why, and what to do."""


@dataclass(frozen=True)
class Done:
    """What a command has changed."""

    entries: list[Entry]
    """The bans that it added, or that it took out."""
    notes: list[str]
    """What is doubtful."""
    pid: int | None
    """The gateway that goes by it now; None when none runs."""


def key_from(
    ip: str | None, client_id: str | None, username: str | None, anonymous: bool, pairs: Sequence[str]
) -> BanKey:
    """The key that the options name; `pairs`: NAME=VALUE of captures. BadValue names the part that is wrong."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadValue(f"captures: {name!r} has no value", "write NAME=VALUE, for instance tenant=acme")
        if name in found:
            raise BadValue(f"captures: {name} has two values", "write it once: all that is given must fit")
        found[name] = value
    parts = {"ip": ip, "client_id": client_id, "username": username, "anonymous": anonymous, "captures": found}
    return read_key({name: part for name, part in parts.items() if part is not None})


def listed(settings: Settings, now: float) -> tuple[list[Entry], str]:
    """The bans in force, the oldest first, and what of the file could not be read. NotDone when none of it could."""
    try:
        found = BanFile(settings.gateway.state_dir).read()
    except BanFileError as error:
        raise NotDone(str(error)) from error
    return sorted(BanBook(found.entries).active(now), key=lambda entry: entry.since), found.problem


def add(settings: Settings, key: BanKey, seconds: float, note: str, now: float) -> Done:
    """Ban this key for so long (math.inf: for ever), in the place of an earlier ban by hand of the same key.

    BadValue for a note that is too long; NotDone.
    """
    if len(note) > MAX_NOTE:
        raise BadValue(f"note: {len(note)} characters", f"write at most {MAX_NOTE}")
    entry = Entry(key, BY_HAND, now, now + seconds, forget=now + seconds, note=note)

    def change(book: BanBook) -> list[Entry]:
        book.put(entry)
        book.trim(now)
        if len(book) > MOST:
            raise NotDone(f"there are {MOST} bans by hand already; remove some, or ban whole networks")
        return [entry]

    return _change(settings, change, [*_doubts(settings, key)])


def remove(settings: Settings, key: BanKey | None) -> Done:
    """Lift all bans of this key, of whatever limit, None: all there are; how often they were is forgotten. NotDone."""

    def change(book: BanBook) -> list[Entry]:
        gone = book.remove(key)
        if not gone and key is not None:
            raise NotDone(f"there is no ban of {key}; tidegate ban list shows those there are")
        return gone

    return _change(settings, change, [])


def _change(settings: Settings, change: Callable[[BanBook], list[Entry]], notes: list[str]) -> Done:
    file = BanFile(settings.gateway.state_dir)
    try:
        with file.locked():
            found = file.read()
            book = BanBook(found.entries)
            entries = change(book)
            if found.problem:
                notes = [f"{found.problem}; it is kept as {file.set_aside()}", *notes]
            file.write(book)
    except BanFileError as error:
        raise NotDone(str(error)) from error
    return Done(entries, notes, _have_read(file))


def _have_read(file: BanFile) -> int | None:
    """Have the gateway of this directory take the file over: its pid, once it has; None when there is none."""
    state_dir = file.path.parent
    written = f"{file.path} is written, but"
    try:
        owner = StateDir(state_dir).owner()
    except StateDirError as error:
        raise NotDone(f"{written} {error.text}; run this as the gateway's user") from error
    if owner is None:  # nobody, or one that has yet to read the file for the first time
        return None
    asked = time.monotonic()
    try:
        os.kill(owner.pid, signal.SIGUSR1)
    except ProcessLookupError:
        return None
    except OSError as error:
        raise NotDone(f"{written} pid {owner.pid} cannot be told: {error.strerror}; run this as its user") from error
    while time.monotonic() < asked + PATIENCE:
        answer = Answer.read(state_dir)
        if answer is not None and answer.pid == owner.pid and answer.began >= asked:
            if answer.problem:
                raise NotDone(f"{written} the gateway (pid {owner.pid}) does not go by it: {answer.problem}")
            return owner.pid
        if StateDir(state_dir).owner() != owner:  # it has ended; one that has come since has read the file
            return None
        time.sleep(_POLL)
    raise NotDone(f"{written} the gateway (pid {owner.pid}) does not answer within {PATIENCE:g} s; look into its log")


# What is doubtful


def _doubts(settings: Settings, key: BanKey) -> Iterator[str]:
    """What may not be as the operator means it. A ban by hand is done all the same."""
    classes = settings.policy.classes
    for one in classes:
        if one.exempt and _meant(one, key):
            yield f"[class.{one.name}] is exempt: whom of it this names is not kept out"
    if key.is_address and (key.is_unix or any(_overlap(key, network) for network in _LOOPBACK)):
        yield "this covers what connects from this machine itself, unless it is exempt"
    known = {name for one in classes for name in captures(one)}
    for name, _ in key.captures:
        if name not in known:
            yield f"no class captures {{{name}}}: nobody is kept out, until one does"


def _meant(one: ClientClass, key: BanKey) -> bool:
    """Whether the key names clients of a class by something that the class asks for."""
    looks = [_look(one.all_of, key), *([max(_look(group, key) for group in one.any_of)] if one.any_of else [])]
    return min(looks) >= 0 and max(looks) > 0


def _look(conditions: Conditions, key: BanKey) -> int:
    """-1 when they shut the key out, 1 when they ask for it, 0 when they have to do with something else."""
    looks = [
        _verdict(first_fit(patterns, text) is not None)
        for patterns, text in ((conditions.client_id, key.client_id), (conditions.username, key.username))
        if patterns and text is not None
    ]
    if conditions.username and key.is_anonymous:
        looks.append(-1)
    if conditions.cidr and (key.network is not None or key.is_unix):
        looks.append(_verdict(any(_overlap(key, network) for network in conditions.cidr)))
    return min(looks, default=0)


def _verdict(fits: bool) -> int:
    return 1 if fits else -1


def _overlap(key: BanKey, network: IPv4Network | IPv6Network) -> bool:
    return key.network is not None and key.network.version == network.version and key.network.overlaps(network)
