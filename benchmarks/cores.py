"""Cores of their own, for what is measured and for what measures it."""

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def apart() -> Iterator[int | None]:
    """Give this process, and all that it starts from now on, one core; what is yielded is another, for `keep_on`.

    None, and nothing is changed, where there is only one.
    """
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        yield None
        return
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield max(allowed)
    finally:
        os.sched_setaffinity(0, allowed)


def keep_on(core: int | None, pid: int) -> None:
    """Let a process with a single thread run there only."""
    if core is not None:
        os.sched_setaffinity(pid, {core})
