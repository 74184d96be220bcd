"""SUBSCRIBE and UNSUBSCRIBE of one client: what goes on to the broker, what waits, and what is refused.

Each topic filter of a SUBSCRIBE is decided by itself. Those that pass go to the broker in one packet, and its answer is
completed on the way back (`answers.py`). Where a filter has to wait, the packet waits, and the requests behind it do:
they keep their order. Nothing else is held up by them.
"""

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ..mqtt.properties import PropertyId
from ..mqtt.reasons import PacketType, ReasonCode
from ..mqtt.subscribe import Suback, Subscribe, Subscription, Unsuback, Unsubscribe
from .answers import Answers, Said
from .notices import TOPIC, Notices, retry_after, whole_ms
from .ordinals import DELAY, LIMITED, ON_SUBSCRIBE, PASS
from .subscriptions import Subscriptions
from .waiting import GONE, NEVER, NOBODY_BEFORE, PASSED, WAITS, Lane, party

if TYPE_CHECKING:
    from .guard import Guard

OVERHEAD = 600
"""Bytes that a waiting request takes besides its packet, at most, and"""
OVERHEAD_FILTER = 200
"""each of its filters, which have been read."""

_MOST_QOS = 2


class Line(Protocol):
    """The connection whose requests these are."""

    def is_stuck(self) -> bool:
        """Whether nothing may be written to the broker now."""

    def is_flooded(self) -> bool:
        """Whether so much is on its way to the client that its answers are to be brief."""

    def send_request(self, wire: bytes, now: float) -> None:
        """Send the broker a packet."""

    def send_answer(self, wire: bytes) -> None:
        """Send the client a packet; none when it is empty."""

    def overstep(self, action: int, reason: ReasonCode, text: str) -> None:
        """End: the client went over a limit, which says `action`."""

    def look_at(self, due: float) -> None:
        """Have `expire` called then."""

    def flush(self) -> None:
        """Write what there is."""

    def cut(self) -> None:
        """End: the holds of the worker are full, and what waits here is the most of it."""


class Asked:
    """A request that has come, as far as it is decided."""

    __slots__ = (
        "arrived",
        "at",
        "is_changed",
        "is_counted",
        "is_late",
        "passed",
        "request",
        "said",
        "size",
        "slot",
        "wire",
    )

    def __init__(self, request: Subscribe | Unsubscribe, wire: bytes, filters: int, now: float) -> None:
        self.request = request
        self.wire = wire
        self.arrived = now
        self.said = Said(filters, [], [], [])
        self.passed: list[Subscription] = []
        """What the broker is asked for."""
        self.is_changed = False
        """Some of it with a lower QoS."""
        self.at = 0
        """The filter that is decided next."""
        self.is_counted = False
        """A limit has counted that filter as delayed;"""
        self.slot = -1
        """that limit's place in the segment."""
        self.is_late = False
        """It has waited for as long as it may."""
        self.size = OVERHEAD + len(wire) + OVERHEAD_FILTER * filters
        """Bytes that it takes while it waits."""


class Requests:
    """All of one client: beside its connection, the owner of what waits (see `waiting.Owner`)."""

    def __init__(self, guard: "Guard", line: Line, address: bytes) -> None:
        """`address`: 4 or 16 bytes, none for a Unix socket."""
        self.subscriptions = Subscriptions(guard.waiting)
        self.deadline = NEVER
        """Seconds of the clock at which `expire` is due."""
        self._guard = guard
        self._line = line
        self._party = party(address)
        self._answers = Answers(guard, self.subscriptions)
        self._queue: deque[Asked] = deque()
        self._bytes = 0
        self._lane: Lane | None = None
        """Where the first of the queue waits; None: for the broker, or nothing does."""
        self._passed = 0
        """Filters that have passed so far."""
        self._is_over = False
        """Nothing waits any more: the client has left."""

    # From the client

    def subscribe(self, request: Subscribe, wire: bytes, now: float) -> bytes | None:
        """What the broker gets for a SUBSCRIBE: None: the packet as it came; empty: nothing now."""
        asked = Asked(request, wire, len(request.subscriptions), now)
        if self._must_wait(asked):
            self._keep(asked)
            return b""
        outcome = self._decide(asked, now)
        if outcome == WAITS:
            if self._has_room(asked):
                if self._put(asked):
                    self._wait(asked, now)
                return b""
            asked.is_late = True
            outcome = self._decide(asked, now)
        return self._instead(asked) if outcome == PASSED else b""

    def unsubscribe(self, request: Unsubscribe, wire: bytes, now: float) -> bytes | None:
        """The same for UNSUBSCRIBE."""
        asked = Asked(request, wire, len(request.topic_filters), now)
        if self._must_wait(asked):
            self._keep(asked)
            return b""
        return self._instead(asked)

    def _must_wait(self, asked: Asked) -> bool:
        """Whether it has to wait before it is decided: behind others, or for the broker's answers."""
        return bool(self._queue) or not self._answers.has_room(asked.said.filters)

    def _instead(self, asked: Asked) -> bytes | None:
        wire = self._send(asked)
        return None if wire is asked.wire else wire

    # What limits say

    def _decide(self, asked: Asked, now: float, turn: int = 0) -> int:
        """Decide the filters that are left: PASSED when all are, WAITS when one has to wait, GONE when it is the end.

        `turn`: what the first of them has waited for, 0: nothing.
        """
        request, guard, engine = asked.request, self._guard, self._guard.engine
        assert isinstance(request, Subscribe)
        is_met = engine.meets(guard.subject, ON_SUBSCRIBE)
        while asked.at < asked.said.filters:
            one = request.subscriptions[asked.at]
            if one.topic_filter == TOPIC:
                self._notices().subscribed = True
                asked.said.reasons.append((asked.at, ReasonCode.SUCCESS))
            elif not is_met:
                self._end_wait(asked, now)
                self._pass(asked, one, _MOST_QOS, None)
            else:
                action = self._judge(asked, one, now, turn)
                if action == DELAY:
                    return WAITS
                self._end_wait(asked, now)
                if action == PASS:
                    self._pass(asked, one, engine.max_qos, engine.taken())
                elif not self._refuse(asked, one, action, now):
                    return GONE
            turn = 0
            asked.at += 1
        return PASSED

    def _judge(self, asked: Asked, one: Subscription, now: float, turn: int) -> int:
        guard, engine = self._guard, self._guard.engine
        action = engine.decide_subscribe(
            guard.subject,
            one.topic_filter.encode(),
            now,
            NOBODY_BEFORE if asked.is_late else turn,
            asked.is_counted,
            has=self.subscriptions.counts(one.topic_filter),
        )
        if action == DELAY and asked.is_late:
            action = engine.then
            engine.late(guard.subject, action, now)
        return action

    def _pass(self, asked: Asked, one: Subscription, most_qos: int, taken: object) -> None:
        self._passed += 1
        asked.said.kept.append(self.subscriptions.ask(one.topic_filter, taken))
        if one.qos > most_qos:
            one = replace(one, options=one.options & ~3 | most_qos)
            asked.is_changed = True
        asked.passed.append(one)

    def _refuse(self, asked: Asked, one: Subscription, action: int, now: float) -> bool:
        """Do what a limit says to the filter just judged; False when that ends the connection."""
        guard, engine = self._guard, self._guard.engine
        wait = None if engine.by_size or engine.by_window else whole_ms(engine.wait)
        if engine.by_size:
            text = f"over limit {engine.refused_by}: no such topic filter may be subscribed to"
        elif wait is None:
            text = f"over limit {engine.refused_by}: too many subscriptions"
        else:
            text = f"over limit {engine.refused_by}: retry in {wait} ms"
        if action >= LIMITED or guard.version == 3:  # 3.1 has no answer that refuses
            reason = ReasonCode.QUOTA_EXCEEDED if wait is None else ReasonCode.MESSAGE_RATE_TOO_HIGH
            self._line.overstep(max(action, LIMITED), reason, text)
            return False
        self._line.send_answer(guard.notice(action, one.topic_filter.encode(), now))
        if not asked.said.properties:
            asked.said.properties = [(PropertyId.REASON_STRING, text), *([] if wait is None else retry_after(wait))]
        asked.said.reasons.append((asked.at, self._refusal))
        return True

    @property
    def _refusal(self) -> int:
        """The reason of a filter that is refused; 3.1.1 has only one."""
        return ReasonCode.QUOTA_EXCEEDED if self._guard.version == 5 else ReasonCode.UNSPECIFIED_ERROR

    def _notices(self) -> Notices:
        guard = self._guard
        if guard.notices is None:
            guard.notices = Notices(guard.version, guard.client_packet)
        return guard.notices

    # To the broker, and back

    def _send(self, asked: Asked) -> bytes:
        """What the broker gets for a request that is decided; nothing when the client is answered here."""
        request, said, wire = asked.request, asked.said, asked.wire
        if isinstance(request, Subscribe):
            kind = PacketType.SUBSCRIBE
            if not asked.passed:
                self._answer(Suback(request.packet_id, []), said)
                return b""
            if said.reasons or asked.is_changed:
                wire = replace(request, subscriptions=asked.passed).write(self._guard.version)
        else:
            kind = PacketType.UNSUBSCRIBE
            others = [one for one in request.topic_filters if one != TOPIC]
            said.kept = [self.subscriptions.find(one) for one in others]
            if len(others) < said.filters:
                said.reasons = self._end_notices(request)
                if not others:
                    self._answer(Unsuback(request.packet_id), said)
                    return b""
                wire = replace(request, topic_filters=others).write(self._guard.version)
        self._answers.expect(kind, request.packet_id, said)
        return wire

    def _end_notices(self, request: Unsubscribe) -> list[tuple[int, int]]:
        """The client wants no notices any more: places and reasons, which 3.x does not have."""
        notices = self._notices()
        reason = ReasonCode.SUCCESS if notices.subscribed else ReasonCode.NO_SUBSCRIPTION_EXISTED
        notices.subscribed = False
        if self._guard.version < 5:
            return []
        return [(at, reason) for at, one in enumerate(request.topic_filters) if one == TOPIC]

    def _answer(self, ack: Suback | Unsuback, said: Said) -> None:
        self._line.send_answer(self._answers.complete(ack, said, self._line.is_flooded()))

    def acknowledge(self, data: bytes, at: int, body: int, end: int, now: float) -> bytes | None:
        """See `Answers.take`; call `resume` when all packets of the broker have been read."""
        return self._answers.take(data, at, body, end, self._line.is_flooded(), now)

    # Waiting

    def _has_room(self, asked: Asked) -> bool:
        waiting = self._guard.waiting
        return len(self._queue) < waiting.hold_messages and self._bytes + asked.size <= waiting.hold_bytes

    def _put(self, asked: Asked) -> bool:
        """Have a request wait, for which there is room; False when the worker's room for all was not enough."""
        self._queue.append(asked)
        self._bytes += asked.size
        self._guard.waiting.took(self, self._party, asked.size)
        return not self._is_over

    def _keep(self, asked: Asked) -> None:
        """Have a request wait behind others; without room it is refused: sent on, it would overtake them."""
        if self._has_room(asked):
            self._put(asked)
            return
        text = "too many requests wait already"
        if isinstance(asked.request, Unsubscribe) or self._guard.version == 3:  # no answer refuses these
            self._line.overstep(LIMITED, ReasonCode.QUOTA_EXCEEDED, text)
            return
        asked.said.reasons = [(at, self._refusal) for at in range(asked.said.filters)]
        asked.said.properties = [(PropertyId.REASON_STRING, text)]
        self._answer(Suback(asked.request.packet_id, []), asked.said)

    def _wait(self, asked: Asked, now: float) -> None:
        """The first of the queue waits for what the limit lacks that has just been asked."""
        guard, engine, waiting = self._guard, self._guard.engine, self._guard.waiting
        key, wait = engine.queue, 0.0 if engine.by_window else engine.wait
        if not asked.is_counted:
            assert isinstance(asked.request, Subscribe)
            asked.is_counted = True
            asked.slot = engine.slot
            topic_filter = asked.request.subscriptions[asked.at].topic_filter.encode()
            self._line.send_answer(guard.notice(DELAY, topic_filter, now))
        if self.deadline == NEVER:
            self.deadline = asked.arrived + engine.max_delay
            self._line.look_at(self.deadline)
        if self._lane is None or self._lane.key != key:
            self._leave_lane(now)
            self._lane = Lane(self, self._party, key)
            waiting.join(self._lane, wait, now)

    def _end_wait(self, asked: Asked, now: float) -> None:
        """The next filter is decided, which may have waited."""
        if asked.slot >= 0:
            guard = self._guard
            guard.waiting.counters.delayed(asked.slot, guard.subject.first_class, now - asked.arrived)
        asked.slot = -1
        asked.is_counted = False

    def _leave_lane(self, now: float) -> None:
        lane, self._lane = self._lane, None
        if lane is not None:
            self._guard.waiting.leave(lane, now)

    def serve(self, lane: Lane, now: float) -> int:
        """The turn of the filter that waits: PASSED, WAITS or GONE."""
        if lane is not self._lane:
            return GONE
        before = self._passed
        self._go_on(now, lane.key)
        if self._passed != before:
            return PASSED
        return WAITS if self._lane is lane else GONE

    def expire(self, now: float) -> None:
        """The first of the queue has waited for as long as it may: what is over a limit now gets `then`."""
        self.deadline = NEVER
        if self._queue:
            self._queue[0].is_late = True
            self._go_on(now)

    @property
    def may_go(self) -> bool:
        """Whether something waits that `resume` may help."""
        return bool(self._queue) and self._lane is None

    def resume(self, now: float) -> None:
        """The broker takes bytes again, or has answered: go on with what waited for that."""
        if self.may_go:
            self._go_on(now)

    def _go_on(self, now: float, turn: int = 0) -> None:
        """Send on what may go. `turn`: what the first has waited for."""
        while self._queue:
            asked = self._queue[0]
            if self._line.is_stuck() or (asked.at == 0 and not self._answers.has_room(asked.said.filters)):
                self._leave_lane(now)
                return
            if isinstance(asked.request, Subscribe):
                outcome = self._decide(asked, now, turn)
                if outcome == WAITS:
                    self._wait(asked, now)
                if outcome != PASSED:
                    return
            turn = 0
            self.deadline = NEVER
            self._give(self._queue.popleft())
            wire = self._send(asked)
            if wire:
                self._line.send_request(wire, now)
        self._leave_lane(now)

    def _give(self, asked: Asked) -> None:
        waiting = self._guard.waiting
        self._bytes -= asked.size
        waiting.gave(self._party, asked.size)
        if not self._queue:
            waiting.left(self, self._party)

    def flush(self) -> None:
        """Write what a turn has led to."""
        self._line.flush()

    def cut(self) -> None:
        """End: the holds of the worker are full, and what waits here is the most of it."""
        self._line.cut()

    def holds(self) -> int:
        """Bytes that wait."""
        return self._bytes

    # How it ends

    def discard(self, now: float) -> None:
        """The client has left: what waits is given up."""
        self._is_over = True
        self._leave_lane(now)
        self.deadline = NEVER
        while self._queue:
            asked = self._queue.popleft()
            self._give(asked)
            for one in asked.said.kept:
                if one is not None:
                    self.subscriptions.answered(one, False, now)
