"""Waiting for a condition. The guard only ends a test that would hang; no test depends on how long anything takes."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

GUARD = 20.0
"""Seconds after which a condition counts as never coming true: far above what a loaded machine needs."""


def until(condition: Callable[[], T | None], what: str, guard: float = GUARD) -> T:
    """The first true value of `condition`, which is asked again and again; TimeoutError names `what`."""
    deadline = time.monotonic() + guard
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {guard:g} s in vain for {what}")
        time.sleep(0.01)
    return value
