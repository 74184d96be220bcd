"""Well-behaved clients: each publishes at a modest pace by a plan, and one subscriber notes when what arrives.

Latencies count from the moment at which a message was planned, not from when it was sent: what waits because those
before it waited has waited all the same (no coordinated omission).
"""

import contextlib
import dataclasses
import math
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence

from .claims import Claim, at_most, exactly, none
from .peer import Acknowledged, Arrived, Event, Peer, heard, join, leave, subscribe
from .sender import REFUSED

PAYLOAD = 64
"""Bytes."""
TWICE, MORE = 2.0, 0.005
"""The 99th percentile may be so many times, or so many seconds above, what it was at rest."""
NICE = -10
"""What is measured is what others make it wait, not that it waits for a processor itself; where only root may, it must
do without."""


@dataclasses.dataclass(slots=True)
class Message:
    """One message of one client; times in seconds of the monotonic clock, 0 while it has not happened."""

    planned: float
    sent: float = 0.0
    acknowledged: float = 0.0
    arrived: float = 0.0
    copies: int = 0
    refused: bool = False


@dataclasses.dataclass(frozen=True)
class Figures:
    """What became of the messages of some time; latencies in seconds."""

    planned: int
    lost: int
    """Neither refused nor arrived."""
    refused: int
    unacknowledged: int
    again: int
    """Copies that arrived beyond the first."""
    late: float
    """The median of how much later than planned messages were sent: the company's own part of the latency."""
    acknowledged: tuple[float, float]
    """From plan to PUBACK: median and 99th percentile."""
    arrived: tuple[float, float]
    """From plan to subscriber, likewise."""

    @property
    def harm(self) -> int:
        """Messages that are not as they should be."""
        return self.lost + self.refused + self.unacknowledged

    @property
    def bearable(self) -> float:
        """The 99th percentile, in seconds, that is allowed to others who were like this at rest."""
        return bearable(self.arrived[1])


def bearable(rest: float) -> float:
    """The 99th percentile of a latency, in seconds, that is allowed to those who had this one at rest."""
    return max(rest * TWICE, rest + MORE)


def undisturbed(who: str, rest: Figures, during: Figures, trouble: Sequence[object]) -> list[Claim]:
    """What others are promised: none is disconnected, nothing lost, and their latency bearable."""
    return [
        none(f"{who} that were disconnected", trouble),
        exactly(f"messages of {who} lost, of {rest.planned + during.planned}", 0, rest.harm + during.harm),
        at_most(
            f"99th percentile of the latency of {who}", round(rest.bearable * 1e3, 1), during.arrived[1] * 1e3, "ms"
        ),
    ]


class Company:
    """`clients` clients on `port`, all of which publish QoS 1; they go on from `start` to `stop`, on a thread.

    The subscriber, at QoS 1, is on `subscriber_port`. A client's topic is `TOPIC/NUMBER`, its identifier
    `NAME-NUMBER`, and its address `source`.
    """

    def __init__(
        self,
        port: int,
        subscriber_port: int,
        *,
        clients: int,
        each: float,
        version: int = 4,
        topic: str = "well",
        name: str = "well",
        source: str = "127.0.0.1",
        username: str | None = None,
        password: bytes | None = None,
        seed: int = 0,
    ) -> None:
        """`each`: messages per second of a client. Refused (wire.py) when one is not let in."""
        self.trouble: list[str] = []
        """Ends of connections, and of the company before its time."""
        self._topic = topic
        self._interval = 1 / each
        self._chance = random.Random(seed)
        self._subscriber = Peer(subscriber_port, f"{name}-subscriber", version)
        self._peers = [
            Peer(port, f"{name}-{number}", version, username=username, password=password, source=source)
            for number in range(clients)
        ]
        self._messages: list[list[Message]] = [[] for _ in range(clients)]
        self._next = [0] * clients
        """Of each client, the first message that is not sent yet."""
        self._number = {peer: number for number, peer in enumerate(self._peers)}
        self._end = math.inf
        """Messages that are planned for later are not sent."""
        self._settle_until = math.inf
        self._thread = threading.Thread(target=self._follow, name=name, daemon=True)
        join([self._subscriber, *self._peers])
        subscribe(self._subscriber, f"{topic}/#", 1)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, settle: float) -> None:
        """Plan no more, wait at most so many seconds until all has been acknowledged and has arrived, and leave."""
        self._end = time.monotonic()
        self._settle_until = self._end + settle
        self._thread.join()
        leave([self._subscriber, *self._peers])

    def between(self, begin: float, end: float) -> Figures:
        """Of the messages that were planned in that time; to be asked after `stop`, which settles what is lost."""
        some = [one for of_client in self._messages for one in of_client if begin <= one.planned < end]
        sent = [one for one in some if one.sent]
        return Figures(
            len(some),
            sum(not one.arrived and not one.refused for one in some),
            sum(one.refused for one in some),
            sum(not one.acknowledged for one in some),
            sum(max(0, one.copies - 1) for one in some),
            quantiles([one.sent - one.planned for one in sent])[0],
            quantiles([one.acknowledged - one.planned for one in some if one.acknowledged]),
            quantiles([one.arrived - one.planned for one in some if one.arrived]),
        )

    def _follow(self) -> None:
        with contextlib.suppress(PermissionError):  # of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        try:
            self._go()
        except Exception as error:  # its messages are missing then, and this is why
            self.trouble.append(repr(error))

    def _go(self) -> None:
        begin = time.monotonic()
        for number in range(len(self._peers)):
            self._plan(number, begin, 0)
        while not self._over():
            now = time.monotonic()
            soonest = now + self._interval
            for number in range(len(self._peers)):
                soonest = min(soonest, self._send(number, begin, now))
            for peer, events in heard([self._subscriber, *self._peers], soonest - time.monotonic()):
                self._note(peer, events, time.monotonic())

    def _plan(self, number: int, begin: float, count: int) -> None:
        """Plan message `count` of a client: somewhere in its interval, so that nobody keeps step with anything."""
        self._messages[number].append(Message(begin + (count + self._chance.random()) * self._interval))

    def _send(self, number: int, begin: float, now: float) -> float:
        """Send what is due of a client; when the next message is."""
        peer = self._peers[number]
        messages = self._messages[number]
        while messages[self._next[number]].planned <= min(now, self._end):
            at = self._next[number]
            if peer.closed or len(peer.in_flight) >= peer.window:
                return now + self._interval
            peer.publish(f"{self._topic}/{number}", b"%d %d".ljust(PAYLOAD) % (number, at), 1, at)
            messages[at].sent = now
            self._next[number] += 1
            self._plan(number, begin, at + 1)
        return messages[self._next[number]].planned if self._end == math.inf else math.inf

    def _note(self, peer: Peer, events: list[Event], now: float) -> None:
        for event in events:
            if isinstance(event, Arrived):
                number, at = map(int, event.payload.split())
                message = self._messages[number][at]
                message.arrived = message.arrived or now
                message.copies += 1
            elif isinstance(event, Acknowledged):
                message = self._messages[self._number[peer]][event.tag]
                message.acknowledged = now
                message.refused = event.reason >= REFUSED
        if peer.closed:
            reason = "without a word" if peer.reason is None else f"with 0x{peer.reason:02x}"
            self.trouble.append(f"{peer.client_id} was disconnected {reason}")

    def _over(self) -> bool:
        if self._end == math.inf:
            return False
        return time.monotonic() > self._settle_until or not any(self._open())

    def _open(self) -> Iterator[Message]:
        for messages in self._messages:
            for one in messages:
                if one.planned <= self._end and not one.refused and not (one.acknowledged and one.arrived):
                    yield one


def quantiles(values: list[float]) -> tuple[float, float]:
    """Median and 99th percentile; 0 of nothing."""
    if not values:
        return 0.0, 0.0
    values = sorted(values)
    return values[len(values) // 2], values[len(values) * 99 // 100]
