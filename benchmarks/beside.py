"""A script of this package as a process of its own, beside what is measured.

It says READY when it has begun, goes on until SIGTERM, and then prints what it has counted, as a line of JSON.
"""

import json
import pathlib
import sys
import time
from typing import Any

from .stage import Stage

ROOT = pathlib.Path(__file__).parent.parent
READY = "ready"


class Beside:
    """The process, on a stage."""

    def __init__(self, stage: Stage, name: str, script: str, **options: str | float) -> None:
        """`name` must not have been used on this stage; `options` are of the script's command line."""
        self._stage = stage
        self._log = stage.folder / f"{name}.log"
        words = [f"--{key}={value}" for key, value in options.items()]
        self._pid = stage.start(name, [sys.executable, "-m", f"benchmarks.{script}", *words], folder=ROOT)

    def wait_ready(self, timeout: float) -> None:
        """Return when it has begun; TimeoutError."""
        deadline = time.monotonic() + timeout
        while not self._log.read_text().startswith(READY):
            if time.monotonic() > deadline or not self._stage.is_running(self._pid):
                raise TimeoutError(f"it did not begin: {self._stage.log_tail(self._pid)}")
            time.sleep(0.01)

    def end(self) -> dict[str, Any]:
        """End it; what it has counted. RuntimeError when it had failed."""
        if not self._stage.is_running(self._pid):
            raise RuntimeError(f"it ended before its time: {self._stage.log_tail(self._pid)}")
        self._stage.stop(self._pid)
        told: dict[str, Any] = json.loads(self._log.read_text().splitlines()[-1])
        return told
