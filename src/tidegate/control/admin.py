"""The admin endpoint: its routes, and who may use them."""

import asyncio
import hmac
import ipaddress
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .source import Source, dead_processes

READY_SECONDS = 1.0
"""How long an answer of `/readyz` is repeated, so that whoever polls it cannot load the broker."""
PROBE_SECONDS = 3.0
"""The longest that a probe may take: what does not answer in this time is not ready."""

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"
"""Prometheus' text format, which everybody reads; OpenMetrics has no gauge X beside a counter X_total."""

_INDEX = """\
Tidegate

/metrics   what Prometheus scrapes
/healthz   200 when all processes live, else 503 and which do not
/readyz    200 when a client can connect and publish now, else 503 and why not
"""

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
"""Headers of a request that a proxy passed on."""

Probe = Callable[[], Awaitable[str | None]]
"""Tries what a client would do; None when it worked, otherwise why not. It does not raise."""


def create_app(
    source: Source,
    registry: CollectorRegistry,
    probe: Probe,
    token: str | None,
    clock: Callable[[], float] = time.monotonic,
) -> Starlette:
    """The application; `token` is what peers beyond this host must show, None shuts them out."""
    readiness = Readiness(probe, clock)

    async def index(_: Request) -> Response:
        return PlainTextResponse(_INDEX)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), headers={"content-type": TEXT_FORMAT})

    async def healthz(_: Request) -> Response:
        dead = dead_processes(source)
        return _verdict(f"not running: {', '.join(dead)}" if dead else None)

    async def readyz(_: Request) -> Response:
        return _verdict(await readiness.reason())

    return Starlette(
        routes=[
            Route("/", index),
            Route("/metrics", metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ],
        middleware=[Middleware(Guard, token=token)],
    )


class Readiness:
    """The last answer of a probe, repeated for `READY_SECONDS`; one probe at a time, whoever asks."""

    def __init__(self, probe: Probe, clock: Callable[[], float]) -> None:
        self._probe = probe
        self._clock = clock
        self._lock = asyncio.Lock()
        self._reason: str | None = None
        self._until: float | None = None

    async def reason(self) -> str | None:
        """None when a client can connect and publish, otherwise why not."""
        async with self._lock:
            if self._until is None or self._clock() >= self._until:
                try:
                    async with asyncio.timeout(PROBE_SECONDS):
                        self._reason = await self._probe()
                except TimeoutError:
                    self._reason = f"no answer within {PROBE_SECONDS:g} s"
                self._until = self._clock() + READY_SECONDS
            return self._reason


class Guard:
    """Lets in whoever asks from this host, and others by bearer token (RFC 6750); takes no request bodies.

    The peer's address is the connection's. A header never makes a request local, but one that tells of a
    proxy makes it foreign: behind a proxy on this host, every client would have a loopback address.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on; every answer is marked as not to be stored or guessed at."""

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["date"] = formatdate(usegmt=True)
                headers["cache-control"] = "no-store"
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, send_marked)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not _is_local(scope, headers):
            if not self._token:
                return PlainTextResponse(
                    "Only this host may ask: no token is configured. Set `token_file` in [admin].\n", 403
                )
            scheme, _, shown = headers.get("authorization", "").partition(" ")
            # Starlette reads headers as Latin-1, so this gives back the bytes that were sent.
            proof = shown.strip().encode("latin-1")
            if scheme.lower() != "bearer" or not hmac.compare_digest(proof, self._token.encode()):
                return PlainTextResponse(
                    "Authorization: Bearer TOKEN is required; TOKEN is what `token_file` in [admin] holds.\n",
                    401,
                    {"www-authenticate": 'Bearer realm="tidegate"'},
                )
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return PlainTextResponse("No request here has a body.\n", 413, {"connection": "close"})
        return None


def _is_local(scope: Scope, headers: Headers) -> bool:
    if scope["client"] is None or any(name in headers for name in _FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(scope["client"][0])
    except ValueError:
        return False
    # A dual-stack socket shows 127.0.0.1 as ::ffff:127.0.0.1, which Python calls a loopback since 3.13 only.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _verdict(reason: str | None) -> Response:
    return PlainTextResponse("ok\n") if reason is None else PlainTextResponse(f"{reason}\n", 503)
