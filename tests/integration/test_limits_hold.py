"""The hold of a connection: what MQTT 5 clients are offered for it, and what comes when it is full."""

import time
from pathlib import Path

import pytest

from support import wire
from support.late_gateway import late
from support.limited import (
    AMPLE,
    Watcher,
    acks,
    burst,
    every_version,
    join,
    limited,
    lines,
    numbers,
    told,
)
from support.raw import CLOSED, RawClient
from support.wait import until

POLICY = """
[[limit]]
name = "slow"
topic = "slow/#"
rate = "RATE"
max_delay = "1h"
"""
TIGHT = "3/h burst 3"


def policy(rate: str = TIGHT) -> str:
    return POLICY.replace("RATE", rate)


# Receive Maximum of MQTT 5


def receive_maximum(connack: bytes) -> int:
    """What a CONNACK of MQTT 5 says of it; 65,535 where it says nothing."""
    sizes = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
    found = wire.body_of(connack)[3:]
    while found:
        size = sizes[found[0]]
        if found[0] == 0x21:
            return int.from_bytes(found[1 : 1 + size], "big")
        found = found[1 + size :]
    return 65_535


CLASSES = """
[class.slow]
client_id = "slow-*"

[class.freely]
client_id = "exempt-*"
exempt = true

[[limit]]
name = "slow"
class = "slow"
topic = "slow/#"
rate = "3/h burst 3"
max_delay = "1h"

[[limit]]
name = "strict"
topic = "strict/#"
qos = 0
rate = "3/h burst 3"
on_excess = "drop"
"""


@pytest.mark.parametrize(("brokers", "offered"), [(20, 70), (65_500, 65_535), (None, 65_535)])
def test_who_may_be_delayed_is_offered_room_for_what_waits(tmp_path: Path, brokers: int | None, offered: int) -> None:
    with late(tmp_path, CLASSES, receive_maximum=brokers, extra="hold_messages = 50") as made:
        for client_id, wanted in (("slow-1", offered), ("other", brokers or 65_535), ("exempt-1", brokers or 65_535)):
            with RawClient(made.port, wire.V5) as client:
                assert receive_maximum(client.connect(client_id)) == wanted, client_id


def test_the_broker_never_has_more_than_it_takes(tmp_path: Path) -> None:
    with (
        late(tmp_path, CLASSES, receive_maximum=5, extra="hold_messages = 50") as made,
        join(made.port, "slow-1", wire.V5) as client,
    ):
        client.send(burst(wire.V5, "free/t", 30, 1))
        assert told(client) == []
        assert (made.broker.unacknowledged, made.held) == (5, 25)
        for released in range(1, 31):
            assert made.broker.release(1) == 1
            assert lines(client, 1) == acks(1, released, released)
            made.forwarded(min(30, released + 5))
        assert [one.payload for one in made.broker.received] == numbers(1, 30)
        assert (made.broker.most, made.broker.unacknowledged) == (5, 0)


def test_who_exceeds_what_it_was_offered_is_disconnected(tmp_path: Path) -> None:
    with (
        late(tmp_path, CLASSES, receive_maximum=5, extra="hold_messages = 10") as made,
        join(made.port, "slow-1", wire.V5) as client,
    ):
        client.send(burst(wire.V5, "free/t", 15, 1))
        assert told(client) == []
        client.send(burst(wire.V5, "free/t", 1, 1, first_id=16))
        assert client.until_closed() == ["DISCONNECT 0x93", CLOSED]


# A full hold


def test_a_client_whose_hold_is_full_is_read_on_once_there_is_room(tmp_path: Path) -> None:
    with (
        limited(tmp_path, policy(), extra="hold_messages = 4") as gateway,
        Watcher(gateway.broker, "slow/t") as watcher,
        join(gateway.port, "c") as client,
    ):
        client.send(burst(wire.V311, "slow/t", 20, 1) + wire.PINGREQ)
        assert lines(client, 3) == acks(1, 1, 3)
        until(lambda: gateway.held == 4, "the hold to be full")
        assert len(watcher.messages()) == 3
        gateway.gateway.reload(policy(AMPLE))
        # The answer to the ping may overtake acknowledgements of what was held.
        assert sorted(lines(client, 18)) == sorted([*acks(1, 4, 20), "PINGRESP"])
        assert [payload for _, payload in watcher.at_least(17)] == numbers(4, 20)


@every_version
def test_a_client_is_not_read_for_half_its_keepalive_at_most(tmp_path: Path, version: int) -> None:
    with (
        limited(tmp_path, policy(), extra="hold_messages = 4") as gateway,
        Watcher(gateway.broker, "slow/t") as watcher,
        RawClient(gateway.port, version) as client,
    ):
        client.connect("c", keepalive=2)
        # Of QoS 0 what finds no room is dropped, the rest gets `then`.
        client.send(burst(version, "slow/t", 7, 1) + burst(version, "slow/t", 2))
        client.send(burst(version, "slow/t", 2, 1, first_id=8) + wire.PINGREQ)
        begun = time.monotonic()
        assert lines(client, 3) == acks(1, 1, 3)
        if version < wire.V5:
            assert client.until_closed() == [CLOSED]
        else:
            assert lines(client, 3) == ["PUBACK id 8 0x97", "PUBACK id 9 0x97", "PINGRESP"]
            gateway.gateway.reload(policy(AMPLE))
            assert lines(client, 4) == acks(1, 4, 7)
        assert time.monotonic() - begun > 0.9
        assert [payload for _, payload in watcher.at_least(3)][:3] == numbers(1, 3)


@every_version
def test_when_the_pool_is_full_who_has_the_most_in_it_is_cut(tmp_path: Path, version: int) -> None:
    with (
        limited(tmp_path, policy(), extra='hold_pool = "1MiB"') as gateway,
        Watcher(gateway.broker, "slow/#", "gone") as watcher,
        join(gateway.port, "large", version, will="gone") as large,
        join(gateway.port, "small", version) as small,
    ):
        large.send(burst(version, "slow/large", 19, 1, payload=bytes(60_000)))
        assert told(large) == acks(1, 1, 3)
        small.send(burst(version, "slow/small", 5, 1, payload=bytes(50_000)))
        assert told(small) == acks(1, 1, 3)
        assert large.until_closed() == (["DISCONNECT 0x97", CLOSED] if version == wire.V5 else [CLOSED])
        assert gateway.metric("tidegate_hold_discarded_total", reason="pool") == 16
        assert [topic for topic, _ in watcher.messages_until("gone")].count("slow/large") == 3
        gateway.gateway.reload(policy(AMPLE))
        assert lines(small, 2) == acks(1, 4, 5)
