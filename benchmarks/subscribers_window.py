"""Sixty messages for a client that may have twenty of them unacknowledged, and asks for 65,535.

In MQTT 3.1.1 and 5, at QoS 1 and 2. The client acknowledges nothing at first: of the sixty as many come as may, and a
PINGREQ and a SUBSCRIBE are answered though the others wait. Then it acknowledges one at a time, slowly, and counts what
is unacknowledged on its own connection; a QoS 2 message is until its PUBCOMP. The sixty are published straight at
Mosquitto, whose own window is fifty, so that it is not what holds a client of MQTT 3.1.1 back.

Beside it, not judged, bare Mosquitto with its default window of twenty, and the same through the gateway without a
limit. In MQTT 5 the client's Receive Maximum takes the place of Mosquitto's window; in 3.1.1 Mosquitto 2.0 keeps to it
until the oldest message is acknowledged, and then sends twenty more.
"""

import dataclasses
import time

from .claims import Claim, at_most, exactly, holds
from .peer import Peer, heard, join, leave
from .stage import Stage
from .subscribers_setting import DEFAULTS, Setting, limit
from .taker import QUIET_SECONDS, Taker
from .targets import start_mosquitto

WINDOW, COUNT = 20, 60
KINDS = ((4, 1), (4, 2), (5, 1), (5, 2))
"""Version and QoS."""
NAMES = {4: "3.1.1", 5: "5"}
AT_ONCE = 0.1
"""Seconds: on a machine that does other things as well."""
PATIENCE_SECONDS = 5.0
SILENT_SECONDS = 3.0
"""For which nothing is acknowledged."""
STEP_SECONDS = 0.02
"""Between two acknowledgements of one that is slow."""
WIDE = "max_inflight_messages 50\n"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one kind."""

    name: str
    unacknowledged: int
    """While it acknowledged nothing."""
    most: int
    """At any time."""
    pong: float
    suback: float
    """Seconds until the answers came, all that time."""
    numbers: list[int]
    """Of the messages, in the order in which they came."""
    connected: bool

    def claims(self) -> list[Claim]:
        """What the gateway promises."""
        return [
            exactly(f"{self.name}: comes while nothing is acknowledged", WINDOW, self.unacknowledged),
            at_most(f"{self.name}: unacknowledged at any time", WINDOW, self.most, "messages"),
            at_most(f"{self.name}: PINGREQ answered meanwhile after", AT_ONCE * 1e3, self.pong * 1e3, "ms"),
            at_most(f"{self.name}: SUBSCRIBE answered meanwhile after", AT_ONCE * 1e3, self.suback * 1e3, "ms"),
            exactly(f"{self.name}: of {COUNT} once acknowledged", COUNT, len(set(self.numbers))),
            holds(f"{self.name}: in order, none twice", self.numbers == list(range(len(self.numbers)))),
            holds(f"{self.name}: still connected", self.connected),
        ]


def window(setting: Setting) -> list[Claim]:
    """The demonstration."""
    with Stage() as stage:
        broker = start_mosquitto(stage, DEFAULTS)
        _tell("mosquitto alone", [_take(broker.tcp, broker.tcp, *kind) for kind in KINDS])
        target = setting.gateway(stage, broker, "\n")
        _tell("a gateway without a limit", [_take(target.port, broker.tcp, *kind) for kind in KINDS])
    policy = limit("window", "deliver", 'per = "client"', f"concurrent = {WINDOW}")
    with Stage() as stage:
        broker = start_mosquitto(stage, WIDE)
        target = setting.gateway(stage, broker, policy)
        return [claim for kind in KINDS for claim in _take(target.port, broker.tcp, *kind).claims()]


def _tell(name: str, outcomes: list[Outcome]) -> None:
    figures = ", ".join(f"{one.name}: {one.unacknowledged}, {one.most}" for one in outcomes)
    print(f"  {name}, of {COUNT} unacknowledged before the first is acknowledged, and at most: {figures}", flush=True)


def _take(port: int, broker_port: int, version: int, qos: int) -> Outcome:
    topic = f"window/{version}/{qos}"
    taker = Taker(port, f"taker-{version}-{qos}", version, qos, topic)
    publish(broker_port, topic, qos, COUNT)
    begin = time.monotonic()
    taker.hear(QUIET_SECONDS)
    first = len(taker.arrived)
    waits: list[tuple[float, float]] = []
    while time.monotonic() < begin + SILENT_SECONDS:
        waits.append(taker.asks(f"nothing/{len(waits)}", PATIENCE_SECONDS))
        time.sleep(STEP_SECONDS)
    silent = len(taker.arrived)
    while taker.in_flight and not taker.peer.closed:
        taker.acknowledge()
        taker.hear(STEP_SECONDS)
    taker.hear(QUIET_SECONDS)
    outcome = Outcome(
        f"MQTT {NAMES[version]} QoS {qos}",
        max(first, silent),
        taker.most,
        max(pong for pong, _ in waits),
        max(suback for _, suback in waits),
        [int(message.payload) for message in taker.arrived],
        not taker.peer.closed,
    )
    leave([taker.peer])
    return outcome


def publish(port: int, topic: str, qos: int, count: int) -> None:
    """Publish so many messages, numbered from 0, one at a time, as a server may drop QoS 2 beyond its window."""
    publisher = Peer(port, "publisher")
    join([publisher])
    for number in range(count):
        publisher.publish(topic, b"%d" % number, qos)
        while publisher.in_flight and not publisher.closed:
            for _ in heard([publisher], 1.0):
                pass
    leave([publisher])
