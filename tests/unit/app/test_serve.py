import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.broker import Broker
from support.ports import free_port
from tidegate.app import serve
from tidegate.app.serve import Plan, _actual, _reachable
from tidegate.policy.address import Address
from tidegate.policy.settings import Settings, load


def tcp(port: int, host: str = "127.0.0.1") -> Address:
    return Address(kind="tcp", host=host, port=port)


SOCKET = Address(kind="unix", path="/run/tidegate.sock")


class TestPlan:
    """MQTT's port is another one here, so that a broker on the tests' machine is left alone."""

    @pytest.fixture
    def broker(self, tmp_path: Path) -> Iterator[Broker]:
        made = Broker(tmp_path / "b")
        made.start()
        yield made
        made.process.end()

    @staticmethod
    def written(folder: Path, text: str) -> Settings:
        file = folder / "tidegate.toml"
        file.write_text(text)
        return load(file)

    async def test_a_broker_that_is_there_is_protected_from_the_next_port(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(serve, "MQTT_PORT", broker.port)
        plan = Plan(load(None))
        await plan.find_broker(load(None))
        assert plan.broker == tcp(broker.port)
        assert plan.listen == (tcp(broker.port + 1),)
        assert plan.notes == [f"port {broker.port} has a broker already: protecting that one, on {broker.port + 1}"]

    async def test_without_a_broker_there_one_is_embedded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(serve, "MQTT_PORT", free_port())
        settings = load(None)
        plan = Plan(settings)
        await plan.find_broker(settings)
        assert (plan.broker, plan.listen, plan.notes) == (None, settings.gateway.listen, [])

    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
    async def test_what_does_not_speak_mqtt_is_not_taken_for_a_broker(
        self, monkeypatch: pytest.MonkeyPatch, answer: bytes
    ) -> None:
        asked = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            asked.set()
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            monkeypatch.setattr(serve, "MQTT_PORT", server.sockets[0].getsockname()[1])
            settings = load(None)
            plan = Plan(settings)
            await plan.find_broker(settings)
        assert asked.is_set()
        assert (plan.broker, plan.listen, plan.notes) == (None, settings.gateway.listen, [])

    async def test_what_never_answers_is_not_taken_for_a_broker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def stare(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with await asyncio.start_server(stare, "127.0.0.1", 0) as server:
            monkeypatch.setattr(serve, "MQTT_PORT", server.sockets[0].getsockname()[1])
            monkeypatch.setattr(serve, "PROBE_SECONDS", 0.05)
            plan = Plan(load(None))
            await plan.find_broker(load(None))
        assert plan.broker is None

    @pytest.mark.parametrize(
        "text",
        ['listen = "tcp://127.0.0.1:1999"', 'broker = "tcp://127.0.0.1:1998"', 'listen = "tcp://127.0.0.1:1883"'],
    )
    async def test_what_is_configured_is_not_second_guessed(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
    ) -> None:
        monkeypatch.setattr(serve, "MQTT_PORT", broker.port)
        settings = self.written(tmp_path, f"[gateway]\n{text}\n")
        plan = Plan(settings)
        await plan.find_broker(settings)
        assert (plan.broker, plan.listen, plan.notes) == (settings.gateway.broker, settings.gateway.listen, [])

    async def test_other_settings_do_not_keep_a_broker_from_being_found(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(serve, "MQTT_PORT", broker.port)
        settings = self.written(tmp_path, "[gateway]\nworkers = 2\n")
        plan = Plan(settings)
        await plan.find_broker(settings)
        assert plan.broker == tcp(broker.port)


@pytest.mark.parametrize(
    ("address", "name", "actual"),
    [
        (tcp(0), ("127.0.0.1", 4711), tcp(4711)),
        (tcp(0, "::"), ("::", 4711, 0, 0), tcp(4711, "::")),
        (tcp(1883, "localhost"), ("127.0.0.1", 1883), tcp(1883, "localhost")),
        (SOCKET, SOCKET.path, SOCKET),
    ],
)
def test_actual_is_the_address_with_the_port_that_it_has(address: Address, name: object, actual: Address) -> None:
    assert _actual(address, name) == actual


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        (tcp(1, "0.0.0.0"), tcp(1)),
        (tcp(1, "::"), tcp(1, "::1")),
        (tcp(1, "192.0.2.1"), tcp(1, "192.0.2.1")),
        (SOCKET, SOCKET),
    ],
)
def test_reachable_is_where_this_machine_reaches_a_listener(address: Address, reached: Address) -> None:
    assert _reachable(address) == reached
