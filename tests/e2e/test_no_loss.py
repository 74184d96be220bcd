"""The gateway killed with -9 in the middle of streams: what was acknowledged arrives, QoS 2 once."""

import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from support.broker import Broker
from support.gateway import Gateway
from support.wait import until

MakeGateway = Callable[..., Gateway]
MESSAGES = 400
"""Of each QoS."""
KILLS = 4
WINDOW = 10
"""Unacknowledged messages that the sender has at most."""


class Endpoint:
    """A paho client with a session that lasts, which comes back by itself whenever it loses its connection."""

    def __init__(self, port: int, client_id: str) -> None:
        self.client = mqtt.Client(
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


def test_acknowledged_messages_survive_kills(make_gateway: MakeGateway, broker: Broker) -> None:
    broker.config.write_text(broker.config.read_text() + "max_queued_messages 0\n")
    broker.start()
    gateway = make_gateway(broker.unix, workers=2)
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
        until(lambda: expected <= set(receiver.received), "all messages")
        assert set(receiver.received) == expected
        assert {payload for payload, count in receiver.received.items() if count > 1 and payload[:1] == b"2"} == set()
    finally:
        sender.end()
        receiver.end()
    gateway.stop()
