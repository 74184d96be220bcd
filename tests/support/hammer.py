"""One of several processes that hit the same budgets of one segment at the same moments of a given clock.

    hammer.py CONTROL SEGMENT NUMBER PROCESSES ROUNDS TARGET PLAN

CONTROL is a file of two words for each process: the phase and the step it has reached, by which they wait for others.
TARGET: meter or engine (which takes its policy from the segment). PLAN: what a round is.

- fresh: keys that nobody has seen, hit as the table is full of words that expire between one process's present and the
  next one's: each process sees other free words. Afterwards the first process takes what the others have left.
- steady: the same few keys on a clock that goes on, with pauses in which their budgets become full and are forgotten.

Prints one JSON object: {"KEY ROUND": hits that passed}.
"""

import json
import os
import random
import struct
import sys
from collections import Counter
from fractions import Fraction
from mmap import mmap
from pathlib import Path

from tidegate.engine.binding import Engine, Meter, Segment, Subject
from tidegate.engine.format import price

BOOT = 1
SECOND = 10**9
TICKS_OF_NS = 16
START = 10**6 * SECOND
BURST = 3
PERIOD = 10
"""Seconds for each message."""
MOMENT = 100
"""Looks, about a microsecond each."""
WORDS = 4096
LINE = 4
"""Words of a cache line."""
TAG = 0x7FFF_0123_4567_89AB
"""Nobody's: of a limit that is not there."""
POLICY_ROOM = 4096
FRESH_KEYS = 10
STEADY_KEYS = 4
PAUSE = 8
"""Rounds in a row without a steady key."""
STEP = 7 * SECOND
SKEW = 1000
"""Nanoseconds from one process's present to the next one's: far less than a message costs."""


def open_memory(path: Path) -> mmap:
    """All of a file."""
    with path.open("r+b") as file:
        return mmap(file.fileno(), 0)


class OnMeter:
    """Budgets without a policy."""

    def __init__(self, segment: Segment, number: int) -> None:
        self._meter = Meter(segment, 1, number, price(1, Fraction(PERIOD), BURST))

    def hit(self, key: str, now: int) -> bool:
        return self._meter.hit(key.encode(), 1, now) == 0

    def bounce(self, key: str, now: int) -> None:
        """A meter has nothing to take back."""


class OnEngine:
    """A limit per client; a second one refuses what is published on "blocked", after the first was charged."""

    def __init__(self, segment: Segment, number: int) -> None:
        self._engine = Engine(segment, number, number)
        self._engine.load(segment.policy())
        self._number = number

    def _subject(self, key: str) -> Subject:
        return Subject(key.encode(), None, bytes([10, 0, self._number, 1]), b"", 5)

    def hit(self, key: str, now: int) -> bool:
        return self._engine.judge(self._subject(key), b"t", 1, now_ns=now).action == "pass"

    def bounce(self, key: str, now: int) -> None:
        """Charge it, and have the charge taken back."""
        assert self._engine.judge(self._subject(key), b"blocked", 1, payload=9, now_ns=now).action != "pass"


class Together:
    """Waits until all have come as far."""

    def __init__(self, path: Path, number: int, processes: int) -> None:
        self._words = memoryview(open_memory(path)).cast("Q")
        self._number, self._processes, self._phase, self._step = number, processes, 0, 0

    def wait(self) -> None:
        self._phase += 1
        self._words[self._number] = self._phase
        for other in range(self._processes):
            while self._words[other] < self._phase:
                os.sched_yield()

    def meet(self) -> None:
        """Waits for one of the others for a moment, as what is done after it is to happen at once."""
        self._step += 1
        self._words[self._processes + self._number] = self._step
        others = [self._processes + other for other in range(self._processes) if other != self._number]
        for _ in range(MOMENT):
            if any(self._words[other] >= self._step for other in others):
                return


def litter(memory: mmap, at: int, now: int, processes: int, choose: random.Random) -> None:
    """Make every word another key's: the last of each line is free to all, the others from somebody's present on.

    So a line has another first free word for each process, and no key lacks room, which would put it into a crowd.
    """
    base, step = (now - SKEW // 2) * TICKS_OF_NS, SKEW * TICKS_OF_NS
    words = [TAG] * (2 * WORDS)
    words[1::2] = [
        base if number % LINE == LINE - 1 else base + step * choose.randint(1, processes) for number in range(WORDS)
    ]
    struct.pack_into(f"<{len(words)}Q", memory, at, *words)


def main() -> None:
    control, path, *numbers, target, plan = sys.argv[1:]
    number, processes, rounds = map(int, numbers)
    together = Together(Path(control), number, processes)
    memory = open_memory(Path(path))
    table = len(memory) - 2 * 2 * 4096 - WORDS * 16  # behind it: two policies, each with its size in pages
    budgets = (OnMeter if target == "meter" else OnEngine)(Segment(memory, BOOT), number)
    choose = random.Random(number)
    passed: Counter[str] = Counter()
    for turn in range(rounds):
        if plan == "fresh":
            now = START + turn * 1000 * SECOND
            keys = [f"{turn} {key}" for key in range(FRESH_KEYS)]
            if number == 0:
                litter(memory, table, now, processes, choose)
        else:
            now = START + turn * STEP
            keys = [f"{key}" for key in range(STEADY_KEYS) if turn // PAUSE % STEADY_KEYS != key]
        mine = now + number * SKEW if plan == "fresh" else now
        together.wait()
        for key in keys:
            together.meet()
            if plan == "fresh" and choose.random() < 0.5:
                budgets.bounce(key, mine)
            for _ in range(2):
                passed[f"{key} {turn}"] += budgets.hit(key, mine)
            if plan == "fresh":
                budgets.bounce(key, mine)
        for throwaway in range(2):
            budgets.hit(f"throwaway {number} {turn} {throwaway}", mine)
        together.wait()
        if plan == "fresh" and number == 0:
            for key in keys:
                passed[f"{key} {turn}"] += sum(budgets.hit(key, now + processes * SKEW) for _ in range(BURST + 2))
    print(json.dumps({key: count for key, count in passed.items() if count}))


if __name__ == "__main__":
    main()
