"""Values that change all the time, each with a number and the time at which it was due, as a process of its own.

    python -m benchmarks.feed --port PORT [--rate 5000] [--topics 200] [--size 1024] [--topic feed]

One client of MQTT 3.1.1 publishes --rate messages per second at QoS 0 by a plan, to --topics topics in turn, `feed/0`
to `feed/199`. Message N is for topic N modulo --topics; its payload of --size bytes begins `N SECONDS `, the time on
the clock that all processes share. Prints `ready` when it begins, goes on until SIGTERM, until all that it has sent is
with the server, and then prints what it counted, as JSON.
"""

import argparse
import dataclasses
import json
import signal
import time

from .beside import READY, Beside
from .options import positive
from .peer import Peer, Signal, heard, join
from .stage import Stage
from .wire import publish_head

TOPIC = "feed"
RATE, TOPICS, SIZE = 5000, 200, 1024
TICK_SECONDS = 0.002
"""Between two looks at the plan."""
SETTLE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Counts:
    """What a feed has done."""

    published: int
    seconds: float
    late: float
    """By how many seconds the message that was sent last was late at the most."""
    taken: bool
    """The server has answered a PINGREQ behind the last one."""
    disconnected: bool


class Source:
    """The client."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._rate: int = arguments.rate
        self._size: int = arguments.size
        self._heads = [
            publish_head(f"{arguments.topic}/{number}", arguments.size) for number in range(arguments.topics)
        ]
        self._peer = Peer(arguments.port, arguments.topic)
        self._stopped = False

    def stop(self) -> None:
        """End `run` soon."""
        self._stopped = True

    def run(self) -> Counts:
        """Publish until `stop`."""
        join([self._peer])
        print(READY, flush=True)
        begin = time.monotonic()
        sent, late = 0, 0.0
        while not self._stopped and not self._peer.closed:
            now = time.monotonic()
            due = int((now - begin) * self._rate)
            if due > sent and not self._peer.backlog:  # what waits has its time all the same
                late = max(late, now - begin - sent / self._rate)
                self._peer.write(b"".join([self._packet(number, begin) for number in range(sent, due)]))
                sent = due
            for _ in heard([self._peer], now + TICK_SECONDS - time.monotonic()):
                pass
        seconds = time.monotonic() - begin
        ended = self._peer.closed
        taken = self._settle()
        self._peer.leave()
        return Counts(sent, seconds, late, taken, ended)

    def _packet(self, number: int, begin: float) -> bytes:
        payload = b"%d %.6f " % (number, begin + number / self._rate)
        return self._heads[number % len(self._heads)] + payload.ljust(self._size)

    def _settle(self) -> bool:
        self._peer.ping()
        end = time.monotonic() + SETTLE_SECONDS
        while not self._peer.closed and time.monotonic() < end:
            if any(Signal.PONG in events for _, events in heard([self._peer], 0.1)):
                return True
        return False


class Feed(Beside):
    """The process, on a stage."""

    def __init__(self, stage: Stage, port: int, **options: str | int) -> None:
        """`options` are of the command line; a stage has one feed of a topic."""
        super().__init__(stage, str(options.get("topic", TOPIC)), "feed", **{"port": port, **options})

    def stop(self) -> Counts:
        """End it; what it counted."""
        return Counts(**self.end())


def main() -> None:
    line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.feed"
    )
    line.add_argument("--port", type=positive, required=True)
    line.add_argument("--rate", type=positive, default=RATE, metavar="N", help="messages per second")
    line.add_argument("--topics", type=positive, default=TOPICS, metavar="N")
    line.add_argument("--size", type=positive, default=SIZE, metavar="BYTES", help="of a payload, at least 40")
    line.add_argument("--topic", default=TOPIC, help="the first level of all topics")
    source = Source(line.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: source.stop())
    print(json.dumps(dataclasses.asdict(source.run())))


if __name__ == "__main__":
    main()
