"""Listening sockets: bound by the supervisor, accepted from by its workers.

By TCP every worker has a socket of its own (SO_REUSEPORT), and the kernel spreads the connections over
them. The supervisor keeps all of them open: connections that the kernel gave to a worker which then died
wait in its socket for the successor. A Unix socket has one queue, so its workers share one socket.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from ..policy.address import Address
from .holder import holder
from .start_error import StartError

BACKLOG = 4096
"""Connections that may wait to be accepted, per socket: after an outage every client returns within a
second, and what finds the queue full waits a second or more for its next SYN. The kernel cuts it to
net.core.somaxconn (4096 since Linux 5.4)."""

_PROBES = 3
"""Questions that TCP asks a silent client in the second half of `peer_timeout`."""

_SOCKET_MODE = 0o660  # Mosquitto's own has x as well, which means nothing for a socket.


class ListenError(StartError):
    """An address that cannot be listened on."""

    def __init__(self, address: Address, text: str, fix: str) -> None:
        super().__init__(f"cannot listen on {address}: {text}", fix)
        self.address = address


def bind(address: Address, workers: int) -> list[socket.socket]:
    """Listening, non-blocking sockets, one per worker; ListenError when the address cannot be had.

    A host name means the first IPv4 address that it resolves to, or the first IPv6 one if it has no other:
    an address listens at one place, and `localhost` is reached as 127.0.0.1 too. An IPv6 address, also
    `[::]`, takes no IPv4 connections. Of port 0 the kernel makes a free port, the same for all workers. A
    Unix socket gets mode 0660; its file is removed first if no process listens on it.
    """
    try:
        if address.kind == "unix":
            return _bind_unix(address, workers)
        return _bind_tcp(address, workers)
    except OSError as error:
        raise _explained(address, error) from error


def check_free(address: Address) -> None:
    """Raise the ListenError that `bind` would raise, without listening and without removing anything."""
    try:
        if address.kind == "unix":
            _check_socket_file(address)
            if not os.access(os.path.dirname(address.path) or ".", os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        else:
            _tcp_socket(*_resolved(address), shared=False).close()
    except OSError as error:
        raise _explained(address, error) from error


def expect_answers(sock: socket.socket, timeout: float) -> None:
    """Have the connections that a listening socket accepts end when the peer answers nothing for `timeout` seconds.

    They inherit these options. TCP_USER_TIMEOUT ends one that leaves sent data unacknowledged, or untaken, for so long.
    The others are for one on which SO_KEEPALIVE is set later: its silence is questioned after half the time, and when
    nothing has answered until the time is over, TCP_USER_TIMEOUT ends it as well.
    """
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout * 1000))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(timeout / 2)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(timeout / 2 / _PROBES)))


def unlink_socket_files(addresses: Iterable[Address]) -> None:
    """Remove the files of Unix sockets which this process has bound; addresses of TCP are passed over."""
    for address in addresses:
        if address.kind == "unix":
            Path(address.path).unlink(missing_ok=True)


def _bind_tcp(address: Address, workers: int) -> list[socket.socket]:
    family, place = _resolved(address)
    if workers > 1:
        # SO_REUSEPORT lets any process of the same user join, a second gateway too, and each would get every
        # other client. A socket without it is refused while anybody listens.
        _tcp_socket(family, place, shared=False).close()
    sockets: list[socket.socket] = []
    try:
        for _ in range(workers):
            sock = _tcp_socket(family, place, shared=workers > 1)
            sockets.append(sock)
            sock.listen(BACKLOG)
            place = sock.getsockname()
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _resolved(address: Address) -> tuple[int, tuple[object, ...]]:
    """Family and socket address of a TCP address."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ListenError(
            address,
            f"the name {address.host!r} does not resolve ({error.strerror})",
            "write an IP address of this machine, or mend the name in /etc/hosts",
        ) from error
    ipv4 = [entry for entry in found if entry[0] == socket.AF_INET]
    family, _, _, _, place = (ipv4 or found)[0]
    return family, place


def _tcp_socket(family: int, place: tuple[object, ...], *, shared: bool) -> socket.socket:
    """A bound socket that does not listen yet."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # Else the connections of the gateway before this one, which linger in TIME_WAIT, would hold the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(address: Address, workers: int) -> list[socket.socket]:
    _check_socket_file(address)
    Path(address.path).unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind(address.path)
        # Nobody can connect before `listen`, so there is no moment with the mode that the umask left.
        os.chmod(address.path, _SOCKET_MODE)
        sock.listen(BACKLOG)
        return [sock, *(sock.dup() for _ in range(workers - 1))]
    except OSError:
        sock.close()
        raise


def _check_socket_file(address: Address) -> None:
    """Return if the path is free or holds a socket on which nobody listens."""
    path = address.path
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        if os.path.isdir(os.path.dirname(path) or "."):
            return
        raise
    if not stat.S_ISSOCK(mode):
        raise ListenError(
            address, "a file of this name exists and is no socket", "move it away, or choose another path"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as caller:
        code = caller.connect_ex(path)
    if code in (errno.ECONNREFUSED, errno.ENOENT):  # nobody listens, or it was removed just now
        return
    if code == errno.EAGAIN:  # a listener whose queue is full
        code = 0
    raise OSError(code or errno.EADDRINUSE, os.strerror(code or errno.EADDRINUSE))


def _explained(address: Address, error: OSError) -> ListenError:
    """What an error of the kernel means here, and what to do about it."""
    if error.errno == errno.EADDRINUSE:
        other = "path" if address.kind == "unix" else "port"
        return ListenError(
            address,
            f"already in use; holder of {address}: {holder(address)}",
            f"stop that process, or choose another {other}",
        )
    if address.kind == "unix":
        folder = os.path.dirname(address.path) or "."
        if error.errno == errno.ENOENT:
            return ListenError(address, f"there is no folder {folder}", f"mkdir -p {folder}")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return ListenError(
                address,
                error.strerror or str(error),
                f"let this user write in {folder} and connect to what is there, or choose another path",
            )
    if error.errno == errno.EACCES:
        return ListenError(
            address,
            "ports below 1024 need a privilege that this process does not have",
            "choose a port from 1024 up, or set AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ListenError(
            address,
            "this machine has no such address",
            "choose one that `ip address` shows, 0.0.0.0 for every IPv4 or [::] for every IPv6 address",
        )
    return ListenError(address, error.strerror or str(error), "choose another address")
