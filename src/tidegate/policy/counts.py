"""What was counted of one limit: the gateway fills it in, metrics show it."""

from dataclasses import dataclass

from .model import Action


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
