import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import cast

import pytest

from support import limits
from support.bereaved import on_will
from support.eventually import eventually
from support.playbook import Playbook, connack, connect
from support.raw import CLOSED, RawClient
from support.record_log import RecordLog
from support.wait import GUARD, until
from tidegate.engine.counters import (
    CONNECTIONS,
    LAG_BOUNDS,
    LAG_BUCKETS,
    LAG_COUNT,
    REFUSED,
    UPSTREAM_UP,
    Counters,
    Refusal,
    create_block,
    open_block,
)
from tidegate.gateway import health, worker
from tidegate.gateway.ban_book import Entry
from tidegate.gateway.ban_sheet import BanSheet, sheet_of
from tidegate.gateway.bans import Ban
from tidegate.gateway.connection import Connection
from tidegate.gateway.offences import Offence
from tidegate.gateway.post import create_post
from tidegate.gateway.presence import create_presence
from tidegate.gateway.relay import Relay
from tidegate.gateway.room import clients_within, raise_open_files
from tidegate.gateway.worker import BANS, DRAIN, MAX_OPENING, READY, Orders, Worker
from tidegate.mqtt.connect import Connect, Will
from tidegate.policy.ban_keys import BanKey
from tidegate.policy.model import Policy, Priority

ORDERS = Orders(
    row=0,
    counters_fd=-1,
    segment_fd=-1,
    listen_fds=[],
    lock_fd=-1,
    listen=[],
    listener_names=[],
    broker="unix:/nonexistent",
    connect_timeout=GUARD,
    packet_timeout=30.0,
    max_keepalive=0,
    peer_timeout=300.0,
    max_packet=1 << 20,
    max_connect=65_536,
    hold_messages=1000,
    waiting_room=1000,
    hold_bytes=1 << 20,
    hold_pool=1 << 26,
    bans_fd=-1,
    wake_fds=[],
    presence_fd=-1,
    post_fd=-1,
    post_fds=[],
    wills_key="",
    drain_timeout=0.2,
    log_format="json",
    log_level="warning",
)


class FakeRelay:
    """What the worker calls of a relay, kept; it is its own connection."""

    def __init__(self, held: int = 0) -> None:
        self.failed = asyncio.Event()
        self.shut = 0
        self.ended = False
        self.held = held
        self.connection = self
        self.turns = 0

    def turn(self) -> None:
        self.turns += 1

    def holds(self) -> int:
        return self.held

    def broker_failed(self) -> None:
        self.failed.set()

    def shut_down(self) -> None:
        self.shut += 1


class FakeBroker:
    """Answers every connection's first bytes with CONNACK, then hears it to its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[bytes] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeBroker"]:
        async with await asyncio.start_unix_server(self._serve, self.path):
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(await reader.read(1000))
        writer.write(connack())
        with suppress(OSError):
            await reader.read()
        writer.close()


class Scene:
    """A worker of the running loop, its log, and one listening socket."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "broker"
        self.log = RecordLog()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.counters_fd = create_block(1)
        self.host = limits.host()
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.sheet = BanSheet()
        self.presence_fd = create_presence(1)
        self.post = create_post(1)
        self.orders = replace(
            ORDERS,
            counters_fd=self.counters_fd,
            segment_fd=self.host.fd,
            bans_fd=self.sheet.fd,
            wake_fds=[self.wake_fd],
            presence_fd=self.presence_fd,
            post_fd=self.post[0][0],
            post_fds=[self.post[0][1]],
            wills_key="00" * 32,
            listener_names=["tcp://127.0.0.1:0"],
            broker=f"unix:{self.path}",
        )

    def worker(self, **other: object) -> Worker:
        return Worker(replace(self.orders, **other), self.log, asyncio.get_running_loop())  # type: ignore[arg-type]

    def close(self) -> None:
        self.listener.close()
        os.close(self.counters_fd)
        os.close(self.host.fd)
        os.close(self.wake_fd)
        os.close(self.presence_fd)
        for fd in self.post[0]:
            os.close(fd)
        self.sheet.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


@asynccontextmanager
async def running(scene: Scene, drain_timeout: float = 0.2) -> AsyncIterator[Worker]:
    """A worker that accepts on the scene's port, drained at the end."""
    made = Worker(
        replace(scene.orders, listen_fds=[os.dup(scene.listener.fileno())], drain_timeout=drain_timeout),
        scene.log,
        asyncio.get_running_loop(),
    )
    made.start()
    try:
        yield made
    finally:
        await made.drain()


def a_relay() -> tuple[FakeRelay, Relay]:
    fake = FakeRelay()
    return fake, cast(Relay, fake)


def ended(made: Worker, connection: Connection) -> None:
    made.connection_ended(a_relay()[1], connection)


def test_orders_survive_their_line() -> None:
    orders = replace(
        ORDERS, row=3, counters_fd=7, listen_fds=[8, 9], lock_fd=10, listen=["tcp://127.0.0.1:1", 'unix:/a "b"\n/ö']
    )
    line = orders.line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert Orders.parse(line) == orders


class TestOpenUpstream:
    async def test_a_client_reaches_the_broker_and_both_are_counted(self, scene: Scene) -> None:
        async with FakeBroker(scene.path).running() as broker, running(scene) as made:
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
            writer.write(connect())
            assert await reader.readexactly(4) == connack()
            assert broker.heard == [connect()]
            assert made.counters.value(CONNECTIONS) == 1
            assert made.counters.value(UPSTREAM_UP) == 1
            assert scene.log.of("info") == [("broker answers", {"broker": f"unix:{scene.path}"})]
            writer.close()
            await writer.wait_closed()
            await eventually(lambda: made.counters.value(CONNECTIONS) == 0, "the connection's end")

    async def test_a_broker_that_is_away_fails_the_relay_and_is_told_once(self, scene: Scene) -> None:
        made = scene.worker()
        for _ in range(2):
            fake, relay = a_relay()
            made.open_upstream(relay)
            await asyncio.wait_for(fake.failed.wait(), GUARD)
        assert made.counters.value(UPSTREAM_UP) == 0
        ((event, fields),) = scene.log.of("warning")
        assert event == "broker does not answer"
        assert fields["reason"] == "No such file or directory"

    async def test_while_the_broker_is_known_to_be_away_nobody_knocks(self, scene: Scene) -> None:
        made = scene.worker()
        fake, relay = a_relay()
        made.open_upstream(relay)
        await asyncio.wait_for(fake.failed.wait(), GUARD)
        async with FakeBroker(scene.path).running() as broker:  # it is back, but no probe has found out
            fake, relay = a_relay()
            made.open_upstream(relay)
            assert not fake.failed.is_set(), "not from within the relay's own call"
            await asyncio.sleep(0)
            assert fake.failed.is_set(), "at the very next turn"
            assert broker.heard == []

    async def test_a_broker_that_does_not_accept_in_time(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        async def hang(*_: object) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(worker, "dial", hang)
        made = scene.worker(connect_timeout=0.01)
        fake, relay = a_relay()
        made.open_upstream(relay)
        await asyncio.wait_for(fake.failed.wait(), GUARD)
        ((_, fields),) = scene.log.of("warning")
        assert fields["reason"] == "no connection within 0.01 s"

    async def test_so_many_upstreams_are_opened_at_a_time(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        gate, begun = asyncio.Event(), 0

        async def wait(*_: object) -> None:
            nonlocal begun
            begun += 1
            await gate.wait()

        monkeypatch.setattr(worker, "dial", wait)
        made = scene.worker()
        relays = [a_relay() for _ in range(MAX_OPENING + 10)]
        for _, relay in relays:
            made.open_upstream(relay)
        for _ in range(10):  # turns of the loop
            await asyncio.sleep(0)
        assert begun == MAX_OPENING
        gate.set()
        await eventually(lambda: begun == len(relays), "the rest to have their turn")
        assert not any(fake.failed.is_set() for fake, _ in relays)

    @pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
    async def test_a_shortage_of_descriptors_is_not_the_brokers_fault(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        tried = 0

        async def fail(*_: object) -> None:
            nonlocal tried
            tried += 1
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(worker, "dial", fail)
        made = scene.worker()
        for _ in range(3):
            fake, relay = a_relay()
            made.open_upstream(relay)
            await asyncio.wait_for(fake.failed.wait(), GUARD)
        assert tried == 3, "the next one is not refused unasked"
        assert [event for event, _ in scene.log.of("warning")] == ["no socket for a connection"]

    async def test_for_a_client_that_has_gone_while_it_waited_none_is_opened(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: object) -> None:
            pytest.fail("nobody asks for it any more")

        monkeypatch.setattr(worker, "dial", fail)
        made = scene.worker()
        fake, relay = a_relay()
        made.open_upstream(relay)
        fake.ended = True
        await asyncio.wait_for(fake.failed.wait(), GUARD)
        assert scene.log.said == []


class TestRoom:
    async def test_beyond_the_open_file_limit_clients_are_closed_until_others_have_gone(self, scene: Scene) -> None:
        async with FakeBroker(scene.path).running() as broker, running(scene) as made:
            made.room.most = 1
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
            writer.write(connect())
            assert await reader.readexactly(4) == connack()
            for _ in range(3):
                refused, ours = await asyncio.open_connection("127.0.0.1", scene.port)
                assert await refused.read() == b""
                ours.close()
            assert made.counters.value(REFUSED + Refusal.OPEN_FILES) == 3
            assert len(scene.log.of("warning")) == 1
            writer.close()
            await eventually(lambda: made.room.taken == 0, "both of its sockets to be closed")
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
            writer.write(connect())
            assert await reader.readexactly(4) == connack()
            assert len(broker.heard) == 2
            writer.close()
            await writer.wait_closed()

    async def test_the_limit_is_this_processs(self, scene: Scene) -> None:
        made = scene.worker(listen_fds=[0, 0, 0])
        assert made.room.most == clients_within(raise_open_files(), 3, 1)


class TestConnectionEnded:
    async def test_an_ordinary_end_is_not_told(self, scene: Scene) -> None:
        play = Playbook.opened()
        play.connection.client_closed()
        ended(scene.worker(), play.connection)
        assert scene.log.said == []

    async def test_a_fault_of_the_client_is_for_whoever_looks_for_it(self, scene: Scene) -> None:
        play = Playbook().client(b"\xc0\x00")
        ended(scene.worker(), play.connection)
        assert scene.log.said == [
            ("debug", "client broke the protocol", {"reason": "the first packet is not a CONNECT"})
        ]

    async def test_a_fault_of_the_broker_is_a_warning_and_closes_the_door(self, scene: Scene) -> None:
        made = scene.worker()
        ended(made, Playbook().client(connect()).upstream().broker(b"\xd0\x00").connection)
        ((event, fields),) = scene.log.of("warning")
        assert event == "broker does not answer"
        assert fields["reason"] == "the broker's first packet is not a CONNACK"
        fake, relay = a_relay()
        made.open_upstream(relay)
        await asyncio.sleep(0)
        assert fake.failed.is_set()

    @pytest.mark.parametrize("lost", [False, True])
    async def test_after_a_broker_that_closed_one_connection_it_is_asked(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch, lost: bool
    ) -> None:
        monkeypatch.setattr(health, "IDLE_PAUSE", 10 * GUARD)  # no probe comes by itself
        async with FakeBroker(scene.path).running() as broker:
            made = scene.worker()
            watching = asyncio.create_task(made.watch_broker())
            await eventually(lambda: made.counters.value(UPSTREAM_UP) == 1, "the first probe's success")
            play = Playbook.opened()
            play.connection.broker_closed(lost)
            ended(made, play.connection)
            await eventually(lambda: len(broker.heard) == 2, "a second probe")
            assert scene.log.of("warning") == [], "a doubt alone is no news"
            watching.cancel()
            await asyncio.wait({watching})


class TestDrain:
    async def test_clients_are_told_and_no_more_are_accepted(self, scene: Scene) -> None:
        async with FakeBroker(scene.path).running(), running(scene) as made:
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
            writer.write(connect())
            await reader.readexactly(4)
            await made.drain()
            assert await reader.read() == b""
            assert made.relays == set()
            scene.listener.close()  # the supervisor's: the port is free once the worker's own is closed too
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", scene.port)
            writer.close()
            await writer.wait_closed()

    async def test_upstreams_that_are_kept_are_closed_too(self, scene: Scene) -> None:
        scene.host.replace(Policy(limits=(on_will(delay=3600.0),)))
        will = Will("status", b"offline", 0, False)
        greeting = Connect(4, False, True, 60, "c", None, None, will).write()
        async with FakeBroker(scene.path).running() as broker, running(scene) as made:
            assert made.reload()
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
            writer.write(greeting)
            assert await reader.readexactly(4) == connack()
            writer.close()
            await eventually(lambda: made.relays == set(), "the client's end")
            (kept,) = made.wills.kept
            assert (made.room.taken, made.room.kept) == (0, 1)
            await made.drain()
            await eventually(lambda: not made.wills.kept, "the upstream's end")
            assert kept.will.owner is None
            assert broker.heard == [greeting]

    @pytest.mark.parametrize(
        ("drain_timeout", "clients", "groups"),
        [(0.0, 25, [25]), (0.2, 5, [5]), (0.2, 25, [13, 12]), (2.0, 25, [10, 10, 5]), (0.4, 100, [25, 25, 25, 25])],
    )
    async def test_connections_end_in_groups(
        self,
        scene: Scene,
        monkeypatch: pytest.MonkeyPatch,
        drain_timeout: float,
        clients: int,
        groups: list[int],
    ) -> None:
        made = scene.worker(drain_timeout=drain_timeout)
        fakes = [FakeRelay() for _ in range(clients)]
        made.relays = set(cast(list[Relay], fakes))
        ends: list[int] = []

        async def step(seconds: float) -> None:
            assert seconds == worker.DRAIN_STEP
            ends.append(sum(fake.shut for fake in fakes) - sum(ends))
            if sum(ends) == clients:
                made.relays.clear()

        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "sleep", step)
            await made.drain()
        assert ends == groups
        assert {fake.shut for fake in fakes} == {1}

    async def test_those_with_messages_held_come_last(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        made = scene.worker(drain_timeout=1.0)
        holding, others = [FakeRelay(held=1) for _ in range(10)], [FakeRelay() for _ in range(20)]
        made.relays = set(cast(list[Relay], holding + others))
        shut: list[tuple[int, int]] = []

        async def step(_: float) -> None:
            shut.append((sum(fake.shut for fake in others), sum(fake.shut for fake in holding)))
            if shut[-1] == (20, 10):
                made.relays.clear()

        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "sleep", step)
            await made.drain()
        assert shut == [(10, 0), (20, 0), (20, 10)]

    async def test_who_does_not_go_is_not_waited_for_longer_than_the_timeout(self, scene: Scene) -> None:
        made = scene.worker(drain_timeout=0.02)
        fake, relay = a_relay()
        made.relays = {relay}
        await asyncio.wait_for(made.drain(), GUARD)
        assert fake.shut == 1


class TestTurns:
    async def test_not_all_are_read_at_once(self, scene: Scene) -> None:
        made = scene.worker()
        fakes = [FakeRelay() for _ in range(worker.READ_AT_ONCE + 2)]
        for _ in range(2):
            for fake in fakes:
                made.take_turn(cast(Relay, fake))
        await asyncio.sleep(0)
        assert [fake.turns for fake in fakes] == [1] * worker.READ_AT_ONCE + [0, 0]
        made.take_turn(cast(Relay, fakes[0]))
        await asyncio.sleep(0)
        assert [fake.turns for fake in fakes] == [2] + [1] * (worker.READ_AT_ONCE + 1)

    async def test_one_that_fails_costs_nobody_his_turn(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        failed: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context["exception"]))
        made = scene.worker()
        bad, good = FakeRelay(), FakeRelay()
        monkeypatch.setattr(bad, "turn", lambda: 1 / 0)
        for fake in (bad, good):
            made.take_turn(cast(Relay, fake))
        for _ in range(2):
            await asyncio.sleep(0)
        assert good.turns == 1
        assert [type(error) for error in failed] == [ZeroDivisionError]


class TestWaiting:
    """Messages that wait, and other workers that may have what they wait for."""

    async def test_turns_are_given_when_the_time_has_come(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        made = scene.worker()
        assert made.waiting is not None
        assert made.waiting.arm is not None
        runs: list[float] = []
        monkeypatch.setattr(made.waiting, "run", runs.append)
        made.waiting.arm(time.monotonic() - 1.0)
        await eventually(lambda: runs, "a run")

    async def test_one_who_is_woken_looks(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        made = scene.worker()
        assert made.waiting is not None
        looks: list[float] = []
        monkeypatch.setattr(made.waiting, "look", looks.append)
        os.eventfd_write(scene.wake_fd, 3)
        await eventually(lambda: looks, "a look")
        with pytest.raises(BlockingIOError):
            os.eventfd_read(scene.wake_fd)

    async def test_others_are_woken_and_never_oneself(self, scene: Scene) -> None:
        others = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
        made = scene.worker(wake_fds=[scene.wake_fd, *others])
        made.wake(0b101)
        assert os.eventfd_read(others[1]) == 1
        for fd in (scene.wake_fd, others[0]):
            with pytest.raises(BlockingIOError):
                os.eventfd_read(fd)
        for fd in others:
            os.close(fd)


EVE = b"\xc0\x00\x02\x07"
"""192.0.2.7."""


def ban_of_eve() -> bytes:
    """A sheet with the ban of her address."""
    return sheet_of([Entry(BanKey(ip_network("192.0.2.7")), "guess", 0.0, 100.0)], ())


class TestBans:
    async def test_it_goes_by_the_newest_sheet(self, scene: Scene) -> None:
        made = scene.worker()
        assert made.load_bans() == 1
        assert made.bans.of_address(EVE, 50.0) is None
        scene.sheet.publish(ban_of_eve())
        assert made.load_bans() == 2
        assert made.bans.of_address(EVE, 50.0) == Ban("guess", 100.0)

    async def test_a_sheet_that_is_being_written_is_left_alone(self, scene: Scene) -> None:
        made = scene.worker()
        scene.sheet.publish(ban_of_eve())
        made.load_bans()
        os.pwrite(scene.sheet.fd, b"x", 20)
        assert made.load_bans() is None
        assert made.bans.of_address(EVE, 50.0) == Ban("guess", 100.0)

    async def test_the_supervisor_is_told_of_an_offence_once(self, scene: Scene) -> None:
        made = scene.worker()
        told: list[bytes] = []
        made.ban("guess", "eve", None, EVE)  # nobody listens yet
        made.say = told.append
        for client_id in ("eve2", "eve2", "eve3"):
            made.ban("guess", client_id, None, EVE)
        address = ip_address("192.0.2.7")
        assert [Offence.read(line.rstrip()) for line in told] == [
            Offence("guess", client_id, None, address) for client_id in ("eve2", "eve3")
        ]


async def test_the_lag_is_counted_in_cumulative_buckets(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LAG_INTERVAL", 0.001)
    made = scene.worker()
    measuring = asyncio.create_task(made.measure_lag())
    await eventually(lambda: made.counters.value(LAG_COUNT) >= 3, "three looks")
    measuring.cancel()
    await asyncio.wait({measuring})
    buckets = [made.counters.value(LAG_BUCKETS + index) for index in range(len(LAG_BOUNDS))]
    assert buckets == sorted(buckets)
    assert buckets[-1] <= made.counters.value(LAG_COUNT)


async def test_who_waits_for_a_window_hears_of_a_scale_factor(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "LAG_INTERVAL", 0.001)
    made = scene.worker()
    looks: list[float] = []
    monkeypatch.setattr(made.waiting, "look", looks.append)
    measuring = asyncio.create_task(made.measure_lag())
    await eventually(lambda: made.counters.value(LAG_COUNT) >= 3, "three looks")
    assert looks == []
    made.engine.segment.set_scale(0, Priority.NORMAL, 0.5)
    seen = made.counters.value(LAG_COUNT)
    await eventually(lambda: made.counters.value(LAG_COUNT) >= seen + 3, "three more")
    measuring.cancel()
    await asyncio.wait({measuring})
    assert len(looks) == 1


class TestProcess:
    """`serve`, in the process that it is written for."""

    @pytest.fixture
    def control(self, scene: Scene, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
        """A worker that accepts clients, and the supervisor's end of its control socket."""
        ours, theirs = socket.socketpair()
        ours.settimeout(GUARD)
        with (tmp_path / "lock").open("w") as lock, ours, theirs:
            orders = replace(scene.orders, listen_fds=[scene.listener.fileno()], lock_fd=lock.fileno())
            process = subprocess.Popen(
                [sys.executable, "-m", "tidegate.app.worker", str(theirs.fileno())],
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
            )
            theirs.close()
            try:
                ours.sendall(orders.line())
                assert ours.recv(len(READY)) == READY
                yield process, ours
            finally:
                process.kill()
                process.wait()

    def test_it_drains_and_ends_when_told_to(
        self, scene: Scene, control: tuple[subprocess.Popen[bytes], socket.socket]
    ) -> None:
        process, ours = control
        with RawClient(scene.port) as client:
            client.send(connect()[:5])
            until(lambda: Counters(open_block(scene.counters_fd), 0).value(CONNECTIONS) == 1, "the client")
            ours.sendall(DRAIN)
            assert client.until_closed() == [CLOSED]
        assert process.wait(GUARD) == 0

    def test_it_says_which_bans_it_goes_by(
        self, scene: Scene, control: tuple[subprocess.Popen[bytes], socket.socket]
    ) -> None:
        _, ours = control
        generation = scene.sheet.publish(ban_of_eve())
        ours.sendall(BANS)
        with ours.makefile("rb") as lines:
            assert lines.readline() == b"knows %d\n" % generation

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
    def test_signals_are_for_the_supervisor(
        self, control: tuple[subprocess.Popen[bytes], socket.socket], number: signal.Signals
    ) -> None:
        process, ours = control
        process.send_signal(number)
        ours.sendall(DRAIN)
        assert process.wait(GUARD) == 0
