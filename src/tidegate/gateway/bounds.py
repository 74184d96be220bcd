"""What any one client may take of time and size, whoever it is: settings of `[gateway]`, and what is fixed."""

from dataclasses import dataclass

STORE = 65_536
"""Bytes: packets up to this size are forwarded whole, larger PUBLISH packets as they come."""
HEADER = 2 * 65_536 + 16
"""Bytes: the topic and properties of a larger PUBLISH; room for a topic of any size and as much again."""
STORED = 1_048_576
"""Bytes: the largest packet other than PUBLISH. `max_packet` lowers it, never raises it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Times are seconds, sizes bytes."""

    max_packet: int
    max_connect: int
    """Of CONNECT, and of AUTH before the broker has accepted the client; `max_packet` where that is smaller."""
    connect_timeout: float
    packet_timeout: float
    max_keepalive: int
    """Seconds; 0: any keepalive will do, also none."""
