"""The scale factors of a running gateway, set from outside through the memory that its processes share.

The segment has no name; whoever may look at the supervisor's open files has it (proc(5), /proc/PID/fd). The supervisor
writes all factors anew each second, as damage must not last, so it is stopped meanwhile; messages pass without it.
"""

import contextlib
import os
import types
from pathlib import Path
from typing import Self

import psutil

from tidegate.engine.binding import Segment
from tidegate.engine.errors import SegmentError
from tidegate.engine.memory import boot, map_memory
from tidegate.policy.model import Priority

MEMORY = "/memfd:tidegate-segment"
"""What the links of such memory begin with (engine/memory.py)."""


class Scales:
    """Of the gateway whose supervisor has that pid, as it was started: limits have their places in their order.

    Within the `with` they stay as they are set; behind it they are soon 1 again.
    """

    def __init__(self, pid: int) -> None:
        """LookupError when it has no segment."""
        self._segment = self._find(pid)
        self._supervisor = psutil.Process(pid)

    def __enter__(self) -> Self:
        self._supervisor.suspend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._supervisor.resume()

    def set(self, place: int, factor: float) -> None:
        """Multiply the numbers of the limit at a place, counted from 0, for clients of every priority."""
        for priority in Priority:
            self._segment.set_scale(place, priority, factor)

    def _find(self, pid: int) -> Segment:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since
                if not os.readlink(link).startswith(MEMORY):
                    continue
                fd = os.open(link, os.O_RDWR)
                try:
                    return Segment(map_memory(fd), boot())
                except SegmentError:  # other memory that is shared
                    continue
                finally:
                    os.close(fd)
        raise LookupError(f"process {pid} has no segment")
