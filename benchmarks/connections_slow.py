"""Connections that are slow to say what they want (SlowITe and the like), while fifty clients go on publishing.

A thousand send half of a CONNECT and no more, a thousand nothing at all; then a hundred send their CONNECT by a byte a
second, and a hundred are admitted and send a PUBLISH by a byte a second, each byte in time for every timeout that
counts silence. Tidegate has a `connect_timeout` and a `packet_timeout` of three seconds. Bare Mosquitto, and HAProxy,
told to wait as long for the whole of a CONNECT, are beside it to compare: what the broker has open for them, and what
is still there when Tidegate's are gone.
"""

import time
from dataclasses import dataclass

import psutil

from .claims import Claim, exactly, within
from .company import Company, Figures, undisturbed
from .connections_setting import Setting
from .doors import INSPECT
from .metrics import Metrics
from .stage import Stage
from .stormer import Counts, Storm
from .targets import Broker, Options, Target, start_mosquitto, start_target

TIMEOUT = 3
"""Seconds."""
KEYS = f'connect_timeout = "{TIMEOUT}s"\npacket_timeout = "{TIMEOUT}s"\n'
TARGETS = ("direct", "haproxy", "tidegate-unix")
CLIENTS, EACH = 50, 10.0
REST_SECONDS = 5.0
STARTING, TRICKLING = 2000, 200
"""Connections that do not finish their CONNECT, and that trickle, half of each kind."""
RATE = 2000.0
"""Of them, a second."""
HELD_SECONDS = 2.5
"""After which all are there, and none is gone."""
EARLY, LATE = 0.5, 1.5
"""Seconds by which a timeout may come before or after its time."""
READY_SECONDS = 30.0
SETTLE_SECONDS = 10.0
RAMP_SECONDS = 0.5


@dataclass(frozen=True)
class Siege:
    """Some slow connections: what they did, and how many connections the broker had for them, early and late."""

    counts: Counts
    held: int
    left: int


@dataclass(frozen=True)
class Outcome:
    """What became of them at one target."""

    name: str
    without: Figures
    during: Figures
    trouble: list[str]
    starting: Siege
    """Those that do not finish their CONNECT."""
    trickling: Siege
    timeouts: dict[str, int]

    def row(self) -> str:
        """A line of the table."""
        tallies = [tally for siege in (self.starting, self.trickling) for tally in siege.counts.kinds.values()]
        gone = [f"{f'{tally.closed} of {tally.connects}':12s}" for tally in tallies]
        latency = f"{self.without.arrived[1] * 1e3:6.1f} {self.during.arrived[1] * 1e3:6.1f}"
        broker = f"{self.starting.held:6d} {self.starting.left:6d} {self.trickling.left:6d}"
        return f"  {self.name:14s} {' '.join(gone)} {broker}  {latency}"

    def claims(self) -> list[Claim]:
        """What Tidegate promises."""
        found = [
            exactly("connections at the broker of those who do not finish CONNECT", 0, self.starting.held),
            exactly("connections at the broker when they are gone", 0, self.starting.left),
            exactly("connections at the broker when those that trickle are gone", 0, self.trickling.left),
            *undisturbed("admitted clients", self.without, self.during, self.trouble),
        ]
        for siege in (self.starting, self.trickling):
            for kind, tally in siege.counts.kinds.items():
                found += [
                    exactly(f"{kind}: gone, of {tally.connects}", tally.connects, tally.closed),
                    within(f"{kind}: the first after", TIMEOUT - EARLY, TIMEOUT + LATE, tally.shortest, "s"),
                    within(f"{kind}: the last after", TIMEOUT - EARLY, TIMEOUT + LATE, tally.longest, "s"),
                ]
        kinds = self.trickling.counts.kinds
        late = self.starting.counts.connects + kinds["trickling"].connects
        return [
            *found,
            exactly("counted as late with their CONNECT", late, self.timeouts.get("connect", 0)),
            exactly("counted as late with a packet", kinds["dribbling"].connects, self.timeouts.get("packet", 0)),
        ]


HEAD = f"""\
  {"":14s} {"gone when Tidegate's are":51s} {"at the broker":>20s}  {"p99 ms":>13s}
  {"":14s} {"silent":12s} {"stalled":12s} {"trickling":12s} {"dribbling":12s}\
 {"held":>6s} {"left":>6s} {"left":>6s}  {"rest":>6s} {"then":>6s}"""


def slow(setting: Setting) -> list[Claim]:
    """The demonstration."""
    claims: list[Claim] = []
    print(HEAD, flush=True)
    for name in TARGETS:
        outcome = _measure(name, setting)
        print(outcome.row(), flush=True)
        if name.startswith("tidegate"):
            claims = outcome.claims()
    return claims


def _measure(name: str, setting: Setting) -> Outcome:
    options = Options(
        tidegate=setting.tidegate, gateway_keys=KEYS, haproxy_rules=INSPECT.format(seconds=TIMEOUT), policy="\n"
    )
    with Stage() as stage:
        broker = start_mosquitto(stage)
        target = start_target(stage, name, broker, options)
        company = Company(target.port, target.port, clients=CLIENTS, each=EACH)
        company.start()
        time.sleep(RAMP_SECONDS)
        begin = time.monotonic()
        time.sleep(REST_SECONDS)
        between = time.monotonic()
        starting = _besiege(stage, broker, target, "silent,stalled", STARTING)
        trickling = _besiege(stage, broker, target, "trickling,dribbling", TRICKLING)
        end = time.monotonic()
        company.stop(SETTLE_SECONDS)
        return Outcome(
            name,
            company.between(begin, between),
            company.between(between, end),
            company.trouble,
            starting,
            trickling,
            Metrics(target.admin).by("tidegate_timeouts_total", "kind") if target.admin else {},
        )


def _besiege(stage: Stage, broker: Broker, target: Target, kinds: str, total: int) -> Siege:
    base = _open_at(broker)
    crowd = Storm(stage, kinds, target.port, RATE, kinds=kinds, total=total, open=total)
    crowd.wait_ready(READY_SECONDS)
    time.sleep(HELD_SECONDS)
    held = _open_at(broker) - base
    time.sleep(TIMEOUT + LATE)
    left = _open_at(broker) - base
    return Siege(crowd.stop(), held, left)


def _open_at(broker: Broker) -> int:
    return psutil.Process(broker.pid).num_fds()
