"""Five hundred retained messages for a home-automation hub that reconnects, under a limit of a hundred a second.

As Home Assistant does, the hub subscribes to `#` with a new session each time, and gets every retained message again.
Half of the topics are retained at QoS 0, half at QoS 1. Meanwhile fifty of them change, each five times, retained and
at QoS 0 and 1 in turn. The hub loses its connection in the middle of the first replay, comes back, and must then get
every topic, and of each topic its values in their order, the newest last, whatever their QoS; PINGREQs are answered
meanwhile.

In MQTT 3.1.1 and 5, once with `max_delay` and once with `conflate = true`, where a value of QoS 0 that waits may give
way to a newer one. Mosquitto has no window here: behind one it lets QoS 0 overtake what it keeps back of QoS 1, which
nobody can put in order again. Beside it, not judged, Mosquitto with its default window: by itself, with a hub that
acknowledges each message 50 ms late, and behind the gateway.
"""

import dataclasses
import time
from collections import defaultdict

from .claims import Claim, at_most, exactly, none, within
from .peer import Arrived, Peer, Signal, heard, join, leave
from .rates import UNBOUNDED
from .stage import Stage
from .subscribers_setting import DEFAULTS, Setting, limit
from .subscribers_window import AT_ONCE, NAMES
from .targets import Broker, start_mosquitto

TOPICS, LIVE, UPDATES = 500, 50, 5
RATE, BURST = 100, 20
CUT_SECONDS = 2.0
"""After which the hub loses its first connection."""
UPDATE_SECONDS = 0.4
"""Between two rounds of updates: all are over before the replay is."""
PING_SECONDS = 0.1
QUIET_SECONDS = 1.5
LATE = 0.5
"""Seconds by which the last may come before or after its time."""
SLOW_SECONDS = 0.05
"""By which a hub is late with each acknowledgement."""
WAYS = {"max_delay": 'max_delay = "1min"', "conflate": "conflate = true"}
"""By name, the key that says how long a message of QoS 0 waits."""


@dataclasses.dataclass
class Home:
    """All topics at the broker, and their values so far: numbers, from 0."""

    publisher: Peer
    newest: list[int] = dataclasses.field(default_factory=lambda: [-1] * TOPICS)

    def change(self, topic: int) -> None:
        """Publish a topic's next value: the first at QoS 0 or 1 by its number, then in turn."""
        self.newest[topic] += 1
        self.publisher.publish(
            f"home/{topic}", b"%d" % self.newest[topic], (topic + self.newest[topic]) % 2, retain=True
        )

    def settle(self) -> None:
        """Return when the broker has all."""
        while self.publisher.in_flight and not self.publisher.closed:
            for _ in heard([self.publisher], 1.0):
                pass


@dataclasses.dataclass
class Hub:
    """What a hub got since its last connection, and when, in seconds since its SUBSCRIBE."""

    values: defaultdict[int, list[int]] = dataclasses.field(default_factory=lambda: defaultdict(list))
    times: list[float] = dataclasses.field(default_factory=list)
    pings: list[float] = dataclasses.field(default_factory=list)
    pongs: list[float] = dataclasses.field(default_factory=list)

    def stale(self, newest: list[int]) -> list[int]:
        """Topics whose last value is not the newest."""
        return [topic for topic, value in enumerate(newest) if self.values[topic][-1:] != [value]]

    def disordered(self) -> list[int]:
        """Topics whose values came twice or out of their order."""
        return [topic for topic, some in self.values.items() if some != sorted(set(some))]


def replay(setting: Setting) -> list[Claim]:
    """The demonstration."""
    with Stage() as stage:
        broker = start_mosquitto(stage, DEFAULTS)
        for version in NAMES:
            _tell(
                "mosquitto alone, its window, late acknowledgements", version, *_run(broker.tcp, broker, version, False)
            )
    claims = []
    for name, key in WAYS.items():
        policy = limit("replay", "deliver", 'per = "client"', f'rate = "{RATE}/s burst {BURST}"', key)
        for extra in (DEFAULTS, UNBOUNDED):
            with Stage() as stage:
                broker = start_mosquitto(stage, extra)
                target = setting.gateway(stage, broker, policy)
                for version in NAMES:
                    hub, home = _run(target.port, broker, version)
                    _tell(f"{name}, {'its window' if extra is DEFAULTS else 'no window'}", version, hub, home)
                    if extra is UNBOUNDED:
                        claims += _claims(f"{name}, MQTT {NAMES[version]}", hub, home)
    return claims


def _tell(name: str, version: int, hub: Hub, home: Home) -> None:
    half = hub.times[len(hub.times) // 2] if hub.times else 0.0
    print(
        f"  {name}, MQTT {NAMES[version]}: {len(hub.times)} messages of {TOPICS + LIVE * UPDATES}, half of them within"
        f" {half * 1e3:.0f} ms, the last after {max(hub.times, default=0.0):.1f} s; topics whose newest value is not"
        f" the last: {len(hub.stale(home.newest))}, whose values came out of order: {len(hub.disordered())}",
        flush=True,
    )


def _run(port: int, broker: Broker, version: int, acknowledges: bool = True) -> tuple[Hub, Home]:
    """The hub as it was when it had come back, and what it should have."""
    home = _home(broker.tcp)
    first = _connect(port, version, acknowledges)
    _follow(first, Hub(), home, 0, CUT_SECONDS)
    first.drop()
    again = _connect(port, version, acknowledges)
    hub = Hub()
    _follow(again, hub, home, UPDATES, float("inf"))
    leave([again, home.publisher])
    return hub, home


def _home(port: int) -> Home:
    publisher = Peer(port, "home")
    join([publisher])
    home = Home(publisher)
    for topic in range(TOPICS):
        home.change(topic)
    home.settle()
    return home


def _connect(port: int, version: int, acknowledges: bool) -> Peer:
    peer = Peer(port, "hub", version, acknowledges=acknowledges)
    join([peer])
    return peer


def _follow(peer: Peer, hub: Hub, home: Home, updates: int, seconds: float) -> None:
    """Subscribe and note what comes, for so long or until nothing more does; change LIVE topics `updates` times."""
    begin = last = time.monotonic()
    peer.subscribe("home/#", 1)
    ping_at, update_at = begin, begin + UPDATE_SECONDS
    waiting: list[tuple[float, Arrived]] = []
    """What is to be acknowledged late, and when."""
    while (now := time.monotonic()) < min(begin + seconds, last + QUIET_SECONDS) and not peer.closed:
        if now >= ping_at:
            peer.ping()
            hub.pings.append(ping_at - begin)
            ping_at += PING_SECONDS
        if updates and now >= update_at:
            updates -= 1
            update_at += UPDATE_SECONDS
            for topic in range(LIVE):
                home.change(topic)
        while waiting and waiting[0][0] <= now:
            peer.acknowledge(waiting.pop(0)[1])
        for who, events in heard([peer, home.publisher], 0.005):
            after = time.monotonic() - begin
            for event in events:
                if isinstance(event, Arrived):
                    hub.times.append(after)
                    hub.values[int(event.topic.rpartition("/")[2])].append(int(event.payload))
                    last = begin + after
                    if event.qos and not who.acknowledges:
                        waiting.append((last + SLOW_SECONDS, event))
                elif event is Signal.PONG:
                    hub.pongs.append(after)


def _claims(name: str, hub: Hub, home: Home) -> list[Claim]:
    due = (len(hub.times) - BURST) / RATE
    waits = [pong - ping for ping, pong in zip(hub.pings, hub.pongs, strict=False)]
    return [
        exactly(f"{name}: topics that came, of {TOPICS}", TOPICS, len(hub.values)),
        none(f"{name}: topics whose last value is not the newest", hub.stale(home.newest)),
        none(f"{name}: topics whose values came out of order, or twice", hub.disordered()),
        within(f"{name}: the last came after", due - LATE, due + LATE, max(hub.times, default=0.0), "s"),
        exactly(f"{name}: PINGREQs that were not answered", 0, max(0, len(hub.pings) - len(hub.pongs) - 1)),
        at_most(f"{name}: longest wait for PINGRESP", AT_ONCE * 1e3, max(waits, default=AT_ONCE) * 1e3, "ms"),
    ]
