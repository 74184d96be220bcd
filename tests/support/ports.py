"""Free TCP ports on 127.0.0.1 for processes that must be told their port."""

import os
import socket

# Below the kernel's ephemeral range (32768 and up), so that no outgoing connection takes a port between our asking
# and the process's listening; each test process begins elsewhere, so that parallel ones seldom compete.
_FIRST, _COUNT = 20_000, 12_000
_next = os.getpid() * 97 % _COUNT


def is_free(port: int) -> bool:
    """Whether nobody listens on `port` of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on and that this process has not been given before."""
    global _next  # noqa: PLW0603  one sequence per process is the point
    for _ in range(_COUNT):
        _next = (_next + 1) % _COUNT
        if is_free(_FIRST + _next):
            return _FIRST + _next
    raise OSError(f"no free port from {_FIRST} to {_FIRST + _COUNT - 1}")


def accepts(port: int) -> bool:
    """Whether a connection to `port` of 127.0.0.1 is accepted."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
