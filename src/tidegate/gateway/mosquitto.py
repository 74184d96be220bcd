"""The embedded broker: a Mosquitto of our own as a child, on a Unix socket that nobody else reaches.

It lives in `broker` below the state directory: configuration, socket, database. That is its working
directory, and its configuration names no other: Mosquitto cuts a listener's path at the first space, and
its user need not be able to enter the folders above.

What its persistence promises: retained messages, and the subscriptions and QoS 1 and 2 messages of
persistent sessions, outlive its end by SIGTERM, which it also gets when this process is killed. When
Mosquitto itself is killed or the power fails, all that has changed since its last save, `AUTOSAVE` seconds
ago at most, is lost.
"""

import asyncio
import errno
import fcntl
import os
import pwd
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from ..policy.address import UNIX_PATH_BYTES, Address
from .health import Log
from .mosquitto_binary import find_mosquitto
from .mosquitto_process import POLL, MosquittoProcess
from .start_error import StartError
from .state import try_lock

AUTOSAVE = 30
"""Seconds between two saves. Each writes and syncs the whole database while no client is served:
Mosquitto's own half hour loses too much, a second would be felt."""
READY_WITHIN = 60.0
"""Seconds until it must accept connections: it reads its database first, which may be large."""
STOP_WITHIN = 30.0
"""Seconds that it has after SIGTERM to save its database; then SIGKILL."""
FIRST_DELAY = 0.2
"""Seconds between its end and its restart; doubled at each end that follows soon."""
LONGEST_DELAY = 10.0
STEADY = 60.0
"""Seconds of life after which an end counts as the first again."""

_SERVICE_USER = "mosquitto"  # whom distributions make for it
_CONFIGURATION = f"""\
# Written by tidegate at every start: changes are lost.
listener 0 mosquitto.sock
allow_anonymous true
persistence true
persistence_location ./
autosave_interval {AUTOSAVE}
log_dest stderr
log_timestamp false
# The gateway logs clients. Here each line is a write to a pipe, and in a storm of clients the broker would
# wait for it.
connection_messages false
"""


class BrokerError(StartError):
    """The embedded broker cannot be started."""


class EmbeddedBroker:
    """One Mosquitto, restarted when it ends, ended with us however we end.

    `start` belongs on the main thread: the kernel ends Mosquitto when the thread that started it is gone.
    """

    def __init__(
        self,
        state_dir: Path,
        log: Log,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.socket_path = socket_path(state_dir)
        self.folder = self.socket_path.parent
        self.pid: int | None = None
        """The Mosquitto that accepts connections, the last that did while it is restarted."""
        self._lock_path = state_dir.absolute() / "broker.lock"
        self._log = log
        self._sleep = sleep
        self._now = now
        self._process: MosquittoProcess | None = None
        self._supervision: asyncio.Task[None] | None = None

    async def start(self) -> Address:
        """Start it and return its address once it accepts connections; MissingMosquitto or BrokerError if
        that fails.

        The state directory must exist and be locked by this process.
        """
        check_socket_path(self.socket_path)
        process = await self._start_process()
        self._supervision = asyncio.create_task(self._supervise(process))
        return Address(kind="unix", path=str(self.socket_path))

    async def stop(self) -> None:
        """End it, also after a failed start: SIGTERM, for which it saves all; SIGKILL after STOP_WITHIN."""
        if self._supervision:
            self._supervision.cancel()
            await asyncio.wait({self._supervision})
            self._supervision = None
        if self._process:
            await self._process.end(STOP_WITHIN)
            self._process = None
            self.socket_path.unlink(missing_ok=True)  # it does so itself, unless it was killed

    async def _supervise(self, process: MosquittoProcess) -> None:
        delay = 0.0
        while True:
            started = self._now()
            code = await process.ended()
            delay = restart_delay(delay, self._now() - started)
            self._log.error("mosquitto ended; it is started again", exit=code, restart_in=delay)
            process = await self._restarted(delay)

    async def _restarted(self, delay: float) -> MosquittoProcess:
        while True:
            await self._sleep(delay)
            try:
                return await self._start_process()
            except StartError as error:
                delay = restart_delay(delay, 0.0)
                self._log.error("mosquitto cannot be started", reason=error.text, fix=error.fix, restart_in=delay)

    async def _start_process(self) -> MosquittoProcess:
        """Start Mosquitto and wait until it accepts connections."""
        binary = find_mosquitto()
        try:
            user = self._make_folder()
            lock = await self._lock_folder()
            try:
                self.socket_path.unlink(missing_ok=True)  # of one that was killed
                process = self._process = await MosquittoProcess.start(
                    [binary, "-c", "mosquitto.conf"], self.folder, self._log, user=user, inherited_fd=lock
                )
                os.ftruncate(lock, 0)
                os.pwrite(lock, str(process.pid).encode(), 0)
            finally:
                os.close(lock)
        except (OSError, subprocess.SubprocessError) as error:
            raise BrokerError(
                f"cannot run {binary} in {self.folder}: {error}",
                f"let this user run it and own the folder: chown -R USER {self.folder}",
            ) from error
        await self._accepting(process)
        self.pid = process.pid
        return process

    def _make_folder(self) -> pwd.struct_passwd | None:
        """Make folder (0700) and configuration; the user to run Mosquitto as, None for our own."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        user = _hand_over(self.folder) if os.geteuid() == 0 else None
        # Mosquitto started as root would change to its service user by itself, and that clears
        # PR_SET_PDEATHSIG.
        stay_root = "user root\n" if os.geteuid() == 0 and user is None else ""
        path = self.folder / "mosquitto.conf"
        path.unlink(missing_ok=True)
        with path.open("x") as file:  # "x" follows no link that the folder's owner may have laid
            os.fchmod(file.fileno(), 0o644)
            file.write(_CONFIGURATION + stay_root)
        return user

    async def _lock_folder(self) -> int:
        """A locked descriptor that Mosquitto is to inherit: the folder is taken for exactly as long as one
        lives.

        After kill -9 of a gateway its Mosquitto may still be saving: two would overwrite one another's
        database, and the old one, ending, would remove the socket of the new.
        """
        fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            async with asyncio.timeout(STOP_WITHIN):
                while not try_lock(fd, fcntl.LOCK_EX):
                    await asyncio.sleep(POLL)
        except TimeoutError as error:
            pid = os.pread(fd, 20, 0).decode()
            os.close(fd)
            raise BrokerError(
                f"the Mosquitto of an earlier run (pid {pid}) still works in {self.folder}", f"kill {pid}"
            ) from error
        except BaseException:
            os.close(fd)
            raise
        return fd

    async def _accepting(self, process: MosquittoProcess) -> None:
        """Return when it accepts connections; BrokerError with the last lines of its log when it does not."""
        try:
            async with asyncio.timeout(READY_WITHIN):
                while not (_accepts(self.socket_path) or process.over):
                    await asyncio.sleep(POLL)
        except TimeoutError as error:
            await process.end(STOP_WITHIN)
            raise BrokerError(
                f"mosquitto accepts no connections on {self.socket_path} after {READY_WITHIN:g} s",
                f"see its log lines above; its database, if beyond use, is {self.folder}/mosquitto.db",
            ) from error
        if process.over:
            told = " | ".join(process.last_lines) or "it said nothing"
            raise BrokerError(
                f"mosquitto ended at once with exit code {await process.ended()}: {told}",
                f"mend what it says; to run it by hand: cd {self.folder} && mosquitto -v -c mosquitto.conf",
            )


def socket_path(state_dir: Path) -> Path:
    """Where the embedded broker of a state directory listens."""
    return state_dir.absolute() / "broker" / "mosquitto.sock"


def check_socket_path(path: Path) -> None:
    """Raise BrokerError if the path is longer than that of a Unix socket may be."""
    size = len(os.fsencode(path))
    if size > UNIX_PATH_BYTES:
        raise BrokerError(
            f"the embedded broker's socket {path} has a path of {size} bytes; it may have {UNIX_PATH_BYTES}",
            f"choose a gateway.state_dir that is at least {size - UNIX_PATH_BYTES} bytes shorter",
        )


def restart_delay(last: float, lived: float) -> float:
    """Seconds before a restart, from the last delay (0: none) and the seconds that the process lived."""
    if last == 0 or lived >= STEADY:
        return FIRST_DELAY
    return min(2 * last, LONGEST_DELAY)


def _hand_over(folder: Path) -> pwd.struct_passwd | None:
    """Give the folder to Mosquitto's service user; None if there is none or we may not (a bare container)."""
    with suppress(KeyError, OSError):
        user = pwd.getpwnam(_SERVICE_USER)
        if folder.stat().st_uid != user.pw_uid:
            for path in (*folder.iterdir(), folder):
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        return user
    return None


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as caller:
        return caller.connect_ex(str(path)) in (0, errno.EAGAIN)
