"""The supervisor with real workers in front of a real broker, on the event loop that it runs on."""

import asyncio
import contextlib
import errno
import functools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec

import psutil
import pytest
import uvloop

from support import limits, wire
from support.broker import Broker
from support.eventually import eventually
from support.raw import RawClient
from support.record_log import RecordLog
from support.wait import GUARD
from tidegate.engine.counters import CONNECTIONS, UPSTREAM_UP, Counters
from tidegate.gateway import supervisor as module
from tidegate.gateway.ban_book import BanBook
from tidegate.gateway.ban_file import BanFile
from tidegate.gateway.ban_keeper import BanKeeper
from tidegate.gateway.ban_sheet import BanSheet
from tidegate.gateway.listeners import bind
from tidegate.gateway.presence import Presence
from tidegate.gateway.supervisor import Supervisor, WorkerFailed
from tidegate.gateway.worker import Orders
from tidegate.policy.address import Address
from tidegate.policy.model import Key, KeyKind, Policy

P = ParamSpec("P")
WORKER = (sys.executable, "-m", "tidegate.app.worker")
FAILS = (sys.executable, "-c", "raise SystemExit(3)")


def on_uvloop(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Run a test on the event loop that the supervisor has in production."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(*args, **kwargs))

    return run


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    made = Broker(tmp_path_factory.mktemp("b"))
    made.start()
    yield made
    made.stop()


class Scene:
    """What a supervisor is made of, and the supervisors that were made."""

    def __init__(self, folder: Path, broker: Broker) -> None:
        self.broker = broker.unix
        self.log = RecordLog()
        self.lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
        self.host = limits.host(workers=2)
        self.sheet = BanSheet()
        self.port = 0
        self.offences: list[bytes] = []
        self._others = {child.pid for child in psutil.Process().children()}

    def children(self) -> list[psutil.Process]:
        """The processes that were started since, also those that have ended and were not reaped."""
        return [child for child in psutil.Process().children() if child.pid not in self._others]

    def supervisor(self, workers: int, command: tuple[str, ...] = WORKER) -> Supervisor:
        sockets = bind(Address(kind="tcp", host="127.0.0.1", port=0), workers)
        self.port = sockets[0].getsockname()[1]
        orders = Orders(
            row=0,
            counters_fd=-1,
            segment_fd=self.host.fd,
            listen_fds=[],
            lock_fd=self.lock,
            listen=[f"tcp://127.0.0.1:{self.port}"],
            listener_names=["tcp://127.0.0.1:0"],
            broker=self.broker,
            connect_timeout=GUARD,
            packet_timeout=30.0,
            max_keepalive=0,
            peer_timeout=300.0,
            max_packet=1 << 20,
            bans_fd=self.sheet.fd,
            max_connect=65_536,
            hold_messages=1000,
            waiting_room=1000,
            hold_bytes=1 << 20,
            hold_pool=1 << 26,
            wake_fds=[],
            presence_fd=-1,
            post_fd=-1,
            post_fds=[],
            wills_key="",
            drain_timeout=0.2,
            log_format="json",
            log_level="warning",
        )
        return Supervisor(command, orders, [[sock] for sock in sockets], self.log, offence=self.offence)

    def offence(self, line: bytes) -> None:
        """A worker tells one: kept."""
        self.offences.append(line)

    @asynccontextmanager
    async def running(self, workers: int, command: tuple[str, ...] = WORKER) -> AsyncIterator[Supervisor]:
        """A supervisor that has started; stopped at the end, which must leave no process."""
        made = self.supervisor(workers, command)
        try:
            await made.start()
            yield made
        finally:
            await made.stop()
            assert self.children() == []

    async def client(self, client_id: str) -> RawClient:
        """A client that the broker has accepted. The supervisor goes on meanwhile: it may be what is waited for."""

        def connected() -> RawClient:
            client = RawClient(self.port)
            client.connect(client_id)
            return client

        return await asyncio.to_thread(connected)


@pytest.fixture
def scene(tmp_path: Path, broker: Broker) -> Iterator[Scene]:
    made = Scene(tmp_path, broker)
    yield made
    os.close(made.lock)
    os.close(made.host.fd)
    made.sheet.close()


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead worker is replaced with no pause to speak of."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.01)


def descriptors() -> dict[str, str]:
    """The open descriptors of this process, and what each is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one of the listing itself
            found[name] = os.readlink(f"/proc/self/fd/{name}")
    return found


def connections(supervisor: Supervisor) -> list[int]:
    """The gauge of each worker."""
    return [Counters(supervisor.words, row).value(CONNECTIONS) for row in range(supervisor.workers)]


async def kill(supervisor: Supervisor, row: int) -> int:
    """kill -9 of a worker: its pid."""
    pid = supervisor.processes()[f"worker-{row}"]
    os.kill(pid, signal.SIGKILL)
    return pid


def restarted(supervisor: Supervisor, row: int, pid: int) -> Callable[[], bool]:
    """Whether a worker other than `pid` runs."""
    return lambda: supervisor.processes().get(f"worker-{row}", pid) != pid


@on_uvloop
async def test_every_worker_accepts(scene: Scene) -> None:
    async with scene.running(2) as supervisor:
        assert list(supervisor.processes()) == ["worker-0", "worker-1"]
        assert {child.pid for child in scene.children()} == set(supervisor.processes().values())
        clients = []
        for number in range(200):  # the kernel spreads them
            clients.append(await scene.client(f"spread-{number}"))
            if all(connections(supervisor)):
                break
        assert all(connections(supervisor))
        assert sum(connections(supervisor)) == len(clients)
        assert supervisor.restarts == 0
        await eventually(lambda: supervisor.trouble() is None, "both to have found the broker")
        for client in clients:
            client.close()


@on_uvloop
async def test_a_worker_that_is_killed_is_replaced(scene: Scene) -> None:
    async with scene.running(1) as supervisor:
        lost = await scene.client("lost")
        assert connections(supervisor) == [1]
        pid = await kill(supervisor, 0)
        await eventually(lambda: supervisor.restarts == 1, "the death to be noticed")
        assert connections(supervisor) == [0]
        assert Counters(supervisor.words, 0).value(UPSTREAM_UP) == 0
        assert supervisor.trouble() is not None
        await eventually(restarted(supervisor, 0, pid), "the successor")
        assert scene.log.said == [
            ("error", "worker died and is being replaced", {"worker": 0, "how": "killed by SIGKILL"})
        ]
        await eventually(lambda: supervisor.trouble() is None, "the successor to find the broker")
        lost.close()


@on_uvloop
async def test_who_connects_while_nobody_accepts_is_served_by_the_successor(scene: Scene) -> None:
    async with scene.running(1) as supervisor:
        pid = await kill(supervisor, 0)
        psutil.Process(pid).wait(GUARD)
        # Nobody accepts now: the supervisor cannot have replaced it before this task lets go.
        early = [RawClient(scene.port) for _ in range(5)]
        for number, client in enumerate(early):
            client.send(wire.connect(wire.V311, f"early-{number}"))
        for client in early:
            answer = await asyncio.to_thread(client.read)
            assert answer is not None
            assert wire.tell(answer, wire.V311) == "CONNACK 0x00"
        assert supervisor.restarts == 1
        assert restarted(supervisor, 0, pid)()
        for client in early:
            client.close()


@on_uvloop
async def test_the_others_go_on(scene: Scene) -> None:
    async with scene.running(2) as supervisor:
        clients: list[RawClient] = []
        while not connections(supervisor)[1]:
            assert len(clients) < 200
            clients.append(await scene.client(f"other-{len(clients)}"))
        kept = clients[-1]
        pid = await kill(supervisor, 0)
        await eventually(restarted(supervisor, 0, pid), "the successor")
        assert kept.exchange(wire.PINGREQ) == wire.PINGRESP
        assert connections(supervisor)[1] >= 1
        for client in clients:
            client.close()


@on_uvloop
async def test_nobody_is_looked_for_in_a_worker_that_has_died(scene: Scene) -> None:
    key = b"a client's key.."
    async with scene.running(2) as supervisor:
        fd = supervisor._presence_fd
        Presence(fd, 2, 0).enter(key)
        other = Presence(fd, 2, 1)
        assert other.others(key) == [0]
        await kill(supervisor, 0)
        await eventually(lambda: supervisor.restarts == 1, "the death to be noticed")
        assert other.others(key) == []
        assert other.is_empty


@pytest.mark.usefixtures("quickly")
@on_uvloop
async def test_restarts_leak_no_descriptor(scene: Scene) -> None:
    async with scene.running(1) as supervisor:
        before = len(descriptors())
        for restarts in range(1, 6):
            pid = await kill(supervisor, 0)
            await eventually(restarted(supervisor, 0, pid), "the successor")
            (await scene.client(f"after-{restarts}")).close()
            assert supervisor.restarts == restarts
        assert len(descriptors()) <= before, descriptors()


@pytest.mark.usefixtures("quickly")
@on_uvloop
async def test_successors_that_fail_are_replaced_too_and_leak_nothing(scene: Scene, tmp_path: Path) -> None:
    """The first succeeds, the next three end at once, the fifth succeeds."""
    count = tmp_path / "count"
    count.write_text("")
    program = (
        "import os, sys; f = open(sys.argv[1], 'a+'); f.write('x'); f.flush(); n = f.tell()\n"
        "if n in (2, 3, 4): sys.exit(3)\n"
        f"os.execv({sys.executable!r}, [{sys.executable!r}, '-m', 'tidegate.app.worker', sys.argv[2]])"
    )
    supervisor = scene.supervisor(1, (sys.executable, "-c", program, str(count)))
    try:
        await supervisor.start()
        before = len(descriptors())
        pid = await kill(supervisor, 0)
        await eventually(lambda: len(count.read_text()) == 5, "the fifth start")
        await eventually(restarted(supervisor, 0, pid), "the successor")
        (await scene.client("patient")).close()
        told = [event for event, _ in scene.log.of("error")]
        assert told == ["worker died and is being replaced", *["worker could not be replaced"] * 3]
        assert len(descriptors()) <= before, descriptors()
    finally:
        await supervisor.stop()
    assert scene.children() == []


@pytest.mark.usefixtures("quickly")
@on_uvloop
async def test_a_successor_that_cannot_even_be_started_is_tried_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fork(2) answers on a machine that has no process or descriptor to spare."""
    popen, failures = subprocess.Popen, 3

    def fail_at_first(*args: Any, **kwargs: Any) -> object:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return popen(*args, **kwargs)

    async with scene.running(1) as supervisor:
        before = len(descriptors())
        pid = await kill(supervisor, 0)
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "Popen", fail_at_first)
            await eventually(restarted(supervisor, 0, pid), "the successor")
        (await scene.client("late")).close()
        assert len(descriptors()) <= before, descriptors()


@pytest.mark.parametrize("workers", [1, 2])
@on_uvloop
async def test_a_command_that_fails_at_once(scene: Scene, workers: int) -> None:
    supervisor = scene.supervisor(workers, FAILS)
    with pytest.raises(WorkerFailed, match=r"worker [01] "):
        await supervisor.start()
    await supervisor.stop()
    assert supervisor.processes() == {}


@on_uvloop
async def test_one_worker_that_fails_takes_the_others_with_it(scene: Scene) -> None:
    program = (
        "import os, socket, sys\n"
        "s = socket.socket(fileno=int(sys.argv[1])); line = s.recv(65536, socket.MSG_PEEK)\n"
        "if b'\"row\": 1' in line: sys.exit(3)\n"
        f"s.set_inheritable(True); os.execv({sys.executable!r}, "
        f"[{sys.executable!r}, '-m', 'tidegate.app.worker', str(s.detach())])"
    )
    supervisor = scene.supervisor(2, (sys.executable, "-c", program))
    with pytest.raises(WorkerFailed, match="worker 1 "):
        await supervisor.start()
    await supervisor.stop()
    assert scene.children() == []
    assert supervisor.processes() == {}


@pytest.mark.parametrize("moment", ["dead", "starting"])
@on_uvloop
async def test_stop_while_a_worker_is_replaced_leaves_no_process(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 10 * GUARD if moment == "dead" else 0.01)
    supervisor = scene.supervisor(2)
    await supervisor.start()
    pid = await kill(supervisor, 0)
    if moment == "dead":
        await eventually(lambda: supervisor.restarts == 1, "the death to be noticed")
    else:
        await eventually(restarted(supervisor, 0, pid), "the successor's process, which cannot be ready yet")
    async with asyncio.timeout(GUARD):
        await supervisor.stop()
    assert caplog.records == [], "no task of its own failed unseen"
    assert scene.children() == []
    assert supervisor.processes() == {}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", scene.port))


@on_uvloop
async def test_all_workers_take_bans_over_at_once_and_successors_begin_with_them(scene: Scene) -> None:
    async with scene.running(2) as supervisor:
        generation = scene.sheet.publish(b'{"classes": [], "limits": {}, "tables": []}')
        supervisor.tell_bans()
        assert await supervisor.bans_known(generation)
        assert not scene.log.said
        pid = await kill(supervisor, 0)
        supervisor.tell_bans()  # also to one that is dead
        await eventually(restarted(supervisor, 0, pid), "the successor")
        generation = scene.sheet.publish(b'{"classes": [], "limits": {}, "tables": []}')
        supervisor.tell_bans()
        await eventually(lambda: supervisor.trouble() is None, "the successor to accept")
        supervisor.tell_bans()
        assert await supervisor.bans_known(generation)


@on_uvloop
async def test_a_worker_that_takes_nothing_over_is_not_waited_for_for_ever(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RELOAD_TIMEOUT", 0.05)
    async with scene.running(1) as supervisor:
        (worker,) = scene.children()
        worker.suspend()
        for _ in range(1000):  # more than its socket takes
            supervisor.tell_bans()
        assert not await supervisor.bans_known(scene.sheet.generation + 1)
        worker.resume()
        generation = scene.sheet.publish(b'{"classes": [], "limits": {}, "tables": []}')
        supervisor.tell_bans()
        await eventually(lambda: any_known(supervisor, generation), "the worker to catch up")


def any_known(supervisor: Supervisor, generation: int) -> bool:
    """Whether its worker goes by this sheet."""
    (process,) = supervisor._processes.values()
    return process.bans_known >= generation


OFFENDING = """
import tidegate.gateway.worker as module
from tidegate.app.worker import main
start = module.Worker.start
def start_and_offend(self):
    start(self)
    for number, name in enumerate(("a" * 60_000, "eve")):
        self._loop.call_later(0.1 * (1 + number), self.ban, "guess", name, None, bytes([192, 0, 2, 7]))
module.Worker.start = start_and_offend
main()
"""


@on_uvloop
async def test_an_offence_bans_in_all_workers_and_on_disk(scene: Scene, tmp_path: Path) -> None:
    limit = limits.limit("guess", limits.BAN, per=(Key(KeyKind.IP),), rate=limits.rate(1))
    file = BanFile(tmp_path)
    keeper = BanKeeper(file, scene.sheet, Policy(limits=(limit,)), scene.log)
    async with scene.running(2, (sys.executable, "-c", OFFENDING)) as supervisor:
        keeper.tell = supervisor.tell_bans
        keeping = asyncio.create_task(keeper.keep())
        await eventually(lambda: len(scene.offences) == 4, "both workers to tell of both")
        assert max(map(len, scene.offences)) > 60_000
        before = scene.sheet.generation
        for line in scene.offences:
            keeper.offend(line)
        await eventually(lambda: scene.sheet.generation > before, "the sheet")
        assert await supervisor.bans_known(scene.sheet.generation)
        await eventually(file.path.exists, "the file")
        keeping.cancel()
        await asyncio.wait({keeping})
    (entry,) = BanBook(file.read().entries)
    assert (str(entry.key), entry.limit, entry.level) == ("ip 192.0.2.7", "guess", 1)
