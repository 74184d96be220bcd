"""A rate for every key, exact over all processes that open the same file, without a server between them.

The one part of the engine with a clock and a path of its own: the public library on top of it, which nothing else in
Tidegate uses. docs/limiter.md says what it promises.
"""

import hashlib
import os
import secrets
import time
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

from . import memory
from .binding import Meter, Segment
from .errors import SegmentError, StaleSegment
from .format import price
from .rate import parse_rate

BUDGETS = 1024
"""Different names and rates in one file; 192 bytes each."""
WORDS_PER_KEY = 4
"""A budget of one rate may have a quarter of the table at once (native/budget.c), so that `keys` of them fit."""
MOST_KEYS = 1 << 26
"""4 GiB."""
_LEAST_WORDS = 1024
_NANOSECONDS = 1e9


class Hit(NamedTuple):
    """What became of a hit; true when it passed. A tuple, as that is what Python makes fastest."""

    passed: bool
    retry_after: float
    """Seconds until it would pass, if nobody else hits the key meanwhile; 0.0 when it passed."""

    def __bool__(self) -> bool:
        return self.passed


_PASSED = Hit(passed=True, retry_after=0.0)


_open_limiters: "weakref.WeakSet[Limiter]" = weakref.WeakSet()


def _nonce() -> int:
    """What tells this process from the others while it makes a bucket."""
    return secrets.randbits(31)


def _renew_after_fork() -> None:
    for limiter in _open_limiters:
        limiter.renew()


os.register_at_fork(after_in_child=_renew_after_fork)


class Limiter:
    """`rate` ("100/s burst 20") for every key, counted together by all who open `path` with the same name and rate.

    `path` is made by the first, for `keys` keys at once of each name (64 bytes each), and taken as it is by those who
    come later; /dev/shm or another tmpfs is its place. `clock`: nanoseconds that never go back, the same for all.
    ValueError when the rate or the number of keys is none; SegmentError when the file can be neither opened nor made,
    or is none of ours. Threads may share a Limiter, and so may processes that fork.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rate: str,
        *,
        name: str = "default",
        keys: int = 65536,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        amount, period, burst = parse_rate(rate)
        if not 1 <= keys <= MOST_KEYS:
            raise ValueError(f"{keys} keys; give 1 to {MOST_KEYS}")
        segment = _open(Path(path), keys)
        identity = hashlib.blake2b(f"{amount / period}\0{burst}\0{name}".encode(), digest_size=8).digest()
        try:
            meter = Meter(segment, int.from_bytes(identity, "little"), _nonce(), price(amount, period, burst))
        except SegmentError as error:
            raise SegmentError(f"{path}: {error.text}", error.fix) from error
        self.burst = burst
        """The highest cost that a hit may have."""
        self._clock = clock
        self._meter: Meter | None = meter
        _open_limiters.add(self)

    def hit(self, key: str | bytes, cost: int = 1) -> Hit:
        """Charge `cost` to the budget of `key` if that has so much, else charge nothing; text counts as its UTF-8.

        ValueError when the cost is below 1 or above the burst, as that could never pass, and when it is closed.
        """
        if self._meter is None:
            raise ValueError("the limiter is closed")
        if not 1 <= cost <= self.burst:
            raise ValueError(f"a cost of {cost}; give 1 to {self.burst}, the burst")
        raw = key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")
        wait = self._meter.hit(raw, cost, self._clock())
        return Hit(passed=False, retry_after=wait / _NANOSECONDS) if wait else _PASSED

    def renew(self) -> None:
        """Be another process than before: called in the child of a fork."""
        if self._meter is not None:
            self._meter.renew(_nonce())

    def close(self) -> None:
        """Let go of the memory; the file and what it has counted stay."""
        self._meter = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


def _open(path: Path, keys: int) -> Segment:
    words = max(_LEAST_WORDS, 1 << (WORDS_PER_KEY * keys - 1).bit_length())
    boot = memory.boot()

    def fill(room: memoryview) -> None:
        Segment.create(room, 0, BUDGETS, 0, words, 0, boot, memory.secret())

    def is_stale(room: memoryview) -> bool:
        try:
            Segment(room, boot)
        except StaleSegment:
            return True
        except SegmentError:
            return False
        return False

    room = memory.open_named(path, Segment.size(0, BUDGETS, 0, words, 0), fill, is_stale=is_stale)
    try:
        segment = Segment(room, boot)
    except SegmentError as error:
        raise SegmentError(f"{path}: {error.text}", f"stop what uses it and remove it: rm {path}") from error
    if segment.rows or segment.policy_room:
        raise SegmentError(f"{path}: the segment of a gateway", "give the limiter a path of its own")
    return segment
