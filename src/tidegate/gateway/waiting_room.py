"""The waiting room: connections that limits on connecting delay, so many at most, whoever they are."""

from collections import OrderedDict
from typing import Protocol

from ..engine.counters import WAITING_CONNECTIONS, Counters


class Guest(Protocol):
    """A connection that waits to be admitted."""

    def turn_away(self, now: float) -> None:
        """There is no room for it any longer."""


class WaitingRoom:
    """Of one worker. Full, it turns away whoever came last of the address that has the most waiting in it."""

    def __init__(self, size: int, counters: Counters) -> None:
        """`size`: connections."""
        self.size = size
        self.counters = counters
        self.count = 0
        self._guests: dict[bytes, OrderedDict[Guest, None]] = {}

    def enter(self, guest: Guest, address: bytes, now: float) -> bool:
        """Let it wait; False: no, there is no room, and nobody has more of it than its own address."""
        own = self._guests.get(address)
        last: Guest | None = None
        if self.count >= self.size:
            most = max(self._guests.values(), key=len, default=own)
            if most is None or len(most) <= (0 if own is None else len(own)) + 1:
                return False
            last = next(reversed(most))
        if own is None or not own:
            own = self._guests.setdefault(address, OrderedDict())
        own[guest] = None
        self.count += 1
        if last is not None:  # who is let in after all may come back at once, and finds the room full
            last.turn_away(now)
        self.counters.put(WAITING_CONNECTIONS, self.count)
        return True

    def leave(self, guest: Guest, address: bytes) -> None:
        """It waits no longer, if it did."""
        own = self._guests.get(address)
        if own is None or guest not in own:
            return
        del own[guest]
        if not own:
            del self._guests[address]
        self.count -= 1
        self.counters.put(WAITING_CONNECTIONS, self.count)
