"""A subscriber directly at the broker, by hand: what arrived, by topic."""

import socket
import threading
import time

from .wire import PUBLISH, SUBACK, open_client, subscribe_packet, take_packets

QUIET_SECONDS = 1.0
"""Nothing has come for so long: all is there."""


class Arrivals:
    """Subscribes at QoS 0, and reads on a thread of its own; the broker must not have a bound for its queue."""

    def __init__(self, port: int, topic_filter: str) -> None:
        self.by_topic: dict[str, list[bytes]] = {}
        """The payloads in the order of their coming."""
        self._last = time.monotonic()
        self._subscribed = threading.Event()
        self._socket = open_client(port, "benchmark-arrivals")
        self._socket.settimeout(None)
        self._socket.sendall(subscribe_packet(topic_filter, 0))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        if not self._subscribed.wait(10):
            raise TimeoutError("the broker did not acknowledge the subscription within 10 s")

    def count(self, topic: str) -> int:
        """Messages with this topic, or a topic below it."""
        return sum(
            len(some) for name, some in list(self.by_topic.items()) if name == topic or name.startswith(topic + "/")
        )

    def settle(self) -> None:
        """Wait until nothing more comes."""
        self._last = time.monotonic()
        while time.monotonic() - self._last < QUIET_SECONDS:
            time.sleep(0.05)

    def close(self) -> None:
        """Leave."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _read(self) -> None:
        data = bytearray()
        while True:
            try:
                more = self._socket.recv(1 << 18)
            except OSError:
                return
            if not more:
                return
            self._last = time.monotonic()
            data += more
            for packet in take_packets(data):
                if packet.kind == PUBLISH:
                    end = 2 + int.from_bytes(packet.body[:2])
                    self.by_topic.setdefault(packet.body[2:end].decode(), []).append(packet.body[end:])
                elif packet.kind == SUBACK:
                    self._subscribed.set()
