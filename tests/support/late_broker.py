"""A broker that acknowledges a PUBLISH only when it is told to, and knows how many are unacknowledged.

Everybody may connect, with MQTT 3.1, 3.1.1 or 5; sessions are not kept, and nothing is delivered. The PUBACK or PUBREC
of each QoS 1 or 2 message is held back until `release`; a PUBREL gets its PUBCOMP at once. PINGREQ, SUBSCRIBE and
UNSUBSCRIBE are answered at once, and the gateway's own probes are let in and left out of what is recorded.
"""

import asyncio
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tidegate.mqtt.ack import Ack, write_ack
from tidegate.mqtt.connack import Connack
from tidegate.mqtt.connect import Connect
from tidegate.mqtt.errors import PacketError
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.properties import Properties, PropertyId
from tidegate.mqtt.publish import Publish
from tidegate.mqtt.reasons import PacketType, ReasonCode
from tidegate.mqtt.session import PINGRESP, Disconnect
from tidegate.mqtt.subscribe import Suback, Subscribe, Unsuback, Unsubscribe

from .ports import free_port
from .wait import GUARD

_PROBE = "tidegate-probe-"
"""What the gateway's own question whether a broker answers is told by."""


@dataclass(frozen=True)
class Received:
    """One PUBLISH, as it came."""

    client_id: str
    topic: str
    payload: bytes
    qos: int
    dup: bool
    packet_id: int
    """0 with QoS 0."""


@dataclass
class Seen:
    """What the broker knows of one connection."""

    connect: Connect
    received: list[Received] = field(default_factory=list)
    unacknowledged: set[int] = field(default_factory=set)
    """Packet identifiers: of QoS 1 until the PUBACK was sent, of QoS 2 until the PUBCOMP was."""
    most: int = 0
    """The most that there were at a time."""
    pings: int = 0
    disconnect: Disconnect | None = None
    """What the client said at the end, if it did."""
    ended: bool = False
    fault: str | None = None
    """Which packet ended the connection, as it broke the specification, and how."""

    @property
    def lost(self) -> bool:
        """Whether the connection ended as a broker would have to send its will (section 3.1.2.5)."""
        left = self.disconnect is not None and self.disconnect.reason != ReasonCode.DISCONNECT_WITH_WILL
        return self.ended and not left


class LateBroker:
    """Serves from a thread on the Unix socket `path`, or without one on a free TCP port of 127.0.0.1.

    `receive_maximum` is what its CONNACK offers to clients of MQTT 5 (None: it says nothing, which is 65,535); who
    exceeds it is recorded all the same. With `automatic` nothing is held back. What it has recorded may be read while
    it goes on.
    """

    def __init__(
        self, path: Path | None = None, *, receive_maximum: int | None = None, automatic: bool = False
    ) -> None:
        self.path = path
        self.port = 0 if path else free_port()
        self.automatic = automatic
        self.connections: list[Seen] = []
        """All that were ever made, in their order."""
        self.received: list[Received] = []
        """Of all connections, in the order of their coming."""
        self.unacknowledged = 0
        """Messages of all open connections."""
        self.most = 0
        """The most that there were at a time."""
        self._changes: list[tuple[str, int]] = []
        """Of the number of unacknowledged messages: whose, and by how many."""
        self._offer: Properties = []
        if receive_maximum is not None:
            self._offer = [(PropertyId.RECEIVE_MAXIMUM, receive_maximum)]
        self._held: deque[tuple[_Peer, PacketType, int]] = deque()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()], daemon=True)

    @property
    def address(self) -> str:
        """Where it listens, as tidegate.toml writes it."""
        return f"unix:{self.path}" if self.path else f"tcp://127.0.0.1:{self.port}"

    @property
    def held(self) -> int:
        """Acknowledgements that are held back."""
        return len(self._held)

    def of_client(self, client_id: str) -> list[Seen]:
        """The connections of one client, in their order."""
        return [seen for seen in list(self.connections) if seen.connect.client_id == client_id]

    def most_of(self, *client_ids: str) -> int:
        """The most messages of these clients together that were unacknowledged at a time."""
        most = now = 0
        for client_id, change in list(self._changes):
            if client_id in client_ids:
                now += change
                most = max(most, now)
        return most

    def start(self) -> None:
        """Return when it listens."""
        self._thread.start()
        assert self._ready.wait(GUARD)

    def stop(self) -> None:
        """End its thread and all connections."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(GUARD)
        self._loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def release(self, count: int) -> int:
        """Send the oldest so many acknowledgements that are held back; how many there were."""
        return asyncio.run_coroutine_threadsafe(self._release(count), self._loop).result(GUARD)

    def release_all(self) -> int:
        """Send all that are held back now; how many there were."""
        return self.release(len(self._held))

    async def _release(self, count: int) -> int:
        count = min(count, len(self._held))
        for _ in range(count):
            peer, kind, packet_id = self._held.popleft()
            peer.acknowledge(kind, packet_id)
        return count

    async def _serve(self) -> None:
        if self.path:
            server = await self._loop.create_unix_server(lambda: _Peer(self), self.path)
        else:
            server = await self._loop.create_server(lambda: _Peer(self), "127.0.0.1", self.port)
        peers = self._peers = set[_Peer]()
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for peer in list(peers):
            peer.end()
        while peers:
            await asyncio.sleep(0)

    # What a peer tells

    def _came(self, peer: "_Peer") -> None:
        self._peers.add(peer)

    def _went(self, peer: "_Peer") -> None:
        self._peers.discard(peer)
        self._held = deque(one for one in self._held if one[0] is not peer)
        if peer.seen is not None:
            self._change(peer.seen, -len(peer.seen.unacknowledged))
            peer.seen.unacknowledged.clear()

    def _connected(self, connect: Connect) -> Seen:
        seen = Seen(connect)
        if not connect.client_id.startswith(_PROBE):
            self.connections.append(seen)
        return seen

    def _published(self, peer: "_Peer", message: Received) -> None:
        assert peer.seen is not None
        peer.seen.received.append(message)
        self.received.append(message)
        if message.qos == 0:
            return
        if message.packet_id not in peer.seen.unacknowledged:
            peer.seen.unacknowledged.add(message.packet_id)
            peer.seen.most = max(peer.seen.most, len(peer.seen.unacknowledged))
            self._change(peer.seen, 1)
        kind = PacketType.PUBACK if message.qos == 1 else PacketType.PUBREC
        if self.automatic:
            peer.acknowledge(kind, message.packet_id)
        else:
            self._held.append((peer, kind, message.packet_id))

    def _acknowledged(self, seen: Seen, packet_id: int) -> None:
        if packet_id in seen.unacknowledged:
            seen.unacknowledged.discard(packet_id)
            self._change(seen, -1)

    def _change(self, seen: Seen, by: int) -> None:
        self.unacknowledged += by
        self.most = max(self.most, self.unacknowledged)
        self._changes.append((seen.connect.client_id, by))


class _Peer(asyncio.Protocol):
    """One connection of the broker."""

    def __init__(self, broker: LateBroker) -> None:
        self.seen: Seen | None = None
        self._broker = broker
        self._data = bytearray()
        self._frame = Frame()
        self._publish = Publish()
        self._ack = Ack()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._broker._came(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        read = bytes(self._data)
        at = 0
        try:
            while not self._transport.is_closing() and self._frame.read(read, at) and self._frame.end <= len(read):
                self._take(read, at, self._frame.body, self._frame.end)
                at = self._frame.end
        except PacketError as error:
            if self.seen is not None:
                self.seen.fault = f"{PacketType(read[at] >> 4).name}: {error.text}"
            self.end()
        del self._data[:at]

    def connection_lost(self, exc: Exception | None) -> None:
        if self.seen is not None:
            self.seen.ended = True
        self._broker._went(self)

    def end(self) -> None:
        """Close the connection, once what was written has left."""
        self._transport.close()

    def acknowledge(self, kind: PacketType, packet_id: int) -> None:
        """Send an acknowledgement; with PUBACK and PUBCOMP the exchange is over."""
        assert self.seen is not None
        if kind != PacketType.PUBREC:
            self._broker._acknowledged(self.seen, packet_id)
        self._transport.write(write_ack(kind, packet_id))

    def _take(self, read: bytes, at: int, body: int, end: int) -> None:
        kind = PacketType(read[at] >> 4)
        if self.seen is None:
            connect = Connect.read(read, at, body, end)
            self.seen = self._broker._connected(connect)
            offer = self._broker._offer if connect.version == 5 else []
            self._transport.write(Connack(False, 0, offer).write(connect.version))
            return
        version = self.seen.connect.version
        if kind == PacketType.PUBLISH:
            found = self._publish
            found.read(read, at, body, end, version, True)
            topic = read[found.topic : found.topic_end].decode()
            payload = read[found.payload : end]
            self._broker._published(
                self,
                Received(self.seen.connect.client_id, topic, payload, found.qos, found.dup, found.packet_id),
            )
        elif kind == PacketType.PUBREL:
            self._ack.read(read, at, body, end, version)
            self.acknowledge(PacketType.PUBCOMP, self._ack.packet_id)
        elif kind == PacketType.SUBSCRIBE:
            subscribe = Subscribe.read(read, at, body, end, version)
            granted = [one.qos for one in subscribe.subscriptions]
            self._transport.write(Suback(subscribe.packet_id, granted).write(version))
        elif kind == PacketType.UNSUBSCRIBE:
            unsubscribe = Unsubscribe.read(read, at, body, end, version)
            reasons = [0] * len(unsubscribe.topic_filters) if version == 5 else []
            self._transport.write(Unsuback(unsubscribe.packet_id, reasons).write(version))
        elif kind == PacketType.PINGREQ:
            self.seen.pings += 1
            self._transport.write(PINGRESP)
        elif kind == PacketType.DISCONNECT:
            self.seen.disconnect = Disconnect.read(read, at, body, end, version, from_client=True)
            self.end()
