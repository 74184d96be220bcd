"""Demonstrations by name: which the command line names, run one after the other, and what came of their promises."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from .claims import Claim, table
from .stage import end_on_sigterm

S = TypeVar("S")
Demonstrations = Mapping[str, Callable[[S], list[Claim]]]


def add_names(line: argparse.ArgumentParser, known: Demonstrations[S]) -> None:
    """Let the command line name some of them."""

    def demonstrations(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"no demonstration {text}; there are {', '.join(known)}")
        return text

    line.add_argument("names", nargs="*", type=demonstrations, default=[], metavar="NAME", help="which; else all")


def run(known: Demonstrations[S], names: Sequence[str], setting: S) -> None:
    """Run those that are named, else all; exit with 1 when a promise was not kept."""
    end_on_sigterm()
    failed = False
    for name in names or known:
        print(name, flush=True)
        claims = known[name](setting)
        print(table(claims), flush=True)
        failed |= not all(claim.holds for claim in claims)
    if failed:
        sys.exit(1)
