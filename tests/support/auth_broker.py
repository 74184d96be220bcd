"""A broker of a few lines that has what Mosquitto lacks without a plugin: enhanced authentication (section 4.12).

It asks every CONNECT with an Authentication Method for one more step, and answers a re-authentication likewise.
Without a method it lets everybody in, and acknowledges what a readiness probe may send.
"""

import asyncio
import threading
from pathlib import Path

from . import wire
from .wait import GUARD

METHOD = b"\x15" + wire.field("SCRAM-TEST")


def auth(reason: int, data: bytes) -> bytes:
    """An AUTH packet with the method and some data."""
    return wire.packet(0xF0, bytes([reason]) + wire.properties(wire.V5, METHOD + b"\x16" + wire.field(data)))


CHALLENGE = auth(0x18, b"\x00challenge\xff")
RE_CHALLENGE = auth(0x18, b"again")
RE_SUCCESS = auth(0x00, b"done")
CONNACK = wire.packet(0x20, b"\x00\x00" + wire.properties(wire.V5, METHOD + b"\x16" + wire.field(b"final")))
REFUSAL = wire.packet(0x20, b"\x00\x87\x00")


class AuthBroker:
    """Serves on a Unix socket from a thread, and keeps every packet that each connection sent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connections: list[list[bytes]] = []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.ready = threading.Event()
        self.stopping = asyncio.Event()

    @property
    def unix(self) -> str:
        """Its socket, as tidegate.toml writes it."""
        return f"unix:{self.path}"

    def start(self) -> None:
        """Return when it listens."""
        self.thread.start()
        assert self.ready.wait(GUARD)

    def stop(self) -> None:
        """End its thread and all connections."""
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(GUARD)
        self.loop.close()

    def _run(self) -> None:
        self.loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_unix_server(self._client, self.path)
        self.ready.set()
        await self.stopping.wait()
        server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen: list[bytes] = []
        self.connections.append(seen)
        buffer = b""
        try:
            while data := await reader.read(65536):
                buffer += data
                while size := wire.whole(buffer):
                    packet, buffer = buffer[:size], buffer[size:]
                    seen.append(packet)
                    answer = answer_to(packet, seen)
                    if answer is None:
                        return
                    writer.write(answer)
        finally:
            writer.close()


def answer_to(packet: bytes, seen: list[bytes]) -> bytes | None:
    """What the broker says to `packet`, the last of `seen`; None: it closes."""
    kind, body = packet[0] >> 4, wire.body_of(packet)
    if kind == 1:
        if METHOD in packet:
            return CHALLENGE
        return wire.packet(0x20, b"\x00\x00" + wire.properties(body[6]))
    if kind == 15:
        if body[0] == 0x19:
            return RE_CHALLENGE
        if b"wrong" in body:
            return REFUSAL
        return CONNACK if seen.count(packet) == 1 and len(seen) == 2 else RE_SUCCESS
    if kind == 3:
        qos = packet[0] >> 1 & 3
        at = 2 + int.from_bytes(body[:2], "big")
        return wire.packet(0x40, body[at : at + 2]) if qos == 1 else b""
    if kind == 8:
        return wire.packet(0x90, body[:2] + wire.properties(wire.body_of(seen[0])[6]) + b"\x00")
    if kind == 12:
        return wire.PINGRESP
    return None
