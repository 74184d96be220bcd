"""A broker that takes every CONNECT and never answers: all that clients pipeline must wait for it."""

import contextlib
import selectors
import socket
import threading
from pathlib import Path

from .wait import GUARD

_PROBE = b"tidegate-probe-"
"""What the gateway's own question whether a broker answers is told by; that one gets its CONNACK."""


class MuteBroker:
    """Listens on a Unix socket. `heard` has the bytes of each connection but the gateway's own probes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.streams: dict[socket.socket, bytearray] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(128)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def unix(self) -> str:
        """Its socket, as tidegate.toml writes it."""
        return f"unix:{self.path}"

    def heard(self) -> list[bytes]:
        """What each connection has said that was not a probe."""
        return [bytes(stream) for stream in list(self.streams.values()) if _PROBE not in stream]

    def close(self) -> None:
        """End every connection."""
        self._wake.close()
        self._thread.join(GUARD)
        for end in (self._listener, self._woken, *self.streams):
            end.close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listener:
                    near, _ = self._listener.accept()
                    self.streams[near] = bytearray()
                    self._selector.register(near, selectors.EVENT_READ)
                else:
                    self._read(key.fileobj)  # type: ignore[arg-type]

    def _read(self, near: socket.socket) -> None:
        data = b""
        with contextlib.suppress(ConnectionResetError):
            data = near.recv(65536)
        self.streams[near] += data
        if not data:
            self._selector.unregister(near)
        elif _PROBE in data:
            with contextlib.suppress(BrokenPipeError):
                near.sendall(b"\x20\x02\x00\x00")
