"""Who is limited, for the log: a line when a client comes under a limit and when that has ended, not one a message."""

import asyncio
import ipaddress

from ..engine.binding import Transition
from ..gateway.health import Log
from ..gateway.policy_host import PolicyHost
from ..policy.model import Event

INTERVAL = 1.0
"""Seconds between two looks at what has happened."""
MOST_LINES = 20
"""Lines at a time; the rest is told as a number. A flood from thousands of clients must not become one of the log."""
_COUNTED = {
    Event.PUBLISH: "messages",
    Event.CONNECT: "attempts",
    Event.SUBSCRIBE: "subscriptions",
    Event.DELIVER: "messages",
    Event.WILL: "wills",
    Event.PACKET: "packets",
    Event.AUTH_FAILURE: "attempts",
}
"""What is told of by its number."""
_WORDS = {"began": "over a limit", "still": "still over a limit", "ended": "no longer over a limit"}


async def tell_transitions(host: PolicyHost, log: Log) -> None:
    """Log for ever what the workers tell."""
    attribution = Attribution(host, log)
    while True:
        await asyncio.sleep(INTERVAL)
        attribution.look()


class Attribution:
    """Says who came under a limit, and who no longer is."""

    def __init__(self, host: PolicyHost, log: Log) -> None:
        self._host = host
        self._log = log
        self._lost = host.events_lost

    def look(self) -> None:
        """Log what has happened since the last look."""
        untold = 0
        for number, (limit, transition) in enumerate(self._host.transitions()):
            if number < MOST_LINES:
                who = _describe(transition)
                about = {"limit": limit.name, "action": transition.action, **who, _COUNTED[limit.on]: transition.count}
                self._log.info(_WORDS[transition.kind], **about)
            else:
                untold += 1
        lost = self._host.events_lost
        untold += lost - self._lost
        self._lost = lost
        if untold:
            self._log.info("more came over a limit, or no longer are", events=untold)


def _describe(transition: Transition) -> dict[str, object]:
    """The client as named fields, as far as it is known; of a crowd, its first client stands for all."""
    fields: dict[str, object] = {
        "client": transition.client_id,
        "username": transition.username,
        "address": _address(transition),
        "topic": transition.topic,
        "crowd": transition.crowd,
    }
    return {name: value for name, value in fields.items() if value}


def _address(transition: Transition) -> str:
    if transition.family == 4:
        return str(ipaddress.IPv4Address(transition.address[:4]))
    if transition.family == 6:
        return str(ipaddress.IPv6Address(transition.address))
    return "unix"
