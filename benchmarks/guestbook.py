"""Who came to the broker: read from what Mosquitto logs."""

import re
from collections.abc import Iterator

from .stage import Stage
from .targets import Broker, start_mosquitto

NOTICES = "log_type notice\n"
"""Connections, and what becomes of them."""
_CONNECTION = re.compile(r": New connection from ")
_LET_IN = re.compile(r": New client connected from .* as (\S+) \(")
_REFUSED = re.compile(r": Client \S+ disconnected, not authorised\.")


class Guestbook:
    """The log of a stage's broker, which must have been started with NOTICES."""

    def __init__(self, stage: Stage) -> None:
        self._log = stage.folder / "mosquitto.log"

    def connections(self) -> int:
        """Connections that were opened to the broker, whatever came of them."""
        return sum(1 for line in self._lines() if _CONNECTION.search(line))

    def let_in(self, prefix: str = "") -> int:
        """CONNECTs that the broker accepted, of client identifiers that begin so."""
        found = (_LET_IN.search(line) for line in self._lines())
        return sum(1 for match in found if match and match[1].startswith(prefix))

    def refused(self) -> int:
        """CONNECTs whose name or password was wrong; whose they were is not written down."""
        return sum(1 for line in self._lines() if _REFUSED.search(line))

    def _lines(self) -> Iterator[str]:
        with self._log.open(errors="replace") as log:
            yield from log


def start_noted(stage: Stage, extra: str = "") -> tuple[Broker, Guestbook]:
    """A Mosquitto that writes down who comes, and its guestbook; `extra` are more lines of its configuration."""
    return start_mosquitto(stage, NOTICES + extra), Guestbook(stage)
