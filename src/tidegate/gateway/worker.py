"""A worker: one process, one event loop, all connections that its listening sockets accept.

The supervisor sends it one line of JSON, `Orders`, over a control socket and passes the file descriptors that it
names. When that socket closes, the supervisor is gone, however it went, and the worker ends at once.
"""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import cast

from ..engine.counters import LAG_BOUNDS, LAG_BUCKETS, LAG_COUNT, LAG_MICROSECONDS, Counters, open_block
from ..policy.address import Address
from .connection import Connection
from .health import Health, Log
from .listeners import BACKLOG, unlink_socket_files
from .relay import Relay, Upstream

READY = b"ready\n"
"""What a worker says over the control socket once it accepts clients."""
DRAIN = b"drain\n"
"""What it is told there to end in order."""
LAG_INTERVAL = 0.1
"""Seconds between two looks at how late the event loop is."""
DRAIN_STEP = 0.05
"""Seconds between two groups of connections that a draining worker ends."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What the supervisor tells a worker; addresses as text, times in seconds, sizes in bytes."""

    row: int
    """The worker's number, and its row in the block of counters."""
    counters_fd: int
    listen_fds: list[int]
    lock_fd: int
    """The lock of the state directory. Kept open only: while a worker lives no second gateway may bind its sockets."""
    listen: list[str]
    broker: str
    connect_timeout: float
    max_packet: int
    drain_timeout: float
    log_format: str
    log_level: str

    def line(self) -> bytes:
        """The orders as one line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "Orders":
        """The reverse of `line`."""
        return cls(**json.loads(line))


class Worker:
    """The host of all relays of this process."""

    def __init__(self, orders: Orders, log: Log, loop: asyncio.AbstractEventLoop) -> None:
        self.counters = Counters(open_block(orders.counters_fd), orders.row)
        self.max_packet = orders.max_packet
        self.connect_timeout = orders.connect_timeout
        self.relays: set[Relay] = set()
        self._orders = orders
        self._log = log
        self._loop = loop
        self._broker = Address.parse(orders.broker)
        self._health = Health(self._broker, self.counters, log)
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Accept clients."""
        self._run(self._health.watch(lambda: bool(self.relays)))
        self._run(self._measure_lag())
        for fd in self._orders.listen_fds:
            sock = socket.socket(fileno=fd)
            protocol = cast(Callable[[], asyncio.Protocol], lambda: Relay(self, self._loop))
            if sock.family == socket.AF_UNIX:
                server = await self._loop.create_unix_server(protocol, sock=sock, backlog=BACKLOG)
            else:
                server = await self._loop.create_server(protocol, sock=sock, backlog=BACKLOG)
            self._servers.append(server)

    async def drain(self) -> None:
        """Accept no more and end all connections, spread over `drain_timeout`: wills and reconnects do not storm."""
        for server in self._servers:
            server.close()
        waiting = list(self.relays)
        steps = max(1, int(self._orders.drain_timeout / 2 / DRAIN_STEP))
        share = max(10, -(-len(waiting) // steps))
        while waiting:
            for relay in waiting[:share]:
                relay.shut_down()
            del waiting[:share]
            await asyncio.sleep(DRAIN_STEP)
        deadline = self._loop.time() + self._orders.drain_timeout / 2
        while self.relays and self._loop.time() < deadline:
            await asyncio.sleep(DRAIN_STEP)

    # What relays ask for

    def open_upstream(self, relay: Relay) -> None:
        """Connect `relay` to the broker, or refuse at once while the broker is known to be away."""
        if self._health.up:
            self._run(self._open_upstream(relay))
        else:
            self._loop.call_soon(relay.broker_failed)

    async def _open_upstream(self, relay: Relay) -> None:
        protocol = cast(Callable[[], asyncio.Protocol], lambda: Upstream(relay))
        try:
            async with asyncio.timeout(self.connect_timeout):
                if self._broker.kind == "unix":
                    await self._loop.create_unix_connection(protocol, self._broker.path)
                else:
                    await self._loop.create_connection(protocol, self._broker.host, self._broker.port)
        except TimeoutError:
            self._health.failed(f"no connection within {self.connect_timeout:g} s")
            relay.broker_failed()
        except OSError as error:
            self._health.failed(error.strerror or str(error))
            relay.broker_failed()
        else:
            self._health.answered()

    def connection_ended(self, relay: Relay, connection: Connection) -> None:
        """Log what a connection ended of, if it was a fault; ask after the broker if it may be that."""
        if connection.fault is not None:
            self._log.debug("client broke the protocol", reason=connection.fault.text)
        if connection.broker_fault is not None:
            self._log.warning("broker broke the protocol", reason=connection.broker_fault.text)
        if connection.lost_broker:
            self._health.doubt()

    async def _measure_lag(self) -> None:
        while True:
            due = self._loop.time() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            lag = max(0.0, self._loop.time() - due)
            self.counters.add(LAG_COUNT, 1)
            self.counters.add(LAG_MICROSECONDS, int(lag * 1e6))
            for index, bound in enumerate(LAG_BOUNDS):
                if lag <= bound:
                    self.counters.add(LAG_BUCKETS + index, 1)

    def _run(self, coroutine: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def serve(orders: Orders, control: socket.socket, log: Log) -> None:
    """Be a worker until told to drain; the process ends at once when the supervisor is gone."""
    loop = asyncio.get_running_loop()
    worker = Worker(orders, log, loop)
    reader, writer = await asyncio.open_unix_connection(sock=control)
    drain = asyncio.ensure_future(_told_to_drain(reader, orders))
    for number in (signal.SIGINT, signal.SIGTERM):
        # Ctrl-C, timeout(1) and systemd signal the whole group: the supervisor alone decides when a worker ends.
        loop.add_signal_handler(number, lambda: None)
    await worker.start()
    writer.write(READY)
    await drain
    await worker.drain()


async def _told_to_drain(reader: asyncio.StreamReader, orders: Orders) -> None:
    try:
        line = await reader.readline()
    except OSError:
        line = b""
    if line != DRAIN:
        unlink_socket_files(Address.parse(text) for text in orders.listen)
        os._exit(1)  # nothing to save: clients hold what was not acknowledged to them
