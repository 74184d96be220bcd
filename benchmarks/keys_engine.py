"""The engine under fresh keys, without a gateway: processes that share a segment, as workers do."""

import dataclasses
import ipaddress
import multiprocessing
import os
import secrets
import time
from collections import Counter
from fractions import Fraction
from multiprocessing.queues import SimpleQueue

from tidegate.engine.binding import Engine, Subject
from tidegate.gateway.policy_host import PolicyHost
from tidegate.policy.model import Action, ByClass, Cases, Event, Limit, Policy, Rate

from .stage import memory
from .victims import AMOUNT, ATTACKER, BURST, NAMES, PERIOD, Victims, address_of

PROCESSES = 2
LIMIT = Limit(
    "client", Event.PUBLISH, Cases(Action.DROP), rate=ByClass((Rate(AMOUNT, Fraction(round(PERIOD)), BURST),))
)
TOPIC = b"topic"
PAYLOAD = 16


@dataclasses.dataclass
class Share:
    """What one process has seen."""

    keys: int
    asked: int
    throwaway: int
    """Messages of throwaway keys that passed."""
    own: list[int]
    """Likewise of each of the attacker's own."""
    crowded: int
    grown: int
    """Bytes of private memory."""
    published: Counter[str]
    """By victims."""
    passed: Counter[str]


class Process:
    """Decides as a worker would, for clients that need no connection."""

    def __init__(self, host: PolicyHost, row: int) -> None:
        self._engine = Engine(host.segment, row, row)
        self._engine.load(host.segment.policy())
        self._names = NAMES[row::PROCESSES]
        self._subjects = {name: self._subject(name.encode(), address_of(name)) for name in self._names}
        self._passed: Counter[str] = Counter()

    def _subject(self, client_id: bytes, address: str) -> Subject:
        return self._engine.subject(client_id, None, ipaddress.ip_address(address).packed, b"", 4)

    def _passes(self, subject: Subject) -> bool:
        packet = PAYLOAD + len(TOPIC) + 4
        action = self._engine.decide(subject, TOPIC, 0, len(TOPIC), 0, False, packet, PAYLOAD, False, time.monotonic())
        return action == 0

    def _publish(self, name: str) -> None:
        self._passed[name] += self._passes(self._subjects[name])

    def attack(self, count: int, end: float, own: int, batch: int) -> Share:
        """So many throwaway keys and at least until `end`, one of `own` after each batch, and victims meanwhile."""
        victims = Victims(self._names, self._publish)
        victims.begin(time.monotonic())
        mine = [self._subject(b"own/%d" % number, ATTACKER) for number in range(own)]
        passed = [0] * own
        number = throwaway = before = 0
        while number * batch < count or time.monotonic() < end:
            victims.go_on(time.monotonic())
            passed[number % own] += self._passes(mine[number % own])
            random = secrets.token_bytes(8 * batch)
            for at in range(0, 8 * batch, 8):
                throwaway += self._passes(self._subject(random[at : at + 8].hex().encode(), ATTACKER))
            number += 1
            if number == 1:  # what is made once is not of the keys
                before = memory(os.getpid())["private"]
        grown = memory(os.getpid())["private"] - before
        return Share(number * batch, number * (1 + batch), throwaway, passed, 0, grown, victims.published, self._passed)


def decide(count: int, end: float, own: int, batch: int, buckets: int) -> list[Share]:
    """So many throwaway keys in each of the processes at once, and at least until `end`."""
    host = PolicyHost(Policy(limits=(LIMIT,)), workers=PROCESSES, buckets=buckets, largest_packet=1 << 20)
    context = multiprocessing.get_context("fork")  # who is forked has the segment
    shares: SimpleQueue[Share] = context.SimpleQueue()

    def run(row: int) -> None:
        shares.put(Process(host, row).attack(count, end, own, batch))

    processes = [context.Process(target=run, args=(row,)) for row in range(PROCESSES)]
    for process in processes:
        process.start()
    found = [shares.get() for _ in processes]
    for process in processes:
        process.join()
    (counts,) = host.counts(time.monotonic())
    found[0].crowded = counts.crowded
    os.close(host.fd)
    return found
