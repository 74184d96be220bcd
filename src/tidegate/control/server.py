"""Serves an application over HTTP on a loop that belongs to somebody else."""

import asyncio
import logging
import socket
from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 32
"""Connections at a time; more are closed unread. A scraper, a probe and a few people use about five."""
EXCHANGE_SECONDS = 10
"""Time for a connection's first answer, and from each to the next: Prometheus' default scrape timeout."""
MAX_HEAD = 8192
"""Bytes of a request line with its headers, the default of nginx."""
STOP_SECONDS = 2
"""How long `stop` waits for answers under way."""


class AdminServer:
    """uvicorn without what makes it a program: signal handlers, a polling loop, exits, an access log.

    It owns `listener`, a bound TCP socket, and closes it. Clients that are slow, silent or never
    read are cut after `EXCHANGE_SECONDS`.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        self._listener = listener
        host, port = listener.getsockname()[:2]
        self.url = f"http://{_reachable(host)}:{port}"
        """Where somebody on this host reaches it."""
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="off",
                interface="asgi3",
                proxy_headers=False,
                access_log=False,
                log_config=None,
                # Its warnings are what anybody can make it say, as often as they like.
                log_level=logging.ERROR,
                h11_max_incomplete_event_size=MAX_HEAD,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )

    async def start(self) -> None:
        """Accept connections from now on, on the running loop."""
        config = self._server.config
        config.load()
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(sockets=[self._listener])

    async def stop(self) -> None:
        """Close the listener, let answers under way finish for `STOP_SECONDS`, cut the rest."""
        await self._server.shutdown(sockets=[self._listener])
        for connection in list(self._server.server_state.connections):
            cast(_Connection, connection).transport.abort()


class _Connection(H11Protocol):
    """A connection with a deadline, which uvicorn sets only between a whole answer and the next byte."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(EXCHANGE_SECONDS, transport.abort)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()

    def on_response_complete(self) -> None:
        self._deadline.cancel()
        self._deadline = self.loop.call_later(EXCHANGE_SECONDS, self.transport.abort)
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        super().connection_lost(exc)


def _reachable(host: str) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host
