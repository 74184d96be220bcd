"""The gateway killed with -9 in the middle of streams: what was acknowledged arrives, QoS 2 once.

With a limit that delays, most of what is not acknowledged waits in the gateway when it is killed.
"""

import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MessageState, MQTTProtocolVersion

from support.broker import Broker
from support.gateway import Gateway
from support.limited import metric
from support.wait import until

MakeGateway = Callable[..., Gateway]
MESSAGES = 400
"""Of each QoS."""
KILLS = 4
WINDOW = 10
"""Unacknowledged messages that the sender has at most."""
DELAY = """
[[limit]]
name = "stream"
topic = "stream/#"
rate = "200/s burst 2"
max_delay = "1h"
"""


class Resuming(mqtt.Client):
    """paho's client, which forgets at its second attempt to reconnect that it owes a PUBREL.

    It would publish the message anew, which the broker, having completed it, rightly takes for another one (3.1.1,
    section 4.3.3: once a PUBREC has come, only PUBREL may follow).
    """

    def _messages_reconnect_reset_out(self) -> None:
        with self._out_message_mutex:
            for message in self._out_messages.values():
                if message.state == MessageState.MQTT_MS_RESEND_PUBREL:
                    message.state = MessageState.MQTT_MS_WAIT_FOR_PUBCOMP
        super()._messages_reconnect_reset_out()


class Endpoint:
    """A paho client with a session that lasts, which comes back by itself whenever it loses its connection."""

    def __init__(self, port: int, client_id: str) -> None:
        self.client = Resuming(
            CallbackAPIVersion.VERSION2, client_id, clean_session=False, protocol=MQTTProtocolVersion.MQTTv311
        )
        self.client.reconnect_delay_set(1, 1)
        self.received: Counter[bytes] = Counter()
        self.acknowledged: set[int] = set()
        self.subscribed = threading.Event()
        self.client.on_message = self._message
        self.client.on_publish = self._published
        self.client.on_subscribe = self._subscribed
        self.client.connect("127.0.0.1", port, keepalive=10)
        self.client.loop_start()

    def _message(self, _client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        self.received[bytes(message.payload)] += 1

    def _published(self, _c: mqtt.Client, _u: Any, mid: int, _reason: Any, _properties: Any) -> None:
        self.acknowledged.add(mid)

    def _subscribed(self, _c: mqtt.Client, _u: Any, _mid: int, _reasons: Any, _properties: Any) -> None:
        self.subscribed.set()

    def end(self) -> None:
        """Leave."""
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize("tables", ["", DELAY], ids=["no limits", "delay"])
def test_acknowledged_messages_survive_kills(make_gateway: MakeGateway, broker: Broker, tables: str) -> None:
    broker.config.write_text(broker.config.read_text() + "max_queued_messages 0\n")
    broker.start()
    gateway = make_gateway(broker.unix, workers=2, tables=tables)
    gateway.start()
    receiver, sender = Endpoint(gateway.port, "receiver"), Endpoint(gateway.port, "sender")
    try:
        until(receiver.client.is_connected, "the receiver's connection")
        receiver.client.subscribe("stream/#", 2)
        assert receiver.subscribed.wait(20)
        expected: set[bytes] = set()
        for number in range(MESSAGES):
            for qos in (1, 2):
                payload = f"{qos} {number}".encode()
                # A client that overruns the broker's window of 20 after a reconnect is thrown out for ever.
                until(lambda: len(expected) - len(sender.acknowledged) < WINDOW, "acknowledgements")
                sender.client.publish(f"stream/{qos}", payload, qos)
                expected.add(payload)
            if number % (MESSAGES // KILLS) == MESSAGES // KILLS // 2:
                # The supervisor and with it the workers, whatever they are in the middle of.
                gateway.process.stop(signal.SIGKILL)
                gateway.start()
        until(lambda: len(sender.acknowledged) == len(expected), "all acknowledgements")
        assert not tables or metric(gateway, "tidegate_limited_total", limit="stream", action="delay") > 0
        until(lambda: expected <= set(receiver.received), "all messages")
        assert set(receiver.received) == expected
        assert {payload for payload, count in receiver.received.items() if count > 1 and payload[:1] == b"2"} == set()
    finally:
        sender.end()
        receiver.end()
    gateway.stop()
