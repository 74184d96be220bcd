"""Clients that keep to their limit while others do not."""

import heapq
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

AMOUNT, PERIOD, BURST = 6, 60.0, 6
"""The limit that they keep to: so many in so many seconds, so many at once."""
RATE = f"{AMOUNT}/min burst {BURST}"
INTERVAL = PERIOD / AMOUNT
BUSY, RARE = "busy", "rare"
"""A busy one spends nearly all of its burst at once and then the rate: its budget is in use all the time. That of a
rare one is full again, and so without a trace, before each of its messages."""
ATTACKER, NEIGHBOUR = "127.0.0.1", "127.0.0.2"
"""Addresses: that of those who do not, and another."""
GROUPS = tuple(itertools.product((BUSY, RARE), (NEIGHBOUR, ATTACKER)))
EACH = 20
"""Victims in a group."""
NAMES = tuple(f"{kind}/{address}/{number}" for kind, address in GROUPS for number in range(EACH))
_BUSY_INTERVAL = INTERVAL + 0.5
_RARE_INTERVAL = INTERVAL + 2.0
_POLL_SECONDS = 0.05


def address_of(name: str) -> str:
    """Where a victim comes from."""
    return name.split("/")[1]


def lost(published: Counter[str], arrived: Callable[[str], int]) -> dict[tuple[str, str], tuple[int, int]]:
    """By group: messages published, and lost."""
    found = dict.fromkeys(GROUPS, (0, 0))
    for name, count in published.items():
        kind, address, _ = name.split("/")
        sent, missing = found[kind, address]
        found[kind, address] = sent + count, missing + count - arrived(name)
    return found


class Victims:
    """Whom a message is due of, by name; `publish` is told the name."""

    def __init__(self, names: Iterable[str], publish: Callable[[str], None]) -> None:
        """Names are of NAMES."""
        self.published: Counter[str] = Counter()
        self._publish = publish
        self._names = list(names)
        self._due: list[tuple[float, str]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.trouble: str | None = None

    def begin(self, now: float) -> None:
        """The first messages: of the busy ones all but one of the burst. The next ones are spread over the interval."""
        for number, name in enumerate(self._names):
            for _ in range(BURST - 1 if name.startswith(BUSY) else 1):
                self._one(name)
            heapq.heappush(self._due, (self._after(name, now) + number * INTERVAL / len(self._names), name))

    def go_on(self, now: float) -> None:
        """Publish what is due; late is later for all that follows, so that no limit is exceeded."""
        while self._due[0][0] <= now:
            _, name = self._due[0]
            self._one(name)
            heapq.heapreplace(self._due, (self._after(name, now), name))

    def start(self) -> None:
        """Begin, and go on by a thread."""
        self.begin(time.monotonic())
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        try:
            while not self._stop.wait(_POLL_SECONDS):
                self.go_on(time.monotonic())
        except Exception as error:  # their messages are missing then, and this is why
            self.trouble = repr(error)

    def _one(self, name: str) -> None:
        self.published[name] += 1
        self._publish(name)

    def _after(self, name: str, now: float) -> float:
        return now + (_BUSY_INTERVAL if name.startswith(BUSY) else _RARE_INTERVAL)
