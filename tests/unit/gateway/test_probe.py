import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from support.eventually import eventually
from support.wait import GUARD
from tidegate.gateway.probe import permissions, probe
from tidegate.policy.address import Address

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[Address]:
    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield Address(kind="tcp", host="127.0.0.1", port=listening.sockets[0].getsockname()[1])


def answering(answer: bytes, heard: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        header = await reader.readexactly(2)
        packet = header + await reader.readexactly(header[1])
        writer.write(answer)
        rest = await reader.read()
        if heard is not None:
            heard.extend((packet, rest))
        writer.close()

    return serve


async def test_a_broker_is_greeted_in_3_1_1_and_left_politely() -> None:
    heard: list[bytes] = []
    async with server(answering(b"\x20\x02\x00\x00", heard)) as address:
        assert await probe(address, GUARD) is None
        await eventually(lambda: heard, "the end of the connection")
    connect, rest = heard
    assert connect[2:10] == b"\x00\x04MQTT\x04\x02"
    assert connect[14:].startswith(b"tidegate-probe-")
    assert rest == b"\xe0\x00"


async def test_a_broker_that_refuses_is_a_broker() -> None:
    async with server(answering(b"\x20\x02\x00\x05")) as address:
        assert await probe(address, GUARD) is None


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x03\x00\x00\x00", b"\x00" * 100_000])
async def test_something_else_is_told(answer: bytes) -> None:
    async with server(answering(answer)) as address:
        assert await probe(address, GUARD) == "does not speak MQTT"


async def test_half_an_answer_is_told() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x20")
        writer.close()

    async with server(serve) as address:
        assert (await probe(address, GUARD) or "").startswith(("does not speak MQTT", "the connection was reset"))


async def test_a_close_without_a_word_is_told() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.close()

    async with server(serve) as address:
        assert "without an answer" in (await probe(address, GUARD) or "")


async def test_silence_is_told_in_time() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with server(serve) as address:
        assert await probe(address, 0.05) == "no answer within 0.05 s"


async def test_nobody_there_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    address = Address(kind="tcp", host="127.0.0.1", port=port)
    assert await probe(address, GUARD) == "connection refused: nothing listens there"
    missing = Address(kind="unix", path=str(tmp_path / "none"))
    assert "there is no socket" in (await probe(missing, GUARD) or "")


async def test_a_socket_of_another_group_is_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mqtt"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    path.chmod(0o770)

    async def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("tidegate.gateway.probe.dial", refuse)  # root may connect everywhere
    trouble = await probe(Address(kind="unix", path=str(path)), GUARD) or ""
    assert f"{path} is 0770 {path.owner()}:{path.group()}" in trouble
    assert f"usermod -aG {path.group()} USER" in trouble


async def test_a_socket_whose_owner_has_no_name_here_is_told_by_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mqtt"
    path.touch(mode=0o770)
    seen = os.stat(path)

    async def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    # As root of a container makes it: ids of a system with other users.
    numbers = [*seen[:4], 54321, 54322, *seen[6:]]
    monkeypatch.setattr("tidegate.gateway.probe.dial", refuse)
    monkeypatch.setattr("tidegate.gateway.probe.os.stat", lambda _: os.stat_result(numbers))
    trouble = await probe(Address(kind="unix", path=str(path)), GUARD) or ""
    assert "54321:54322" in trouble
    assert "usermod -aG 54322 USER" in trouble


async def test_a_folder_that_may_not_be_entered_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    def hidden(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr("tidegate.gateway.probe.dial", refuse)
    monkeypatch.setattr(os, "stat", hidden)
    trouble = await probe(Address(kind="unix", path=str(tmp_path / "mqtt")), GUARD) or ""
    assert "may not enter a folder" in trouble


def test_permissions_are_told_as_ls_names_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    assert permissions(str(tmp_path)) == f"0750 {tmp_path.owner()}:{tmp_path.group()}"
