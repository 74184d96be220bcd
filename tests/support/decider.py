"""A process that decides, takes places and waits without end, while somebody else writes nonsense all over its segment.

    decider.py CONTROL SEGMENT ROW

CONTROL is a file of two words: nanoseconds of the given clock, and whether to stop. Once its policy is loaded it prints
"ready", in the end how many messages it has decided. It has attached before the damage begins, as a worker has.
"""

import contextlib
import random
import sys
from mmap import mmap
from pathlib import Path

from tidegate.engine.binding import ITSELF, Engine, Segment, Subject
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


def places_of(taken: int | tuple[int, ...] | None) -> list[int]:
    """The places that `Engine.taken` tells of."""
    return [] if taken is None else [taken] if isinstance(taken, int) else list(taken)


class Worker:
    """What a worker keeps of its messages in flight and of those that wait."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.places: list[int] = []
        self.queues: list[int] = []

    def decided(self, action: str, choose: random.Random) -> None:
        """Keep what the message just decided has taken, and have it wait, for a while."""
        self.places += places_of(self.engine.taken())
        if action == "delay" and self.engine.queue not in (0, ITSELF):
            self.queues.append(self.engine.queue)
            self.engine.wait_for(self.engine.queue, choose.randrange(1, 5))
        while len(self.places) > 30:
            self.engine.free(self.places.pop(choose.randrange(len(self.places))))
        while len(self.queues) > 10:
            self.turn(self.queues.pop(choose.randrange(len(self.queues))))
        self.engine.rows_to_wake()

    def turn(self, queue: int) -> None:
        """One that waits has been served, and was the last."""
        if self.engine.lead(queue) > 1:
            self.engine.level(queue)
        self.engine.served(queue)
        self.engine.wait_for(queue, 0)

    def end(self) -> None:
        """Nothing is in flight and nobody waits."""
        while self.places:
            self.engine.free(self.places.pop())
        while self.queues:
            self.turn(self.queues.pop())


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
    worker = Worker(engine)
    decided = 0
    while not clock[1]:
        for _ in range(200):
            subject = Subject(b"%d" % choose.randrange(50), None, choose.randbytes(4), b"", 5)
            topic = b"t/%d" % choose.randrange(20)
            verdict = engine.judge(
                subject,
                topic,
                choose.choice((1, 1, 2)),
                packet=100,
                event=choose.choice((0, 0, 2)),
                now_ns=clock[0],
                turn=choose.randrange(2),
                owed=choose.randrange(3),
            )
            worker.decided(verdict.action, choose)
            decided += 1
        engine.sweep(clock[0] / SECOND)
        read_all(segment, memory, row)
    worker.end()
    print(decided, flush=True)


if __name__ == "__main__":
    main()
