"""Clients that come one after another, while others storm: how long does it take until they are let in?"""

import contextlib
import os
import threading
import time

from .company import NICE
from .wire import Refused, open_client

EVERY_SECONDS = 0.5
"""Between two of them, or longer when one had to wait."""
PATIENCE_SECONDS = 10.0
SOURCE = "127.0.0.99"


class Newcomers:
    """One every EVERY_SECONDS, of MQTT 3.1.1 and 5 in turn, who leaves once it has its CONNACK; on a thread."""

    def __init__(self, port: int, source: str = SOURCE) -> None:
        """`source`: the address that they come from."""
        self._port = port
        self._source = source
        self._waits: list[tuple[float, float]] = []
        self._refusals: list[tuple[float, str]] = []
        self.count = 0
        """Of those who came."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._come, name="newcomers", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()

    def waits(self, begin: float, end: float) -> list[float]:
        """Seconds from connect to CONNACK, of those who came in that time and were let in."""
        return [seconds for at, seconds in self._waits if begin <= at < end]

    def refusals(self, begin: float, end: float) -> list[str]:
        """Of those who came in that time and were not let in within PATIENCE_SECONDS, why."""
        return [why for at, why in self._refusals if begin <= at < end]

    def _come(self) -> None:
        with contextlib.suppress(PermissionError):  # of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._stop.wait(EVERY_SECONDS):
            number, begin = self.count, time.monotonic()
            self.count += 1
            try:
                client = open_client(
                    self._port,
                    f"newcomer-{number}",
                    PATIENCE_SECONDS,
                    version=(4, 5)[number % 2],
                    source=self._source,
                )
            except Refused as error:
                self._refusals.append((begin, str(error)))
            else:
                self._waits.append((begin, time.monotonic() - begin))
                client.close()
