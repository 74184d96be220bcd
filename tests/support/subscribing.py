"""Clients under limits on subscribing, on a given clock: what the broker is asked for, and what they are answered."""

from typing import Any

from support.playbook import Playbook
from support.wire import split
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.properties import Properties, PropertyId, get
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.subscribe import Suback, Subscribe, Subscription, Unsuback, Unsubscribe
from tidegate.policy.model import Action, Cases, Event, Limit

QUOTA = 0x97


def on_subscribe(name: str = "some", on_excess: Action = Action.REJECT, **other: Any) -> Limit:
    """A limit on subscribe; `then` is an action too."""
    then = Cases(other.pop("then", Action.REJECT))
    return Limit(name, Event.SUBSCRIBE, Cases(on_excess), then=then, **other)


def request(*filters: str, packet_id: int = 1, version: int = 5, qos: int = 0) -> bytes:
    """SUBSCRIBE."""
    return Subscribe(packet_id, [Subscription(one, qos) for one in filters]).write(version)


def parting(*filters: str, packet_id: int = 2, version: int = 5) -> bytes:
    """UNSUBSCRIBE."""
    return Unsubscribe(packet_id, list(filters)).write(version)


def granted(*reasons: int, packet_id: int = 1, version: int = 5, properties: Properties | None = None) -> bytes:
    """SUBACK."""
    return Suback(packet_id, list(reasons), properties or []).write(version)


def released(*reasons: int, packet_id: int = 2, version: int = 5) -> bytes:
    """UNSUBACK."""
    return Unsuback(packet_id, list(reasons)).write(version)


def sent(wire: bytes, version: int = 5) -> list[Subscribe | Unsubscribe | bytes]:
    """The requests that the broker got, among other packets."""
    found: list[Subscribe | Unsubscribe | bytes] = []
    for packet in split(wire):
        frame = Frame()
        assert frame.read(packet, 0)
        kind = packet[0] >> 4
        if kind == PacketType.SUBSCRIBE:
            found.append(Subscribe.read(packet, 0, frame.body, frame.end, version))
        elif kind == PacketType.UNSUBSCRIBE:
            found.append(Unsubscribe.read(packet, 0, frame.body, frame.end, version))
        else:
            found.append(packet)
    return found


def filters(wire: bytes, version: int = 5) -> list[str]:
    """The filters of the SUBSCRIBEs that the broker got."""
    requests = [one for one in sent(wire, version) if isinstance(one, Subscribe)]
    return [one.topic_filter for each in requests for one in each.subscriptions]


def suback(wire: bytes, version: int = 5) -> Suback:
    """The one SUBACK in `wire`."""
    frame = Frame()
    assert frame.read(wire, 0)
    assert frame.end == len(wire)
    return Suback.read(wire, 0, frame.body, frame.end, version)


def reason_of(ack: Suback) -> tuple[object, object]:
    """Its reason string and `retry-after-ms`; None where there is none."""
    retry = [value for _, value in ack.properties if isinstance(value, tuple) and value[0] == "retry-after-ms"]
    return get(ack.properties, PropertyId.REASON_STRING), retry[0][1] if retry else None


def taken(play: Playbook, *, of: int) -> int:
    """How many of a window's places one other client finds taken: it takes what is left, and gives it back."""
    assert play.waiting is not None
    other = Playbook.opened(5, engine=play.waiting.engine, waiting=play.waiting, client_id="probe", now=play.now)
    other.client(request(*(f"probe/{n}" for n in range(of))))
    free = len(filters(other.take()[1]))
    other.connection.client_closed()
    other.connection.broker_closed(False)
    return of - free
