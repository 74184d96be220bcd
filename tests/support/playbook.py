"""A conversation with a `Connection`, written as it reads: who says what, and what comes out on either side."""

from tidegate.engine.binding import Engine
from tidegate.engine.counters import ROW_WORDS, Counters
from tidegate.gateway.admission import Door
from tidegate.gateway.bans import Bans
from tidegate.gateway.bounds import Bounds
from tidegate.gateway.connection import (
    END,
    FREE_BROKER,
    FREE_CLIENT,
    HOLD_BROKER,
    HOLD_CLIENT,
    OPEN_UPSTREAM,
    RESUME,
    RESUME_BROKER,
    Connection,
)
from tidegate.gateway.states import State
from tidegate.gateway.waiting import Waiting
from tidegate.gateway.waiting_room import WaitingRoom
from tidegate.mqtt.connack import Connack
from tidegate.mqtt.connect import Connect
from tidegate.mqtt.framing import packet
from tidegate.mqtt.properties import Properties, write_properties

BOUNDS = Bounds(max_packet=1 << 20, max_connect=65_536, connect_timeout=5.0, packet_timeout=30.0, max_keepalive=0)
"""The defaults of the settings."""
ADDRESS = bytes([192, 0, 2, 1])
NAMES = {
    OPEN_UPSTREAM: "open",
    HOLD_CLIENT: "hold",
    FREE_CLIENT: "free",
    HOLD_BROKER: "hold broker",
    FREE_BROKER: "free broker",
    END: "end",
}


def connect(version: int = 4, keepalive: int = 0, properties: Properties | None = None, client_id: str = "c") -> bytes:
    return Connect(
        version=version,
        bridge=False,
        clean_start=True,
        keepalive=keepalive,
        client_id=client_id,
        username=None,
        password=None,
        will=None,
        properties=properties or [],
    ).write()


def connack(
    version: int = 4, reason: int = 0, properties: Properties | None = None, session_present: bool = False
) -> bytes:
    return Connack(session_present, reason, properties or []).write(version)


def publish(
    topic: str = "t",
    payload: bytes = b"x",
    qos: int = 0,
    packet_id: int = 1,
    version: int = 4,
    properties: Properties | None = None,
    dup: bool = False,
    retain: bool = False,
) -> bytes:
    body = len(topic.encode()).to_bytes(2, "big") + topic.encode()
    if qos:
        body += packet_id.to_bytes(2, "big")
    if version == 5:
        body += write_properties(properties or [])
    return packet(0x30 | dup << 3 | qos << 1 | retain, body + payload)


def waiting_room(
    engine: Engine, counters: Counters, messages: int = 1000, size: int = 1 << 20, pool: int = 1 << 26
) -> Waiting:
    return Waiting(engine, counters, messages, size, pool)


def door_of(waiting: Waiting, room: int = 1000, bans: Bans | None = None) -> Door:
    """A worker's door; nobody is told of offences."""
    return Door(waiting, bans or Bans(), WaitingRoom(room, waiting.counters), lambda *_: None)


class Playbook:
    """Drives one connection; time stands still unless `at` moves it."""

    def __init__(
        self,
        bounds: Bounds = BOUNDS,
        engine: Engine | None = None,
        waiting: Waiting | None = None,
        address: bytes = ADDRESS,
        door: Door | None = None,
        now: float = 0.0,
    ) -> None:
        """`waiting`: the worker's, which connections of one engine share; one of its own if absent. `door` likewise."""
        self.counters = Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0)
        self.now = now
        self.connection = Connection(self.counters, bounds, self.now)
        self.waiting: Waiting | None = None
        if engine is not None:
            self.waiting = waiting or waiting_room(engine, self.counters)
            self.connection.flusher = self.flush
            self.connection.enter(door or door_of(self.waiting), address, b"tcp://127.0.0.1:1883")

    @classmethod
    def opened(
        cls,
        version: int = 4,
        keepalive: int = 0,
        properties: Properties | None = None,
        offered: Properties | None = None,
        bounds: Bounds = BOUNDS,
        engine: Engine | None = None,
        client_id: str = "c",
        session_present: bool = False,
        waiting: Waiting | None = None,
        address: bytes = ADDRESS,
        now: float = 0.0,
    ) -> "Playbook":
        """A connection that the broker has accepted, its greetings taken."""
        play = cls(bounds, engine=engine, waiting=waiting, address=address, now=now)
        play.client(connect(version, keepalive, properties, client_id))
        play.upstream()
        play.broker(connack(version, 0, offered, session_present))
        play.take()
        assert play.state is State.OPEN
        return play

    @property
    def state(self) -> State:
        return State(self.connection.state)

    def client(self, *chunks: bytes) -> "Playbook":
        for chunk in chunks:
            self.connection.client_bytes(chunk, self.now)
            self.flush()
        return self

    def broker(self, *chunks: bytes) -> "Playbook":
        for chunk in chunks:
            self.connection.broker_bytes(chunk, self.now)
            self.flush()
        return self

    def upstream(self) -> "Playbook":
        self.connection.upstream_opened(self.now)
        return self

    def at(self, now: float) -> "Playbook":
        """Move the clock to `now` and let the connection, and what waits, do what is due."""
        self.now = now
        if self.waiting is not None:
            self.waiting.run(now)
        self.connection.tick(now)
        self.flush()
        while 0 < self.connection.wake_at <= now:  # its turn has led to what is due at once, or more is left
            self.connection.tick(now)
            self.flush()
        return self

    def flush(self) -> None:
        """It is this client's turn at once, or its broker's, whenever it asks for it."""
        while (commands := self.connection.commands) & (RESUME | RESUME_BROKER):
            self.connection.commands &= ~(RESUME | RESUME_BROKER)
            if commands & RESUME:
                self.connection.resume(self.now)
            if commands & RESUME_BROKER:
                self.connection.resume_broker(self.now)

    def take(self) -> tuple[bytes, bytes, list[str]]:
        """What was written since: to the client, to the broker, and the commands."""
        connection = self.connection
        out = b"".join(connection.to_client), b"".join(connection.to_broker)
        connection.to_client.clear()
        connection.to_broker.clear()
        commands = [name for bit, name in NAMES.items() if connection.commands & bit]
        connection.commands = 0
        return *out, commands
