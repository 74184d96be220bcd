"""What `tidegate demo` measures of each of its two phases: what was sent, what arrived and how late, what was lost."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class State(Enum):
    """How far a phase is."""

    NEXT = "next"
    RUNNING = "running"
    DRAINING = "draining"
    """Nothing more is sent; what is on its way still arrives."""
    DONE = "done"


@dataclass
class Figures:
    """The figures of one phase, as they are told by its clients. Times are seconds."""

    state: State = State.NEXT
    elapsed: float = 0.0
    sent: int = 0
    """Readings that the sensors have sent."""
    acknowledged: int = 0
    """Those of them that the broker has acknowledged to their sensor."""
    latencies: dict[tuple[int, int], float] = field(default_factory=dict)
    """Of each reading that arrived, by sensor and number: from the time at which it was to be sent."""
    flood_sent: int = 0
    flood_arrived: int = 0
    limited: int | None = None
    """Messages over the limit, by the gateway's own count; None where there is no gateway."""
    finished: bool = False
    """Whether the sensors have sent all that they are to send."""

    def take(self, told: Mapping[str, Any]) -> None:
        """Take what a client tells. A reading that comes again, as QoS 1 may, counts once."""
        self.sent = told.get("sent", self.sent)
        self.acknowledged = told.get("acknowledged", self.acknowledged)
        self.finished = told.get("finished", self.finished)
        self.flood_sent = told.get("flood_sent", self.flood_sent)
        self.flood_arrived = told.get("flood_arrived", self.flood_arrived)
        for sensor, number, latency in told.get("arrived", ()):
            self.latencies.setdefault((sensor, number), latency)

    @property
    def arrived(self) -> int:
        """Readings that the control room has."""
        return len(self.latencies)

    @property
    def came(self) -> int:
        """All messages that the control room has."""
        return self.arrived + self.flood_arrived

    @property
    def missing(self) -> int:
        """Readings that were sent and have not arrived: lost, when all has been drained."""
        return max(0, self.sent - self.arrived)

    @property
    def loss(self) -> float:
        """The missing ones' part of all, 0 to 1."""
        return self.missing / self.sent if self.sent else 0.0

    @property
    def median(self) -> float | None:
        """Of the latencies of those that arrived; None when none did."""
        return percentile(self.latencies.values(), 0.5)

    @property
    def p99(self) -> float | None:
        """Likewise."""
        return percentile(self.latencies.values(), 0.99)

    def as_object(self) -> dict[str, object]:
        """For JSON; latencies in milliseconds."""
        return {
            "sent": self.sent,
            "acknowledged": self.acknowledged,
            "arrived": self.arrived,
            "lost": self.missing,
            "loss": round(self.loss, 4),
            "latency_ms": {
                "median": _milliseconds(self.median),
                "p99": _milliseconds(self.p99),
                "max": _milliseconds(percentile(self.latencies.values(), 1.0)),
            },
            "flood": {"sent": self.flood_sent, "arrived": self.flood_arrived, "limited": self.limited},
        }


@dataclass
class Board:
    """All that the demo shows."""

    seconds: int
    """Of each phase."""
    mosquitto: str
    """Its version."""
    bare: Figures = field(default_factory=Figures)
    through: Figures = field(default_factory=Figures)


def percentile(values: Collection[float], part: float) -> float | None:
    """The smallest of the values that `part` (above 0, to 1) of all do not exceed (nearest rank); None of none."""
    if not values:
        return None
    return sorted(values)[math.ceil(part * len(values)) - 1]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
