"""paho-mqtt as the scenarios drive it."""

import queue
import socket
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from . import wire
from .client import Client, Options, Properties, Record, message_record, told_properties
from .wait import GUARD


def paho_properties(kind: int, properties: Properties) -> PahoProperties | None:
    """`properties` as paho has them for a packet type; None when there are none."""
    if not properties:
        return None
    made = PahoProperties(kind)  # type: ignore[no-untyped-call]
    for name, value in properties.items():
        setattr(made, name, value)
    return made


def from_paho(properties: PahoProperties | None) -> Properties:
    """The same, back."""
    return {} if properties is None else dict(properties.json())  # type: ignore[no-untyped-call]


def subscribe_options(qos: int, options: Properties) -> SubscribeOptions:
    """paho's subscription options of version 5."""
    return SubscribeOptions(qos=qos, **options)


class PahoClient:
    """One paho client with its network thread."""

    def __init__(self, options: Options) -> None:
        self.options = options
        v5 = options.version == wire.V5
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            clean_session=None if v5 else options.clean,
            protocol=MQTTProtocolVersion(options.version),
            reconnect_on_failure=False,
        )
        self.queues: dict[str, queue.Queue[Record]] = {
            kind: queue.Queue() for kind in ("connack", "suback", "unsuback", "sent", "message", "pingresp", "closed")
        }
        if options.username is not None:
            self.client.username_pw_set(options.username, options.password)
        if options.will is not None:
            will = options.will
            properties = paho_properties(PacketTypes.WILLMESSAGE, will.properties)
            self.client.will_set(will.topic, will.payload, will.qos, will.retain, properties)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = self._on_message
        self.client.on_subscribe = self._on_subscribe
        self.client.on_unsubscribe = self._on_unsubscribe
        self.client.on_publish = self._on_publish
        self.client.on_log = self._on_log

    # The callbacks of paho's network thread: each only files a record.

    def _put(self, *record: Any) -> None:
        self.queues[record[0]].put(record)

    def _on_connect(
        self, _c: mqtt.Client, _u: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, properties: PahoProperties | None
    ) -> None:
        told = told_properties(from_paho(properties))
        self._put("connack", reason.value, flags.session_present, told)

    def _on_disconnect(
        self, _c: mqtt.Client, _u: Any, flags: mqtt.DisconnectFlags, reason: ReasonCode, _p: PahoProperties | None
    ) -> None:
        self._put("closed", reason.value if flags.is_disconnect_packet_from_server else None)

    def _on_message(self, _c: mqtt.Client, _u: Any, message: mqtt.MQTTMessage) -> None:
        properties = from_paho(message.properties)
        record = message_record(message.topic, bytes(message.payload), message.qos, message.retain, properties)
        self.queues["message"].put(record)

    def _on_subscribe(
        self, _c: mqtt.Client, _u: Any, _mid: int, reasons: list[ReasonCode], _p: PahoProperties | None
    ) -> None:
        self._put("suback", tuple(reason.value for reason in reasons))

    def _on_unsubscribe(
        self, _c: mqtt.Client, _u: Any, _mid: int, reasons: list[ReasonCode], _p: PahoProperties | None
    ) -> None:
        self._put("unsuback", tuple(reason.value for reason in reasons))

    def _on_publish(self, _c: mqtt.Client, _u: Any, _mid: int, reason: ReasonCode, _p: PahoProperties | None) -> None:
        self._put("sent", reason.value)

    def _on_log(self, _c: mqtt.Client, _u: Any, _level: int, text: str) -> None:
        if text.startswith("Received PINGRESP"):
            self._put("pingresp")

    def _next(self, kind: str) -> Record:
        try:
            return self.queues[kind].get(timeout=GUARD)
        except queue.Empty:
            raise TimeoutError(f"paho client {self.options.client_id} saw no {kind}") from None

    def connect(self) -> Record:
        """See Client."""
        options = self.options
        clean: dict[str, Any] = {}
        if options.version == wire.V5:
            clean["clean_start"] = options.clean
            clean["properties"] = paho_properties(PacketTypes.CONNECT, options.properties)
        self.client.connect("127.0.0.1", options.port, options.keepalive, **clean)
        self.client.loop_start()
        return self._next("connack")

    def subscribe(self, topic: str, qos: int, options: Properties, properties: Properties) -> Record:
        """See Client."""
        if self.options.version == wire.V5:
            self.client.subscribe(
                topic,
                options=subscribe_options(qos, options),
                properties=paho_properties(PacketTypes.SUBSCRIBE, properties),
            )
        else:
            self.client.subscribe(topic, qos)
        return self._next("suback")

    def unsubscribe(self, topic: str) -> Record:
        """See Client."""
        self.client.unsubscribe(topic)
        return self._next("unsuback")

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties) -> Record:
        """See Client."""
        self.client.publish(topic, payload, qos, retain, paho_properties(PacketTypes.PUBLISH, properties))
        return self._next("sent")

    def message(self) -> Record:
        """See Client."""
        return self._next("message")

    def ping(self) -> Record:
        """See Client."""
        return self._next("pingresp")

    def disconnect(self, reason: int = 0) -> None:
        """See Client."""
        if reason:
            self.client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=reason))
        else:
            self.client.disconnect()
        self._next("closed")

    def cut(self) -> None:
        """See Client."""
        held = self.client.socket()
        assert isinstance(held, socket.socket)
        held.shutdown(socket.SHUT_RDWR)
        self._next("closed")

    def closed(self) -> Record:
        """See Client."""
        return self._next("closed")

    def end(self) -> None:
        """See Client."""
        self.client.disconnect()
        self.client.loop_stop()


class Paho:
    """The library: nothing is shared."""

    def client(self, options: Options) -> Client:
        """See Library."""
        return PahoClient(options)

    def end(self) -> None:
        """See Library."""
