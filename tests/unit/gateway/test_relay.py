import gc
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from support.limits import engine, limit, rate
from support.paced import paced
from support.playbook import BOUNDS, connack, connect, door_of, publish, waiting_room
from support.subscribing import granted, on_subscribe, request
from tidegate.engine.binding import Engine
from tidegate.engine.counters import CONNECTIONS, CONNECTIONS_TOTAL, ROW_WORDS, Counters
from tidegate.gateway import relay
from tidegate.gateway.answers import Answers
from tidegate.gateway.connection import LINGER, Connection
from tidegate.gateway.guard import Guard
from tidegate.gateway.hold import Hold
from tidegate.gateway.relay import LARGE_READ, Relay, Upstream, address_of, has_hung_up
from tidegate.gateway.requests import Requests
from tidegate.gateway.subscriptions import Subscriptions
from tidegate.gateway.turn import Turn
from tidegate.mqtt.session import PINGREQ
from tidegate.policy.model import Action, ByClass, Cases, Event, Key, KeyKind, Limit


class Options:
    """A socket of which only options are asked."""

    def __init__(self) -> None:
        self.set: list[tuple[int, int, int]] = []

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.set.append((level, option, value))


class Transport:
    """One side's socket: what was written, and what was asked of it."""

    def __init__(self) -> None:
        self.written = b""
        self.reading = True
        self.closing = False
        self.aborted = False
        self.options = Options()
        self.socket: socket.socket | None = None

    def get_extra_info(self, name: str) -> object:
        assert name == "socket"
        return self.socket or self.options

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed twice"
        self.reading = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def write_eof(self) -> None:
        """The other side reads to the end, and closes."""
        assert not self.closing
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def take(self) -> bytes:
        written, self.written = self.written, b""
        return written


class Timer:
    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """The event loop's clock and timers; time moves when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.soon: list[Callable[[], None]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(due, call))
        return self.timers[-1]

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    def turn(self) -> None:
        """The end of a turn: what was put off runs."""
        calls, self.soon = self.soon, []
        for call in calls:
            call()

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        return self.call_at(self.now + delay, call)

    def waiting(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def move(self, now: float) -> None:
        while due := [timer for timer in self.waiting() if timer.due <= now]:
            first = min(due, key=lambda timer: timer.due)
            self.now = first.due
            first.cancelled = True
            first.call()
        self.now = now


class Scene:
    """A relay between two transports, and the worker around it."""

    def __init__(self, engine: Engine | None = None, room: int = 1) -> None:
        self.counters = Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0)
        self.bounds = BOUNDS
        self.room = room
        self.waiting = None if engine is None else waiting_room(engine, self.counters)
        self.door = None if self.waiting is None else door_of(self.waiting)
        self.relays: set[Relay] = set()
        self.opened: list[Relay] = []
        self.turns: list[Relay] = []
        self.ended: list[Connection] = []
        self.loop = Loop()
        self.relay = self.made()
        self.client = Transport()
        self.broker = Transport()
        self.is_taken = self.relay.arrive(bytes([192, 0, 2, 1]))
        if self.is_taken:
            self.relay.connection_made(self.client)  # type: ignore[arg-type]
        self.upstream = Upstream(self.relay)

    def made(self) -> Relay:
        """One that goes by this clock."""
        with pytest.MonkeyPatch.context() as patched:  # the relay takes its clock when it is made
            patched.setattr(relay, "time", SimpleNamespace(monotonic=self.loop.time))
            return Relay(self, self.loop)  # type: ignore[arg-type]

    def open_upstream(self, relay: Relay) -> None:
        self.opened.append(relay)

    def take_room(self) -> bool:
        if self.room:
            self.room -= 1
            return True
        return False

    def leave_room(self) -> None:
        self.room += 1

    def take_turn(self, relay: Relay) -> None:
        self.turns.append(relay)

    def end_turn(self) -> None:
        """The end of a turn of the loop: what was put off is done."""
        turns, self.turns = self.turns, []
        for one in turns:
            one.turn()
        self.loop.turn()

    def connection_ended(self, relay: Relay, connection: Connection) -> None:
        self.ended.append(connection)

    def open(self, version: int = 4, keepalive: int = 0) -> "Scene":
        self.relay.data_received(connect(version, keepalive))
        assert self.opened == [self.relay]
        self.upstream.connection_made(self.broker)  # type: ignore[arg-type]
        assert self.broker.take() == connect(version, keepalive)
        self.upstream.data_received(connack(version))
        self.client.take()
        return self


@pytest.fixture
def peers() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket of ours and its peer's."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_bytes_cross_both_ways() -> None:
    scene = Scene().open()
    scene.relay.data_received(publish("a"))
    assert scene.broker.take() == publish("a")
    scene.upstream.data_received(publish("b"))
    assert scene.client.take() == publish("b")


@pytest.mark.parametrize("how", [socket.socket.close, lambda peer: peer.shutdown(socket.SHUT_WR)])
def test_who_has_hung_up_is_known_without_reading(
    peers: tuple[socket.socket, socket.socket], how: Callable[[socket.socket], object]
) -> None:
    client = Transport()
    client.socket, peer = peers
    peer.send(connect())
    assert not has_hung_up(client)  # type: ignore[arg-type]
    how(peer)
    assert has_hung_up(client)  # type: ignore[arg-type]


def test_connections_are_counted_while_they_are_open() -> None:
    scene = Scene()
    assert (scene.counters.value(CONNECTIONS), scene.counters.value(CONNECTIONS_TOTAL)) == (1, 1)
    scene.relay.connection_lost(None)
    assert (scene.counters.value(CONNECTIONS), scene.counters.value(CONNECTIONS_TOTAL)) == (0, 1)
    assert scene.relays == set()


def test_a_broker_that_does_not_take_stops_the_client_from_being_read() -> None:
    scene = Scene().open()
    scene.upstream.pause_writing()
    assert not scene.client.reading
    scene.upstream.resume_writing()
    assert scene.client.reading


def test_a_client_that_does_not_take_stops_both_sides_from_being_read() -> None:
    scene = Scene().open()
    scene.relay.pause_writing()
    assert not scene.broker.reading
    assert not scene.client.reading
    scene.relay.resume_writing()
    assert scene.broker.reading
    assert scene.client.reading


def test_reading_resumes_when_no_reason_is_left() -> None:
    scene = Scene().open()
    scene.upstream.pause_writing()
    scene.relay.pause_writing()
    scene.relay.resume_writing()
    assert not scene.client.reading
    scene.upstream.resume_writing()
    assert scene.client.reading


@pytest.mark.parametrize("stalled", [False, True])
def test_after_a_large_read_a_side_waits_for_the_next_turn(stalled: bool) -> None:
    scene = Scene().open()
    large = publish("t", b"x" * LARGE_READ)
    scene.relay.data_received(large)
    scene.upstream.data_received(large)
    assert not scene.client.reading
    assert not scene.broker.reading
    if stalled:  # what the loop finds when it writes, at the end of the turn
        scene.upstream.pause_writing()
    scene.end_turn()
    assert scene.client.reading != stalled
    assert scene.broker.reading


def test_the_client_is_not_read_while_its_bytes_wait_for_connack() -> None:
    scene = Scene()
    scene.relay.data_received(connect() + publish())
    assert not scene.client.reading
    scene.upstream.connection_made(scene.broker)  # type: ignore[arg-type]
    scene.upstream.data_received(connack())
    assert scene.client.reading
    assert scene.broker.take() == connect() + publish()


@pytest.mark.parametrize("stopped_by", ["broker", "client"])
def test_a_client_that_is_not_read_lives_while_it_has_sent_something(
    peers: tuple[socket.socket, socket.socket], stopped_by: str
) -> None:
    scene = Scene().open(keepalive=10)
    side = scene.upstream if stopped_by == "broker" else scene.relay
    scene.client.socket, theirs = peers
    theirs.send(b"\xc0\x00")
    side.pause_writing()
    scene.loop.move(100.0)
    assert scene.ended == []
    scene.client.socket.recv(2)
    scene.loop.move(200.0)
    assert len(scene.ended) == 1, "nothing is left that it has sent: it is as silent as any other"


def test_a_client_that_neither_reads_nor_sends_is_silent(peers: tuple[socket.socket, socket.socket]) -> None:
    scene = Scene().open(keepalive=10)
    scene.client.socket = peers[0]
    scene.relay.pause_writing()
    scene.loop.move(15.0)
    assert len(scene.ended) == 1


def test_a_disconnect_that_was_held_behind_connect_is_the_last_that_is_read() -> None:
    scene = Scene()
    scene.relay.data_received(connect() + b"\xe0\x00")
    scene.upstream.connection_made(scene.broker)  # type: ignore[arg-type]
    scene.upstream.data_received(connack())
    assert scene.broker.take() == connect() + b"\xe0\x00"
    assert not scene.client.reading


def test_a_timer_is_not_armed_anew_by_every_packet() -> None:
    scene = Scene().open(keepalive=60)
    armed = len(scene.loop.timers)
    for _ in range(100):
        scene.relay.data_received(publish())
    assert len(scene.loop.timers) == armed


def test_a_wake_up_that_comes_earlier_is_armed_at_once() -> None:
    scene = Scene().open(keepalive=60)
    scene.relay.data_received(b"\xe0\x00")
    scene.loop.move(LINGER)
    assert scene.broker.closing


def test_the_broker_gone_closes_the_client() -> None:
    scene = Scene().open(5)
    scene.upstream.connection_lost(None)
    assert scene.client.closing
    assert scene.client.take()[0] == 0xE0
    assert scene.ended[0].doubt_broker


def test_the_client_gone_closes_the_broker() -> None:
    scene = Scene().open()
    scene.relay.connection_lost(None)
    assert scene.broker.closing
    scene.upstream.connection_lost(None)
    assert scene.loop.waiting() == []


def test_what_the_broker_said_before_a_write_to_it_failed_is_heard(
    peers: tuple[socket.socket, socket.socket],
) -> None:
    scene = Scene().open(5)
    dismissal = b"\xe0\x01\x98"
    scene.broker.socket = peers[0]
    peers[1].send(dismissal)
    scene.upstream.connection_lost(BrokenPipeError())
    assert scene.client.take() == dismissal
    assert not scene.ended[0].doubt_broker


def test_what_the_client_said_before_a_write_to_it_failed_is_heard(
    peers: tuple[socket.socket, socket.socket],
) -> None:
    scene = Scene().open()
    scene.client.socket = peers[0]
    peers[1].send(b"\xe0\x00")
    scene.relay.connection_lost(BrokenPipeError())
    assert scene.broker.take() == b"\xe0\x00", "a clean end: no will"


def test_a_side_that_does_not_end_is_cut_off() -> None:
    scene = Scene().open()
    scene.relay.data_received(b"\xc1\x00")  # malformed
    assert scene.client.closing
    assert not scene.client.aborted
    scene.loop.move(LINGER)
    assert scene.client.aborted
    assert scene.broker.aborted


def test_a_client_that_left_before_the_broker_accepted() -> None:
    scene = Scene()
    scene.relay.data_received(connect())
    scene.relay.connection_lost(None)
    scene.upstream.connection_made(scene.broker)  # type: ignore[arg-type]
    assert scene.broker.aborted
    assert scene.broker.written == b""


def test_an_upstream_whose_client_has_gone_is_cut_off() -> None:
    scene = Scene().open()
    scene.relay.connection_lost(None)
    scene.loop.move(LINGER - 0.1)
    assert not scene.broker.aborted
    scene.loop.move(LINGER)
    assert scene.broker.aborted


@pytest.mark.parametrize("sent", [b"", connect()[:-1]])
def test_without_a_whole_connect_no_upstream_is_opened(sent: bytes) -> None:
    scene = Scene()
    scene.relay.data_received(sent)
    scene.loop.move(5.0)
    assert scene.opened == []
    assert scene.client.closing


@pytest.mark.parametrize("keepalive", [0, 60])
def test_the_kernel_asks_after_a_client_without_a_keepalive(keepalive: int) -> None:
    scene = Scene().open(keepalive=keepalive)
    wanted = [] if keepalive else [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    assert scene.client.options.set == wanted


class TestPacketUnderWay:
    """A part of a packet has come; the rest is due within `packet_timeout`."""

    PERIOD = BOUNDS.packet_timeout

    @pytest.fixture(autouse=True)
    def quiet(self, peers: tuple[socket.socket, socket.socket]) -> None:
        self.socket = peers[0]

    def begun(self, keepalive: int = 0) -> Scene:
        scene = Scene().open(keepalive=keepalive)
        scene.client.socket = self.socket
        scene.relay.data_received(publish()[:3])
        return scene

    @pytest.mark.parametrize("keepalive", [0, 3600])
    def test_a_client_that_does_not_go_on_is_closed(self, keepalive: int) -> None:
        scene = self.begun(keepalive)
        scene.loop.move(self.PERIOD - 0.1)
        assert scene.ended == []
        scene.loop.move(self.PERIOD)
        assert scene.client.closing

    @pytest.mark.parametrize("stopped_by", ["broker", "client"])
    def test_one_that_is_not_read_has_all_its_time_afterwards(self, stopped_by: str) -> None:
        scene = self.begun()
        side = scene.upstream if stopped_by == "broker" else scene.relay
        scene.loop.move(1.0)
        side.pause_writing()
        scene.loop.move(5.5 * self.PERIOD)
        side.resume_writing()
        scene.loop.move(6.4 * self.PERIOD)
        assert scene.ended == []
        scene.loop.move(6.5 * self.PERIOD)
        assert len(scene.ended) == 1

    def test_a_pause_within_a_period_begins_it_anew(self) -> None:
        scene = self.begun()
        scene.upstream.pause_writing()
        scene.loop.move(self.PERIOD - 1.0)
        scene.upstream.resume_writing()
        scene.loop.move(2 * self.PERIOD - 1.5)
        assert scene.ended == []


class TestRoom:
    """The host has room for so many clients: for both sockets of each."""

    def test_without_room_a_client_gets_no_transport(self) -> None:
        scene = Scene(room=0)
        assert not scene.is_taken
        assert scene.relays == set()
        assert (scene.counters.value(CONNECTIONS), scene.counters.value(CONNECTIONS_TOTAL)) == (0, 0)
        assert (scene.room, scene.loop.waiting(), scene.ended) == (0, [], [])

    def test_who_is_refused_at_accept_gives_its_room_back(self) -> None:
        limits = engine(Limit("shut", Event.CONNECT, Cases(Action.DROP), per=(Key(KeyKind.ALL),), rate=rate(1)))
        scene = Scene(limits)
        assert scene.is_taken
        other = scene.made()
        scene.room = 1
        assert not other.arrive(bytes([192, 0, 2, 1]))
        assert (scene.room, scene.relays) == (1, {scene.relay})
        assert (scene.counters.value(CONNECTIONS), scene.counters.value(CONNECTIONS_TOTAL)) == (1, 2)

    def test_one_that_is_ended_before_it_has_a_transport_is_closed(self) -> None:
        scene = Scene(room=2)
        late, transport = scene.made(), Transport()
        assert late.arrive(bytes([192, 0, 2, 1]))
        late.shut_down()
        late.connection_made(transport)  # type: ignore[arg-type]
        assert transport.aborted
        late.connection_lost(None)
        assert (scene.room, scene.relays) == (1, {scene.relay})

    def test_a_client_without_an_upstream_has_its_room_until_it_goes(self) -> None:
        scene = Scene()
        assert scene.room == 0
        scene.relay.connection_lost(None)
        assert scene.room == 1

    @pytest.mark.parametrize("first", ["client", "broker"])
    def test_it_is_given_back_when_both_sockets_are_closed(self, first: str) -> None:
        scene = Scene().open()
        closes = [scene.relay.connection_lost, scene.upstream.connection_lost]
        for close in closes if first == "client" else reversed(closes):
            assert scene.room == 0
            close(None)
        assert scene.room == 1

    def test_an_upstream_that_is_being_opened_may_take_a_socket_yet(self) -> None:
        scene = Scene()
        scene.relay.data_received(connect())
        scene.relay.connection_lost(None)
        assert scene.room == 0
        scene.upstream.connection_made(scene.broker)  # type: ignore[arg-type]
        assert scene.room == 0
        scene.upstream.connection_lost(None)
        assert scene.room == 1

    @pytest.mark.parametrize("client_first", [False, True])
    def test_an_upstream_that_cannot_be_opened_takes_none(self, client_first: bool) -> None:
        scene = Scene()
        scene.relay.data_received(connect())
        steps: list[Callable[[], None]] = [scene.relay.broker_failed, lambda: scene.relay.connection_lost(None)]
        for step in reversed(steps) if client_first else steps:
            assert scene.room == 0
            step()
        assert scene.room == 1


def test_no_upstream_no_service() -> None:
    scene = Scene()
    scene.relay.data_received(connect())
    scene.relay.broker_failed()
    assert scene.client.take() == b"\x20\x02\x00\x03"
    assert scene.client.closing


@pytest.mark.parametrize("opened", [False, True])
def test_shut_down(opened: bool) -> None:
    scene = Scene()
    if opened:
        scene.open()
    scene.relay.shut_down()
    assert scene.client.closing
    assert scene.broker.closing == opened


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("192.0.2.1", 1883), bytes([192, 0, 2, 1])),
        (("2001:db8::1", 1883, 0, 0), bytes.fromhex("20010db8000000000000000000000001")),
        (("fe80::1%eth0", 1883, 0, 2), bytes.fromhex("fe800000000000000000000000000001")),
        (("::ffff:192.0.2.1", 1883, 0, 0), bytes([192, 0, 2, 1])),
        ("", b""),
        (None, b""),
    ],
)
def test_the_peers_address(peer: object, address: bytes) -> None:
    assert address_of(peer) == address


class TestHeld:
    """A limit lets one message pass each second; the second waits."""

    def held(self) -> Scene:
        scene = Scene(engine(limit("one", Cases(Action.DELAY), rate=rate(1)))).open()
        scene.relay.data_received(publish() * 2)
        assert scene.broker.take() == publish()
        return scene

    def turns(self, scene: Scene, now: float) -> None:
        scene.loop.move(now)
        assert scene.waiting is not None
        scene.waiting.run(now)

    def test_what_has_its_turn_is_written(self) -> None:
        scene = self.held()
        self.turns(scene, 1.5)
        assert scene.broker.take() == publish()

    def test_what_was_left_unread_is_read_in_turn(self) -> None:
        scene = self.held()
        large = publish("big", bytes(LARGE_READ))
        scene.relay.data_received(large)
        scene.end_turn()
        assert not scene.client.reading
        self.turns(scene, 1.5)
        self.turns(scene, 2.5)
        assert scene.broker.take() == publish()
        scene.end_turn()
        assert scene.broker.take() == large
        assert scene.client.reading

    def test_the_timer_knows_how_long_it_may_wait(self) -> None:
        scene = self.held()
        scene.loop.move(5.0)
        assert scene.broker.take() == publish(), "nobody has given it a turn, but it may pass"

    def test_a_client_that_has_taken_its_leave_is_gone_when_it_has_passed(self) -> None:
        scene = self.held()
        scene.relay.data_received(b"\xe0\x00")
        scene.relay.connection_lost(None)
        assert scene.relays == {scene.relay}
        assert scene.counters.value(CONNECTIONS) == 1
        self.turns(scene, 1.5)
        assert scene.broker.take() == publish() + b"\xe0\x00"
        assert scene.broker.closing
        assert (scene.relays, scene.counters.value(CONNECTIONS), len(scene.ended)) == (set(), 0, 1)
        scene.upstream.connection_lost(None)
        assert scene.loop.waiting() == []

    def test_what_it_did_not_take_holds_nobody_up(self) -> None:
        scene = self.held()
        scene.relay.data_received(b"\xe0\x00")
        scene.relay.pause_writing()
        assert not scene.broker.reading
        scene.relay.connection_lost(None)
        assert scene.broker.reading

    def test_one_that_goes_without_a_word_is_gone_at_once(self) -> None:
        scene = self.held()
        scene.relay.connection_lost(None)
        assert scene.relays == set()
        assert scene.broker.closing
        self.turns(scene, 1.5)
        assert scene.broker.take() == b""


class TestUnread:
    """A limit on packets lets one pass each second. Its client is not read meanwhile; each waits for three at most."""

    def paced(self, packets: int, peers: tuple[socket.socket, socket.socket]) -> Scene:
        scene = Scene(engine(paced(max_delay=3.0))).open()
        scene.client.socket = peers[0]
        scene.relay.data_received(PINGREQ * packets)
        assert scene.broker.take() == PINGREQ
        return scene

    def turns(self, scene: Scene, seconds: float) -> bytes:
        """What the broker gets in so many seconds from now."""
        for _ in range(round(100 * seconds)):
            scene.loop.move(scene.loop.now + 0.01)
            assert scene.waiting is not None
            scene.waiting.run(scene.loop.now)
            scene.end_turn()
        return scene.broker.take()

    def test_its_packets_go_on_in_turn_and_then_it_is_read_again(
        self, peers: tuple[socket.socket, socket.socket]
    ) -> None:
        scene = self.paced(3, peers)
        assert not scene.client.reading
        assert self.turns(scene, 1.5) == PINGREQ
        assert not scene.client.reading
        assert self.turns(scene, 1) == PINGREQ
        assert scene.client.reading

    def test_one_that_has_closed_is_given_up(self, peers: tuple[socket.socket, socket.socket]) -> None:
        scene = self.paced(99, peers)
        peers[1].close()
        assert self.turns(scene, 9.5) == PINGREQ * 3
        assert scene.client.closing
        assert len(scene.ended) == 1

    def test_one_that_is_there_is_not(self, peers: tuple[socket.socket, socket.socket]) -> None:
        scene = self.paced(99, peers)
        assert self.turns(scene, 8.5) == PINGREQ * 8
        assert scene.ended == []


class TestEnds:
    """Garbage that only the cycle collector finds would pile up: a worker lets it look rarely."""

    @staticmethod
    def left(client: bytes, broker: bytes, *limits: Limit) -> int:
        """How many connections, and what belongs to them, are there after one has lived and ended."""

        def count() -> int:
            kinds = (Relay, Upstream, Connection, Guard, Hold, Turn, Requests, Answers, Subscriptions)
            return sum(type(one) in kinds for one in gc.get_objects())

        def live() -> None:
            scene = Scene(engine(*limits)).open(5, keepalive=10)
            scene.relay.data_received(client)
            scene.upstream.data_received(broker)
            scene.end_turn()
            scene.relay.connection_lost(None)
            scene.upstream.connection_lost(None)
            scene.loop.move(20.0)
            assert scene.loop.waiting() == []
            del scene.relay, scene.upstream
            scene.loop.timers.clear()
            scene.ended.clear()
            scene.opened.clear()
            assert scene.relays == set()

        before = count()
        gc.disable()
        try:
            live()
            return count() - before
        finally:
            gc.enable()

    @pytest.mark.parametrize(
        ("client", "broker"),
        [
            (b"", b""),
            (publish(version=5) * 3, b""),
            (b"\xe0\x00", b""),
            (b"\xc1\x00", b""),  # malformed
            (b"", b"\xc1\x00"),
            (b"\x30\xff", b"\xe0\x01\x98"),
            (request("a", "$share/g/b") + request("c"), granted(0, 0x87)),
        ],
    )
    @pytest.mark.parametrize(
        "limits",
        [
            (),
            (limit("slow", Cases(Action.DELAY), rate=rate(1, 1, 3600)),),
            (paced(period=3600),),
            (on_subscribe(on_excess=Action.DELAY, concurrent=ByClass(1)),),
        ],
        ids=["free", "held", "unread", "subscribing"],
    )
    def test_what_has_ended_leaves_no_cycles(self, client: bytes, broker: bytes, limits: tuple[Limit, ...]) -> None:
        assert self.left(client, broker, *limits) == 0
