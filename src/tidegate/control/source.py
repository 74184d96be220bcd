"""What the control plane reads of a running gateway."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from ..policy.counts import BanCounts, DelayCounts, LimitCounts


class Source(Protocol):
    """The running gateway, as the supervisor knows it; reading it neither blocks nor raises."""

    @property
    def words(self) -> memoryview:
        """The block of `tidegate.engine.counters`: one row per worker."""

    @property
    def workers(self) -> int:
        """How many workers there should be; their rows are 0 to `workers` - 1."""

    @property
    def restarts(self) -> int:
        """Workers that were started again since the supervisor began."""

    @property
    def policy_generation(self) -> int:
        """How many policies have been in force since the supervisor began."""

    @property
    def failed_reloads(self) -> int:
        """Reloads that changed nothing, because the file was wrong."""

    @property
    def events_lost(self) -> int:
        """Transitions (a client came under a limit, or no longer is) that nobody was told of."""

    def limits(self) -> Iterable[LimitCounts]:
        """What was counted of each limit in force."""

    def delays(self) -> Iterable[DelayCounts]:
        """How long messages were held, once for each limit and class that delays were counted of."""

    @property
    def bans_dropped(self) -> int:
        """Bans in force that were dropped since the supervisor began, as there were too many."""

    def bans(self) -> Iterable[BanCounts]:
        """How many are banned, once for each limit that can ban, for bans by hand, and for all others."""

    def processes(self) -> Mapping[str, int]:
        """The pids of the processes that live now: `supervisor`, `worker-0`…, `broker` if it is embedded."""


def worker_name(row: int) -> str:
    """The process name of the worker that writes this row."""
    return f"worker-{row}"


def dead_processes(source: Source) -> list[str]:
    """The names of the processes that should live and do not: none while the gateway is healthy."""
    living = source.processes()
    wanted = ["supervisor", *(worker_name(row) for row in range(source.workers))]
    return [name for name in wanted if name not in living]
