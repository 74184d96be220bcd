"""One process that plays a role of `tidegate demo`, as the demo sees it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from ..gateway.start_error import StartError

READY_SECONDS = 30.0
"""To start and connect, on a machine that is busy."""

Take = Callable[[Mapping[str, Any]], None]


class Client:
    """Made by `playing`."""

    def __init__(self, role: str, process: asyncio.subprocess.Process, take: Take) -> None:
        self._role = role
        self._process = process
        self._take = take
        self._ready = asyncio.Event()
        self._trouble = ""
        self._over = False
        self._listening = asyncio.create_task(self._listen())

    async def ready(self) -> None:
        """Wait until it is connected; StartError when that fails."""
        try:
            await asyncio.wait_for(self._ready.wait(), READY_SECONDS)
        except TimeoutError as error:
            raise StartError(f"{self._role} is not connected after {READY_SECONDS:g} s", _BUSY) from error
        self.check()

    def begin(self) -> None:
        """Have it do what its role is."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    def check(self) -> None:
        """StartError when it has ended by itself."""
        if self._over:
            raise StartError(f"{self._role} ended: {self._trouble or 'it did not say why'}", "try again")

    async def end(self) -> None:
        """End it. All that it has said has been taken then."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        await self._process.wait()
        await self._listening

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            self._trouble = told.get("trouble", self._trouble)
            self._take(told)
            if "ready" in told:
                self._ready.set()
        self._over = True
        self._ready.set()


_BUSY = "stop what keeps the machine busy"


@asynccontextmanager
async def playing(take: Take, role: str, *words: object) -> AsyncIterator[Client]:
    """A connected client that plays a role of `demo_roles`, ended on leaving; what it tells is handed to `take`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tidegate.app.demo_roles",
        role,
        *map(str, words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is the demo's
    )
    client = Client(role, process, take)
    try:
        await client.ready()
        yield client
    finally:
        await client.end()
