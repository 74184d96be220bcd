"""The few MQTT packets that a probe needs, by hand: a yardstick shares no code with what it measures."""

import socket
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

FIRST_PACKET_LIMIT = 4096
"""Bytes of a CONNECT or CONNACK that the measurements read; theirs have no will and hardly a property."""


SESSION_SECONDS = 3600
"""How long a version 5 client that keeps its session wants it kept."""
PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 3, 4, 5, 6, 7, 9, 11, 13, 14
PINGREQ = b"\xc0\x00"
QUOTA_EXCEEDED = 0x97
MESSAGE_RATE_TOO_HIGH = 0x96


class Refused(Exception):
    """No CONNACK with success came."""


class Packet(NamedTuple):
    """One packet: its type, the flags beside the type, and what follows the remaining length."""

    kind: int
    flags: int
    body: bytes

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return 1 + max(1, (len(self.body).bit_length() + 6) // 7) + len(self.body)


class Acknowledgement(NamedTuple):
    """What a PUBACK, PUBREC, PUBREL or PUBCOMP says; `retry_ms`: of `retry-after-ms`, if it is there."""

    packet_id: int
    reason: int
    retry_ms: int | None


def remaining_length(value: int) -> bytes:
    """Section 2.2.3 of MQTT 3.1.1: seven bits a byte, the least first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2) + data


def connect_packet(client_id: str, keepalive: int = 0, version: int = 4, clean: bool = True) -> bytes:
    """CONNECT of MQTT 3.1.1 (4) or 5; keepalive in seconds, 0 for none. Not `clean`: the session is kept."""
    properties = b""
    if version == 5:
        properties = b"\x00" if clean else b"\x05\x11" + SESSION_SECONDS.to_bytes(4)
    head = b"\x00\x04MQTT" + bytes([version, 2 if clean else 0]) + keepalive.to_bytes(2)
    body = head + properties + _text(client_id)
    return b"\x10" + remaining_length(len(body)) + body


def publish_packet(
    topic: str,
    payload: bytes,
    qos: int = 0,
    packet_id: int = 0,
    version: int = 4,
    again: bool = False,
    retain: bool = False,
) -> bytes:
    """A whole PUBLISH; `again` sets DUP."""
    head = _text(topic) + (packet_id.to_bytes(2) if qos else b"") + (b"\x00" if version == 5 else b"")
    flags = again << 3 | qos << 1 | retain
    return bytes([0x30 | flags]) + remaining_length(len(head) + len(payload)) + head + payload


def subscribe_packet(topic_filter: str, qos: int, version: int = 4, packet_id: int = 1) -> bytes:
    """SUBSCRIBE to one filter."""
    return _filter_packet(0x82, packet_id, _text(topic_filter) + bytes([qos]), version)


def unsubscribe_packet(topic_filter: str, version: int = 4, packet_id: int = 1) -> bytes:
    """UNSUBSCRIBE of one filter."""
    return _filter_packet(0xA2, packet_id, _text(topic_filter), version)


def _filter_packet(first: int, packet_id: int, filters: bytes, version: int) -> bytes:
    body = packet_id.to_bytes(2) + (b"\x00" if version == 5 else b"") + filters
    return bytes([first]) + remaining_length(len(body)) + body


def acknowledgement(kind: int, packet_id: int) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP that says success, of any version."""
    return bytes([kind << 4 | (2 if kind == PUBREL else 0), 2]) + packet_id.to_bytes(2)


def read_acknowledgement(body: bytes) -> Acknowledgement:
    """The reverse, with the reason and the user property `retry-after-ms` of version 5."""
    _, found, value = body[4:].partition(b"retry-after-ms")
    retry = int(value[2 : 2 + int.from_bytes(value[:2])]) if found else None
    return Acknowledgement(int.from_bytes(body[:2]), body[2] if len(body) > 2 else 0, retry)


def take_packets(data: bytearray) -> Iterator[Packet]:
    """Take the whole packets that `data` begins with out of it; what remains is the beginning of another."""
    start = 0
    while (found := _span(data, start)) is not None:
        body, end = found
        yield Packet(data[start] >> 4, data[start] & 15, bytes(data[body:end]))
        start = end
    del data[:start]


def _span(data: bytearray, start: int) -> tuple[int, int] | None:
    """Where the body of the packet at `start` begins and ends, None while it is not whole."""
    size = shift = 0
    for at in range(start + 1, min(len(data), start + 5)):
        size |= (data[at] & 127) << shift
        shift += 7
        if data[at] < 128:
            return (at + 1, at + 1 + size) if len(data) > at + size else None
    return None


def publish_head(topic: str, payload: int) -> bytes:
    """All of a QoS 0 PUBLISH of MQTT 3.1.1 but its payload, of so many bytes."""
    name = topic.encode()
    return b"\x30" + remaining_length(2 + len(name) + payload) + len(name).to_bytes(2) + name


def first_packet(data: bytes) -> bytes | None:
    """The whole packet that `data` begins with, None until then; ValueError past FIRST_PACKET_LIMIT."""
    size = shift = 0
    for at in range(1, min(len(data), 5)):
        size |= (data[at] & 127) << shift
        shift += 7
        if data[at] < 128:
            end = at + 1 + size
            if end > FIRST_PACKET_LIMIT:
                raise ValueError(f"a first packet of {end} bytes; at most {FIRST_PACKET_LIMIT} are expected")
            return data[:end] if len(data) >= end else None
    return None


def open_client(
    port: int,
    client_id: str,
    timeout: float = 10.0,
    *,
    version: int = 4,
    clean: bool = True,
    source: str = "",
) -> socket.socket:
    """A client on 127.0.0.1 that has its CONNACK; Refused with the reason when none came in time.

    `source`: the address that it comes from, any of 127.0.0.0/8; else the kernel's choice.
    """
    client = socket.socket()
    client.settimeout(timeout)
    try:
        if source:
            client.bind((source, 0))
        client.connect(("127.0.0.1", port))
        client.sendall(connect_packet(client_id, version=version, clean=clean))
        answer = _first_answer(client)
    except (OSError, ValueError) as error:
        client.close()
        raise Refused(f"port {port}: {error}") from error
    if answer[:1] != b"\x20" or answer[3] != 0:
        client.close()
        raise Refused(f"port {port} answered CONNECT with {answer.hex() or 'nothing'}")
    return client


def _first_answer(client: socket.socket) -> bytes:
    data = b""
    while (answer := first_packet(data)) is None:
        more = client.recv(FIRST_PACKET_LIMIT)
        if not more:
            return b""
        data += more
    return answer


def wait_for_connack(port: int, timeout: float, alive: Callable[[], bool]) -> None:
    """Return as soon as a client is accepted.

    Refused, with the last reason, after `timeout` seconds or when what was started is no longer `alive`.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            open_client(port, "benchmark-probe", timeout=2.0).close()
        except Refused:
            if time.monotonic() > deadline or not alive():
                raise
            time.sleep(0.05)
        else:
            return
