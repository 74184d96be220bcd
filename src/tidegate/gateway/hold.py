"""The hold: PUBLISH packets of one connection that a limit delays.

Per topic they leave in the order in which they came, whatever their QoS; topics do not wait for each other. The first
of each topic waits in a lane (`waiting.py`) for what the limit lacks; those behind it are decided when they are first.
"""

from collections import deque
from heapq import heapify, heappop, heappush

from .ordinals import ITSELF
from .waiting import NEVER, Lane, Owner, Waiting, party

OVERHEAD = 600
"""Bytes that a held message takes besides its packet and topic, at most: one of a topic of its own."""
MOST_STALE = 64
"""Deadlines that are kept of messages which have left."""


class Held:
    """One message. Times are seconds of the monotonic clock."""

    def __init__(self, topic: bytes, packet: bytes | None, packet_id: int, sequence: int, arrived: float) -> None:
        self.packet = packet
        """Whole, with its topic in full; None: it is too large to be kept, and waits unread."""
        self.packet_id = packet_id
        """0 for QoS 0."""
        self.sequence = sequence
        self.arrived = arrived
        self.deadline = NEVER
        self.counted = False
        """A limit has counted it as delayed."""
        self.slot = -1
        """That limit's place in the segment."""
        self.conflates = False
        """A newer message of its topic takes its place."""
        self.size = OVERHEAD + len(topic) + (0 if packet is None else len(packet))
        self.lane: Lane | None = None


class Hold:
    """All that one connection has waiting. Costs nothing before the first message."""

    def __init__(self, waiting: Waiting, owner: Owner, address: bytes) -> None:
        self.waiting = waiting
        self.owner = owner
        self.address = party(address)
        self.topics: dict[bytes, deque[Held]] = {}
        self.ids: set[int] = set()
        """Packet identifiers of the held messages."""
        self.bytes = 0
        self.count = 0
        self._lanes: dict[int, Lane] = {}
        self._deadlines: list[tuple[float, int, bytes]] = []
        """A heap of the first messages': deadline, sequence, topic. Those that have left are passed over."""
        self._sequence = 0

    def has_room(self, size: int) -> bool:
        """Whether a packet of so many bytes may be added."""
        if not self.count:  # one may always wait, however large
            return True
        return self.count < self.waiting.hold_messages and self.bytes + size + OVERHEAD <= self.waiting.hold_bytes

    @property
    def is_roomy(self) -> bool:
        """Whether a quarter of it is free, so that reading on is worth it."""
        return 4 * self.count <= 3 * self.waiting.hold_messages and 4 * self.bytes <= 3 * self.waiting.hold_bytes

    def add(self, topic: bytes, packet: bytes | None, packet_id: int, now: float) -> Held:
        """Keep a message as the last of its topic."""
        self._sequence += 1
        held = Held(topic, packet, packet_id, self._sequence, now)
        behind = self.topics.get(topic)
        if behind is None:
            behind = self.topics[topic] = deque()
        behind.append(held)
        if packet_id:
            self.ids.add(packet_id)
        self.bytes += held.size
        self.count += 1
        self.waiting.took(self.owner, self.address, held.size)
        return held

    def first(self, topic: bytes) -> Held | None:
        """The message of a topic that is next."""
        behind = self.topics.get(topic)
        return None if behind is None else behind[0]

    def wait(self, topic: bytes, held: Held, key: int, wait: float, now: float) -> None:
        """The first of a topic waits for `key`, at least for `wait` seconds; key 0: for this connection itself."""
        self.unlane(topic, now)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(self.owner, self.address, key)
        was_empty = not lane.heads
        lane.push(held.sequence, topic)
        held.lane = lane
        if was_empty and key:
            self.waiting.join(lane, wait, now)

    def wait_for_limit(self, topic: bytes, held: Held, now: float, is_patient: bool = False) -> None:
        """The first of a topic waits for what the limit lacks that the engine was asked last; patient: however long."""
        engine = self.waiting.engine
        held.counted = True
        held.slot = engine.slot
        if held.deadline == NEVER and not is_patient:
            self.expires(topic, held, held.arrived + engine.max_delay)
        key = 0 if engine.queue == ITSELF else engine.queue
        self.wait(topic, held, key, 0.0 if engine.by_window else engine.wait, now)

    def expires(self, topic: bytes, held: Held, deadline: float) -> None:
        """Set the deadline of the first of a topic."""
        held.deadline = deadline
        if deadline != NEVER:
            heappush(self._deadlines, (deadline, held.sequence, topic))
            if (
                len(self._deadlines) > 2 * len(self.topics) + MOST_STALE
            ):  # those behind an early one would stay for long
                self._deadlines = [
                    (behind[0].deadline, behind[0].sequence, name)
                    for name, behind in self.topics.items()
                    if behind[0].deadline != NEVER
                ]
                heapify(self._deadlines)

    def remove(self, topic: bytes, now: float) -> Held:
        """Take out the first of a topic, which has passed or was given up."""
        self.unlane(topic, now)
        behind = self.topics[topic]
        held = behind.popleft()
        if not behind:
            del self.topics[topic]
        return self._forget(held)

    def _forget(self, held: Held) -> Held:
        self.ids.discard(held.packet_id)
        self.bytes -= held.size
        self.count -= 1
        self.waiting.gave(self.address, held.size)
        if not self.count:
            self.waiting.left(self.owner, self.address)
        return held

    def remove_last(self, topic: bytes, now: float) -> Held:
        """Take out the last of a topic, before its turn."""
        behind = self.topics[topic]
        if len(behind) == 1:
            return self.remove(topic, now)
        return self._forget(behind.pop())

    def replace(self, held: Held, packet: bytes) -> None:
        """Let a newer message take the place of one that waits."""
        assert held.packet is not None
        more = len(packet) - len(held.packet)
        held.packet = packet
        held.size += more
        self.bytes += more
        self.waiting.grew(self.owner, self.address, more)

    def move(self, topic: bytes, name: bytes, now: float) -> list[Held]:
        """Put all of a topic behind what is held under another name, where it has no deadline; what that is."""
        lane = self.topics[topic][0].lane
        key = 0 if lane is None else lane.key
        self.unlane(topic, now)
        moved = self.topics.pop(topic)
        for held in moved:
            held.deadline = NEVER
        behind = self.topics.get(name)
        if behind is None:
            self.topics[name] = moved
            self.wait(name, moved[0], key, 0.0, now)
        else:
            behind.extend(moved)
        return list(moved)

    def forget_duplicate(self, packet_id: int, now: float) -> bytes | None:
        """Take out the message with this identifier if it is a redelivery (DUP): the broker has answered the first.

        The topic, if it was the first of that.
        """
        for topic, behind in self.topics.items():
            for held in behind:
                if held.packet_id == packet_id and held.packet is not None and held.packet[0] & 8:
                    if held is behind[0]:
                        self.remove(topic, now)
                        return topic
                    behind.remove(held)
                    self._forget(held)
                    return None
        return None

    def give_up_own(self, now: float) -> list[int]:
        """Give up all topics whose first message waits for this connection itself; their packet identifiers."""
        lane = self.own_lane()
        given = []
        for _, topic in [] if lane is None else list(lane.heads):
            while topic in self.topics:
                given.append(self.remove(topic, now).packet_id)
        return given

    def waits_itself(self, topic: bytes) -> bool:
        """Whether the first of a topic waits for this connection itself."""
        behind = self.topics.get(topic)
        lane = None if behind is None else behind[0].lane
        return lane is not None and lane.key == 0

    def own_lane(self) -> Lane | None:
        """The messages that wait for this connection itself."""
        return self._lanes.get(0)

    @property
    def next_deadline(self) -> float:
        """Seconds of the clock; NEVER."""
        while self._deadlines:
            deadline, sequence, topic = self._deadlines[0]
            held = self.first(topic)
            if held is not None and held.sequence == sequence and held.deadline == deadline:
                return deadline
            heappop(self._deadlines)
        return NEVER

    def expired(self, now: float) -> bytes | None:
        """A topic whose first message has waited too long."""
        return self._deadlines[0][2] if self.next_deadline <= now else None

    def discard(self, now: float) -> int:
        """Give up all of it; how many messages that were."""
        count = self.count
        for lane in self._lanes.values():
            self.waiting.leave(lane, now)
        if count:
            self.waiting.gave(self.address, self.bytes, count)
            self.waiting.left(self.owner, self.address)
        self.topics.clear()
        self._lanes.clear()
        self._deadlines.clear()
        self.ids.clear()
        self.bytes = 0
        self.count = 0
        return count

    def unlane(self, topic: bytes, now: float) -> None:
        """The first of a topic waits no longer for what it waited for."""
        held = self.topics[topic][0]
        lane = held.lane
        held.lane = None
        if lane is None:
            return
        lane.remove(topic)
        if not lane.heads:
            del self._lanes[lane.key]
            if lane.key:
                self.waiting.leave(lane, now)
