"""A process that gets a fixed share of one core: the CPU controller of the kernel's control groups.

Both versions of control groups are known, version 1 as `/sys/fs/cgroup/cpu`, version 2 as `/sys/fs/cgroup`. Either
must let us make a group, which takes root and a hierarchy that is not read-only (as it is in most containers).
"""

import contextlib
import os
import pathlib
import sys
import time
import types
from typing import NamedTuple, Self

ROOT = pathlib.Path("/sys/fs/cgroup")
LEAST_QUOTA = 1000
"""Microseconds: the kernel takes no smaller quota (kernel/sched, min_cfs_quota_period)."""
EMPTY_SECONDS = 5.0
"""How long the kernel may take to forget a process that has ended."""


class Throttling(NamedTuple):
    """Periods so far in which the group wanted to run, and those in which it used up its quota."""

    periods: int
    throttled: int

    def since(self, before: "Throttling") -> float:
        """The share of the periods since then in which the quota was used up."""
        return (self.throttled - before.throttled) / max(1, self.periods - before.periods)


class Quota:
    """A group of its own for one process, which may run for `share` of each period; leaving the `with` removes it.

    The period is the shortest that the kernel's least quota allows, so that a throttled process waits as briefly as
    it can: 20 ms for 0.05. The process must have ended when the group is removed.
    """

    def __init__(self, share: float) -> None:
        self.period = round(LEAST_QUOTA / share)
        """Microseconds."""
        self._version_2 = (ROOT / "cgroup.controllers").exists()
        parent = ROOT if self._version_2 else ROOT / "cpu"
        self._folder = parent / f"tidegate-bench-{os.getpid()}"
        try:
            if self._version_2:
                (parent / "cgroup.subtree_control").write_text("+cpu")
            self._folder.mkdir()
            if self._version_2:
                (self._folder / "cpu.max").write_text(f"{LEAST_QUOTA} {self.period}")
            else:
                (self._folder / "cpu.cfs_period_us").write_text(str(self.period))
                (self._folder / "cpu.cfs_quota_us").write_text(str(LEAST_QUOTA))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._folder.rmdir()
            sys.exit(f"no CPU quota can be set here, which takes root and a writable {parent}: {error}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        deadline = time.monotonic() + EMPTY_SECONDS
        while True:
            try:
                self._folder.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def take(self, pid: int) -> None:
        """Put a process into the group."""
        (self._folder / "cgroup.procs").write_text(str(pid))

    def throttling(self) -> Throttling:
        """What the kernel has counted."""
        lines = (self._folder / "cpu.stat").read_text().splitlines()
        counts = {name: int(value) for name, value in (line.split() for line in lines)}
        return Throttling(counts["nr_periods"], counts["nr_throttled"])
