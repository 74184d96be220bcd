"""Floods of what is no ordinary message: PINGREQs, subscriptions that come and go, retained messages.

Six clients (pester.py) at once, each with a limit that it exceeds many times: 2,000 PINGREQs a second under a limit on
packets that delays (MQTT 3.1.1) and one that disconnects (5); 500 pairs of SUBSCRIBE and UNSUBSCRIBE a second under one
on subscriptions that delays (3.1.1) and one that rejects (5); 500 retained messages a second, each on a topic of its
own, under one on retained messages by number that drops (3.1.1) and one by bytes that rejects (5). Twenty well-behaved
clients (company.py) publish before it and meanwhile. Those that flood keep their connections, but for the one that is
to be disconnected, and the one whose subscriptions wait: where a thousand do, UNSUBSCRIBE cannot be refused.

What was granted must be burst + rate x time, within 2 %: PINGRESPs and SUBACKs as the client counts them; where the
client is disconnected before it has its answers, what the limit says it has let pass; retained messages, all of one
size, as a subscriber gets them that comes when all is over.

Beside it, not judged, bare Mosquitto: what it grants, and what that costs it.
"""

import dataclasses
import time

from .claims import Claim, exactly, holds, within
from .company import Company, Figures, undisturbed
from .metrics import Metrics
from .peer import Arrived, Peer, heard, join, leave
from .pester import Counts, Pestering
from .rates import UNBOUNDED
from .stage import Stage, cpu_seconds
from .subscribers_setting import Setting, limit
from .targets import Broker, Target, start_mosquitto
from .wire import publish_packet

TOLERANCE = 0.02
CLIENTS, EACH = 20, 10.0
REST_SECONDS = 5.0
READY_SECONDS = 30.0
SETTLE_SECONDS = 10.0
QUIET_SECONDS = 1.0
SIZE = 200
"""Bytes of a retained payload."""
LEAST_TIMES = 3
"""A flood must want so many times what it may."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One flood and its limit."""

    name: str
    """Of the limit and the client."""
    kind: str
    protocol: str
    rate: float
    """That the client wants, per second."""
    allowed: int
    """That it may, per second."""
    burst: int
    event: str
    keys: tuple[str, ...]
    """Of the limit, but for its measure."""
    unit: int = 1
    """Bytes of each where bytes are counted."""
    stays: bool = True
    """The client is promised to keep its connection."""

    def limit(self) -> str:
        """Its `[[limit]]`."""
        numbers = f'rate = "{self.allowed}/s burst {self.burst}"'
        if self.unit > 1:
            numbers = f'bandwidth = "{self.allowed * self.unit}B/s burst {self.burst * self.unit}B"'
        return limit(self.name, self.event, f'client_id = "{self.name}"', numbers, *self.keys)


RETAINED = len(publish_packet("retain-bytes/000000", bytes(SIZE), 1, 1, 5))
CASES = (
    Case("ping-delay", "ping", "3.1.1", 2000, 50, 100, "packet", ('on_excess = "delay"',)),
    Case("ping-disconnect", "ping", "5", 2000, 50, 100, "packet", ('on_excess = "disconnect"',), stays=False),
    Case("subscribe-delay", "subscribe", "3.1.1", 500, 20, 40, "subscribe", ('on_excess = "delay"',), stays=False),
    Case("subscribe-reject", "subscribe", "5", 500, 20, 40, "subscribe", ('on_excess = "reject"',)),
    Case("retain-drop", "retain", "3.1.1", 500, 20, 40, "publish", ("retain = true", 'on_excess = "drop"')),
    Case(
        "retain-bytes", "retain", "5", 500, 20, 40, "publish", ("retain = true", 'on_excess = "reject"'), RETAINED
    ),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of all floods at one door."""

    counts: dict[str, Counts]
    granted: dict[str, int]
    """What each case was granted."""
    rest: Figures
    during: Figures
    trouble: list[str]
    cpu: float
    """Of the broker, in cores, during the floods."""

    def tell(self, name: str) -> None:
        """Print it."""
        for case, granted in self.granted.items():
            counts = self.counts[case]
            more = f", refused {counts.refused}" if counts.refused else ""
            more += f", closed {counts.closed}" if counts.closed else ""
            print(f"  {name}: {case}: due {counts.due}, sent {counts.sent}, granted {granted}{more}")
        print(
            f"  {name}: the others' p99, ms: {self.rest.arrived[1] * 1e3:.1f} before,"
            f" {self.during.arrived[1] * 1e3:.1f} then; the broker used {self.cpu:.2f} of a core",
            flush=True,
        )


def floods(setting: Setting) -> list[Claim]:
    """The demonstration."""
    with Stage() as stage:
        broker = start_mosquitto(stage, UNBOUNDED)
        _flood(stage, broker, Target("direct", broker.tcp, broker.pid), setting.seconds).tell("mosquitto alone")
    with Stage() as stage:
        broker = start_mosquitto(stage, UNBOUNDED)
        target = setting.gateway(stage, broker, "\n".join(case.limit() for case in CASES), workers=2)
        outcome = _flood(stage, broker, target, setting.seconds)
    outcome.tell("tidegate")
    claims = []
    for case in CASES:
        counts = outcome.counts[case.name]
        budget = case.burst + case.allowed * counts.seconds
        low, high = round(budget * (1 - TOLERANCE)), round(budget * (1 + TOLERANCE))
        claims += [
            holds(f"{case.name}: wanted much more than it may", counts.due > LEAST_TIMES * budget),
            within(f"{case.name}: granted in {counts.seconds:.1f} s", low, high, outcome.granted[case.name], ""),
        ]
        if case.stays:
            claims.append(exactly(f"{case.name}: times that it was disconnected", 0, sum(counts.closed.values())))
    return [*claims, *undisturbed("others", outcome.rest, outcome.during, outcome.trouble)]


def _flood(stage: Stage, broker: Broker, target: Target, seconds: int) -> Outcome:
    company = Company(target.port, broker.tcp, clients=CLIENTS, each=EACH)
    company.start()
    rest = time.monotonic()
    time.sleep(REST_SECONDS)
    begin, cpu = time.monotonic(), cpu_seconds(broker.pid)
    running = {
        case.name: Pestering(
            stage, case.name, target.port, case.kind, rate=case.rate, protocol=case.protocol, size=SIZE
        )
        for case in CASES
    }
    for one in running.values():
        one.wait_ready(READY_SECONDS)
    time.sleep(seconds)
    counts = {name: one.stop() for name, one in running.items()}
    end = time.monotonic()
    cpu = (cpu_seconds(broker.pid) - cpu) / (end - begin)
    company.stop(SETTLE_SECONDS)
    granted = {case.name: _granted(case, counts[case.name], broker, target) for case in CASES}
    return Outcome(counts, granted, company.between(rest, begin), company.between(begin, end), company.trouble, cpu)


def _granted(case: Case, counts: Counts, broker: Broker, target: Target) -> int:
    if case.kind == "retain":
        return _retained(broker.tcp, f"{case.name}/#")
    if case.name == "ping-disconnect" and target.admin:
        return Metrics(target.admin).sum("tidegate_passed_total", limit=case.name)
    return counts.granted


def _retained(port: int, topic_filter: str) -> int:
    """Messages that a broker has retained there; it must not have a bound for its queue."""
    peer = Peer(port, "counting")
    join([peer])
    peer.subscribe(topic_filter, 0)
    found = 0
    quiet_at = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < quiet_at:
        for _, events in heard([peer], 0.1):
            quiet_at = time.monotonic() + QUIET_SECONDS
            found += sum(isinstance(event, Arrived) for event in events)
    leave([peer])
    return found
