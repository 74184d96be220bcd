"""The policy in shared memory: the supervisor makes the segment, publishes generations, and reads what was counted."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..engine.binding import Engine, Segment, Transition
from ..engine.counters import DELAY_SERIES, DELAY_WORDS, DELAYS, OTHERS, ROW_WORDS
from ..engine.format import MAX_SLOTS
from ..engine.memory import (
    GUEST_ROWS,
    boot,
    create_anonymous,
    map_memory,
    replace_named,
    row_is_held,
    secret,
)
from ..policy.actions import after_delay, reached
from ..policy.compile import TooMuch, assign_slots, compile_policy, identity_of
from ..policy.counts import OTHER, DelayCounts, LimitCounts
from ..policy.limits import can_be_exceeded
from ..policy.model import Action, Limit, Policy

RECORDS = 512
"""Transitions kept for each worker, 256 bytes each: more than come between two looks at them."""
LEAST_SLOTS = 1024
LEAST_ROOM = 1 << 20
"""Limits, and bytes of a compiled policy, for which a segment has room at least: what a reload may bring."""


class PolicyHost:
    """The one who may change the policy of a segment. SegmentError when there is no memory for it."""

    def __init__(
        self, policy: Policy, *, workers: int, buckets: int, largest_packet: int, path: Path | None = None
    ) -> None:
        """`buckets`: a power of two; `largest_packet`: bytes. TooMuch for a policy that does not fit.

        `path`: a file that the segment is to be, for plugins; it has rows for them, and is removed by `close`.
        """
        self._largest_packet = largest_packet
        self._workers = workers
        self._slots: dict[str, int] = {}
        self._used = 0
        """Slots below have counters of somebody."""
        slots = assign_slots(policy)
        blob = compile_policy(policy, slots, largest_packet)
        room = max(LEAST_ROOM, 4 * len(blob))
        places = min(max(LEAST_SLOTS, 1 << (2 * len(slots)).bit_length()), MAX_SLOTS)
        rows = workers if path is None else workers + GUEST_ROWS
        size = Segment.size(rows, places, RECORDS, buckets, room)

        def fill(memory: memoryview) -> None:
            Segment.create(memory, rows, places, RECORDS, buckets, room, boot(), secret())

        self._path = path
        self.fd = create_anonymous(size) if path is None else replace_named(path, size, fill)
        memory = map_memory(self.fd)
        if path is None:
            fill(memory)
        self.segment = Segment(memory, boot())
        self._guests: set[int] = set()
        """Rows that plugins had when they were looked at last."""
        # Loads what workers are about to load, so that what does not load never reaches them.
        self._trial = Engine(self.segment, -1)
        self._read = [0] * rows
        self._events_lost = 0
        self.policy = policy
        self._publish(policy, slots, blob)

    @property
    def generation(self) -> int:
        """How many policies have been in force."""
        return self.segment.generation

    def replace(self, policy: Policy) -> None:
        """Make this the policy from now on; limits that stay keep buckets and counters. TooMuch, PolicyError."""
        slots = self._place(policy)
        self._publish(policy, slots, compile_policy(policy, slots, self._largest_packet))

    def _place(self, policy: Policy) -> dict[str, int]:
        """Slots for a new policy. One whose limit is gone is reused last, as its counters end there."""
        slots = {limit.name: self._slots[limit.name] for limit in policy.limits if limit.name in self._slots}
        kept = set(slots.values())
        places = [*range(self._used, self.segment.slots), *(slot for slot in range(self._used) if slot not in kept)]
        names = [limit.name for limit in policy.limits if limit.name not in slots]
        if len(names) > len(places):
            raise TooMuch(f"more limits than the {self.segment.slots} that this start has room for; restart")
        return slots | dict(zip(names, places, strict=False))

    def _publish(self, policy: Policy, slots: dict[str, int], blob: bytes) -> None:
        if len(blob) > self.segment.policy_room:
            raise TooMuch("the policy is much larger than the one at the start, for which memory was taken; restart")
        self._trial.load(blob)
        for name, slot in slots.items():
            if slot < self._used and self._slots.get(name) != slot:
                self.segment.forget(slot)
        self.segment.publish(blob)
        self.policy = policy
        self._slots = slots
        self._used = max(self._used, 1 + max(slots.values(), default=-1))

    def restore_scales(self) -> None:
        """Set every limit's scale factors to what they should be: 1."""
        self.segment.reset_scales()

    def close(self) -> None:
        """Take the segment's file away, if it still is this one; whoever has it keeps it."""
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self._path), os.fstat(self.fd)):
                    os.unlink(self._path)
        os.close(self.fd)

    def recover_guests(self) -> None:
        """Forget what plugins that have ended had in flight."""
        if self._path is not None:
            held = {row for row in range(self._workers, self.segment.rows) if row_is_held(self.fd, row)}
            for row in self._guests - held:
                self.segment.recover(row)
            self._guests = held

    # What was counted

    def counts(self, now: float) -> Iterator[LimitCounts]:
        """Of each limit in force; `now` in seconds of the monotonic clock."""
        if not self._slots:
            return
        bursts = [0] * (1 + max(self._slots.values()))
        for name, burst in zip(self._trial.names, self._trial.bursts(), strict=True):
            bursts[self._slots[name]] = burst
        census = self.segment.census(now, bursts)
        for limit in self.policy.limits:
            slot = self._slots[limit.name]
            passed, *limited, crowded = self.segment.tallies(slot)
            live, full = census[slot]
            taken: dict[Action, int] = {action: limited[action - 1] for action in Action if action is not Action.PASS}
            yield LimitCounts(
                limit.name,
                # Redeliveries are delayed, whatever the limit does to others.
                _actions(limit) | {action for action, count in taken.items() if count},
                passed,
                taken,
                crowded,
                live,
                full,
            )

    def delays(self, words: memoryview) -> Iterator[DelayCounts]:
        """How long messages were held, of each limit and class in force; `words`: the block of the workers' counters.

        What was counted of a limit or a class that is gone is left out: under another label it would have to be taken
        away again when the class returns. A limit in the place of one that is gone goes on from that one's numbers.
        """
        limits = {slot + 1: name for name, slot in self._slots.items()}
        classes = {0: "", **{identity_of(one.name): one.name for one in self.policy.classes}}
        found: dict[tuple[str, str], list[int]] = {}
        for place, identity, *numbers in self._series(words):
            limit, name = (OTHER, OTHER) if place == OTHERS else (limits.get(place), classes.get(identity))
            if limit is not None and name is not None:
                before = found.get((limit, name), [0] * len(numbers))
                found[limit, name] = [one + more for one, more in zip(before, numbers, strict=True)]
        for (limit, name), (count, microseconds, *buckets) in found.items():
            yield DelayCounts(limit, name, count, microseconds / 1e6, tuple(buckets))

    def _series(self, words: memoryview) -> Iterator[list[int]]:
        """The words of every series of delays that a worker has begun; the first that is unused ends its row."""
        for row in range(self._workers):
            first = row * ROW_WORDS + DELAYS
            for at in range(first, first + DELAY_SERIES * DELAY_WORDS, DELAY_WORDS):
                if not words[at]:
                    break
                yield words[at : at + DELAY_WORDS].tolist()

    def transitions(self) -> Iterator[tuple[Limit, Transition]]:
        """Who came under a limit, or no longer is, since the last look; with the limit."""
        limits = {self._slots[limit.name]: limit for limit in self.policy.limits}
        for row in range(self.segment.rows):
            told, self._read[row], lost = self.segment.events(row, self._read[row])
            self._events_lost += lost
            for transition in told:
                if (limit := limits.get(transition.slot)) is not None:
                    yield limit, transition

    @property
    def events_lost(self) -> int:
        """Transitions that nobody was told of, as too many were going on."""
        return self._events_lost + sum(self.segment.events_lost(row) for row in range(self.segment.rows))


def _actions(limit: Limit) -> frozenset[Action]:
    """Those that are counted. That a message passes after its delay is none."""
    if not can_be_exceeded(limit):
        return frozenset()
    found = reached(limit.on_excess, limit.qos) | after_delay(limit.on_excess, limit.then, limit.qos)
    return frozenset(found - {Action.PASS})
