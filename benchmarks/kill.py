"""What `kill -9` loses and doubles: nothing that a client saw acknowledged, and no QoS 2 message twice.

    python -m benchmarks.kill [--workers-killed 10] [--gateways-killed 5] [--publishers 3]
                              [--protocol 3.1.1|5] [--broker unix|tcp] [--seed N]

paho clients with persistent sessions publish numbered QoS 1 and QoS 2 streams through `tidegate serve` with
two workers; a subscriber with a persistent session listens at QoS 2 directly at the Mosquitto behind. Then,
each time after all publishers are back and a second of traffic has passed, a worker that serves clients gets
SIGKILL, and afterwards the whole gateway does, supervisor and workers, and is started again. At the end the
publishers wait for their last acknowledgements. Prints what was published, acknowledged, and arrived, as
JSON.

Exit status: 0 when every acknowledged message arrived, every QoS 2 message exactly once and nothing was
refused; 1 on any violation, or when clients did not come back.
"""

import argparse
import dataclasses
import json
import random
import sys
import time
from collections.abc import Callable

import psutil

from .options import parser, positive
from .stage import Stage, end_on_sigterm, tree
from .streams import PROTOCOLS, Publisher, Subscriber
from .targets import Options, Target, start_mosquitto, start_target, wait_accepting

PERSISTENCE = "persistence true\npersistence_location {folder}/\n"
TARGET = {"unix": "tidegate-unix", "tcp": "tidegate"}
TRAFFIC_SECONDS = 1.0
"""Between all clients being back and the next kill."""
BACK_SECONDS = 60.0
"""How long clients may take to be back, acknowledgements and deliveries to arrive."""
POLL_SECONDS = 0.02


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


def verdict(publishers: list[Publisher], subscriber: Subscriber) -> dict[str, object]:
    """The counts of the run; the keys that end in `violations` must hold nothing."""
    arrived = subscriber.arrived
    acknowledged = {(p.name, number) for p in publishers for number in p.acknowledged}
    by_qos = {qos: [p for p in publishers if p.qos == qos] for qos in (1, 2)}
    counts: dict[str, object] = {}
    for qos, of_qos in by_qos.items():
        names = {p.name for p in of_qos}
        counts[f"qos{qos}"] = {
            "published": sum(p.published for p in of_qos),
            "acknowledged": sum(len(p.acknowledged) for p in of_qos),
            "arrived": sum(1 for name, _ in arrived if name in names),
            "arrived again": sum(count - 1 for (name, _), count in arrived.items() if name in names),
            "connects": sum(p.connects for p in of_qos),
        }
    twos = {p.name for p in by_qos[2]}
    counts["lost violations"] = sorted(acknowledged - arrived.keys())
    counts["doubled QoS 2 violations"] = sorted(key for key, count in arrived.items() if count > 1 and key[0] in twos)
    counts["unacknowledged violations"] = [
        f"{p.name}: {p.published - len(p.acknowledged) - len(p.refused)} messages"
        for p in publishers
        if p.published > len(p.acknowledged) + len(p.refused)
    ]
    counts["refused violations"] = [text for p in publishers for text in p.refused]
    return counts


def run(arguments: argparse.Namespace) -> dict[str, object]:
    protocol = PROTOCOLS[arguments.protocol]
    chance = random.Random(arguments.seed)
    options = Options(tidegate=arguments.tidegate_command, workers=2)
    with Stage() as stage:
        broker = start_mosquitto(stage, PERSISTENCE.format(folder=stage.folder))
        target = start_target(stage, TARGET[arguments.broker], broker, options)
        subscriber = Subscriber(protocol, broker.tcp)
        publishers = [
            Publisher(f"qos{qos}-{number}", qos, protocol, target.port)
            for qos in (1, 2)
            for number in range(arguments.publishers)
        ]
        for _ in range(arguments.workers_killed):
            traffic(stage, target, publishers)
            kill_worker(target, chance)
        for _ in range(arguments.gateways_killed):
            traffic(stage, target, publishers)
            target = dataclasses.replace(target, pid=stage.kill_and_restart(target.pid))
            wait_accepting(stage, target.port, target.pid)
        traffic(stage, target, publishers)
        for publisher in publishers:
            publisher.finish(BACK_SECONDS)
        acknowledged = {(p.name, number) for p in publishers for number in p.acknowledged}
        wait_until(lambda: acknowledged <= subscriber.arrived.keys())  # what is missing then, `verdict` tells
        time.sleep(TRAFFIC_SECONDS)  # a second copy would come behind the first
        subscriber.close()
        return verdict(publishers, subscriber)


def main() -> None:
    line = parser("kill", __doc__)
    line.add_argument("--workers-killed", type=positive, default=10, metavar="N")
    line.add_argument("--gateways-killed", type=positive, default=5, metavar="N")
    line.add_argument("--publishers", type=positive, default=3, metavar="N", help="of each QoS")
    line.add_argument("--protocol", choices=list(PROTOCOLS), default="3.1.1")
    line.add_argument("--broker", choices=list(TARGET), default="unix", help="how the gateway reaches it")
    line.add_argument("--seed", type=int, default=0, help="which workers are chosen")
    arguments = line.parse_args()
    end_on_sigterm()
    counts = run(arguments)
    print(json.dumps(counts, indent=1))
    if any(found for name, found in counts.items() if name.endswith("violations")):
        sys.exit(1)


if __name__ == "__main__":
    main()
