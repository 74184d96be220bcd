"""Workers with a given clock, their clients, and the upstreams that these leave behind; no sockets at all."""

import asyncio
import os
from collections.abc import Callable
from typing import Self, cast
from unittest.mock import patch

from tidegate.engine.binding import Engine
from tidegate.engine.counters import ROW_WORDS, WILLS, WILLS_HELD, Counters, Outcome
from tidegate.gateway.admission import Door
from tidegate.gateway.bounds import Bounds
from tidegate.gateway.connection import Connection
from tidegate.gateway.last_will import Estate
from tidegate.gateway.post import Post, create_post
from tidegate.gateway.presence import Presence, clear_presence, create_presence
from tidegate.gateway.relay import Relay
from tidegate.gateway.room import Room
from tidegate.gateway.states import State
from tidegate.gateway.waiting import Waiting
from tidegate.gateway.wills import Wills
from tidegate.mqtt.connect import Connect, Will
from tidegate.mqtt.properties import Properties
from tidegate.policy.model import Action, ByClass, Cases, Event, Limit

from . import limits
from .playbook import BOUNDS, connack, door_of
from .record_log import RecordLog

PASS = Cases(Action.PASS)
DISCONNECT = b"\xe0\x00"


def on_will(name: str = "wills", on_excess: Cases | None = None, delay: float = 0.0, **other: object) -> Limit:
    """A limit on wills; `delay` is how long it holds back, in seconds."""
    if delay:
        other["will_delay"] = ByClass(delay)
    other.setdefault("then", PASS)
    return Limit(name, Event.WILL, on_excess or Cases(Action.DELAY), **other)  # type: ignore[arg-type]


class Timer:
    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call = call
        self.is_off = False

    def cancel(self) -> None:
        self.is_off = True


class Clock:
    """The event loop, as far as it is asked for the time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []

    def call_at(self, due: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(due, call))
        return self.timers[-1]

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        return self.call_at(self.now + delay, call)

    def next(self, until: float) -> Timer | None:
        """The first that is due by `until`."""
        self.timers = [timer for timer in self.timers if not timer.is_off]
        return min((timer for timer in self.timers if timer.due <= until), key=lambda one: one.due, default=None)


class Line:
    """A transport: what was written, and how it ended."""

    def __init__(self) -> None:
        self.protocol: object = None
        self.written = b""
        self.has_eof = False
        self.is_aborted = False
        self.reading = True

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol

    def get_extra_info(self, _: str) -> Self:
        return self

    def setsockopt(self, *_: int) -> None: ...

    def write(self, data: bytes) -> None:
        assert not self.is_closing(), "written to after its end"
        self.written += data

    def write_eof(self) -> None:
        assert not self.is_closing(), "ended twice"
        self.has_eof = True

    def close(self) -> None:
        self.has_eof = True

    def abort(self) -> None:
        self.is_aborted = True

    def is_closing(self) -> bool:
        return self.has_eof or self.is_aborted

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def take(self) -> bytes:
        written, self.written = self.written, b""
        return written


class Place:
    """A worker: what its relays need of it."""

    def __init__(self, stage: "Stage", row: int, room: int) -> None:
        self.stage = stage
        self.row = row
        self.words = memoryview(bytearray(ROW_WORDS * 8)).cast("Q")
        self.counters = Counters(self.words, 0)
        self.bounds: Bounds = BOUNDS
        self.engine = Engine(stage.host.segment, row, row)
        self.engine.load(self.engine.segment.policy())
        self.waiting = Waiting(self.engine, self.counters, 1000, 1 << 20, 1 << 26)
        self.room = Room(room, 2 * room, self.counters, RecordLog())
        self.wills = Wills(
            self.waiting,
            Presence(stage.presence_fd, stage.workers, row),
            Post(stage.post[row][0], [end for _, end in stage.post]),
            row,
            b"key" * 10,
            self.room,
            stage.clock.call_at,
            lambda: stage.clock.now,
        )
        self.door: Door | None = door_of(self.waiting)
        self.door.wills = self.wills
        self.relays: set[Relay] = set()
        self.is_broker_there = True

    def take_room(self) -> bool:
        return self.room.take()

    def leave_room(self) -> None:
        self.room.leave()

    def take_turn(self, relay: Relay) -> None:
        relay.turn()

    def open_upstream(self, relay: Relay) -> None:
        """The client opens it when it likes."""

    def keep_upstream(self, estate: Estate, transport: asyncio.Transport) -> None:
        self.wills.keep(estate, cast(Line, transport))

    def connection_ended(self, relay: Relay, connection: Connection) -> None:
        assert connection.fault is None, connection.fault

    def outcomes(self) -> dict[str, int]:
        """What has become of wills, in words; what never happened is left out."""
        counted = {one.name.lower(): self.counters.value(WILLS + one) for one in Outcome}
        return {name: count for name, count in counted.items() if count}

    @property
    def held(self) -> int:
        return self.counters.value(WILLS_HELD)


class Client:
    """One client's connection to a worker, and its upstream."""

    def __init__(self, place: Place, connect: Connect, address: bytes = b"\x7f\x00\x00\x01") -> None:
        """Its CONNECT has been read; the broker's socket is yet to open."""
        self.place = place
        self.version = connect.version
        clock = self.clock = place.stage.clock
        self.line = Line()
        self.upstream = Line()
        loop = cast(asyncio.AbstractEventLoop, self.clock)
        with patch("time.monotonic", lambda: clock.now):  # which a relay takes for its clock when it is made
            self.relay = Relay(place, loop, b"tcp://127.0.0.1:1883")
        assert self.relay.arrive(address)
        self.relay.connection_made(cast(asyncio.Transport, self.line))
        self.says(connect.write())

    @property
    def state(self) -> State:
        return State(self.relay.connection.state)

    def says(self, data: bytes) -> "Client":
        self.relay.data_received(data)
        return self

    def open(self) -> "Client":
        """The broker's socket opens."""
        self.relay.broker_made(cast(asyncio.Transport, self.upstream))
        return self

    def broker(self, data: bytes) -> "Client":
        """The broker says something: to whoever has the upstream now."""
        if self.upstream.protocol is None:
            self.relay.broker_received(data)
        else:
            self.upstream.protocol.data_received(data)  # type: ignore[attr-defined]
        return self

    def accepted(self, properties: Properties | None = None) -> "Client":
        self.open()
        self.place.stage.deliver()
        return self.broker(connack(self.version, 0, properties))

    def goes(self) -> "Client":
        """Its socket closes."""
        self.relay.connection_lost(None)
        return self

    def broker_ends(self) -> "Client":
        """The broker closes the upstream."""
        if self.upstream.protocol is None:
            self.relay.broker_lost(False)
        else:
            self.upstream.protocol.connection_lost(None)  # type: ignore[attr-defined]
        self.place.stage.deliver()
        return self

    @property
    def is_kept(self) -> bool:
        return self.upstream.protocol is not None and not self.upstream.is_closing()


class Stage:
    """Workers that share a segment."""

    def __init__(self, *rules: Limit, workers: int = 1, room: int = 1000) -> None:
        self.workers = workers
        self.clock = Clock()
        self.host = limits.host(*rules, workers=workers)
        self.presence_fd = create_presence(workers)
        self.post = create_post(workers)
        self.places = [Place(self, row, room) for row in range(workers)]

    def close(self) -> None:
        os.close(self.host.fd)
        os.close(self.presence_fd)
        for ends in self.post:
            for fd in ends:
                os.close(fd)

    def arrives(
        self,
        client_id: str = "c",
        worker: int = 0,
        version: int = 4,
        topic: str | None = "status/c",
        *,
        user: tuple[str, bytes] | None = ("u", b"secret"),
        clean: bool = True,
        keepalive: int = 60,
        retain: bool = False,
        qos: int = 0,
        payload: bytes = b"offline",
        properties: Properties | None = None,
        will_properties: Properties | None = None,
        address: bytes = b"\x7f\x00\x00\x01",
    ) -> Client:
        """A client has sent CONNECT, with a will if there is a `topic`."""
        self.clock.now += 1e-6  # no two come at the same moment
        will = None if topic is None else Will(topic, payload, qos, retain, will_properties or [])
        name, password = user or (None, None)
        connect = Connect(version, False, clean, keepalive, client_id, name, password, will, properties or [])
        return Client(self.places[worker], connect, address)

    def joins(self, client_id: str = "c", worker: int = 0, version: int = 4, **other: object) -> Client:
        """The same, and the broker has accepted it; nothing that was said so far is told."""
        client = self.arrives(client_id, worker, version, **other).accepted()  # type: ignore[arg-type]
        assert client.state is State.OPEN
        client.upstream.take()
        client.line.take()
        return client

    def at(self, seconds: float) -> None:
        """Let time pass up to so many seconds from the beginning, and everything happen that is due."""
        until = 1000.0 + seconds + 0.001  # more than all who came have taken
        while True:
            timer = self.clock.next(until)
            turn = min(place.waiting.next_at for place in self.places)
            if timer is not None and timer.due <= turn:
                timer.is_off = True
                self.clock.now = max(self.clock.now, timer.due)
                timer.call()
            elif turn <= until:
                self.clock.now = max(self.clock.now, turn)
                for place in self.places:
                    place.waiting.run(self.clock.now)
            else:
                break
            self.deliver()
        self.clock.now = until

    def deliver(self) -> None:
        """The workers read what others have sent them, until there is no more."""
        for _ in range(4):
            for place in self.places:
                place.wills.receive()

    def dies(self, worker: int) -> None:
        """A worker is killed, and the supervisor has noticed."""
        clear_presence(self.presence_fd, self.workers, worker)

    def reload(self, *rules: Limit) -> None:
        """Other limits come into force."""
        policy = limits.host(*rules, workers=1).policy
        self.host.replace(policy)
        for place in self.places:
            place.engine.load(place.engine.segment.policy())
            place.waiting.reconsider(self.clock.now)
            place.wills.reconsider(self.clock.now)
