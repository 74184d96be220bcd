"""`$tidegate/throttle`: who subscribes to it is told of its own refusals, also in 3.x, where no PUBACK says it.

The subscription ends here: the broker never sees it, and nobody else's notices can come by it. Of a SUBSCRIBE that
has other filters as well the broker gets the others, and its SUBACK is completed on the way back.
"""

import json
from dataclasses import replace

from ..mqtt.fields import write_text
from ..mqtt.framing import packet
from ..mqtt.properties import Properties, PropertyId
from ..mqtt.reasons import PacketType, ReasonCode
from ..mqtt.subscribe import Suback, Subscribe, Unsuback, Unsubscribe

TOPIC = "$tidegate/throttle"
MARK = TOPIC.encode()
"""A packet without these bytes cannot be about notices."""
PAUSE = 1.0
"""Seconds between two notices of one limit: they are to tell, not to flood."""
MOST_LIMITS = 64
"""Limits whose last notice is remembered for one client."""
MOST_PENDING = 64
"""Requests whose acknowledgement is awaited; beyond it the broker is asked as if it knew the topic."""

_ACTIONS = ("pass", "observe", "delay", "drop", "reject", "disconnect", "ban")


def whole_ms(seconds: float) -> int:
    """Milliseconds after which `seconds` are over for certain."""
    return int(seconds * 1000) + 1


def retry_after(wait: int) -> Properties:
    """The property that tells a client of MQTT 5 after how many milliseconds it may try again."""
    return [(PropertyId.USER_PROPERTY, ("retry-after-ms", str(wait)))]


class Notices:
    """The notices of one client, and the requests about them that the broker has still to acknowledge."""

    def __init__(self, version: int, client_packet: int) -> None:
        self.subscribed = False
        self._version = version
        self._client_packet = client_packet
        self._last: dict[str, float] = {}
        self._untold: dict[str, int] = {}
        self._pending: dict[int, tuple[list[int], int]] = {}
        """By packet identifier: the places of our filters among all, and the reason for them."""

    def subscribe(self, request: Subscribe) -> tuple[bytes | None, bytes]:
        """For the broker (None: the packet as it came) and for the client; ours is granted at QoS 0."""
        ours = [i for i, one in enumerate(request.subscriptions) if one.topic_filter == TOPIC]
        others = [one for one in request.subscriptions if one.topic_filter != TOPIC]
        if not ours or (others and len(self._pending) >= MOST_PENDING):
            return None, b""
        self.subscribed = True
        if not others:
            return b"", Suback(request.packet_id, [ReasonCode.SUCCESS] * len(ours)).write(self._version)
        self._pending[request.packet_id] = ours, ReasonCode.SUCCESS
        return replace(request, subscriptions=others).write(self._version), b""

    def unsubscribe(self, request: Unsubscribe) -> tuple[bytes | None, bytes]:
        """The same for UNSUBSCRIBE."""
        ours = [i for i, one in enumerate(request.topic_filters) if one == TOPIC]
        others = [one for one in request.topic_filters if one != TOPIC]
        if not ours or (others and len(self._pending) >= MOST_PENDING):
            return None, b""
        reason = ReasonCode.SUCCESS if self.subscribed else ReasonCode.NO_SUBSCRIPTION_EXISTED
        self.subscribed = False
        if not others:
            reasons: list[int] = [reason] * len(ours) if self._version == 5 else []
            return b"", Unsuback(request.packet_id, reasons).write(self._version)
        self._pending[request.packet_id] = ours, reason
        return replace(request, topic_filters=others).write(self._version), b""

    def acknowledge(self, data: bytes, at: int, body: int, end: int) -> bytes:
        """The broker's SUBACK or UNSUBACK at `at`, with a reason for our filters put where they stood."""
        if body + 2 > end or (data[body] << 8 | data[body + 1]) not in self._pending:
            return data[at:end]  # none of ours: as it came, whatever it says
        kind = data[at] >> 4
        ack: Suback | Unsuback = (Suback if kind == PacketType.SUBACK else Unsuback).read(
            data, at, body, end, self._version
        )
        places, reason = self._pending.pop(ack.packet_id)
        if not ack.reasons:
            return data[at:end]
        reasons = list(ack.reasons)
        for place in places:
            reasons.insert(place, reason)
        return replace(ack, reasons=reasons).write(self._version)

    def write(self, limit: str, action: int, topic: bytes, wait: int | None, now: float) -> bytes:
        """The PUBLISH that tells of a refusal, or nothing: once in PAUSE for each limit. `wait` in milliseconds."""
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
            "topic": topic.decode(),
            "retry_after_ms": wait,
            "messages": 1 + self._untold.pop(limit, 0),
        }
        body = write_text(TOPIC) + (b"\0" if self._version == 5 else b"") + json.dumps(told).encode()
        wire = packet(PacketType.PUBLISH << 4, body)
        return wire if len(wire) <= self._client_packet else b""
