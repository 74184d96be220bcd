"""A process that decides, counts and reads a segment without end, while somebody else writes nonsense all over it.

    decider.py CONTROL SEGMENT ROW

CONTROL is a file of two words: nanoseconds of the given clock, and whether to stop. Once its policy is loaded it prints
"ready", in the end how many messages it has decided. It has attached before the damage begins, as a worker has.
"""

import contextlib
import random
import sys
from mmap import mmap
from pathlib import Path

from tidegate.engine.binding import Engine, Segment, Subject
from tidegate.engine.errors import PolicyError, SegmentError

BOOT = 1
SECOND = 10**9


def open_memory(path: str) -> mmap:
    """All of a file."""
    with Path(path).open("r+b") as file:
        return mmap(file.fileno(), 0)


def read_all(segment: Segment, memory: mmap, row: int) -> None:
    """Everything that a control plane reads."""
    segment.tallies(0)
    segment.events(row, 0)
    segment.events_lost(row)
    segment.census(1.0, [10] * segment.slots)
    with contextlib.suppress(PolicyError):
        Engine(segment, row).load(segment.policy())
    with contextlib.suppress(SegmentError):
        Segment(memory, BOOT)


def main() -> None:
    control, path, number = sys.argv[1:]
    row = int(number)
    clock = memoryview(open_memory(control)).cast("Q")
    memory = open_memory(path)
    segment = Segment(memory, BOOT)
    engine = Engine(segment, row, row)
    engine.load(segment.policy())
    print("ready", flush=True)
    choose = random.Random(row)
    decided = 0
    while not clock[1]:
        for _ in range(200):
            subject = Subject(b"%d" % choose.randrange(50), None, choose.randbytes(4), b"", 5)
            topic = b"t/%d" % choose.randrange(20)
            engine.judge(subject, topic, 1, packet=100, event=choose.choice((0, 0, 2)), now_ns=clock[0])
            decided += 1
        engine.sweep(clock[0] / SECOND)
        read_all(segment, memory, row)
    print(decided, flush=True)


if __name__ == "__main__":
    main()
