"""The waiting room: connections that limits on connecting delay, so many at most, whoever they are."""

from collections import OrderedDict
from typing import Protocol

from ..engine.counters import WAITING_CONNECTIONS, Counters


class Guest(Protocol):
    """A connection that waits to be admitted."""

    def turn_away(self, now: float) -> None:
        """There is no room for it any longer."""


class WaitingRoom:
    """Of one worker. Full, it turns away whoever came last of the address that has the most waiting in it.

    A storm from thousands of addresses must not make that dear: who has the most is known without a search.
    """

    def __init__(self, size: int, counters: Counters, gauge: int = WAITING_CONNECTIONS) -> None:
        """`size`: connections; `gauge`: the counter that tells how many there are."""
        self.size = size
        self.counters = counters
        self.count = 0
        self._gauge = gauge
        self._guests: dict[bytes, OrderedDict[Guest, None]] = {}
        self._addresses: dict[int, OrderedDict[bytes, None]] = {}
        """By how many guests they have."""
        self._most = 0

    def enter(self, guest: Guest, address: bytes, now: float) -> bool:
        """Let it wait; False: no, there is no room, and nobody has more of it than its own address."""
        own = self._guests.get(address)
        last: Guest | None = None
        if self.count >= self.size:
            if self._most <= (0 if own is None else len(own)) + 1:
                return False
            last = next(reversed(self._guests[next(iter(self._addresses[self._most]))]))
        if own is None:
            own = self._guests[address] = OrderedDict()
        own[guest] = None
        self._count(address, len(own) - 1, len(own))
        if last is not None:  # who is let in after all may come back at once, and finds the room full
            last.turn_away(now)
        return True

    def leave(self, guest: Guest, address: bytes) -> None:
        """It waits no longer, if it did."""
        own = self._guests.get(address)
        if own is None or guest not in own:
            return
        del own[guest]
        self._count(address, len(own) + 1, len(own))
        if not own:
            del self._guests[address]

    def _count(self, address: bytes, before: int, after: int) -> None:
        """An address has one guest more, or one less."""
        if before:
            of_size = self._addresses[before]
            del of_size[address]
            if not of_size:
                del self._addresses[before]
        if after:
            self._addresses.setdefault(after, OrderedDict())[address] = None
        if after > self._most or self._most not in self._addresses:
            self._most = after
        self.count += after - before
        self.counters.put(self._gauge, self.count)
