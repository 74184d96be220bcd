"""How many clients the open-file limit of a worker leaves room for, and what is told when there is none.

At the limit itself accept(2) fails, the broker cannot be reached, and nobody is told why. So a worker refuses clients
before: each has room for both of its sockets from its accept until both are closed, whether or not the one to the
broker is open yet.
"""

import errno
import resource
import time
from collections.abc import Callable

from ..engine.counters import REFUSED, Counters, Refusal
from .health import Log

SOCKETS_EACH = 2
"""Descriptors of a client: its own connection and the one to the broker."""
FILES_FOR_EACH_WORKER = 2
"""An eventfd, and a pipe to write to."""
SPARE = 64
"""Descriptors that a worker needs besides, and the listening sockets and what each worker has: about 20 of its
event loop, its control socket, shared memory and log; one for each probe of the broker; the rest for those that the
resolver of names opens."""
UNLIMITED = 1 << 20
"""What a limit of "infinity" stands for: the kernel's own ceiling for one process, fs.nr_open, unless it was raised."""
TELL_INTERVAL = 10.0
"""Seconds between two lines of the log about clients that were refused, or could not be served."""

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def raise_open_files() -> int:
    """Use all of the open-file limit that this process may: how many descriptors that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # a sandbox that forbids what the kernel would allow
            hard = soft
    return UNLIMITED if hard == resource.RLIM_INFINITY else hard


def clients_within(limit: int, listeners: int, workers: int) -> int:
    """How many clients one worker of so many, with so many listening sockets, takes under an open-file limit."""
    return max(0, (limit - SPARE - listeners - FILES_FOR_EACH_WORKER * workers) // SOCKETS_EACH)


def is_shortage(error: OSError) -> bool:
    """Whether a socket could not be had because this process or machine has run out of something."""
    return error.errno in _SHORTAGES


class Room:
    """Room for `most` clients, which an open-file limit of `limit` leaves."""

    def __init__(
        self, most: int, limit: int, counters: Counters, log: Log, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most = most
        self.taken = 0
        self.kept = 0
        """Upstreams whose clients have gone."""
        self._limit = limit
        self._counters = counters
        self._log = log
        self._clock = clock
        self._refused = 0
        self._tell_at = 0.0
        self._tell_shortage_at = 0.0

    def take(self) -> bool:
        """Take the room of one client; False when there is none, which is counted, and told now and then."""
        if SOCKETS_EACH * self.taken + self.kept <= SOCKETS_EACH * (self.most - 1):
            self.taken += 1
            return True
        self._counters.add(REFUSED + Refusal.OPEN_FILES, 1)
        self._refused += 1
        now = self._clock()
        if now >= self._tell_at:
            self._tell_at = now + TELL_INTERVAL
            self._log.warning(
                "clients refused: the open-file limit has no room for more",
                refused=self._refused,
                clients=self.taken,
                limit=self._limit,
                fix="raise LimitNOFILE in the systemd unit, or the hard limit in /etc/security/limits.conf",
            )
            self._refused = 0
        return False

    def tell_shortage(self, error: OSError) -> None:
        """Tell now and then that a connection had no socket: somebody else has taken what was spare."""
        now = self._clock()
        if now >= self._tell_shortage_at:
            self._tell_shortage_at = now + TELL_INTERVAL
            self._log.warning("no socket for a connection", reason=error.strerror, clients=self.taken)

    def leave(self) -> None:
        """Give the room of one client back."""
        self.taken -= 1

    def keep(self) -> None:
        """Have one more descriptor in use, of an upstream that is kept: its client had room for two."""
        self.kept += 1

    def let_go(self) -> None:
        """It is closed."""
        self.kept -= 1
