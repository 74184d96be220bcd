"""A hundred messages at once under a limit of 20 a second, 40 at once: in order, in three seconds, in nobody's way.

A client of MQTT 3.1.1, which is told nothing, writes a hundred QoS 1 messages in one piece, behind them a PINGREQ and
a message that no limit meets. One of MQTT 5 does the same with as many as the Receive Maximum of its CONNACK allows:
the broker's own, 50, and what a hold takes. A subscriber directly at the broker sees what comes, and when.
"""

import dataclasses
import time

from .claims import Claim, at_most, exactly, holds, within
from .peer import Acknowledged, Arrived, Event, Peer, Signal, heard, join, leave, subscribe
from .shaping_policy import Setting
from .stage import Stage
from .targets import start_mosquitto
from .wire import PINGREQ, publish_packet

RATE, BURST, COUNT = 20, 40, 100
TOPIC, FREE = "telemetry/1", "free/1"
FREE_TAG = COUNT
"""Of the message that no limit meets; those before it have their own numbers."""
BROKER_WINDOW, HOLD = 50, 1000
"""max_inflight_messages of the broker (targets.py), and gateway.hold_messages by default."""
AT_ONCE = 0.1
"""Seconds: on a machine that does other things as well."""
EARLY, LATE = 0.1, 0.5
"""Seconds by which the last may come before or after its time."""
MOST_SECONDS = 10.0


@dataclasses.dataclass
class Seen:
    """What came, and how long after the write, in seconds."""

    pong: float = MOST_SECONDS
    acknowledged: dict[int, float] = dataclasses.field(default_factory=dict)
    refused: list[int] = dataclasses.field(default_factory=list)
    arrived: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    free: float = MOST_SECONDS
    """When the message that no limit meets was at the subscriber."""

    def note(self, event: Event, after: float) -> None:
        """Take one event."""
        if isinstance(event, Acknowledged):
            self.acknowledged[event.tag] = after
            if event.reason:
                self.refused.append(event.tag)
        elif isinstance(event, Arrived) and event.topic == FREE:
            self.free = after
        elif isinstance(event, Arrived):
            self.arrived.append((int(event.payload), after))
        elif event is Signal.PONG:
            self.pong = after

    def complete(self, count: int) -> bool:
        """Whether nothing more will come."""
        return (
            len(self.acknowledged) == count + 1
            and len(self.arrived) == count
            and MOST_SECONDS
            not in (
                self.pong,
                self.free,
            )
        )


def order(setting: Setting) -> list[Claim]:
    """The demonstration."""
    policy = setting.limit("telemetry", f'per = "client"\ntopic = "telemetry/#"\nrate = "{RATE}/s burst {BURST}"')
    claims: list[Claim] = []
    with Stage() as stage:
        broker = start_mosquitto(stage)
        target = setting.gateway(stage, broker, policy)
        for version, name in ((4, "3.1.1"), (5, "5")):
            client = Peer(target.port, f"order-{version}", version)
            watcher = Peer(broker.tcp, f"watcher-{version}")
            join([client, watcher])
            subscribe(watcher, "#", 0)
            if version == 5:
                claims.append(exactly("MQTT 5: Receive Maximum offered", BROKER_WINDOW + HOLD, client.window))
            count = min(COUNT, client.window - 1)
            claims += _claims(f"MQTT {name}", _write(client, watcher, count), count)
            claims.append(holds(f"MQTT {name}: still connected", not client.closed))
            leave([client, watcher])
    return claims


def _write(client: Peer, watcher: Peer, count: int) -> Seen:
    wire = b""
    for number in range(count):
        wire += publish_packet(TOPIC, b"%d" % number, 1, client.take_id(number), client.version)
    wire += PINGREQ + publish_packet(FREE, b"", 1, client.take_id(FREE_TAG), client.version)
    seen = Seen()
    begin = time.monotonic()
    client.write(wire)
    while not seen.complete(count) and not client.closed and time.monotonic() < begin + MOST_SECONDS:
        for _, events in heard([client, watcher], 1.0):
            after = time.monotonic() - begin
            for event in events:
                seen.note(event, after)
    return seen


def _claims(name: str, seen: Seen, count: int) -> list[Claim]:
    arrived = [number for number, _ in seen.arrived]
    acknowledged = [tag for tag in seen.acknowledged if tag != FREE_TAG]
    at_once = sum(after <= AT_ONCE for _, after in seen.arrived)
    last = max((after for _, after in seen.arrived), default=MOST_SECONDS)
    takes = (count - BURST) / RATE
    free = seen.acknowledged.get(FREE_TAG, MOST_SECONDS)
    return [
        at_most(f"{name}: PINGREQ behind {count} messages answered after", AT_ONCE * 1e3, seen.pong * 1e3, "ms"),
        at_most(f"{name}: message of another topic acknowledged after", AT_ONCE * 1e3, free * 1e3, "ms"),
        at_most(f"{name}: and at a subscriber after", AT_ONCE * 1e3, seen.free * 1e3, "ms"),
        exactly(f"{name}: messages at the subscriber", count, len(set(arrived))),
        holds(f"{name}: in order, none twice", arrived == sorted(set(arrived)) and len(arrived) == count),
        within(f"{name}: of them in the first {AT_ONCE * 1e3:.0f} ms", BURST, BURST + 2, at_once, "messages"),
        within(f"{name}: the last after", takes - EARLY, takes + LATE, last, "s"),
        exactly(f"{name}: acknowledged without an error", count, len(acknowledged) - len(seen.refused)),
        holds(f"{name}: in the order of the messages", acknowledged == sorted(acknowledged)),
    ]
