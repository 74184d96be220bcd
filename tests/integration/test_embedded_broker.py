"""The embedded broker against the Mosquitto of this machine."""

import asyncio
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import psutil
import pytest

from support.eventually import eventually
from support.record_log import RecordLog
from support.wait import GUARD, until
from tidegate.gateway import mosquitto
from tidegate.gateway.mosquitto import BrokerError, EmbeddedBroker, socket_path
from tidegate.gateway.mosquitto_binary import find_mosquitto
from tidegate.gateway.probe import probe
from tidegate.policy.address import Address

PARENT = """
import asyncio, sys
from pathlib import Path
import structlog, uvloop
from tidegate.gateway.mosquitto import EmbeddedBroker

async def main():
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    broker = EmbeddedBroker(Path(sys.argv[1]), structlog.get_logger())
    await broker.start()
    print(broker.pid, flush=True)
    await asyncio.Event().wait()

uvloop.run(main())
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start Mosquitto as another user")


class Clock:
    """Time that a test moves; a sleep passes at once, and is noted."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


Running = Callable[[], AbstractAsyncContextManager[EmbeddedBroker]]


@pytest.fixture
def log() -> RecordLog:
    return RecordLog()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def running(tmp_path: Path, log: RecordLog, clock: Clock) -> Running:
    """A context in which an embedded broker of this test's state directory runs."""

    @asynccontextmanager
    async def context() -> AsyncIterator[EmbeddedBroker]:
        broker = EmbeddedBroker(tmp_path, log, sleep=clock.sleep, now=clock)
        try:
            await broker.start()
            yield broker
        finally:
            await broker.stop()

    return context


async def run(*command: str | Path) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    async with asyncio.timeout(GUARD):
        out, _ = await process.communicate()
    assert process.returncode == 0, command
    return out.decode()


def parent_process(state_dir: Path) -> "subprocess.Popen[bytes]":
    """Another process that has an embedded broker, and prints its pid when that accepts connections."""
    command = [sys.executable, "-c", PARENT, str(state_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


async def retain(broker: EmbeddedBroker, text: str) -> None:
    await run("mosquitto_pub", "--unix", broker.socket_path, "-q", "1", "-r", "-t", "kept", "-m", text)


async def retained(broker: EmbeddedBroker) -> str:
    return await run("mosquitto_sub", "--unix", broker.socket_path, "-q", "1", "-t", "kept", "-C", "1")


async def kill(broker: EmbeddedBroker) -> None:
    """End Mosquitto by SIGKILL, and wait until its successor accepts connections."""
    pid = broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: broker.pid != pid, "a new Mosquitto")


async def test_it_speaks_mqtt_and_its_log_is_ours(running: Running, log: RecordLog) -> None:
    async with running() as broker:
        assert await probe(Address(kind="unix", path=str(broker.socket_path)), GUARD) is None
        assert broker.folder.stat().st_mode & 0o777 == 0o700
    assert log.has("info", "mosquitto version")
    assert log.has("info", "terminating")
    assert all(fields == {"source": "mosquitto"} for _, _, fields in log.said)


async def test_stop_leaves_neither_process_nor_socket(running: Running) -> None:
    async with running() as broker:
        pid = broker.pid
        assert pid is not None
    assert not psutil.pid_exists(pid)
    assert not broker.socket_path.exists()
    assert (broker.folder / "mosquitto.db").exists()


async def test_a_retained_message_outlives_a_restart(running: Running) -> None:
    async with running() as broker:
        await retain(broker, "hi")
    async with running() as broker:
        assert await retained(broker) == "hi\n"


async def test_it_is_restarted_each_time_later_until_it_has_lived(
    running: Running, clock: Clock, log: RecordLog
) -> None:
    async with running() as broker:
        await kill(broker)
        await kill(broker)
        clock.now += mosquitto.STEADY
        await kill(broker)
    assert clock.slept == [0.2, 0.4, 0.2]
    ended = [fields for level, event, fields in log.said if level == "error" and "ended" in event]
    assert ended == [{"exit": -signal.SIGKILL, "restart_in": delay} for delay in clock.slept]


async def test_a_restart_that_fails_is_told_and_tried_again(
    running: Running, clock: Clock, log: RecordLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = iter([Path("/nonexistent/mosquitto"), Path("/nonexistent/mosquitto")])
    async with running() as broker:
        monkeypatch.setattr(f"{mosquitto.__name__}.find_mosquitto", lambda: next(paths, None) or find_mosquitto())
        await kill(broker)
    assert clock.slept == [0.2, 0.4, 0.8]
    assert log.has("error", "mosquitto cannot be started")


async def test_ctrl_c_on_our_terminal_does_not_reach_it(running: Running) -> None:
    async with running() as broker:
        assert broker.pid is not None
        assert os.getpgid(broker.pid) == broker.pid


@as_root
async def test_root_starts_it_as_its_service_user(running: Running) -> None:
    async with running() as broker:
        assert psutil.Process(broker.pid).username() == "mosquitto"
        assert broker.folder.owner() == "mosquitto"
        await retain(broker, "hi")
    assert (broker.folder / "mosquitto.db").owner() == "mosquitto"


@as_root
async def test_without_a_service_user_root_keeps_it_and_hands_it_over_later(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    with monkeypatch.context() as context:
        context.setattr(pwd, "getpwnam", unknown)
        async with running() as broker:
            assert psutil.Process(broker.pid).username() == "root"
            await retain(broker, "hi")
    async with running() as broker:
        assert psutil.Process(broker.pid).username() == "mosquitto"
        assert await retained(broker) == "hi\n"


async def test_a_broken_database_is_told_in_its_own_words(running: Running, tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    (folder / "mosquitto.db").write_bytes(b"no database")
    with pytest.raises(BrokerError, match=r"ended at once with exit code \d+: .*database") as caught:
        async with running():
            pass
    assert str(folder) in caught.value.fix


async def test_a_state_directory_too_deep_is_told(tmp_path: Path, log: RecordLog) -> None:
    deep = tmp_path / ("x" * 100)
    with pytest.raises(BrokerError, match="107") as caught:
        await EmbeddedBroker(deep, log).start()
    assert "bytes shorter" in caught.value.fix


async def test_one_that_still_runs_is_waited_for_then_named(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as first:
        with monkeypatch.context() as context:
            context.setattr(mosquitto, "STOP_WITHIN", 0.05)
            with pytest.raises(BrokerError, match=rf"\(pid {first.pid}\)") as caught:
                async with running():
                    pass
        assert caught.value.fix == f"kill {first.pid}"
        assert await probe(Address(kind="unix", path=str(first.socket_path)), GUARD) is None


async def test_kill_9_of_the_parent_ends_it_and_loses_nothing(running: Running, tmp_path: Path) -> None:
    path = socket_path(tmp_path)
    with parent_process(tmp_path) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert path.is_socket()
        await run("mosquitto_pub", "--unix", path, "-q", "1", "-r", "-t", "kept", "-m", "hi")
        parent.kill()
    until(lambda: not psutil.pid_exists(pid), "the end of Mosquitto")
    assert not path.exists()
    async with running() as broker:
        assert await retained(broker) == "hi\n"


async def test_the_next_one_waits_for_the_orphan_of_a_killed_parent(tmp_path: Path, log: RecordLog) -> None:
    with parent_process(tmp_path) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGSTOP)  # it is slow to save
        parent.kill()
    configuration = tmp_path / "broker" / "mosquitto.conf"
    written = configuration.stat().st_mtime_ns
    broker = EmbeddedBroker(tmp_path, log)
    starting = asyncio.ensure_future(broker.start())
    await eventually(lambda: configuration.stat().st_mtime_ns != written, "the second start")
    assert not starting.done()
    os.kill(pid, signal.SIGCONT)
    try:
        address = await starting
        await eventually(lambda: not psutil.pid_exists(pid), "the first one's end")
        assert await probe(address, GUARD) is None
    finally:
        await broker.stop()
