"""The wills of a worker that are held back, and the clients who return before they are due.

A client whose will a limit may hold back is entered from the moment that its CONNECT goes on until the broker has ended
its upstream, so that it is found wherever it comes back, however fast: in this worker by its key, in another by what
`presence.py` says and a question through `post.py`. Whoever returns waits with his CONNECT until the broker has ended
the upstream by a DISCONNECT, which publishes no will; Mosquitto would publish it when it takes the session over.
Only who brings the same user name and password is taken for the one who returns. All others are the broker's affair.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from hmac import compare_digest
from typing import TYPE_CHECKING, Protocol

from ..engine.counters import WILLS, WILLS_HELD, Counters, Outcome
from ..mqtt.connect import Connect
from .kept import Kept, Timer, Transport
from .last_will import Claim, Estate, LastWill
from .last_will import Owner as Former
from .ordinals import ON_WILL
from .post import ANSWER, ASK, Note, Post
from .presence import Presence
from .room import Room
from .waiting import Waiting
from .waiting_room import WaitingRoom

if TYPE_CHECKING:
    from ..engine.binding import Subject

MOST_KEPT = 1_000
"""Upstreams that one worker keeps of clients that have gone, and a quarter of those that it has room for at most."""
RETURN_TIME = 2.0
"""Seconds that a client who returns waits for the end of his former connection, at most: then the broker decides."""
LOOK = 0.05
"""Seconds between two looks at whether the workers that were asked still live."""


class Returner(Former, Protocol):
    """The connection of a client that has come."""

    def former_ended(self, now: float) -> None:
        """The broker has ended all former ones."""


class Search:
    """The former connections of one client that comes, until the broker has ended them."""

    def __init__(self, wills: "Wills", owner: Returner, claim: Claim, now: float) -> None:
        self.until = now + RETURN_TIME
        """When it is given up."""
        self._wills = wills
        self._owner = owner
        self._is_open = False
        """Its owner waits for it."""
        self._claim = claim
        self._ticket = secrets.token_bytes(8)
        self._here = 0
        """In this worker."""
        self._asked: dict[int, bool] = {}
        """By worker, whether it has been asked: its pipe may be full."""

    def begin(self, now: float) -> bool:
        """Have them end; False when there are none."""
        former = self._wills.of(self._claim)
        self._here = len(former)
        self._asked = dict.fromkeys(self._wills.presence.others(self._claim.key), False)
        if self._asked:
            self._wills.searches[self._ticket] = self
            self._ask()
        for will in former:
            will.waiters.append(self._ended_here)
        for will in former:
            self._wills.make_way(will, now)
        self._is_open = not self.is_over
        return self._is_open

    @property
    def is_over(self) -> bool:
        """Whether there are none any more."""
        return not self._here and not self._asked

    def look(self, now: float) -> bool:
        """Ask again whom could not be asked, forget workers that have died; whether it is over."""
        there = self._wills.presence.others(self._claim.key)
        self._asked = {row: asked for row, asked in self._asked.items() if row in there}
        self._ask()
        return self.is_over or now >= self.until

    def _ended_here(self, now: float) -> None:
        self._here -= 1
        self._tell(now)

    def answered(self, row: int, now: float) -> None:
        """A worker has none, or none any more."""
        self._asked.pop(row, None)
        self._tell(now)

    def close(self) -> None:
        """It is not waited for any longer."""
        self._wills.searches.pop(self._ticket, None)
        self._is_open = False

    def _ask(self) -> None:
        question = Note(ASK, self._wills.row, self._ticket, self._claim.since, self._claim.key, self._claim.identity)
        for row, asked in self._asked.items():
            if not asked:
                self._asked[row] = self._wills.post.send(row, question)

    def _tell(self, now: float) -> None:
        if self._is_open and self.is_over:
            self.close()
            self._owner.former_ended(now)
            self._owner.flush()


class Wills:
    """See the module's text. `now` is in seconds."""

    def __init__(
        self,
        waiting: Waiting,
        presence: Presence,
        post: Post,
        row: int,
        secret: bytes,
        room: Room,
        call_at: Callable[[float, Callable[[], None]], Timer],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`secret`: what all workers have; `call_at`: the event loop's."""
        self.waiting = waiting
        self.engine = waiting.engine
        self.counters: Counters = waiting.counters
        self.presence = presence
        self.post = post
        self.row = row
        self.clock = clock
        self.call_at = call_at
        self.room = room
        self.places = WaitingRoom(min(MOST_KEPT, room.most // 4), self.counters, WILLS_HELD)
        self.kept: dict[Kept, None] = {}
        self.searches: dict[bytes, Search] = {}
        self._secret = secret
        self._entered: dict[bytes, list[LastWill]] = {}
        self._last = 0
        """When the last client came, in nanoseconds."""
        self._is_closing = False

    # Who comes

    def greet(
        self, connect: Connect, subject: "Subject", owner: Returner, address: bytes, now: float
    ) -> tuple[LastWill | None, Search | None]:
        """The will of a client whose CONNECT is about to go on, if limits concern it, and its former connections.

        `subject` is the client as it says that it is.
        """
        message = connect.will
        if message is not None and not self.engine.meets(subject, ON_WILL):
            message = None
        if message is None and self.presence.is_empty:
            return None, None
        claim = self._claim(connect, now)
        will = None
        if message is not None:
            will = LastWill(owner, claim, connect, message, address)
            if self.delay(will, subject) > 0.0 or self.engine.delays(subject, ON_WILL):
                self.enter(will)
        if not claim.key or not claim.identity or self.presence.is_empty:
            return will, None
        search = Search(self, owner, claim, now)
        return will, search if search.begin(now) else None

    def assign(self, will: LastWill, client_id: str) -> None:
        """The broker has given the client this identifier: by it, it may return."""
        if will.claim.key or not client_id:
            return
        assert will.subject is not None
        will.claim = will.claim._replace(key=self._hash(b"id", client_id.encode())[:16])
        if self.delay(will, will.subject) > 0.0 or self.engine.delays(will.subject, ON_WILL):
            self.enter(will)

    def delay(self, will: LastWill, subject: "Subject") -> float:
        """Seconds that the limits hold back this will."""
        return self.engine.will_delay(subject, will.topic, will.qos, will.retain)

    def enter(self, will: LastWill) -> None:
        """Have it found by its client, if that can be known again."""
        if will.claim.key and will.claim.identity:
            will.is_entered = True
            self._entered.setdefault(will.claim.key, []).append(will)
            self.presence.enter(will.claim.key)

    def gone(self, will: LastWill) -> None:
        """The broker has ended its upstream."""
        now = self.clock()
        will.owner = None
        if will.is_entered:
            will.is_entered = False
            own = self._entered[will.claim.key]
            own.remove(will)
            if not own:
                del self._entered[will.claim.key]
            self.presence.leave(will.claim.key)
        waiters, will.waiters = will.waiters, []
        for call in waiters:
            call(now)

    def of(self, claim: Claim) -> list[LastWill]:
        """The former connections of this client in this worker."""
        return [
            will
            for will in self._entered.get(claim.key, ())
            if will.claim.since < claim.since and compare_digest(will.claim.identity, claim.identity)
        ]

    def make_way(self, will: LastWill, now: float) -> None:
        """Its client has come again."""
        owner = will.owner
        if owner is not None:
            owner.make_way(now)
            owner.flush()

    def receive(self) -> None:
        """Other workers have asked, or answered."""
        now = self.clock()
        for note in self.post.receive():
            if note.kind == ASK:
                self._answer(note, now)
            elif (search := self.searches.get(note.ticket)) is not None:
                search.answered(note.row, now)

    def _answer(self, note: Note, now: float) -> None:
        """End what the client of another worker has here, and say so then. (A pipe that is full: its client waits.)"""
        former = self.of(Claim(note.key, note.identity, note.since))
        answer = Note(ANSWER, self.row, note.ticket)
        if not former:
            self.post.send(note.row, answer)
            return
        left = len(former)

        def ended(_: float) -> None:
            nonlocal left
            left -= 1
            if not left:
                self.post.send(note.row, answer)

        for will in former:
            will.waiters.append(ended)
        for will in former:
            self.make_way(will, now)

    def _claim(self, connect: Connect, now: float) -> Claim:
        self._last = max(self._last + 1, int(now * 1e9))
        key = self._hash(b"id", connect.client_id.encode())[:16] if connect.client_id else b""
        identity = b""
        if connect.authentication_method is None:
            user = b"" if connect.username is None else b"u" + connect.username.encode()
            password = b"" if connect.password is None else b"p" + connect.password
            identity = self._hash(b"who", len(user).to_bytes(4) + user + password)
        return Claim(key, identity, self._last)

    def _hash(self, purpose: bytes, data: bytes) -> bytes:
        return hashlib.blake2b(data, digest_size=32, key=self._secret, person=purpose).digest()

    # Who goes

    def count(self, outcome: Outcome) -> None:
        """Another will has come to this."""
        self.counters.add(WILLS + outcome, 1)

    def keep(self, estate: Estate, transport: Transport) -> None:
        """A client has gone: its upstream is kept until it is known what becomes of its will."""
        kept = Kept(self, estate, transport)
        self.kept[kept] = None
        self.room.keep()
        transport.set_protocol(kept)
        kept.begin(self.clock())
        if self._is_closing:
            kept.shut_down()

    def let_go(self, kept: Kept) -> None:
        """The broker has ended it."""
        del self.kept[kept]
        self.room.let_go()

    def reconsider(self, now: float) -> None:
        """There is another policy."""
        for kept in list(self.kept):
            kept.reconsider(now)

    def close(self) -> list[Kept]:
        """The gateway is ending: keep none any more. Those that are kept, to be shut down."""
        self._is_closing = True
        return list(self.kept)
