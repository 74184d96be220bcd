"""What the plugin costs Mosquitto per message, with a hundred limits of which ten meet each message and none bites.

Three brokers, each started anew for each round and alone on its core, the load generator on another: `plugged` with
the plugin and the policy of policy.py, which charges twelve budgets for a message; `bare` without it; and `again`, as
bare, so that what is told of two equal brokers says how much of a difference is none. In a round each has a load twice,
the three in turn and then back in the reverse order, so that a drift of the machine meets all alike; who is first
changes from round to round. A round's ratio is of the CPU time per message of both runs, connecting included, as the
scheduler counts it.

The loads (scenarios.py): a ping-pong of 200 clients at QoS 1, MQTT 3.1.1 and 5, and a stream of QoS 0 by 100 clients.
Judged is the upper end of the interval of the median ratio (intervals.py); the control is told.
"""

import dataclasses
import pathlib

from .claims import Claim, at_most, none
from .compare import build_mqload, run_load
from .cores import apart, keep_on
from .intervals import of_median
from .machine import describe
from .plugin_setting import Setting
from .plugin_sys import reported
from .policy import LIMITS, MEETING, policy_text
from .report import machine_table
from .scenarios import SCENARIOS, Scenario
from .stage import Stage, cpu_nanoseconds, require
from .targets import Broker

BARE, PLUGGED, AGAIN = "bare", "plugged", "again"


@dataclasses.dataclass(frozen=True)
class Load:
    """A load, and by how much its messages may cost more."""

    scenario: Scenario
    messages: int
    bound: float

    def scaled(self, scale: float) -> int:
        """Messages of a run."""
        return max(1, round(self.messages * scale))


LOADS = (
    Load(SCENARIOS["pingpong"], 100_000, 1.03),
    Load(SCENARIOS["pingpong5"], 100_000, 1.03),
    Load(SCENARIOS["batch"], 500_000, 1.10),
)
"""A second of the broker's time each: short enough that a machine's moods last for a whole round."""

Costs = dict[str, dict[str, float]]
"""Of a round: nanoseconds per message, by the load and the broker."""


def cost(setting: Setting) -> list[Claim]:
    """The demonstration."""
    require(["gcc"])
    print(machine_table({**describe(setting.tidegate), "broker": setting.mosquitto}), flush=True)
    rounds: list[Costs] = []
    claims: list[Claim] = []
    with Stage() as stage:
        mqload = build_mqload(stage.folder)
        for number in range(setting.rounds):
            with apart() as core, Stage() as of_round:
                brokers = _brokers(setting, of_round, core)
                rounds.append(_round(brokers, mqload, number, setting.scale))
                print(_line(number, rounds[-1]), flush=True)
                if number == setting.rounds - 1:
                    claims.append(_met(brokers[PLUGGED], setting.scale))
    for load in LOADS:
        name = load.scenario.name
        found = of_median([costs[name][PLUGGED] / costs[name][BARE] for costs in rounds])
        control = of_median([costs[name][AGAIN] / costs[name][BARE] for costs in rounds])
        print(f"  {name}: plugged / bare {found}, bare / bare {control}")
        claims.append(at_most(f"{name}: upper end of CPU per message, plugged / bare", load.bound, found.high, "x"))
    return claims


def _brokers(setting: Setting, stage: Stage, core: int | None) -> dict[str, Broker]:
    brokers = {
        BARE: setting.bare(stage, BARE),
        PLUGGED: setting.plugged(stage, policy_text(LIMITS, "reject"), PLUGGED),
        AGAIN: setting.bare(stage, AGAIN),
    }
    for broker in brokers.values():
        keep_on(core, broker.pid)
    return brokers


def _round(brokers: dict[str, Broker], mqload: pathlib.Path, number: int, scale: float) -> Costs:
    names = list(brokers)
    first = number % len(names)
    order = names[first:] + names[:first]
    costs: Costs = {}
    for load in LOADS:
        spent = dict.fromkeys(names, 0.0)
        for name in (*order, *reversed(order)):
            spent[name] += _run(brokers[name], mqload, name, load.scenario, load.scaled(scale)) / 2
        costs[load.scenario.name] = spent
    return costs


def _met(broker: Broker, scale: float) -> Claim:
    """Ten limits have let pass all messages of both runs of a round: what was measured is what is told."""
    published = sum(2 * load.scaled(scale) for load in LOADS)
    names = [f"meets-{number}" for number in range(len(MEETING))]
    counts = reported(broker.tcp, names, lambda so_far: all(one["passed"] >= published for one in so_far))
    return none(
        "limits that should have met every message and did not",
        [name for name, count in counts.items() if count["passed"] < published],
    )


def _run(broker: Broker, mqload: pathlib.Path, name: str, scenario: Scenario, messages: int) -> float:
    """Nanoseconds of the broker per message."""
    before = cpu_nanoseconds(broker.pid)
    result = run_load(mqload, name, broker.tcp, scenario, messages)
    return (cpu_nanoseconds(broker.pid) - before) / float(result["messages"])


def _line(number: int, costs: Costs) -> str:
    parts = [
        f"{name} {of[BARE] / 1e3:.2f} us x {of[PLUGGED] / of[BARE]:.4f}, bare x {of[AGAIN] / of[BARE]:.4f}"
        for name, of in costs.items()
    ]
    return f"  round {number + 1}: {'; '.join(parts)}"
