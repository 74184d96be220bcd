"""Messages that have to wait: for what a limit lacks, behind others of their topic, or for the broker's quota.

They wait in a hold of bounded size (`hold.py`). One that finds no room there, or is larger than STORE, is parked: it
and all behind it waits, and the client is not read, until there is room, the message may go, or it has been left unread
for as long as may be.
"""

from heapq import nsmallest

from ..engine.counters import HOLD_DISCARDED, Counters, Discard
from ..mqtt.errors import PacketError
from ..mqtt.reasons import ReasonCode
from .bounds import STORE, Bounds
from .conversation import RESUME, Conversation
from .exchange import Exchange
from .guard import identifier_in_use
from .hold import Held, Hold
from .ordinals import CLOSED, DELAY, DROP, EMPTYING, FORWARDED, KEPT, LEAVING, LIMITED, OPEN, PARKED, REJECT
from .scratch import frame, publish
from .states import Event
from .turn import Turn
from .waiting import GONE, NEVER, NOBODY_BEFORE, PASSED, WAITS, Lane

OVERFLOW = 8 << 20
"""Bytes that are read of a client which was left unread for as long as may be, unless it has sent less: what the kernel
may have kept of it meanwhile, its pings among it. Then it may be left again, or a flood would be read at full speed."""
MOST_AT_ONCE = 64
"""Messages of one read that are kept back or refused before others have their turn: about a millisecond's work."""
MOST_OWN = 8
"""Messages in a connection's own lane that are tried at a time."""
LONGEST_WAIT = 5.0
"""Seconds that a message may find no room, or no quota of the broker's left, where no limit says how long."""

DISCARDS = {
    Event.CLIENT_GONE: Discard.CLIENT_GONE,
    Event.TAKEN_OVER: Discard.CLIENT_GONE,
    Event.BROKER_GONE: Discard.BROKER_GONE,
    Event.BROKER_DISMISSED: Discard.BROKER_GONE,
    Event.SHUTDOWN: Discard.SHUTDOWN,
}
"""Why what is held is given up, by what ends the connection; else it is ENDED."""


class Delaying(Exchange):
    """See the module's text."""

    def _begin(self, counters: Counters, bounds: Bounds, now: float) -> None:
        Exchange._begin(self, counters, bounds, now)
        self._hold: Hold | None = None
        self._is_upstream_full = False
        self._own_may_go = False
        """The client has sent what messages in its own lane wait for: PUBREL, or the end of a large message."""
        self._forgotten: list[bytes] = []
        """Topics whose first message was taken out: those behind it are to be decided."""
        self.cut_client = ""
        """The client identifier, once its hold was the largest of a worker whose holds were full."""
        # What is parked.
        self._turn: Turn | None = None
        """Of a packet that waits for its turn, if that is what is parked: the part above sees to it."""
        self._will_resume = False
        """RESUME was said."""
        self._was_counted = False
        """The first message that is parked was counted as delayed."""
        self._large = b""
        """The topic of the large message that is parked; empty: what is parked found no room."""
        self._decided = -1
        """The action for the large message that was parked until now; -1: none was."""
        self._answer = b""
        """What the client gets for it, if it is refused."""
        self._stop_until = 0.0
        """When a client that is not read because of what is parked has to be read again."""
        self._overflow_left = 0
        """Bytes in which nothing is parked, as it has come to that; 0: it has not."""
        self._overflow_until = 0.0
        # Of a client that has said DISCONNECT.
        self._farewell = b""
        self._empty_by = 0.0
        """When what waits for the broker's quota is given up."""
        self._is_client_gone = False

    def _keep_back(self, data: bytes, at: int, end: int, topic: bytes | None, live: bool) -> int:
        """What becomes of the PUBLISH at `at`: FORWARDED, KEPT (held, or refused and answered), or PARKED.

        `live`: an exchange with its identifier is going on already.
        """
        text = data if topic is None else topic
        start = publish.topic if topic is None else 0
        stop = publish.topic_end if topic is None else len(topic)
        guard = self._guard
        assert guard is not None
        hold = self._hold
        again = guard.plays(publish.packet_id)
        if self._decided >= 0:
            action = self._decided
            self._decided = -1
            if action:
                self._leave_out(data, end, self._answer)
                self._answer = b""
                return KEPT
        elif again and publish.qos == 2:  # answered or refused at once: the broker has no part in it
            action = guard.judge(publish, text, start, stop, end - at, end - publish.payload, self._now)
        elif publish.qos and (
            (hold is not None and hold.count and publish.packet_id in hold.ids)
            or (guard.windows is not None and publish.packet_id in guard.windows)
        ):
            if publish.dup:  # the one that is held, or in flight on this very connection, will do
                self._skipping = end > len(data)
                return KEPT
            raise identifier_in_use()
        elif (hold is not None and hold.count and text[start:stop] in hold.topics) or (
            self._receive_maximum > self._broker_quota and publish.qos and not live and self._is_quota_used(1)
        ):
            return self._hold_back(data, at, end, topic, text[start:stop], live, decided=False)
        else:
            counted = self._was_counted
            self._was_counted = False
            size, payload = end - at, end - publish.payload
            action = guard.judge(publish, text, start, stop, size, payload, self._now, 0, counted)
            if action == 0:
                return FORWARDED
            guard.waiting.wake_others()
            if action == DELAY:
                return self._hold_back(data, at, end, topic, text[start:stop], live, decided=True)
        if action == 0:
            return FORWARDED
        self._refuse_message(data, end, text[start:stop], action, live, again)
        return KEPT

    # Into the hold

    def _hold_back(
        self, data: bytes, at: int, end: int, topic: bytes | None, name: bytes, live: bool, decided: bool
    ) -> int:
        """Keep the PUBLISH at `at`, to the topic `name`, until it may go on: KEPT or PARKED.

        `decided`: a limit has just said so; else it has to wait behind others of its topic, or for the broker's quota.
        """
        if live and not publish.dup:
            raise identifier_in_use()
        guard = self._guard
        assert guard is not None
        if self._hold is None:
            self._hold = Hold(guard.waiting, self, self._address)
        hold = self._hold
        is_large = end - at > STORE
        longest = guard.engine.max_delay if decided else LONGEST_WAIT
        if not is_large and not hold.has_room(end - at) and not self._overflow_left:
            self._was_counted = decided
            self._park(data, at, live, longest)
            return PARKED
        if self._overflow_left and (is_large or not hold.has_room(end - at)):
            action = self._no_room(name, end - at, end - publish.payload, decided)
            self._refuse_message(data, end, name, action, live, again=False)
            return KEPT
        if decided and guard.notices is not None:
            self._tell_client(guard.notice(DELAY, name, self._now))
        packet = None
        if not is_large:
            packet = data[at:end]
            if topic is not None:
                packet = self._without_alias(data, at, end, topic) + data[publish.payload : end]
        if is_large:
            self._park(data, at, live, longest)
            self._large = name
        held = hold.add(name, packet, 0 if is_large else publish.packet_id, self._now)
        if self.state == OPEN and hold.topics[name][0] is held:  # adding it may have cost us the connection
            if decided:
                hold.wait_for_limit(name, held, self._now)
            else:
                hold.wait(name, held, 0, 0.0, self._now)
            self._wake_by(hold.next_deadline)
        return PARKED if is_large else KEPT

    def _no_room(self, topic: bytes, size: int, payload: int, decided: bool) -> int:
        """Count the message just read, for which there has been no room for as long as may be; its action."""
        guard = self._guard
        assert guard is not None
        action = DELAY
        if not decided:
            action = guard.judge(publish, topic, 0, len(topic), size, payload, self._now, 0, False, True)
        if action == DELAY:
            action = guard.engine.then if publish.qos else DROP
            guard.late(action, self._now)
        if action:
            return action
        # It is over no limit itself, so none says what then: as they all do by default.
        self.counters.add(HOLD_DISCARDED + Discard.FULL, 1)
        if not publish.qos:
            return DROP
        return REJECT if self.version == 5 and not guard.may_be_there(publish) else LIMITED

    def _is_quota_used(self, own: int) -> bool:
        """Whether the broker has as many unacknowledged messages as it takes; `own` are counted but not sent."""
        guard = self._guard
        if self._unacknowledged is None or guard is None:
            return False
        count = len(self._unacknowledged) - own
        if count < self._broker_quota:
            return False
        here = guard.playing() + (0 if self._hold is None else len(self._hold.ids))
        return count - here >= self._broker_quota

    # Parked

    def _park(self, data: bytes, at: int, live: bool, longest: float) -> None:
        """Leave the PUBLISH at `at` and all behind it for later, at most `longest` seconds; the client is not read.

        Nor are its pings: so that never takes longer than half of its keepalive, however often this is called.
        """
        if not live:
            self._settle(publish.packet_id)  # it will be read once more
        self._last_client = self._now  # what has come is a sign of life
        self._held = data[at:]
        self._is_parked = True
        self._will_resume = False
        if self._stop_until == 0.0:
            self._stop_until = self._now + (min(longest, self._keepalive / 2) if self._keepalive else longest)
        self._set_reading()
        self._wake_by(self._stop_until)

    def _yield_turn(self, data: bytes, at: int) -> None:
        """Leave the packets from `at` on for another turn of the driver: keeping messages back is work."""
        self._held = data
        self._held_at = at
        self._is_parked = True
        self._set_reading()
        self._ask_to_resume()

    def _ask_to_resume(self) -> None:
        self._will_resume = True
        self._large = b""
        self.commands |= RESUME

    def resume(self, now: float) -> None:
        """Go on with what was parked."""
        self._now = now
        if self._will_resume:
            self._will_resume = False
            self._resume()
            self._go_on()  # with what these packets have made possible

    def _resume(self) -> None:
        """Go on with what was parked, or waited for CONNACK."""
        held = self._held
        at = self._held_at
        self._held = b""
        self._held_at = 0
        self._is_parked = False
        if self.state == OPEN:
            self._set_reading()
            self._client_packets(held, at)
            self._overflow_left = max(self._overflow_left - (len(held) - at) + len(self._held) - self._held_at, 0)
        if not self._is_parked or self._will_resume or self._turn is not None:
            self._stop_until = 0.0

    def _stop_no_longer(self) -> None:
        """A client was left unread for as long as may be: read on, whatever becomes of what is parked."""
        hold = self._hold
        topic = self._large
        self._overflow_left = OVERFLOW
        self._overflow_until = self._now + LONGEST_WAIT
        if topic and hold is not None:
            if hold.topics[topic][0].packet is None and self._try(topic, NOBODY_BEFORE, late=True) != WAITS:
                return
            self._read_again(self._held)
            action = self._no_room(topic, frame.end, frame.end - publish.payload, decided=False)
            hold.remove_last(topic, self._now)
            self._decide_large(topic, action)
        else:
            self._ask_to_resume()

    def _decide_large(self, topic: bytes, action: int) -> None:
        """The large message that is parked, and just read, goes on or is refused when the client's turn has come."""
        if action:
            self._answer = self._refusal(topic, action, again=False)
            if self.state == CLOSED:
                return
        elif publish.qos and self._unacknowledged is not None:
            self._unacknowledged.add(publish.packet_id)
        self._decided = action
        self._ask_to_resume()

    # Out of the hold

    def serve(self, lane: Lane, now: float) -> int:
        """Try the first message of a lane, whose turn it is: PASSED, WAITS or GONE."""
        if self._admission is not None and self._admission.lane is lane:
            return Exchange.serve(self, lane, now)
        self._now = now
        hold = self._hold
        if hold is None or not lane.heads:
            return GONE
        topic = lane.heads[0][1]
        try:
            outcome = self._try(topic, lane.key)
            if outcome != WAITS:
                self._follow(topic)
                self._after_hold()
            elif hold.topics[topic][0].lane is not lane:
                return GONE  # it waits for something else now
        except PacketError as error:
            self._violation(error)
            return GONE
        return outcome

    def _try(self, topic: bytes, turn: int, late: bool = False) -> int:
        """Decide the first of a topic anew: PASSED, WAITS or GONE. `turn`: what it has waited for, 0: nothing yet.

        `late`: it has waited for as long as it may.
        """
        hold = self._hold
        guard = self._guard
        assert hold is not None
        assert guard is not None
        engine = guard.engine
        held: Held = hold.topics[topic][0]
        data = self._held if held.packet is None else held.packet
        self._read_again(data)
        end = frame.end
        payload = end - publish.payload
        is_stuck = self.is_stuck() or (
            self._receive_maximum > self._broker_quota and publish.qos > 0 and self._is_quota_used(0)
        )
        if is_stuck and not late:
            if held.lane is None or held.lane.key:
                hold.wait(topic, held, 0, 0.0, self._now)
            return WAITS
        action = guard.judge(publish, topic, 0, len(topic), end, payload, self._now, turn, held.counted, is_stuck)
        if is_stuck and action == 0:
            hold.expires(topic, held, NEVER)
            hold.wait(topic, held, 0, 0.0, self._now)
            return WAITS
        if action == DELAY and not late:
            if held.lane is None or held.lane.key != engine.queue:  # that of its own lane is never a queue
                hold.wait_for_limit(topic, held, self._now)
                self._wake_by(hold.next_deadline)
            return WAITS
        if action == DELAY:
            action = engine.then
            guard.late(action, self._now)
        hold.remove(topic, self._now)
        if held.slot >= 0:
            self.counters.delayed(held.slot, guard.subject.first_class, self._now - held.arrived)
        if self.state == EMPTYING and action:
            self._settle(publish.packet_id)
            self.counters.add(HOLD_DISCARDED + Discard.LATE, 1)
        elif held.packet is None:
            self._decide_large(topic, action)
        elif action:
            self._refuse_message(data, end, topic, action, live=False, again=False)
        else:
            self._send_broker(data)
            self._count_sent()
        return GONE if action else PASSED

    def is_stuck(self) -> bool:
        """Whether nothing may be written to the broker: it does not take it, or a large message is on its way there."""
        return self._is_upstream_full or (self._client_left > 0 and not self._skipping)

    def _read_again(self, data: bytes) -> None:
        """Find the parts of the PUBLISH that `data` begins with; it was checked when it came."""
        frame.read(data, 0)
        publish.read(data, 0, frame.body, frame.end, self.version, True)

    def _follow(self, topic: bytes) -> None:
        """The first of a topic has left: decide those behind it, up to one that must wait."""
        hold = self._hold
        while hold is not None and topic in hold.topics and hold.topics[topic][0].lane is None:
            if self._try(topic, 0) == WAITS:
                return
            hold = self._hold

    def _expire(self) -> None:
        """Do what the limits say to messages that have waited too long; with many of them, the next `tick` goes on."""
        for _ in range(MOST_AT_ONCE):
            topic = None if self._hold is None else self._hold.expired(self._now)
            if topic is None:
                break
            self._try(topic, NOBODY_BEFORE, late=True)
            self._follow(topic)
        self._after_hold()

    def _serve_own(self) -> None:
        """Try what waits for this connection itself."""
        self._own_may_go = False
        if self._guard is not None and self._guard.requests is not None:
            self._guard.requests.resume(self._now)
        hold = self._hold
        if hold is None:
            return
        try:
            while self._forgotten:
                self._follow(self._forgotten.pop())
            has_moved = True
            while has_moved:  # of those that still wait, a few are enough: the others wait for the same
                has_moved = False
                lane = hold.own_lane()
                for _, topic in [] if lane is None else nsmallest(MOST_OWN, lane.heads):
                    if hold.waits_itself(topic):
                        hold.unlane(topic, self._now)
                        self._follow(topic)
                        has_moved = has_moved or not hold.waits_itself(topic)
            self._after_hold()
        except PacketError as error:
            self._violation(error)

    def upstream_takes(self, takes: bool, now: float) -> None:
        """Whether the broker takes what is written to it: while it does not, what is held stays held."""
        self._now = now
        self._is_upstream_full = not takes
        if takes and self._guard is not None:
            self._serve_own()

    def _forget_duplicate(self, packet_id: int) -> None:
        """The broker has answered a message: a redelivery of it that is held must not go on."""
        hold = self._hold
        if hold is not None and hold.count and packet_id in hold.ids:
            topic = hold.forget_duplicate(packet_id, self._now)
            if topic is not None:
                self._forgotten.append(topic)
                self._own_may_go = True

    def _after_hold(self) -> None:
        """Some may have left the hold: go on with what waited for that."""
        hold = self._hold
        if hold is None:
            return
        if self.state == EMPTYING:
            if not hold.count and self._will is not None and self._will.is_asked_for:
                self._end(Event.WILL_ASKED_FOR)
            elif not hold.count:
                self._send_broker(self._farewell)
                self._leave(Event.EMPTIED)
                if self._is_client_gone and self.state == LEAVING:
                    self._end(Event.CLIENT_GONE)
        elif self._is_parked and self._turn is None and not self._large and not self._will_resume and hold.is_roomy:
            self._ask_to_resume()

    # How it ends

    def holds(self) -> int:
        """Bytes that it has waiting."""
        return 0 if self._hold is None else self._hold.bytes

    def cut(self) -> None:
        """End: the holds of the worker are full, and this one is the largest."""
        if self._guard is not None:
            self.cut_client = self._guard.client_id or "(empty client id)"
        self._dismiss(ReasonCode.QUOTA_EXCEEDED, "the gateway is full of waiting messages, most of them of this client")
        self._end(Event.LIMITED)

    def _leave(self, event: Event) -> None:
        if self._will is not None:
            self._will.is_settled = True
        self._discard(event)
        self._will_resume = False
        Conversation._leave(self, event)

    def _end(self, event: Event) -> None:
        self._discard(event)
        if self._guard is not None:  # which may outlive the connection, as its upstream does
            self._guard.requests = None
        self._will_resume = False
        Exchange._end(self, event)

    def _discard(self, event: Event) -> None:
        """Give up what is held: its client still has the messages of QoS 1 and 2, or hears that they are gone."""
        hold = self._hold
        self._hold = None
        if hold is not None and hold.count:
            reason = Discard.POOL if self.cut_client else DISCARDS.get(event, Discard.ENDED)
            self.counters.add(HOLD_DISCARDED + reason, hold.discard(self._now))
        if self._guard is not None and self._guard.requests is not None:
            self._guard.requests.discard(self._now)

    # Of the part above

    def _client_packets(self, data: bytes, start: int = 0) -> None:
        """Read the client's packets from `start` on."""
        raise NotImplementedError
