"""The clients of one scenario, and the list of what they saw."""

import itertools
from typing import Any

from . import wire
from .client import Client, Library, Options, Properties, Record, Will

_runs = itertools.count(1)

RUN = "<run>"
"""What stands in records for the prefix that keeps the runs on one broker apart."""


def scrubbed(value: Any, prefix: str) -> Any:
    """`value` with every `prefix` in its strings replaced."""
    if isinstance(value, str):
        return value.replace(prefix, RUN)
    if isinstance(value, tuple):
        return tuple(scrubbed(item, prefix) for item in value)
    return value


class Actor:
    """One client in a scenario: what its calls answer is noted at once, under its name."""

    def __init__(self, cast: "Cast", name: str, options: Options) -> None:
        self.cast = cast
        self.name = name
        self.options = options
        self.client: Client = cast.library.client(options)
        cast.clients.append(self.client)

    def _note(self, record: Record) -> Record:
        self.cast.note(self.name, *record)
        return record

    def connect(self) -> "Actor":
        """Connect; the CONNACK is noted."""
        self._note(self.client.connect())
        return self

    def subscribe(
        self, topic: str, qos: int = 0, options: Properties | None = None, properties: Properties | None = None
    ) -> None:
        """Subscribe to a topic filter of this run."""
        self._note(self.client.subscribe(topic, qos, options or {}, properties or {}))

    def unsubscribe(self, topic: str) -> None:
        """Unsubscribe."""
        self._note(self.client.unsubscribe(topic))

    def publish(
        self, topic: str, payload: str | bytes, qos: int = 0, *, retain: bool = False, **properties: Any
    ) -> None:
        """Publish and wait for the acknowledgement."""
        data = payload.encode() if isinstance(payload, str) else payload
        self._note(self.client.publish(topic, data, qos, retain, properties))

    def expect(self, number: int = 1) -> None:
        """Note the next messages, which must come."""
        for _ in range(number):
            self._note(self.client.message())

    def expect_unordered(self, number: int) -> None:
        """The same for messages of several QoS: one of QoS 2 is seen two packets later than the others."""
        got = [self.client.message() for _ in range(number)]
        self.cast.note(self.name, "in some order", tuple(sorted(got)))

    def messages_up_to(self, payload: str) -> list[Record]:
        """All messages up to the one with `payload`, which is left out. Nothing is noted."""
        got = []
        while (record := self.client.message())[2] != payload:
            got.append(record)
        return got

    def ping(self) -> None:
        """Note the next PINGRESP."""
        self._note(self.client.ping())

    def disconnect(self, reason: int = 0) -> None:
        """Leave with DISCONNECT."""
        self.client.disconnect(reason)

    def cut(self) -> None:
        """Lose the connection."""
        self.client.cut()

    def closed(self) -> None:
        """Note how the server ended the connection, which it must."""
        self._note(self.client.closed())


class Cast:
    """One run of a scenario against one port, with clients of one library and version."""

    def __init__(self, library: Library, version: int, port: int) -> None:
        self.library = library
        self.version = version
        self.port = port
        # All prefixes have the same length, so that no packet's size tells one run from another.
        self.prefix = f"run{next(_runs):05d}"
        self.records: list[Record] = []
        self.clients: list[Client] = []

    @property
    def v5(self) -> bool:
        """Whether the clients speak version 5."""
        return self.version == wire.V5

    def topic(self, name: str) -> str:
        """A topic, or topic filter, of this run alone."""
        return f"{self.prefix}/{name}"

    def note(self, *record: Any) -> None:
        """Add an observation."""
        self.records.append(scrubbed(record, self.prefix))

    def actor(
        self,
        name: str,
        *,
        client_id: str | None = None,
        clean: bool = True,
        keepalive: int = 60,
        username: str | None = None,
        password: str | None = None,
        will: Will | None = None,
        properties: Properties | None = None,
    ) -> Actor:
        """A client that has not connected; its id is of this run, unless one is given."""
        options = Options(
            port=self.port,
            version=self.version,
            client_id=f"{self.prefix}-{name}" if client_id is None else client_id,
            clean=clean,
            keepalive=keepalive,
            username=username,
            password=password,
            will=will,
            properties=properties or {},
        )
        return Actor(self, name, options)

    def lasting(self, name: str, *, clean: bool = False, **more: Any) -> Actor:
        """A client whose session outlives its connection."""
        expiry = {"SessionExpiryInterval": 300} if self.v5 else {}
        return self.actor(name, clean=clean, properties={**expiry, **more.pop("properties", {})}, **more)

    def end(self) -> None:
        """End all clients."""
        for client in self.clients:
            client.end()
