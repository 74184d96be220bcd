"""A worker: one process, one event loop, all connections that its listening sockets accept.

The supervisor sends it one line of JSON, `Orders`, over a control socket and passes the file descriptors that it
names. When that socket closes, the supervisor is gone, however it went, and the worker ends at once.
"""

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from typing import cast

from ..engine.binding import Engine, Segment
from ..engine.counters import (
    LAG_BOUNDS,
    LAG_BUCKETS,
    LAG_COUNT,
    LAG_MICROSECONDS,
    REFUSED,
    Counters,
    Refusal,
    open_block,
)
from ..engine.errors import PolicyError
from ..engine.memory import boot, map_memory
from ..policy.address import Address
from .admission import Door
from .alarm import Alarm
from .ban_sheet import read_sheet
from .bans import Bans
from .bounds import Bounds
from .collector import Collector
from .connection import Connection
from .dial import dial
from .health import Health, Log
from .kept import Kept, Transport
from .last_will import Estate
from .listeners import BACKLOG, expect_answers, unlink_socket_files
from .offences import Tellings
from .post import Post
from .presence import Presence
from .relay import Relay, Upstream, address_of
from .room import Room, clients_within, is_shortage, raise_open_files
from .waiting import Waiting
from .waiting_room import WaitingRoom
from .wills import Wills

MAX_OPENING = 64
"""Upstreams that a worker opens at a time; more wait their turn. Fewer than Mosquitto's queue takes, which is 100."""
ACCEPTED_AT_ONCE = 64
"""Clients that are accepted in one turn of the event loop."""
ACCEPT_PAUSE = 0.1
"""Seconds without accepting, when the system has no room for another connection."""
EXPELLED_AT_ONCE = 100
"""Connections that are looked at in one turn, whether their clients have been banned by hand."""
READ_AT_ONCE = 4
"""Clients with much to say that are read in one turn of the event loop: at most 256 KiB each, some milliseconds."""
READY = b"ready\n"
"""What a worker says over the control socket once it accepts clients."""
DRAIN = b"drain\n"
"""What it is told there to end in order."""
RELOAD = b"reload\n"
"""What it is told when the segment holds a new generation of the policy."""
LOADED = b"loaded\n"
"""What it says when it decides by the newest policy."""
BANS = b"bans\n"
"""What it is told when there is a new sheet of bans."""
KNOWS = b"knows "
"""What it says when it goes by a sheet of bans, with the sheet's generation."""
MOST_UNSAID = 1 << 20
"""Bytes that wait for the supervisor to hear them; beyond it offences are not told."""
LAG_INTERVAL = 0.1
"""Seconds between two looks at how late the event loop is."""
COLLECT_INTERVAL = 1.0
"""Seconds between two looks at whether it is time to collect garbage."""
DRAIN_STEP = 0.05
"""Seconds between two groups of connections that a draining worker ends."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What the supervisor tells a worker; addresses as text, times in seconds, sizes in bytes."""

    row: int
    """The worker's number, and its row in the block of counters."""
    counters_fd: int
    segment_fd: int
    """The shared memory with the policy and its buckets."""
    listen_fds: list[int]
    lock_fd: int
    """The lock of the state directory. Kept open only: while a worker lives no second gateway may bind its sockets."""
    listen: list[str]
    """The addresses behind `listen_fds`, as they were bound."""
    listener_names: list[str]
    """The same as the configuration writes them, which is how classes name them."""
    broker: str
    connect_timeout: float
    packet_timeout: float
    max_keepalive: int
    peer_timeout: float
    max_packet: int
    max_connect: int
    hold_messages: int
    """Most messages of one connection that may be held."""
    hold_bytes: int
    """Their bytes."""
    hold_pool: int
    """Bytes that may be held for all connections of the worker."""
    bans_fd: int
    """The memory with the bans in force (`ban_sheet`)."""
    waiting_room: int
    """Connections that may wait to be admitted."""
    wake_fds: list[int]
    """By worker, an eventfd: what another worker's clients wait for may be free."""
    presence_fd: int
    """The memory with the clients that may have a will which is held back, by worker (`presence`)."""
    post_fd: int
    """The pipe by which other workers ask this one (`post`)."""
    post_fds: list[int]
    """By worker, the pipe to ask that one."""
    wills_key: str
    """32 bytes as hexadecimal digits, of which nobody else knows: by them, workers know a client again."""
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
        self.bounds = Bounds(
            max_packet=orders.max_packet,
            max_connect=orders.max_connect,
            connect_timeout=orders.connect_timeout,
            packet_timeout=orders.packet_timeout,
            max_keepalive=orders.max_keepalive,
        )
        self.engine = Engine(Segment(map_memory(orders.segment_fd), boot()), orders.row, secrets.randbits(31))
        self.waiting = Waiting(self.engine, self.counters, orders.hold_messages, orders.hold_bytes, orders.hold_pool)
        self.bans = Bans()
        waiting_room = WaitingRoom(orders.waiting_room, self.counters)
        self.door: Door | None = Door(self.waiting, self.bans, waiting_room, self.ban)
        files = raise_open_files()
        self.room = Room(clients_within(files, len(orders.listen_fds), len(orders.wake_fds)), files, self.counters, log)
        self.wills = Wills(
            self.waiting,
            Presence(orders.presence_fd, len(orders.wake_fds), orders.row),
            Post(orders.post_fd, orders.post_fds),
            orders.row,
            bytes.fromhex(orders.wills_key),
            self.room,
            loop.call_at,
        )
        self.door.wills = self.wills
        self.say: Callable[[bytes], None] | None = None
        """Tells the supervisor a line; set once it listens."""
        self._tellings = Tellings()
        self.relays: set[Relay] = set()
        self._turns: OrderedDict[Relay, None] = OrderedDict()
        self._are_turns_due = False
        self._orders = orders
        self._log = log
        self._loop = loop
        self._broker = Address.parse(orders.broker)
        self._health = Health(self._broker, self.counters, log)
        self._opening = asyncio.Semaphore(MAX_OPENING)
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[socket.socket] = []
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)
        """A descriptor that is kept free, for the time when there is no other."""
        self._generation = 0
        """Of the segment's policies, the one that is loaded; 0 before the first."""
        self._scalings = 0
        """Of its scale factors, the changes that were noticed."""
        self._alarm = Alarm(loop, self.serve_waiting)
        self.waiting.arm = self._alarm.set
        self.waiting.signal = self.wake
        loop.add_reader(orders.wake_fds[orders.row], self._woken)
        loop.add_reader(orders.post_fd, self.wills.receive)

    def start(self) -> None:
        """Accept clients."""
        for fd, name in zip(self._orders.listen_fds, self._orders.listener_names, strict=True):
            sock = socket.socket(fileno=fd)
            sock.setblocking(False)
            sock.listen(BACKLOG)
            expect_answers(sock, self._orders.peer_timeout)
            self._listeners.append(sock)
            self._loop.add_reader(sock, self._accept, sock, name.encode())

    def _accept(self, listener: socket.socket, name: bytes) -> None:
        """Accept some of those who have come: who is refused costs no more than that."""
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                client, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if is_shortage(error):
                    self.room.tell_shortage(error)
                    self._shed(listener)
                    self._loop.remove_reader(listener)
                    self._loop.call_later(ACCEPT_PAUSE, self._accept_again, listener, name)
                    return
                continue  # the client is gone already, or the network failed it: accept(2) has the list
            relay = Relay(self, self._loop, name)
            if relay.arrive(address_of(peer)):
                client.setblocking(False)
                self._run(self._take(relay, client))
            else:
                client.close()

    def _shed(self, listener: socket.socket) -> None:
        """Close those who wait to be accepted, by the descriptor that is kept for this: they would wait for nothing."""
        if self._spare is None:
            return
        os.close(self._spare)
        self._spare = None
        with contextlib.suppress(OSError):
            for _ in range(BACKLOG):
                listener.accept()[0].close()
                self.counters.add(REFUSED + Refusal.OPEN_FILES, 1)
        with contextlib.suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def _accept_again(self, listener: socket.socket, name: bytes) -> None:
        if listener in self._listeners:  # it is not draining
            if self._spare is None:
                with contextlib.suppress(OSError):
                    self._spare = os.open(os.devnull, os.O_RDONLY)
            self._loop.add_reader(listener, self._accept, listener, name)

    async def _take(self, relay: Relay, client: socket.socket) -> None:
        """Give a client its transport."""
        protocol = cast(asyncio.Protocol, relay)
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, client)
        except OSError:  # it was faster to leave
            client.close()
            relay.connection_lost(None)

    # Messages that wait

    def serve_waiting(self) -> None:
        """Give turns to those whose time has come."""
        self.waiting.run(time.monotonic())

    def wake(self, rows: int) -> None:
        """Tell other workers that something has been given back; a bit for each, modulo 64."""
        for row, fd in enumerate(self._orders.wake_fds):
            if rows >> (row & 63) & 1 and row != self._orders.row:
                os.eventfd_write(fd, 1)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._orders.wake_fds[self._orders.row])
        self.waiting.look(time.monotonic())

    # Bans

    def ban(self, limit: str, client_id: str, username: str | None, address: bytes) -> None:
        """Have the supervisor ban whom this limit, which bans, has found over it. `address`: 4, 16 or no bytes.

        It may be called for each attempt: what the supervisor has heard just now it is not told again.
        """
        line = self._tellings.line(limit, client_id, username, address, time.monotonic())
        if line is None:
            return
        self.bans.expect(limit, client_id, username, address, time.time())
        if self.say is not None:
            self.say(line)

    def load_bans(self) -> int | None:
        """Go by the newest sheet of bans: its generation. None while that is being written: another order comes."""
        sheet = read_sheet(self._orders.bans_fd)
        if sheet is None:
            return None
        if self.bans.take(sheet):
            self._run(self._expel())
        return sheet.generation

    async def _expel(self) -> None:
        """End the connections of whom the operator has banned, some in each turn of the event loop."""
        for number, relay in enumerate(list(self.relays), 1):
            relay.expel()
            if number % EXPELLED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def drain(self) -> None:
        """Accept no more and end all connections, spread over `drain_timeout`: wills and reconnects do not storm."""
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        # Those that have messages held come last: some of these may still go on.
        relays = sorted(self.relays, key=lambda relay: relay.connection.holds() > 0)
        waiting: list[Relay | Kept] = [*self.wills.close(), *relays]
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

    def take_room(self) -> bool:
        """Whether there is room for one more client, until `leave_room`."""
        return self.room.take()

    def leave_room(self) -> None:
        """Both sockets of a client are closed."""
        self.room.leave()

    def take_turn(self, relay: Relay) -> None:
        """Read the client of `relay` again in one of the next turns of the event loop, READ_AT_ONCE in each."""
        self._turns[relay] = None
        if not self._are_turns_due:
            self._are_turns_due = True
            self._loop.call_soon(self._give_turns)

    def _give_turns(self) -> None:
        try:
            for relay in list(itertools.islice(self._turns, READ_AT_ONCE)):
                del self._turns[relay]
                relay.turn()
        finally:
            self._are_turns_due = bool(self._turns)
            if self._turns:
                self._loop.call_soon(self._give_turns)

    def open_upstream(self, relay: Relay) -> None:
        """Connect `relay` to the broker, or refuse at once while the broker is known to be away."""
        if self._health.up:
            self._run(self._open_upstream(relay))
        else:
            self._loop.call_soon(relay.broker_failed)

    async def _open_upstream(self, relay: Relay) -> None:
        protocol = cast(Callable[[], asyncio.Protocol], lambda: Upstream(relay))
        try:
            async with asyncio.timeout(self.bounds.connect_timeout), self._opening:
                if relay.ended:  # the client has gone while it waited: the broker need not hear of it
                    relay.broker_failed()
                    return
                await dial(self._broker, protocol)
        except TimeoutError:
            self._health.failed(f"no connection within {self.bounds.connect_timeout:g} s")
            relay.broker_failed()
        except OSError as error:
            if is_shortage(error):  # which says nothing about the broker
                self.room.tell_shortage(error)
            else:
                self._health.failed(error.strerror or str(error))
            relay.broker_failed()
        else:
            self._health.answered()

    def keep_upstream(self, estate: Estate, transport: asyncio.Transport) -> None:
        """A client has gone and left its upstream, until it is known what becomes of its will."""
        self.wills.keep(estate, cast(Transport, transport))

    def connection_ended(self, relay: Relay, connection: Connection) -> None:
        """Log what the client did wrong, if it did; ask after the broker if the end may be its doing."""
        if connection.fault is not None:
            self._log.debug("client broke the protocol", reason=connection.fault.text)
        if connection.cut_client:
            self._log.warning("connection cut: the holds are full, its is the largest", client=connection.cut_client)
        if connection.broker_fault is not None:
            self._health.failed(connection.broker_fault.text)
        elif connection.doubt_broker:
            self._health.doubt()

    async def watch_broker(self) -> None:
        """Ask after the broker for ever."""
        await self._health.watch(lambda: bool(self.relays))

    def reload(self) -> bool:
        """Decide by the segment's present policy: whether it could be. Connections learn of it at their next message.

        One that could not is tried again by and by.
        """
        engine = self.engine
        generation = engine.segment.generation
        try:
            engine.load(engine.segment.policy())
        except PolicyError as error:
            # The supervisor has loaded the same bytes before: a newer generation came while they were copied, and with
            # it another order to reload; or memory is out.
            self._log.error("policy not loaded", reason=str(error))
            return False
        self._generation = generation
        self.waiting.reconsider(time.monotonic())
        self.wills.reconsider(time.monotonic())
        return True

    async def measure_lag(self) -> None:
        """Note for ever how late the event loop is, and what has come to its end meanwhile."""
        while True:
            due = self._loop.time() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            lag = max(0.0, self._loop.time() - due)
            self.engine.sweep(self._loop.time())
            if self._generation != self.engine.segment.generation and self._generation:
                self.reload()
            if self._scalings != self.engine.segment.scalings:
                self._scalings = self.engine.segment.scalings
                self.waiting.look(time.monotonic())
            self.counters.add(LAG_COUNT, 1)
            self.counters.add(LAG_MICROSECONDS, int(lag * 1e6))
            for index, bound in enumerate(LAG_BOUNDS):
                if lag <= bound:
                    self.counters.add(LAG_BUCKETS + index, 1)

    def _run(self, coroutine: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def collect_garbage() -> None:
    """Look for it for ever."""
    collector = Collector()
    while True:
        await asyncio.sleep(COLLECT_INTERVAL)
        collector.look()


async def serve(orders: Orders, control: socket.socket, log: Log) -> None:
    """Be a worker until told to drain; the process ends at once when the supervisor is gone.

    What ends for ever and should not raises here: the process ends too, and is replaced.
    """
    loop = asyncio.get_running_loop()
    worker = Worker(orders, log, loop)
    reader, writer = await asyncio.open_unix_connection(sock=control)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        # timeout(1) and systemd signal all processes of a service: the supervisor alone decides what they mean.
        loop.add_signal_handler(number, lambda: None)
    if not worker.reload():
        raise RuntimeError("without its policy a worker would let everything pass")

    def reload() -> None:
        if worker.reload():
            writer.write(LOADED)

    def load_bans() -> None:
        generation = worker.load_bans()
        if generation is not None:
            writer.write(KNOWS + b"%d\n" % generation)

    def say(line: bytes) -> None:
        if writer.transport.get_write_buffer_size() < MOST_UNSAID:
            writer.write(line)

    worker.load_bans()
    supervisor = Supervision(reader, orders, {RELOAD: reload, BANS: load_bans})
    worker.start()
    writer.write(READY)  # before anything that an order may have it say
    worker.say = say
    essential = {
        asyncio.ensure_future(task)
        for task in (supervisor.follow(), worker.watch_broker(), worker.measure_lag(), collect_garbage())
    }
    drain = asyncio.ensure_future(supervisor.drain.wait())
    done, _ = await asyncio.wait({drain, *essential}, return_when=asyncio.FIRST_COMPLETED)
    for task in done - {drain}:
        task.result()
    await worker.drain()
    for task in essential:
        task.cancel()
    await asyncio.wait(essential)


class Supervision:
    """What the supervisor says, and whether it lives."""

    def __init__(
        self, reader: asyncio.StreamReader, orders: Orders, answers: Mapping[bytes, Callable[[], None]]
    ) -> None:
        """`answers`: what to do at which line, other than DRAIN."""
        self.drain = asyncio.Event()
        self._answers = answers
        self._reader = reader
        self._orders = orders

    async def follow(self) -> None:
        """Do as told: answer, or set `drain`; end the process when the supervisor is gone, also while it drains."""
        while True:
            try:
                line = await self._reader.readline()
            except OSError:
                line = b""
            if line in self._answers:
                self._answers[line]()
                continue
            if line != DRAIN:
                unlink_socket_files(Address.parse(text) for text in self._orders.listen)
                os._exit(1)  # nothing to save: clients hold what was not acknowledged to them
            self.drain.set()
