"""The process that owns the listening sockets and the counters, and keeps the workers alive.

It is never in the path of a packet. A worker that dies is replaced; its sockets stay open here, so that clients who
connect meanwhile wait for the successor instead of being refused.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..engine.counters import (
    CONNECTIONS,
    HELD_MESSAGES,
    HOLD_BYTES,
    INFLIGHT_FROM_BROKER,
    INFLIGHT_FROM_CLIENT,
    UPSTREAM_UP,
    WAITING_CONNECTIONS,
    WILLS_HELD,
    Counters,
    create_block,
    open_block,
)
from ..policy.address import Address
from .health import Log
from .listeners import unlink_socket_files
from .offences import MAX_LINE, OFFENCE
from .post import create_post
from .presence import clear_presence, create_presence
from .worker import BANS, DRAIN, KNOWS, LOADED, READY, RELOAD, Orders

FIRST_PAUSE = 0.1
"""Seconds before a worker that died is replaced; doubled each time that one dies within LIVED."""
LONGEST_PAUSE = 5.0
LIVED = 5.0
"""Seconds after which a worker counts as one that works."""
READ = 1 << 16
"""Bytes that are read at a time of what a worker says."""
START_TIMEOUT = 30.0
"""Seconds that a worker may take to accept clients: far above any machine's, so it only ends a hang."""

RELOAD_TIMEOUT = 5.0
"""Seconds that a worker may take to load a policy: far above any machine's."""
DRAIN_GRACE = 2.0
"""Seconds beyond `drain_timeout` that a worker has to end."""


class WorkerFailed(Exception):
    """A worker ended, or said nothing, before it accepted its first client."""


class _Process:
    """One worker process and the control socket to it."""

    def __init__(self, command: Sequence[str], orders: Orders, offence: Callable[[bytes], None]) -> None:
        """`offence` takes each line that tells one."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.process = subprocess.Popen(
                    [*command, str(theirs.fileno())],
                    pass_fds=(
                        theirs.fileno(),
                        orders.counters_fd,
                        orders.segment_fd,
                        orders.lock_fd,
                        orders.bans_fd,
                        *orders.listen_fds,
                        *orders.wake_fds,
                        orders.presence_fd,
                        orders.post_fd,
                        *orders.post_fds,
                    ),
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is for the supervisor, which ends its workers in order
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self.control = ours
        self.orders = orders
        self.is_ready = False
        self.bans_known = 0
        """The newest sheet of bans that it has said it goes by."""
        self._offence = offence
        self._has_orders = False
        self._loads = 0
        self._rest = b""
        self._heard = asyncio.Event()

    async def ready(self) -> None:
        """Send the orders and wait until clients are accepted."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await loop.sock_sendall(self.control, self.orders.line())
                self._has_orders = True
                if await loop.sock_recv(self.control, len(READY)) == READY:
                    self.is_ready = True
                    return
        except (TimeoutError, OSError) as error:
            raise WorkerFailed(f"worker {self.orders.row} did not start: {error!r}") from error
        raise WorkerFailed(f"worker {self.orders.row} ended while it started; its last log lines say why")

    async def ended(self) -> None:
        """Wait for the process's end: its side of the control socket closes with it, and ours then too."""
        if self.control.fileno() >= 0:
            loop = asyncio.get_running_loop()
            with contextlib.suppress(OSError):
                while said := await loop.sock_recv(self.control, READ):
                    self._hear(said)
            self.control.close()
        self._heard.set()  # nothing more will be
        while self.process.poll() is None:
            await asyncio.sleep(0.01)

    def _hear(self, said: bytes) -> None:
        *lines, self._rest = (self._rest + said).split(b"\n")
        if len(self._rest) > MAX_LINE:  # nothing that a worker says: what comes of it is no line either
            self._rest = b""
        for line in lines:
            if line.startswith(OFFENCE):
                self._offence(line)
            elif line.startswith(KNOWS):
                with contextlib.suppress(ValueError):
                    self.bans_known = int(line.removeprefix(KNOWS))
            elif line == LOADED.rstrip():
                self._loads += 1
        self._heard.set()

    async def reload(self) -> bool:
        """Have it load the segment's policy: whether it has. `ended` must be waiting for it meanwhile."""
        before = self._loads
        await self.tell(RELOAD)
        if not self.is_ready:  # it has yet to load its first, which may be the former one; then it is told anew
            return True
        return await self._until(lambda: self._loads > before)

    async def knows_bans(self, generation: int) -> bool:
        """Whether it goes by this sheet of bans, or a newer one; waits for it likewise."""
        return not self.is_ready or await self._until(lambda: self.bans_known >= generation)

    def tell_bans(self) -> None:
        """Have it read the sheet of bans. Waits for nothing: one who does not take this has the same yet to read."""
        if self._has_orders:
            with contextlib.suppress(OSError):
                self.control.send(BANS)

    async def _until(self, is_so: Callable[[], bool]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RELOAD_TIMEOUT):
                while not is_so() and self.control.fileno() >= 0:
                    self._heard.clear()
                    await self._heard.wait()
        return is_so()

    async def tell(self, order: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is ending already, or has ended
            await asyncio.get_running_loop().sock_sendall(self.control, order)


class Supervisor:
    """Starts workers with `command CONTROL_FD`, one per row of `sockets`."""

    def __init__(
        self,
        command: Sequence[str],
        orders: Orders,
        sockets: Sequence[Sequence[socket.socket]],
        log: Log,
        recover: Callable[[int], None] = lambda _: None,
        offence: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        """`sockets[n]` are worker n's listening sockets; row, descriptors and counters in `orders` are filled in.

        `recover`: takes the number of a worker that has died; forgets in the segment what it had in flight.
        `offence`: takes each line by which a worker tells one (`offences`).
        """
        self.workers = len(sockets)
        self.restarts = 0
        self._command = command
        self._log = log
        self._recover = recover
        self._offence = offence
        self._counters_fd = create_block(self.workers)
        self.words = open_block(self._counters_fd)
        self._sockets = sockets
        self._wake_fds = [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in sockets]
        self._presence_fd = create_presence(self.workers)
        self._post = create_post(self.workers)
        key = secrets.token_hex(32)
        self._orders = [
            replace(
                orders,
                row=row,
                counters_fd=self._counters_fd,
                listen_fds=[sock.fileno() for sock in own],
                wake_fds=self._wake_fds,
                presence_fd=self._presence_fd,
                post_fd=self._post[row][0],
                post_fds=[end for _, end in self._post],
                wills_key=key,
            )
            for row, own in enumerate(sockets)
        ]
        self._processes: dict[int, _Process] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all workers; returns when each accepts clients. WorkerFailed when one does not."""
        await asyncio.gather(*(self._spawn(row) for row in range(self.workers)))
        self._tasks = [asyncio.create_task(self._keep(row)) for row in range(self.workers)]

    async def stop(self) -> None:
        """Drain all workers, then end those that take longer than they may."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        # First of all, so that clients who are told to go are refused and not kept waiting when they come back.
        unlink_socket_files(Address.parse(text) for text in self._orders[0].listen)
        for own in self._sockets:
            for sock in own:
                sock.close()
        living = list(self._processes.values())
        await asyncio.gather(*(process.tell(DRAIN) for process in living))
        ends = [asyncio.ensure_future(process.ended()) for process in living]
        if ends:
            await asyncio.wait(ends, timeout=self._orders[0].drain_timeout + DRAIN_GRACE)
        for process in living:
            if process.process.poll() is None:
                self._log.warning("worker did not drain in time", worker=process.orders.row)
                process.process.kill()
        if ends:
            await asyncio.wait(ends)
        for fd in (
            self._counters_fd,
            self._presence_fd,
            *self._wake_fds,
            *(end for ends in self._post for end in ends),
        ):
            os.close(fd)

    async def reload(self) -> None:
        """Have all workers decide by the segment's new policy; one that is being replaced starts with it."""
        processes = list(self._processes.values())
        for process, done in zip(processes, await asyncio.gather(*(one.reload() for one in processes)), strict=True):
            if not done and process.process.poll() is None:
                self._log.error("worker does not load the new policy", worker=process.orders.row)

    def tell_bans(self) -> None:
        """Have all workers read the sheet of bans; one that is being replaced starts with it."""
        for process in self._processes.values():
            process.tell_bans()

    async def bans_known(self, generation: int) -> bool:
        """Whether all workers that live go by this sheet of bans, or a newer one, which they are given time for."""
        processes = list(self._processes.values())
        known = await asyncio.gather(*(process.knows_bans(generation) for process in processes))
        return all(done or process.process.poll() is not None for process, done in zip(processes, known, strict=True))

    def processes(self) -> Mapping[str, int]:
        """The living workers: name to process id."""
        return {
            f"worker-{row}": process.process.pid
            for row, process in sorted(self._processes.items())
            if process.process.poll() is None
        }

    def trouble(self) -> str | None:
        """Why a client could not publish now, as far as the workers know; None when it could."""
        if len(self.processes()) < self.workers:
            return "a worker is being replaced"
        if not all(Counters(self.words, row).value(UPSTREAM_UP) for row in range(self.workers)):
            return "the broker does not answer"
        return None

    async def _spawn(self, row: int) -> None:
        process = _Process(self._command, self._orders[row], self._offence)
        self._processes[row] = process
        try:
            await process.ready()
        except WorkerFailed:
            process.process.kill()
            await process.ended()
            raise

    async def _keep(self, row: int) -> None:
        pause = FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while True:
            process = self._processes[row]
            began = loop.time()
            await process.ended()
            self._reset_gauges(row)
            if loop.time() - began > LIVED:
                pause = FIRST_PAUSE
            self._log.error(
                "worker died and is being replaced",
                worker=row,
                how=_how(process.process.returncode),
            )
            self.restarts += 1
            while True:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    await self._spawn(row)
                    break
                except (WorkerFailed, OSError) as error:
                    self._log.error("worker could not be replaced", worker=row, reason=str(error))

    def _reset_gauges(self, row: int) -> None:
        """A dead worker has no connections, holds nothing and knows no broker; what it counted stays."""
        counters = Counters(self.words, row)
        for gauge in (
            CONNECTIONS,
            UPSTREAM_UP,
            HOLD_BYTES,
            HELD_MESSAGES,
            INFLIGHT_FROM_CLIENT,
            INFLIGHT_FROM_BROKER,
            WAITING_CONNECTIONS,
            WILLS_HELD,
        ):
            counters.put(gauge, 0)
        clear_presence(self._presence_fd, self.workers, row)
        self._recover(row)
        for fd in self._wake_fds:  # what it had in flight is free
            os.eventfd_write(fd, 1)


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:  # a real-time signal
        return f"killed by signal {-returncode}"
