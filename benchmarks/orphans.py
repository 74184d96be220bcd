"""Whether a broker still holds QoS 2 messages of a session whose exchange nobody will end.

Mosquitto takes a window of QoS 2 messages of a session at a time, and each message that waits for a PUBREL that will
never come takes a place in it for ever. So a whole window of fresh messages, all published before the first is
released, arrives only where there is none: what is beyond the window is dropped, with PUBREC 0x97 or, in 3.1.1, a
normal PUBREC, and Mosquitto 2.0 ends the connection then.
"""

import contextlib

from .sender import REFUSED
from .wire import (
    PUBCOMP,
    PUBREC,
    PUBREL,
    acknowledgement,
    open_client,
    publish_packet,
    read_acknowledgement,
    take_packets,
)

FIRST_ID = 60_001
"""Above all that the session has in use: publishers here number their messages from 1."""
SECONDS = 10.0


def fill_window(port: int, client_id: str, version: int, window: int, topic: str, name: str) -> None:
    """Go on with a session and publish a window of QoS 2 messages, `NAME NUMBER`, as far as the broker takes them."""
    with contextlib.suppress(ConnectionError):
        _fill(port, client_id, version, window, topic, name)


def _fill(port: int, client_id: str, version: int, window: int, topic: str, name: str) -> None:
    ids = range(FIRST_ID, FIRST_ID + window)
    with open_client(port, client_id, SECONDS, version=version, clean=False) as client:
        data = bytearray()

        def answers(kind: int, count: int) -> dict[int, int]:
            """The reasons, by identifier."""
            found: dict[int, int] = {}
            while len(found) < count:
                more = client.recv(65_536)
                if not more:
                    raise ConnectionError(f"{client_id}: the broker has closed the connection")
                data.extend(more)
                for packet in take_packets(data):
                    if packet.kind == kind:
                        told = read_acknowledgement(packet.body)
                        found[told.packet_id] = told.reason
            return found

        for number, packet_id in enumerate(ids):
            client.sendall(publish_packet(topic, f"{name} {number}".encode(), 2, packet_id, version))
        received = answers(PUBREC, window)
        taken = [packet_id for packet_id in ids if received[packet_id] < REFUSED]
        for packet_id in taken:
            client.sendall(acknowledgement(PUBREL, packet_id))
        answers(PUBCOMP, len(taken))
        client.sendall(b"\xe0\x00")


def leave_one(port: int, client_id: str, version: int, topic: str) -> None:
    """Make a session with one such message, to see that it is found."""
    with open_client(port, client_id, SECONDS, version=version, clean=False) as client:
        client.sendall(publish_packet(topic, f"{client_id} 0".encode(), 2, 1, version))
        client.recv(16)
        client.sendall(b"\xe0\x00")
