"""The tables that a comparison prints."""

from collections.abc import Iterable, Mapping, Sequence

from .figures import Outcome, Run, Runs, median, ratio
from .scenarios import Scenario
from .targets import YARDSTICKS

WORDS = {"cpu": "CPU per message", "rate": "messages per second", "added": "added latency, p50"}


def machine_table(facts: Mapping[str, str]) -> str:
    """What it ran on, a fact a line."""
    return "\n".join(f"{name:26s} {value}" for name, value in facts.items())


def scenario_table(scenario: Scenario, runs: Runs) -> str:
    """The medians of every target, and their ratios to each yardstick that took part."""
    medians = {name: median(of_target) for name, of_target in runs.items()}
    lines = [f"\n{scenario.name}: {scenario.shows}"]
    lines.append(f"  {'':14s} {'CPU us/message':>14s} {'messages/s':>11s} {'p50 us':>9s} {'p99 us':>9s}")
    for name, run in medians.items():
        lines.append(
            f"  {name:14s} {run.cpu_us_per_message:14.2f} {run.messages_per_s:11.0f}"
            f" {_number(run.p50_us)} {_number(run.p99_us)}"
        )
    for name, run in medians.items():
        if name not in YARDSTICKS:
            lines += [_ratios(name, run, other, medians[other]) for other in YARDSTICKS if other in medians]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return f"{'-':>9s}" if value is None else f"{value:9.0f}"


def _ratios(name: str, run: Run, other_name: str, other: Run) -> str:
    parts = [("CPU", ratio(run.cpu_us_per_message, other.cpu_us_per_message))]
    if other_name == "direct":  # no proxy there: its CPU is the broker's own
        parts = []
    parts.append(("throughput", ratio(run.messages_per_s, other.messages_per_s)))
    if run.p50_us is not None and other.p50_us is not None:
        parts.append(("p50", ratio(run.p50_us, other.p50_us)))
    if run.p99_us is not None and other.p99_us is not None:
        parts.append(("p99", ratio(run.p99_us, other.p99_us)))
    return f"  {f'{name} / {other_name}':30s} " + "  ".join(f"{word} x {value:.2f}" for word, value in parts)


def outcomes_table(outcomes: Sequence[Outcome]) -> str:
    """The design's figures: each reached, or by how much not."""
    lines = ["\ndesign figures (medians; in brackets the lowest and highest round)"]
    lines += [f"  {_promise(outcome):75s} {_verdict(outcome)}" for outcome in outcomes]
    return "\n".join(lines)


def _promise(outcome: Outcome) -> str:
    sign = ">=" if outcome.figure == "rate" else "<="
    bound = f"{sign} {outcome.bound:.2f} x {outcome.other}"
    if outcome.figure == "added":
        bound = f"{sign} {outcome.bound:.0f} us, {outcome.other}'s"
    return f"{outcome.scenario:10s} {WORDS[outcome.figure]:20s} {outcome.target:14s} {bound}"


def _verdict(outcome: Outcome) -> str:
    unit, digits = (" us", 0) if outcome.figure == "added" else ("", 2)
    middle, low, high = (f"{x:.{digits}f}" for x in (outcome.measured, outcome.lowest, outcome.highest))
    missed = f"missed by {abs(outcome.measured - outcome.bound):.{digits + 1}f}{unit}"
    return f"{middle}{unit} [{low}..{high}]  {'reached' if outcome.reached else missed}"


def as_json(measured: Mapping[str, Runs], outcomes: Iterable[Outcome]) -> dict[str, object]:
    """All that was measured, round by round, for `--json`."""
    scenarios = {
        name: {
            target: {"median": vars(median(of_target)), "rounds": [vars(run) for run in of_target]}
            for target, of_target in runs.items()
        }
        for name, runs in measured.items()
    }
    return {"scenarios": scenarios, "design_figures": [vars(outcome) for outcome in outcomes]}
