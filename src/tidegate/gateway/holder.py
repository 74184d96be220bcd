"""Which process listens on an address."""

import os
import socket
from dataclasses import dataclass

import psutil

from ..policy.address import Address


@dataclass(frozen=True)
class Holder:
    """The process that listens on an address; `pid` is None when this user may not see it."""

    pid: int | None = None
    name: str = ""
    user: str = ""

    def __str__(self) -> str:
        if self.pid is None and os.geteuid() == 0:
            return "a process that even root does not see here (in another container)"
        if self.pid is None:
            return "another user's process (run as root to see its name)"
        return f"{self.name} (pid {self.pid}, user {self.user})"


def holder(address: Address) -> Holder:
    """Who listens on an address that is known to be taken.

    It looks at every descriptor of every process, which takes up to a second on a busy machine: for errors
    only.
    """
    places = _places(address)
    for connection in psutil.net_connections("unix" if address.kind == "unix" else "tcp"):
        if connection.pid is None or connection.laddr not in places:
            continue
        if address.kind == "tcp" and connection.status != psutil.CONN_LISTEN:
            continue
        try:
            process = psutil.Process(connection.pid)
            return Holder(connection.pid, process.name(), process.username())
        except psutil.NoSuchProcess:  # it has just ended
            continue
    return Holder()


def _places(address: Address) -> set[object]:
    """The local addresses, as psutil tells them, whose listener is in the way of `address`."""
    if address.kind == "unix":
        return {address.path}
    hosts = {str(entry[4][0]) for entry in socket.getaddrinfo(address.host, None, type=socket.SOCK_STREAM)}
    return {(host, address.port) for host in hosts | {"0.0.0.0", "::"}}
