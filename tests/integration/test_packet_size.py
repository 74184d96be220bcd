"""The size of packets: `max_packet` raised, and a broker with the smaller limit."""

from pathlib import Path

import pytest

from integration.compare import same_both_ways
from support import wire
from support.cast import Cast
from support.paho_client import Paho
from support.raw import CLOSED, RawClient
from support.sides import both_sides

MAXIMUM_PACKET_SIZE = 0x27


def megabytes(cast: Cast) -> None:
    """Messages beyond the default `max_packet`, at every QoS."""
    sender, receiver = cast.actor("sender").connect(), cast.actor("receiver").connect()
    receiver.subscribe(cast.topic("t"), 2)
    for qos, size in ((0, 1_048_576), (1, 4_000_000), (2, 1_500_000)):
        sender.publish(cast.topic("t"), bytes(range(250)) * (size // 250), qos)
        receiver.expect()


def offered(port: int, client_id: str) -> bytes:
    """The CONNACK of a plain MQTT 5 client."""
    with RawClient(port, wire.V5) as client:
        return client.connect(client_id)


def told(size: int) -> bytes:
    """The property Maximum Packet Size."""
    return bytes([MAXIMUM_PACKET_SIZE]) + size.to_bytes(4, "big")


def test_raised_max_packet(tmp_path: Path, behind_gateway: None) -> None:
    with both_sides(tmp_path, gateway_extra='max_packet = "8MiB"', workers=1) as sides:
        for version in (wire.V31, wire.V311, wire.V5):
            same_both_ways(megabytes, Paho(), version, sides)
        assert told(8 * 1_048_576) in offered(sides.through, "raised")


@pytest.mark.parametrize("by_alias", [False, True])
def test_brokers_own_limit_holds_where_it_is_smaller(tmp_path: Path, by_alias: bool, behind_gateway: None) -> None:
    with both_sides(tmp_path, "max_packet_size 2000", workers=1) as sides:
        assert told(2000) in offered(sides.direct, "small")
        assert told(2000) in offered(sides.through, "small")
        with RawClient(sides.through, wire.V5) as client:
            client.connect("too-much")
            topic, alias = "t" * 900, b"\x23\x00\x01"
            client.exchange(wire.publish(wire.V5, topic, b"x", first=0x32, packet_id=1, props=alias))
            # As the client sends it, the second fits; with its topic in full it does not.
            name, size, props = ("", 1500, alias) if by_alias else (topic, 1500, b"")
            client.send(wire.publish(wire.V5, name, bytes(size), first=0x32, packet_id=2, props=props))
            assert client.until_closed() == ["DISCONNECT 0x95", CLOSED]
