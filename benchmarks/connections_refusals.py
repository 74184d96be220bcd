"""What a refusal costs: connections that are refused at accept, for each second of CPU that the refuser uses.

The storm of `storm` at twice its rate, without those that stall, from one address that is over its limit: HAProxy by
its stick table, and Tidegate by a limit that drops, with one thread or worker each. Rounds take turns.
"""

import statistics
import time
from collections import defaultdict

from .claims import Claim, at_most, exactly
from .connections_setting import Setting
from .doors import BURST, DROPPING, RATE, STICK_TABLE, Door
from .guestbook import start_noted
from .stage import Stage, cpu_seconds
from .stormer import Storm, sources

DOORS = (STICK_TABLE, DROPPING)
ROUNDS = 3
TIMES = 2
"""The rate of this storm, as a multiple of --rate: with few refusals the kernel's ticks of 10 ms would count."""
READY_SECONDS = 30.0


def refusals(setting: Setting) -> list[Claim]:
    """The demonstration."""
    each: defaultdict[str, list[float]] = defaultdict(list)
    claims: list[Claim] = []
    for _ in range(ROUNDS):
        for door in DOORS:
            per_second, found = _measure(door, setting)
            each[door.name].append(per_second)
            claims += found
    for name, values in each.items():
        print(
            f"  {name}: {statistics.median(values):.0f} refusals per CPU second [{min(values):.0f}..{max(values):.0f}]"
        )
    return claims


def _measure(door: Door, setting: Setting) -> tuple[float, list[Claim]]:
    with Stage() as stage:
        broker, guests = start_noted(stage)
        target = door.start(stage, broker, setting.tidegate)
        cpu = cpu_seconds(target.pid)
        crowd = Storm(
            stage, "storm", target.port, setting.rate * TIMES, kinds="silent,hasty", sources=sources(1)[0], open=4000
        )
        crowd.wait_ready(READY_SECONDS)
        time.sleep(setting.seconds)
        counts = crowd.stop()
        cpu = cpu_seconds(target.pid) - cpu
        name = f"{door.name}: "
        print(f"  {name}{counts.connects / counts.seconds:.0f}/s, {counts.outcomes()}; {cpu:.2f} s of CPU", flush=True)
        budget = BURST + RATE * counts.seconds
        claims = []
        if door.budget is not None:
            claims = [
                at_most(f"{name}let in, of {counts.connects}", round(budget), counts.accepted, ""),
                exactly(f"{name}of these CONNECTs at the broker", counts.accepted, guests.let_in("storm-")),
            ]
        return counts.closed / cpu, claims
