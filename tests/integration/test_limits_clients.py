"""Real client libraries under limits: each goes on working, and tells its user what it can."""

import asyncio
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiomqtt
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from support import wire
from support.limited import Limited, Watcher, limited, numbers, unique
from support.wait import GUARD, until

POLICY = """
[[limit]]
name = "ten"
topic = "ten/#"
rate = "10/h burst 10"
on_excess = { v3 = "drop", default = "reject" }

[[limit]]
name = "end"
topic = "end/#"
rate = "10/h burst 10"
on_excess = "disconnect"

[[limit]]
name = "paced"
topic = "paced/#"
rate = "60/s burst 5"
max_delay = "1h"
"""
VERSIONS = {"3.1.1": wire.V311, "5": wire.V5}
every_version = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
MESSAGES = 30


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("clients"), POLICY) as made:
        yield made


# paho


class Paho:
    """A paho client, connected; it does not come back by itself."""

    def __init__(self, gateway: Limited, version: int) -> None:
        self.inner = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=unique("paho"),
            protocol=MQTTProtocolVersion(version),
            reconnect_on_failure=False,
        )
        self.inner.max_inflight_messages_set(1000)
        self.sent: dict[int, int] = {}
        self.messages: list[mqtt.MQTTMessage] = []
        self.subscribed = threading.Event()
        self.closed: list[int] = []
        self.inner.on_publish = self._on_publish
        self.inner.on_message = self._on_message
        self.inner.on_subscribe = self._on_subscribe
        self.inner.on_disconnect = self._on_disconnect
        self.inner.connect("127.0.0.1", gateway.port)
        self.inner.loop_start()
        until(self.inner.is_connected, "the connection")

    def _on_publish(self, _c: mqtt.Client, _u: Any, mid: int, reason: Any, _p: Any) -> None:
        self.sent[mid] = reason.value

    def _on_message(self, _c: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
        self.messages.append(message)

    def _on_subscribe(self, _c: mqtt.Client, _u: Any, _mid: int, _reasons: Any, _p: Any) -> None:
        self.subscribed.set()

    def _on_disconnect(self, _c: mqtt.Client, _u: Any, _flags: Any, reason: Any, _p: Any) -> None:
        self.closed.append(reason.value)

    def end(self) -> None:
        """Leave."""
        self.inner.disconnect()
        self.inner.loop_stop()


@pytest.fixture
def paho(gateway: Limited, version: int) -> Iterator[Paho]:
    made = Paho(gateway, version)
    yield made
    made.end()


@every_version
@pytest.mark.parametrize("qos", [1, 2])
def test_paho_completes_all_messages(gateway: Limited, paho: Paho, version: int, qos: int) -> None:
    topic = f"ten/paho/{version}/{qos}"
    with Watcher(gateway.broker, topic, "free") as watcher:
        for number in range(MESSAGES):
            paho.inner.publish(topic, str(number), qos)
        until(lambda: len(paho.sent) == MESSAGES, "all of them to be answered")
        # Of QoS 2 paho does not read the code in PUBREC: it sends PUBREL all the same, which Mosquitto confirms.
        told = version == wire.V5 and qos == 1
        assert Counter(paho.sent.values()) == ({0: 10, 0x97: 20} if told else {0: MESSAGES})
        paho.inner.publish("free", "on", qos).wait_for_publish(GUARD)
        assert [topic for topic, _ in watcher.messages()].count(topic) == 10


@every_version
def test_paho_is_told_by_notices(gateway: Limited, paho: Paho, version: int) -> None:
    paho.inner.subscribe([("$tidegate/throttle", 1), ("free", 1)])
    assert paho.subscribed.wait(GUARD)
    for number in range(MESSAGES):
        paho.inner.publish("ten/noticed", str(number), 0)
    until(lambda: paho.messages, "a notice")
    assert paho.messages[0].topic == "$tidegate/throttle"
    assert b'"limit": "ten"' in paho.messages[0].payload


@every_version
def test_paho_hears_why_it_was_disconnected(gateway: Limited, paho: Paho, version: int) -> None:
    for number in range(MESSAGES):
        paho.inner.publish("end/paho", str(number), 0)
    until(lambda: paho.closed, "the end of the connection")
    assert (paho.closed[0] == 0x96) == (version == wire.V5)


@every_version
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_paho_loses_nothing_to_a_delay(gateway: Limited, paho: Paho, version: int, qos: int) -> None:
    topic = f"paced/paho/{version}/{qos}"
    with Watcher(gateway.broker, topic, "free") as watcher:
        for number in range(1, MESSAGES + 1):
            paho.inner.publish(topic, str(number), qos)
        # What is not delayed comes at once, whatever waits.
        paho.inner.publish("free", "on", qos).wait_for_publish(GUARD)
        if qos:
            until(lambda: len(paho.sent) == MESSAGES + 1, "all of them to be acknowledged")
        paho.end()  # with QoS 0 there is something left to wait for
        arrived = [payload for name, payload in watcher.at_least(MESSAGES + 1) if name == topic]
    assert arrived == numbers(1, MESSAGES)
    assert set(paho.sent.values()) == {0}


# aiomqtt


@every_version
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_aiomqtt_completes_all_messages(gateway: Limited, version: int, qos: int) -> None:
    topic = f"ten/aiomqtt/{version}/{qos}"
    with Watcher(gateway.broker, topic, "free") as watcher:
        async with aiomqtt.Client(
            "127.0.0.1",
            gateway.port,
            identifier=unique("aiomqtt"),
            protocol=aiomqtt.ProtocolVersion(version),
            timeout=GUARD,
        ) as client:
            for number in range(MESSAGES):
                await client.publish(topic, str(number), qos)
            await client.publish("free", "on", 1)
        assert [topic for topic, _ in watcher.messages()].count(topic) == 10


@every_version
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_aiomqtt_loses_nothing_to_a_delay(gateway: Limited, version: int, qos: int) -> None:
    topic = f"paced/aiomqtt/{version}/{qos}"
    with Watcher(gateway.broker, topic) as watcher:
        async with (
            aiomqtt.Client(
                "127.0.0.1",
                gateway.port,
                identifier=unique("aiomqtt"),
                protocol=aiomqtt.ProtocolVersion(version),
                timeout=GUARD,
            ) as client,
            asyncio.TaskGroup() as group,
        ):
            for number in range(1, MESSAGES + 1):
                group.create_task(client.publish(topic, str(number), qos))
        arrived = [payload for _, payload in watcher.at_least(MESSAGES)]
    assert arrived == numbers(1, MESSAGES)


# mosquitto_pub: without QoS 2, as it leaves once its last line is answered, be others still under way.


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
@pytest.mark.parametrize("qos", [0, 1])
def test_mosquitto_pub_sends_all_its_lines(gateway: Limited, version: str, qos: int) -> None:
    topic = f"ten/pub/{version}/{qos}"
    words = ["-h", "127.0.0.1", "-p", str(gateway.port), "-V", version, "-i", unique("pub"), "-t", topic]
    with Watcher(gateway.broker, topic) as watcher:
        done = subprocess.run(
            ["mosquitto_pub", *words, "-q", str(qos), "-l"],
            input="".join(f"{number}\n" for number in range(MESSAGES)),
            capture_output=True,
            text=True,
            timeout=GUARD,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert len(watcher.at_least(10)) == 10
    refused = done.stderr.count("Quota exceeded")
    assert refused == (20 if version == "mqttv5" and qos else 0)


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
@pytest.mark.parametrize("qos", [0, 1])
def test_mosquitto_pub_loses_nothing_to_a_delay(gateway: Limited, version: str, qos: int) -> None:
    topic = f"paced/pub/{version}/{qos}"
    words = ["-h", "127.0.0.1", "-p", str(gateway.port), "-V", version, "-i", unique("pub"), "-t", topic]
    with Watcher(gateway.broker, topic) as watcher:
        done = subprocess.run(
            ["mosquitto_pub", *words, "-q", str(qos), "-l"],
            input="".join(f"{number}\n" for number in range(1, MESSAGES + 1)),
            capture_output=True,
            text=True,
            timeout=GUARD,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert [payload for _, payload in watcher.at_least(MESSAGES)] == numbers(1, MESSAGES)


def test_mosquitto_sub_prints_what_came_through(gateway: Limited) -> None:
    place = ["-h", "127.0.0.1", "-p", str(gateway.port)]
    topic = "ten/kept"
    for number in range(12):  # retained: it does not matter which of the two is faster
        subprocess.run(
            ["mosquitto_pub", *place, "-i", "keeper", "-t", f"{topic}/{number}", "-m", "kept", "-r", "-q", "1"],
            check=True,
            timeout=GUARD,
        )
    done = subprocess.run(
        ["mosquitto_sub", *place, "-t", f"{topic}/#", "-C", "10", "-F", "%t %p"],
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=True,
    )
    assert sorted(done.stdout.split()) == sorted([*(f"{topic}/{number}" for number in range(10)), *["kept"] * 10])
