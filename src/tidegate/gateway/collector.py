"""When a worker looks for garbage that only Python's cycle collector finds: once what it keeps has doubled.

The collector's own rhythm follows how many objects are made, and each of its looks visits all that were made since the
last: with tens of thousands of connections or held messages it stops the whole worker for tens of milliseconds, every
second, to find nothing, since what ends here leaves no cycles. Doubling finds what does after all, and stops rarely.
"""

import gc
import sys

LEAST_BLOCKS = 200_000
"""Pieces of memory below which it is not worth a look: some 20 MiB."""


class Collector:
    """The collector of this process, from now on; what lives already is left out for good."""

    def __init__(self) -> None:
        gc.collect()
        gc.freeze()
        gc.disable()
        self._limit = self._next()

    def look(self) -> bool:
        """Collect if it is time; whether it was. To be called now and then; takes some microseconds if not."""
        if sys.getallocatedblocks() < self._limit:
            return False
        gc.collect()
        self._limit = self._next()
        return True

    @staticmethod
    def _next() -> int:
        return max(2 * sys.getallocatedblocks(), LEAST_BLOCKS)
