"""Messages on their way to one client, under limits on `deliver`: which go on, which wait, which are dropped.

Messages of QoS 1 and 2, and those of shared subscriptions, are never dropped, and go on in the order in which the
broker has sent them: they wait one behind the other, in a chain. All others wait by topic, and overtake the chain,
unless something of their topic is in it. What waits is bounded; beyond that messages of QoS 0 are dropped, and for the
others the broker is not read until there is room.

A client that does not take what it is sent is treated like one that is over its limit: the broker need not wait for it.
"""

from heapq import nsmallest
from typing import TYPE_CHECKING

from ..engine.counters import HOLD_DISCARDED, Discard
from .bounds import STORE
from .delaying import MOST_AT_ONCE, MOST_OWN
from .exchange import Exchange
from .guard import OWED_TIME
from .hold import OVERHEAD, Held, Hold
from .ordinals import DELAY, DROP, FORWARDED, KEPT, ON_DELIVER, PARKED
from .scratch import frame, publish
from .waiting import GONE, NEVER, NOBODY_BEFORE, PASSED, WAITS, Lane, Waiting

if TYPE_CHECKING:  # compiled code knows it by delivery.pxd; interpreted code is only handed one
    from ..engine.binding import Subject

CHAIN = b""
"""The name of the chain among the topics of the hold: no topic is empty."""


class Delivery:
    """See the module's text. "The PUBLISH just read" is what `scratch.publish` says; `now` is in seconds."""

    def __init__(self, waiting: Waiting, subject: "Subject", connection: Exchange, address: bytes) -> None:
        """`address`: the client's, 4 or 16 bytes, none for a Unix socket."""
        self.engine = waiting.engine
        self._waiting = waiting
        self._subject = subject
        self._connection: Exchange | None = connection
        self._address = address
        self._now = 0.0
        self._hold: Hold | None = None
        self._tied: dict[bytes, Held] = {}
        """Of each topic that is in the chain the last message there."""
        self._chain_bytes = 0
        self._windows: dict[int, object] | None = None
        """What messages in flight have taken of windows, by packet identifier; see `Engine.taken`."""
        self._shared: set[int] = set()
        """Those of them in windows that others share."""
        self._shared_since = 0.0
        """When one of these was acknowledged last, or the first of them went on."""
        self._is_excused = False
        """That was put off, as it could not be heard, and it has acknowledged none of them since."""
        self._received: set[int] = set()
        """Messages of QoS 2 with places in windows that it has acknowledged by PUBREC."""
        self._is_full = False
        """The client does not take what is written to it."""
        self._was_counted = False
        """The message that is parked was counted as delayed."""
        self._large = False
        """The message that is parked has its place in the hold, as it is too large to be kept."""
        self._decided = -1
        """The action for it, once its turn has come; -1: it has not."""
        self._is_parked = False
        """The broker is not read because of it."""
        self.may_resume = False
        """What is parked may go on: `Exchange.resume_broker` is to be called."""
        self.has_freed = False
        """The client has acknowledged what messages may wait for: `go_on` is to be called."""
        self._delays = False
        self.review()

    def review(self) -> None:
        """There is another policy."""
        self._delays = self.engine.delays(self._subject, ON_DELIVER)

    # What the broker has sent

    def take(self, data: bytes, at: int, end: int, is_shared: bool, now: float) -> int:
        """What becomes of the PUBLISH just read, at `at`: FORWARDED, KEPT (it waits, or is dropped), or PARKED.

        `end` may lie behind the last byte that has come, if it is larger than STORE. `is_shared`: it may have come by a
        shared subscription, so nobody else gets it. PARKED: the broker is not to be read until `may_resume`.
        """
        self._now = now
        self._is_parked = False
        counted = self._was_counted
        self._was_counted = False
        if self._decided >= 0:
            action = self._decided
            self._decided = -1
            return KEPT if action else FORWARDED
        topic = data[publish.topic : publish.topic_end]
        must = publish.qos > 0 or is_shared
        hold = self._hold
        name = topic
        if must or (self._tied and topic in self._tied):
            name = CHAIN
        if hold is not None and hold.count:
            if must and topic in hold.topics:
                self._tie(hold, topic)
            if name in hold.topics:
                return self._keep(data, at, end, topic, name, must, decided=False)
        if self._is_full and self._delays:
            return self._keep(data, at, end, topic, name, must, decided=False)
        action = self._judge(data, end - at, end - publish.payload, 0, counted, False, must)
        if action == 0:
            return FORWARDED
        self._waiting.wake_others()
        if action == DELAY:
            return self._keep(data, at, end, topic, name, must, decided=True)
        return KEPT

    def _judge(self, data: bytes, packet: int, payload: int, turn: int, counted: bool, ask: bool, must: bool) -> int:
        """The action for the PUBLISH just read, of so many bytes; for the others see `Engine.decide_deliver`."""
        engine = self.engine
        action = engine.decide_deliver(
            self._subject,
            data,
            publish.topic,
            publish.topic_end,
            publish.qos,
            publish.retain,
            packet,
            payload,
            self._now,
            turn,
            counted,
            len(self._shared),
            ask,
            must,
        )
        if action == 0 and publish.qos and not ask:
            taken = engine.taken()
            if taken is not None:
                if self._windows is None:
                    self._windows = {}
                before = self._windows.get(publish.packet_id)
                if before is not None:  # the broker uses its identifier once more
                    self._waiting.give_back(before, self._now)
                    self._received.discard(publish.packet_id)
                self._windows[publish.packet_id] = taken
                if engine.shares:
                    if not self._shared:
                        self._shared_since = self._now
                    self._shared.add(publish.packet_id)
        return action

    # Into the hold

    def _keep(self, data: bytes, at: int, end: int, topic: bytes, name: bytes, must: bool, decided: bool) -> int:
        """Keep the PUBLISH just read until it may go on, under `name`, or drop it: KEPT or PARKED.

        `must`: it is not to be dropped. `decided`: a limit has just said so; else something is before it.
        """
        if self._hold is None:
            self._hold = Hold(self._waiting, self, self._address)
        hold = self._hold
        size = end - at
        if size > STORE:
            self._large = True
            self._add(name, None, topic, must, decided)
            return PARKED
        last: Held | None = self._tied.get(topic) if name == CHAIN else None
        if name != CHAIN and name in hold.topics:
            last = hold.topics[name][-1]
        conflates = decided and self.engine.conflates
        if not must and not decided:
            if last is not None and last.conflates:
                self.engine.tally(last.slot, DROP)
                self._replace(name, last, data[at:end])
                return KEPT
            # Nothing of its kind is before it, or it will not be dropped later: ask what a limit says to it.
            if last is None or name == CHAIN:
                action = self._judge(data, size, end - publish.payload, 0, True, True, False)
                if action and action != DELAY:
                    return KEPT
                conflates = self.engine.conflates
        if not self._has_room(size, must):
            if must:
                self._was_counted = decided
                return PARKED
            self._drop(name, decided)
            return KEPT
        held = self._add(name, data[at:end], topic, must, decided)
        held.conflates = conflates and not must
        if held.slot < 0 and conflates:
            held.slot = self.engine.slot
        return KEPT

    def _replace(self, name: bytes, held: Held, packet: bytes) -> None:
        """A newer message takes the place of one that waits."""
        assert self._hold is not None
        before = held.size
        self._hold.replace(held, packet)
        if name == CHAIN:
            self._chain_bytes += held.size - before

    def _add(self, name: bytes, packet: bytes | None, topic: bytes, must: bool, decided: bool) -> Held:
        hold = self._hold
        assert hold is not None
        held = hold.add(name, packet, publish.packet_id, self._now)
        if self._connection is None or hold.topics.get(name) is None:
            return held  # adding it has cost this client what it held, or its connection
        if name == CHAIN:
            self._tied[topic] = held
            self._chain_bytes += held.size
        if hold.topics[name][0] is held:
            if decided:
                is_patient = must or publish.retain or self.engine.conflates
                hold.wait_for_limit(name, held, self._now, is_patient)
            else:
                hold.wait(name, held, 0, 0.0, self._now)
        return held

    def _has_room(self, size: int, must: bool) -> bool:
        """Whether a packet of so many bytes may be added. What must be kept does not compete with what need not."""
        hold = self._hold
        assert hold is not None
        if not must:
            return hold.has_room(size)
        chain = hold.topics.get(CHAIN)
        return chain is None or self._fits(len(chain), self._chain_bytes + size + OVERHEAD)

    def _fits(self, messages: int, size: int) -> bool:
        """Whether the chain may have so many messages and bytes: of bytes more, while the worker has many to spare."""
        waiting = self._waiting
        return messages < waiting.hold_messages and (
            size <= waiting.hold_bytes or 2 * (waiting.bytes + size - self._chain_bytes) <= waiting.hold_pool
        )

    def _drop(self, name: bytes, decided: bool) -> None:
        """Count the PUBLISH just read, for which there is no room: as dropped by the limit that it waits for."""
        hold = self._hold
        assert hold is not None
        if decided:
            self.engine.late(self._subject, DROP, self._now)
            return
        first = hold.first(name)
        if first is not None and first.slot >= 0:
            self.engine.tally(first.slot, DROP)
        else:
            self._waiting.counters.add(HOLD_DISCARDED + Discard.FULL, 1)

    def _tie(self, hold: Hold, topic: bytes) -> None:
        """What waits by its topic goes into the chain: something comes behind it that is not to be overtaken."""
        for held in hold.move(topic, CHAIN, self._now):
            self._chain_bytes += held.size
            self._tied[topic] = held

    # Out of it

    def serve(self, lane: Lane, now: float) -> int:
        """Try the first message of a lane, whose turn it is: PASSED, WAITS or GONE."""
        self._now = now
        hold = self._hold
        if hold is None or not lane.heads:
            return GONE
        name = lane.heads[0][1]
        outcome = self._try(name, lane.key)
        if outcome != WAITS:
            self._follow(name)
            self._look_at_parked()
        elif hold.topics[name][0].lane is not lane:
            return GONE  # it waits for something else now
        return outcome

    def _try(self, name: bytes, turn: int, late: bool = False) -> int:
        """Decide the first of a name anew: PASSED, WAITS or GONE. `turn`: what it has waited for, 0: nothing yet.

        `late`: it has waited for as long as it may.
        """
        hold = self._hold
        connection = self._connection
        assert hold is not None
        assert connection is not None
        held: Held = hold.topics[name][0]
        data = connection.broker_held if held.packet is None else held.packet
        frame.read(data, 0)
        publish.read(data, 0, frame.body, frame.end, connection.version, False)
        is_stuck = self._is_full or connection.is_within()
        must = name == CHAIN
        payload = frame.end - publish.payload
        action = 0
        if late or not is_stuck:
            action = self._judge(data, frame.end, payload, turn, held.counted, is_stuck, must)
        if is_stuck and action == 0:
            if late:
                hold.expires(name, held, NEVER)
            if held.lane is None or held.lane.key:
                hold.wait(name, held, 0, 0.0, self._now)
            return WAITS
        if action == DELAY and not late:
            if held.lane is None or held.lane.key != self.engine.queue:
                hold.wait_for_limit(name, held, self._now, must or publish.retain or held.conflates)
            return WAITS
        if action == DELAY:
            action = DROP
            self.engine.late(self._subject, DROP, self._now)
        topic = data[publish.topic : publish.topic_end]
        hold.remove(name, self._now)
        if must:
            self._chain_bytes -= held.size
            if self._tied.get(topic) is held:
                del self._tied[topic]
        if held.slot >= 0:
            self._waiting.counters.delayed(held.slot, self._subject.first_class, self._now - held.arrived)
        if held.packet is None:
            self._large = False
            self._decided = action
            self.may_resume = True
        elif action == 0:
            connection.deliver(data, publish.qos)
        return GONE if action else PASSED

    def _follow(self, name: bytes) -> None:
        """The first of a name has left: decide those behind it, up to one that must wait."""
        hold = self._hold
        while hold is not None and name in hold.topics and hold.topics[name][0].lane is None:
            if self._try(name, 0) == WAITS:
                return
            hold = self._hold

    @property
    def next_deadline(self) -> float:
        """Seconds of the clock at which `expire` is due; NEVER."""
        return NEVER if self._hold is None else self._hold.next_deadline

    def expire(self, now: float) -> None:
        """Drop what has waited too long; with much of it, the next call goes on."""
        self._now = now
        for _ in range(MOST_AT_ONCE):
            name = None if self._hold is None else self._hold.expired(now)
            if name is None:
                break
            self._try(name, NOBODY_BEFORE, late=True)
            self._follow(name)
        self._look_at_parked()

    def go_on(self, now: float) -> None:
        """Try what waits for the client itself: it takes again what is written to it, or has acknowledged something."""
        self._now = now
        self.has_freed = False
        has_moved = True
        while has_moved and self._hold is not None:  # of those that still wait, a few are enough
            has_moved = False
            hold = self._hold
            lane = hold.own_lane()
            for _, name in [] if lane is None else nsmallest(MOST_OWN, lane.heads):
                if hold.waits_itself(name):
                    hold.unlane(name, now)
                    self._follow(name)
                    has_moved = has_moved or not hold.waits_itself(name)
        self._look_at_parked()
        self._waiting.wake_others()

    def _look_at_parked(self) -> None:
        """Some may have left the hold: what is parked for lack of room may go on."""
        connection = self._connection
        if connection is None or not connection.broker_held or self._large or self._decided >= 0:
            return
        hold = self._hold
        chain = None if hold is None else hold.topics.get(CHAIN)
        # Until a quarter of it is free: reading on is worth it then.
        if chain is None or self._fits(len(chain) * 4 // 3, self._chain_bytes * 4 // 3):
            self.may_resume = True

    # What the client does

    def takes(self, takes: bool, now: float) -> None:
        """Whether the client takes what is written to it."""
        self._is_full = not takes
        if takes:
            self.go_on(now)

    @property
    def spares_broker(self) -> bool:
        """Whether the broker may be read also while the client takes nothing: what comes is kept, within bounds."""
        return self._delays

    def acknowledged(self, packet_id: int, now: float) -> None:
        """The exchange of a message is over: its places in windows are free."""
        taken = None if self._windows is None else self._windows.pop(packet_id, None)
        if taken is not None:
            self._waiting.give_back(taken, now)
            self.has_freed = True
            self._received.discard(packet_id)
            if packet_id in self._shared:
                self._shared.discard(packet_id)
                self._shared_since = now
                self._is_excused = False

    def received(self, packet_id: int, now: float) -> None:
        """The client has sent PUBREC, so PUBCOMP is the last that it has to say, once the broker has sent PUBREL."""
        if self._windows is None or packet_id not in self._windows:
            return
        if self._is_parked:
            self.acknowledged(packet_id, now)
        else:
            self._received.add(packet_id)

    def parked(self, now: float) -> None:
        """The broker is not read until something may go on: nor are its PUBRELs, so nothing may wait for these."""
        self._is_parked = True
        while self._received:
            self.acknowledged(self._received.pop(), now)

    @property
    def patience_until(self) -> float:
        """Seconds of the clock until which it may keep its places in shared windows without a sign of life; NEVER."""
        return self._shared_since + OWED_TIME if self._shared else NEVER

    def excuse(self, now: float) -> bool:
        """Whether its time begins anew, as its acknowledgements may wait unread: once, until one has come."""
        if self._is_excused:
            return False
        self._is_excused = True
        self._shared_since = now
        return True

    # Its end

    def flush(self) -> None:
        """Have written what turns have led to."""
        connection = self._connection
        if connection is not None:
            if self.may_resume:
                connection.resume_broker(self._now)
            connection.flush()

    def holds(self) -> int:
        """Bytes that wait."""
        return 0 if self._hold is None else self._hold.bytes

    def cut(self) -> None:
        """The holds of the worker are full, and this one is the largest: drop what may be, else end the connection."""
        hold = self._hold
        count = 0
        if hold is not None:
            for name in [name for name in hold.topics if name != CHAIN]:
                while name in hold.topics:
                    if hold.remove(name, self._now).packet is None:
                        self._large = False
                        self._decided = DROP
                        self.may_resume = True
                    count += 1
        if count:
            self._waiting.counters.add(HOLD_DISCARDED + Discard.POOL, count)
        elif (connection := self._connection) is not None:
            connection.cut()
            self._waiting.write_later(connection)  # ours reaches it no longer

    def close(self, now: float) -> int:
        """The connection has ended; how many messages were given up."""
        count = 0 if self._hold is None else self._hold.discard(now)
        self._hold = None
        self._connection = None
        self._tied.clear()
        if self._windows is not None:
            for taken in self._windows.values():
                self._waiting.give_back(taken, now)
            self._windows = None
            self._waiting.wake_others()
        return count
