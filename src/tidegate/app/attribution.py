"""Who is limited, for the log: a line when a client comes under a limit and when that has ended, not one a message."""

import asyncio
import ipaddress

from ..engine.binding import Transition
from ..gateway.health import Log
from ..gateway.policy_host import PolicyHost

INTERVAL = 1.0
"""Seconds between two looks at what has happened."""
MOST_LINES = 20
"""Lines at a time; the rest is told as a number. A flood from thousands of clients must not become one of the log."""
_WORDS = {"began": "over a limit", "still": "still over a limit", "ended": "no longer over a limit"}


async def tell_transitions(host: PolicyHost, log: Log) -> None:
    """Log for ever what the workers tell."""
    lost = 0
    while True:
        await asyncio.sleep(INTERVAL)
        told = list(host.transitions())
        for name, transition in told[:MOST_LINES]:
            log.info(_WORDS[transition.kind], limit=name, **describe(transition))
        untold = len(told[MOST_LINES:]) + host.events_lost - lost
        lost = host.events_lost
        if untold:
            log.info("more came over a limit, or no longer are", events=untold)


def describe(transition: Transition) -> dict[str, object]:
    """What is known of a transition, as named fields; of a crowd, its first client stands for all."""
    fields: dict[str, object] = {"action": transition.action, "client": transition.client_id}
    if transition.username:
        fields["username"] = transition.username
    fields |= {"address": _address(transition), "topic": transition.topic}
    if transition.crowd:
        fields["crowd"] = True
    fields["messages"] = transition.count
    return fields


def _address(transition: Transition) -> str:
    if transition.family == 4:
        return str(ipaddress.IPv4Address(transition.address[:4]))
    if transition.family == 6:
        return str(ipaddress.IPv6Address(transition.address))
    return "unix"
