"""Five messages in flight for one user, over four connections on two workers, against a broker that is late.

The broker is one that acknowledges when it is told to and counts what is unacknowledged (late.py). Four clients of one
user, of MQTT 3.1.1 and 5, at QoS 1 and 2, publish fifty messages each at once; the broker acknowledges the oldest one
at a time. Then a fifth client of the user publishes twenty QoS 2 messages and never sends a PUBREL, so that each
message of its own stays in flight for good, and the four publish again. Once the gateway has cut it off its places are
free, which the broker knows a moment later: all five together are told, but not judged.
"""

import os
import time
from collections import Counter

from .claims import Claim, at_most, exactly, holds, none
from .late import LateBroker
from .metrics import Metrics
from .peer import Acknowledged, Peer, heard, join, leave
from .shaping_policy import Setting
from .stage import Stage
from .targets import Broker, Target

WINDOW = 5
USER = "shared"
KINDS = ((4, 1), (4, 2), (5, 1), (5, 2))
"""Version and QoS of the four."""
COUNT = 50
WITHHELD = 20
ROUND_SECONDS = 60.0
STEP_SECONDS = 0.002
TRIES = 20


class Round:
    """Messages of some clients on their way to the broker."""

    def __init__(self, name: str, peers: list[Peer]) -> None:
        self.name = name
        self.peers = peers
        self.acknowledged: Counter[tuple[str, int]] = Counter()
        self.refused: list[str] = []
        self.seconds = 0.0

    def publish(self) -> None:
        """Let each of the four publish COUNT messages at once."""
        for peer, (_, qos) in zip(self.peers, KINDS, strict=False):
            for number in range(COUNT):
                peer.publish(f"window/{peer.client_id}", f"{self.name} {number}".encode(), qos, number)

    def finish(self, broker: LateBroker, others: list[Peer]) -> None:
        """Go on until all is acknowledged, at most ROUND_SECONDS; the broker acknowledges one at a time."""
        begin = time.monotonic()
        while sum(self.acknowledged.values()) < COUNT * len(KINDS) and time.monotonic() < begin + ROUND_SECONDS:
            for peer, events in heard([*self.peers, *others], STEP_SECONDS):
                for event in events:
                    if isinstance(event, Acknowledged) and peer in self.peers:
                        self.acknowledged[peer.client_id, event.tag] += 1
                        self.refused += [f"{peer.client_id} 0x{event.reason:02x}"] if event.reason else []
            broker.release(1)
        self.seconds = time.monotonic() - begin

    def claims(self, broker: LateBroker) -> list[Claim]:
        """What became of it."""
        came = [one for one in broker.received if one.payload.startswith(self.name.encode() + b" ")]
        arrived = Counter((one.client_id, int(one.payload.split()[-1])) for one in came)
        wanted = {(peer.client_id, number) for peer in self.peers for number in range(COUNT)}
        of_client = [[int(one.payload.split()[-1]) for one in came if one.client_id == p.client_id] for p in self.peers]
        return [
            exactly(f"{self.name}: at the broker, of {len(wanted)}", len(wanted), len(arrived)),
            none(f"{self.name}: more than once", [key for key, count in arrived.items() if count > 1]),
            holds(f"{self.name}: in the order of each client", all(some == sorted(some) for some in of_client)),
            none(f"{self.name}: not acknowledged", sorted(wanted - self.acknowledged.keys())),
            none(f"{self.name}: refused", self.refused),
            none(f"{self.name}: clients disconnected", [p.client_id for p in self.peers if p.closed]),
            at_most(f"{self.name}: all done after", ROUND_SECONDS, round(self.seconds, 1), "s"),
        ]


def window(setting: Setting) -> list[Claim]:
    """The demonstration."""
    policy = setting.limit("window", f'per = "username"\nconcurrent = {WINDOW}', max_delay="5min")
    with Stage() as stage:
        path = stage.folder / "late.sock"
        with LateBroker(path) as broker:
            target = setting.gateway(stage, Broker(0, path, os.getpid()), policy, workers=2)
            peers, workers = _spread(target)
            print(f"  connections by worker: {', '.join(map(str, workers))}", flush=True)
            first = Round("shared", peers)
            first.publish()
            first.finish(broker, [])
            claims = [
                holds("both workers have some of the four", all(workers)),
                exactly("unacknowledged at the broker, at most", WINDOW, broker.most),
                *first.claims(broker),
            ]
            hostage = Peer(target.port, "hostage", 5, username=USER, releases=False)
            join([hostage])
            for number in range(WITHHELD):
                hostage.publish("window/hostage", b"%d" % number, 2, number)
            second = Round("beside one that withholds PUBREL", peers)
            second.publish()
            second.finish(broker, [hostage])
            taken = [one for one in broker.received if one.client_id == "hostage"]
            print(
                f"  the one that withholds PUBREL: {len(taken)} of {WITHHELD} messages at the broker,"
                f" {'disconnected' if hostage.closed else 'still connected'};"
                f" unacknowledged of all five, at most: {broker.most}"
            )
            names = [peer.client_id for peer in peers]
            claims += [
                *second.claims(broker),
                exactly("unacknowledged of the four, at most, all the time", WINDOW, broker.most_of(*names)),
                at_most("unacknowledged of the fifth", WINDOW, broker.most_of("hostage"), "messages"),
            ]
            leave([*peers, hostage])
            stage.stop(target.pid)  # its connections end before the broker does
    return claims


def _spread(target: Target) -> tuple[list[Peer], list[int]]:
    """The four, once both workers have some of them, and how many each has; after TRIES, as they are."""
    for attempt in range(TRIES):
        peers = [
            Peer(target.port, f"{qos}-{version}-{attempt}", version, username=USER, releases=True)
            for version, qos in KINDS
        ]
        join(peers)
        workers = list(Metrics(target.admin).by("tidegate_connections", "worker").values())
        if all(workers) and sum(workers) == len(peers):
            break
        if attempt < TRIES - 1:
            leave(peers)
            while sum(Metrics(target.admin).by("tidegate_connections", "worker").values()):
                time.sleep(0.05)
    return peers, workers
