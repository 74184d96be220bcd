"""Counters and gauges that outlive the process that writes them.

A block of anonymous shared memory holds one row of 64-bit words per worker. A worker writes its own row only, so
nothing needs a lock; the supervisor keeps the block mapped, so a worker that is killed takes no count with it, and
its successor goes on in the same row. The memory has no name: when the last process is gone, so is the block.
"""

import mmap
import os

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
REFUSED_UPSTREAM_DOWN = 68
"""Clients that were told the broker is not available."""
UPSTREAM_UP = 69
"""Gauge: 1 while the broker answers."""
BROKER_LOST = 70
"""Client connections that ended because the broker closed them without a DISCONNECT or was gone."""
TIMED_OUT_CONNECT = 71
"""Clients that sent no CONNECT within `connect_timeout`."""
TIMED_OUT_KEEPALIVE = 72
"""Clients that were silent for more than one and a half times their keepalive."""
LAG_COUNT = 80
LAG_MICROSECONDS = 81
LAG_BUCKETS = 82
"""Cumulative counters of a histogram: turns of the event loop that came late by at most `LAG_BOUNDS[i]` seconds."""
LAG_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)

ROW_WORDS = 128
"""Words per row: 1 KiB, so that no two workers write one cache line."""


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

    def put(self, index: int, value: int) -> None:
        """Set a gauge."""
        self.words[self.base + index] = value

    def value(self, index: int) -> int:
        """What the word holds now."""
        return self.words[self.base + index]
