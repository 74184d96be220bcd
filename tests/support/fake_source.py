"""A gateway that is not there: what `tidegate.control` reads, as plain values."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.engine.counters import ROW_WORDS, Counters


@dataclass
class FakeSource:
    workers: int = 2
    restarts: int = 0
    living: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.words = memoryview(bytearray(self.workers * ROW_WORDS * 8)).cast("Q")
        self.rows = [Counters(self.words, row) for row in range(self.workers)]
        names = ["supervisor", *(f"worker-{row}" for row in range(self.workers))]
        self.living = dict.fromkeys(names, os.getpid())

    def processes(self) -> Mapping[str, int]:
        return self.living
