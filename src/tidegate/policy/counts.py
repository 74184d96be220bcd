"""What was counted of limits: the gateway fills it in, metrics show it."""

from dataclasses import dataclass

from .model import Action

OTHER = "other"
"""Limit and class of delays that are counted together, as a worker had no place left to tell theirs apart."""


@dataclass(frozen=True, slots=True)
class LimitCounts:
    """One limit, since it is there."""

    name: str
    actions: frozenset[Action]
    """Those that it can take."""
    passed: int
    limited: dict[Action, int]
    crowded: int
    live: int
    """Buckets in use now."""
    full: int
    """Those of them that would refuse now."""


@dataclass(frozen=True, slots=True)
class DelayCounts:
    """How long messages were held, of one limit and one class of clients; read while workers go on counting."""

    limit: str
    class_name: str
    """"" for clients in no class."""
    count: int
    seconds: float
    """Of all of them together."""
    buckets: tuple[int, ...]
    """For each of `engine.counters.DELAY_BOUNDS`, those of at most so long and longer than the bound before."""


@dataclass(frozen=True, slots=True)
class BanCounts:
    """Bans of one limit; "" for those by hand, OTHER for limits that are gone or ban no more."""

    limit: str
    active: int
    """In force now."""
    total: int | None
    """Begun since the start; None where nobody counts them, by hand and OTHER."""
