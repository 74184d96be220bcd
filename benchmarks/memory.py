"""User memory per idle connection, through one worker, in front of a real Mosquitto on its Unix socket.

    python -m benchmarks.memory [--connections 5000] [--targets tidegate-unix,relay-unix,haproxy-unix]

Each target in turn: WARM_UP connections come and go, the memory of its process tree is read from
smaps_rollup, then N plain sockets send CONNECT (keepalive 0), get their CONNACK and stay; the memory is read
again. The growth divided by N is printed: private memory (in no other process) and PSS. What the kernel holds
for the sockets is in neither. Needs 2 N + 200 open files per process: a proxy has two for each client.
"""

import socket
import sys
import time

from .options import parser, positive, target_names
from .stage import Stage, end_on_sigterm, memory, require_files
from .targets import Broker, Options, start_mosquitto, start_target
from .wire import Refused, open_client

WARM_UP = 100
"""Connections before the first reading: what is made once, at the first connection, is not per connection."""
SETTLE_SECONDS = 2.0
"""Before each reading: time for deferred work to be done."""
SPARE_FILES = 200
DEFAULT_TARGETS = ["tidegate-unix", "relay-unix", "haproxy-unix"]


def open_clients(port: int, prefix: str, count: int) -> list[socket.socket]:
    """That many clients with their CONNACK; exits at the first that is refused."""
    clients = []
    for number in range(count):
        try:
            clients.append(open_client(port, f"{prefix}{number}"))
        except Refused as error:
            sys.exit(
                f"client {number + 1} of {count}: {error}. If the broker or the target is out of open files,"
                " ask for fewer --connections"
            )
    return clients


def close_all(clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()


def check_open(clients: list[socket.socket]) -> None:
    """ConnectionError when one was closed, or told anything, since its CONNACK."""
    for number, client in enumerate(clients):
        client.setblocking(False)
        try:
            data = client.recv(64)
        except BlockingIOError:
            continue
        what = f"was sent {data.hex()}" if data else "was closed"
        raise ConnectionError(f"client {number + 1} of {len(clients)} {what} while it was to stay connected")


def growth(stage: Stage, name: str, broker: Broker, options: Options, count: int) -> dict[str, int]:
    """Bytes by which the target's tree has grown for `count` connections."""
    target = start_target(stage, name, broker, options)
    close_all(open_clients(target.port, "warm", WARM_UP))
    time.sleep(SETTLE_SECONDS)
    before = memory(target.pid)
    clients = open_clients(target.port, "idle", count)
    time.sleep(SETTLE_SECONDS)
    after = memory(target.pid)
    try:
        check_open(clients)
    except ConnectionError as error:
        sys.exit(f"{name}: {error}\n{stage.log_tail(target.pid)}")
    close_all(clients)
    if target.pid != broker.pid:
        stage.stop(target.pid)
    return {kind: after[kind] - before[kind] for kind in after}


def main() -> None:
    line = parser("memory", __doc__)
    line.add_argument("--connections", type=positive, default=5000)
    line.add_argument("--targets", type=target_names, default=DEFAULT_TARGETS, metavar="TARGET,...")
    arguments = line.parse_args()
    end_on_sigterm()
    count = arguments.connections
    require_files(2 * count + SPARE_FILES)
    options = Options(tidegate=arguments.tidegate_command, connections=count + WARM_UP)
    print(f"{count} idle connections: user memory of the process tree per connection, KiB", flush=True)
    print(f"  {'':14s} {'private':>8s} {'PSS':>8s}")
    with Stage() as stage:
        broker = start_mosquitto(stage)
        for name in arguments.targets:
            grown = growth(stage, name, broker, options, count)
            kib = {kind: size / 1024 / count for kind, size in grown.items()}
            print(f"  {name:14s} {kib['private']:8.2f} {kib['pss']:8.2f}", flush=True)


if __name__ == "__main__":
    main()
