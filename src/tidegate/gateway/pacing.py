"""Every packet of the client: what limits on packets say to it, and how its client waits for its turn.

Who has to wait is left unread from that packet on: nothing is kept of it but what one read brought, and the network
holds up the rest. What the broker sends it meanwhile reaches it all the same.

DISCONNECT is never decided: who leaves floods no longer. Of a PUBLISH it is said before what limits on publish say.
"""

from ..engine.counters import Counters
from ..mqtt.reasons import ReasonCode
from .bounds import Bounds
from .delaying import Delaying
from .ordinals import DELAY, ON_PACKET
from .states import Event
from .turn import Turn
from .waiting import GONE, NOBODY_BEFORE, PASSED, WAITS

LOOK = 1.0
"""Seconds between two looks at a client that is left unread: whether it is still there."""


class Pacing(Delaying):
    """See the module's text."""

    def _begin(self, counters: Counters, bounds: Bounds, now: float) -> None:
        Delaying._begin(self, counters, bounds, now)
        self.client_gone = False
        """Set by the driver before a `tick`: the client, which is not read, has closed its socket."""
        self._paced_by = -1
        """The generation of the policy that `_is_paced` goes by."""
        self._is_paced = False
        """Limits on packets can meet this client."""
        self._is_paid = False
        """The first packet that will be read has been charged, though it has come no further."""
        self._gone_by = 0.0
        """When a client that has closed its socket is given up, whatever it has sent; 0: it has not closed it."""

    def _find_packet_limits(self) -> None:
        """There is another policy: whether it has limits on packets for this client."""
        guard = self._guard
        assert guard is not None
        self._paced_by = guard.engine.generation
        self._is_paced = guard.engine.meets(guard.subject, ON_PACKET)

    def _pay(self, data: bytes, at: int, size: int) -> bool:
        """Charge the packet of `size` bytes at `at`: whether it may go on; else it waits, or all has ended."""
        guard = self._guard
        assert guard is not None
        action = guard.engine.decide_packet(guard.subject, size, self._now)
        if action == 0:
            self._is_paid = True
        elif action == DELAY:
            self._queue_packet(data, at, size)
        else:
            self.overstep(action, ReasonCode.MESSAGE_RATE_TOO_HIGH, guard.reason("packet"))
        return action == 0

    def _queue_packet(self, data: bytes, at: int, size: int) -> None:
        """Leave the packet at `at` and all behind it unread until its turn has come."""
        guard = self._guard
        assert guard is not None
        engine = guard.engine
        # The client's pings wait behind it: no longer than half of its keepalive.
        patience = min(engine.max_delay, self._keepalive / 2) if self._keepalive else engine.max_delay
        turn = self._turn = Turn(guard.waiting, self, self._address, size, engine.slot, self._now, patience)
        self._last_client = self._now  # what has come is a sign of life
        self._held = data
        self._held_at = at
        self._is_parked = True
        self._set_reading()
        if guard.notices is not None:
            self._tell_client(guard.notice(DELAY, b"", self._now))
        self._wake_by(min(turn.deadline, self._now + LOOK))
        turn.queue(engine.queue, engine.wait, self._now)
        turn.keep(len(data) - at)

    def serve_packet(self, now: float) -> int:
        """Try the packet that waits, whose turn it is: PASSED, WAITS or GONE."""
        self._now = now
        guard = self._guard
        turn = self._turn
        if guard is None or turn is None or turn.lane is None:
            return GONE
        engine = guard.engine
        action = engine.decide_packet(guard.subject, turn.size, now, turn.lane.key, True)
        if action == DELAY:
            return GONE if turn.queue(engine.queue, engine.wait, now) else WAITS
        self._had_turn(action)
        return GONE if action else PASSED

    def _had_turn(self, action: int) -> None:
        """The packet that has waited goes on, or ends the connection."""
        guard = self._guard
        turn = self._turn
        assert guard is not None
        assert turn is not None
        if turn.slot >= 0:
            self.counters.delayed(turn.slot, guard.subject.first_class, self._now - turn.began)
        self._end_turn()
        if action:
            self.overstep(action, ReasonCode.MESSAGE_RATE_TOO_HIGH, guard.reason("packet"))
        else:
            self._is_paid = True
            self._ask_to_resume()

    def _look_after_turn(self) -> None:
        """A packet waits: give it up when it has for too long, and its client when that has gone."""
        guard = self._guard
        turn = self._turn
        assert guard is not None
        assert turn is not None
        engine = guard.engine
        if turn.deadline <= self._now:
            action = engine.decide_packet(guard.subject, turn.size, self._now, NOBODY_BEFORE, True)
            if action == DELAY:
                action = engine.then
                if action == DELAY:  # nobody is thrown out for what his neighbours did, with whom he is counted
                    turn.deadline = self._now + turn.patience
                    self._last_client = self._now
                    return
                engine.late(guard.subject, action, self._now)
            self._had_turn(action)
        elif self.client_gone and self._gone_by == 0.0:
            self._gone_by = self._now + turn.patience
        elif self.client_gone and self._gone_by <= self._now:
            self._end(Event.CLIENT_GONE)

    def _end_turn(self) -> None:
        turn = self._turn
        self._turn = None
        if turn is not None:
            turn.end(self._now)

    # How it ends

    def _leave(self, event: Event) -> None:
        self._end_turn()
        Delaying._leave(self, event)

    def _end(self, event: Event) -> None:
        self._end_turn()
        Delaying._end(self, event)
