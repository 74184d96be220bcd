"""SUBACK and UNSUBACK of one client: what the gateway has said to some of the filters is put where they stood.

A request reaches the broker without the filters that a limit refuses or that the gateway answers itself. What the
broker says to the others tells as well whether a subscription keeps its places in windows.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..mqtt.properties import Properties, PropertyId
from ..mqtt.reasons import PacketType, ReasonCode
from ..mqtt.subscribe import Suback, Unsuback
from .subscriptions import Kept, Subscriptions

if TYPE_CHECKING:
    from .guard import Guard

MOST_AWAITED = 4_096
"""Topic filters in requests whose answers are awaited here; with more, the next request waits."""


@dataclass(slots=True)
class Said:
    """What is known of the answer to one request before the broker has answered."""

    filters: int
    """How many the request has."""
    reasons: list[tuple[int, int]]
    """Place and reason of each filter that the broker is not asked about."""
    kept: list[Kept | None]
    """What the broker is asked about, as far as it has to be known."""
    properties: Properties
    """Of MQTT 5: why the first was refused, and when to come back."""


class Answers:
    """All that the broker has still to answer one client."""

    def __init__(self, guard: "Guard", subscriptions: Subscriptions) -> None:
        self._guard = guard
        self._subscriptions = subscriptions
        self._awaited: dict[int, deque[Said]] = {}
        """By type and identifier of the request. A careless client uses one twice: the first sent is answered first."""
        self._filters = 0

    def has_room(self, filters: int) -> bool:
        """Whether the answer to one more request may be awaited."""
        return not self._awaited or self._filters + filters <= MOST_AWAITED

    def expect(self, kind: int, packet_id: int, said: Said) -> None:
        """A SUBSCRIBE or UNSUBSCRIBE goes to the broker.

        Also one of which nothing has to be known: its answer must not be taken for that to another of its identifier.
        """
        self._awaited.setdefault(kind << 16 | packet_id, deque()).append(said)
        self._filters += said.filters

    def take(self, data: bytes, at: int, body: int, end: int, brief: bool, now: float) -> bytes | None:
        """What the client gets for the SUBACK or UNSUBACK at `at`: None: the packet as it came; empty: nothing.

        PacketError when it is about one of ours and breaks the rules. `brief`: see `complete`.
        """
        if body + 2 > end:
            return None
        kind = data[at] >> 4
        # The type of a request is one less than that of its answer.
        request = kind - 1 << 16 | data[body] << 8 | data[body + 1]
        awaited = self._awaited.get(request)
        if awaited is None:
            return None
        ack: Suback | Unsuback = (Suback if kind == PacketType.SUBACK else Unsuback).read(
            data, at, body, end, self._guard.version
        )
        said = awaited.popleft()
        if not awaited:
            del self._awaited[request]
        self._filters -= said.filters
        for number, one in enumerate(said.kept):
            if one is not None:
                reason = ack.reasons[number] if number < len(ack.reasons) else ReasonCode.SUCCESS  # 3.x: none
                is_done = reason < ReasonCode.UNSPECIFIED_ERROR
                if kind == PacketType.SUBACK:
                    self._subscriptions.answered(one, is_done, now)
                elif is_done:
                    self._subscriptions.ended(one, now)
        if not said.reasons or not ack.reasons:
            return None
        return self.complete(ack, said, brief)

    def complete(self, ack: Suback | Unsuback, said: Said, brief: bool) -> bytes:
        """An answer with our reasons in their places, and our properties as far as the client wants and takes them.

        `brief`: without them. Nothing when it is too large for the client even so (section 3.1.2.11.4 of MQTT 5).
        """
        guard = self._guard
        reasons = list(ack.reasons)
        for at, reason in said.reasons:
            reasons.insert(at, reason)
        forms: list[Properties] = [ack.properties, []]
        if said.properties and guard.told and not brief:
            # The broker may have given a reason of its own, and there can be only one.
            has_reason = any(identifier == PropertyId.REASON_STRING for identifier, _ in ack.properties)
            retry = [one for one in said.properties if one[0] != PropertyId.REASON_STRING]
            forms = [[*ack.properties, *(retry if has_reason else said.properties)], [*ack.properties, *retry], *forms]
        for properties in forms:
            wire = replace(ack, reasons=reasons, properties=properties).write(guard.version)
            if len(wire) <= guard.client_packet:
                return wire
        return b""
