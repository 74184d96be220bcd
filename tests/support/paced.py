"""A limit on every packet, for tests on a given clock."""

from tidegate.policy.events import MEANINGS
from tidegate.policy.model import Action, ByClass, Cases, Event, Limit

from .limits import rate

DELAY, DISCONNECT = Cases(Action.DELAY), Cases(Action.DISCONNECT)


def packets(name: str = "packets", on_excess: Cases = DELAY, **other: object) -> Limit:
    """A limit on packets, with what the language says by default."""
    return Limit(name, Event.PACKET, on_excess, then=MEANINGS[Event.PACKET].then, **other)  # type: ignore[arg-type]


def paced(amount: int = 1, burst: int | None = None, period: int = 1, **other: object) -> Limit:
    """One that delays: so many per `period` seconds for each client."""
    return packets(rate=rate(amount, burst, period), **other)  # type: ignore[arg-type]


def small(size: int, **other: object) -> Limit:
    """One that says how large a packet may be."""
    return packets(size=ByClass(size), **other)  # type: ignore[arg-type]
