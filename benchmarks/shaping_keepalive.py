"""A keepalive of five seconds, for twenty seconds and more in which next to nothing of a client reaches the broker.

held: the client's second message waits for twenty seconds; the client sends PINGREQ in time and nothing else.
dropped: every publish is dropped, and acknowledged to it; it sends PINGREQ in time.
publishing: the same, but its publishes are its only signs of life.
flooding: a client that sends as much as its socket takes and reads nothing, a PINGREQ in time among it: QoS 1 in MQTT
3.1.1 while there are packet identifiers, else QoS 0. What of it waits too long is dropped, for a limit that disconnects
would end it for another reason than the keepalive.

Each in MQTT 3.1.1 and 5, and each with a will. A watcher at the broker itself sees whether a will is sent; at the end
a further client is cut off on purpose, and its will must be seen. The broker knows the keepalive too, and would end a
connection after seven and a half seconds of silence.
"""

import dataclasses
import time
from collections.abc import Iterable

from .claims import Claim, exactly, holds, none, within
from .metrics import Metrics
from .peer import Acknowledged, Arrived, Peer, Signal, heard, join, leave, subscribe
from .rates import UNBOUNDED
from .shaping_policy import Setting
from .stage import Stage
from .targets import start_mosquitto

KEEPALIVE = 5
PING_SECONDS = 4.0
PUBLISH_SECONDS = 0.5
HELD_SECONDS = 20.0
SECONDS = 24.0
"""Longer than a message is held, and three times the silence that a broker bears."""
EARLY, LATE = 0.5, 2.0
"""Seconds by which the held message may come before or after its time."""
FLUSH_SECONDS = 0.01
DRAIN_SECONDS = 30.0
"""In which a client that has read nothing is told all that waits for it."""
LAST_SECONDS = 1.0
"""In which the last answers come."""
WILL_SECONDS = 5.0
PIECE = 100
"""Messages that the flooding client adds whenever its socket has taken all."""
PAYLOAD = 512
"""Bytes of each of them."""
KINDS = ("held", "dropped", "publishing", "flooding")
DROPPED = """
[[limit]]
name = "dropped"
topic = ["dropped/#", "publishing/#"]
rate = "1/h burst 1"
on_excess = "drop"
"""


@dataclasses.dataclass
class Client:
    """One client and what it has seen; times in seconds since all began."""

    kind: str
    peer: Peer
    pings: int = 0
    pongs: int = 0
    published: int = 0
    acknowledged: int = 0
    ping_at: float = PING_SECONDS
    publish_at: float = 0.0
    ended_at: float = 0.0

    @property
    def topic(self) -> str:
        """Of its messages."""
        return f"{self.kind}/{self.peer.version}"

    def act(self, now: float) -> None:
        """Do what is due."""
        peer = self.peer
        if self.kind != "publishing" and now >= self.ping_at:
            self.ping_at += PING_SECONDS
            self.pings += 1
            peer.ping()
        if self.kind == "flooding":
            if not peer.backlog:
                for _ in range(PIECE):
                    self._publish(self._flood_qos(), PAYLOAD)
        elif self.kind == "held":
            while self.published < 2:
                self._publish(1)
        elif now >= self.publish_at:
            self.publish_at += PUBLISH_SECONDS
            self._publish(1)

    def _flood_qos(self) -> int:
        """Who reads nothing gets no identifier back, and of MQTT 5 may send no more than Receive Maximum."""
        return 1 if self.peer.version == 4 and len(self.peer.in_flight) < self.peer.window - 1 else 0

    def _publish(self, qos: int, size: int = 0) -> None:
        self.peer.publish(self.topic, (b"%d" % self.published).ljust(size), qos)
        self.published += 1


def keepalive(setting: Setting) -> list[Claim]:
    """The demonstration."""
    interval = round(HELD_SECONDS)
    policy = (
        setting.limit("held", f'topic = "held/#"\nrate = "1/{interval}s burst 1"', max_delay="30s", then="drop")
        + setting.limit("flooding", 'topic = "flooding/#"\nrate = "10/s"', max_delay="30s", then="drop")
        + DROPPED
    )
    with Stage() as stage:
        broker = start_mosquitto(stage, UNBOUNDED)
        target = setting.gateway(stage, broker, policy)
        watcher = Peer(broker.tcp, "watcher")
        join([watcher])
        subscribe(watcher, "#", 0)
        clients = [
            Client(kind, _peer(target.port, f"{kind}-{version}", version)) for kind in KINDS for version in (4, 5)
        ]
        control = Peer(target.port, "control", will="will/control")
        join([control, *(client.peer for client in clients)])
        arrived = _go_on(clients, watcher)
        _drain(clients, watcher, arrived)
        wills = [topic for _, topic in arrived if topic.startswith("will/")]
        timeouts = Metrics(target.admin).sum("tidegate_timeouts_total", kind="keepalive")
        alive = {client.peer.client_id: not client.peer.closed for client in clients}
        control.drop()
        late = _listen(watcher, WILL_SECONDS, until="will/control")
        leave([watcher, *(client.peer for client in clients)])
    claims = []
    for client in clients:
        name = client.peer.client_id
        ended = f" (after {client.ended_at:.1f} s, {_reason(client.peer)})" if not alive[name] else ""
        claims.append(holds(f"{name}: connected after {SECONDS:.0f} s{ended}", alive[name]))
        if client.kind != "publishing":
            claims.append(exactly(f"{name}: answers to {client.pings} PINGREQs", client.pings, client.pongs))
        if client.kind == "held":
            second = [after for after, topic in arrived if topic == client.topic][1:2]
            measured = second[0] if second else SECONDS
            claims.append(
                within(f"{name}: its second message came after", interval - EARLY, interval + LATE, measured, "s")
            )
        elif client.kind != "flooding":
            claims.append(exactly(f"{name}: acknowledged of its publishes", client.published, client.acknowledged))
            came = sum(topic == client.topic for _, topic in arrived)
            claims.append(exactly(f"{name}: of {client.published} at the broker", 1, came))
        else:
            came = sum(topic == client.topic for _, topic in arrived)
            print(f"  {name}: {client.published} sent, {came} at the broker")
    return [
        *claims,
        exactly("connections that the gateway ended for their keepalive", 0, timeouts),
        none("wills that were sent", wills),
        holds("the will of a client that was cut off on purpose was sent", "will/control" in late),
    ]


def _peer(port: int, name: str, version: int) -> Peer:
    return Peer(port, name, version, keepalive=KEEPALIVE, will=f"will/{name}")


def _reason(peer: Peer) -> str:
    return "without a word" if peer.reason is None else f"0x{peer.reason:02x}"


def _go_on(clients: list[Client], watcher: Peer) -> list[tuple[float, str]]:
    """Let all do what they do for SECONDS; what came to the watcher, with its time."""
    arrived: list[tuple[float, str]] = []
    begin = time.monotonic()
    reading = {client.peer: client for client in clients if client.kind != "flooding"}
    while (now := time.monotonic() - begin) < SECONDS:
        for client in clients:
            client.act(now)
            client.peer.flush()
        _hear(reading, watcher, arrived, begin, FLUSH_SECONDS)
    return arrived


def _drain(clients: list[Client], watcher: Peer, arrived: list[tuple[float, str]]) -> None:
    """Let those that flood read what waits for them, until their PINGREQs are answered; the others go on pinging."""
    begin = time.monotonic()
    reading = {client.peer: client for client in clients}

    def owed(client: Client) -> bool:
        return client.kind == "flooding" and client.pongs < client.pings and not client.peer.closed

    while any(map(owed, clients)) and (now := time.monotonic() - begin) < DRAIN_SECONDS:
        for client in clients:
            if client.kind != "flooding":
                client.act(now + SECONDS)
        _hear(reading, watcher, arrived, begin - SECONDS, FLUSH_SECONDS)
    end = time.monotonic() + LAST_SECONDS
    while time.monotonic() < end:
        _hear(reading, watcher, arrived, begin - SECONDS, FLUSH_SECONDS)


def _hear(
    reading: dict[Peer, Client], watcher: Peer, arrived: list[tuple[float, str]], begin: float, timeout: float
) -> None:
    for peer, events in heard([watcher, *reading], timeout):
        now = time.monotonic() - begin
        if peer is watcher:
            arrived += [(now, event.topic) for event in events if isinstance(event, Arrived)]
            continue
        client = reading[peer]
        client.acknowledged += sum(isinstance(event, Acknowledged) for event in events)
        client.pongs += events.count(Signal.PONG)
        if peer.closed:
            client.ended_at = now


def _listen(watcher: Peer, seconds: float, until: str) -> Iterable[str]:
    topics: list[str] = []
    end = time.monotonic() + seconds
    while until not in topics and time.monotonic() < end:
        for _, events in heard([watcher], 0.1):
            topics += [event.topic for event in events if isinstance(event, Arrived)]
    return topics
