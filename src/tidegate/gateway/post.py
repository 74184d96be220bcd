"""What workers ask each other: notes of one size, through a pipe that each of them reads.

A write of up to 4096 bytes to a pipe is whole or fails (pipe(7)), so notes of several writers never mix, and whoever is
killed leaves no half of one. A worker that takes the place of a dead one reads what was meant for that.
"""

import contextlib
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

ASK = 1
"""Is a former connection of this client with you? End it, and say when the broker has."""
ANSWER = 2
"""There is none, or none any more."""

_NOTE = struct.Struct("<II8sQ16s32s")
_AT_ONCE = 512
"""Notes that are read at a time."""


class Note(NamedTuple):
    """One question, or the answer to it."""

    kind: int
    row: int
    """The worker that sends it."""
    ticket: bytes
    """8 bytes: which question."""
    since: int = 0
    """Of a question: when the client came, in nanoseconds of the monotonic clock; older connections are meant."""
    key: bytes = b""
    """16 bytes: who the client says that it is."""
    identity: bytes = b""
    """32 bytes: by what it proves it."""


class Post:
    """The pipes as one worker has them."""

    def __init__(self, fd: int, fds: Sequence[int]) -> None:
        """`fd`: the end from which this worker reads; `fds`: by worker, the end to which others write."""
        self._fd = fd
        self._fds = fds

    def send(self, row: int, note: Note) -> bool:
        """Whether the worker `row` gets it; False when its pipe is full."""
        try:
            os.write(self._fds[row], _NOTE.pack(*note))
        except BlockingIOError:
            return False
        return True

    def receive(self) -> list[Note]:
        """What has come, or as much of it as is read at a time."""
        with contextlib.suppress(BlockingIOError):
            return [Note(*fields) for fields in _NOTE.iter_unpack(os.read(self._fd, _AT_ONCE * _NOTE.size))]
        return []


def create_post(workers: int) -> list[tuple[int, int]]:
    """By worker, the ends of its pipe: that to read from, and that to write to."""
    return [os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for _ in range(workers)]
