"""What the scenarios need of an MQTT client library, and the plain records in which each library tells what it saw."""

import zlib
from dataclasses import dataclass, field
from typing import Any, Protocol

Record = tuple[Any, ...]
"""One observation: a kind, then plain values. Only records are compared, never objects of a library."""

Properties = dict[str, Any]
"""MQTT 5 properties by the names of the specification without spaces (`ContentType`); user properties as pairs."""


@dataclass(frozen=True, kw_only=True)
class Will:
    """A will; `properties` for version 5 only."""

    topic: str
    payload: str = "gone"
    qos: int = 1
    retain: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Options:
    """One CONNECT. `properties` are for version 5 only; `keepalive` is in seconds."""

    port: int
    version: int
    client_id: str
    clean: bool = True
    keepalive: int = 60
    username: str | None = None
    password: str | None = None
    will: Will | None = None
    properties: Properties = field(default_factory=dict)


class Client(Protocol):
    """One client of a library. Every call blocks until its answer is there; TimeoutError after the guard."""

    def connect(self) -> Record:
        """("connack", reason, session present, properties), with None for what the library does not tell."""

    def subscribe(self, topic: str, qos: int, options: Properties, properties: Properties) -> Record:
        """("suback", codes); `options`: noLocal, retainAsPublished, retainHandling."""

    def unsubscribe(self, topic: str) -> Record:
        """("unsuback", codes)."""

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties) -> Record:
        """("sent", reason) when the last acknowledgement has come; QoS 0: when it was written."""

    def message(self) -> Record:
        """The next message, as `message_record` tells it."""

    def ping(self) -> Record:
        """("pingresp",) for the next answer to a keepalive's PINGREQ."""

    def disconnect(self, reason: int = 0) -> None:
        """DISCONNECT and close; a `reason` other than 0 for version 5 only."""

    def cut(self) -> None:
        """Close the connection without DISCONNECT."""

    def closed(self) -> Record:
        """("closed", reason): the server's DISCONNECT, None when it just closed or the library does not tell."""

    def end(self) -> None:
        """Free whatever it holds, in any state."""


class Library(Protocol):
    """A client library."""

    def client(self, options: Options) -> Client:
        """A client that has not connected yet."""

    def end(self) -> None:
        """Free whatever its clients share."""


def told(payload: bytes) -> str:
    """A payload for a record: itself, or its length and checksum."""
    if len(payload) <= 200:
        return payload.decode(errors="backslashreplace")
    return f"{len(payload)} bytes, crc {zlib.crc32(payload):08x}"


def told_properties(properties: Properties) -> Record:
    """Properties for a record: in order of their names."""
    return tuple((name, plain(value)) for name, value in sorted(properties.items()))


def plain(value: object) -> object:
    """Lists as tuples, so that records can be hashed and compared."""
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return value


def message_record(topic: str, payload: bytes, qos: int, retain: bool, properties: Properties) -> Record:
    """A message that was delivered."""
    return ("message", topic, told(payload), qos, retain, told_properties(properties))
