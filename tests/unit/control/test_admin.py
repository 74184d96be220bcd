import asyncio

import httpx
import pytest

from support.fake_source import FakeSource
from tidegate.control import admin
from tidegate.control.admin import create_app
from tidegate.control.metrics import create_registry

TOKEN = "s3cret-tökén"


class Broker:
    """A probe that answers as told and counts how often it was asked."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.asked = 0
        self.begun = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()

    async def probe(self) -> str | None:
        self.asked += 1
        self.begun.set()
        await self.free.wait()
        return self.reason


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Endpoint:
    """The application with all that it asks under the test's control."""

    def __init__(self, token: str | None = TOKEN) -> None:
        self.source = FakeSource()
        self.broker = Broker()
        self.clock = Clock()
        self.app = create_app(self.source, create_registry(self.source), self.broker.probe, token, self.clock)

    async def ask(
        self,
        path: str = "/healthz",
        *,
        peer: str = "127.0.0.1",
        method: str = "GET",
        headers: dict[str, str | bytes] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        raw = [(k.encode(), v if isinstance(v, bytes) else v.encode()) for k, v in (headers or {}).items()]
        transport = httpx.ASGITransport(self.app, client=(peer, 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
            return await client.request(method, path, headers=raw, content=content)


def bearer(token: str) -> dict[str, str | bytes]:
    return {"authorization": f"Bearer {token}".encode()}


async def test_metrics() -> None:
    answer = await Endpoint().ask("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'tidegate_packets_total{direction="from_client",type="publish"} 0.0' in answer.text


async def test_healthy() -> None:
    answer = await Endpoint().ask("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")


async def test_unhealthy_says_which_process_is_missing() -> None:
    endpoint = Endpoint()
    del endpoint.source.living["worker-1"]
    answer = await endpoint.ask("/healthz")
    assert (answer.status_code, answer.text) == (503, "not running: worker-1\n")


async def test_ready_says_why_not() -> None:
    endpoint = Endpoint()
    assert (await endpoint.ask("/readyz")).text == "ok\n"
    endpoint.broker.reason = "the broker refuses: not authorised"
    endpoint.clock.now += admin.READY_SECONDS
    answer = await endpoint.ask("/readyz")
    assert (answer.status_code, answer.text) == (503, "the broker refuses: not authorised\n")


async def test_readiness_is_asked_once_a_second_at_most() -> None:
    endpoint = Endpoint()
    for _ in range(5):
        await endpoint.ask("/readyz")
    endpoint.clock.now += admin.READY_SECONDS - 0.001
    await endpoint.ask("/readyz")
    assert endpoint.broker.asked == 1
    endpoint.clock.now += 0.001
    await endpoint.ask("/readyz")
    assert endpoint.broker.asked == 2


async def test_many_who_ask_at_once_share_one_probe() -> None:
    endpoint = Endpoint()
    endpoint.broker.free.clear()
    asking = [asyncio.create_task(endpoint.ask("/readyz")) for _ in range(10)]
    await endpoint.broker.begun.wait()
    endpoint.broker.free.set()
    assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
    assert endpoint.broker.asked == 1


async def test_a_probe_without_an_answer_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "PROBE_SECONDS", 0.01)
    endpoint = Endpoint()
    endpoint.broker.free.clear()
    answer = await endpoint.ask("/readyz")
    assert (answer.status_code, answer.text) == (503, "no answer within 0.01 s\n")


async def test_the_index_lists_every_path() -> None:
    answer = await Endpoint().ask("/")
    assert answer.headers["content-type"].startswith("text/plain")
    assert all(path in answer.text for path in ("/metrics", "/healthz", "/readyz"))


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
async def test_this_host_needs_no_token(peer: str) -> None:
    assert (await Endpoint().ask(peer=peer)).status_code == 200
    assert (await Endpoint(token=None).ask(peer=peer)).status_code == 200


@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "fe80::1%eth0", "2001:db8::1", "", "localhost"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/nothing"])
async def test_others_need_the_token(peer: str, path: str) -> None:
    endpoint = Endpoint()
    refused = await endpoint.ask(path, peer=peer)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="tidegate"'
    assert endpoint.broker.asked == 0
    admitted = await endpoint.ask(path, peer=peer, headers=bearer(TOKEN))
    assert admitted.status_code == (404 if path == "/nothing" else 200)


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, f"Bearer{TOKEN}"],
)
async def test_what_is_not_the_token(authorization: str) -> None:
    headers: dict[str, str | bytes] = {"authorization": authorization.encode()}
    assert (await Endpoint().ask(peer="192.0.2.7", headers=headers)).status_code == 401


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
async def test_the_scheme_is_case_insensitive(scheme: str) -> None:
    headers: dict[str, str | bytes] = {"authorization": f"{scheme} {TOKEN}".encode()}
    assert (await Endpoint().ask(peer="192.0.2.7", headers=headers)).status_code == 200


@pytest.mark.parametrize("token", [None, ""])
@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer None"])
async def test_without_a_token_others_are_shut_out(token: str | None, authorization: str) -> None:
    headers: dict[str, str | bytes] = {"authorization": authorization}
    answer = await Endpoint(token).ask(peer="192.0.2.7", headers=headers)
    assert answer.status_code == 403
    assert "[admin]" in answer.text


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "x-real-ip", "via"])
async def test_headers_of_proxies_take_locality_away_and_never_give_it(name: str) -> None:
    claim: dict[str, str | bytes] = {name: "127.0.0.1"}
    assert (await Endpoint().ask(peer="192.0.2.7", headers=claim)).status_code == 401
    assert (await Endpoint().ask(peer="127.0.0.1", headers=claim)).status_code == 401
    assert (await Endpoint().ask(peer="127.0.0.1", headers=claim | bearer(TOKEN))).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_nothing_can_be_changed(method: str) -> None:
    answer = await Endpoint().ask(method=method)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_head() -> None:
    assert (await Endpoint().ask(method="HEAD")).status_code == 200


async def test_a_body_is_refused_unread() -> None:
    answer = await Endpoint().ask(method="GET", content=b"x")
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/healthz", "/nothing"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "192.0.2.7"])
async def test_every_answer_is_marked(path: str, peer: str) -> None:
    headers = (await Endpoint().ask(path, peer=peer)).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["date"].endswith("GMT")
