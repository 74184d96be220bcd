"""Processes that charge the same budgets at the same moment let exactly as much through as one alone would.

Together they never have more in flight than a window's number, also when some of them are killed.

Keys are made and forgotten all the time, in a small table, as that is where one key could get two budgets or windows.
"""

import json
import struct
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from support import hammer, taker
from support.segments import BOOT, SECRET, compiled, shares_at, tags_at, windows
from support.wait import until
from tidegate.engine.binding import TALLIES, Engine, Segment
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


# Windows


class Takers:
    """A segment, and processes that take slots of its windows and give them back."""

    def __init__(self, folder: Path, keys: int, number: int, words: int) -> None:
        self.keys, self.number, self.words = keys, number, words
        shape = (PROCESSES, 1, 0, words, taker.POLICY_ROOM)
        self.path, self.control_path = folder / "segment", folder / "control"
        self.path.write_bytes(bytes(Segment.size(*shape)))
        self.control_path.write_bytes(bytes(taker.Control.size(PROCESSES, keys)))
        self.memory = taker.open_memory(self.path)
        Segment.create(self.memory, *shape, BOOT, SECRET)
        self.segment = Segment(self.memory, BOOT)
        self.control = taker.Control(self.control_path, PROCESSES, keys)
        self.running: dict[int, subprocess.Popen[str]] = {}
        one = Limit("own", Event.PUBLISH, Cases(Action.REJECT), concurrent=ByClass(number))
        assert self.segment.publish(compiled(Policy((), (one,))))

    def start(self, row: int) -> None:
        numbers = (
            tags_at(self.memory, PROCESSES, self.words, taker.POLICY_ROOM),
            row,
            PROCESSES,
            self.keys,
            self.number,
        )
        self.running[row] = subprocess.Popen(
            [sys.executable, taker.__file__, str(self.control_path), str(self.path), *map(str, numbers)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def steps(self, row: int) -> int:
        return self.control.words[self.control.steps_at(row)]

    def advance(self, row: int, steps: int) -> None:
        """Wait until a process has gone so much further."""
        until_steps = self.steps(row) + steps
        process = self.running[row]
        until(lambda: self.steps(row) >= until_steps or process.poll() is not None, f"process {row}", 60)
        assert process.poll() is None, process.communicate()[1]

    def kill(self, row: int) -> None:
        process = self.running.pop(row)
        process.kill()
        process.communicate()
        self.control.forget(row)
        self.segment.recover(row)
        assert not any(self.in_flight()[row::PROCESSES])

    def end(self) -> Counter[str]:
        """Have them give everything back; what they have done."""
        self.control.words[0] = 1
        done: Counter[str] = Counter()
        for process in self.running.values():
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            done.update(json.loads(out))
        return done

    def in_flight(self) -> tuple[int, ...]:
        """What each row has in each window, all rows of one window together."""
        count = windows(self.words) * PROCESSES
        at = shares_at(self.memory, PROCESSES, self.words, taker.POLICY_ROOM)
        return struct.unpack_from(f"<{count}I", self.memory, at)

    def close(self) -> None:
        for process in self.running.values():
            process.kill()
            process.communicate()
        self.control.close()


@pytest.mark.parametrize(
    ("keys", "number", "words"), [(2, 2, 1 << 12), (3, 1, 1 << 12), (100, 1, 64), (40, 2, 64)], ids=str
)
def test_no_window_ever_holds_more_than_its_number(tmp_path: Path, keys: int, number: int, words: int) -> None:
    takers = Takers(tmp_path, keys, number, words)
    try:
        for row in range(PROCESSES):
            takers.start(row)
        for turn in range(8):
            for row in range(PROCESSES):
                takers.advance(row, 500)
            takers.kill(turn % PROCESSES)
            takers.start(turn % PROCESSES)
        for row in range(PROCESSES):
            takers.advance(row, 5000)
        done = takers.end()
    finally:
        takers.close()
    assert done["own"] > 1000
    assert (done["crowd"] > 0) == (words == 64), "there was room for all keys, or not"
    assert done["refused"] > 100
    assert not any(takers.in_flight())
    assert takers.segment.tallies(0)[0] >= done["own"] + done["crowd"]
    engine = Engine(takers.segment, 0, 0)
    engine.load(takers.segment.policy())
    for key in range(keys):
        client = taker.client(key)
        places = [taker.take(engine, client) for _ in range(number + 1)]
        assert [place >= 0 for place in places] == [True] * number + [False]
        for place in places[:number]:
            engine.free(place)
