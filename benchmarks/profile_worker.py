"""Where the CPU of a gateway's worker goes while 200 clients play ping-pong (QoS 1, one message per read).

    python -m benchmarks.profile_worker [--target tidegate-unix] [--scenario pingpong] [--seconds 10]
                                        [--out perf.data]

Starts Mosquitto, the target and the load, picks the process of the target that uses most CPU, and records it
with perf (user and kernel, with call graphs); where perf may not record (kernel.perf_event_paranoid, or no
perf at all) with `py-spy record --native`, if it is installed. Prints the report's head, leaves the recording
at --out: with perf look further by `perf report -i OUT`, with py-spy OUT is a speedscope file.

Exit status: 0 recorded, 1 neither tool could.
"""

import argparse
import pathlib
import subprocess
import sys
import time

from .compare import RUN_SECONDS, build_mqload
from .options import parser, positive
from .scenarios import SCENARIOS
from .stage import Stage, end_on_sigterm, program, require, tree
from .targets import TARGETS, Options, start_mosquitto, start_target

ENDLESS = 100_000_000
"""Messages, mqload's most: the recording ends first."""
RATE = 997
"""Samples per second; a prime, so that no timer of the program keeps step with it."""
REPORT_LINES = 60
WARM_UP_SECONDS = 2.0


def busiest(pid: int) -> int:
    """The process of the tree that has used most CPU within a second."""
    processes = tree(pid)
    before = [process.cpu_times() for process in processes]
    time.sleep(1.0)
    after = [process.cpu_times() for process in processes]
    used = [b.user + b.system - a.user - a.system for a, b in zip(before, after, strict=True)]
    return processes[used.index(max(used))].pid


def record(pid: int, seconds: int, out: pathlib.Path) -> str:
    """Record the process; the head of the report. Exits when neither tool can."""
    why = "no perf is installed (apt-get install linux-perf)"
    perf = program("perf")
    if perf:
        where = ["-p", str(pid), "-o", str(out), "--", "sleep", str(seconds)]
        command = [perf, "record", "-F", str(RATE), "-g", *where]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            report = [perf, "report", "--stdio", "--no-children", "-g", "none", "-i", str(out)]
            text = subprocess.run(report, capture_output=True, text=True, check=True).stdout
            return "\n".join(line for line in text.splitlines() if line.strip())
        why = f"perf cannot record: {done.stderr.strip()}"
    spy = pathlib.Path(sys.executable).with_name("py-spy")
    if not spy.exists():
        sys.exit(f"{why}\nand py-spy is not installed (pip install py-spy)")
    options = ["--native", "--rate", str(RATE), "--duration", str(seconds), "--format", "speedscope"]
    subprocess.run([str(spy), "record", *options, "--output", str(out), "--pid", str(pid)], check=True)
    return f"{why}\nrecorded with py-spy instead: open {out} at speedscope.app"


def profile(arguments: argparse.Namespace) -> str:
    require(["gcc", "mosquitto"])
    with Stage() as stage:
        mqload = build_mqload(stage.folder)
        broker = start_mosquitto(stage)
        target = start_target(stage, arguments.target, broker, Options(tidegate=arguments.tidegate_command))
        load = SCENARIOS[arguments.scenario].arguments(ENDLESS)
        stage.start("mqload", [str(mqload), "-p", str(target.port), "-t", str(RUN_SECONDS), *load])
        time.sleep(WARM_UP_SECONDS)
        return record(busiest(target.pid), arguments.seconds, arguments.out)


def main() -> None:
    line = parser("profile_worker", __doc__)
    line.add_argument("--target", choices=list(TARGETS), default="tidegate-unix")
    line.add_argument("--scenario", choices=list(SCENARIOS), default="pingpong")
    line.add_argument("--seconds", type=positive, default=10)
    line.add_argument("--out", type=pathlib.Path, default=pathlib.Path("perf.data"))
    arguments = line.parse_args()
    if arguments.seconds > RUN_SECONDS - 10:
        line.error(f"--seconds: the load lasts {RUN_SECONDS} s, so at most {RUN_SECONDS - 10}")
    end_on_sigterm()
    print("\n".join(profile(arguments).splitlines()[:REPORT_LINES]))


if __name__ == "__main__":
    main()
