"""Counters and gauges that outlive the process that writes them.

A block of anonymous shared memory holds one row of 64-bit words per worker. A worker writes its own row only, so
nothing needs a lock; the supervisor keeps the block mapped, so a worker that is killed takes no count with it, and
its successor goes on in the same row. The memory has no name: when the last process is gone, so is the block.
"""

import mmap
import os
from enum import IntEnum

PACKETS_FROM_CLIENT = 0
"""16 counters: packets read from clients, by packet type."""
PACKETS_FROM_BROKER = 16
"""16 counters: packets read from the broker, by packet type."""
MALFORMED = 32
"""32 counters: packets refused as malformed, by `mqtt.errors.Fault`."""
BYTES_FROM_CLIENT = 64
BYTES_FROM_BROKER = 65
CONNECTIONS = 66
"""Gauge: client connections that are open now."""
CONNECTIONS_TOTAL = 67
UPSTREAM_UP = 69
"""Gauge: 1 while the broker answers."""
BROKER_LOST = 70
"""Client connections that ended because the broker closed them without a DISCONNECT or was gone."""
TIMED_OUT_CONNECT = 71
"""Clients that sent no CONNECT within `connect_timeout`."""
TIMED_OUT_KEEPALIVE = 72
"""Clients that were silent for more than one and a half times their keepalive."""
TIMED_OUT_WINDOW = 73
"""Clients that kept a shared window's place for too long, by not sending PUBREL or by not reading."""
TIMED_OUT_PACKET = 74
"""Clients that began a packet and did not go on with it."""
WAITING_CONNECTIONS = 75
"""Gauge: connections that limits on connecting keep waiting."""
WILLS_HELD = 76
"""Gauge: wills that limits hold back."""
LAG_COUNT = 80
LAG_MICROSECONDS = 81
LAG_BUCKETS = 82
"""Cumulative counters of a histogram: turns of the event loop that came late by at most `LAG_BOUNDS[i]` seconds."""
LAG_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
HOLD_BYTES = 96
"""Gauge: bytes that the holds of this worker's connections take."""
HELD_MESSAGES = 97
"""Gauge: messages in them."""
INFLIGHT_FROM_CLIENT = 98
"""Gauge: QoS 1 and 2 messages that clients have sent on to the broker and whose exchange is not over."""
INFLIGHT_FROM_BROKER = 99
"""Gauge: the same of messages on their way to clients."""
HOLD_DISCARDED = 100
"""8 counters: held messages that were given up, by `Discard`."""
REFUSED = 108
"""16 counters: clients that were refused at CONNECT or before, by `Refusal`."""
WILLS = 124
"""4 counters: wills that limits concern, by `Outcome`."""

DELAYS = 128
"""DELAY_SERIES histograms of DELAY_WORDS words each: how long messages were held, by limit and class."""
DELAY_SERIES = 256
"""Pairs of limit and class that a worker tells apart; the last series takes all that came too late to get their own."""
DELAY_WORDS = 16
"""Of one series: the limit's slot + 1 (0: unused), the identity of the class (0: none), the count, the sum in
microseconds, and a count for each of DELAY_BOUNDS (of those at most so long and longer than the bound before)."""
DELAY_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0)
OTHERS = 0xFFFF_FFFF
"""What the last series has in place of a slot + 1."""

ROW_WORDS = DELAYS + DELAY_SERIES * DELAY_WORDS
"""Words per row: a multiple of 1 KiB, so that no two workers write one cache line."""


class Discard(IntEnum):
    """Why held messages were given up. Of QoS 1 and 2 their clients still have them."""

    CLIENT_GONE = 0
    """The client closed its connection without DISCONNECT."""
    BROKER_GONE = 1
    """The broker closed the connection."""
    ENDED = 2
    """The gateway ended the connection: a violation, a limit, a keepalive."""
    SHUTDOWN = 3
    """The gateway was shutting down."""
    POOL = 4
    """The worker's holds were full, and this one was the largest."""
    LATE = 5
    """The client had said DISCONNECT, so nobody could be told that its message waited too long."""
    FULL = 6
    """No room for it for too long, while it waited for others of its topic, or for the broker to acknowledge."""


class Refusal(IntEnum):
    """Why clients were refused, although they broke no rule."""

    UPSTREAM_DOWN = 0
    """The broker is not available."""
    OPEN_FILES = 1
    """The worker's open-file limit has no room for another."""
    KEEPALIVE = 2
    """A keepalive longer than `max_keepalive`, in a version that cannot be told of another."""
    BANNED = 3
    """They are banned."""


class Outcome(IntEnum):
    """What became of a will that limits concern, once its client had gone."""

    PUBLISHED = 0
    """The upstream was closed without DISCONNECT: the broker publishes it."""
    RETURNED = 1
    """The client came again before it was due."""
    DROPPED = 2
    """A limit dropped it."""
    LOST = 3
    """The broker ended the upstream by itself while the will was held back."""


def create_block(rows: int) -> int:
    """A file descriptor of zeroed shared memory for so many rows; it can be inherited by workers."""
    fd = os.memfd_create("tidegate-counters", 0)
    os.ftruncate(fd, rows * ROW_WORDS * 8)
    return fd


def open_block(fd: int) -> memoryview:
    """The words of a block, mapped for reading and writing."""
    return memoryview(mmap.mmap(fd, 0)).cast("Q")


class Counters:
    """One row of a block. The only writer of a row is the worker that it belongs to."""

    def __init__(self, words: memoryview, row: int) -> None:
        self.words = words
        self.base = row * ROW_WORDS
        if not 0 <= self.base <= len(words) - ROW_WORDS:
            raise ValueError(f"row {row} lies outside a block of {len(words) // ROW_WORDS} rows")

    def add(self, index: int, amount: int) -> None:
        """Count `amount` more; counters wrap at 2**64."""
        self.words[self.base + index] += amount

    def subtract(self, index: int, amount: int) -> None:
        """Lower a gauge."""
        self.words[self.base + index] -= amount

    def put(self, index: int, value: int) -> None:
        """Set a gauge."""
        self.words[self.base + index] = value

    def value(self, index: int) -> int:
        """What the word holds now."""
        return self.words[self.base + index]

    def delayed(self, slot: int, identity: int, seconds: float) -> None:
        """Note that a message of a client in the class `identity` (0: none) was held so long for the limit `slot`."""
        wanted = slot + 1
        at = self.base + DELAYS
        last = at + (DELAY_SERIES - 1) * DELAY_WORDS
        while at < last and self.words[at] and (self.words[at] != wanted or self.words[at + 1] != identity):
            at += DELAY_WORDS
        if at == last:
            self.words[at] = OTHERS
        elif not self.words[at]:
            self.words[at + 1] = identity
            self.words[at] = wanted
        self.words[at + 2] += 1
        self.words[at + 3] += int(seconds * 1e6)
        for index, bound in enumerate(DELAY_BOUNDS):
            if seconds <= bound:
                self.words[at + 4 + index] += 1
                break
