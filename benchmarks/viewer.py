"""A subscriber that notes what comes of a feed (feed.py), and when, as a process of its own.

    python -m benchmarks.viewer --port PORT [--client viewer] [--filter #] [--qos 0] [--protocol 3.1.1|5]
                                [--ping SECONDS] [--reads BYTES]

With --ping it sends a PINGREQ so often, by a plan. With --reads it takes no more than so many bytes per second from its
socket, whose buffer is small then: a slow reader, who at the end takes at once what is still on its way. Prints `ready`
when its subscription is granted, goes on until SIGTERM, and then prints all that it noted, as JSON.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import time
from array import array
from collections import defaultdict
from collections.abc import Iterator

from .beside import READY, Beside
from .company import NICE, quantiles
from .feed import TOPIC
from .options import positive
from .peer import Arrived, Event, Peer, Signal, Subscribed, heard, join
from .sender import REFUSED
from .stage import Stage
from .streams import VERSIONS
from .wire import Refused

WAIT_SECONDS = 0.05
GRANT_SECONDS = 1.0
PIECE = 1024
"""Bytes that a slow reader takes at a time."""
QUIET_SECONDS = 1.0
"""Nothing has come for so long: all is there."""
SMALL_BUFFER = 16 * 1024
"""Bytes of its socket."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a viewer noted: of each packet of a message its time, its bytes, the message's number in its feed and the
    time at which that was due (-1 and 0 for what is of no feed); of each PINGREQ the time at which it was due, of each
    PINGRESP that at which it came. Times in seconds of the monotonic clock.
    """

    at: list[float]
    size: list[int]
    number: list[int]
    planned: list[float]
    pings: list[float]
    pongs: list[float]
    disconnected: bool

    def rate(self, begin: float, end: float) -> float:
        """Bytes per second in that time."""
        return sum(size for at, size in zip(self.at, self.size, strict=True) if begin <= at < end) / (end - begin)

    def ages(self, begin: float, end: float) -> list[float]:
        """How old the feed's messages were that came in that time, in seconds."""
        return [at - planned for at, number, planned in self._of_feed() if begin <= at < end]

    def latency(self, begin: float, end: float) -> tuple[float, float]:
        """Median and 99th percentile of the ages of messages that were due in that time."""
        return quantiles([at - planned for at, _, planned in self._of_feed() if begin <= planned < end])

    def oldest_shown(self, topics: int, begin: float, end: float) -> float:
        """How old the newest value of a topic that was there became at the most, within that time, in seconds."""
        shown: dict[int, float] = {}
        oldest = 0.0
        for at, number, planned in self._of_feed():
            before = shown.get(number % topics)
            if before is not None and begin <= at < end:
                oldest = max(oldest, at - before)
            shown[number % topics] = max(planned, before or 0.0)
        return oldest

    def missing(self, first: int, end: int) -> list[int]:
        """Of these numbers, those that never came."""
        return sorted(set(range(first, end)) - set(self.number))

    def last(self, topics: int) -> dict[int, int]:
        """By topic, the number that came last."""
        return {number % topics: number for number in self.number if number >= 0}

    def backwards(self, topics: int) -> list[int]:
        """Numbers that came after the same or a larger one of their topic."""
        last: defaultdict[int, int] = defaultdict(lambda: -1)
        found = []
        for _, number, _ in self._of_feed():
            if number <= last[number % topics]:
                found.append(number)
            last[number % topics] = number
        return found

    def answers(self) -> list[float]:
        """How long each PINGREQ took that was answered, in seconds from its time."""
        return [pong - ping for ping, pong in zip(self.pings, self.pongs, strict=False)]

    def _of_feed(self) -> Iterator[tuple[float, int, float]]:
        return (one for one in zip(self.at, self.number, self.planned, strict=True) if one[1] >= 0)


class Eyes:
    """The client."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._peer = Peer(
            arguments.port,
            arguments.client,
            VERSIONS[arguments.protocol],
            receive_buffer=SMALL_BUFFER if arguments.reads else 0,
        )
        self._at, self._planned, self._pings, self._pongs = (array("d") for _ in range(4))
        self._size, self._number = array("q"), array("q")
        self._is_granted = self._stopped = False

    def stop(self) -> None:
        """End `run` soon."""
        self._stopped = True

    def run(self) -> Seen:
        """Note until `stop`."""
        join([self._peer])
        self._peer.subscribe(self._arguments.filter, self._arguments.qos)
        while not self._is_granted:
            for _, events in heard([self._peer], GRANT_SECONDS):
                self._note(events)
            if self._peer.closed:
                raise Refused("the connection ended before the subscription was granted")
        print(READY, flush=True)
        begin = time.monotonic()
        taken = 0.0
        ping_at = begin if self._arguments.ping else float("inf")
        while not self._stopped and not self._peer.closed:
            now = time.monotonic()
            while now >= ping_at:
                self._peer.ping()
                self._pings.append(ping_at)
                ping_at += self._arguments.ping
            wait = min(WAIT_SECONDS, ping_at - now)
            if self._arguments.reads:
                if (now - begin) * self._arguments.reads - taken >= PIECE:
                    self._note(self._peer.read(PIECE))
                    taken += PIECE
                else:
                    time.sleep(min(wait, PIECE / self._arguments.reads))
                    self._peer.flush()
                continue
            for _, events in heard([self._peer], wait):
                self._note(events)
        while self._arguments.reads and (rest := list(heard([self._peer], QUIET_SECONDS))):
            for _, events in rest:
                self._note(events)
        ended = self._peer.closed
        self._peer.leave()
        return Seen(
            list(self._at),
            list(self._size),
            list(self._number),
            list(self._planned),
            list(self._pings),
            list(self._pongs),
            ended,
        )

    def _note(self, events: list[Event]) -> None:
        now = time.monotonic()
        for event in events:
            if isinstance(event, Arrived):
                self._at.append(now)
                self._size.append(event.size)
                if event.topic.startswith(f"{TOPIC}/"):
                    number, planned, _ = event.payload.split(b" ", 2)
                    self._number.append(int(number))
                    self._planned.append(float(planned))
                else:
                    self._number.append(-1)
                    self._planned.append(0.0)
            elif isinstance(event, Subscribed):
                if event.reason >= REFUSED:
                    raise Refused(f"the subscription was refused with 0x{event.reason:02x}")
                self._is_granted = True
            elif event is Signal.PONG:
                self._pongs.append(now)


class Viewer(Beside):
    """The process, on a stage."""

    def __init__(self, stage: Stage, name: str, port: int, **options: str | float) -> None:
        """`name` must not have been used on this stage; `options` are of the command line."""
        super().__init__(stage, name, "viewer", **{"port": port, "client": name, **options})

    def stop(self) -> Seen:
        """End it; what it noted."""
        return Seen(**self.end())


def main() -> None:
    line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.viewer"
    )
    line.add_argument("--port", type=positive, required=True)
    line.add_argument("--client", default="viewer", help="its client identifier")
    line.add_argument("--filter", default="#")
    line.add_argument("--qos", type=int, choices=[0, 1, 2], default=0)
    line.add_argument("--protocol", choices=list(VERSIONS), default="3.1.1")
    line.add_argument("--ping", type=float, default=0.0, metavar="SECONDS", help="between two PINGREQs; 0: none")
    line.add_argument("--reads", type=float, default=0.0, metavar="BYTES", help="per second, at most; 0: all")
    eyes = Eyes(line.parse_args())
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    signal.signal(signal.SIGTERM, lambda *_: eyes.stop())
    print(json.dumps(dataclasses.asdict(eyes.run())))


if __name__ == "__main__":
    main()
