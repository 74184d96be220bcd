"""A window of twenty, made five by a scale factor while its client is connected, and twenty again.

A scale factor lies in the memory that the gateway's processes share, and is set there from outside (scales.py): nobody
is told. On the way down a client acknowledges by hand what comes from Mosquitto (taker.py); on the way up a client
publishes to a broker that acknowledges when it is told to (late.py). In MQTT 3.1.1 at QoS 1, and in MQTT 5 at QoS 2,
200 messages each.

Twenty are in flight. With a factor of a quarter none more may come while fifteen are acknowledged, and then one for
each that is. With a factor of one twenty must be in flight again: at once when one is acknowledged, and when nothing
happens, at the next look that the gateway takes at those that wait, a second later at the most. Twice, once for each.
"""

import os
import time
from typing import Protocol

from .claims import Claim, at_most, exactly, holds
from .late import LateBroker
from .peer import Acknowledged, Peer, heard, join, leave
from .scales import Scales
from .stage import Stage
from .subscribers_setting import Setting, limit
from .subscribers_window import AT_ONCE, NAMES, WIDE, publish
from .taker import QUIET_SECONDS, Taker
from .targets import Broker, Target, start_mosquitto

WINDOW, LESS = 20, 5
COUNT = 200
STEPS = 10
"""Messages that are acknowledged one by one while the window is small."""
KINDS = ((4, 1), (5, 2))
"""Version and QoS."""
STEP_SECONDS = 0.02
"""In which what may come does."""
LOOK_SECONDS = 0.1
"""Between two looks of the gateway at scale factors (LAG_INTERVAL of worker.py)."""
PATIENCE_SECONDS = 5.0


class Side(Protocol):
    """Where messages arrive and are acknowledged by hand."""

    @property
    def in_flight(self) -> int:
        """Messages that are unacknowledged now."""

    @property
    def came(self) -> int:
        """Messages that have come so far."""

    def hear(self, seconds: float) -> None:
        """Take what comes, until nothing has for so many seconds."""

    def wait_for(self, in_flight: int, seconds: float) -> float:
        """Take what comes until so many are in flight; how long that took, at most `seconds`."""

    def acknowledge(self) -> None:
        """Acknowledge the oldest one; when this returns, its exchange is over."""


class Above:
    """The broker's side of a client that publishes; the client is given the time to answer."""

    def __init__(self, broker: LateBroker, client: Peer) -> None:
        self._broker = broker
        self._client = client
        self.answered = 0

    @property
    def in_flight(self) -> int:
        """As Side."""
        return self._broker.unacknowledged

    @property
    def came(self) -> int:
        """As Side."""
        return len(self._broker.received)

    def hear(self, seconds: float) -> None:
        """As Side."""
        known = -1
        while known != self.came:
            known = self.came
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                self._pump()

    def wait_for(self, in_flight: int, seconds: float) -> float:
        """As Side."""
        begin = time.monotonic()
        while self.in_flight != in_flight and time.monotonic() - begin < seconds:
            self._pump()
        return time.monotonic() - begin

    def acknowledge(self) -> None:
        """As Side."""
        answered = self.answered
        self._broker.release(1)
        end = time.monotonic() + PATIENCE_SECONDS
        while self.answered == answered and time.monotonic() < end:
            self._pump()

    def _pump(self) -> None:
        for _, events in heard([self._client], 0.001):
            self.answered += sum(isinstance(event, Acknowledged) for event in events)


def scale(setting: Setting) -> list[Claim]:
    """The demonstration."""
    return [claim for kind in KINDS for way in (_down, _up) for claim in way(setting, *kind)]


def _down(setting: Setting, version: int, qos: int) -> list[Claim]:
    with Stage() as stage:
        broker = start_mosquitto(stage, WIDE)
        target = setting.gateway(stage, broker, limit("window", "deliver", f"concurrent = {WINDOW}"))
        taker = Taker(target.port, "taker", version, qos, "scale/#")
        publish(broker.tcp, "scale/1", qos, COUNT)
        with Scales(target.pid) as scales:
            claims = _change(f"deliver, MQTT {NAMES[version]} QoS {qos}", scales, taker)
        while taker.in_flight and not taker.peer.closed:
            taker.acknowledge(WINDOW)
            taker.hear(STEP_SECONDS)
        leave([taker.peer])
    return [*claims, _whole(claims[0].what, [int(message.payload) for message in taker.arrived])]


def _up(setting: Setting, version: int, qos: int) -> list[Claim]:
    with Stage() as stage:
        path = stage.folder / "late.sock"
        with LateBroker(path) as broker:
            target: Target = setting.gateway(
                stage,
                Broker(0, path, os.getpid()),
                limit("window", "publish", f"concurrent = {WINDOW}", 'max_delay = "5min"'),
            )
            client = Peer(target.port, "publisher", version)
            join([client])
            for number in range(COUNT):
                client.publish("scale/1", b"%d" % number, qos, number)
            side = Above(broker, client)
            with Scales(target.pid) as scales:
                claims = _change(f"publish, MQTT {NAMES[version]} QoS {qos}", scales, side)
            while side.in_flight and not client.closed:
                side.acknowledge()
            leave([client])
            stage.stop(target.pid)  # its connections end before the broker does
            return [*claims, _whole(claims[0].what, [int(message.payload) for message in broker.received])]


def _change(name: str, scales: Scales, side: Side) -> list[Claim]:
    side.hear(QUIET_SECONDS)
    claims = [exactly(f"{name}: in flight", WINDOW, side.in_flight)]
    for acknowledged in (True, False):
        then = "when one is acknowledged" if acknowledged else "when nothing happens"
        scales.set(0, LESS / WINDOW)
        before = side.came
        for _ in range(WINDOW - LESS):
            side.acknowledge()
            side.hear(STEP_SECONDS)
        claims.append(exactly(f"{name}: came while {WINDOW - LESS} were acknowledged", 0, side.came - before))
        one_each = 0
        for _ in range(STEPS):
            before = side.came
            side.acknowledge()
            side.hear(STEP_SECONDS)
            one_each += side.came == before + 1 and side.in_flight == LESS
        claims.append(exactly(f"{name}: one came for each, of {STEPS}", STEPS, one_each))
        begin = time.monotonic()
        scales.set(0, 1.0)
        if acknowledged:
            side.acknowledge()
        side.wait_for(WINDOW, PATIENCE_SECONDS)
        bound = AT_ONCE if acknowledged else LOOK_SECONDS + AT_ONCE
        claims.append(at_most(f"{name}: {WINDOW} in flight, {then}", bound, time.monotonic() - begin, "s"))
        side.hear(STEP_SECONDS)
        claims.append(exactly(f"{name}: and no more", WINDOW, side.in_flight))
    return claims


def _whole(what: str, numbers: list[int]) -> Claim:
    name = what.rpartition(":")[0]
    return holds(f"{name}: all {COUNT} came, in order, none twice", numbers == list(range(COUNT)))
