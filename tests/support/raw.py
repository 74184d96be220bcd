"""A socket that speaks MQTT in bytes: sends what it is told, reads packets, and never waits for time to pass."""

import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from . import wire
from .wait import GUARD

CLOSED = "closed"
"""The event that ends a list of answers when the other side closed."""
OPEN = "open"
"""The event that ends it when the other side still answers a PINGREQ."""


class RawClient:
    """One connection to a port of 127.0.0.1 or to a Unix socket; a context manager.

    `source` is where it comes from: every address of 127.0.0.0/8 is this machine's.
    """

    def __init__(self, place: int | Path, version: int = wire.V311, source: str = "127.0.0.1") -> None:
        self.version = version
        if isinstance(place, int):
            self.socket = socket.create_connection(("127.0.0.1", place), timeout=GUARD, source_address=(source, 0))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(GUARD)
            self.socket.connect(str(place))
        self.buffer = b""
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def local_port(self) -> int:
        """Its own port, by which the process at the other end can be found."""
        port: int = self.socket.getsockname()[1]
        return port

    def send(self, data: bytes) -> None:
        """Send all of it; an end of the connection shows when reading."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def read(self) -> bytes | None:
        """The next packet, as it lies on the wire; None once the other side has closed."""
        while not (size := wire.whole(self.buffer)):
            try:
                data = b"" if self.ended else self.socket.recv(65536)
            except ConnectionResetError:  # closed with our bytes unread: the same to a client
                data = b""
            if not data:
                self.ended = True
                assert not self.buffer, f"closed inside a packet: {self.buffer.hex()}"
                return None
            self.buffer += data
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def exchange(self, data: bytes) -> bytes:
        """Send, and return the next packet; AssertionError when there is none."""
        self.send(data)
        answer = self.read()
        assert answer is not None, f"closed instead of answering {data[:32].hex()}"
        return answer

    def connect(self, client_id: str, **options: int | bytes) -> bytes:
        """CONNECT with a clean session: the CONNACK, which must say 0."""
        connack = self.exchange(wire.connect(self.version, client_id, **options))  # type: ignore[arg-type]
        assert wire.tell(connack, self.version) == "CONNACK 0x00", connack.hex()
        return connack

    def until_fence(self) -> list[str]:
        """Send PINGREQ, and tell what comes up to its answer, then OPEN; or up to the close, then CLOSED."""
        self.send(wire.PINGREQ)
        events: list[str] = []
        while (data := self.read()) is not None:
            if data == wire.PINGRESP:
                return [*events, OPEN]
            events.append(wire.tell(data, self.version))
        return [*events, CLOSED]

    def until_closed(self) -> list[str]:
        """Tell what comes up to the close, which the other side must bring about."""
        events: list[str] = []
        while (data := self.read()) is not None:
            events.append(wire.tell(data, self.version))
        return [*events, CLOSED]

    def half_close(self) -> None:
        """Say that no more will be sent; reading goes on."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # the other side was faster
            return

    def close(self) -> None:
        """Close without a DISCONNECT."""
        self.socket.close()
