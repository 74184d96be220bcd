"""Whether a client may come in: what bans, and limits on connecting, say to one connection.

Asked three times. At accept, before a byte is read: limits that go by the address, which are charged. When CONNECT has
been read: limits that go by who the client says it is; they are only asked, as anybody may say so. When the broker has
accepted it: those again, and now they are charged.

A connection that is delayed waits in the same queues as messages do (`waiting.py`), in turn with others, and in the
room that bounds how many do (`waiting_room.py`).
"""

import secrets
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..engine.counters import REFUSED, Refusal
from ..mqtt.connack import Connack
from ..mqtt.connect import Connect
from ..mqtt.properties import Properties, PropertyId, get
from ..mqtt.reasons import ReasonCode
from ..policy.model import Action
from .bans import BY_HAND, Bans
from .notices import retry_after, whole_ms
from .ordinals import ON_DELIVER, PASS
from .waiting import NEVER, NOBODY_BEFORE, Lane, Owner, Waiting, party, places_of
from .waiting_room import Guest, WaitingRoom

if TYPE_CHECKING:
    from ..engine.binding import Subject
    from .wills import Wills

MOST_TOLD = 256
"""Connections of a worker that were refused at accept and are read all the same, so that they can be told."""

_AUTH_FAILURES = {
    5: frozenset(
        {ReasonCode.BAD_USER_NAME_OR_PASSWORD, ReasonCode.NOT_AUTHORIZED, ReasonCode.BAD_AUTHENTICATION_METHOD}
    ),
    4: frozenset({4, 5}),  # section 3.2.2.3 of MQTT 3.1.1
}


class Denial(NamedTuple):
    """What a client is told that may not come in."""

    reason: ReasonCode
    text: str
    retry_ms: int | None = None
    """Milliseconds after which it may try again; None: nobody knows."""

    @property
    def properties(self) -> Properties:
        """Those of MQTT 5, besides the reason string."""
        return [] if self.retry_ms is None else retry_after(self.retry_ms)


class Door:
    """What the admissions of a worker share."""

    def __init__(
        self,
        waiting: Waiting,
        bans: Bans,
        room: WaitingRoom,
        report: Callable[[str, str, str | None, bytes], None],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`report`: takes an offence that a limit answers with a ban: limit, client identifier, user name, address."""
        self.waiting = waiting
        self.engine = waiting.engine
        self.bans = bans
        self.room = room
        self.report = report
        self.wall_clock = wall_clock
        self.wills: Wills | None = None
        """The wills of the worker's clients, which limits may hold back."""
        self.telling = 0
        """Connections that were refused at accept and are read so that they can be told."""

    def expels(self, subject: "Subject", client_id: str, username: str | None, address: bytes) -> bool:
        """Whether a client that is in is banned by hand: whom the operator bans is to go."""
        now = self.wall_clock()
        found = self.bans.of_address(address, now), self.bans.of_client(client_id, username, address, now)
        by_hand = any(ban is not None and ban.limit == BY_HAND for ban in found)
        return by_hand and not self.engine.is_exempt(subject, True)


class Visitor(Owner, Guest, Protocol):
    """The connection that is to be admitted."""


class Admission:
    """One client's way in."""

    __slots__ = (
        "_address",
        "_began",
        "_client_id",
        "_door",
        "_is_asked",
        "_is_counted",
        "_is_late",
        "_is_observed",
        "_is_telling",
        "_listener",
        "_owner",
        "_packet",
        "_party",
        "_places",
        "_turn",
        "_username",
        "_waited",
        "deadline",
        "denial",
        "lane",
        "subject",
    )

    def __init__(self, door: Door, owner: Visitor, address: bytes, listener: bytes) -> None:
        """`address`: 4 or 16 bytes, none for a Unix socket."""
        self._door = door
        self._owner = owner
        self._address = address
        self._party = party(address)
        self._listener = listener
        self._client_id = ""
        self._username: str | None = None
        self._packet = 0
        self._is_late = False
        self._is_asked = False
        self._is_counted = False
        self._is_observed = False
        self._is_telling = False
        self._places: tuple[int, ...] = ()
        self._turn = 0
        self._began = 0.0
        self._waited = 0.0
        self.deadline = NEVER
        """Seconds of the clock by which it has waited for as long as it may."""
        self.lane: Lane | None = None
        """Where it waits."""
        self.denial = Denial(ReasonCode.UNSPECIFIED_ERROR, "")
        """Of the last action that refused it."""
        self.subject: Subject = door.engine.subject(b"", None, address, listener, 0)

    def greet(self, connect: Connect, packet: int) -> None:
        """The client says who it is, by a CONNECT of `packet` bytes: `look` goes by that from now on."""
        self._is_late = self._is_asked = True
        self._is_counted = False  # other limits are asked from now on
        self._client_id = connect.client_id
        self._username = connect.username
        self._packet = packet
        self._know(connect)

    def accept(self, connect: Connect, connack: Connack) -> str:
        """The broker has accepted it: what `look` asks is charged from now on. Its client identifier."""
        self._is_asked = self._is_observed = False
        # Section 3.2.2.3.7: the identifier is the broker's where the client leaves it to the broker.
        assigned = get(connack.properties, PropertyId.ASSIGNED_CLIENT_IDENTIFIER)
        if not self._client_id and isinstance(assigned, str) and assigned:
            self._client_id = assigned
            self._know(connect)
        return self._client_id

    def _know(self, connect: Connect) -> None:
        self.subject = self._door.engine.subject(
            self._client_id.encode(),
            None if connect.username is None else connect.username.encode(),
            self._address,
            self._listener,
            connect.version,
            connect.clean_start,
            connect.bridge,
            0 if self._client_id else secrets.randbits(64),
        )

    def look(self, now: float, late: bool = False) -> int:
        """What becomes of it: an action (policy.model.Action). PASS: it may come in; DELAY: it waits for its turn.

        For all others `denial` has the words. `late`: it has waited for as long as it may. `now` in seconds.
        """
        engine = self._door.engine
        if self._is_banned():
            self._leave(now)
            return int(Action.REJECT if self._is_late else Action.DROP)
        if late or (self.lane is None and self.is_accepted):
            turn = NOBODY_BEFORE  # whoever comes as far as CONNACK has had its turn before CONNECT went on
        else:
            turn = 0 if self.lane is None else self.lane.key
        action = engine.decide_connect(
            self.subject,
            self._is_late,
            self._packet,
            now,
            turn,
            self._is_counted,
            self._is_asked,
            self._is_asked or self._is_observed,  # once: when it is charged
        )
        self._is_observed = True
        if not self._is_asked:
            self._end_turn(now)
        if action == PASS:
            if not self._is_asked:
                self._places += places_of(engine.taken())
            elif self.lane is not None:
                self._turn = self.lane.key
            self._leave(now)
            return PASS
        self._door.waiting.wake_others()
        if action == Action.DELAY:
            self._is_counted = True
            if not late and self._wait(now):
                return action
            action = engine.then
            engine.late(self.subject, action, now)
        self._refuse(action)
        self._leave(now)
        return action

    def fail(self, connack: Connack, version: int, now: float) -> int:
        """The broker has refused it: what limits on guessing say to that."""
        self._end_turn(now)
        if connack.reason not in _AUTH_FAILURES[5 if version == 5 else 4]:
            return PASS
        action = self._door.engine.decide_failure(self.subject, now)
        if action != PASS:
            self._refuse(action)
        return action

    def broker_window(self) -> int:
        """How many unacknowledged messages the broker may send to the client (Receive Maximum); 0: as many as it likes.

        More than its limits let through, or than there is room for, would only wait here.
        """
        engine, waiting = self._door.engine, self._door.waiting
        if not engine.delays(self.subject, ON_DELIVER):
            return 0
        window = engine.window(self.subject, ON_DELIVER)
        return min(waiting.hold_messages, window) if window else waiting.hold_messages

    @property
    def waiting(self) -> Waiting:
        """All that waits in the worker."""
        return self._door.waiting

    @property
    def has_places(self) -> bool:
        """Whether it counts among the open connections of a limit, until `close`."""
        return bool(self._places)

    @property
    def is_accepted(self) -> bool:
        """Whether the broker has accepted it."""
        return self._is_late and not self._is_asked

    @property
    def is_asked(self) -> bool:
        """Whether it was let pass, or waits, without being charged: that is still to come."""
        return self._is_asked

    def tells(self) -> bool:
        """Whether this connection, refused at accept, may be read so that it can be told."""
        if self._door.telling >= MOST_TOLD:
            return False
        self._door.telling += 1
        self._is_telling = True
        return True

    def close(self, now: float) -> None:
        """The connection has ended."""
        self._leave(now)
        self._end_turn(now)
        if self._is_telling:
            self._is_telling = False
            self._door.telling -= 1
        if self._places:
            self.waiting.give_back(self._places, now)
            self._places = ()
            self.waiting.wake_others()

    def _is_banned(self) -> bool:
        door = self._door
        now = door.wall_clock()
        ban = door.bans.of_address(self._address, now)  # later too: it may have been banned meanwhile
        if ban is None and self._is_late:
            ban = door.bans.of_client(self._client_id, self._username, self._address, now)
        if ban is None or door.engine.is_exempt(self.subject, self.is_accepted):
            return False
        door.waiting.counters.add(REFUSED + Refusal.BANNED, 1)
        left = ban.until - now
        self.denial = Denial(ReasonCode.BANNED, "banned", whole_ms(left) if left < inf else None)
        return True

    def _refuse(self, action: int) -> None:
        engine = self._door.engine
        limit = engine.refused_by
        if action == Action.BAN:
            self._door.report(limit, self._client_id, self._username, self._address)
            self.denial = Denial(ReasonCode.BANNED, f"over limit {limit}: banned")
        elif engine.by_size:
            self.denial = Denial(ReasonCode.PACKET_TOO_LARGE, f"over limit {limit}: CONNECT is too large")
        elif engine.by_window:
            self.denial = Denial(ReasonCode.QUOTA_EXCEEDED, f"over limit {limit}: too many open connections")
        else:
            wait = whole_ms(engine.wait)
            text = f"over limit {limit}: retry in {wait} ms"
            self.denial = Denial(ReasonCode.CONNECTION_RATE_EXCEEDED, text, wait)

    # Waiting

    def _wait(self, now: float) -> bool:
        """Wait for what the limit lacks that has just been asked; False: there is no room."""
        engine, waiting = self._door.engine, self._door.waiting
        key, wait = engine.queue, 0.0 if engine.by_window else engine.wait
        if self.lane is not None:
            if self.lane.key == key:
                return True
            waiting.leave(self.lane, now)
        else:
            deadline = now + engine.max_delay - self._waited
            if deadline <= now or not self._door.room.enter(self._owner, self._party, now):
                return False
            self._began = now
            self.deadline = deadline
        self.lane = Lane(self._owner, self._party, key)
        waiting.join(self.lane, wait, now)
        return True

    def _end_turn(self, now: float) -> None:
        """What it was asked for in its turn has been charged, or never will be: the next may be asked."""
        if self._turn:
            self._door.waiting.wake(self._turn, now)
            self._turn = 0

    def _leave(self, now: float) -> None:
        if self.lane is None:
            return
        self._door.waiting.leave(self.lane, now)
        self._door.room.leave(self._owner, self._party)
        self.lane = None
        self._waited += now - self._began
        self.deadline = NEVER
