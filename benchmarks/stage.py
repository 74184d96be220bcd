"""The processes of one run, their folder, their logs, and what they have used."""

import contextlib
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import psutil

PACKAGES = {
    "gcc": "gcc libc6-dev",
    "haproxy": "haproxy",
    "mosquitto": "mosquitto",
    "mosquitto_passwd": "mosquitto",
    "nginx": "nginx",
    "nginx-stream": "libnginx-mod-stream",
    "perf": "linux-perf",
    "prlimit": "util-linux",
}
"""The Debian packages of all that a measurement may start."""
NGINX_STREAM = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")
STOP_SECONDS = 15.0
"""How long a process may take to end after SIGTERM: longer than Tidegate's own drain."""
LOG_TAIL = 2000
"""Bytes of a process's log that an error shows."""


def program(name: str) -> str | None:
    """Where the program is; Debian keeps servers in /usr/sbin, which is not on everybody's PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _is_there(name: str) -> bool:
    return NGINX_STREAM.exists() if name == "nginx-stream" else program(name) is not None


def require(names: Iterable[str]) -> None:
    """Exit with the command that installs them when programs (or nginx's stream module) are missing."""
    missing = [name for name in names if not _is_there(name)]
    if missing:
        packages = " ".join(PACKAGES[name] for name in missing)
        sys.exit(f"missing: {', '.join(missing)}; `make bench` installs them, or: apt-get install {packages}")


def require_files(count: int) -> None:
    """Let this process and its children open so many files; exit when the hard limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        sys.exit(f"this needs {count} open files per process, the limit is {hard}: ask for fewer connections")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def end_on_sigterm() -> None:
    """Let SIGTERM unwind the stack, so that what was started is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that were free a moment ago, all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it, itself first."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """User and system time of the whole tree so far, in the kernel's ticks of usually 10 ms."""
    times = [process.cpu_times() for process in tree(pid)]
    return sum(t.user + t.system for t in times)


def cpu_nanoseconds(pid: int) -> int:
    """The same as the scheduler counts it, exact for a process that waits."""
    return _scheduled(pid, 0)


def starved_nanoseconds(pid: int) -> int:
    """For which the tree's threads, added up, wanted to run and others had the core."""
    return _scheduled(pid, 1)


def _scheduled(pid: int, field: int) -> int:
    folders = [pathlib.Path(f"/proc/{process.pid}/task") for process in tree(pid)]
    return sum(int((task / "schedstat").read_text().split()[field]) for folder in folders for task in folder.iterdir())


def memory(pid: int) -> dict[str, int]:
    """Bytes of the tree's user memory: `pss`, and `private` (in no other process)."""
    total = {"pss": 0, "private": 0}
    for process in tree(pid):
        for line in pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("Pss", "Private_Clean", "Private_Dirty"):
                total["pss" if name == "Pss" else "private"] += int(value.split()[0]) * 1024
    return total


def resident(pid: int) -> int:
    """Bytes of their own that are resident now in the tree (RssAnon). Read without stopping them.

    Not what processes share: a piece of 2 MiB of that counts whole once a byte of it is touched.
    """
    total = 0
    for process in tree(pid):
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        total += int(status.partition("RssAnon:")[2].split()[0]) * 1024
    return total


def peak_memory(pid: int) -> int:
    """Bytes that were resident at most in the tree, each process at its own peak (VmHWM)."""
    total = 0
    for process in tree(pid):
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        total += int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return total


def _kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()  # psutil compares start times: never a stranger with the same pid


@dataclass(frozen=True)
class _Running:
    name: str
    command: Sequence[str]
    folder: pathlib.Path | None
    process: subprocess.Popen[bytes]


class Stage:
    """A temporary folder and the processes that were started in it; leaving the `with` ends both."""

    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tidegate-bench-"))
        self._running: dict[int, _Running] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        for pid in reversed(list(self._running)):
            self.stop(pid)
        shutil.rmtree(self.folder)

    def start(self, name: str, command: Sequence[str], folder: pathlib.Path | None = None) -> int:
        """Start a process, in `folder`, with its output in `NAME.log`; its pid. Ctrl-C does not reach it."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, process_group=0
            )
        self._running[process.pid] = _Running(name, command, folder, process)
        return process.pid

    def is_running(self, pid: int) -> bool:
        """Has the process not ended yet?"""
        return self._running[pid].process.poll() is None

    def log_tail(self, pid: int) -> str:
        """The end of what the process has written, and whether it still runs."""
        name, process = self._running[pid].name, self._running[pid].process
        state = "still running" if self.is_running(pid) else f"ended with status {process.returncode}"
        text = (self.folder / f"{name}.log").read_bytes()[-LOG_TAIL:].decode(errors="replace")
        return f"{name} is {state}; its log ends:\n{text}" if text else f"{name} is {state}, its log is empty"

    def stop(self, pid: int) -> None:
        """End a process and its children: by SIGTERM, by SIGKILL what is left after STOP_SECONDS."""
        ending = self._running.pop(pid)
        name, process = ending.name, ending.process
        if process.poll() is not None:
            return
        children = tree(pid)[1:]
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"{name} did not end within {STOP_SECONDS:.0f} s of SIGTERM: killed", file=sys.stderr)
            process.kill()
            process.wait()
        for child in children:
            _kill(child)

    def kill_and_restart(self, pid: int) -> int:
        """SIGKILL a process and all that descend from it, start its command anew; the new pid."""
        old = self._running.pop(pid)
        old.process.send_signal(signal.SIGSTOP)  # or it might start another child between listing and killing
        children = tree(pid)[1:]
        for one in (psutil.Process(pid), *children):
            _kill(one)
        old.process.wait()
        psutil.wait_procs(children, timeout=STOP_SECONDS)
        return self.start(old.name, old.command, old.folder)
