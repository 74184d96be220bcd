"""Numbered streams: publishers that note what was acknowledged, and a subscriber that notes what arrived."""

import threading
import time
from collections import Counter, deque
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MessageState, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from .sender import REFUSED, Closed, Sender
from .wire import Refused

UNACKNOWLEDGED = 10
"""Messages of one publisher in flight at most, well below Mosquitto's window of 50. After a reconnect paho
sends all that it holds at once, whatever its own max_inflight is, and Mosquitto 2.0 drops a v3.1.1 client's
QoS 2 messages beyond the window behind a normal PUBREC: such a loss would not be the gateway's doing."""
KEEPALIVE = 30
SESSION_SECONDS = 3600
LIMITED = "kill/over"
"""Topics from here on have a limit, if any has."""
LIMITED_PAUSE = 0.004
"""Seconds for which a publisher that is over its limit waits for an answer before it publishes the next message."""
RETRY_SECONDS = 0.2
CUT_EVERY = 3.0
"""Seconds after which it loses its connection, with a window of messages that passed and whose answers it never saw.
Sent again they are over its limit; those of QoS 2 must wait and pass, as the broker holds them already."""
ROOM_SECONDS = 0.6
"""In which the limit of kill.py gets room for UNACKNOWLEDGED messages."""
TAKEN_SECONDS = 0.1
"""In which they reach the broker."""
VERSIONS = {"3.1.1": 4, "5": 5}
PROTOCOLS = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}


class ResumingClient(Client):
    """paho's client, which forgets at its second attempt to reconnect that it owes a PUBREL.

    It would publish the message anew, which the broker, having completed it, rightly takes for another one. MQTT
    3.1.1, section 4.3.3, forbids a sender that: once a PUBREC has come, only PUBREL may follow.
    """

    def _messages_reconnect_reset_out(self) -> None:
        with self._out_message_mutex:
            for message in self._out_messages.values():
                if message.state == MessageState.MQTT_MS_RESEND_PUBREL:
                    message.state = MessageState.MQTT_MS_WAIT_FOR_PUBCOMP
        super()._messages_reconnect_reset_out()


def connect(client: Client, protocol: MQTTProtocolVersion, port: int) -> None:
    """Let a client with a persistent session connect, and reconnect whenever it has to, on its own thread."""
    client.reconnect_delay_set(1, 1)
    if protocol == MQTTProtocolVersion.MQTTv5:
        kept = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own gap
        kept.SessionExpiryInterval = SESSION_SECONDS
        client.connect_async("127.0.0.1", port, KEEPALIVE, clean_start=False, properties=kept)
    else:
        client.connect_async("127.0.0.1", port, KEEPALIVE)
    client.loop_start()


def persistent_client(client_id: str, protocol: MQTTProtocolVersion) -> Client:
    """A client that keeps its session at the broker; version 5 says so when it connects."""
    clean = None if protocol == MQTTProtocolVersion.MQTTv5 else False
    return ResumingClient(CallbackAPIVersion.VERSION2, client_id, clean_session=clean, protocol=protocol)


class Publisher:
    """One client with one stream: payloads `NAME NUMBER`, numbered from 0, at one QoS."""

    def __init__(self, name: str, qos: int, protocol: MQTTProtocolVersion, port: int) -> None:
        self.name = name
        self.qos = qos
        self.published = 0
        self.connects = 0
        self.acknowledged: set[int] = set()
        self.refused: list[str] = []
        self.online = threading.Event()
        self._stop = threading.Event()
        self._pending: dict[int, int] = {}
        self._answers: deque[tuple[int, ReasonCode]] = deque()
        self._client = persistent_client(name, protocol)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        # Only noted: paho calls this with a lock held that publish() takes as well.
        self._client.on_publish = lambda _c, _u, mid, reason, _p: self._answers.append((mid, reason))
        connect(self._client, protocol, port)
        self._thread = threading.Thread(target=self._publish, name=name, daemon=True)
        self._thread.start()

    def _on_connect(self, _c: Client, _u: Any, _f: ConnectFlags, reason: ReasonCode, _p: Properties | None) -> None:
        if not reason.is_failure:
            self.connects += 1
            self.online.set()

    def _on_disconnect(self, _c: Client, _u: Any, _f: DisconnectFlags, _r: ReasonCode, _p: Properties | None) -> None:
        self.online.clear()

    def _publish(self) -> None:
        while not self._stop.is_set() or self._pending:
            while self._answers:
                mid, reason = self._answers.popleft()
                number = self._pending.pop(mid)
                if reason.is_failure:
                    self.refused.append(f"{self.name} {number}: {reason}")
                else:
                    self.acknowledged.add(number)
            if self._stop.is_set() or len(self._pending) >= UNACKNOWLEDGED or not self.online.is_set():
                time.sleep(0.001)
                continue
            payload = f"{self.name} {self.published}"
            info = self._client.publish(f"kill/{self.name}", payload, self.qos)
            self._pending[info.mid] = self.published
            self.published += 1

    def finish(self, timeout: float) -> None:
        """Publish no more, wait until all is acknowledged, at most so many seconds, and disconnect."""
        self._stop.set()
        self._thread.join(timeout)
        self._client.disconnect()
        self._client.loop_stop()


class LimitedPublisher:
    """One client by hand that publishes faster than its limit: it sees what is late or refused, of QoS 2 too."""

    def __init__(self, name: str, qos: int, protocol: str, port: int) -> None:
        self.name = name
        self.qos = qos
        self._stop = threading.Event()
        self._sender = Sender(port, name, VERSIONS[protocol], keep=True)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def published(self) -> int:
        """Messages so far."""
        return self._sender.published

    @property
    def connects(self) -> int:
        """Connections so far."""
        return self._sender.connects

    @property
    def acknowledged(self) -> set[int]:
        """Numbers of the messages that were taken, or said to be."""
        return {answer.number for answer in list(self._sender.answers) if answer.reason < REFUSED}

    @property
    def refused(self) -> dict[int, int]:
        """Numbers and reasons of the others that were answered."""
        return {answer.number: answer.reason for answer in list(self._sender.answers) if answer.reason >= REFUSED}

    def finish(self, timeout: float) -> None:
        """Publish no more, and wait until all is answered, at most so many seconds."""
        self._stop.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        sender = self._sender
        connected = False
        cut_at = time.monotonic() + CUT_EVERY
        while not self._stop.is_set() or sender.in_flight:
            try:
                if not connected:
                    sender.connect()
                    connected = True
                if time.monotonic() > cut_at and not self._stop.is_set():
                    self._lose_answers()
                    connected = False
                    cut_at = time.monotonic() + CUT_EVERY
                    continue
                if not self._stop.is_set() and len(sender.in_flight) < UNACKNOWLEDGED:
                    self._publish()
                sender.read(LIMITED_PAUSE)
            except (Closed, Refused):
                connected = False
                self._stop.wait(RETRY_SECONDS)
        sender.close()

    def _publish(self) -> None:
        number = self._sender.published
        self._sender.publish(f"{LIMITED}/{self.name}", f"{self.name} {number}".encode(), self.qos)

    def _lose_answers(self) -> None:
        """Wait until the limit has room again, use it up, and never see the answers."""
        end = time.monotonic() + ROOM_SECONDS
        while time.monotonic() < end or self._sender.in_flight:
            self._sender.read(LIMITED_PAUSE)
        for _ in range(UNACKNOWLEDGED):
            self._publish()
        time.sleep(TAKEN_SECONDS)
        self._sender.cut()


class Subscriber:
    """A persistent QoS 2 subscription directly at the broker; `arrived` counts by (stream, number)."""

    def __init__(self, protocol: MQTTProtocolVersion, port: int) -> None:
        self.arrived: Counter[tuple[str, int]] = Counter()
        self._subscribed = threading.Event()
        self._client = persistent_client("kill-subscriber", protocol)
        self._client.on_connect = lambda client, *_: client.subscribe("kill/#", 2)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message
        connect(self._client, protocol, port)
        if not self._subscribed.wait(10):
            raise TimeoutError("the broker did not acknowledge the subscription within 10 s")

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        name, _, number = message.payload.decode().partition(" ")
        self.arrived[name, int(number)] += 1

    def close(self) -> None:
        """Disconnect and end the client's thread."""
        self._client.disconnect()
        self._client.loop_stop()
