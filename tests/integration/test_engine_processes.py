"""Processes that charge the same budgets at the same moment let exactly as much through as one alone would.

Keys are made and forgotten all the time, in a small table, as that is where one key could get two budgets.
"""

import json
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from support import hammer
from support.segments import BOOT, SECRET, compiled
from tidegate.engine.binding import TALLIES, Segment
from tidegate.policy.model import Action, ByClass, Cases, Event, Limit, Policy, Rate

PROCESSES = 4
SHAPE = (PROCESSES, 8, 0, hammer.WORDS, hammer.POLICY_ROOM)
POLICY = Policy(
    (),
    (
        Limit(
            "own", Event.PUBLISH, Cases(Action.REJECT), rate=ByClass((Rate(1, Fraction(hammer.PERIOD), hammer.BURST),))
        ),
        Limit("blocked", Event.PUBLISH, Cases(Action.REJECT), topic=("blocked",), size=ByClass(0)),
    ),
)


class Hammers:
    """A segment, and processes that hit it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "segment"
        self.path.write_bytes(bytes(Segment.size(*SHAPE)))
        memory = hammer.open_memory(self.path)
        Segment.create(memory, *SHAPE, BOOT, SECRET)
        self.segment = Segment(memory, BOOT)
        assert self.segment.publish(compiled(POLICY))

    def hit(self, target: str, plan: str, rounds: int) -> Counter[str]:
        """Run them; how often each key passed in each round."""
        control = self.folder / "control"
        control.write_bytes(bytes(16 * PROCESSES))
        shared = [str(control), str(self.path)]
        running = [
            subprocess.Popen(
                [sys.executable, hammer.__file__, *shared, *map(str, (number, PROCESSES, rounds)), target, plan],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(PROCESSES)
        ]
        passed: Counter[str] = Counter()
        try:
            for process in running:
                out, err = process.communicate(timeout=100)
                assert process.returncode == 0, err
                passed.update(json.loads(out))
        finally:
            for process in running:
                process.kill()
        return passed


@pytest.fixture
def hammers(tmp_path: Path) -> Hammers:
    return Hammers(tmp_path)


@pytest.mark.parametrize("target", ["meter", "engine"])
def test_a_key_that_is_new_to_all_has_one_budget(hammers: Hammers, target: str) -> None:
    rounds = 600
    passed = hammers.hit(target, "fresh", rounds)
    assert len(passed) == rounds * hammer.FRESH_KEYS
    assert {key: count for key, count in passed.items() if count != hammer.BURST} == {}
    if target == "engine":
        assert hammers.segment.tallies(0)[TALLIES.index("crowded")] == 0
        assert sum(passed.values()) <= hammers.segment.tallies(0)[0]


@pytest.mark.parametrize("target", ["meter", "engine"])
def test_keys_that_are_forgotten_and_come_back_never_get_one_more(hammers: Hammers, target: str) -> None:
    rounds = 1000
    passed = hammers.hit(target, "steady", rounds)
    expected: Counter[str] = Counter()
    full = [0.0] * hammer.STEADY_KEYS  # seconds at which each budget is full again
    for turn in range(rounds):
        now = turn * hammer.STEP / hammer.SECOND
        for key in range(hammer.STEADY_KEYS):
            if turn // hammer.PAUSE % hammer.STEADY_KEYS == key:
                continue
            for _ in range(2 * PROCESSES):
                if max(full[key] - now, 0) + hammer.PERIOD <= hammer.BURST * hammer.PERIOD:
                    full[key] = max(full[key], now) + hammer.PERIOD
                    expected[f"{key} {turn}"] += 1
    assert passed == expected
    if target == "engine":
        assert hammers.segment.tallies(0)[TALLIES.index("crowded")] == 0
