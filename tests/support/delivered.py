"""Clients under limits on `deliver`, on a given clock, and what they have heard."""

from support.limits import rate
from support.playbook import Playbook
from support.wire import split
from tidegate.policy.model import Action, ByClass, Cases, Event, Limit

DELAY = Cases(Action.DELAY)
THEN = Cases(Action.DELAY, {0: Action.DROP})
"""As the language has it by default."""


def limit(on_excess: Cases, **other: object) -> Limit:
    """A limit on deliver."""
    return Limit("down", Event.DELIVER, on_excess, **{"then": THEN, **other})  # type: ignore[arg-type]


def slow(amount: int = 1, burst: int = 1, period: int = 1, **other: object) -> Limit:
    """So many per `period` seconds, the rest later."""
    return limit(DELAY, rate=rate(amount, burst, period), **other)


def window(number: int, **other: object) -> Limit:
    """So many unacknowledged, the rest later."""
    return limit(DELAY, concurrent=ByClass(number), **other)


def heard(play: Playbook) -> list[bytes]:
    """The packets that the client has got since."""
    return list(split(play.take()[0]))
