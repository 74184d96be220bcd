"""A flood at ten times what the broker can take: what well-behaved clients feel of it, with Tidegate and without.

    python -m benchmarks.flood [--targets direct,haproxy,tidegate] [--qos 0,1,2] [--protocols 3.1.1,5] [--seconds 10]
                               [--share 0.05] [--times 10] [--rate 20] [--burst 5] [--flooders 10]
                               [--on-excess delay] [--then ACTION] [--max-delay 5s] [--knee N]

The broker, a Mosquitto, may use --share of one core: a real CPU quota by the kernel's control groups (quota.py), which
takes root; nothing else is slowed. While its quota is used up it stands still, at most for the rest of a period of
1 ms / share. Twenty well-behaved clients publish 10 QoS 1 messages a second each, and one subscriber at QoS 1 gets
them. All latencies are from the planned time of a message to its arrival at the subscriber (company.py).

First the knee, for each QoS: the highest rate of a flood directly at the broker at which half of the well-behaved
messages still are not later than at rest plus a quarter of the quota's period. Then each target in turn, with a fresh
broker behind: --seconds without the flood, --seconds with a flood of --times the knee by --flooders clients
(flooder.py), and as long as it takes until nothing more comes. Tidegate has one limit for everybody, --rate a second
for each client, which all floods exceed many times and no well-behaved client does.

Printed are the percentiles of both phases, what was lost (refused and unacknowledged included), how much of the flood
the target took, how often the broker had used up its quota, and what Tidegate did. The others are beside it to
compare; judged is Tidegate: nothing lost, nobody disconnected, and a 99th percentile of at most twice what it was
without the flood, or 5 ms more.

Exit status: 0, or 1 when Tidegate did not keep to that.
"""

import argparse
import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Iterator

from .company import Company, Figures
from .flooder import Counts, Flood
from .metrics import Metrics
from .options import fraction, parser, positive, target_names
from .quota import Quota
from .stage import Stage, end_on_sigterm
from .streams import VERSIONS
from .targets import Broker, Options, start_mosquitto, start_target

CLIENTS = 20
EACH = 10.0
"""Messages per second of a well-behaved client."""
STEP_SECONDS = 2.0
"""Of one rate, when the knee is sought."""
LATER = 0.00025
"""Seconds / share: a quarter of the quota's period."""
FIRST_RATE = 500.0
GROWTH = 1.5
HALVINGS = 3
RAMP_SECONDS = 0.5
"""Of a rate that is not measured, when the knee is sought; a flood that is judged is judged from its first moment."""
READY_SECONDS = 60.0
SETTLE_SECONDS = 30.0
ACTIONS = ("delay", "drop", "reject", "disconnect", "observe")
LIMIT = """\
[[limit]]
name = "each"
per = "client"
rate = "{rate}/s burst {burst}"
on_excess = {action}
"""


@dataclasses.dataclass(frozen=True)
class Case:
    """One flood at one target."""

    target: str
    protocol: str
    qos: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What it did."""

    case: Case
    without: Figures
    during: Figures
    flood: Counts
    throttled: float
    """The share of the quota's periods, while the flood went on, that were used up."""
    limited: dict[str, int]
    """What became of what was over Tidegate's limit."""
    trouble: list[str]

    def wrong(self) -> list[str]:
        """What was not as promised."""
        found = list(self.trouble)
        if harm := self.without.harm + self.during.harm:
            found.append(f"{harm} well-behaved messages were lost")
        allowed = self.without.bearable
        if self.during.arrived[1] > allowed:
            found.append(f"p99 {self.during.arrived[1] * 1e3:.1f} ms, at most {allowed * 1e3:.1f} ms is allowed")
        return found


def policy(arguments: argparse.Namespace) -> str:
    """The limit, by what the command line says of it."""
    text = LIMIT.format(rate=arguments.rate, burst=arguments.burst, action=_action(arguments.on_excess))
    if arguments.max_delay:
        text += f'max_delay = "{arguments.max_delay}"\n'
    if arguments.then:
        text += f"then = {_action(arguments.then)}\n"
    return text


def _action(text: str) -> str:
    return f'"{text}"' if text in ACTIONS else text


@contextlib.contextmanager
def slowed(share: float) -> Iterator[tuple[Stage, Quota, Broker]]:
    """A broker that may use so much of a core."""
    with Quota(share) as quota, Stage() as stage:
        broker = start_mosquitto(stage)
        quota.take(broker.pid)
        yield stage, quota, broker


def find_knee(share: float, qos: int, flooders: int) -> float:
    """Messages per second of a flood directly at the broker. Prints what is tried."""
    bound = _median(share, qos, 0.0, flooders) + LATER / share

    def bears(rate: float) -> bool:
        return _median(share, qos, rate, flooders) <= bound

    low, high = 0.0, FIRST_RATE
    while bears(high):
        low, high = high, high * GROWTH
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if bears(middle) else (low, middle)
    return low


def _median(share: float, qos: int, rate: float, flooders: int) -> float:
    """Of the well-behaved messages' latency, in seconds, under a flood at this rate."""
    with slowed(share) as (stage, quota, broker):
        company = Company(broker.tcp, broker.tcp, clients=CLIENTS, each=EACH)
        company.start()
        if rate:
            Flood(stage, "flood", broker.tcp, rate, qos=qos, clients=flooders).wait_ready(READY_SECONDS)
        time.sleep(RAMP_SECONDS)
        before, begin = quota.throttling(), time.monotonic()
        time.sleep(STEP_SECONDS)
        throttled, end = quota.throttling().since(before), time.monotonic()
        company.stop(SETTLE_SECONDS)
        figures = company.between(begin, end)
    median, high = figures.arrived
    print(
        f"  QoS {qos} {rate:8.0f}/s: p50 {median * 1e3:6.1f} ms, p99 {high * 1e3:6.1f} ms, quota used {throttled:4.0%}",
        flush=True,
    )
    if figures.harm:
        return math.inf
    return median


def measure(case: Case, rate: float, arguments: argparse.Namespace) -> Outcome:
    """One flood of `rate` messages per second at one target."""
    version = VERSIONS[case.protocol]
    options = Options(tidegate=arguments.tidegate_command, policy=policy(arguments))
    with slowed(arguments.share) as (stage, quota, broker):
        target = start_target(stage, case.target, broker, options)
        company = Company(target.port, target.port, clients=CLIENTS, each=EACH, version=version)
        company.start()
        time.sleep(RAMP_SECONDS)
        begin = time.monotonic()
        time.sleep(arguments.seconds)
        between = time.monotonic()
        before = quota.throttling()
        flood = Flood(
            stage, "flood", target.port, rate, qos=case.qos, protocol=case.protocol, clients=arguments.flooders
        )
        flood.wait_ready(READY_SECONDS)
        time.sleep(arguments.seconds)
        throttled, end = quota.throttling().since(before), time.monotonic()
        counts = flood.stop()
        company.stop(SETTLE_SECONDS)
        limited = {}
        if target.admin:
            limited = Metrics(target.admin).by("tidegate_limited_total", "action")
        return Outcome(
            case,
            company.between(begin, between),
            company.between(between, end),
            counts,
            throttled,
            {action: count for action, count in limited.items() if count},
            company.trouble,
        )


HEAD = f"""\
{"":16s} {"flood, messages/s":>17s} {"quota":>5s} {"p50 ms":>13s} {"p99 ms":>13s} {"lost":>5s}
{"":16s} {"due":>8s} {"taken":>8s} {"used":>5s} {"rest":>6s} {"flood":>6s} {"rest":>6s} {"flood":>6s}"""


def row(outcome: Outcome) -> str:
    """A line of the table."""
    case, flood = outcome.case, outcome.flood
    latencies = [
        f"{figures.arrived[index] * 1e3:6.1f}" for index in (0, 1) for figures in (outcome.without, outcome.during)
    ]
    notes = [f"{count} {action}" for action, count in outcome.limited.items()]
    notes += [f"{count} flooders closed, {reason}" for reason, count in flood.closed.items()]
    if case.target.startswith("tidegate"):
        notes.append("FAIL: " + "; ".join(outcome.wrong()) if outcome.wrong() else "PASS")
    else:
        notes += outcome.trouble[:1]
    return (
        f"{case.target:16s} {flood.due / flood.seconds:8.0f} {flood.published / flood.seconds:8.0f}"
        f" {outcome.throttled:5.0%} {' '.join(latencies)} {outcome.without.harm + outcome.during.harm:5d}"
        f"  {', '.join(notes)}"
    )


def numbers(text: str) -> list[int]:
    found = text.split(",")
    if not all(one in ("0", "1", "2") for one in found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of 0, 1 and 2")
    return [int(one) for one in found]


def protocols(text: str) -> list[str]:
    found = text.split(",")
    if not all(one in VERSIONS for one in found):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of {', '.join(VERSIONS)}")
    return found


def main() -> None:
    line = parser("flood", __doc__)
    line.add_argument("--targets", type=target_names, default=["direct", "haproxy", "tidegate"], metavar="TARGET,...")
    line.add_argument("--qos", type=numbers, default=[0, 1, 2], metavar="QOS,...", help="of the floods")
    line.add_argument("--protocols", type=protocols, default=list(VERSIONS), metavar="VERSION,...")
    line.add_argument("--seconds", type=positive, default=10, metavar="N", help="of each of the two phases")
    line.add_argument("--share", type=fraction, default=0.05, metavar="X", help="of a core, for the broker")
    line.add_argument("--times", type=positive, default=10, metavar="N", help="the flood, as a multiple of the knee")
    line.add_argument("--rate", type=positive, default=20, metavar="N", help="messages per second of the limit")
    line.add_argument("--burst", type=positive, default=5, metavar="N")
    line.add_argument("--flooders", type=positive, default=10, metavar="N", help="clients that flood")
    line.add_argument("--on-excess", default="delay", metavar="ACTION", help="or a table by case, as TOML")
    line.add_argument("--then", default="", metavar="ACTION", help="likewise, for what was delayed too long")
    line.add_argument("--max-delay", default="", metavar="TIME")
    line.add_argument(
        "--knee", type=float, metavar="N", help="of all QoS, in messages per second, instead of seeking each"
    )
    arguments = line.parse_args()
    end_on_sigterm()
    failed = False
    for qos in arguments.qos:
        print(f"The knee of QoS {qos}, with {arguments.share:.0%} of a core for the broker:", flush=True)
        knee = arguments.knee or find_knee(arguments.share, qos, arguments.flooders)
        print(f"  knee: {knee:.0f} messages/s", flush=True)
        for protocol in arguments.protocols:
            print(f"\nA flood of QoS {qos}, MQTT {protocol}, at {arguments.times} x the knee:\n{HEAD}", flush=True)
            for target in arguments.targets:
                outcome = measure(Case(target, protocol, qos), knee * arguments.times, arguments)
                print(row(outcome), flush=True)
                failed |= target.startswith("tidegate") and bool(outcome.wrong())
        print()
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
