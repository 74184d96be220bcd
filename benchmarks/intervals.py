"""How far a median is to be trusted."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A median, and bounds for that of all rounds that there could be; `confidence` is their probability at least."""

    low: float
    median: float
    high: float
    confidence: float

    def __str__(self) -> str:
        return f"{self.median:.4f} [{self.low:.4f}..{self.high:.4f}, {self.confidence:.1%}]"


def of_median(values: Sequence[float]) -> Interval:
    """By ranks: whatever the values' distribution, each is below its median as often as a coin falls on one side.

    The narrowest pair of ranks, as far from either end, that has CONFIDENCE; of fewer than six values the lowest and
    the highest, with less (J.-Y. Le Boudec, Performance Evaluation of Computer and Communication Systems, 2.2.2).
    """
    ordered = sorted(values)
    count = len(ordered)
    outside, rank, found = 0.0, 0, 1 - 2 * 0.5**count
    while rank < (count + 1) // 2:
        outside += 2 * math.comb(count, rank) * 0.5**count
        if 1 - outside < CONFIDENCE:
            break
        found = 1 - outside
        rank += 1
    rank = max(1, rank)
    return Interval(ordered[rank - 1], statistics.median(ordered), ordered[count - rank], max(0.0, found))
