"""Measure Tidegate beside what a user would put in its place, all in one run, in front of one real Mosquitto.

    python -m benchmarks.compare [--rounds 5] [--only pingpong,lone5] [--targets direct,haproxy] [--json OUT]

Starts Mosquitto itself (direct), nginx `stream` and HAProxy `mode tcp` as plain pass-through that looks at
nothing, towards the broker's TCP port, HAProxy towards its Unix socket (haproxy-unix), and Tidegate with
one worker towards both (tidegate, tidegate-unix). The bare relays (relay-tcp, relay-unix) take part when
asked for. Each round runs every target once, in turn, so that the machine's drift meets all of them alike;
printed are medians over the rounds. The CPU of a target is that of its whole process tree. Everything stays
on 127.0.0.1, on free ports, in a temporary folder.

Exit status: 0 measured (reached or not), 1 something could not be started or did not deliver every message.
"""

import argparse
import json
import pathlib
import subprocess
import sys
from typing import Any

from .figures import Run, outcomes
from .machine import describe
from .options import fraction, parser, positive, scenarios, target_names
from .policy import LIMITS
from .report import as_json, machine_table, outcomes_table, scenario_table
from .scenarios import SCENARIOS, Scenario
from .stage import Stage, cpu_seconds, end_on_sigterm, require
from .targets import COMPARED, PROGRAMS, Options, Target, start_mosquitto, start_target

RUN_SECONDS = 60
"""How long one run may take; mqload's clients do not ping, so it stays below their keepalive."""


def build_mqload(folder: pathlib.Path) -> pathlib.Path:
    """Compile the load generator into the folder."""
    program = folder / "mqload"
    source = pathlib.Path(__file__).with_name("mqload.c")
    flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run(["gcc", *flags, "-o", program, source], check=True)
    return program


def measure(mqload: pathlib.Path, target: Target, scenario: Scenario, messages: int) -> Run:
    """One run; exits when a message, a delivery or a connection was lost."""
    before = cpu_seconds(target.pid)
    result = run_load(mqload, target.name, target.port, scenario, messages)
    latency = result.get("latency_us", {})
    return Run(
        (cpu_seconds(target.pid) - before) * 1e6 / result["messages"],
        result["messages_per_s"],
        latency.get("p50"),
        latency.get("p99"),
    )


def run_load(mqload: pathlib.Path, name: str, port: int, scenario: Scenario, messages: int) -> dict[str, Any]:
    """What mqload says of one run at the target of that name; exits as `measure`."""
    where = ["-p", str(port), "-t", str(RUN_SECONDS), "-i", f"{name}-{scenario.name}-"]
    command = [str(mqload), *where, *scenario.arguments(messages)]
    load = subprocess.run(command, capture_output=True, text=True, check=False)
    if load.returncode:
        sys.exit(f"{name}, {scenario.name}: {load.stderr.strip()}")
    result: dict[str, Any] = json.loads(load.stdout)
    missing = messages - result["messages"]
    undelivered = messages * scenario.subscribers - result.get("delivered", 0)
    if missing > 0 or undelivered > 0 or result["lost_connections"] or result["refused"]:
        sys.exit(
            f"{name}, {scenario.name}: not all was delivered within {RUN_SECONDS} s"
            f" (a slower machine needs a smaller --scale): {load.stdout.strip()}"
        )
    return result


def compare(options: argparse.Namespace) -> None:
    programs = {program for name in options.targets for program in PROGRAMS.get(name, ())}
    require(sorted(programs | {"gcc", "mosquitto"}))  # all that is missing at once
    tidegate = options.tidegate_command
    facts = describe(tidegate)
    print(machine_table(facts), flush=True)
    measured: dict[str, dict[str, list[Run]]] = {}
    with Stage() as stage:
        mqload = build_mqload(stage.folder)
        broker = start_mosquitto(stage)
        targets = [
            start_target(stage, name, broker, Options(tidegate=tidegate, limits=options.limits))
            for name in options.targets
        ]
        for scenario in options.only:
            messages = max(1, round(scenario.messages * options.scale))
            runs: dict[str, list[Run]] = {target.name: [] for target in targets}
            for _ in range(options.rounds):
                for target in targets:
                    runs[target.name].append(measure(mqload, target, scenario, messages))
            measured[scenario.name] = runs
            print(scenario_table(scenario, runs), flush=True)
    reached = outcomes(measured)
    if reached:
        print(outcomes_table(reached))
    if options.json:
        settings = {"rounds": options.rounds, "scale": options.scale, "limits": options.limits}
        report = {"machine": facts, "settings": settings, **as_json(measured, reached)}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def main() -> None:
    line = parser("compare", __doc__)
    line.add_argument("--rounds", type=positive, default=5)
    line.add_argument("--only", type=scenarios, default=list(SCENARIOS.values()), metavar="SCENARIO,...")
    line.add_argument("--targets", type=target_names, default=list(COMPARED), metavar="TARGET,...")
    line.add_argument("--limits", type=int, default=LIMITS, metavar="N", help="of Tidegate's policy; 0: none")
    line.add_argument("--scale", type=fraction, default=1.0, help="times the number of messages")
    line.add_argument("--json", type=pathlib.Path, metavar="OUT", help="write all rounds to this file")
    end_on_sigterm()
    compare(line.parse_args())


if __name__ == "__main__":
    main()
