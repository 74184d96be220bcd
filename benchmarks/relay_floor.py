"""The floor: a bare uvloop relay that looks at nothing. A gateway's own work is its distance from here.

    python -m benchmarks.relay_floor --listen PORT --upstream unix:/path|tcp://127.0.0.1:PORT

Listens on 127.0.0.1, one upstream connection per client, backpressure both ways; ends at SIGTERM.
`compare`, `memory` and `big_packets` start it as the targets relay-tcp and relay-unix.
"""

import argparse
import asyncio
import signal
from typing import cast

import uvloop

BACKLOG = 4096
"""More than any of the scenarios connects at once; the kernel caps it at net.core.somaxconn."""


class Pipe(asyncio.Protocol):
    """One side of a relayed connection; what it reads is written to its peer as it came."""

    def __init__(self, peer: "Pipe | None" = None) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass on one read."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(data)

    def pause_writing(self) -> None:
        """Too much is buffered for this side: read no more from the other."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """The buffer is small again."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        """Close the other side too."""
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()
        self.peer = None


class Front(Pipe):
    """The client's side: what it sends before the upstream is there is kept, one read at most."""

    def __init__(self, upstream: str) -> None:
        super().__init__()
        self._upstream = upstream
        self._early = b""
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the broker on the client's behalf."""
        super().connection_made(transport)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        """Pass on one read, or keep it until the broker's side is there."""
        if self.peer is not None:
            super().data_received(data)
        elif self.transport is not None:
            self._early += data
            self.transport.pause_reading()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        back = Pipe(self)
        assert self.transport is not None
        try:
            if self._upstream.startswith("unix:"):
                await loop.create_unix_connection(lambda: back, self._upstream.removeprefix("unix:"))
            else:
                host, port = self._upstream.removeprefix("tcp://").rsplit(":", 1)
                await loop.create_connection(lambda: back, host, int(port))
        except OSError:
            self.transport.abort()
            return
        self.peer = back
        if self.transport.is_closing():
            self.connection_lost(None)
        elif self._early:
            super().data_received(self._early)
            self._early = b""
            self.transport.resume_reading()


async def relay(port: int, upstream: str) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(lambda: Front(upstream), "127.0.0.1", port, backlog=BACKLOG)
    await stopped.wait()
    server.close()


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="relay_floor"
    )
    parser.add_argument("--listen", type=int, required=True, metavar="PORT")
    parser.add_argument("--upstream", required=True, metavar="ADDRESS")
    options = parser.parse_args()
    uvloop.run(relay(options.listen, options.upstream))


if __name__ == "__main__":
    main()
