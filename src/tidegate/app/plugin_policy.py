"""A compiled policy, before Mosquitto is told to start with it: whether the plugin will load it, and what it limits."""

import os
import stat
from pathlib import Path

from ..engine.binding import Engine, Segment
from ..engine.errors import PolicyError
from ..engine.format import MAX_SLOTS, Written, limits_of
from ..engine.memory import boot, secret

_WORDS = 4096
_MOST_BYTES = 1 << 30
"""As the plugin takes at most (plugin/memory.c)."""


def read_compiled(file: Path) -> list[Written]:
    """Its limits; PolicyError as the plugin would refuse it, OSError."""
    # Not a pipe: its other end may never come.
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as source:
        state = os.fstat(source.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise PolicyError("is not a file")
        if state.st_size > _MOST_BYTES:
            raise PolicyError("is too large to be a compiled policy")
        blob = source.read(_MOST_BYTES)
    memory = bytearray(Segment.size(0, MAX_SLOTS, 0, _WORDS, 0))
    Segment.create(memory, 0, MAX_SLOTS, 0, _WORDS, 0, boot(), secret())
    Engine(Segment(memory, boot()), -1).load(blob)
    return limits_of(blob)
