"""A relay that keeps what the clients' side sends: it stands behind the gateway and sees what the broker sees."""

import socket
import threading
from contextlib import suppress
from pathlib import Path

from .wait import GUARD


class Tap:
    """Listens on a Unix socket, forwards to another, and records the bytes of each connection towards the broker."""

    def __init__(self, path: Path, broker: Path) -> None:
        self.path = path
        self.broker = broker
        self.streams: list[bytearray] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        self.threads: list[threading.Thread] = []
        self.sockets: list[socket.socket] = []
        self.run(self._accept)

    @property
    def unix(self) -> str:
        """Its socket, as tidegate.toml writes it."""
        return f"unix:{self.path}"

    def run(self, target: object, *args: object) -> None:
        """Start a thread that ends with its connection."""
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:  # closed: the test is over
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self.broker))
            stream = bytearray()
            self.streams.append(stream)
            self.sockets += [near, far]
            self.run(self._pump, near, far, stream)
            self.run(self._pump, far, near, bytearray())

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, record: bytearray) -> None:
        """Forward until the source ends. A sink that is gone ends nothing: what it said last is still on its way."""
        alive = True
        with suppress(OSError):
            while data := source.recv(65536):
                record += data
                if alive:
                    try:
                        sink.sendall(data)
                    except OSError:
                        alive = False
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def of(self, marker: bytes) -> list[bytes]:
        """The streams that hold `marker`, a client id or topic of one conversation."""
        return [bytes(stream) for stream in self.streams if marker in stream]

    def close(self) -> None:
        """End the listener and every connection."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for end in self.sockets:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self.threads:
            thread.join(GUARD)
        for end in self.sockets:
            end.close()
