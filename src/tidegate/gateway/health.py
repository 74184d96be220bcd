"""Whether the broker answers: learned from every connection that is opened, asked by probes while it does not."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from ..engine.counters import UPSTREAM_UP, Counters
from ..policy.address import Address
from .probe import probe

FIRST_PAUSE = 0.1
"""Seconds between the broker's loss and the first probe after it."""
LONGEST_PAUSE = 5.0
"""Seconds between probes of a broker that stays away: a person who starts it again does not wait."""
IDLE_PAUSE = 5.0
"""Seconds between looks at a broker that no connection tells anything about."""
PROBE_TIMEOUT = 5.0
"""Seconds that a probe may take, the same as a client's CONNECT."""


class Log(Protocol):
    """As much of a structured logger as the gateway uses: an event, and fields with what it is about."""

    def debug(self, event: str, **fields: object) -> object:
        """For whoever looks for a fault."""

    def info(self, event: str, **fields: object) -> object:
        """For the record."""

    def warning(self, event: str, **fields: object) -> object:
        """The operator may want to act."""

    def error(self, event: str, **fields: object) -> object:
        """The operator should act."""


def pauses(jitter: Callable[[], float] = random.random) -> Callable[[], float]:
    """The next pause in seconds, each call: doubling up to LONGEST_PAUSE, and shortened at random by up to a half.

    Several workers, and several gateways, then do not knock at a broker that is starting all at once.
    """
    pause = FIRST_PAUSE

    def following() -> float:
        nonlocal pause
        now, pause = pause, min(2 * pause, LONGEST_PAUSE)
        return now * (1 - jitter() / 2)

    return following


class Health:
    """The broker as one worker sees it. `up` is what new clients are decided by."""

    def __init__(
        self,
        address: Address,
        counters: Counters,
        log: Log,
        *,
        ask: Callable[[Address, float], Awaitable[str | None]] = probe,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.address = address
        self.up = True
        self._known = False
        self._counters = counters
        self._log = log
        self._ask = ask
        self._sleep = sleep
        self._doubt = asyncio.Event()

    def answered(self) -> None:
        """A connection to the broker was opened."""
        if not self.up or not self._known:
            self._log.info("broker answers", broker=str(self.address))
        self.up = self._known = True
        self._counters.put(UPSTREAM_UP, 1)

    def failed(self, text: str) -> None:
        """A connection to the broker could not be opened: new clients are refused until a probe succeeds."""
        if self.up or not self._known:
            self._log.warning("broker does not answer", broker=str(self.address), reason=text)
        self.up = False
        self._known = True
        self._counters.put(UPSTREAM_UP, 0)
        self._doubt.set()

    def doubt(self) -> None:
        """The broker has closed a connection that was open: ask whether it is still there."""
        self._doubt.set()

    async def watch(self, busy: Callable[[], bool]) -> None:
        """Probe for ever: at once, after every doubt, and every IDLE_PAUSE while no connection is `busy`."""
        while True:
            self._doubt.clear()
            await self._settle()
            while not await self._doubted() and busy():
                pass

    async def _settle(self) -> None:
        """Probe until the broker answers."""
        following = pauses()
        while (trouble := await self._ask(self.address, PROBE_TIMEOUT)) is not None:
            self.failed(trouble)
            await self._sleep(following())
        self.answered()

    async def _doubted(self) -> bool:
        """True as soon as there is a doubt, False when IDLE_PAUSE has passed without one."""
        doubt = asyncio.ensure_future(self._doubt.wait())
        idle = asyncio.ensure_future(self._sleep(IDLE_PAUSE))
        try:
            await asyncio.wait({doubt, idle}, return_when=asyncio.FIRST_COMPLETED)
            if doubt.done():  # a takeover or a kick closes connections too: one probe answers for all of them
                await self._sleep(FIRST_PAUSE)
            return doubt.done()
        finally:
            doubt.cancel()
            idle.cancel()
