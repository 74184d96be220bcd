"""`max_keepalive`: MQTT 5 clients are told what a Mosquitto of that `max_keepalive` tells them, others refused.

(Mosquitto refuses these too, but not yet in the version that the tests run with.)
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import wire
from support.broker import Broker
from support.gateway import Gateway
from support.raw import CLOSED, OPEN, RawClient

SERVER_KEEP_ALIVE = b"\x13\x00\x3c"

pytestmark = pytest.mark.usefixtures("behind_gateway")


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """A Mosquitto that bounds keepalives, and one that does not behind a gateway that does."""
    folder: Path = tmp_path_factory.mktemp("keepalive")
    bounding, broker = Broker(folder / "a", "max_keepalive 60"), Broker(folder / "b")
    gateway = Gateway(folder / "g", broker.unix, workers=1, extra='max_keepalive = "1min"')
    try:
        bounding.start()
        broker.start()
        gateway.start()
        yield bounding.port, gateway.port
        gateway.stop()
    finally:
        gateway.end()
        broker.stop()
        bounding.stop()


@pytest.mark.parametrize("through", [False, True], ids=["direct", "through"])
@pytest.mark.parametrize(("keepalive", "told"), [(0, True), (1, False), (60, False), (61, True), (65_535, True)])
def test_version_5_is_told(ports: tuple[int, int], through: bool, keepalive: int, told: bool) -> None:
    with RawClient(ports[through], wire.V5) as client:
        connack = client.exchange(wire.connect(wire.V5, "c", keepalive=keepalive))
        assert wire.tell(connack, wire.V5) == "CONNACK 0x00"
        assert (SERVER_KEEP_ALIVE in connack) == told
        assert client.until_fence() == [OPEN]


@pytest.mark.parametrize("version", [wire.V31, wire.V311])
@pytest.mark.parametrize(("keepalive", "answer"), [(0, 2), (1, 0), (60, 0), (61, 2), (65_535, 2)])
def test_version_3_is_refused(ports: tuple[int, int], version: int, keepalive: int, answer: int) -> None:
    with RawClient(ports[True], version) as client:
        assert client.exchange(wire.connect(version, "c", keepalive=keepalive)) == bytes([0x20, 2, 0, answer])
        assert client.until_fence() == [CLOSED if answer else OPEN]
