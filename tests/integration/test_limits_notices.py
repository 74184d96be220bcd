"""`$tidegate/throttle`: who subscribes to it is told of its own refusals, in MQTT 3 as well."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support import wire
from support.limited import (
    Limited,
    answers,
    burst,
    every_version,
    join,
    limited,
    pubrels,
    told,
    unique,
)
from support.raw import CLOSED, RawClient

THROTTLE = "$tidegate/throttle"
POLICY = """
[[limit]]
name = "drop"
topic = "drop/#"
rate = "10/h burst 10"
on_excess = "drop"

[[limit]]
name = "reject"
topic = "reject/#"
rate = "10/h burst 10"
on_excess = { v3 = "drop", default = "reject" }

[[limit]]
name = "size"
topic = "size/#"
size = "10B"
on_excess = "drop"

[[limit]]
name = "end"
topic = "end/#"
rate = "1/h burst 1"
on_excess = "disconnect"
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("notices"), POLICY) as made:
        yield made


def notices(client: RawClient, packets: list[bytes]) -> list[dict[str, Any]]:
    """The payloads of the notices among these packets, whose form must be that of QoS 0."""
    seen = []
    head = wire.field(THROTTLE) + wire.properties(client.version)
    for data in packets:
        if data[0] >> 4 == 3:
            assert data[0] == 0x30
            body = wire.body_of(data)
            assert body.startswith(head), data.hex()
            seen.append(json.loads(body[len(head) :]))
    return seen


def subscribe(client: RawClient, *filters: tuple[str, int], packet_id: int = 9) -> str:
    return wire.tell(client.exchange(wire.subscribe(client.version, *filters, packet_id=packet_id)), client.version)


def unsubscribe(client: RawClient, *filters: str, packet_id: int = 9) -> str:
    return wire.tell(client.exchange(wire.unsubscribe(client.version, *filters, packet_id=packet_id)), client.version)


@every_version
def test_a_client_is_told_which_limit_refused_what_and_until_when(gateway: Limited, version: int) -> None:
    with join(gateway.port, unique("c"), version) as client:
        assert subscribe(client, (THROTTLE, 0)) == "SUBACK id 9 0x00"
        client.send(burst(version, "drop/me", 50))
        seen = notices(client, answers(client))
        first = seen[0]
        assert 0 < first.pop("retry_after_ms") <= 360_001
        assert first == {"limit": "drop", "action": "drop", "topic": "drop/me", "messages": 1}
        # At most one a second: it says how many messages it speaks for.
        assert sum(notice["messages"] for notice in seen) <= 40


@every_version
def test_the_answer_to_the_message_comes_as_well(gateway: Limited, version: int) -> None:
    with join(gateway.port, unique("c"), version) as client:
        subscribe(client, (THROTTLE, 0))
        client.send(burst(version, "reject/me", 10, 2) + burst(version, "reject/me", 1, 2, first_id=77))
        packets = answers(client)
        code = "0x97" if version == wire.V5 else "0x00"
        assert f"PUBREC id 77 {code}" in [wire.tell(data, version) for data in packets]
        (notice,) = notices(client, packets)
        assert notice["action"] == ("reject" if version == wire.V5 else "drop")
        client.send(pubrels(1, 10))
        assert len(told(client)) == 10


def test_a_message_that_will_never_fit_has_no_time_to_wait(gateway: Limited) -> None:
    with join(gateway.port, unique("c")) as client:
        subscribe(client, (THROTTLE, 0))
        client.send(burst(wire.V311, "size/me", 1, payload=bytes(11)))
        assert notices(client, answers(client)) == [
            {"limit": "size", "action": "drop", "topic": "size/me", "retry_after_ms": None, "messages": 1}
        ]


def test_each_limit_has_its_own_notices(gateway: Limited) -> None:
    with join(gateway.port, unique("c")) as client:
        subscribe(client, (THROTTLE, 0))
        client.send(burst(wire.V311, "drop/me", 11) + burst(wire.V311, "size/me", 1, payload=bytes(11)))
        assert [notice["limit"] for notice in notices(client, answers(client))] == ["drop", "size"]


def test_who_does_not_ask_is_not_told(gateway: Limited) -> None:
    with join(gateway.port, unique("c")) as client, join(gateway.port, unique("c")) as other:
        subscribe(client, (THROTTLE, 0))
        other.send(burst(wire.V311, "drop/me", 50))
        assert told(other) == []
        assert told(client) == []


def test_what_the_client_cannot_take_is_not_sent(gateway: Limited) -> None:
    with join(gateway.port, unique("c"), wire.V5, props=b"\x27" + (60).to_bytes(4, "big")) as client:
        subscribe(client, (THROTTLE, 0))
        client.send(burst(wire.V5, "drop/me", 50))
        assert told(client) == []


def test_who_is_disconnected_hears_the_reason_from_disconnect(gateway: Limited) -> None:
    with join(gateway.port, unique("c"), wire.V5) as client:
        subscribe(client, (THROTTLE, 0))
        client.send(burst(wire.V5, "end/me", 5))
        assert client.until_closed() == ["DISCONNECT 0x96", CLOSED]


# SUBSCRIBE and UNSUBSCRIBE


@every_version
@pytest.mark.parametrize(
    ("filters", "codes"),
    [
        ([(THROTTLE, 1)], "0x00"),
        ([(THROTTLE, 2), ("a/1", 2)], "0x00 0x02"),
        ([("a/1", 1), (THROTTLE, 1), ("a/2", 2)], "0x01 0x00 0x02"),
        ([("a/1", 2), ("a/2", 1), (THROTTLE, 0)], "0x02 0x01 0x00"),
        ([(THROTTLE, 1), ("a/1", 2), (THROTTLE, 1)], "0x00 0x02 0x00"),
    ],
    ids=["alone", "first", "between", "last", "twice"],
)
def test_the_codes_of_suback_stand_in_their_places(
    gateway: Limited, version: int, filters: list[tuple[str, int]], codes: str
) -> None:
    with join(gateway.port, unique("c"), version) as client:
        assert subscribe(client, *filters) == f"SUBACK id 9 {codes}"
        others = [name for name, _ in filters if name != THROTTLE]
        client.send(b"".join(burst(version, name, 1) for name in others))
        assert told(client) == [f"PUBLISH qos 0 {name}" for name in others]
        client.send(burst(version, "drop/me", 11))
        assert len(notices(client, answers(client))) == 1


@every_version
def test_after_unsubscribe_there_are_no_notices(gateway: Limited, version: int) -> None:
    with join(gateway.port, unique("c"), version) as client:
        subscribe(client, (THROTTLE, 0), ("b/1", 0), ("b/2", 0))
        v5 = version == wire.V5
        assert unsubscribe(client, "b/1", THROTTLE, "never") == f"UNSUBACK id 9{' 0x00 0x00 0x11' if v5 else ''}"
        client.send(burst(version, "drop/me", 50) + burst(version, "b/1", 1) + burst(version, "b/2", 1))
        assert told(client) == ["PUBLISH qos 0 b/2"]
        assert unsubscribe(client, THROTTLE) == f"UNSUBACK id 9{' 0x11' if v5 else ''}"
        assert subscribe(client, (THROTTLE, 0)) == "SUBACK id 9 0x00"
        client.send(burst(version, "drop/me", 1))
        assert len(notices(client, answers(client))) == 1


def test_acknowledgements_are_told_apart_by_identifier(gateway: Limited) -> None:
    with join(gateway.port, unique("c"), wire.V5) as client:
        client.send(
            wire.subscribe(wire.V5, ("c/1", 1), (THROTTLE, 0), packet_id=1)
            + wire.subscribe(wire.V5, ("c/2", 2), packet_id=2)
            + wire.unsubscribe(wire.V5, THROTTLE, "c/1", packet_id=3)
            + wire.unsubscribe(wire.V5, "c/2", packet_id=4)
        )
        assert told(client) == [
            "SUBACK id 1 0x01 0x00",
            "SUBACK id 2 0x02",
            "UNSUBACK id 3 0x00 0x00",
            "UNSUBACK id 4 0x00",
        ]


def test_the_broker_never_hears_of_it(gateway: Limited) -> None:
    with join(gateway.port, "deaf", wire.V5) as client:
        subscribe(client, (THROTTLE, 0), ("heard/#", 1))
        unsubscribe(client, THROTTLE, "heard/#")
        assert unsubscribe(client, "heard/#") == "UNSUBACK id 9 0x11"
    log = gateway.broker.log()
    assert "heard/#" in log
    assert THROTTLE not in log


def test_nobody_else_can_send_notices(gateway: Limited) -> None:
    with join(gateway.port, unique("c")) as client, join(gateway.port, unique("c")) as forger:
        subscribe(client, (THROTTLE, 0))
        forger.send(burst(wire.V311, THROTTLE, 1, 1))
        assert told(forger) == ["PUBACK id 1 0x00"]
        assert told(client) == []
