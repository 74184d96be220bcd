"""What a connection does by the clock: when it looks again, whom it gives up, how it keeps the broker's side alive."""

from ..engine.counters import (
    HOLD_DISCARDED,
    TIMED_OUT_CONNECT,
    TIMED_OUT_KEEPALIVE,
    TIMED_OUT_PACKET,
    TIMED_OUT_WINDOW,
    Counters,
    Discard,
)
from ..mqtt.errors import PacketError
from ..mqtt.reasons import ReasonCode
from ..mqtt.session import PINGREQ
from .bounds import Bounds
from .guard import OWED_TIME
from .ordinals import ARRIVED, EMPTYING, LEAVING, OPEN, OPENING, ORPHANED, QUEUED, TURNED_AWAY
from .pacing import LOOK, Pacing
from .states import Event
from .waiting import PASSED

PROGRESS = 1_000
"""Bytes still missing from a packet under way above which its arrival counts as a sign of life (as in Mosquitto); and
what must come of it within each `packet_timeout`, if not the rest. At the default 30 s that is a line of 300 bit/s."""


class Timing(Pacing):
    """See the module's text."""

    def _begin(self, counters: Counters, bounds: Bounds, now: float) -> None:
        Pacing._begin(self, counters, bounds, now)
        self.packet_timeout = bounds.packet_timeout
        self.client_excused = False
        """Set by the driver before a `tick`: silence is not the client's, for what it sent has not been read."""
        self.client_unread = False
        """Set likewise: the client is not read now, whatever the reason."""
        self._client_tail: bytearray | None = None
        """What has come of the client's packet under way, if it is kept until it is whole."""
        self._client_need = 0
        """Bytes that it must have before it is read again."""
        self._packet_by = 0.0
        """By when more must have come of the client's packet under way; 0: none is."""
        self._packet_bytes = 0
        """What has come of it since that was last set."""
        self._unread_since = 0.0
        """When the client ceased to take what is written to it; 0: it takes it."""

    def tick(self, now: float) -> None:
        """Do what is due at `now` and set `wake_at` anew."""
        self._now = now
        if self.state == OPEN or self.state == EMPTYING:
            self._look_after_held()
            if 0.0 < self._packet_by <= now and self.state == OPEN:
                self._look_after_packet()
            if self.state == OPEN or self.state == EMPTYING:
                if self._keepalive:
                    self._keep_alive()
                else:
                    self._plan()
        elif self.wake_at and now >= self.wake_at:
            if self.state == ARRIVED or self.state == QUEUED:
                if self._admission is not None and now < self._admission.deadline:
                    self._await_turn()
                elif self._admit(late=True) == PASSED:
                    self._come_in()
                return
            if self.state == OPENING or self.state == ORPHANED:
                if self._search is not None:
                    self._look_for_former()
                    return
                if not self._client_turn:
                    self.doubt_broker = True
                    if self.state == OPENING:
                        self.upstream_failed()
                    else:
                        self._end(Event.TIMEOUT)
                    return
            if self.state != LEAVING and self.state != TURNED_AWAY:
                self.counters.add(TIMED_OUT_CONNECT, 1)
            self._end(Event.TIMEOUT)

    def _plan(self) -> None:
        """Set `wake_at` of an open connection."""
        self.wake_at = 0.0
        self._wake_by(self._packet_by)
        if self._keepalive:
            if self.state == OPEN:
                self._wake_by(self._last_client + 1.5 * self._keepalive)
            if self._skipping or not self._client_left:  # nothing of ours may stand inside a packet under way
                self._wake_by(self._last_upstream + 0.75 * self._keepalive)
        if self._hold is not None:
            self._wake_by(self._hold.next_deadline)
            if not self._will_resume:
                self._wake_by(self._stop_until)
            if self._hold.own_lane() is not None:
                self._wake_by(self._empty_by)
        if self._guard is not None and self._guard.requests is not None:
            self._wake_by(self._guard.requests.deadline)
        if self._turn is not None:
            self._wake_by(min(self._turn.deadline, self._now + LOOK))
        if self._guard is not None and self._guard.windows is not None:
            self._wake_by(self._guard.patience_until)
            if self._unread_since:
                self._wake_by(max(self._unread_since + OWED_TIME, self._now + 1.0))

    # What is held

    def _look_after_held(self) -> None:
        try:
            if self._hold is not None and self._hold.next_deadline <= self._now:
                self._expire()
            if self._turn is not None:
                self._look_after_turn()
            elif self._is_parked and not self._will_resume and self._stop_until <= self._now:
                self._stop_no_longer()
        except PacketError as error:
            self._violation(error)
        if 0.0 < self._empty_by <= self._now and self._hold is not None and self._hold.own_lane() is not None:
            # What a client that has left has yet to do will never be done.
            given = self._hold.give_up_own(self._now)
            for packet_id in given:
                self._settle(packet_id)
            self.counters.add(HOLD_DISCARDED + Discard.LATE, len(given))
            self._after_hold()
        guard = self._guard
        if guard is not None and guard.requests is not None and guard.requests.deadline <= self._now:
            guard.requests.expire(self._now)
        if guard is not None and guard.patience_until <= self._now:
            if self.state == EMPTYING and self._hold is not None:  # it has left, and sends no PUBREL any more
                self.counters.add(HOLD_DISCARDED + Discard.LATE, self._hold.discard(self._now))
                self._after_hold()
            elif (self._is_unread or self.client_excused) and guard.excuse(self._now):
                if self._is_parked and self._turn is None and not self._will_resume:  # its PUBREL may be behind that
                    self._stop_no_longer()
            elif self.state == OPEN:
                self._end_keeper("a PUBREL is owed for too long, and others wait for its place")
        elif (
            guard is not None
            and self.state == OPEN
            and 0.0 < self._unread_since <= self._now - OWED_TIME
            and guard.is_sharing()
        ):
            self._end_keeper("nothing is read, and others wait for what is in flight")

    def _end_keeper(self, text: str) -> None:
        """The client keeps places in windows that others share, and does nothing to free them."""
        self.counters.add(TIMED_OUT_WINDOW, 1)
        self._dismiss(ReasonCode.QUOTA_EXCEEDED, text)
        self._end(Event.TIMEOUT)

    def client_takes(self, takes: bool, now: float) -> None:
        """Whether the client takes what is written to it: while it does not, its messages stay in flight."""
        self._unread_since = 0.0 if takes else now
        if not takes:
            self._wake_by(now + OWED_TIME)

    # A packet under way

    def _keep_client(self, data: bytes, at: int, need: int) -> None:
        self._client_tail = bytearray(data[at:])
        self._client_need = need
        self._begin_packet(at)
        if need - len(self._client_tail) > PROGRESS:
            self._last_client = self._now

    def _begin_packet(self, at: int) -> None:
        """The packet at `at` of what was read is not all there; at 0 it may be the one that was under way before."""
        if at or not self._packet_by:
            self._expect_more()

    def _expect_more(self) -> None:
        """Give the client `packet_timeout` for more of its packet under way."""
        self._packet_by = self._now + self.packet_timeout
        self._packet_bytes = 0
        if self.state == OPEN:
            self._wake_by(self._packet_by)

    def client_read_again(self, now: float) -> None:
        """The client was not read for a while: it has all of `packet_timeout` for its packet from here."""
        self._now = now
        if self._packet_by:
            self._expect_more()

    def _look_after_packet(self) -> None:
        """A packet under way has not come on as it must: the client has had its time, if it was read meanwhile."""
        if self.client_unread:
            self._expect_more()  # and anew when it is read again
            return
        self.counters.add(TIMED_OUT_PACKET, 1)
        self._dismiss(ReasonCode.QUOTA_EXCEEDED, "the packet that was begun does not go on")
        self._end(Event.TIMEOUT)

    # Signs of life

    def _keep_alive(self) -> None:
        """Section 3.1.2.10: one and a half times the keepalive towards the client, a ping of ours towards the broker.

        The broker must not end a connection whose client is alive, whatever of it has been forwarded.
        """
        if self.client_excused:
            self._last_client = self._now
        if self.state == OPEN and self._now >= self._last_client + 1.5 * self._keepalive:
            self.counters.add(TIMED_OUT_KEEPALIVE, 1)
            self._dismiss(ReasonCode.KEEP_ALIVE_TIMEOUT, "nothing came for one and a half times the keepalive")
            self._end(Event.TIMEOUT)
            return
        if (self._skipping or not self._client_left) and self._now >= self._last_upstream + 0.75 * self._keepalive:
            self._own_pings += 1
            self._send_broker(PINGREQ)
        self._plan()

    def _end(self, event: Event) -> None:
        Pacing._end(self, event)
        self._client_tail = None
        self._packet_by = 0.0
