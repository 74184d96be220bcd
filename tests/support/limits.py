"""Policies for tests, and the engine that decides by them."""

import os
from fractions import Fraction

from tidegate.engine.binding import Engine
from tidegate.gateway.policy_host import PolicyHost
from tidegate.policy.model import Action, ByClass, Cases, Event, Limit, Policy, Rate

BAN = Cases(Action.BAN)
REJECT = Cases(Action.REJECT, v3=Action.DROP)


def rate(amount: int, burst: int | None = None, period: int = 1) -> ByClass[tuple[Rate, ...]]:
    """So many per `period` seconds for everybody."""
    return ByClass((Rate(amount, Fraction(period), amount if burst is None else burst),))


def limit(name: str, on_excess: Cases = REJECT, **other: object) -> Limit:
    """A limit on publish."""
    return Limit(name, Event.PUBLISH, on_excess, **other)  # type: ignore[arg-type]


def host(*limits: Limit, workers: int = 1, buckets: int = 4096) -> PolicyHost:
    """A segment of its own, with these limits in force."""
    return PolicyHost(Policy(limits=limits), workers=workers, buckets=buckets, largest_packet=1 << 20)


def engine(*limits: Limit) -> Engine:
    """What decides by these limits, as a worker has it."""
    one = host(*limits)
    os.close(one.fd)  # its memory stays mapped
    made = Engine(one.segment, 0)
    made.load(made.segment.policy())
    return made
