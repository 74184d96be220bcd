"""The upstream of a client that has gone, kept until it is known what becomes of its will.

First it is held back for `will_delay`, less what the broker itself waits (Will Delay Interval); then the will is due,
and meets its limits as a message does. Meanwhile the broker is pinged, and what it sends is read and let go. Nothing is
acknowledged, so a session that lasts has it all when its client is back.

In the end the upstream is closed: without a word, and the broker publishes the will; or behind a DISCONNECT, and it
does not.
"""

from typing import TYPE_CHECKING, Protocol

from ..engine.counters import Outcome
from ..mqtt.errors import PacketError
from ..mqtt.session import PINGREQ
from ..policy.model import Action
from .conversation import LINGER
from .guard import OWED_TIME
from .last_will import Estate
from .skim import Skim
from .waiting import GONE, NEVER, NOBODY_BEFORE, PASSED, WAITS, Lane

if TYPE_CHECKING:
    from .wills import Wills


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Do not call."""


class Transport(Protocol):
    """What is needed of the upstream's."""

    def set_protocol(self, protocol: object) -> None:
        """Tell this one from now on what happens."""

    def write(self, data: bytes) -> None:
        """Send."""

    def write_eof(self) -> None:
        """Close our half of it."""

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""

    def abort(self) -> None:
        """Close it at once."""


class Kept:
    """See the module's text. An asyncio.Protocol in all but its base class, as a relay is. `now` is in seconds."""

    def __init__(self, wills: "Wills", estate: Estate, transport: Transport) -> None:
        self.will = estate.will
        self.will.owner = self
        assert self.will.subject is not None
        self.subject = self.will.subject
        self._wills = wills
        self._estate = estate
        self._transport: Transport | None = transport
        self._guard = estate.guard
        self._skim: Skim | None = None
        self._timer: Timer | None = None
        self._began = 0.0
        self._last_upstream = estate.last_upstream
        self._until = 0.0
        """When the will is due; once it is, when it has waited for as long as it may."""
        self._has_place = False
        self._is_due = False
        self._is_over = False
        """What becomes of the will is decided: the end of the upstream is waited for."""
        self._lane: Lane | None = None
        self._slot = -1
        self._due_since = 0.0

    def begin(self, now: float) -> None:
        """The client has gone."""
        self._began = now
        if self._guard is not None and self._guard.windows is not None and self._estate.may_speak:
            # What it has in flight is finished when the broker has read it all: then it answers a ping.
            self._skim = Skim(self._estate.left, self._estate.tail, self._estate.pings + 1)
            self._ping(now)
        else:
            self._free(now)
        self.reconsider(now)

    def reconsider(self, now: float) -> None:
        """The policy may be another: ask how long the will is held back."""
        if self._is_due or self._is_over:
            return
        wait = self._wills.delay(self.will, self.subject) - self.will.patience
        self._until = self._began + max(0.0, wait)
        if self._until <= now or not self._take_place(now):
            self._decide(now, late=self._until > now)
        if not self._is_over:
            self._plan(now)

    def _take_place(self, now: float) -> bool:
        """Be one of those that wait; False when there is no room."""
        if not self._has_place:
            self._has_place = self._wills.places.enter(self, self.will.party, now)
        return self._has_place

    # Its turn

    def serve(self, lane: Lane, now: float) -> int:
        """The turn of this will, which waits in `lane`: PASSED, WAITS or GONE."""
        if self._lane is not lane:
            return GONE
        outcome = self._decide(now)
        return GONE if outcome == WAITS and self._lane is not lane else outcome

    def turn_away(self, now: float) -> None:
        """There is no room to hold it back any longer."""
        self._decide(now, late=True)

    def flush(self) -> None:
        """All that is to be written is."""

    def holds(self) -> int:
        """Bytes that it has waiting."""
        return 0

    def cut(self) -> None:
        """It holds nothing that could be full."""

    def _decide(self, now: float, late: bool = False) -> int:
        """The will is due: PASSED, WAITS or GONE. `late`: it has waited for as long as it may."""
        if self._is_over:
            return GONE
        if not self._is_due:
            self._is_due = True
            self._due_since = now
        wills, will = self._wills, self.will
        turn = NOBODY_BEFORE if late else 0 if self._lane is None else self._lane.key
        action = wills.engine.decide_will(
            self.subject, will.topic, will.qos, will.retain, will.packet, will.payload, now, turn, self._slot >= 0
        )
        if action == Action.DELAY:
            if not late and self._wait(now):
                return WAITS
            action = wills.engine.then
            wills.engine.late(self.subject, action, now)
        if action == Action.DROP and self._estate.may_speak:
            self._dismiss(Outcome.DROPPED, now)
            return GONE
        self._publish(now)
        return GONE if action else PASSED

    def _wait(self, now: float) -> bool:
        """Wait for what the limit lacks that has just been asked; False: there is no room, or no time."""
        engine, waiting = self._wills.engine, self._wills.waiting
        if self._lane is not None and self._lane.key == engine.queue:
            return True
        if self._slot < 0:
            self._slot = engine.slot
            self._until = now + engine.max_delay
        key, wait = engine.queue, engine.wait
        if self._until <= now or not self._take_place(now):
            return False
        self._leave_lane(now)
        self._lane = Lane(self, self.will.party, key)
        waiting.join(self._lane, wait, now)
        self._plan(now)
        return True

    def _leave_lane(self, now: float) -> None:
        if self._lane is not None:
            self._wills.waiting.leave(self._lane, now)
            self._lane = None

    # The end

    def make_way(self, now: float) -> None:
        """The client has come again: it was never gone."""
        if not self._is_over and self._estate.may_speak:
            self._dismiss(Outcome.RETURNED, now)
        else:
            self._publish(now)

    def shut_down(self) -> None:
        """The gateway is ending."""
        self._publish(self._wills.clock())

    def _dismiss(self, outcome: Outcome, now: float) -> None:
        """Have the broker forget the will."""
        self._write(self.will.farewell(), now)
        self._close(outcome, now)

    def _publish(self, now: float) -> None:
        """Have the broker publish it."""
        if not self._is_over:
            if self._estate.disconnect and self._estate.may_speak:
                self._write(self._estate.disconnect, now)
            self._close(Outcome.PUBLISHED, now)

    def _close(self, outcome: Outcome, now: float) -> None:
        """Half-close: the broker reads all that was sent, and then the end. After LINGER the rest is cut off."""
        self._is_over = True
        self._wills.count(outcome)
        self._stop_waiting(now)
        if self._transport is not None:
            if not self._transport.is_closing():
                self._transport.write_eof()
            self._timer = self._wills.call_at(now + LINGER, self._cut)

    def _stop_waiting(self, now: float) -> None:
        if self._lane is not None:
            self._wills.counters.delayed(self._slot, self.subject.first_class, now - self._due_since)
            self._leave_lane(now)
        if self._has_place:
            self._has_place = False
            self._wills.places.leave(self, self.will.party)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self) -> None:
        self._timer = None
        if self._transport is not None:
            self._transport.abort()

    # The broker's transport

    def data_received(self, data: bytes) -> None:
        """The broker has sent what nobody will read."""
        if self._skim is not None:
            try:
                is_done = self._skim.feed(data)
            except PacketError:
                is_done = True
            if is_done:
                self._free(self._wills.clock())

    def eof_received(self) -> bool:
        """The broker has closed its half: the loop closes the other."""
        return False

    def pause_writing(self) -> None:
        """The broker does not take what is written to it."""

    def resume_writing(self) -> None:
        """It does again."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The upstream is closed."""
        now = self._wills.clock()
        self._transport = None
        if not self._is_over:
            self._is_over = True
            self._wills.count(Outcome.LOST)
        self._stop_waiting(now)
        self._free(now)
        self._wills.let_go(self)
        self._wills.gone(self.will)

    def _free(self, now: float) -> None:
        """The client has nothing in flight any more."""
        guard, self._guard, self._skim = self._guard, None, None
        if guard is not None:
            guard.close(now)

    # The clock

    def _write(self, data: bytes, now: float) -> None:
        if self._transport is not None:
            self._transport.write(data)
            self._last_upstream = now

    def _ping(self, now: float) -> None:
        self._write(PINGREQ, now)

    def _plan(self, now: float) -> None:
        """Set the timer to the next that is due."""
        at = self._until
        if self._guard is not None:
            at = min(at, self._began + OWED_TIME)
        if self._estate.keepalive and self._estate.may_speak:
            at = min(at, self._last_upstream + 0.75 * self._estate.keepalive)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if at == NEVER else self._wills.call_at(max(at, now), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._wills.clock()
        if self._guard is not None and now >= self._began + OWED_TIME:
            self._free(now)
        if now >= self._until:
            self._decide(now, late=self._is_due)
        if self._is_over:
            return
        keepalive = self._estate.keepalive
        if keepalive and self._estate.may_speak and now >= self._last_upstream + 0.75 * keepalive:
            self._ping(now)
        self._plan(now)
