"""aiomqtt as the scenarios drive it: an event loop in a thread, called from outside."""

import asyncio
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode

from . import wire
from .client import Client, Options, Properties, Record, message_record
from .paho_client import from_paho, paho_properties, subscribe_options
from .wait import GUARD

T = TypeVar("T")


def code(value: int | ReasonCode) -> int:
    """A reason as a number."""
    return value if isinstance(value, int) else value.value


class AiomqttClient:
    """One aiomqtt client. It has no way to tell a CONNACK's contents, PUBACK reasons or PINGRESPs."""

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop) -> None:
        self.options = options
        self.loop = loop
        self.inner: aiomqtt.Client | None = None

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in the library's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(GUARD)

    @property
    def client(self) -> aiomqtt.Client:
        """The library's client, once there is one."""
        assert self.inner is not None, "not connected"
        return self.inner

    def connect(self) -> Record:
        """See Client."""
        return self.call(self._connect())

    async def _connect(self) -> Record:
        options = self.options
        more: dict[str, Any] = {"clean_session": options.clean}
        if options.version == wire.V5:
            more = {
                "clean_start": options.clean,
                "properties": paho_properties(PacketTypes.CONNECT, options.properties),
            }
        if options.will is not None:
            will = options.will
            properties = paho_properties(PacketTypes.WILLMESSAGE, will.properties)
            more["will"] = aiomqtt.Will(will.topic, will.payload, will.qos, will.retain, properties)
        self.inner = aiomqtt.Client(
            "127.0.0.1",
            options.port,
            identifier=options.client_id,
            protocol=aiomqtt.ProtocolVersion(options.version),
            username=options.username,
            password=options.password,
            keepalive=options.keepalive,
            timeout=GUARD,
            **more,
        )
        try:
            await self.inner.__aenter__()
        except aiomqtt.MqttCodeError as refused:
            return ("connack", code(refused.rc), None, ())  # type: ignore[arg-type]
        return ("connack", 0, None, ())

    def subscribe(self, topic: str, qos: int, options: Properties, properties: Properties) -> Record:
        """See Client."""
        if self.options.version == wire.V5:
            made = paho_properties(PacketTypes.SUBSCRIBE, properties)
            work = self.client.subscribe(topic, options=subscribe_options(qos, options), properties=made)
        else:
            work = self.client.subscribe(topic, qos)
        return ("suback", tuple(code(granted) for granted in self.call(work)))

    def unsubscribe(self, topic: str) -> Record:
        """See Client."""
        self.call(self.client.unsubscribe(topic))
        return ("unsuback", None)

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties) -> Record:
        """See Client."""
        made = paho_properties(PacketTypes.PUBLISH, properties)
        self.call(self.client.publish(topic, payload, qos, retain, made))
        return ("sent", None)

    def message(self) -> Record:
        """See Client."""
        got = self.call(self._message())
        properties = got.properties
        assert properties is None or isinstance(properties, PahoProperties)
        payload = got.payload
        assert isinstance(payload, bytes)
        return message_record(str(got.topic), payload, got.qos, got.retain, from_paho(properties))

    async def _message(self) -> aiomqtt.Message:
        return await anext(self.client.messages)

    def ping(self) -> Record:
        """See Client."""
        raise NotImplementedError("aiomqtt does not tell when a PINGRESP comes")

    def disconnect(self, reason: int = 0) -> None:
        """See Client."""
        assert not reason, "aiomqtt cannot give a DISCONNECT a reason"
        self.call(self.client.__aexit__(None, None, None))
        self.inner = None

    def cut(self) -> None:
        """See Client."""
        held = self.client._client.socket()  # the library has no other way to lose its connection
        assert isinstance(held, socket.socket)
        held.shutdown(socket.SHUT_RDWR)
        self.closed()

    def closed(self) -> Record:
        """See Client."""
        return self.call(self._closed())

    async def _closed(self) -> Record:
        try:
            await anext(self.client.messages)
        except aiomqtt.MqttError:
            await self._leave()
            return ("closed", None)
        raise AssertionError("a message where the end of the connection was expected")

    async def _leave(self) -> None:
        inner, self.inner = self.client, None
        await inner.__aexit__(None, None, None)

    def end(self) -> None:
        """See Client."""
        if self.inner is None:
            return
        try:
            self.call(self._leave())
        except aiomqtt.MqttError:  # it had lost its connection, or never had one
            return


class Aiomqtt:
    """The library and the thread of its loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def client(self, options: Options) -> Client:
        """See Library."""
        return AiomqttClient(options, self.loop)

    def end(self) -> None:
        """See Library."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(GUARD)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
