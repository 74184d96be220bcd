"""Ten million keys, one after another: memory stays flat, the attacker gains nothing, and nobody else loses anything.

    python -m benchmarks.keys [--topics 10000000] [--clients 20000] [--engine-clients 10000000]
                             [--seconds 40]

Three parts, all with limits of 6 messages a minute and 6 at once.

topics: through `tidegate serve` with two workers, one client streams QoS 0 messages to that many random topics under a
limit per client and topic and another per topic, so that each is a key of both. Now and then between these throwaway
keys it publishes to topics of its own.

clients: that many clients connect, each with a new identifier, and publish three messages each under a limit per
client. Now and then between them clients of the attacker's own do.

engine: as many clients without the network: two processes share a segment, as workers do, and decide for clients that
were never seen before, one message each.

Each attack goes on for --seconds if that takes longer. Meanwhile victims publish that keep to the same limits. Busy
ones spend their burst and then the rate, rare ones publish so rarely that their budget is full again each
time. They come from another address of loopback than the attacker's, and some from the same.

Exit status: 1 when a message of a victim was lost (but for the rare ones at the attacker's own address, which are told
only), when one of the attacker's own keys got more than its budget, when all of the attack got more than the budgets
that one address may have, or when memory grew by more than --growth-mb; else 0.
"""

import argparse
import concurrent.futures
import dataclasses
import itertools
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from .arrivals import Arrivals
from .keys_engine import PROCESSES, decide
from .metrics import Metrics
from .options import parser, positive
from .rates import UNBOUNDED
from .sender import Sender
from .stage import Stage, end_on_sigterm, memory
from .targets import Options, Target, start_mosquitto, start_target
from .victims import AMOUNT, ATTACKER, BURST, NAMES, PERIOD, RARE, RATE, Victims, address_of, lost
from .wire import PINGREQ, open_client, publish_packet

BUCKETS = 262_144
"""gateway.buckets by default."""
SHARE = BUCKETS // 16
"""Budgets that one address may make at once, and again in the time that a full debt takes to pass (budget.c)."""
LIFE = (BURST + 1) * PERIOD / AMOUNT
OWN = 20
"""Keys of the attacker's own."""
BATCH = 1000
"""Throwaway keys between two of the attacker's own."""
CONNECTING = 16
"""Clients that connect at a time."""
MESSAGES = 3
"""Of each client."""
SAMPLE_SECONDS = 1.0
SETTLE_SECONDS = 2.0
PAYLOAD = bytes(16)
MB = 1_000_000


@dataclasses.dataclass
class Part:
    """What one part showed."""

    name: str
    keys: int
    seconds: float
    asked: int
    """Messages of the attack."""
    passed: int
    own_most: int
    """Messages that passed, of that of the attacker's own keys which got the most."""
    crowded: int
    grown: int
    """Bytes of private memory, at the highest."""
    victims: dict[tuple[str, str], tuple[int, int]]
    """By kind and address: messages published, and lost."""
    trouble: list[str]

    @property
    def budget(self) -> float:
        """Messages of one key in the time of the attack."""
        return BURST + self.seconds * AMOUNT / PERIOD

    def allowed(self, messages: int) -> float:
        """Messages that may pass of all keys of one address, when each sends so many; the crowd's included."""
        return messages * SHARE * (1 + self.seconds / LIFE) + OWN * self.budget + self.budget


class Attacked(NamedTuple):
    """Throwaway keys used, and messages sent."""

    keys: int
    messages: int


Attack = Callable[[Target, int, float], Attacked]


def limit(name: str, per: str, topic: str) -> str:
    return f'[[limit]]\nname = "{name}"\nper = {per}\ntopic = "{topic}"\nrate = "{RATE}"\non_excess = "drop"\n'


POLICY = (
    limit("client-topic", '["client", "topic"]', "topics/#")
    + limit("topic", '"topic"', "topics/#")
    + limit("client", '"client"', "clients/#")
)


class Watch:
    """The highest private memory of a process tree, of once a second; a thread."""

    def __init__(self, pid: int) -> None:
        self.before = self.highest = memory(pid)["private"]
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.highest = max(self.highest, memory(self._pid)["private"])

    def grown(self) -> int:
        """Stop, and say by how many bytes it was larger at the highest."""
        self._stop.set()
        self._thread.join()
        return max(self.highest, memory(self._pid)["private"]) - self.before


def gateway(name: str, keys: int, attack: Attack, limit_name: str, arguments: argparse.Namespace) -> Part:
    """A part through the gateway."""
    options = Options(tidegate=arguments.tidegate_command, workers=2, policy=POLICY)
    with Stage() as stage:
        broker = start_mosquitto(stage, UNBOUNDED)
        target = start_target(stage, "tidegate-unix", broker, options)
        return live(name, target, broker.tcp, keys, attack, limit_name, arguments.seconds)


def live(
    name: str, target: Target, broker_port: int, keys: int, attack: Attack, limit_name: str, least_seconds: float
) -> Part:
    """The same, once all is started."""
    arrivals = Arrivals(broker_port, f"{name}/#")
    senders = {}
    for one in NAMES:
        sender = senders[one] = Sender(target.port, f"{name}/{one}", source=address_of(one))
        sender.connect()
    victims = Victims(NAMES, lambda one: senders[one].publish(f"{name}/victim/{one}", PAYLOAD, 0))
    victims.start()
    time.sleep(SETTLE_SECONDS)
    begin = time.monotonic()
    warm = attack(target, BATCH, 0.0)
    watch = Watch(target.pid)  # only now: what is made once, for the first keys, is not of the keys
    attacked = attack(target, keys, begin + least_seconds)
    seconds = time.monotonic() - begin
    grown = watch.grown()
    victims.stop()
    for sender in senders.values():
        sender.settle()
        sender.close()
    arrivals.settle()
    crowded = Metrics(target.admin).sum("tidegate_crowded_total", limit=limit_name)
    arrivals.close()
    return Part(
        name,
        warm.keys + attacked.keys,
        seconds,
        warm.messages + attacked.messages,
        arrivals.count(f"{name}/throwaway") + arrivals.count(f"{name}/own"),
        max(arrivals.count(f"{name}/own/{number}") for number in range(OWN)),
        crowded,
        grown,
        lost(victims.published, lambda one: arrivals.count(f"{name}/victim/{one}")),
        [victims.trouble] if victims.trouble else [],
    )


def attack_topics(target: Target, count: int, end: float) -> Attacked:
    """One client to so many random topics and at least until `end`, from the attacker's address."""
    sender = Sender(target.port, "attacker", source=ATTACKER)
    sender.connect()
    batches = 0
    pattern = publish_packet(f"topics/throwaway/{'x' * 16}", PAYLOAD)
    head, tail = pattern.split(b"x" * 16)
    while batches * BATCH < count or time.monotonic() < end:
        sender.write(publish_packet(f"topics/own/{batches % OWN}", PAYLOAD))
        random = secrets.token_hex(8 * BATCH).encode()
        sender.write(b"".join([head + random[at : at + 16] + tail for at in range(0, 16 * BATCH, 16)]))
        batches += 1
    sender.settle()
    sender.close()
    return Attacked(batches * BATCH, batches * (1 + BATCH))


def attack_clients(target: Target, count: int, end: float) -> Attacked:
    """So many clients, a few at a time, and at least until `end`; one of a hundred is the attacker's own."""
    numbers = itertools.count()
    lock = threading.Lock()

    def next_number() -> int | None:
        with lock:
            number = next(numbers)
        return number if number < count or time.monotonic() < end else None

    def connect(_: int) -> int:
        sent = 0
        while (number := next_number()) is not None:
            own = number % 100 == 0
            name = f"own/{number // 100 % OWN}" if own else f"throwaway/{secrets.token_hex(8)}"
            with open_client(target.port, name, source=ATTACKER) as client:
                topic = f"clients/{name}" if own else "clients/throwaway"
                client.sendall(publish_packet(topic, PAYLOAD) * MESSAGES + PINGREQ)
                client.recv(16)
                client.sendall(b"\xe0\x00")
                client.recv(16)
            sent += MESSAGES
        return sent

    with concurrent.futures.ThreadPoolExecutor(CONNECTING) as threads:
        sent = sum(threads.map(connect, range(CONNECTING)))
    return Attacked(sent // MESSAGES, sent)


def engine(count: int, least_seconds: float) -> Part:
    """The part without the network."""
    begin = time.monotonic()
    shares = decide(count // PROCESSES, begin + least_seconds, OWN, BATCH, BUCKETS)
    seconds = time.monotonic() - begin
    published = sum((one.published for one in shares), Counter())
    passed = sum((one.passed for one in shares), Counter())
    own = [sum(one.own[number] for one in shares) for number in range(OWN)]
    return Part(
        "engine",
        sum(one.keys for one in shares),
        seconds,
        sum(one.asked for one in shares),
        sum(one.throwaway for one in shares) + sum(own),
        max(own),
        sum(one.crowded for one in shares),
        max(one.grown for one in shares),
        lost(published, passed.__getitem__),
        [],
    )


def judge(part: Part, messages: int, growth_mb: int) -> list[str]:
    """What was not as promised; `messages` are those of one key."""
    wrong = list(part.trouble)
    if part.own_most > part.budget:
        wrong.append(
            f"{part.own_most} messages of one of the attacker's own keys passed, its budget is {part.budget:.0f}"
        )
    if part.passed > part.allowed(messages):
        wrong.append(f"{part.passed} messages of the attack passed, at most {part.allowed(messages):.0f} may")
    for (kind, address), (_, missing) in part.victims.items():
        if missing and (kind, address) != (RARE, ATTACKER):
            wrong.append(f"{missing} messages of {kind} victims at {address} were lost")
    if part.grown > growth_mb * MB:
        wrong.append(f"memory grew by {part.grown / MB:.1f} MB")
    return wrong


def table(part: Part, messages: int) -> str:
    lines = [
        f"\n{part.name}: {part.keys} keys in {part.seconds:.0f} s",
        f"  {'messages of the attack':46s} {part.asked:12d}",
        f"  {'  passed':46s} {part.passed:12d}   at most {part.allowed(messages):.0f}",
        f"  {'  counted in a crowd':46s} {part.crowded:12d}",
        f"  {'  passed, most of one of its own keys':46s} {part.own_most:12d}   budget {part.budget:.1f}",
        f"  {'memory grew by, MB':46s} {part.grown / MB:12.2f}",
    ]
    for (kind, address), (published, missing) in part.victims.items():
        whose = "the attacker's address" if address == ATTACKER else "another address"
        lines.append(f"  {f'{kind} victims at {whose}: messages':46s} {published:12d}   lost {missing}")
    return "\n".join(lines)


def main() -> None:
    line = parser("keys", __doc__)
    line.add_argument("--topics", type=positive, default=10_000_000, metavar="N")
    line.add_argument("--clients", type=positive, default=20_000, metavar="N")
    line.add_argument("--engine-clients", type=positive, default=10_000_000, metavar="N")
    line.add_argument("--seconds", type=positive, default=40, metavar="N", help="of each attack, at least")
    line.add_argument("--only", choices=["topics", "clients", "engine"], help="one of the parts")
    line.add_argument("--growth-mb", type=positive, default=8, metavar="N", help="of private memory, at most")
    arguments = line.parse_args()
    end_on_sigterm()
    parts: dict[str, tuple[int, Callable[[], Part]]] = {
        "topics": (1, lambda: gateway("topics", arguments.topics, attack_topics, "client-topic", arguments)),
        "clients": (MESSAGES, lambda: gateway("clients", arguments.clients, attack_clients, "client", arguments)),
        "engine": (1, lambda: engine(arguments.engine_clients, arguments.seconds)),
    }
    wrong = []
    for name, (messages, measure) in parts.items():
        if arguments.only in (None, name):
            part = measure()
            print(table(part, messages), flush=True)
            wrong += [f"{name}: {text}" for text in judge(part, messages, arguments.growth_mb)]
    for text in wrong:
        print(f"WRONG: {text}")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
