"""Enhanced authentication passes: client and broker see the bytes that they would see without a gateway."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from support import wire
from support.auth_broker import CHALLENGE, CONNACK, METHOD, RE_CHALLENGE, RE_SUCCESS, REFUSAL, AuthBroker, auth
from support.gateway import Middle, middle
from support.raw import CLOSED, RawClient


@dataclass(frozen=True)
class Authenticated:
    """The double, and the gateway before it."""

    broker: AuthBroker
    middle: Middle


@pytest.fixture(scope="module")
def authenticated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authenticated]:
    directory = tmp_path_factory.mktemp("auth")
    broker = AuthBroker(directory / "auth.sock")
    between = middle(directory / "g", broker.unix, workers=1)
    broker.start()
    try:
        between.start()
        yield Authenticated(broker, between)
        between.stop()
    finally:
        between.end()
        broker.stop()


def packets_of(broker: AuthBroker, client_id: str) -> list[list[bytes]]:
    """What each connection of `client_id` sent to the broker."""
    return [seen for seen in broker.connections if seen and wire.field(client_id) in seen[0]]


def exchange(client: RawClient, steps: list[bytes]) -> list[bytes | None]:
    """Send each step and read one packet."""
    answers: list[bytes | None] = []
    for step in steps:
        client.send(step)
        answers.append(client.read())
    return answers


STEPS = {
    "accepted and asked again": (
        [auth(0x18, b"proof"), auth(0x19, b"once more"), auth(0x18, b"proof 2"), wire.PINGREQ],
        [CONNACK, RE_CHALLENGE, RE_SUCCESS, wire.PINGRESP],
    ),
    "refused": ([auth(0x18, b"wrong")], [REFUSAL]),
}


@pytest.mark.parametrize("name", STEPS)
def test_exchange_is_identical(authenticated: Authenticated, name: str) -> None:
    steps, answers = STEPS[name]
    client_id = f"auth-{name}"
    connect = wire.connect(wire.V5, client_id, props=METHOD + b"\x16" + wire.field(b"first"))
    seen = []
    for place in (authenticated.broker.path, authenticated.middle.port):
        with RawClient(place, wire.V5) as client:
            seen.append(exchange(client, [connect, *steps]))
    assert seen[0] == [CHALLENGE, *answers]
    without_offer = [told_connack(packet) for packet in seen[1]]
    assert without_offer == [told_connack(packet) for packet in seen[0]]
    at_broker = packets_of(authenticated.broker, client_id)
    assert at_broker == [[connect, *steps]] * 2


def told_connack(packet: bytes | None) -> bytes | None:
    """A CONNACK without the properties that the gateway owns (support/owned.py), any other packet as it is."""
    if packet is None or packet[0] != 0x20:
        return packet
    body = wire.body_of(packet)
    kept, at, end = b"", 3, 3 + body[2]
    while at < end:
        size = {0x22: 3, 0x27: 5}.get(body[at])
        if size is None:
            size = 3 + int.from_bytes(body[at + 1 : at + 3], "big")
            kept += body[at : at + size]
        at += size
    return body[:2] + kept


def test_client_may_give_up_in_the_middle(authenticated: Authenticated) -> None:
    connect = wire.connect(wire.V5, "auth-leaver", props=METHOD)
    with RawClient(authenticated.middle.port, wire.V5) as client:
        assert client.exchange(connect) == CHALLENGE
        client.half_close()
        assert client.until_closed() == [CLOSED]
    with RawClient(authenticated.middle.port, wire.V5) as client:
        client.connect("auth-next")
