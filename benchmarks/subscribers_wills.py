"""Wills: five hundred clients that die at once, and clients that flap, stay away, or leave.

storm: 500 clients with a will each, of MQTT 3.1.1 and 5, over two workers, lose their connections in the same moment.
Their wills are paced by `rate = "50/s burst 10"` for all together. A watcher straight at the broker sees when each
comes; twenty well-behaved clients go on publishing.

flapping: under `will_delay = "20s"` one client of each version loses its connection every three seconds and is back
half a second later, over either of two workers; it says "online" by a retained message on its status topic, as its will
says "offline". One loses its connection and stays away, and one says DISCONNECT. A watcher sees the status topics.

Beside both, not judged, bare Mosquitto.
"""

import dataclasses
import time
from collections import Counter

from tidegate.mqtt.connect import Will

from .claims import Claim, exactly, none, within
from .company import Company, undisturbed
from .peer import Arrived, Peer, heard, join, leave, subscribe
from .stage import Stage, tree
from .subscribers_setting import DEFAULTS, Setting, limit
from .targets import Target, start_mosquitto

CLIENTS = 500
RATE, BURST = 50, 10
TOLERANCE = 0.03
TOGETHER_SECONDS = 1.0
"""In which the connections of all are gone."""
PATIENCE_SECONDS = 5.0
"""For wills that come late."""
OTHERS, EACH = 20, 10.0
REST_SECONDS = 5.0
SETTLE_SECONDS = 10.0
DELAY = 20.0
LATE = 1.0
"""Seconds by which a will may come after its time."""
UP_SECONDS, DOWN_SECONDS = 3.0, 0.5
FLAPPING_SECONDS = 36.0
"""Longer than the delay, and ten times that a client comes back."""
VERSIONS = (4, 5)
STEP_SECONDS = 0.02


def wills(setting: Setting) -> list[Claim]:
    """The demonstration."""
    with Stage() as stage:
        broker = start_mosquitto(stage, DEFAULTS)
        _tell_storm("mosquitto alone", _storm(broker.tcp, broker.tcp))
        _tell_flapping("mosquitto alone", _flap(broker.tcp, broker.tcp, None))
    paced = limit("wills", "will", 'per = "all"', f'rate = "{RATE}/s burst {BURST}"', 'max_delay = "1min"')
    with Stage() as stage:
        broker = start_mosquitto(stage, DEFAULTS)
        target = setting.gateway(stage, broker, paced, workers=2)
        company = Company(target.port, broker.tcp, clients=OTHERS, each=EACH)
        company.start()
        rest = time.monotonic()
        time.sleep(REST_SECONDS)
        begin = time.monotonic()
        came = _storm(target.port, broker.tcp)
        end = time.monotonic()
        company.stop(SETTLE_SECONDS)
        _tell_storm("tidegate", came)
        claims = [
            *_paced(came),
            *undisturbed("others", company.between(rest, begin), company.between(begin, end), company.trouble),
        ]
    with Stage() as stage:
        broker = start_mosquitto(stage, DEFAULTS)
        target = setting.gateway(stage, broker, limit("flap", "will", f'will_delay = "{DELAY:g}s"'), workers=2)
        flapped = _flap(target.port, broker.tcp, target)
        _tell_flapping("tidegate", flapped)
    return [*claims, *_never_gone(flapped)]


# Storm


def _storm(port: int, broker_port: int) -> list[tuple[float, str]]:
    """Let all lose their connections; when each will came, in seconds since, and its topic."""
    watcher = Peer(broker_port, "watcher", 5)
    join([watcher])
    subscribe(watcher, "dead/#", 0)
    clients = [
        Peer(port, f"mortal-{number}", VERSIONS[number % 2], will=Will(f"dead/{number}", b"", 1, False))
        for number in range(CLIENTS)
    ]
    join(clients)
    begin = time.monotonic()
    for client in clients:
        client.drop()
    came: list[tuple[float, str]] = []
    quiet_at = begin + PATIENCE_SECONDS
    while time.monotonic() < quiet_at:
        for _, events in heard([watcher], 0.1):
            now = time.monotonic()
            came += [(now - begin, event.topic) for event in events if isinstance(event, Arrived)]
            quiet_at = now + PATIENCE_SECONDS
    leave([watcher])
    return came


def _tell_storm(name: str, came: list[tuple[float, str]]) -> None:
    first = min((after for after, _ in came), default=0.0)
    last = max((after for after, _ in came), default=0.0)
    print(
        f"  {name}: {len(came)} wills of {CLIENTS}, the first after {first:.2f} s, the last after {last:.2f} s",
        flush=True,
    )


def _paced(came: list[tuple[float, str]]) -> list[Claim]:
    times = [after for after, _ in came]
    topics = Counter(topic for _, topic in came)
    behind = times[BURST:]
    rate = (len(behind) - 1) / (behind[-1] - behind[0]) if len(behind) > 1 else 0.0
    due = (CLIENTS - BURST) / RATE
    low, high = RATE * (1 - TOLERANCE), RATE * (1 + TOLERANCE)
    return [
        exactly(f"wills that came, of {CLIENTS}", CLIENTS, len(topics)),
        none("wills that came more than once", [topic for topic, count in topics.items() if count > 1]),
        within("they came, after the burst", low, high, rate, "per second"),
        within("the last after", due - LATE, due + TOGETHER_SECONDS, times[-1] if times else 0.0, "s"),
    ]


# Flapping


@dataclasses.dataclass
class Client:
    """One client with a status topic."""

    name: str
    version: int
    port: int
    peer: Peer
    back: int = 0
    """Times that it came back."""
    workers: set[int] = dataclasses.field(default_factory=set)
    """Process ids of those that had it."""

    @classmethod
    def come(cls, name: str, version: int, port: int) -> "Client":
        """A client that is online."""
        client = cls(name, version, port, cls._connect(name, version, port))
        client._say_online()
        return client

    @property
    def topic(self) -> str:
        """Where it tells whether it is there."""
        return f"status/{self.name}"

    def come_back(self) -> None:
        """Connect again."""
        self.peer = self._connect(self.name, self.version, self.port)
        self.back += 1
        self._say_online()

    @staticmethod
    def _connect(name: str, version: int, port: int) -> Peer:
        return Peer(port, name, version, will=Will(f"status/{name}", b"offline", 1, True))

    def _say_online(self) -> None:
        join([self.peer])
        self.peer.publish(self.topic, b"online", 1, retain=True)


@dataclasses.dataclass(frozen=True)
class Flapped:
    """What came of it; what the watcher saw is by topic, with the time since the connections were first cut."""

    flapping: list[Client]
    absent: list[Client]
    leaving: list[Client]
    seen: dict[str, list[tuple[float, bytes]]]

    def offline(self, client: Client) -> list[float]:
        """When a client was seen to be offline."""
        return [after for after, payload in self.seen.get(client.topic, []) if payload == b"offline"]


def _flap(port: int, broker_port: int, target: Target | None) -> Flapped:
    watcher = Peer(broker_port, "watcher")
    join([watcher])
    subscribe(watcher, "status/#", 1)
    flapping, absent, leaving = (
        [Client.come(f"{kind}-{version}", version, port) for version in VERSIONS]
        for kind in ("flapping", "absent", "leaving")
    )
    seen: dict[str, list[tuple[float, bytes]]] = {}
    _watch(watcher, seen, time.monotonic(), UP_SECONDS)
    begin = time.monotonic()
    for client in absent:
        client.peer.drop()
    leave(client.peer for client in leaving)
    while time.monotonic() < begin + FLAPPING_SECONDS:
        for client in flapping:
            client.workers |= _workers_of(client.peer, target)
            client.peer.drop()
        _watch(watcher, seen, begin, DOWN_SECONDS)
        for client in flapping:
            client.come_back()
        _watch(watcher, seen, begin, UP_SECONDS)
    leave([watcher, *(client.peer for client in flapping)])
    return Flapped(flapping, absent, leaving, seen)


def _watch(watcher: Peer, seen: dict[str, list[tuple[float, bytes]]], begin: float, seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for _, events in heard([watcher], min(left, STEP_SECONDS)):
            for event in events:
                if isinstance(event, Arrived):
                    seen.setdefault(event.topic, []).append((time.monotonic() - begin, event.payload))


def _workers_of(peer: Peer, target: Target | None) -> set[int]:
    """The process of the gateway that has this client."""
    if target is None:
        return set()
    return {
        process.pid
        for process in tree(target.pid)
        for connection in process.net_connections("tcp")
        if connection.raddr and connection.raddr.port == peer.source_port and connection.laddr.port == target.port
    }


def _tell_flapping(name: str, flapped: Flapped) -> None:
    for client in (*flapped.flapping, *flapped.absent, *flapped.leaving):
        times = ", ".join(f"{after:.1f} s" for after in flapped.offline(client)[:3])
        back = f", back {client.back} times" if client.back else ""
        print(f"  {name}: {client.name}{back}: seen offline {len(flapped.offline(client))} times {times}", flush=True)


def _never_gone(flapped: Flapped) -> list[Claim]:
    claims = []
    for client in flapped.flapping:
        online = sum(payload == b"online" for _, payload in flapped.seen[client.topic])
        claims += [
            none(f"{client.name}, back {client.back} times: seen offline", flapped.offline(client)),
            exactly(f"{client.name}: its own messages came", 1 + client.back, online),
        ]
    workers = {pid for client in flapped.flapping for pid in client.workers}
    claims.append(exactly("workers that had those that flap", 2, len(workers)))
    for client in flapped.absent:
        offline = flapped.offline(client)
        claims += [
            exactly(f"{client.name}: seen offline", 1, len(offline)),
            within(f"{client.name}: after", DELAY - STEP_SECONDS, DELAY + LATE, min(offline, default=0.0), "s"),
        ]
    claims += [none(f"{client.name}: seen offline", flapped.offline(client)) for client in flapped.leaving]
    return claims
