"""A flood of ten times the limit: with the plugin the broker works less for it, and others wait less.

Two brokers in turn, started anew for each round and alone on a core, all else on another: `bare`, and `plugged` with
the plugin and one limit for each client. Ten clients (flooder.py) publish ten times what that limit lets through, about
as much as the bare broker can take; three others have subscribed to the flood at QoS 0. Twenty well-behaved clients
(company.py) publish 20 messages of QoS 1 a second each, and measure from the moment at which a message was planned to
its arrival. Which broker is first changes from round to round.

Compared are the CPU time of the broker until it has done with the flood, all else that it did meanwhile included, by
the messages that the flooders could send, and the 99th percentile of the others while it went on. Judged is the upper
end of the interval of the median ratio (intervals.py), and that others lose nothing. Where others had the broker's core
for long ("starved"), the machine was not idle and latencies say little.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable

from .claims import Claim, at_most, exactly, none
from .company import Company
from .cores import apart, keep_on
from .flooder import Flood
from .intervals import of_median
from .machine import describe
from .plugin_cost import BARE, PLUGGED
from .plugin_setting import Setting
from .report import machine_table
from .stage import Stage, cpu_nanoseconds, starved_nanoseconds
from .wire import open_client, publish_packet, subscribe_packet

TIMES = 10
FLOODERS = 10
SUBSCRIBERS = 3
"""Of the flood."""
CLIENTS, EACH = 20, 20.0
FLOOD_SECONDS = 3.0
RAMP_SECONDS = 0.5
"""Of the flood before it is measured: budgets' bursts are spent, clients are known."""
READY_SECONDS = 60.0
SETTLE_SECONDS = 30.0
FLOOD_SETTLE_SECONDS = 12
"""A flooder that left sooner would take back what the broker has not read yet; less than a stage lets it take."""
READ_SECONDS = 0.02
"""Between two reads of those who have subscribed: what they cost must not be felt on the core that all share."""
READ_BYTES = 1 << 20
REST_SECONDS, REST_NANOSECONDS = 0.3, 10_000_000
"""A broker that wanted less of a core in that time has nothing to do but to tick."""
TOPIC = "flood"
SIZE = 64
"""Bytes of a payload."""
POLICY = """\
[[limit]]
name = "each"
per = "client"
rate = "{rate}/s burst {rate}"
on_excess = "reject"
"""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A flood."""

    name: str
    qos: int
    protocol: str
    rate: int
    """Messages per second of all flooders."""

    @property
    def limit(self) -> int:
        """Messages per second of each client."""
        return self.rate // FLOODERS // TIMES


KINDS = (Kind("QoS 0", 0, "3.1.1", 50_000), Kind("QoS 1", 1, "5", 25_000))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of one flood at one broker."""

    cpu: float
    """Microseconds of the broker for each message of the flood that was sent."""
    starved: float
    """The share of the time in which it wanted to run and others had its core: on an idle machine hardly any."""
    p99: float
    """Seconds, of the others."""
    median: float
    due: int
    """Messages of the flood, by its plan."""
    published: int
    seen: int
    """By each who has subscribed."""
    harm: int
    trouble: list[str]


class Watching:
    """Subscribers of the flood, on a thread that does hardly anything: messages are counted by their bytes."""

    def __init__(self, port: int) -> None:
        self.bytes = 0
        self._stop = threading.Event()
        self._sockets = [open_client(port, f"watching-{number}") for number in range(SUBSCRIBERS)]
        for one in self._sockets:
            one.sendall(subscribe_packet(TOPIC, 0))
            one.setblocking(False)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def messages(self) -> int:
        """That each of them has got."""
        return self.bytes // len(publish_packet(TOPIC, bytes(SIZE))) // SUBSCRIBERS

    def close(self) -> None:
        """Leave."""
        self._stop.set()
        self._thread.join()
        for one in self._sockets:
            one.close()

    def _read(self) -> None:
        while not self._stop.wait(READ_SECONDS):
            for one in self._sockets:
                with contextlib.suppress(BlockingIOError):
                    self.bytes += len(one.recv(READ_BYTES))


def flood(setting: Setting) -> list[Claim]:
    """The demonstration."""
    print(machine_table({**describe(setting.tidegate), "broker": setting.mosquitto}), flush=True)
    return [claim for kind in KINDS for claim in _compare(setting, kind)]


def _compare(setting: Setting, kind: Kind) -> list[Claim]:
    rounds: list[dict[str, Outcome]] = []
    for number in range(setting.rounds):
        order = (BARE, PLUGGED) if number % 2 else (PLUGGED, BARE)
        with apart() as core:
            rounds.append({name: _run(setting, kind, name, core) for name in order})
        print(
            f"  {kind.name}, round {number + 1}: {'; '.join(_line(name, rounds[-1][name]) for name in (BARE, PLUGGED))}"
        )

    def ratio(of: Callable[[Outcome], float], what: str) -> Claim:
        found = of_median([of(one[PLUGGED]) / of(one[BARE]) for one in rounds])
        print(f"  {kind.name}: {what}, plugged / bare {found}", flush=True)
        return at_most(f"{kind.name}: upper end of {what}, plugged / bare", 1.0, found.high, "x")

    plugged = [one[PLUGGED] for one in rounds]
    return [
        ratio(lambda one: one.cpu, "the broker's CPU"),
        ratio(lambda one: one.p99, "the others' p99"),
        exactly(f"{kind.name}: messages of others lost with the plugin", 0, sum(one.harm for one in plugged)),
        none(f"{kind.name}: others that were disconnected", [text for one in plugged for text in one.trouble]),
    ]


def _run(setting: Setting, kind: Kind, name: str, core: int | None) -> Outcome:
    with Stage() as stage:
        policy = POLICY.format(rate=kind.limit)
        broker = setting.bare(stage) if name == BARE else setting.plugged(stage, policy)
        keep_on(core, broker.pid)
        watching = Watching(broker.tcp)
        company = Company(broker.tcp, broker.tcp, clients=CLIENTS, each=EACH)
        company.start()
        cpu = cpu_nanoseconds(broker.pid)
        flooding = Flood(
            stage,
            TOPIC,
            broker.tcp,
            kind.rate,
            qos=kind.qos,
            protocol=kind.protocol,
            clients=FLOODERS,
            size=SIZE,
            settle=FLOOD_SETTLE_SECONDS,
        )
        flooding.wait_ready(READY_SECONDS)
        time.sleep(RAMP_SECONDS)
        begin, starved = time.monotonic(), starved_nanoseconds(broker.pid)
        time.sleep(FLOOD_SECONDS)
        end, starved = time.monotonic(), starved_nanoseconds(broker.pid) - starved
        counts = flooding.stop()
        company.stop(SETTLE_SECONDS)
        cpu = _at_rest(broker.pid) - cpu
        watching.close()
    figures = company.between(begin, end)
    return Outcome(
        cpu / 1e3 / counts.published,
        starved / 1e9 / (end - begin),
        figures.arrived[1],
        figures.arrived[0],
        counts.due,
        counts.published,
        watching.messages,
        figures.harm,
        company.trouble,
    )


def _at_rest(pid: int) -> int:
    """The broker's CPU time so far, in nanoseconds, once it has nothing left to do."""
    deadline = time.monotonic() + SETTLE_SECONDS
    wanted = -REST_NANOSECONDS
    while time.monotonic() < deadline:
        before, wanted = wanted, cpu_nanoseconds(pid) + starved_nanoseconds(pid)
        if wanted - before < REST_NANOSECONDS:
            break
        time.sleep(REST_SECONDS)
    return cpu_nanoseconds(pid)


def _line(name: str, one: Outcome) -> str:
    return (
        f"{name} {one.cpu:.2f} us a message (starved {one.starved:.0%}), others p50 {one.median * 1e3:.2f} ms"
        f" p99 {one.p99 * 1e3:.2f} ms, sent {one.published} of {one.due}, seen {one.seen}"
    )
