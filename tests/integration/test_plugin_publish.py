"""The plugin in a real Mosquitto: who publishes too much loses the excess, is told as far as may be, and stays."""

from collections.abc import Iterator

import pytest

from support import wire
from support.limited import ACK, Watcher, burst, every_qos, every_version, join, numbers, told, unique
from support.plugged import Plugged, is_2_1, plugged

REFUSED = 0x97 if is_2_1() else 0x87
"""What Mosquitto lets a plugin say to a client of version 5: quota exceeded, or, before 2.1, not authorised."""

POLICY = """
[class.free]
client_id = "free-*"
exempt = true

[[limit]]
name = "ten"
topic = "ten/#"
rate = "10/h burst 10"
on_excess = "reject"

[[limit]]
name = "out"
topic = "out/#"
rate = "2/h burst 2"
on_excess = "disconnect"

[[limit]]
name = "small"
topic = "small/#"
size = "10B"
on_excess = "reject"
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugged]:
    with plugged(tmp_path_factory.mktemp("plugin"), POLICY) as made:
        yield made


def refusals(version: int, qos: int, first: int, last: int) -> list[str]:
    """What the broker answers to messages that the plugin refuses: version 3 has no word for it."""
    reason = REFUSED if version == wire.V5 else 0
    return [f"{ACK[qos]} id {number} 0x{reason:02x}" for number in range(first, last + 1) if qos]


@every_version
@every_qos
def test_fifty_at_once_are_ten_messages_and_the_connection_stays(broker: Plugged, version: int, qos: int) -> None:
    topic = f"ten/fifty/{unique('t')}"
    with Watcher(broker, topic, "free") as watcher, join(broker.port, unique("c"), version) as client:
        client.send(burst(version, topic, 50, qos))
        answered = told(client)
        assert [line.split("0x")[0] for line in answered] == [f"{ACK[qos]} id {n} " for n in range(1, 51) if qos]
        assert answered[10:] == refusals(version, qos, 11, 50)
        if qos == 2:
            client.send(b"".join(b"\x62\x02" + number.to_bytes(2, "big") for number in range(1, 11)))
            assert len(told(client)) == 10
        assert [payload for _, payload in watcher.messages()] == numbers(1, 10)
        # Of what no limit meets nothing is lost, and the identifiers of what was refused are free again.
        client.send(burst(version, "free", 1, qos, first_id=60))
        assert len(told(client)) == (qos > 0)


def test_another_client_loses_nothing(broker: Plugged) -> None:
    with (
        Watcher(broker, "ten/others") as watcher,
        join(broker.port, unique("c")) as flooder,
        join(broker.port, unique("c")) as other,
    ):
        flooder.send(burst(wire.V311, "ten/others", 50, payload=b"flood"))
        assert told(flooder) == []
        other.send(burst(wire.V311, "ten/others", 10, payload=b"calm"))
        assert told(other) == []
        assert [payload for _, payload in watcher.messages()] == [b"flood"] * 10 + [b"calm"] * 10


def test_an_exempt_client_is_not_limited(broker: Plugged) -> None:
    with Watcher(broker, "ten/exempt") as watcher, join(broker.port, unique("free")) as client:
        client.send(burst(wire.V311, "ten/exempt", 50))
        assert told(client) == []
        assert len(watcher.messages()) == 50


@every_version
def test_disconnect_ends_the_connection_and_no_other(broker: Plugged, version: int) -> None:
    topic = f"out/{unique('t')}"
    with (
        Watcher(broker, topic) as watcher,
        join(broker.port, unique("c"), version) as bystander,
        join(broker.port, unique("c"), version) as client,
    ):
        for number in (1, 2):  # one by one: what the broker has yet to send when it closes is lost, as ever
            client.send(burst(version, topic, 1, 1, first_id=number))
            assert told(client) == [f"PUBACK id {number} 0x00"]
        client.send(burst(version, topic, 1, 1, first_id=3))
        ended = client.until_closed()
        if version == wire.V5:
            assert ended[-2].startswith("DISCONNECT 0x98")
        assert len(watcher.messages()) == 2
        assert told(bystander) == []


def test_what_is_too_large_is_refused(broker: Plugged) -> None:
    with Watcher(broker, "small/a") as watcher, join(broker.port, unique("c")) as client:
        client.send(burst(wire.V311, "small/a", 1, payload=b"0123456789"))
        client.send(burst(wire.V311, "small/a", 1, payload=b"0123456789a"))
        assert told(client) == []
        assert [payload for _, payload in watcher.messages()] == [b"0123456789"]
