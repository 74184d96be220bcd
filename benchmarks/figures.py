"""From the runs of every target to the figures that the design promises."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """What one run of one target in one scenario gave; times in microseconds."""

    cpu_us_per_message: float
    messages_per_s: float
    p50_us: float | None
    p99_us: float | None


Runs = Mapping[str, Sequence[Run]]
"""The runs of one scenario, by target, in the order of the rounds."""


def median(runs: Sequence[Run]) -> Run:
    """Each figure's own median over the rounds."""

    def of(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    return Run(
        statistics.median(run.cpu_us_per_message for run in runs),
        statistics.median(run.messages_per_s for run in runs),
        of([run.p50_us for run in runs]),
        of([run.p99_us for run in runs]),
    )


@dataclass(frozen=True)
class Promise:
    """One row of the design's figures: `target` beside `other` in a scenario and its MQTT 5 twin."""

    scenario: str
    figure: str
    """As ratio: cpu (per message) or rate (messages/s); in microseconds: added (p50 minus direct's p50)."""
    target: str
    other: str
    bound: float
    """The most for cpu, the least for rate; a factor on the other's value for added."""


PROMISES = (
    Promise("pingpong", "cpu", "tidegate-unix", "haproxy-unix", 1.2),
    Promise("pingpong", "cpu", "tidegate-unix", "haproxy", 1.0),
    Promise("pingpong", "cpu", "tidegate", "haproxy", 1.2),
    Promise("window", "rate", "tidegate-unix", "direct", 1.0),
    Promise("window", "rate", "tidegate", "haproxy", 1.0),
    Promise("batch", "rate", "tidegate-unix", "direct", 1.0),
    Promise("fanout", "rate", "tidegate-unix", "haproxy-unix", 0.9),
    Promise("fanout", "rate", "tidegate-unix", "direct", 1.0),
    Promise("lone", "added", "tidegate-unix", "haproxy-unix", 1.0),
    Promise("lone", "added", "tidegate", "haproxy", 1.0),
)


@dataclass(frozen=True)
class Outcome:
    """A promise beside what was measured: ratios, or microseconds for added latency."""

    scenario: str
    figure: str
    target: str
    other: str
    measured: float
    bound: float
    lowest: float
    highest: float
    """Lowest and highest of the single rounds: how far to trust `measured`."""
    reached: bool


def outcomes(measured: Mapping[str, Runs]) -> list[Outcome]:
    """The promises that can be judged: both of their targets ran in that scenario (and direct, for added)."""
    found = []
    for promise in PROMISES:
        for scenario in (promise.scenario, f"{promise.scenario}5"):
            runs = measured.get(scenario, {})
            needed = {promise.target, promise.other} | ({"direct"} if promise.figure == "added" else set())
            if needed <= runs.keys():
                found.append(_outcome(promise, scenario, runs))
    return found


def _outcome(promise: Promise, scenario: str, runs: Runs) -> Outcome:
    names = {promise.target, promise.other, "direct"} & runs.keys()
    middle = round(_figure(promise, {name: median(runs[name]) for name in names}), 3)
    rounds = [
        _figure(promise, dict(zip(names, of_round, strict=True)))
        for of_round in zip(*(runs[name] for name in names), strict=True)
    ]
    bound = promise.bound
    if promise.figure == "added":
        bound = round(bound * _added(median(runs[promise.other]), median(runs["direct"])), 3)
    reached = middle >= bound if promise.figure == "rate" else middle <= bound
    return Outcome(
        scenario,
        promise.figure,
        promise.target,
        promise.other,
        middle,
        bound,
        min(rounds),
        max(rounds),
        reached,
    )


def _figure(promise: Promise, runs: Mapping[str, Run]) -> float:
    target, other = runs[promise.target], runs[promise.other]
    if promise.figure == "added":
        return _added(target, runs["direct"])
    if promise.figure == "rate":
        return target.messages_per_s / other.messages_per_s
    return ratio(target.cpu_us_per_message, other.cpu_us_per_message)


def ratio(a: float, b: float) -> float:
    """The quotient; infinite beside nothing, as of a run too short for the kernel's ticks."""
    return a / b if b else float("inf")


def _added(run: Run, direct: Run) -> float:
    if run.p50_us is None or direct.p50_us is None:
        raise ValueError("added latency needs a scenario with acknowledgements")
    return run.p50_us - direct.p50_us
