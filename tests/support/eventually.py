"""Waiting for a condition while the event loop goes on. The guard only ends a test that would hang."""

import asyncio
from collections.abc import Callable

from .wait import GUARD


async def eventually(condition: Callable[[], object], what: str) -> None:
    """Return when `condition`, which is asked again and again, is true; TimeoutError names `what`."""
    try:
        async with asyncio.timeout(GUARD):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError as error:
        raise TimeoutError(f"waited {GUARD:g} s in vain for {what}") from error
