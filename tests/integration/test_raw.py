"""What no client library shows, in bytes: CONNACK's own properties, codes, keepalive, pipelining."""

import pytest

from support import wire
from support.raw import CLOSED, OPEN, RawClient
from support.sides import Sides

VERSIONS = {"3.1": wire.V31, "3.1.1": wire.V311, "5": wire.V5}
every_version = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)


@pytest.mark.parametrize(("version", "codes"), [(wire.V31, "0x05"), (wire.V311, "0x05"), (wire.V5, "0x87")])
def test_refusal_codes_are_the_brokers(guarded_sides: Sides, version: int, codes: str) -> None:
    for port in (guarded_sides.direct, guarded_sides.through):
        with RawClient(port, version) as client:
            rest = wire.field("plant") + wire.field("guess")
            client.send(wire.connect(version, "refused", flags=0xC2, rest=rest))
            assert client.until_closed() == [f"CONNACK {codes}", CLOSED]


def properties_of(connack: bytes) -> dict[int, int]:
    """The numeric properties of a short CONNACK by identifier."""
    sizes = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
    body, found = wire.body_of(connack), {}
    at = 3
    while at < 3 + body[2]:
        size = sizes[body[at]]
        found[body[at]] = int.from_bytes(body[at + 1 : at + 1 + size], "big")
        at += 1 + size
    return found


def test_connack_offers_what_the_gateway_owns(sides: Sides, behind_gateway: None) -> None:
    with RawClient(sides.direct, wire.V5) as client:
        direct = properties_of(client.connect("owner-direct"))
    with RawClient(sides.through, wire.V5) as client:
        through = properties_of(client.connect("owner-through"))
    assert through == {**direct, 0x22: 16, 0x27: 1_048_576}


@every_version
def test_packets_pipelined_behind_connect_are_answered_in_order(sides: Sides, version: int) -> None:
    answers = []
    for name, port in (("direct", sides.direct), ("through", sides.through)):
        with RawClient(port, version) as client:
            client.send(
                wire.connect(version, f"hurry-{version}-{name}")
                + wire.subscribe(version, (f"hurry/{version}/{name}", 0), packet_id=7)
                + wire.publish(version, "hurry/else", b"x", first=0x32, packet_id=8)
            )
            answers.append(client.until_fence())
    assert answers[1] == answers[0]
    assert [line.split()[0] for line in answers[0]] == ["CONNACK", "SUBACK", "PUBACK", OPEN]


@every_version
def test_any_chunking_means_the_same(sides: Sides, version: int) -> None:
    answers = []
    for name, port in (("direct", sides.direct), ("through", sides.through)):
        with RawClient(port, version) as client:
            stream = (
                wire.connect(version, f"bytewise-{version}-{name}")
                + wire.subscribe(version, (f"bytewise/{version}/{name}", 2))
                + wire.publish(version, "bytewise/else", b"payload", first=0x34, packet_id=9)
                + wire.packet(0x62, b"\x00\x09")
            )
            for at in range(len(stream)):
                client.send(stream[at : at + 1])
            answers.append(client.until_fence())
    assert answers[1] == answers[0]
    assert [line.split()[0] for line in answers[0]] == ["CONNACK", "SUBACK", "PUBREC", "PUBCOMP", OPEN]


@every_version
def test_silent_client_is_closed_after_one_and_a_half_keepalives(
    sides: Sides, behind_gateway: None, version: int
) -> None:
    with RawClient(sides.through, version) as client:
        client.connect(f"silent-{version}", keepalive=1)
        seen = client.until_closed()
    assert seen == (["DISCONNECT 0x8D", CLOSED] if version == wire.V5 else [CLOSED])


def test_second_client_is_untouched_when_one_resets(sides: Sides) -> None:
    with RawClient(sides.through) as steady:
        steady.connect("steady")
        for number in range(20):
            with RawClient(sides.through) as rude:
                rude.send(wire.connect(wire.V311, f"rude-{number}") + b"\x30\xff")
        assert steady.exchange(wire.PINGREQ) == wire.PINGRESP


def last_words(port: int, client_id: str) -> list[str]:
    """What a client hears that goes on sending while the broker throws it out (for a control character)."""
    with RawClient(port, wire.V5) as client:
        client.connect(client_id)
        for packet in (wire.publish(wire.V5, b"a\x01b", b"x"), *[wire.PINGREQ] * 20):
            client.send(packet)
        return client.until_closed()


def test_brokers_last_words_reach_a_client_that_goes_on_sending(sides: Sides, behind_gateway: None) -> None:
    # Whether a write meets the closed socket before the reason has been read is a matter of luck: try it often.
    direct = {tuple(last_words(sides.direct, f"words-{number}")) for number in range(50)}
    through = {tuple(last_words(sides.through, f"words-{number}")) for number in range(100)}
    assert through == direct == {("DISCONNECT 0x81", CLOSED)}
