"""A gateway that is not there: what `tidegate.control` reads, as plain values."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tidegate.engine.counters import ROW_WORDS, Counters
from tidegate.policy.counts import BanCounts, DelayCounts, LimitCounts


@dataclass
class FakeSource:
    workers: int = 2
    restarts: int = 0
    living: dict[str, int] = field(default_factory=dict)
    policy_generation: int = 1
    failed_reloads: int = 0
    events_lost: int = 0
    counted: Sequence[LimitCounts] = ()
    delayed: Sequence[DelayCounts] = ()
    banned: Sequence[BanCounts] = ()
    bans_dropped: int = 0

    def __post_init__(self) -> None:
        self.words = memoryview(bytearray(self.workers * ROW_WORDS * 8)).cast("Q")
        self.rows = [Counters(self.words, row) for row in range(self.workers)]
        names = ["supervisor", *(f"worker-{row}" for row in range(self.workers))]
        self.living = dict.fromkeys(names, os.getpid())

    def limits(self) -> Sequence[LimitCounts]:
        return self.counted

    def delays(self) -> Sequence[DelayCounts]:
        return self.delayed

    def bans(self) -> Sequence[BanCounts]:
        return self.banned

    def processes(self) -> Mapping[str, int]:
        return self.living
