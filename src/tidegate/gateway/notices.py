"""`$tidegate/throttle`: who subscribes to it is told of its own refusals, also in 3.x, where no PUBACK says it.

The subscription ends here (`requests.py`): the broker never sees it, and nobody else's notices can come by it.
"""

import json

from ..mqtt.fields import write_text
from ..mqtt.framing import packet
from ..mqtt.properties import Properties, PropertyId
from ..mqtt.reasons import PacketType

TOPIC = "$tidegate/throttle"
MARK = TOPIC.encode()
"""A packet without these bytes cannot be about notices."""
PAUSE = 1.0
"""Seconds between two notices of one limit: they are to tell, not to flood."""
MOST_LIMITS = 64
"""Limits whose last notice is remembered for one client."""

_ACTIONS = ("pass", "observe", "delay", "drop", "reject", "disconnect", "ban")


def whole_ms(seconds: float) -> int:
    """Milliseconds after which `seconds` are over for certain."""
    return int(seconds * 1000) + 1


def retry_after(wait: int) -> Properties:
    """The property that tells a client of MQTT 5 after how many milliseconds it may try again."""
    return [(PropertyId.USER_PROPERTY, ("retry-after-ms", str(wait)))]


class Notices:
    """The notices of one client."""

    def __init__(self, version: int, client_packet: int) -> None:
        self.subscribed = False
        self._version = version
        self._client_packet = client_packet
        self._last: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def write(self, limit: str, action: int, topic: bytes, wait: int | None, now: float) -> bytes:
        """The PUBLISH that tells of a refusal, or nothing: once in PAUSE for each limit.

        `topic`: of a message; none of other packets. `wait` in milliseconds.
        """
        if not self.subscribed:
            return b""
        if limit not in self._last and len(self._last) >= MOST_LIMITS:
            oldest = next(iter(self._last))
            if now - self._last[oldest] < PAUSE:
                return b""
            del self._last[oldest]
            self._untold.pop(oldest, None)
        if now - self._last.get(limit, now - PAUSE) < PAUSE:
            self._untold[limit] = self._untold.get(limit, 0) + 1
            return b""
        self._last.pop(limit, None)  # the one told longest ago comes first
        self._last[limit] = now
        told = {
            "limit": limit,
            "action": _ACTIONS[action],
            "topic": topic.decode() or None,
            "retry_after_ms": wait,
            "messages": 1 + self._untold.pop(limit, 0),
        }
        body = write_text(TOPIC) + (b"\0" if self._version == 5 else b"") + json.dumps(told).encode()
        wire = packet(PacketType.PUBLISH << 4, body)
        return wire if len(wire) <= self._client_packet else b""
