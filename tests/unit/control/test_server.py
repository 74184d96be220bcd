import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvloop
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from support.fake_source import FakeSource
from tidegate.control import server
from tidegate.control.admin import create_app
from tidegate.control.metrics import create_registry
from tidegate.control.server import AdminServer

GUARD = 20
"""Seconds until a test that would hang is ended."""


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(str(scope["client"][0]))(scope, receive, send)


def listener(host: str = "127.0.0.1") -> socket.socket:
    return socket.create_server((host, 0))


@contextlib.asynccontextmanager
async def serving(app: ASGIApp = hello) -> AsyncIterator[AdminServer]:
    admin = AdminServer(app, listener())
    await admin.start()
    try:
        yield admin
    finally:
        await admin.stop()


def port_of(admin: AdminServer) -> int:
    return httpx.URL(admin.url).port or 0


async def connect(admin: AdminServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port_of(admin))


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the server closes or resets the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(GUARD):
            while chunk := await reader.read(65_536):
                received += chunk
    return received


async def test_serves_on_a_loop_that_is_not_its_own() -> None:
    async with serving() as admin, httpx.AsyncClient() as client:
        answer = await client.get(admin.url)
        assert (answer.status_code, answer.text) == (200, "127.0.0.1")


async def test_the_admin_application_as_a_scraper_sees_it() -> None:
    async def ready() -> str | None:
        return "the broker is down"

    source = FakeSource()
    app = create_app(source, create_registry(source), ready, token=None)
    async with serving(app) as admin, httpx.AsyncClient(base_url=admin.url) as client:
        metrics = await client.get("/metrics")
        assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert metrics.text.startswith("# HELP tidegate_")
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).text == "the broker is down\n"
        assert (await client.post("/healthz", content=b"x" * 100_000)).status_code == 413
        assert (await client.get("/healthz")).status_code == 200


def test_serves_on_uvloop() -> None:
    async def main() -> int:
        async with serving() as admin, httpx.AsyncClient() as client:
            return (await client.get(admin.url)).status_code

    assert uvloop.run(main()) == 200


async def test_signal_handlers_are_left_alone() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with serving():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_stop_frees_the_port_and_ends_idle_connections() -> None:
    async with serving() as admin:
        reader, writer = await connect(admin)
        writer.write(b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n")
        await reader.readuntil(b"127.0.0.1")
    assert await ended(reader) == b""
    writer.close()
    socket.create_server(("127.0.0.1", port_of(admin))).close()


async def test_stop_does_not_wait_for_a_client_that_never_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "STOP_SECONDS", 0)
    asked = asyncio.Event()

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await PlainTextResponse(b"x" * 50_000_000)(scope, receive, send)

    async with serving(large) as admin:
        _, writer = await connect(admin)
        writer.write(b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n")
        await asyncio.wait_for(asked.wait(), GUARD)
    writer.transport.abort()


async def test_forwarded_addresses_are_not_believed() -> None:
    async with serving() as admin, httpx.AsyncClient() as client:
        answer = await client.get(admin.url, headers={"x-forwarded-for": "192.0.2.7"})
        assert answer.text == "127.0.0.1"


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HTTP/1.1\r\nHost:", b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n" + b"GET / "],
    ids=["silent", "half a request", "half a second request"],
)
async def test_a_client_that_does_not_finish_is_cut(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(server, "EXCHANGE_SECONDS", 0.05)
    async with serving() as admin:
        reader, writer = await connect(admin)
        writer.write(sent)
        await ended(reader)
        writer.close()


async def test_a_client_that_never_reads_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "EXCHANGE_SECONDS", 0.05)
    released = asyncio.Event()

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(50_000_000), "more_body": True})
        await send({"type": "http.response.body"})
        released.set()

    async with serving(large) as admin:
        with socket.create_connection(("127.0.0.1", port_of(admin))) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n")
            await asyncio.wait_for(released.wait(), GUARD)


async def test_connections_are_bounded_and_those_above_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    async with serving() as admin:
        held = []
        for _ in range(2):
            reader, writer = await connect(admin)
            writer.write(b"GET / HTTP/1.1\r\nHost: gate\r\n\r\n")
            await reader.readuntil(b"127.0.0.1")
            held.append(writer)
        reader, writer = await connect(admin)
        assert await ended(reader) == b""
        for each in (*held, writer):
            each.close()


async def test_headers_are_bounded() -> None:
    async with serving() as admin:
        reader, writer = await connect(admin)
        writer.write(b"GET / HTTP/1.1\r\nHost: gate\r\nX: " + b"x" * (2 * server.MAX_HEAD))
        assert (await ended(reader)).startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
        writer.close()


async def test_a_socket_that_does_not_listen_yet_will() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        admin = AdminServer(hello, bound)
        await admin.start()
        async with httpx.AsyncClient() as client:
            assert (await client.get(admin.url)).status_code == 200
        await admin.stop()


def test_url_is_one_that_can_be_used() -> None:
    with listener("0.0.0.0") as every:
        assert AdminServer(hello, every).url == f"http://127.0.0.1:{every.getsockname()[1]}"
