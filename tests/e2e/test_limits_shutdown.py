"""SIGTERM and SIGKILL while a limit holds messages back: their clients still have them, and send them again."""

import signal
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from support import wire
from support.broker import Broker
from support.gateway import Gateway
from support.limited import Watcher, acks, burst, join, lines, metric, numbers, pubrels, told
from support.raw import CLOSED, RawClient
from support.wait import until

MakeGateway = Callable[..., Gateway]
LIMIT = """
[[limit]]
name = "slow"
topic = "slow/#"
rate = "3/h burst 3"
max_delay = "1h"
"""
HELD_BACK = """
[[limit]]
name = "flap"
on = "will"
will_delay = "1h"
"""
VERSIONS = {"v311": wire.V311, "v5": wire.V5}


def lasting(version: int) -> bytes:
    """A session that lasts: Session Expiry Interval of version 5."""
    return b"\x11\xff\xff\xff\xff" if version == wire.V5 else b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_held_is_not_acknowledged_and_sent_again(
    make_gateway: MakeGateway, broker: Broker, number: signal.Signals, qos: int
) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, workers=2, extra='drain_timeout = "2s"', tables=LIMIT)
    gateway.start()
    with ExitStack() as stack:
        watcher = stack.enter_context(Watcher(broker, "slow/#", "gone/#"))
        clients: dict[str, RawClient] = {}
        for name, version in VERSIONS.items():
            clients[name] = stack.enter_context(
                join(gateway.port, name, version, clean=False, props=lasting(version), will=f"gone/{name}")
            )
            clients[name].send(burst(version, f"slow/{name}", 6, qos))
            assert told(clients[name]) == acks(qos, 1, 3)
        assert metric(gateway, "tidegate_held_messages") == 6
        gateway.process.send(number)
        dismissed = ["DISCONNECT 0x8B", CLOSED] if number != signal.SIGKILL else [CLOSED]
        assert clients["v5"].until_closed() == dismissed
        assert clients["v311"].until_closed() == [CLOSED]
        assert gateway.process.wait() == (0 if number != signal.SIGKILL else -signal.SIGKILL)
        assert "Traceback" not in gateway.process.stderr()
        arrived = [watcher.message() for _ in range(2 + (6 if qos == 1 else 0))]
        # To the broker both were lost, and nothing but what it has acknowledged has come.
        assert {topic for topic, _ in arrived if topic.startswith("gone")} == {"gone/v311", "gone/v5"}
        for name in VERSIONS:
            assert [payload for topic, payload in arrived if topic == f"slow/{name}"] == numbers(1, 3 * (qos == 1))

        gateway.start()
        for name, version in VERSIONS.items():
            client = stack.enter_context(RawClient(gateway.port, version))
            connack = client.exchange(wire.connect(version, name, flags=0, props=lasting(version)))
            assert wire.tell(connack, version) == "CONNACK session 0x00"
            client.send(burst(version, f"slow/{name}", 3, qos, first_id=4, dup=True))
            assert lines(client, 3) == acks(qos, 4, 6)
            if qos == 2:
                client.send(pubrels(1, 6))
                assert told(client) == [f"PUBCOMP id {packet_id} 0x00" for packet_id in range(1, 7)]
            payloads = [payload for topic, payload in watcher.at_least(3 if qos == 1 else 6) if topic == f"slow/{name}"]
            assert payloads == numbers(4 if qos == 1 else 1, 6)
    gateway.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_who_has_said_disconnect_does_not_keep_the_gateway_from_ending(
    make_gateway: MakeGateway, broker: Broker, number: signal.Signals
) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, workers=1, extra='drain_timeout = "2s"', tables=LIMIT)
    gateway.start()
    with Watcher(broker, "slow/#", "gone") as watcher, join(gateway.port, "c", will="gone") as client:
        client.send(burst(wire.V311, "slow/t", 5) + wire.DISCONNECT)
        until(lambda: metric(gateway, "tidegate_held_messages") == 2, "two to wait")
        assert gateway.process.stop(number) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        assert client.until_closed() == [CLOSED]
        # Its DISCONNECT came behind what was held, and was given up with it.
        assert len(watcher.messages_until("gone")) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_wills_that_are_held_back_are_published(
    make_gateway: MakeGateway, broker: Broker, number: signal.Signals
) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, workers=2, extra='drain_timeout = "2s"', tables=HELD_BACK)
    gateway.start()
    names = ["gone-1", "gone-2", "gone-3", "there"]
    with Watcher(broker, "status/#") as watcher, ExitStack() as stack:
        for name in names[:3]:
            join(gateway.port, name, will=f"status/{name}").close()
        until(lambda: metric(gateway, "tidegate_wills_held") == 3, "their wills to be held back")
        stack.enter_context(join(gateway.port, "there", will="status/there"))
        assert watcher.messages() == []
        gateway.process.send(number)
        assert sorted(watcher.message() for _ in names) == [(f"status/{name}", b"") for name in names]
        assert gateway.process.wait() == (0 if number != signal.SIGKILL else -signal.SIGKILL)
        assert "Traceback" not in gateway.process.stderr()
