"""What CONNECT and CONNACK become on their way through.

The gateway owns what the client is offered: topic aliases end here in both directions, no packet is larger than
`max_packet` and no keepalive longer than `max_keepalive`. All else passes as it came. A packet that needs no change is
not written anew.
"""

from dataclasses import dataclass, replace

from ..mqtt.connack import Connack
from ..mqtt.connect import Connect
from ..mqtt.framing import LARGEST_REMAINING
from ..mqtt.properties import Properties, PropertyId, get, replaced
from ..mqtt.reasons import ReasonCode
from .aliases import ALIAS_MAXIMUM

LARGEST_QUOTA = 65_535
"""The largest Receive Maximum, and the one that holds where none is said (section 3.2.2.3.3)."""
NO_LIMIT = LARGEST_REMAINING + 5
"""The size of the largest packet that MQTT can frame, in bytes."""


def number(properties: Properties, identifier: PropertyId, default: int) -> int:
    """The value of a numeric property, `default` where it is absent."""
    value = get(properties, identifier)
    return value if isinstance(value, int) else default


def upstream_connect(connect: Connect, received: bytes, window: int = 0) -> bytes:
    """The CONNECT for the broker: `received`, but without leave to use topic aliases towards the gateway.

    `window`: more unacknowledged messages than that the broker is not to send (Receive Maximum), 0: as the client says.
    """
    properties = connect.properties
    if get(properties, PropertyId.TOPIC_ALIAS_MAXIMUM) is not None:
        properties = replaced(properties, PropertyId.TOPIC_ALIAS_MAXIMUM, None)
    if connect.version == 5 and 0 < window < connect.receive_maximum:
        properties = replaced(properties, PropertyId.RECEIVE_MAXIMUM, window)
    return received if properties is connect.properties else replace(connect, properties=properties).write()


@dataclass(frozen=True, slots=True)
class Offer:
    """What a CONNACK of the broker means for the connection, and the bytes that the client gets instead."""

    wire: bytes
    accepted: bool
    receive_maximum: int
    """Unacknowledged QoS 1 and 2 messages that the client may have (section 3.2.2.3.3); 0: not limited (3.x)."""
    broker_quota: int
    """How many of them the broker may have; the others wait here. 0 likewise."""
    broker_packet: int
    """The largest packet that the broker takes, in bytes."""
    keepalive: int
    """Seconds, 0: none: the client's own, or what it was told to use instead."""


def is_longer(keepalive: int, most: int) -> bool:
    """Whether a keepalive is longer than `most`, both in seconds; 0 is none, and so is no `most`."""
    return most != 0 and not 0 < keepalive <= most


def client_connack(
    connack: Connack,
    received: bytes,
    version: int,
    max_packet: int,
    client_packet: int,
    hold: int = 0,
    keepalive: int = 0,
    max_keepalive: int = 0,
) -> Offer:
    """The offer to the client in place of the broker's; sizes in bytes, `client_packet` is the client's own limit.

    `hold`: messages that may be held for it: they must not exhaust its quota, so it is offered as many more.
    `keepalive`: what the client asked for. The broker still goes by that, or by its own Server Keep Alive if that is
    shorter: neither is shorter than what the client is told, so pings as often as that satisfy both.
    """
    if version < 5:
        return Offer(received, connack.reason == 0, 0, 0, NO_LIMIT, keepalive)
    properties = connack.properties
    accepted = connack.reason == ReasonCode.SUCCESS
    broker_packet = number(properties, PropertyId.MAXIMUM_PACKET_SIZE, NO_LIMIT)
    quota = number(properties, PropertyId.RECEIVE_MAXIMUM, LARGEST_QUOTA)
    receive_maximum = min(quota + hold, LARGEST_QUOTA)
    brokers = number(properties, PropertyId.SERVER_KEEP_ALIVE, keepalive)
    keepalive = max_keepalive if is_longer(brokers, max_keepalive) else brokers
    wire = received
    if accepted:
        offered = replaced(properties, PropertyId.TOPIC_ALIAS_MAXIMUM, ALIAS_MAXIMUM)
        if quota < receive_maximum:
            offered = replaced(offered, PropertyId.RECEIVE_MAXIMUM, receive_maximum)
        if max_packet < broker_packet:
            offered = replaced(offered, PropertyId.MAXIMUM_PACKET_SIZE, max_packet)
        if keepalive != brokers:
            offered = replaced(offered, PropertyId.SERVER_KEEP_ALIVE, keepalive)
        wire = replace(connack, properties=offered).write(version)
        if len(wire) > client_packet:
            # Section 3.1.2.11.4: never more than the client's Maximum Packet Size. Then only what the broker itself
            # offers is lowered, which takes no byte more, and what it does not mention stays unsaid.
            bounds = {PropertyId.TOPIC_ALIAS_MAXIMUM: ALIAS_MAXIMUM, PropertyId.MAXIMUM_PACKET_SIZE: max_packet}
            lowered: Properties = [
                (name, min(value, bounds.get(name, value)) if isinstance(value, int) else value)
                for name, value in properties
            ]
            if get(properties, PropertyId.SERVER_KEEP_ALIVE) is None:
                keepalive = brokers
            else:
                lowered = replaced(lowered, PropertyId.SERVER_KEEP_ALIVE, keepalive)
            wire = replace(connack, properties=lowered).write(version)
            receive_maximum = quota
    return Offer(wire, accepted, receive_maximum, quota, broker_packet, keepalive)
