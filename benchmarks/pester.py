"""One client that asks the broker for far too much that is no ordinary message, as a process of its own.

    python -m benchmarks.pester --port PORT --kind ping|subscribe|retain --rate N [--protocol 3.1.1|5] [--client pester]
                                [--size 200]

ping: PINGREQs. subscribe: SUBSCRIBE and UNSUBSCRIBE in turn, each time for another of a thousand filters. retain: QoS 1
messages that are to be retained, each on a topic of its own, CLIENT/NUMBER with six digits.

Sends --rate of them per second by a plan (of SUBSCRIBE and UNSUBSCRIBE together so many pairs): what its socket does
not take when it is due is left out. When its connection ends it comes back. Prints `ready` when it is connected, goes
on until SIGTERM, and then prints what it counted, as JSON. It steps back where processors are short, as the flooders
do.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import time
from collections.abc import Iterator

from .beside import READY, Beside
from .flooder import BACK_SECONDS, MOST_BEHIND_SECONDS, NICE, TICK_SECONDS
from .options import positive
from .peer import MOST_IN_FLIGHT, Acknowledged, Event, Peer, Signal, Subscribed, heard, join
from .sender import REFUSED
from .stage import Stage
from .streams import VERSIONS
from .wire import PINGREQ, Refused, publish_packet, subscribe_packet, unsubscribe_packet

KINDS = ("ping", "subscribe", "retain")
FILTERS = 1000


@dataclasses.dataclass
class Counts:
    """What it has done."""

    seconds: float = 0.0
    """From the first that it sent to the end."""
    due: int = 0
    """By its plan."""
    sent: int = 0
    granted: int = 0
    """PINGRESPs, SUBACKs that grant, PUBACKs that do not refuse."""
    refused: int = 0
    connects: int = 0
    closed: dict[str, int] = dataclasses.field(default_factory=dict)
    """Ends of the connection, by the reason of DISCONNECT in hexadecimal, or `silent`."""


class Pester:
    """The client."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._version = VERSIONS[arguments.protocol]
        self._payload = bytes(arguments.size)
        self._counts = Counts()
        self._stopped = False
        self._peer = self._connect()

    def stop(self) -> None:
        """End `run` soon."""
        self._stopped = True

    def run(self) -> Counts:
        """Pester until `stop`."""
        join([self._peer])
        print(READY, flush=True)
        counts = self._counts
        begin = last = time.monotonic()
        owed = 0.0
        while not self._stopped:
            now = time.monotonic()
            owed += min(now - last, MOST_BEHIND_SECONDS) * self._arguments.rate
            last = now
            due = int(owed)
            owed -= due
            counts.due += due
            peer = self._peer
            if peer.accepted and not peer.closed and not peer.backlog:
                peer.write(b"".join(self._packets(due)))
            for _, events in heard([peer], now + TICK_SECONDS - time.monotonic()):
                for event in events:
                    self._note(event)
            if peer.closed:
                self._back()
        counts.seconds = time.monotonic() - begin
        self._peer.leave()
        return counts

    def _connect(self) -> Peer:
        self._counts.connects += 1
        return Peer(self._arguments.port, self._arguments.client, self._version)

    def _packets(self, count: int) -> Iterator[bytes]:
        """The next so many; fewer where nothing more may be unacknowledged."""
        kind, client = self._arguments.kind, self._arguments.client
        for number in range(self._counts.sent, self._counts.sent + count):
            if kind == "ping":
                yield PINGREQ
            elif kind == "subscribe":
                name = f"{client}/{number % FILTERS}/#"
                packet_id = 1 + 2 * (number % (MOST_IN_FLIGHT // 2))
                yield subscribe_packet(name, 0, self._version, packet_id)
                yield unsubscribe_packet(name, self._version, packet_id + 1)
            elif len(self._peer.in_flight) < min(self._peer.window, MOST_IN_FLIGHT - 1):
                packet_id = self._peer.take_id(0)
                topic = f"{client}/{number:06d}"
                yield publish_packet(topic, self._payload, 1, packet_id, self._version, retain=True)
            else:
                return
            self._counts.sent += 1

    def _note(self, event: Event) -> None:
        if isinstance(event, Subscribed | Acknowledged):
            self._counts.granted += event.reason < REFUSED
            self._counts.refused += event.reason >= REFUSED
        elif event is Signal.PONG:
            self._counts.granted += 1

    def _back(self) -> None:
        reason = "silent" if self._peer.reason is None else f"0x{self._peer.reason:02x}"
        self._counts.closed[reason] = self._counts.closed.get(reason, 0) + 1
        while self._peer.closed and not self._stopped:
            time.sleep(BACK_SECONDS)
            with contextlib.suppress(OSError, Refused):  # it is tried again
                self._peer = self._connect()
                join([self._peer])


class Pestering(Beside):
    """The process, on a stage."""

    def __init__(self, stage: Stage, name: str, port: int, kind: str, **options: str | float) -> None:
        """`name` must not have been used on this stage; `options` are of the command line."""
        super().__init__(stage, name, "pester", **{"port": port, "kind": kind, "client": name, **options})

    def stop(self) -> Counts:
        """End it; what it counted."""
        return Counts(**self.end())


def main() -> None:
    line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.pester"
    )
    line.add_argument("--port", type=positive, required=True)
    line.add_argument("--kind", choices=KINDS, required=True)
    line.add_argument("--rate", type=float, required=True, metavar="N", help="per second")
    line.add_argument("--protocol", choices=list(VERSIONS), default="3.1.1")
    line.add_argument("--client", default="pester", help="its client identifier")
    line.add_argument("--size", type=positive, default=200, metavar="BYTES", help="of a payload")
    os.nice(NICE)
    pester = Pester(line.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: pester.stop())
    print(json.dumps(dataclasses.asdict(pester.run())))


if __name__ == "__main__":
    main()
