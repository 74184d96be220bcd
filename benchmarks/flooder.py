"""Clients that publish far more than they should, as a process of its own.

    python -m benchmarks.flooder --port PORT --rate N [--clients 10] [--qos 0|1|2] [--protocol 3.1.1|5]
                                 [--topic flood] [--prefix flooder] [--size 64] [--settle 0]

Publishes --rate messages per second in all, by a plan: what a socket does not take when it is due, or what would go
beyond the server's Receive Maximum (MQTT 5; of 3.1.1, beyond the packet identifiers), is left out and not made up for.
A client whose connection ends comes back at once. Prints `ready` when all clients are connected, goes on until
SIGTERM, waits at most --settle seconds for acknowledgements that have not come, and then prints what it counted, as
JSON. It steps back where processors are short: it stands for machines of others.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import time
from collections import Counter

from .beside import READY, Beside
from .options import positive
from .peer import MOST_IN_FLIGHT, Acknowledged, Peer, heard
from .sender import REFUSED
from .stage import Stage
from .streams import VERSIONS
from .wire import publish_packet

TICK_SECONDS = 0.002
"""Between two looks at the plan."""
BACK_SECONDS = 0.1
"""After which a client whose connection has ended comes back."""
MOST_BEHIND_SECONDS = 0.05
"""What was due longer ago is left out, as the flooder itself was late."""
MARK = b"\x12\x34"
"""Where a ready-made packet has its identifier."""
NICE = 10


@dataclasses.dataclass
class Counts:
    """What a flood has done."""

    seconds: float
    cpu: float
    """Of one core, that the flooder itself used."""
    due: int
    """Messages, by its plan."""
    published: int
    acknowledged: int
    refused: int
    connects: int
    closed: dict[str, int]
    """Ends of connections, by the reason of DISCONNECT in hexadecimal, or `silent`."""


class Flooder:
    """All the clients of one process."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._version = VERSIONS[arguments.protocol]
        self._qos: int = arguments.qos
        packet = publish_packet(arguments.topic, bytes(arguments.size), self._qos, 0x1234, self._version)
        at = packet.index(MARK) if self._qos else len(packet)
        self._head, self._tail = packet[:at], packet[at + 2 :]
        self._peers = [self._connect(number) for number in range(arguments.clients)]
        self._back_at: dict[int, float] = {}
        self._due = self._published = self._acknowledged = self._refused = 0
        self._connects = arguments.clients
        self._closed: Counter[str] = Counter()
        self._stopped = False

    def stop(self) -> None:
        """End `run` soon."""
        self._stopped = True

    def run(self) -> Counts:
        """Flood until `stop`, once all are connected."""
        while not self._stopped and not all(peer.accepted for peer in self._peers):
            self._hear(TICK_SECONDS)
        print(READY, flush=True)
        begin = last = time.monotonic()
        cpu = time.process_time()
        rate = self._arguments.rate / len(self._peers)
        owed = [number / len(self._peers) for number in range(len(self._peers))]
        while not self._stopped:
            now = time.monotonic()
            fresh = min(now - last, MOST_BEHIND_SECONDS) * rate
            last = now
            for number, peer in enumerate(self._peers):
                owed[number] += fresh
                count = int(owed[number])
                owed[number] -= count
                self._due += count
                self._publish(peer, count)
            self._hear(now + TICK_SECONDS - time.monotonic())
        elapsed = time.monotonic() - begin
        cpu = time.process_time() - cpu
        self._settle(begin + elapsed + self._arguments.settle)
        return Counts(
            elapsed,
            cpu / elapsed,
            self._due,
            self._published,
            self._acknowledged,
            self._refused,
            self._connects,
            dict(self._closed),
        )

    def _connect(self, number: int) -> Peer:
        return Peer(self._arguments.port, f"{self._arguments.prefix}-{number}", self._version)

    def _publish(self, peer: Peer, count: int) -> None:
        if peer.backlog or not peer.accepted or peer.closed:
            return
        if self._qos:
            count = min(count, min(peer.window, MOST_IN_FLIGHT - 1) - len(peer.in_flight))
            wire = b"".join([self._head + peer.take_id(0).to_bytes(2) + self._tail for _ in range(count)])
        else:
            wire = self._head * count
        self._published += max(0, count)
        peer.write(wire)

    def _settle(self, deadline: float) -> None:
        while time.monotonic() < deadline and any(peer.in_flight and not peer.closed for peer in self._peers):
            self._hear(TICK_SECONDS)

    def _hear(self, timeout: float) -> None:
        begin = time.monotonic()
        for _, events in heard(self._peers, timeout):
            for event in events:
                if isinstance(event, Acknowledged):
                    self._acknowledged += event.reason < REFUSED
                    self._refused += event.reason >= REFUSED
        for number, peer in enumerate(self._peers):
            if peer.closed:
                self._back(number, peer, begin)

    def _back(self, number: int, peer: Peer, now: float) -> None:
        if number not in self._back_at:
            self._closed["silent" if peer.reason is None else f"0x{peer.reason:02x}"] += 1
            self._back_at[number] = now + BACK_SECONDS
        elif now >= self._back_at[number]:
            del self._back_at[number]
            with contextlib.suppress(OSError):  # it is tried again
                self._peers[number] = self._connect(number)
                self._connects += 1


class Flood(Beside):
    """The process, on a stage. Its output, and with it what it counted, is there once it has been stopped."""

    def __init__(self, stage: Stage, name: str, port: int, rate: float, **options: str | int) -> None:
        """`name` must not have been used on this stage; `options` are of the command line."""
        super().__init__(stage, name, "flooder", **{"port": port, "rate": rate, "prefix": name, **options})

    def stop(self) -> Counts:
        """End it; what it counted."""
        return Counts(**self.end())


def main() -> None:
    line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.flooder"
    )
    line.add_argument("--port", type=positive, required=True)
    line.add_argument("--rate", type=float, required=True, metavar="N", help="messages per second")
    line.add_argument("--clients", type=positive, default=10, metavar="N")
    line.add_argument("--qos", type=int, choices=[0, 1, 2], default=1)
    line.add_argument("--protocol", choices=list(VERSIONS), default="3.1.1")
    line.add_argument("--topic", default="flood")
    line.add_argument("--prefix", default="flooder", help="of client identifiers")
    line.add_argument("--size", type=positive, default=64, metavar="BYTES", help="of a payload")
    line.add_argument("--settle", type=float, default=0.0, metavar="SECONDS")
    os.nice(NICE)
    flooder = Flooder(line.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: flooder.stop())
    print(json.dumps(dataclasses.asdict(flooder.run())))


if __name__ == "__main__":
    main()
