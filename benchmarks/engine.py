"""What a decision of the engine costs, in nanoseconds, without Python in between; ends with the design's figures.

    python -m benchmarks.engine [--rounds 5] [--quick] [--huge-pages] [--json OUT]

Compiles engine_bench.c with the engine's sources as the build does, and lets it decide for messages that all pass: of
one client (hot), and of many with a million budgets in random order, under 1 to 10 limits that match and up to 10,000
that are loaded. Each client uses half of its rate. `at hand`: the client's own memory was just used, as by a gateway
that has read from its connection; `cold`: that has to be fetched as well. `bare` is the yardstick: a keyed hash and as
many compare-and-swaps in random words, without a limiter around them; `apart`: one message after the other, where the
processor else overlaps several. With `--huge-pages` buckets are in pages of 2 MiB, as a gateway's are where `tidegate
doctor` says that they are given; otherwise in pages of 4 KiB, whatever the machine would give.

Exit status: 0 measured (reached or not), 1 something could not be built, a message was refused, or
huge pages are not given.
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

from tidegate.policy.compile import assign_slots, compile_policy
from tidegate.policy.model import Action, ByClass, Cases, Event, Limit, Policy, Rate

from .machine import describe
from .options import positive
from .report import machine_table
from .stage import Stage, require

HERE = pathlib.Path(__file__).parent
NATIVE = HERE.parent / "src" / "tidegate" / "engine" / "native"
MILLION = 1_000_000
TOPIC = "plant/line7/temp/value"
FILTERS = (
    "plant/#",
    "plant/+/temp/#",
    "plant/line7/#",
    "+/line7/temp/value",
    "plant/line7/temp/value",
    "#",
    "plant/+/+/value",
    "plant/line7/temp/#",
    "plant/+/#",
    "+/+/temp/#",
)
"""Ten that match TOPIC, each in its own way."""
STEP_NS = 1000
BURST = 1000
LEAST_LOG_WORDS = 22
"""64 MiB of buckets: more than the processor's caches."""

MOST_BUDGETS = "cold, 10 x budgets, 10 match"
"""As many clients as with one limit, so ten times the budgets: the design's figure, read strictly."""


@dataclass(frozen=True)
class Case:
    """One figure; `matching` limits of `loaded` match each message."""

    name: str
    matching: int
    loaded: int
    keys: int
    at_hand: bool = False
    bare: bool = False
    apart: bool = False

    @property
    def log_words(self) -> int:
        """Of a table that budgets of clients and addresses fill to a quarter, so that no key has to share."""
        return max(LEAST_LOG_WORDS, (8 * self.keys * self.matching - 1).bit_length())


@dataclass(frozen=True)
class Figure:
    """What was measured for a case: nanoseconds per decision of each round."""

    case: Case
    rounds: Sequence[float]
    resolve_ns: float | None

    @property
    def median(self) -> float:
        """Over the rounds."""
        return statistics.median(self.rounds)


@dataclass(frozen=True)
class Promise:
    """A figure of the design: nanoseconds, or a ratio to another case."""

    case: str
    bound: float
    other: str = ""


# "A million random keys" may be clients or budgets, and a client's own memory may count or not: both are judged.
PROMISES = (
    Promise("hot, 1 matches", 100),
    Promise("cold, 1 matches", 150),
    Promise(MOST_BUDGETS, 500),
    Promise("at hand, 1 matches", 150),
    Promise("at hand, 10 match", 500),
    Promise("10000 loaded, 1 matches", 2, "10 loaded, 1 matches"),
    Promise("10000 loaded, 10 match", 2, "10 loaded, 10 match"),
)


def cases(keys: int) -> list[Case]:
    """All of them, `keys` being the number of budgets that a random order goes over."""
    made = []
    for count in (1, 2, 5, 10):
        word = "matches" if count == 1 else "match"
        made.append(Case(f"hot, {count} {word}", count, count, 1))
        clients = keys // count
        made.append(Case(f"at hand, {count} {word}", count, count, clients, at_hand=True))
        made.append(Case(f"cold, {count} {word}", count, count, clients))
        made.append(Case(f"bare, {count} {word}", count, 0, clients, bare=True))
        made.append(Case(f"bare apart, {count} {word}", count, 0, clients, bare=True, apart=True))
    made.append(Case(MOST_BUDGETS, 10, 10, keys))
    for count, word in ((1, "matches"), (10, "match")):
        made += [Case(f"{loaded} loaded, {count} {word}", count, loaded, 100) for loaded in (10, 100, 1000, 10_000)]
    made += [
        Case(f"{10**power} clients, 1 matches", 1, 1, 10**power, at_hand=True)
        for power in range(7)
        if 10**power <= keys
    ]
    return made


def policy(case: Case) -> bytes:
    """So many limits per client, the first `matching` of which match TOPIC, at twice the rate that each client uses."""
    rate = Rate(1, Fraction(case.keys * STEP_NS, 2 * 10**9), BURST)
    filters = [*FILTERS[: case.matching], *(f"site/{number}/temp/#" for number in range(case.matching, case.loaded))]
    limits = tuple(
        Limit(f"{number}", Event.PUBLISH, Cases(Action.REJECT), topic=(one,), rate=ByClass((rate,)))
        for number, one in enumerate(filters)
    )
    made = Policy(limits=limits)
    return compile_policy(made, assign_slots(made))


def build(folder: pathlib.Path) -> pathlib.Path:
    """Compile the driver and the engine into the folder, with the options of a release build."""
    program = folder / "engine_bench"
    flags = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}"]
    if platform.machine() == "x86_64":
        flags.append("-mcx16")
    sources = [HERE / "engine_bench.c", *sorted(NATIVE.glob("*.c"))]
    objects = []
    for source in sources:  # apart, as the build does: what one file cannot see of another is part of the cost
        objects.append(folder / f"{source.stem}.o")
        subprocess.run(["gcc", *flags, "-c", "-o", objects[-1], source], check=True)
    subprocess.run(["gcc", "-o", program, *objects], check=True)
    return program


def measure(program: pathlib.Path, folder: pathlib.Path, case: Case, decisions: int, rounds: int, pages: str) -> Figure:
    """Run one case; exits when a message was refused or counted with others. `pages`: small or huge."""
    sizes = [str(case.keys), str(decisions), str(rounds)]
    if case.bare:
        command = [str(program), "-", *sizes, str(case.matching), str(case.log_words), pages]
        command += ["apart"] if case.apart else []
    else:
        path = folder / "policy"
        path.write_bytes(policy(case))
        command = [str(program), str(path), *sizes, str(STEP_NS), str(case.log_words), TOPIC, pages]
        command += ["at-hand"] if case.at_hand else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{case.name}: {done.stderr.strip()}")
    result = json.loads(done.stdout)
    if not case.bare and (result["refused"] or result["crowded"] or result["matched"] != case.matching):
        sys.exit(f"{case.name}: not every message passed each of {case.matching} limits: {done.stdout.strip()}")
    return Figure(case, result["rounds"], result.get("resolve_ns"))


def row(figure: Figure) -> str:
    """One line of the table."""
    span = f"[{min(figure.rounds):.0f}..{max(figure.rounds):.0f}]"
    size = 16 << figure.case.log_words >> 20
    return f"  {figure.case.name:28s} {figure.median:8.0f} {span:>14s} {figure.case.keys:9d} {size:6d} MiB"


def outcome(promise: Promise, figures: dict[str, Figure]) -> dict[str, object]:
    """A promise beside what was measured."""
    measured = figures[promise.case].median
    if promise.other:
        measured /= figures[promise.other].median
    return {**asdict(promise), "measured": round(measured, 2), "reached": measured <= promise.bound}


def tell(found: dict[str, object]) -> str:
    """One line of the design's figures."""
    unit = f"x {found['other']}" if found["other"] else "ns"
    verdict = "reached" if found["reached"] else "missed"
    return f"  {found['case']:28s} {found['measured']:8} <= {found['bound']} {unit}: {verdict}"


def main(arguments: Sequence[str] | None = None) -> None:
    options = command_line().parse_args(arguments)
    require(["gcc"])
    facts = describe([str(pathlib.Path(sys.executable).with_name("tidegate"))])
    print(machine_table(facts))
    keys, decisions = (MILLION // 10, MILLION // 10) if options.quick else (MILLION, MILLION)
    pages = "huge" if options.huge_pages else "small"
    figures: dict[str, Figure] = {}
    with Stage() as stage:
        program = build(stage.folder)
        print(f"\n  {'ns per decision':28s} {'median':>8s} {'rounds':>14s} {'clients':>9s} {'buckets':>10s}")
        for case in cases(keys):
            figures[case.name] = measure(program, stage.folder, case, decisions, options.rounds, pages)
            print(row(figures[case.name]), flush=True)
    reached = [outcome(promise, figures) for promise in PROMISES]
    print("\ndesign figures")
    for found in reached:
        print(tell(found))
    if options.json:
        measured = [{**asdict(one), "median": one.median} for one in figures.values()]
        report = {
            "machine": facts,
            "decisions": decisions,
            "pages": pages,
            "cases": measured,
            "design_figures": reached,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def command_line() -> argparse.ArgumentParser:
    line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.engine"
    )
    line.add_argument("--rounds", type=positive, default=5, help="of a million decisions each, per case")
    line.add_argument("--quick", action="store_true", help="a tenth of keys and decisions: a look, no figures")
    line.add_argument("--huge-pages", action="store_true", help="buckets in pages of 2 MiB, else of 4 KiB")
    line.add_argument("--json", type=pathlib.Path, metavar="OUT", help="write all rounds to this file")
    return line


if __name__ == "__main__":
    main()
