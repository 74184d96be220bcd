"""One run of a Mosquitto as our child: started so that it ends with us, its log lines in ours."""

import asyncio
import ctypes
import os
import pwd
import re
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from .health import Log

POLL = 0.01
"""Seconds between two looks at what the kernel gives no notice of."""

_LAST_LINES = 5  # kept for an error: a configuration that is refused takes two
_LONGEST_LINE = 4096  # bytes; its own lines are shorter than a kilobyte
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None, use_errno=True)


class MosquittoProcess:
    """A child process and its stderr. Made by `start`."""

    def __init__(self, popen: "subprocess.Popen[bytes]", log: Log) -> None:
        self.pid = popen.pid
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._popen = popen
        self._log = log
        self._closed = asyncio.Event()

    @classmethod
    async def start(
        cls,
        command: Sequence[str | Path],
        folder: Path,
        log: Log,
        *,
        user: pwd.struct_passwd | None,
        inherited_fd: int,
    ) -> "MosquittoProcess":
        """Run `command` in `folder` as `user` (None: as ourselves). OSError or SubprocessError when it
        cannot run.

        Must be called on a thread that lives as long as this process: PR_SET_PDEATHSIG means the parent
        *thread*.
        """
        popen = _spawn(command, folder, user, inherited_fd)
        process = cls(popen, log)
        protocol = cast(Callable[[], asyncio.Protocol], lambda: _Lines(process._line, process._closed))
        await asyncio.get_running_loop().connect_read_pipe(protocol, popen.stderr)
        return process

    @property
    def over(self) -> bool:
        """Whether it has ended; all of its log has arrived then."""
        return self._closed.is_set()

    async def ended(self) -> int:
        """Wait for its end: its exit code, negative for the signal that ended it."""
        await self._closed.wait()
        # A process closes its stderr a moment before it is gone.
        while (code := self._popen.poll()) is None:
            await asyncio.sleep(POLL)
        return code

    async def end(self, within: float) -> None:
        """SIGTERM, and SIGKILL `within` seconds later if it has not ended by then."""
        if not self.over:
            self._popen.terminate()
        try:
            await asyncio.wait_for(self.ended(), within)
        except TimeoutError:
            self._popen.kill()
            await self.ended()

    def _line(self, text: str) -> None:
        # Lines that come before it has read `log_timestamp false` begin with the time.
        text = re.sub(r"^\d+: ", "", text)
        self.last_lines.append(text)
        if text.startswith("Error"):
            self._log.error(text, source="mosquitto")
        elif text.startswith("Warning"):
            self._log.warning(text, source="mosquitto")
        else:
            self._log.info(text, source="mosquitto")


def _spawn(
    command: Sequence[str | Path], folder: Path, user: pwd.struct_passwd | None, inherited_fd: int
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=[inherited_fd],
        # Ctrl-C goes to the terminal's whole process group; the broker must outlive the draining of its
        # clients.
        start_new_session=True,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
        # The one way to end with a parent that is killed by SIGKILL. Between fork and exec a lock that
        # another thread held stays locked for ever: the function takes none, it makes two system calls in
        # a library loaded before. Popen changes the user first. Changing it later clears the setting, so
        # Mosquitto must not do that itself.
        preexec_fn=_end_with(os.getpid()),  # noqa: PLW1509
    )


class _Lines(asyncio.Protocol):
    """Cuts a pipe into lines; what is longer than _LONGEST_LINE is cut there too."""

    def __init__(self, tell: Callable[[str], None], closed: asyncio.Event) -> None:
        self._tell = tell
        self._closed = closed
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._tell(line.decode(errors="replace"))

    def connection_lost(self, _: Exception | None) -> None:
        if self._rest:
            self._tell(self._rest.decode(errors="replace"))
        self._closed.set()


def _end_with(parent: int) -> Callable[[], None]:
    """What makes the child that calls it get SIGTERM when its parent is gone, however that ended."""

    def in_child() -> None:
        if _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:  # it was gone before the call, and no signal will come
            os._exit(1)

    return in_child
