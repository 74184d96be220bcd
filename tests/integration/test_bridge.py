"""A second Mosquitto bridges through the gateway to the first, both ways, and comes back when a worker dies."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from support import wire
from support.broker import Broker
from support.gateway import Gateway
from support.raw import RawClient
from support.sides import Sides
from support.wait import until

VERSIONS = {"3.1": "mqttv31", "3.1.1": "mqttv311", "5": "mqttv50"}
_names = itertools.count(1)


@contextmanager
def bridge(directory: Path, port: int, version: str, qos: int, name: str) -> Iterator[Broker]:
    """A broker that carries NAME/out/# to the one behind `port` and NAME/in/# from it."""
    local = Broker(
        directory,
        f"connection {name}\n"
        f"address 127.0.0.1:{port}\n"
        f"bridge_protocol_version {version}\n"
        f"remote_clientid {name}\n"
        "bridge_attempt_unsubscribe true\n"
        "cleansession false\n"
        "try_private true\n"
        "notifications false\n"
        "start_type automatic\n"
        "restart_timeout 1\n"
        f"topic {name}/out/# out {qos}\n"
        f"topic {name}/in/# in {qos}\n",
    )
    local.start()
    try:
        yield local
    finally:
        local.stop()


def subscribed(port: int, client_id: str, topic: str) -> RawClient:
    """A client that has subscribed at QoS 1."""
    client = RawClient(port)
    client.connect(client_id, keepalive=0)
    client.exchange(wire.subscribe(wire.V311, (topic, 1)))
    return client


def publish(port: int, client_id: str, topic: str, payload: bytes) -> None:
    """Publish at QoS 1 and wait for the acknowledgement."""
    with RawClient(port) as client:
        client.connect(client_id)
        client.exchange(wire.publish(wire.V311, topic, payload, first=0x32, packet_id=1))


def next_payload(client: RawClient, topic: str) -> bytes:
    """The payload of the next PUBLISH on `topic`, which is acknowledged."""
    data = client.read()
    assert data is not None
    assert data[0] >> 4 == 3, data.hex()
    body = wire.body_of(data)
    size = int.from_bytes(body[:2], "big")
    assert body[2 : 2 + size] == topic.encode()
    client.send(wire.packet(0x40, body[2 + size : 4 + size]))
    return body[4 + size :]


def until_bridged(remote: Broker, name: str) -> None:
    """Wait until the broker has answered the bridge's SUBSCRIBE; without it, what is published there is not carried."""
    until(lambda: f"Sending SUBACK to {name}\n" in remote.log(), "the bridge's subscription")


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_bridge_carries_both_ways(sides: Sides, tmp_path: Path, version: str, qos: int) -> None:
    name = f"bridge{next(_names)}"
    with bridge(tmp_path / "l", sides.through, version, qos, name) as local:
        until_bridged(sides.broker, name)
        with (
            subscribed(sides.broker.port, f"{name}-remote", f"{name}/out/#") as at_remote,
            subscribed(local.port, f"{name}-local", f"{name}/in/#") as at_local,
        ):
            for number in range(20):
                payload = b"%d" % number
                publish(local.port, f"{name}-publisher", f"{name}/out/t", payload)
                assert next_payload(at_remote, f"{name}/out/t") == payload
                publish(sides.direct, f"{name}-publisher", f"{name}/in/t", payload)
                assert next_payload(at_local, f"{name}/in/t") == payload


def worker_with(gateway: Gateway, bridging: Broker) -> psutil.Process | None:
    """The worker that holds the connection of a bridge."""
    process = psutil.Process(bridging.process.pid)
    for held in process.net_connections("tcp"):
        if held.raddr and held.raddr.port == gateway.port:
            return gateway.worker_of(held.laddr.port)
    return None


def test_bridge_recovers_when_its_worker_is_killed(sides: Sides, tmp_path: Path, behind_gateway: None) -> None:
    assert isinstance(sides.middle, Gateway)
    gateway = sides.middle
    name = f"bridge{next(_names)}"
    with (
        bridge(tmp_path / "l", sides.through, "mqttv311", 1, name) as local,
        subscribed(sides.broker.port, f"{name}-remote", f"{name}/out/#") as at_remote,
    ):
        until_bridged(sides.broker, name)
        worker = until(lambda: worker_with(gateway, local), "the bridge's worker")
        worker.kill()
        # The bridge's own queue keeps this while it is away, and whatever it was not acknowledged comes again.
        publish(local.port, f"{name}-publisher", f"{name}/out/t", b"after the kill")
        assert next_payload(at_remote, f"{name}/out/t") == b"after the kill"
        replacement = until(lambda: worker_with(gateway, local), "the bridge's new worker")
        assert replacement.pid != worker.pid
        until(lambda: len(gateway.workers()) == 2, "a worker in place of the killed one")
