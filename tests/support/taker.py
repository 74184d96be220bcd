"""One of several processes that take slots of the same windows and give them back; each may be killed at any moment.

    taker.py CONTROL SEGMENT TAGS ROW PROCESSES KEYS NUMBER

CONTROL is a file of words: whether to stop, then for each process how many steps it has done, then for each process and
window how many it knows to be in flight: raised once a slot is taken, lowered before it is given back. So the sum of a
window is never more than what is in flight in truth; nor, under the window's lock, more than NUMBER. Every key is in a
neighbourhood of its own and has two windows: its own and, when there is no room for that, its crowd's.

TAGS: where the windows' tags begin in SEGMENT. Prints one JSON object in the end: how often what was done.
"""

import fcntl
import json
import os
import random
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path

from tidegate.engine.binding import Engine, Segment, Subject

BOOT = 1
POLICY_ROOM = 4096
SECRET_AT = 56
"""Of the key of all hashes, in the head of a segment (native/engine.h)."""
NOW = 10**12
MOST = 4
"""Messages that one process has in flight."""
TAG_BITS = 38
"""Of a tag, those that say whose it is; the others say how far it has been made (native/window.c)."""


def open_memory(path: str | Path) -> mmap:
    """All of a file."""
    with Path(path).open("r+b") as file:
        return mmap(file.fileno(), 0)


def client(key: int, name: str = "") -> Subject:
    """The client that a window is counted per, or another one at its address."""
    return Subject(f"{key}{name}".encode(), None, bytes([10, key >> 8, key & 255, 1]), b"", 5)


def take(engine: Engine, subject: Subject) -> int:
    """The place that a message of this client has taken; -1 when it has not passed."""
    if engine.judge(subject, b"t", 1, now_ns=NOW).action != "pass":
        return -1
    place = engine.taken()
    assert isinstance(place, int)
    return place


def whose(tag: int) -> int:
    """What two tags of one window have in common."""
    return tag >> 48 - TAG_BITS


class Control:
    """The words that the processes and their test share."""

    def __init__(self, path: str | Path, processes: int, keys: int) -> None:
        self._file = os.open(path, os.O_RDWR)
        self.words = memoryview(mmap(self._file, 0)).cast("Q")
        self._processes, self._windows = processes, 2 * keys

    @staticmethod
    def size(processes: int, keys: int) -> int:
        """Bytes of the file."""
        return 8 * (1 + processes + processes * 2 * keys)

    def close(self) -> None:
        """There is nothing to lock any more."""
        os.close(self._file)

    def steps_at(self, row: int) -> int:
        """Where a process says how far it is."""
        return 1 + row

    def _count_at(self, row: int, window: int) -> int:
        return 1 + self._processes + row * self._windows + window

    @contextmanager
    def _locked(self, window: int) -> Iterator[None]:
        """The system takes the lock from whoever is killed."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, window)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, window)

    def add(self, row: int, window: int, change: int) -> int:
        """Change a process's own count; the sum of all."""
        with self._locked(window):
            self.words[self._count_at(row, window)] += change
            return sum(self.words[self._count_at(one, window)] for one in range(self._processes))

    def forget(self, row: int) -> None:
        """What a process that has been killed had in flight counts no longer."""
        for window in range(self._windows):
            with self._locked(window):
                self.words[self._count_at(row, window)] = 0


class Taker:
    """The engine of one process, with what it has in flight."""

    def __init__(self, memory: mmap, tags: int, row: int, keys: int) -> None:
        segment = Segment(memory, BOOT)
        self._memory, self._tags = memory, tags
        self._clients = [client(key) for key in range(keys)]
        self._engine = Engine(segment, row, row)
        self._engine.load(segment.policy())
        self._windows = self._windows_of(segment)
        self.held: list[tuple[int, int]] = []
        """Windows and places."""

    def _windows_of(self, shared: Segment) -> list[int]:
        """How the two windows of each key are called, asked where an address has one window before it is in a crowd."""
        shape = (1, 1, 0, 64, POLICY_ROOM)
        memory = mmap(-1, Segment.size(*shape))
        Segment.create(memory, *shape, BOOT, struct.unpack_from("<2Q", self._memory, SECRET_AT))
        engine = Engine(Segment(memory, BOOT), 0)
        engine.load(shared.policy())
        found = []
        for key in range(len(self._clients)):
            places = [take(engine, client(key, name)) for name in ("", "another")]
            found += [whose(engine.free(place)) for place in places]
        assert len(set(found)) == len(found)
        return found

    def take(self, key: int) -> int:
        """The window in which it has taken a slot; -1 when it has not."""
        place = take(self._engine, self._clients[key])
        if place < 0:
            return -1
        (tag,) = struct.unpack_from("<Q", self._memory, self._tags + 8 * place)
        assert whose(tag) in self._windows[2 * key : 2 * key + 2], "the place is another key's"
        window = 2 * key + self._windows[2 * key : 2 * key + 2].index(whose(tag))
        self.held.append((window, place))
        return window

    def free(self, window: int, place: int) -> None:
        """Give a slot back."""
        assert whose(self._engine.free(place)) == self._windows[window], "the place was given to another key"

    def sweep(self) -> None:
        """What a worker does some times a second."""
        self._engine.sweep(NOW / 1e9)


def main() -> None:
    path, segment, tags, *numbers = sys.argv[1:]
    row, processes, keys, number = map(int, numbers)
    control = Control(path, processes, keys)
    taker = Taker(open_memory(segment), int(tags), row, keys)
    choose = random.Random()
    done: Counter[str] = Counter()
    at = control.steps_at(row)
    while not control.words[0]:
        if len(taker.held) < MOST and choose.random() < 0.6:
            # Half of them want what all others want now: a key that they have not wanted for long.
            common = control.words[control.steps_at(0)] // 16 % keys
            window = taker.take(common if choose.random() < 0.5 else choose.randrange(keys))
            if window >= 0:
                assert control.add(row, window, 1) <= number, "more in flight than may be"
                done["crowd" if window % 2 else "own"] += 1
            else:
                done["refused"] += 1
        elif taker.held:
            give_back(control, taker, row, choose.randrange(len(taker.held)))
        if control.words[at] % 1000 == 0:
            taker.sweep()
        control.words[at] += 1
    while taker.held:
        give_back(control, taker, row, 0)
    print(json.dumps(done))


def give_back(control: Control, taker: Taker, row: int, index: int) -> None:
    window, place = taker.held.pop(index)
    control.add(row, window, -1)
    taker.free(window, place)


if __name__ == "__main__":
    main()
