"""What `kill -9` loses and doubles: nothing that a client saw acknowledged, and no QoS 2 message twice.

    python -m benchmarks.kill [--workers-killed 10] [--gateways-killed 5] [--publishers 3]
                              [--protocol 3.1.1|5] [--broker unix|tcp] [--limits none|delay|drop|reject] [--seed N]

paho clients with persistent sessions publish numbered QoS 1 and QoS 2 streams through `tidegate serve` with
two workers; a subscriber with a persistent session listens at QoS 2 directly at the Mosquitto behind. Then,
each time after all publishers are back and a second of traffic has passed, a worker that serves clients gets
SIGKILL, and afterwards the whole gateway does, supervisor and workers, and is started again. At the end the
publishers wait for their last acknowledgements. Prints what was published, acknowledged, and arrived, as
JSON.

With --limits, further publishers are over a limit all the time, whose excess is delayed, dropped (acknowledged all the
same) or rejected (MQTT 5 only). Of what they were told was taken nothing may be missing, or with `drop` only as much as
the gateway counted; of what was rejected nothing of QoS 2 may have arrived.

At the end each QoS 2 session publishes a whole window at once directly at the broker, which shows whether a message
was left there half-way (see orphans.py); a session with one left on purpose shows that this is found.

Exit status: 0 when every acknowledged message arrived, every QoS 2 message exactly once, nothing was refused that no
limit refuses and nothing was left half-way; 1 on any violation, or when clients did not come back.
"""

import argparse
import dataclasses
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

import psutil

from .metrics import Metrics
from .options import parser, positive
from .orphans import fill_window, leave_one
from .stage import Stage, end_on_sigterm, tree
from .streams import LIMITED, PROTOCOLS, VERSIONS, LimitedPublisher, Publisher, Subscriber
from .targets import Broker, Options, Target, start_mosquitto, start_target, wait_accepting
from .wire import QUOTA_EXCEEDED

PERSISTENCE = "persistence true\npersistence_location {folder}/\n"
TARGET = {"unix": "tidegate-unix", "tcp": "tidegate"}
TRAFFIC_SECONDS = 1.0
"""Between all clients being back and the next kill."""
BACK_SECONDS = 60.0
"""How long clients may take to be back, acknowledgements and deliveries to arrive."""
POLL_SECONDS = 0.02
WINDOW = 50
"""max_inflight_messages of the broker (targets.py)."""
LIMITED_EACH = 2
"""Publishers of each QoS that are over their limit."""
ON_EXCESS = {"delay": '"delay"', "drop": '"drop"', "reject": '{ v3 = "drop", default = "reject" }'}
CONTROL = "control"
LIMIT = """\
[[limit]]
name = "over"
topic = "{topic}/#"
rate = "20/s burst 20"
on_excess = {action}
"""


def wait_until(true: Callable[[], bool]) -> bool:
    """Wait for a condition: has it come within BACK_SECONDS?"""
    deadline = time.monotonic() + BACK_SECONDS
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def traffic(stage: Stage, target: Target, publishers: list[Publisher]) -> None:
    """Wait until every publisher is connected and sees acknowledgements, then for TRAFFIC_SECONDS more."""
    seen = [len(publisher.acknowledged) for publisher in publishers]

    def flows() -> bool:
        return all(
            publisher.online.is_set() and len(publisher.acknowledged) > before
            for publisher, before in zip(publishers, seen, strict=True)
        )

    if not wait_until(flows):
        sys.exit(
            f"not every publisher is connected and acknowledged after {BACK_SECONDS:.0f} s\n"
            + stage.log_tail(target.pid)
        )
    time.sleep(TRAFFIC_SECONDS)


def serving(target: Target) -> list[psutil.Process]:
    """The worker processes that hold a client's connection now."""
    return [process for process in tree(target.pid)[1:] if _serves(process, target.port)]


def _serves(process: psutil.Process, port: int) -> bool:
    try:
        connections = process.net_connections("tcp")
    except psutil.NoSuchProcess:
        return False  # ended since it was listed
    return any(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in connections)


def kill_worker(target: Target, chance: random.Random) -> None:
    workers = serving(target)
    if not workers:
        sys.exit("no process below the supervisor holds a client's connection: there is no worker to kill")
    victim = chance.choice(workers)
    victim.kill()
    psutil.wait_procs([victim], timeout=BACK_SECONDS)


def over(target: Target, limits: str) -> int:
    """Messages over the limit in the life of this gateway."""
    return Metrics(target.admin).sum("tidegate_limited_total", limit="over", action=limits) if limits != "none" else 0


def verdict(publishers: list[Publisher], subscriber: Subscriber) -> dict[str, object]:
    """The counts of the run; the keys that end in `violations` must hold nothing."""
    arrived = subscriber.arrived
    acknowledged = {(p.name, number) for p in publishers for number in p.acknowledged}
    counts: dict[str, object] = {}
    for qos in (1, 2):
        counts[f"qos{qos}"] = _counts([p for p in publishers if p.qos == qos], subscriber)
    twos = {p.name for p in publishers if p.qos == 2}
    counts["lost violations"] = sorted(acknowledged - arrived.keys())
    counts["doubled QoS 2 violations"] = sorted(key for key, count in arrived.items() if count > 1 and key[0] in twos)
    counts["unacknowledged violations"] = _unanswered(publishers)
    counts["refused violations"] = [text for p in publishers for text in p.refused]
    return counts


def limited_verdict(
    publishers: list[LimitedPublisher], subscriber: Subscriber, limits: str, counted: int
) -> dict[str, object]:
    """The same of those over the limit, of whose messages so many were counted as delayed, dropped or rejected."""
    arrived = subscriber.arrived
    counts: dict[str, object] = {"counted as over the limit": counted}
    for qos in (1, 2):
        of_qos = [p for p in publishers if p.qos == qos]
        counts[f"limited qos{qos}"] = {**_counts(of_qos, subscriber), "refused": sum(len(p.refused) for p in of_qos)}
    refused = {(p.name, number): reason for p in publishers for number, reason in p.refused.items()}
    missing = {(p.name, number) for p in publishers for number in p.acknowledged} - arrived.keys()
    twos = {p.name for p in publishers if p.qos == 2}
    counts["dropped of acknowledged"] = len(missing)
    # Only of what is dropped the gateway says that it has arrived.
    allowed = counted if limits == "drop" else 0
    counts["limited lost violations"] = sorted(missing) if len(missing) > allowed else []
    counts["limited doubled QoS 2 violations"] = sorted(
        key for key, count in arrived.items() if count > 1 and key[0] in twos
    )
    counts["rejected QoS 2 that arrived violations"] = sorted(
        key for key in refused if key in arrived and key[0] in twos
    )
    counts["reason violations"] = sorted(key for key, reason in refused.items() if reason != QUOTA_EXCEEDED)
    counts["limited unacknowledged violations"] = _unanswered(publishers)
    is_over = {"delay": counted > 0, "drop": bool(missing), "reject": bool(refused)}
    counts["not over the limit violations"] = [] if is_over[limits] else [f"no {limits}"]
    counts["not rejected by the limit violations"] = sorted(refused) if limits != "reject" else []
    return counts


def _counts(publishers: Sequence[Publisher | LimitedPublisher], subscriber: Subscriber) -> dict[str, int]:
    arrived = subscriber.arrived
    names = {p.name for p in publishers}
    return {
        "published": sum(p.published for p in publishers),
        "acknowledged": sum(len(p.acknowledged) for p in publishers),
        "arrived": sum(1 for name, _ in arrived if name in names),
        "arrived again": sum(count - 1 for (name, _), count in arrived.items() if name in names),
        "connects": sum(p.connects for p in publishers),
    }


def _unanswered(publishers: Sequence[Publisher | LimitedPublisher]) -> list[str]:
    return [
        f"{p.name}: {p.published - len(p.acknowledged) - len(p.refused)} messages"
        for p in publishers
        if p.published > len(p.acknowledged) + len(p.refused)
    ]


def orphans(names: Sequence[str], broker: Broker, subscriber: Subscriber, version: int) -> dict[str, object]:
    """Fill the window of each session, and of one that is known to have an orphan."""
    leave_one(broker.tcp, CONTROL, version, "kill/fresh")
    for name in (*names, CONTROL):
        fill_window(broker.tcp, name, version, WINDOW, "kill/fresh", f"fresh-{name}")
    fresh = {(f"fresh-{name}", number) for name in names for number in range(WINDOW)}
    wait_until(lambda: fresh <= subscriber.arrived.keys())
    time.sleep(TRAFFIC_SECONDS)
    arrived = Counter(name for name, _ in subscriber.arrived.elements())
    found = {name: WINDOW - arrived[f"fresh-{name}"] for name in names}
    left = WINDOW - arrived[f"fresh-{CONTROL}"]
    return {
        "QoS 2 sessions examined": len(names),
        "orphan violations": [f"{name}: {count} of {WINDOW} fresh messages" for name, count in found.items() if count],
        "control violations": [] if left else ["the one that was left on purpose was not found"],
    }


def run(arguments: argparse.Namespace) -> dict[str, object]:
    protocol = PROTOCOLS[arguments.protocol]
    chance = random.Random(arguments.seed)
    limits = arguments.limits
    policy = LIMIT.format(topic=LIMITED, action=ON_EXCESS[limits]) if limits != "none" else ""
    options = Options(tidegate=arguments.tidegate_command, workers=2, policy=policy)
    with Stage() as stage:
        broker = start_mosquitto(stage, PERSISTENCE.format(folder=stage.folder))
        target = start_target(stage, TARGET[arguments.broker], broker, options)
        subscriber = Subscriber(protocol, broker.tcp)
        publishers = [
            Publisher(f"qos{qos}-{number}", qos, protocol, target.port)
            for qos in (1, 2)
            for number in range(arguments.publishers)
        ]
        limited = [
            LimitedPublisher(f"over{qos}-{number}", qos, arguments.protocol, target.port)
            for qos in (1, 2)
            for number in range(LIMITED_EACH if policy else 0)
        ]
        counted = 0
        for _ in range(arguments.workers_killed):
            traffic(stage, target, publishers)
            kill_worker(target, chance)
        for _ in range(arguments.gateways_killed):
            traffic(stage, target, publishers)
            if policy:
                for worker in tree(target.pid)[1:]:
                    worker.suspend()  # what they have counted is final then, and read before it is lost
                counted += over(target, limits)
            target = dataclasses.replace(target, pid=stage.kill_and_restart(target.pid))
            wait_accepting(stage, target.port, target.pid)
        traffic(stage, target, publishers)
        everyone: list[Publisher | LimitedPublisher] = [*publishers, *limited]
        for publisher in everyone:
            publisher.finish(BACK_SECONDS)
        counted += over(target, limits)
        acknowledged = {(p.name, number) for p in publishers for number in p.acknowledged}
        wait_until(lambda: acknowledged <= subscriber.arrived.keys())  # what is missing then, `verdict` tells
        time.sleep(TRAFFIC_SECONDS)  # a second copy would come behind the first
        counts = verdict(publishers, subscriber)
        if policy:
            counts |= limited_verdict(limited, subscriber, limits, counted)
        twos = [p.name for p in everyone if p.qos == 2]
        counts |= orphans(twos, broker, subscriber, VERSIONS[arguments.protocol])
        subscriber.close()
        return counts


def main() -> None:
    line = parser("kill", __doc__)
    line.add_argument("--workers-killed", type=positive, default=10, metavar="N")
    line.add_argument("--gateways-killed", type=positive, default=5, metavar="N")
    line.add_argument("--publishers", type=positive, default=3, metavar="N", help="of each QoS")
    line.add_argument("--protocol", choices=list(PROTOCOLS), default="3.1.1")
    line.add_argument("--broker", choices=list(TARGET), default="unix", help="how the gateway reaches it")
    line.add_argument("--limits", choices=["none", *ON_EXCESS], default="none", help="what further publishers are over")
    line.add_argument("--seed", type=int, default=0, help="which workers are chosen")
    arguments = line.parse_args()
    if arguments.limits == "reject" and arguments.protocol != "5":
        line.error("--limits reject needs --protocol 5: 3.1.1 has no words for it")
    end_on_sigterm()
    counts = run(arguments)
    print(json.dumps(counts, indent=1))
    if any(found for name, found in counts.items() if name.endswith("violations")):
        sys.exit(1)


if __name__ == "__main__":
    main()
