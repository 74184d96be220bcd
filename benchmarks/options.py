"""What the command lines of the measurements have in common."""

import argparse
import pathlib
import shlex
import sys

from .scenarios import SCENARIOS, Scenario
from .targets import TARGETS


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """A command line whose help is the module's docstring; every measurement takes --tidegate-command."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, prog=f"benchmarks.{name}"
    )
    made.add_argument(
        "--tidegate-command",
        type=command,
        default=(str(pathlib.Path(sys.executable).with_name("tidegate")),),
        metavar="COMMAND",
        help="what to start instead of the tidegate beside this Python",
    )
    return made


def command(text: str) -> tuple[str, ...]:
    return tuple(shlex.split(text))


def target_names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    return names


def scenarios(text: str) -> list[Scenario]:
    names = text.split(",")
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return [SCENARIOS[name] for name in names]


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 10.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to 10")
    return value
