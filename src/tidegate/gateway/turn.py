"""A packet that waits for its turn, and with it, unread, all that its client has sent behind it."""

from typing import Protocol

from .hold import OVERHEAD
from .waiting import Lane, Owner, Waiting, party


class Sender(Owner, Protocol):
    """The connection that has sent it."""

    def serve_packet(self, now: float) -> int:
        """Try it, whose turn it is: PASSED, WAITS or GONE."""


class Turn:
    """One client's place in the queues of its worker. What was read of it counts in the pool of what waits.

    Times are seconds of the clock that decisions are made by, sizes bytes.
    """

    __slots__ = ("_address", "_bytes", "_owner", "_waiting", "began", "deadline", "lane", "patience", "size", "slot")

    def __init__(
        self, waiting: Waiting, owner: Sender, address: bytes, size: int, slot: int, now: float, patience: float
    ) -> None:
        """`slot`: that of the limit in the segment; `patience`: how long it may wait."""
        self._waiting = waiting
        self._owner = owner
        self._address = party(address)
        self._bytes = 0
        self.size = size
        self.slot = slot
        self.began = now
        self.patience = patience
        self.deadline = now + patience
        self.lane: Lane | None = None

    def queue(self, key: int, wait: float, now: float) -> bool:
        """Wait for `key`, at least for `wait` seconds; False: it does so already."""
        if self.lane is not None:
            if self.lane.key == key:
                return False
            self._waiting.leave(self.lane, now)
        self.lane = Lane(self, self._address, key)
        self._waiting.join(self.lane, wait, now)
        return True

    def keep(self, size: int) -> None:
        """So many bytes were read and wait. That may be too much, and end this connection, or another."""
        self._bytes = OVERHEAD + size
        self._waiting.took(self, self._address, self._bytes)

    def end(self, now: float) -> None:
        """It waits no longer."""
        if self.lane is not None:
            self._waiting.leave(self.lane, now)
            self.lane = None
        if self._bytes:
            self._waiting.gave(self._address, self._bytes)
            self._waiting.left(self, self._address)
            self._bytes = 0

    # As the owner of its lane, and of its part of the pool

    def serve(self, lane: Lane, now: float) -> int:
        """Its turn has come."""
        return self._owner.serve_packet(now)

    def flush(self) -> None:
        """Write what that has led to."""
        self._owner.flush()

    def cut(self) -> None:
        """The pool is full, and this is the largest part of it."""
        self._owner.cut()

    def holds(self) -> int:
        """Bytes that wait."""
        return self._bytes
