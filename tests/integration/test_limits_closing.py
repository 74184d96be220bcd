"""What becomes of delayed messages when their connection ends: a DISCONNECT waits for them, any other end does not."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from support import wire
from support.limited import (
    AMPLE,
    Limited,
    Watcher,
    acks,
    burst,
    every_qos,
    every_version,
    join,
    limited,
    lines,
    numbers,
    told,
    unique,
)
from support.raw import CLOSED
from support.wait import until

POLICY = """
[[limit]]
name = "slow"
topic = "slow/#"
rate = "RATE"
max_delay = "1h"

[[limit]]
name = "late"
topic = "late/#"
rate = "3/h burst 3"
max_delay = "200ms"

[[limit]]
name = "end"
topic = "end/#"
rate = "3/h burst 3"
on_excess = "disconnect"
"""
TIGHT = "3/h burst 3"


def policy(rate: str = TIGHT) -> str:
    return POLICY.replace("RATE", rate)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("closing"), policy()) as made:
        yield made


def freed(gateway: Limited) -> AbstractContextManager[None]:
    """With limits that let go what waits."""
    return gateway.under(policy(AMPLE), policy())


def discarded(gateway: Limited, reason: str) -> float:
    return gateway.metric("tidegate_hold_discarded_total", reason=reason)


# DISCONNECT


@every_version
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("closes", [False, True], ids=["stays", "closes"])
def test_disconnect_waits_for_what_is_held(gateway: Limited, version: int, qos: int, closes: bool) -> None:
    topic = f"slow/leaving/{version}/{qos}/{closes}"
    will = f"gone/{topic}"
    name = unique("leaving")
    with Watcher(gateway.broker, topic, will, "fence") as watcher, join(gateway.port, "fence") as fence:
        with join(gateway.port, name, version, will=will) as client:
            client.send(burst(version, topic, 6, qos))
            assert told(client) == acks(qos, 1, 3)
            client.send(wire.DISCONNECT)
            if closes:
                client.close()
            assert [payload for _, payload in watcher.messages()] == numbers(1, 3)
            assert gateway.held == 3
            with freed(gateway):
                assert watcher.at_least(3) == [(topic, payload) for payload in numbers(4, 6)]
                if not closes:
                    events = client.until_closed()
                    assert events[-1] == CLOSED
                    assert events[:-1] == acks(qos, 4, 6)[: len(events) - 1]
        until(lambda: gateway.metric("tidegate_connections") == 1, "the end of the connection")
        # The broker has heard its DISCONNECT: no will is sent, then or later.
        fence.send(burst(wire.V311, "fence", 1, 1))
        assert lines(fence, 1) == acks(1, 1, 1)
        assert [seen for seen, _ in watcher.messages()] == ["fence"]
    assert f"Client {name} disconnected." in gateway.broker.log()


def test_disconnect_of_mqtt_5_with_the_will_sends_it_behind_what_was_held(gateway: Limited) -> None:
    with (
        Watcher(gateway.broker, "slow/willed", "gone/willed") as watcher,
        join(gateway.port, unique("c"), wire.V5, will="gone/willed") as client,
    ):
        client.send(burst(wire.V5, "slow/willed", 5) + wire.packet(0xE0, b"\x04"))
        until(lambda: gateway.held == 2, "two to wait")
        with freed(gateway):
            assert len(watcher.messages_until("gone/willed")) == 5
            assert client.until_closed() == [CLOSED]


def test_what_follows_a_disconnect_is_nobody_s(gateway: Limited) -> None:
    with Watcher(gateway.broker, "slow/after", "free") as watcher, join(gateway.port, unique("c")) as client:
        client.send(burst(wire.V311, "slow/after", 4) + wire.DISCONNECT + burst(wire.V311, "free", 1))
        until(lambda: gateway.held == 1, "one to wait")
        client.send(burst(wire.V311, "free", 1))
        with freed(gateway):
            assert client.until_closed() == [CLOSED]
            assert [topic for topic, _ in watcher.at_least(4)] == ["slow/after"] * 4


@every_version
@every_qos
def test_disconnect_waits_no_longer_than_max_delay(gateway: Limited, version: int, qos: int) -> None:
    topic = f"late/{version}/{qos}"
    will = f"gone/{topic}"
    before = discarded(gateway, "late")
    with (
        Watcher(gateway.broker, topic, will, "fence") as watcher,
        join(gateway.port, unique("c"), version, will=will) as client,
        join(gateway.port, "fence") as fence,
    ):
        client.send(burst(version, topic, 5, qos) + wire.DISCONNECT)
        # It has taken its leave: nothing is said of what came too late.
        events = client.until_closed()
        assert events == [*acks(qos, 1, 3), CLOSED]
        assert discarded(gateway, "late") == before + 2
        fence.send(burst(wire.V311, "fence", 1, 1))
        assert lines(fence, 1) == acks(1, 1, 1)
        seen = [seen for seen, _ in watcher.messages()]
        assert seen == [*([topic] * 3 if qos < 2 else []), "fence"]


# Any other end


@every_version
@every_qos
def test_who_closes_without_disconnect_loses_what_is_held_and_the_will_is_sent(
    gateway: Limited, version: int, qos: int
) -> None:
    topic = f"slow/gone/{version}/{qos}"
    will = f"gone/{topic}"
    before = discarded(gateway, "client_gone")
    with Watcher(gateway.broker, topic, will) as watcher:
        client = join(gateway.port, unique("c"), version, will=will)
        client.send(burst(version, topic, 8, qos))
        assert told(client) == acks(qos, 1, 3)
        client.close()
        assert len(watcher.messages_until(will)) == (3 if qos < 2 else 0)
        assert discarded(gateway, "client_gone") == before + 5
        assert gateway.held == 0


@every_version
def test_who_is_disconnected_loses_what_is_held(gateway: Limited, version: int) -> None:
    before = discarded(gateway, "ended")
    with join(gateway.port, unique("c"), version) as client, Watcher(gateway.broker, "slow/ended"):
        client.send(burst(version, "slow/ended", 5, 1))
        assert told(client) == acks(1, 1, 3)
        client.send(burst(version, "end/t", 4))
        assert client.until_closed()[-1] == CLOSED
        assert discarded(gateway, "ended") == before + 2


def test_what_was_discarded_is_sent_again_by_its_client_and_arrives_once(gateway: Limited) -> None:
    name = unique("back")
    with Watcher(gateway.broker, "slow/back") as watcher:
        with join(gateway.port, name, clean=False) as client:
            client.send(burst(wire.V311, "slow/back", 5, 1))
            assert told(client) == acks(1, 1, 3)
        until(lambda: gateway.held == 0, "the end of the connection")
        with freed(gateway), join(gateway.port, name, clean=True) as client:
            client.send(burst(wire.V311, "slow/back", 2, 1, first_id=4, dup=True))
            assert lines(client, 2) == acks(1, 4, 5)
        assert [payload for _, payload in watcher.at_least(5)] == numbers(1, 5)


@every_version
def test_when_the_broker_goes_what_is_held_is_discarded(tmp_path: Path, version: int) -> None:
    with limited(tmp_path, policy()) as gateway, join(gateway.port, "c", version) as client:
        client.send(burst(version, "slow/t", 5))
        assert told(client) == []
        gateway.broker.kill()
        assert client.until_closed() == (["DISCONNECT 0x8B", CLOSED] if version == wire.V5 else [CLOSED])
        assert (discarded(gateway, "broker_gone"), gateway.held) == (2, 0)
