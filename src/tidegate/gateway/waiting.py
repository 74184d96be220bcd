"""Who is next: what waits for a budget or a window in a worker, messages and connections, one queue for each.

In a queue each connection has one lane, whose first message competes; addresses take turns, and the connections of one
address among themselves, so a flooder waits behind itself. Workers that have clients waiting for the same let each
other catch up (`Engine.lead`). A message is charged when its turn has come; nothing is reserved before.

Also the bound on all that waits: when the holds of the worker are full, the connection that holds the most is cut.
"""

from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Protocol

from ..engine.counters import HELD_MESSAGES, HOLD_BYTES, Counters

if TYPE_CHECKING:  # compiled code knows it by waiting.pxd; interpreted code is only handed one
    from ..engine.binding import Engine

PASSED = 0
"""Outcome of a turn: a message went on."""
WAITS = 1
"""It must go on waiting for the same; how long, the engine says."""
GONE = 2
"""It waits no longer, or for something else."""
ASKED = 3
"""A connection went on, but is charged only when the broker has accepted it."""

WINDOW_POLL = 0.05
"""Seconds after which a window is looked at, where there was no place to say that we wait for it."""
LOOK_AGAIN = 1.0
"""Seconds after which any queue is looked at: a scale factor may have raised its rate; only windows hear of that."""
LOOKS = 5000
"""Most such looks in a second: with more queues they are further apart."""
YIELD = 0.004
"""Seconds that a worker lets others catch up: longer than their event loops are late, unless they are overloaded."""
MOST_TURNS = 128
"""In one run; between two runs the event loop does everything else."""
ASKED_PAUSE = 0.02
"""Seconds before the next of them, unless the broker has answered before: what it has accepted is charged by then."""
NOBODY_BEFORE = 1
"""In place of the key of a queue, for who has waited for as long as it may: no queue has it, so nobody is before it."""
IPV6_PART = 7
"""Bytes of an IPv6 address that say whose it is."""
NEVER = float("inf")


def party(address: bytes) -> bytes:
    """Who takes turns with others: an address; of IPv6 what one customer gets, a /56."""
    return address[:IPV6_PART] if len(address) == 16 else address


def places_of(taken: object) -> tuple[int, ...]:
    """The places in windows that `Engine.taken` tells of."""
    return () if taken is None else taken if isinstance(taken, tuple) else (taken,)


class Owner(Protocol):
    """The connection that a lane belongs to."""

    def serve(self, lane: "Lane", now: float) -> int:
        """Try the first message of the lane, whose turn it is: PASSED, WAITS, GONE or ASKED."""

    def flush(self) -> None:
        """Write what that has led to."""

    def cut(self) -> None:
        """Give up what it has waiting, or end: the holds of the worker are full, and this one is the largest."""

    def holds(self) -> int:
        """Bytes that it has waiting."""


class Lane:
    """The messages of one connection that wait for `key`: of each topic the first, by order of arrival."""

    def __init__(self, owner: Owner, address: bytes, key: int) -> None:
        self.owner = owner
        self.address = address
        self.key = key
        self.heads: list[tuple[int, bytes]] = []
        """A heap: sequence number and topic."""
        self.queue: Queue | None = None

    def push(self, sequence: int, topic: bytes) -> None:
        """Another message waits."""
        heappush(self.heads, (sequence, topic))

    def remove(self, topic: bytes) -> None:
        """The first message of a topic waits here no longer."""
        if self.heads and self.heads[0][1] == topic:
            heappop(self.heads)
        else:
            self.heads = [head for head in self.heads if head[1] != topic]
            heapify(self.heads)


class Queue:
    """All lanes of a worker that wait for one key."""

    def __init__(self, key: int, now: float) -> None:
        self.key = key
        self.due = NEVER
        """When its first message may pass, as far as is known."""
        self.ring: OrderedDict[bytes, OrderedDict[Lane, None]] = OrderedDict()
        """By address, the next to be served first."""
        self.is_announced = True
        """The segment says that we wait for it, so who gives a place back wakes us."""
        self.by_window = False
        """Its first message waits for an acknowledgement, last time it was looked at."""
        self.yielded = False
        """The other workers have been let to catch up, and may have."""
        self.lately = 0
        """Messages that have passed since `since`."""
        self.since = now

    def passed(self, now: float) -> None:
        """Count a message."""
        if now - self.since > YIELD:
            self.since = now
            self.lately = 0
        self.lately += 1


class Waiting:
    """All queues of a worker. Times are seconds of the clock that decisions are made by, sizes bytes."""

    def __init__(
        self, engine: "Engine", counters: Counters, hold_messages: int, hold_bytes: int, hold_pool: int
    ) -> None:
        """At most `hold_messages` and `hold_bytes` may wait for one connection, `hold_pool` for all."""
        self.engine = engine
        self.counters = counters
        self.hold_messages = hold_messages
        self.hold_bytes = hold_bytes
        self.hold_pool = hold_pool
        self.arm: Callable[[float], None] | None = None
        """Called when `run` is due earlier than was known."""
        self.signal: Callable[[int], None] | None = None
        """Called with a bit for each worker that should `look`."""
        self.bytes = 0
        self.messages = 0
        self._held: dict[bytes, int] = {}
        """Bytes by address."""
        self._holders: dict[bytes, dict[Owner, None]] = {}
        self._queues: dict[int, Queue] = {}
        self._times: list[tuple[float, int]] = []
        """A heap: due, key. Those that no longer agree with their queue are passed over."""
        self._armed_for = NEVER
        self._is_run = False
        self._cut: dict[Owner, None] = {}
        """Those that were cut since `run`, which has written what they have to say."""
        self._running: Queue | None = None
        """The queue that is being served: it stays, and stays announced, also while it is empty."""

    # What waits

    def took(self, owner: Owner, address: bytes, size: int) -> None:
        """One more message of `owner` waits."""
        self._holders.setdefault(address, {})[owner] = None
        self.messages += 1
        self.grew(owner, address, size)

    def grew(self, owner: Owner, address: bytes, size: int) -> None:
        """What waits of `owner`, something at least, takes so many bytes more.

        When that is too much, of the address that holds the most the connection that does is cut. What others then go
        on with waits for `run`: whoever is about to go by the engine's last verdict would find it to be theirs.
        """
        self._held[address] = self._held.get(address, 0) + size
        self.bytes += size
        while self.bytes > self.hold_pool and self._holders:
            largest = max(self._holders[max(self._held, key=lambda one: self._held[one])], key=lambda one: one.holds())
            largest.cut()
            if largest is not owner:
                self.write_later(largest)
        self._tell()

    def write_later(self, owner: Owner) -> None:
        """Have `run` write what `owner` has to say, which was cut."""
        self._cut[owner] = None
        if not self._is_run:
            self._arm(0.0)

    def gave(self, address: bytes, size: int, count: int = 1) -> None:
        """`count` messages, of `size` bytes together, wait no longer."""
        self._held[address] -= size
        self.bytes -= size
        self.messages -= count
        self._tell()

    def left(self, owner: Owner, address: bytes) -> None:
        """Nothing of `owner` waits any longer."""
        holders = self._holders.get(address, {})
        holders.pop(owner, None)
        if not holders:
            self._holders.pop(address, None)
            self._held.pop(address, None)

    def _tell(self) -> None:
        self.counters.put(HOLD_BYTES, self.bytes)
        self.counters.put(HELD_MESSAGES, self.messages)

    # Who waits for what

    def join(self, lane: Lane, wait: float, now: float) -> None:
        """A lane that was empty has a message now, which may pass in `wait` seconds; 0: nobody knows."""
        queue = self._queues.get(lane.key)
        if queue is None:
            queue = self._queues[lane.key] = Queue(lane.key, now)
        lanes = queue.ring.get(lane.address)
        if lanes is None:
            lanes = queue.ring[lane.address] = OrderedDict()
        lanes[lane] = None
        lane.queue = queue
        if queue is self._running:
            return
        queue.is_announced = self.engine.wait_for(lane.key, len(queue.ring))
        if queue.due == NEVER:
            # A place that became free before we said that we wait is told to nobody: look once more.
            self._schedule(queue, now + min(wait, LOOK_AGAIN))

    def leave(self, lane: Lane, now: float) -> None:
        """A lane is empty, or its connection has ended."""
        queue = lane.queue
        lane.queue = None
        if queue is None:
            return
        lanes = queue.ring[lane.address]
        del lanes[lane]
        if not lanes:
            del queue.ring[lane.address]
        if queue is not self._running:
            self._settle(queue)
            if queue.ring:  # the one who left may have been the one whose time was known
                self._hasten(queue, now)

    def _settle(self, queue: Queue) -> None:
        """Say how many wait in a queue, and drop it if nobody does."""
        queue.is_announced = self.engine.wait_for(queue.key, len(queue.ring))
        if not queue.ring:
            del self._queues[queue.key]
            queue.due = NEVER

    def wake(self, key: int, now: float) -> None:
        """A place in a window has become free."""
        queue = self._queues.get(key)
        if queue is not None:
            self._hasten(queue, now)

    def give_back(self, taken: object, now: float) -> None:
        """Places in windows (`Engine.taken`) are free: try who waits here for them; `wake_others` tells the rest."""
        for place in places_of(taken):
            self.wake(self.engine.free(place), now)

    def wake_others(self) -> None:
        """Tell the workers whose clients wait for what has been given back."""
        rows = self.engine.rows_to_wake()
        if rows and self.signal is not None:
            self.signal(rows)

    def look(self, now: float) -> None:
        """Another worker has given something back, or a scale factor has changed: try all windows."""
        for queue in self._queues.values():
            if queue.by_window:
                self._hasten(queue, now)

    def reconsider(self, now: float) -> None:
        """There is another policy: whatever was waited for may be there, or no longer be needed."""
        for queue in self._queues.values():
            self._hasten(queue, now)

    def _hasten(self, queue: Queue, now: float) -> None:
        """Look at it now, unless that is due already: moved later, it could be overtaken for ever."""
        if queue.due > now and queue is not self._running:
            self._schedule(queue, now)

    def _schedule(self, queue: Queue, due: float) -> None:
        queue.due = due
        heappush(self._times, (due, queue.key))
        if due < self._armed_for and not self._is_run:
            self._arm(due)

    def _arm(self, at: float) -> None:
        self._armed_for = at
        if self.arm is not None:
            self.arm(at)

    @property
    def next_at(self) -> float:
        """When `run` is due; NEVER."""
        while self._times:
            due, key = self._times[0]
            queue = self._queues.get(key)
            if queue is not None and queue.due == due:
                return due
            heappop(self._times)
        return NEVER

    # Turns

    def run(self, now: float) -> None:
        """Give turns to all whose time has come, as far as MOST_TURNS reach."""
        touched: dict[Owner, None] = {}
        self._is_run = True
        try:
            self._run(now, touched)
        finally:
            self._is_run = False
            self._arm(self.next_at)
        touched.update(self._cut)
        self._cut.clear()
        for owner in touched:
            owner.flush()
        self.wake_others()

    def _run(self, now: float, touched: dict[Owner, None]) -> None:
        turns = MOST_TURNS
        while turns > 0 and self.next_at <= now:
            _, key = heappop(self._times)
            queue = self._queues[key]
            queue.due = NEVER
            self._running = queue
            try:
                due, turns = self._serve(queue, now, turns, touched)
            finally:
                self._running = None
                self._settle(queue)
            if queue.ring and due < queue.due:
                self._schedule(queue, due)

    def _serve(self, queue: Queue, now: float, turns: int, touched: dict[Owner, None]) -> tuple[float, int]:
        """Give turns in one queue; when the next is due, and how many turns are left."""
        while queue.ring:
            if turns == 0:
                return now, 0
            if self.engine.lead(queue.key) > 1.0 + queue.lately / len(queue.ring):
                if not queue.yielded:
                    queue.yielded = True
                    return now + YIELD, turns
                self.engine.level(queue.key)
            queue.yielded = False
            address, lanes = next(iter(queue.ring.items()))
            lane = next(iter(lanes))
            turns -= 1
            touched[lane.owner] = None
            outcome = lane.owner.serve(lane, now)
            if outcome == WAITS:
                queue.by_window = self.engine.by_window
                longest = max(LOOK_AGAIN, len(self._queues) / LOOKS)
                if queue.by_window:
                    return now + (longest if queue.is_announced else WINDOW_POLL), turns
                return now + min(self.engine.wait, longest), turns
            if outcome != GONE:
                queue.passed(now)
                self.engine.served(queue.key)
            # Its turn is over, whatever came of it, if it is still here.
            if lane.queue is queue:
                lanes.move_to_end(lane)
            if address in queue.ring:
                queue.ring.move_to_end(address)
            if outcome == ASKED:
                return now + ASKED_PAUSE, turns
        return NEVER, turns
