"""Offences: what a worker tells the supervisor of who was over a limit that bans, a line of JSON each.

Told too little an offence is told again with the next attempt; told too often it would keep the supervisor from its
work. So a worker tells each once in PAUSE, and so many in all.
"""

import json
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

PAUSE = 1.0
"""Seconds between two tellings of one offence: by then its ban is known everywhere."""
MOST = 200
"""Tellings in PAUSE of one worker: with 64 workers, all that the supervisor can do in half of its time."""
OFFENCE = b"ban "
"""How the line begins."""
MAX_LINE = 1 << 20
"""Bytes: identifier and user name have 65,535 at most (section 1.5.4), of which JSON may make six times as many."""


@dataclass(frozen=True, slots=True)
class Offence:
    """Who was over which limit, as the supervisor hears it."""

    limit: str
    client_id: str
    username: str | None
    address: IPv4Address | IPv6Address | None
    """None: it came by a Unix socket."""

    def line(self) -> bytes:
        """The line that tells it."""
        told = {**asdict(self), "address": "" if self.address is None else str(self.address)}
        return OFFENCE + json.dumps(told, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> "Offence":
        """The reverse of `line`; ValueError for anything else."""
        if not line.startswith(OFFENCE):
            raise ValueError("no offence")
        match json.loads(line.removeprefix(OFFENCE)):
            case {
                "limit": str(limit),
                "client_id": str(client_id),
                "username": str() | None as username,
                "address": str(address),
            }:
                return cls(limit, client_id, username, ip_address(address) if address else None)
        raise ValueError("not what an offence consists of")


class Tellings:
    """What one worker has told lately. Times are seconds of any clock that only goes on."""

    def __init__(self) -> None:
        self._began = 0.0
        self._told: set[int] = set()

    def line(self, limit: str, client_id: str, username: str | None, address: bytes, now: float) -> bytes | None:
        """The line for an offence; None when it has been told just now, or too much has. `address`: 4, 16, 0 bytes."""
        if now - self._began >= PAUSE:
            self._began = now
            self._told.clear()
        known = hash((limit, client_id, username, address))
        if known in self._told or len(self._told) >= MOST:
            return None
        self._told.add(known)
        return Offence(limit, client_id, username, ip_address(address) if address else None).line()
