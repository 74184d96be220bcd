"""A publisher by hand: it sees every reason code, which paho does not tell of PUBREC, and reconnects only when told."""

import contextlib
import dataclasses
import select
import socket
import time

from .wire import (
    DISCONNECT,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    acknowledgement,
    open_client,
    publish_packet,
    read_acknowledgement,
    take_packets,
)

REFUSED = 0x80
"""Reasons from here on are refusals."""
SETTLE_SECONDS = 30.0
"""How long the last acknowledgements may take."""


class Closed(Exception):
    """The connection has ended; `reason`: of the DISCONNECT that said so, None without one."""

    def __init__(self, reason: int | None) -> None:
        super().__init__("closed" if reason is None else f"closed with 0x{reason:02x}")
        self.reason = reason


@dataclasses.dataclass(slots=True)
class Flight:
    """A message that is not acknowledged yet; `released`: of QoS 2, once its PUBREC has come."""

    number: int
    topic: str
    payload: bytes
    qos: int
    released: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """The end of a message: a reason below REFUSED when it was taken, and when it says to come back, in ms."""

    number: int
    reason: int
    retry_ms: int | None


class Sender:
    """One client of MQTT 3.1.1 (4) or 5. With `keep` its session outlives a connection, and is gone on with."""

    def __init__(self, port: int, client_id: str, version: int = 4, *, keep: bool = False, source: str = "") -> None:
        self.port = port
        self.client_id = client_id
        self.version = version
        self.published = 0
        self.connects = 0
        self.answers: list[Answer] = []
        self.in_flight: dict[int, Flight] = {}
        """By packet identifier."""
        self._keep = keep
        self._source = source
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._data = bytearray()
        self._pongs = 0
        self._reason: int | None = None
        self._next_id = 0

    def connect(self) -> None:
        """Connect and, with a kept session, send again what is in flight. wire.Refused when it is not let in."""
        self._socket = open_client(
            self.port, self.client_id, version=self.version, clean=not self._keep, source=self._source
        )
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._data.clear()
        self._reason = None
        self.connects += 1
        if not self._keep:
            self.in_flight.clear()
        for packet_id, flight in self.in_flight.items():
            if flight.released:
                self.write(acknowledgement(PUBREL, packet_id))
            else:
                self.write(
                    publish_packet(flight.topic, flight.payload, flight.qos, packet_id, self.version, again=True)
                )

    def publish(self, topic: str, payload: bytes, qos: int) -> None:
        """Send the next message; they are numbered from 0."""
        packet_id = 0
        if qos:
            packet_id = self._next_id % 0xFFFF + 1
            while packet_id in self.in_flight:
                packet_id = packet_id % 0xFFFF + 1
            self._next_id = packet_id
            self.in_flight[packet_id] = Flight(self.published, topic, payload, qos)
        self.published += 1
        self.write(publish_packet(topic, payload, qos, packet_id, self.version))

    def write(self, data: bytes) -> None:
        """Send bytes; Closed when the connection has ended."""
        if self._socket is None:
            raise Closed(None)
        try:
            self._socket.sendall(data)
        except OSError as error:
            while self._receive():  # what the other side still had to say
                pass
            raise Closed(self._reason) from error

    def read(self, timeout: float) -> None:
        """Take what has come, waiting at most so many seconds for it; Closed when the connection has ended."""
        if self._poll.poll(timeout * 1000) and not self._receive():
            raise Closed(self._reason)

    def settle(self) -> None:
        """Wait until everything sent so far was looked at and is answered; TimeoutError."""
        pongs = self._pongs
        self.write(PINGREQ)
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.in_flight or self._pongs == pongs:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.client_id}: {len(self.in_flight)} messages are not acknowledged")
            self.read(0.1)

    def cut(self) -> None:
        """End the connection as a failing network does: what has come and was not read is lost."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Disconnect."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendall(b"\xe0\x00")
            self._socket.close()
            self._socket = None

    def _receive(self) -> bool:
        """Take one read; False when there is none any more."""
        assert self._socket is not None
        try:
            data = self._socket.recv(65_536)
        except OSError:
            data = b""
        if not data:
            self._socket.close()
            self._socket = None
            return False
        self._data += data
        out = b""
        for packet in take_packets(self._data):
            if packet.kind in (PUBACK, PUBREC, PUBCOMP):
                out += self._acknowledged(packet.kind, packet.body)
            elif packet.kind == PINGRESP:
                self._pongs += 1
            elif packet.kind == DISCONNECT:
                self._reason = packet.body[0] if packet.body else 0
        if out:
            with contextlib.suppress(OSError):  # the next read tells
                self._socket.sendall(out)
        return True

    def _acknowledged(self, kind: int, body: bytes) -> bytes:
        told = read_acknowledgement(body)
        flight = self.in_flight.get(told.packet_id)
        if kind == PUBREC and told.reason < REFUSED:
            if flight is not None:
                flight.released = True
            return acknowledgement(PUBREL, told.packet_id)
        if flight is not None:
            del self.in_flight[told.packet_id]
            self.answers.append(Answer(flight.number, told.reason, told.retry_ms))
        return b""
