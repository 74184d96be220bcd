"""A client by hand on a socket that never blocks, so that one thread can be many of them and keep to a plan."""

import contextlib
import enum
import select
import socket
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tidegate.mqtt.connack import Connack
from tidegate.mqtt.connect import Connect, Will
from tidegate.mqtt.properties import PropertyId, get

from .sender import REFUSED
from .wire import (
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    Packet,
    Refused,
    acknowledgement,
    publish_packet,
    read_acknowledgement,
    remaining_length,
    subscribe_packet,
    take_packets,
)

CONNACK = 2
MOST_IN_FLIGHT = 0xFFFF
"""Packet identifiers that there are (section 2.2.1); Receive Maximum where a server does not say it."""
READ_BYTES = 1 << 18
SUBSCRIBE_ID = 1
CONNECT_SECONDS = 30.0
"""How long a client may take to be let in, and a subscription to be acknowledged."""


class Acknowledged(NamedTuple):
    """The end of a message: its PUBACK or PUBCOMP, or a PUBREC that refuses it."""

    tag: int
    reason: int


class Arrived(NamedTuple):
    """A message for this client, which has been acknowledged."""

    topic: str
    payload: bytes


class Signal(enum.Enum):
    """Answers that say nothing more."""

    PONG = enum.auto()
    SUBSCRIBED = enum.auto()


Event = Acknowledged | Arrived | Signal


class Peer:
    """One connection to a port of 127.0.0.1. CONNECT is on its way at once, `accepted` tells when it was answered.

    It answers what MQTT asks it to, but never a PUBREC when `releases` is False. `source` is the address that it comes
    from, any of 127.0.0.0/8.
    """

    def __init__(
        self,
        port: int,
        client_id: str,
        version: int = 4,
        *,
        keepalive: int = 0,
        username: str | None = None,
        password: bytes | None = None,
        will: str | None = None,
        source: str = "127.0.0.1",
        releases: bool = True,
    ) -> None:
        """`keepalive` in seconds; `will` is the topic of one without a payload."""
        self.client_id = client_id
        self.version = version
        self.accepted = False
        self.closed = False
        self.reason: int | None = None
        """Of the DISCONNECT, or the refusing CONNACK, that came before the end; None without one."""
        self.window = MOST_IN_FLIGHT
        """Messages that the server takes unacknowledged: its Receive Maximum, of MQTT 5."""
        self.in_flight: dict[int, int] = {}
        """The tags of messages, by packet identifier."""
        self._releases = releases
        self._next_id = 0
        self._data = bytearray()
        self._unsent = bytearray()
        self._socket = socket.create_connection(
            ("127.0.0.1", port), timeout=CONNECT_SECONDS, source_address=(source, 0)
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        last_will = None if will is None else Will(will, b"", 0, False)
        self.write(Connect(version, False, True, keepalive, client_id, username, password, last_will).write())

    def fileno(self) -> int:
        """For `select`; -1 once it is closed."""
        return self._socket.fileno()

    @property
    def backlog(self) -> int:
        """Bytes that the socket has not taken yet."""
        return len(self._unsent)

    def write(self, data: bytes) -> None:
        """Send bytes, now or when the socket takes them; nothing once the connection is closed."""
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        """Send what was left."""
        while self._unsent and not self.closed:
            try:
                del self._unsent[: self._socket.send(self._unsent)]
            except BlockingIOError:
                return
            except OSError:  # reading tells why
                self._unsent.clear()

    def take_id(self, tag: int) -> int:
        """A packet identifier that is not in use; it is from now on."""
        self._next_id = self._next_id % MOST_IN_FLIGHT + 1
        while self._next_id in self.in_flight:
            self._next_id = self._next_id % MOST_IN_FLIGHT + 1
        self.in_flight[self._next_id] = tag
        return self._next_id

    def publish(self, topic: str, payload: bytes, qos: int, tag: int = 0) -> None:
        """Send a message, whose acknowledgement will have the `tag`."""
        packet_id = self.take_id(tag) if qos else 0
        self.write(publish_packet(topic, payload, qos, packet_id, self.version))

    def ping(self) -> None:
        """Send a PINGREQ."""
        self.write(PINGREQ)

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Send a SUBSCRIBE."""
        packet = subscribe_packet(topic_filter, qos)
        if self.version == 5:
            body = SUBSCRIBE_ID.to_bytes(2) + b"\x00" + packet[4:]
            packet = packet[:1] + remaining_length(len(body)) + body
        self.write(packet)

    def read(self) -> list[Event]:
        """What has come; nothing when nothing has. Sets `closed` at the end of the connection."""
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.drop()
            return []
        self._data += data
        events: list[Event] = []
        out = bytearray()
        for packet in take_packets(self._data):
            self._take(packet, events, out)
        if out:
            self.write(bytes(out))
        return events

    def drop(self) -> None:
        """End the connection as a failing network does."""
        self.closed = True
        self._socket.close()

    def leave(self) -> None:
        """DISCONNECT, and close."""
        if not self.closed:
            self.write(b"\xe0\x00")
            self.drop()

    def _take(self, packet: Packet, events: list[Event], out: bytearray) -> None:
        kind, body = packet.kind, packet.body
        if kind in (PUBACK, PUBREC, PUBCOMP):
            told = read_acknowledgement(body)
            if kind == PUBREC and told.reason < REFUSED:
                if self._releases:
                    out += acknowledgement(PUBREL, told.packet_id)
                return
            tag = self.in_flight.pop(told.packet_id, None)
            if tag is not None:
                events.append(Acknowledged(tag, told.reason))
        elif kind == PUBLISH:
            events.append(self._arrived(packet, out))
        elif kind == PUBREL:
            out += acknowledgement(PUBCOMP, int.from_bytes(body[:2]))
        elif kind == PINGRESP:
            events.append(Signal.PONG)
        elif kind == SUBACK:
            events.append(Signal.SUBSCRIBED)
        elif kind == CONNACK:
            self._greeted(body)
        elif kind == DISCONNECT:
            self.reason = body[0] if body else 0

    def _arrived(self, packet: Packet, out: bytearray) -> Arrived:
        body = packet.body
        end = 2 + int.from_bytes(body[:2])
        topic = body[2:end].decode()
        if qos := packet.flags >> 1 & 3:
            out += acknowledgement(PUBACK if qos == 1 else PUBREC, int.from_bytes(body[end : end + 2]))
            end += 2
        if self.version == 5:
            end += 1 + body[end]  # no message here has 128 bytes of properties
        return Arrived(topic, body[end:])

    def _greeted(self, body: bytes) -> None:
        whole = b"\x20" + remaining_length(len(body)) + body
        connack = Connack.read(whole, 0, len(whole) - len(body), len(whole), self.version)
        if connack.reason:
            self.reason = connack.reason
            self.drop()
            return
        offered = get(connack.properties, PropertyId.RECEIVE_MAXIMUM)
        self.window = offered if isinstance(offered, int) else MOST_IN_FLIGHT
        self.accepted = True


def heard(peers: Iterable[Peer], timeout: float) -> Iterator[tuple[Peer, list[Event]]]:
    """Wait at most so many seconds for what comes, send what sockets take again; who has heard what, or has ended.

    `select` and not `epoll`, which counts in whole milliseconds.
    """
    living = [peer for peer in peers if not peer.closed]
    blocked = [peer for peer in living if peer.backlog]
    readable, writable, _ = select.select(living, blocked, [], max(0.0, timeout))
    for peer in writable:
        peer.flush()
    for peer in readable:
        if not peer.closed:
            yield peer, peer.read()


def join(peers: list[Peer]) -> None:
    """Return when all are accepted; Refused when one is not."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while waiting := [peer for peer in peers if not peer.accepted]:
        for _ in heard(waiting, 1.0):
            pass
        ended = [peer for peer in waiting if peer.closed]
        if ended or time.monotonic() > deadline:
            raise Refused(f"{(ended or waiting)[0].client_id} was not accepted")


def subscribe(peer: Peer, topic_filter: str, qos: int) -> None:
    """Subscribe, and return when that is acknowledged; Refused when it is not in time."""
    peer.subscribe(topic_filter, qos)
    deadline = time.monotonic() + CONNECT_SECONDS
    while not peer.closed and time.monotonic() < deadline:
        for _, events in heard([peer], 1.0):
            if Signal.SUBSCRIBED in events:
                return
    raise Refused(f"the subscription to {topic_filter} was not acknowledged")


def leave(peers: Iterable[Peer]) -> None:
    """Let all disconnect."""
    for peer in peers:
        with contextlib.suppress(OSError):
            peer.leave()
