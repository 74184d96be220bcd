"""What any one client may take of time and size, whoever it is: settings of `[gateway]`."""

from dataclasses import dataclass


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
