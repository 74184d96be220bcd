"""A gateway with limits before a broker without windows of its own, clients that flood it, and what came through."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from . import wire
from .broker import Broker
from .gateway import Gateway
from .raw import RawClient

UNBOUNDED = "max_inflight_messages 0\nmax_queued_messages 0"
"""mosquitto.conf: no Receive Maximum for publishers, and nothing is lost on the way to a slow subscriber."""

ACK = {0: "", 1: "PUBACK", 2: "PUBREC"}
"""What a message is answered first, by its QoS."""
AMPLE = "1000000/s burst 1000000"
"""A rate that nothing here exceeds: in the place of a tight one it lets go what waits."""

VERSIONS = {"3.1": wire.V31, "3.1.1": wire.V311, "5": wire.V5}
every_version = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
every_qos = pytest.mark.parametrize("qos", [0, 1, 2])

_names = itertools.count(1)


def unique(prefix: str) -> str:
    """A client id that no other client of this process has."""
    return f"{prefix}-{next(_names)}"


@dataclass(frozen=True)
class Limited:
    """The gateway, and the broker behind it."""

    broker: Broker
    gateway: Gateway

    @property
    def port(self) -> int:
        """The gateway's."""
        return self.gateway.port

    @contextmanager
    def under(self, policy: str, after: str) -> Iterator[None]:
        """With another policy for a while, and `after` from then on."""
        self.gateway.reload(policy)
        try:
            yield
        finally:
            self.gateway.reload(after)

    def metric(self, name: str, **labels: str) -> float:
        """See `metric`."""
        return metric(self.gateway, name, **labels)

    @property
    def held(self) -> float:
        """Messages that wait."""
        return self.metric("tidegate_held_messages")


def metric(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of the samples that have these labels; 0 without any."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(gateway.get("/metrics").text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@contextmanager
def limited(
    directory: Path,
    policy: str,
    *,
    workers: int = 1,
    extra: str = "",
    broker_extra: str = UNBOUNDED,
    anonymous: bool = True,
) -> Iterator[Limited]:
    """Start both; `policy` is classes and limits, `extra` more of `[gateway]`. Both must end well."""
    broker = Broker(directory / "b", broker_extra, anonymous=anonymous)
    gateway = Gateway(directory / "g", broker.unix, workers=workers, extra=extra, tables=policy)
    broker.start()
    try:
        gateway.start()
        yield Limited(broker, gateway)
        gateway.stop()
    finally:
        gateway.end()
        broker.stop()


class Watcher(RawClient):
    """Subscribes at the broker itself, with QoS 0: what arrives is what the gateway let through."""

    def __init__(self, broker: Broker, *filters: str, username: str | None = None, password: str = "any") -> None:
        super().__init__(broker.port)
        flags, rest = login(username, password)
        self.connect(unique("watcher"), flags=0x02 | flags, rest=rest)
        suback = self.exchange(wire.subscribe(self.version, *((one, 0) for one in filters)))
        assert wire.tell(suback, self.version).startswith("SUBACK"), suback.hex()

    def message(self) -> tuple[str, bytes]:
        """Topic and payload of the next message, which is waited for."""
        data = self.read()
        assert data is not None, "the broker closed the connection"
        return opened(data)

    def messages_until(self, topic: str) -> list[tuple[str, bytes]]:
        """Those up to the first on `topic`, which is waited for and left out."""
        seen = []
        while (message := self.message())[0] != topic:
            seen.append(message)
        return seen

    def at_least(self, count: int) -> list[tuple[str, bytes]]:
        """So many, which are waited for, and what the broker has besides."""
        return [*(self.message() for _ in range(count)), *self.messages()]

    def messages(self) -> list[tuple[str, bytes]]:
        """Topic and payload of all that the broker has taken so far and was not read yet."""
        self.send(wire.PINGREQ)
        seen = []
        while (data := self.read()) not in (wire.PINGRESP, None):
            assert data is not None
            seen.append(opened(data))
        return seen


def opened(data: bytes) -> tuple[str, bytes]:
    """Topic and payload of a PUBLISH with QoS 0 as version 3.1.1 has it."""
    assert data[0] & 0xF6 == 0x30, data[:8].hex()
    body = wire.body_of(data)
    end = 2 + int.from_bytes(body[:2], "big")
    return body[2:end].decode(), body[end:]


def login(username: str | None, password: str = "any") -> tuple[int, bytes]:
    """Flags and payload of CONNECT for a user; none without a name."""
    if username is None:
        return 0, b""
    return 0xC0, wire.field(username) + wire.field(password)


def join(
    place: int | Path,
    client_id: str,
    version: int = wire.V311,
    *,
    username: str | None = None,
    source: str = "127.0.0.1",
    clean: bool = True,
    bridge: bool = False,
    props: bytes = b"",
    will: str | None = None,
) -> RawClient:
    """A client that the broker has accepted; `will` is the topic of one with QoS 0 and no payload."""
    client = RawClient(place, version, source)
    flags, rest = login(username)
    if will is not None:
        flags |= 0x04
        rest = wire.properties(version) + wire.field(will) + wire.field("") + rest
    client.connect(
        client_id,
        flags=flags | (0x02 if clean else 0),
        rest=rest,
        level=version | (0x80 if bridge else 0),
        props=props,
    )
    return client


def burst(
    version: int,
    topic: str,
    count: int,
    qos: int = 0,
    *,
    first_id: int = 1,
    dup: bool = False,
    retain: bool = False,
    payload: bytes = b"",
) -> bytes:
    """`count` PUBLISH packets in one piece. The payload is the identifier (the number, with QoS 0), unless given."""
    first = 0x30 | (8 if dup else 0) | qos << 1 | retain
    return b"".join(
        wire.publish(version, topic, payload or str(number).encode(), first=first, packet_id=number if qos else None)
        for number in range(first_id, first_id + count)
    )


def answers(client: RawClient) -> list[bytes]:
    """All packets that come up to the answer to a PINGREQ; AssertionError when the connection ends before."""
    client.send(wire.PINGREQ)
    seen: list[bytes] = []
    while (data := client.read()) != wire.PINGRESP:
        assert data is not None, f"closed after {[wire.tell(one, client.version) for one in seen[-3:]]}"
        seen.append(data)
    return seen


def told(client: RawClient) -> list[str]:
    """The same, one line for each."""
    return [wire.tell(data, client.version) for data in answers(client)]


def acks(qos: int, first: int, last: int) -> list[str]:
    """The acknowledgements of messages with these identifiers, as `told` has them; none for QoS 0."""
    return [f"{ACK[qos]} id {number} 0x00" for number in range(first, last + 1) if qos]


def numbers(first: int, last: int) -> list[bytes]:
    """Payloads as `burst` writes them."""
    return [str(number).encode() for number in range(first, last + 1)]


def lines(client: RawClient, count: int) -> list[str]:
    """The next so many packets, which are waited for, one line for each."""
    seen: list[str] = []
    for _ in range(count):
        data = client.read()
        assert data is not None, f"closed after {seen}"
        seen.append(wire.tell(data, client.version))
    return seen


def pubrels(first_id: int, count: int) -> bytes:
    """PUBREL for as many identifiers."""
    return b"".join(b"\x62\x02" + number.to_bytes(2, "big") for number in range(first_id, first_id + count))


@dataclass(frozen=True)
class Answer:
    """A PUBACK or PUBREC of version 5."""

    kind: str
    packet_id: int
    reason: int
    text: str | None
    """The reason string."""
    user: dict[str, str]
    """User properties."""
    size: int
    """Bytes of the whole packet."""


def answer_of(data: bytes) -> Answer:
    """What an acknowledgement of version 5 says; AssertionError for a property that has no place there."""
    body = wire.body_of(data)
    text, user = None, {}
    at = 3
    if len(body) > 3:
        assert body[3] < 128
        assert body[3] == len(body) - 4
        at = 4
    while at < len(body):
        kind = body[at]
        value, at = _text(body, at + 1)
        if kind == 0x1F:
            assert text is None
            text = value
        else:
            assert kind == 0x26, data.hex()
            user[value], at = _text(body, at)
    reason = body[2] if len(body) > 2 else 0
    return Answer(wire.NAMES[data[0] >> 4], int.from_bytes(body[:2], "big"), reason, text, user, len(data))


def _text(body: bytes, at: int) -> tuple[str, int]:
    end = at + 2 + int.from_bytes(body[at : at + 2], "big")
    assert end <= len(body)
    return body[at + 2 : end].decode(), end
