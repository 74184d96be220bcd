"""A storm of connections from four addresses, while fifty clients go on publishing and others come.

stormer.py opens --rate connections a second: of four, one never says anything, one only half of its CONNECT, one
connects, authenticates and leaves at once, and one resets the connection as soon as it has sent its CONNECT. Fifty
clients (company.py), admitted before, publish 10 QoS 1 messages a second each, and one subscriber gets them. Every half
a second somebody comes from an address that has no part in it (newcomers.py). First for --seconds without the storm,
then with it, each time with a fresh broker.

So for bare Mosquitto, HAProxy with `rate-limit sessions` and with a stick table, and Tidegate with a limit per address
that drops, that rejects and that delays, and with one for all together that delays (doors.py). The broker's log tells
who reached it. With --share it may use so much of a core and no more, as a small machine's. The others are beside it
to compare; judged is Tidegate.
"""

import contextlib
import time
from dataclasses import dataclass

from .claims import Claim, at_most, none
from .company import Company, Figures, undisturbed
from .connections_setting import Setting
from .doors import DOORS, Door
from .guestbook import start_noted
from .metrics import Metrics
from .newcomers import Newcomers
from .quota import Quota
from .stage import Stage, cpu_seconds, peak_memory
from .stormer import Counts, Storm, sources
from .targets import Target

CLIENTS, EACH = 50, 10.0
WAIT_SECONDS = 1.0
"""In which a newcomer must be let in."""
READY_SECONDS = 30.0
SETTLE_SECONDS = 15.0
RAMP_SECONDS = 0.5
LATE_SECONDS = 0.25
"""In which those who came last are accepted, once the storm is over."""
MOST_MEMORY = 32
"""MiB that a storm may make a gateway grow by."""
MIB = 1 << 20


@dataclass(frozen=True)
class Outcome:
    """What a storm did at one door."""

    door: Door
    sources: int
    """Addresses of the storm."""
    without: Figures
    during: Figures
    rest_waits: list[float]
    waits: list[float]
    """Of newcomers, in seconds, without and with the storm."""
    refusals: list[str]
    trouble: list[str]
    storm: Counts
    at_broker: int
    """CONNECTs of the storm that the broker accepted."""
    unsaid: int
    """Connections that were opened to the broker without a CONNECT that it accepted."""
    cpu: float
    """Of the door, in cores, during the storm."""
    grown: float
    """MiB, at the highest."""
    passed: int
    """Connections of the storm that a limit of Tidegate let pass, by its own account."""

    def row(self) -> str:
        """A line of the table."""
        arrived = [f"{one.arrived[index] * 1e3:6.1f}" for index in (0, 1) for one in (self.without, self.during)]
        waits = [f"{max(some, default=0.0) * 1e3:6.0f}" for some in (self.rest_waits, self.waits)]
        return (
            f"  {self.door.name:21s} {self.storm.connects / self.storm.seconds:7.0f} {self.at_broker:7d}"
            f" {self.unsaid:7d} {' '.join(arrived)} {' '.join(waits)} {len(self.refusals):6d} {len(self.trouble):6d}"
            f" {self.cpu:5.2f}  {self.storm.outcomes()}"
        )

    def claims(self) -> list[Claim]:
        """What Tidegate promises."""
        assert self.door.budget is not None
        budget = self.door.budget(self.storm.seconds + LATE_SECONDS, self.sources)
        return [
            *undisturbed("admitted clients", self.without, self.during, self.trouble),
            none(f"newcomers that were not let in, of {len(self.waits) + len(self.refusals)}", self.refusals),
            at_most("longest wait of a newcomer", WAIT_SECONDS, max(self.waits, default=0.0), "s"),
            at_most(
                f"connections of the storm at the broker, of {self.storm.connects}",
                round(budget),
                self.at_broker + self.unsaid,
                "",
            ),
            at_most("of these that it says it has let pass", round(budget), self.passed, ""),
            at_most("resident memory grew at the highest by", MOST_MEMORY, self.grown, "MiB"),
        ]


HEAD = f"""\
  {"":21s} {"storm":>7s} {"at the broker":>15s} {"p50 ms":>13s} {"p99 ms":>13s} {"newcomers, ms":>20s}
  {"":21s} {"/s":>7s} {"CONNECT":>7s} {"without":>7s} {"rest":>6s} {"storm":>6s} {"rest":>6s} {"storm":>6s}\
 {"rest":>6s} {"storm":>6s} {"failed":>6s} {"ended":>6s} {"CPU":>5s}"""


def storm(setting: Setting) -> list[Claim]:
    """The demonstration."""
    claims: list[Claim] = []
    print(HEAD, flush=True)
    for door in DOORS:
        outcome = _measure(door, setting)
        print(outcome.row(), flush=True)
        if door.budget is not None:
            found = [claim._replace(what=f"{door.name}: {claim.what}") for claim in outcome.claims()]
            claims += found
    return claims


def _measure(door: Door, setting: Setting) -> Outcome:
    with contextlib.ExitStack() as ending:
        quota = ending.enter_context(Quota(setting.share)) if setting.share else None
        stage = ending.enter_context(Stage())
        broker, guests = start_noted(stage)
        if quota:
            quota.take(broker.pid)
        target = door.start(stage, broker, setting.tidegate)
        company = Company(target.port, target.port, clients=CLIENTS, each=EACH)
        company.start()
        before = _passed(target)
        newcomers = Newcomers(target.port)
        time.sleep(RAMP_SECONDS)
        begin = time.monotonic()
        time.sleep(setting.seconds)
        base, cpu, known = peak_memory(target.pid), cpu_seconds(target.pid), guests.connections() - guests.let_in()
        between = time.monotonic()
        crowd = Storm(stage, "storm", target.port, setting.rate, sources=",".join(sources(setting.sources)))
        crowd.wait_ready(READY_SECONDS)
        time.sleep(setting.seconds)
        end = time.monotonic()
        cpu = (cpu_seconds(target.pid) - cpu) / (end - between)
        grown = (peak_memory(target.pid) - base) / MIB
        counts = crowd.stop()
        newcomers.stop()
        company.stop(SETTLE_SECONDS)
        return Outcome(
            door,
            setting.sources,
            company.between(begin, between),
            company.between(between, end),
            newcomers.waits(begin, between),
            newcomers.waits(between, end),
            newcomers.refusals(begin, end),
            company.trouble,
            counts,
            guests.let_in("storm-"),
            guests.connections() - guests.let_in() - known,
            cpu,
            grown,
            _passed(target) - before - newcomers.count,
        )


def _passed(target: Target) -> int:
    """Connections that Tidegate's limit has let pass; 0 where there is none."""
    return Metrics(target.admin).sum("tidegate_passed_total") if target.admin else 0
