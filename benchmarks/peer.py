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
from tidegate.mqtt.properties import Properties, PropertyId, get

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
    UNSUBACK,
    Packet,
    Refused,
    acknowledgement,
    publish_packet,
    read_acknowledgement,
    remaining_length,
    subscribe_packet,
    take_packets,
    unsubscribe_packet,
)

CONNACK = 2
MOST_IN_FLIGHT = 0xFFFF
"""Packet identifiers that there are (section 2.2.1); Receive Maximum where a server does not say it."""
READ_BYTES = 1 << 18
CONNECT_SECONDS = 30.0
"""How long a client may take to be let in, and a subscription to be acknowledged."""


class Acknowledged(NamedTuple):
    """The end of a message: its PUBACK or PUBCOMP, or a PUBREC that refuses it."""

    tag: int
    reason: int


class Arrived(NamedTuple):
    """A message for this client, which has been acknowledged unless the client does that by hand."""

    topic: str
    payload: bytes
    qos: int
    packet_id: int
    """0 with QoS 0."""
    retain: bool
    size: int
    """Bytes of the whole packet."""


class Released(NamedTuple):
    """A PUBREL, which has been answered: the end of a QoS 2 message for this client."""

    packet_id: int


class Subscribed(NamedTuple):
    """A SUBACK; the reason is that of its only filter, a refusal from REFUSED (sender.py) on."""

    reason: int


class Signal(enum.Enum):
    """Answers that say nothing more."""

    PONG = enum.auto()
    UNSUBSCRIBED = enum.auto()


Event = Acknowledged | Arrived | Released | Subscribed | Signal


class Peer:
    """One connection to a port of 127.0.0.1. CONNECT is on its way at once, `accepted` tells when it was answered.

    It answers what MQTT asks it to, but never a PUBREC when `releases` is False, and no PUBLISH when `acknowledges` is:
    `acknowledge` does it then. `source` is the address that it comes from, any of 127.0.0.0/8.
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
        will: str | Will | None = None,
        source: str = "127.0.0.1",
        releases: bool = True,
        acknowledges: bool = True,
        properties: Properties | None = None,
        receive_buffer: int = 0,
    ) -> None:
        """`keepalive` in seconds; a `will` that is a string is the topic of one without a payload.

        `properties`: of CONNECT, MQTT 5. `receive_buffer`: bytes that the kernel keeps for it, 0: as it likes.
        """
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
        self.acknowledges = acknowledges
        self._next_id = 0
        self._data = bytearray()
        self._unsent = bytearray()
        self._socket = socket.socket()
        self._socket.settimeout(CONNECT_SECONDS)
        if receive_buffer:  # before it connects, or the other side knows of a larger one
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self._socket.bind((source, 0))
            self._socket.connect(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        last_will = Will(will, b"", 0, False) if isinstance(will, str) else will
        self.write(
            Connect(version, False, True, keepalive, client_id, username, password, last_will, properties or []).write()
        )

    def fileno(self) -> int:
        """For `select`; -1 once it is closed."""
        return self._socket.fileno()

    @property
    def source_port(self) -> int:
        """Of its own end of the connection."""
        return int(self._socket.getsockname()[1])

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

    def publish(self, topic: str, payload: bytes, qos: int, tag: int = 0, *, retain: bool = False) -> None:
        """Send a message, whose acknowledgement will have the `tag`."""
        packet_id = self.take_id(tag) if qos else 0
        self.write(publish_packet(topic, payload, qos, packet_id, self.version, retain=retain))

    def acknowledge(self, message: Arrived) -> None:
        """Send the PUBACK or PUBREC of a message that has arrived."""
        self.write(acknowledgement(PUBACK if message.qos == 1 else PUBREC, message.packet_id))

    def ping(self) -> None:
        """Send a PINGREQ."""
        self.write(PINGREQ)

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Send a SUBSCRIBE."""
        self.write(subscribe_packet(topic_filter, qos, self.version))

    def unsubscribe(self, topic_filter: str) -> None:
        """Send an UNSUBSCRIBE."""
        self.write(unsubscribe_packet(topic_filter, self.version))

    def read(self, most: int = READ_BYTES) -> list[Event]:
        """What has come, of at most so many bytes; nothing when nothing has. Sets `closed` at the connection's end."""
        try:
            data = self._socket.recv(most)
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
            packet_id = int.from_bytes(body[:2])
            out += acknowledgement(PUBCOMP, packet_id)
            events.append(Released(packet_id))
        elif kind == PINGRESP:
            events.append(Signal.PONG)
        elif kind == SUBACK:
            events.append(Subscribed(body[-1]))
        elif kind == UNSUBACK:
            events.append(Signal.UNSUBSCRIBED)
        elif kind == CONNACK:
            self._greeted(body)
        elif kind == DISCONNECT:
            self.reason = body[0] if body else 0

    def _arrived(self, packet: Packet, out: bytearray) -> Arrived:
        body = packet.body
        end = 2 + int.from_bytes(body[:2])
        topic = body[2:end].decode()
        packet_id = 0
        if qos := packet.flags >> 1 & 3:
            packet_id = int.from_bytes(body[end : end + 2])
            if self.acknowledges:
                out += acknowledgement(PUBACK if qos == 1 else PUBREC, packet_id)
            end += 2
        if self.version == 5:
            end += 1 + body[end]  # no message here has 128 bytes of properties
        return Arrived(topic, body[end:], qos, packet_id, bool(packet.flags & 1), packet.size)

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
    """Subscribe, and return when that is granted; Refused when it is not, or not in time."""
    peer.subscribe(topic_filter, qos)
    deadline = time.monotonic() + CONNECT_SECONDS
    while not peer.closed and time.monotonic() < deadline:
        for _, events in heard([peer], 1.0):
            for event in events:
                if isinstance(event, Subscribed):
                    if event.reason < REFUSED:
                        return
                    raise Refused(f"the subscription to {topic_filter} was refused with 0x{event.reason:02x}")
    raise Refused(f"the subscription to {topic_filter} was not acknowledged")


def leave(peers: Iterable[Peer]) -> None:
    """Let all disconnect."""
    for peer in peers:
        with contextlib.suppress(OSError):
            peer.leave()
