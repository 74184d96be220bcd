"""A process that a test starts, watches and ends by its pid."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .wait import GUARD, until


class Process:
    """A command whose output goes to files, so that it never blocks on a pipe that nobody reads."""

    def __init__(self, command: Sequence[str | Path], output: Path, env: dict[str, str] | None = None) -> None:
        self.command = [str(word) for word in command]
        self.stdout_file = output.with_suffix(".out")
        self.stderr_file = output.with_suffix(".err")
        self.env = env
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; its output is appended to that of an earlier start."""
        with self.stdout_file.open("ab") as out, self.stderr_file.open("ab") as err:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **(self.env or {})},
            )

    @property
    def pid(self) -> int:
        """The pid of the child, which must have been started."""
        assert self.child is not None, f"{self.command[0]} was not started"
        return self.child.pid

    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.child is not None and self.child.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, guard: float = GUARD) -> int:
        """Its exit code (negative: the signal that ended it); TimeoutError after `guard` seconds."""
        assert self.child is not None
        until(lambda: not self.running(), f"the end of {' '.join(self.command)}\n{self.stderr()}", guard)
        return self.child.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end: its exit code."""
        if self.running():
            self.send(number)
        return self.wait()

    def end(self) -> None:
        """End it however it is: for teardown after a failure."""
        if self.running():
            self.send(signal.SIGKILL)
            self.wait()

    def stdout(self) -> str:
        """All that it has written to its standard output."""
        return self.stdout_file.read_text(errors="replace") if self.stdout_file.exists() else ""

    def stderr(self) -> str:
        """All that it has written to its standard error."""
        return self.stderr_file.read_text(errors="replace") if self.stderr_file.exists() else ""
