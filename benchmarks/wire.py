"""The few MQTT packets that a probe needs, by hand: a yardstick shares no code with what it measures."""

import socket
import time
from collections.abc import Callable

FIRST_PACKET_LIMIT = 4096
"""Bytes of a CONNECT or CONNACK that the measurements read; theirs have no will and hardly a property."""


class Refused(Exception):
    """No CONNACK with success came."""


def remaining_length(value: int) -> bytes:
    """Section 2.2.3 of MQTT 3.1.1: seven bits a byte, the least first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def connect_packet(client_id: str, keepalive: int = 0) -> bytes:
    """CONNECT of MQTT 3.1.1 with a clean session; keepalive in seconds, 0 for none."""
    name = client_id.encode()
    body = b"\x00\x04MQTT\x04\x02" + keepalive.to_bytes(2) + len(name).to_bytes(2) + name
    return b"\x10" + remaining_length(len(body)) + body


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


def open_client(port: int, client_id: str, timeout: float = 10.0) -> socket.socket:
    """A client on 127.0.0.1 that has its CONNACK; Refused with the reason when none came in time."""
    client = socket.socket()
    client.settimeout(timeout)
    try:
        client.connect(("127.0.0.1", port))
        client.sendall(connect_packet(client_id))
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
