"""What one client may take of time and size: packets that do not go on, large CONNECTs, long keepalives."""

from dataclasses import replace

import pytest

from support.limits import engine, limit, rate
from support.playbook import BOUNDS, Playbook, connack, connect, publish
from tidegate.engine.counters import (
    MALFORMED,
    REFUSED,
    TIMED_OUT_CONNECT,
    TIMED_OUT_KEEPALIVE,
    TIMED_OUT_PACKET,
    Refusal,
)
from tidegate.gateway.bounds import Bounds
from tidegate.gateway.connection import ASK, PROGRESS
from tidegate.gateway.states import State
from tidegate.mqtt.connack import Connack
from tidegate.mqtt.connect import MOST_USER_PROPERTIES, Connect, Will
from tidegate.mqtt.errors import Fault
from tidegate.mqtt.framing import Frame, encode_length
from tidegate.mqtt.properties import Properties, PropertyId, get
from tidegate.mqtt.reasons import ReasonCode
from tidegate.mqtt.session import PINGREQ, Disconnect
from tidegate.policy.model import Action, Cases

P = PropertyId
PERIOD = BOUNDS.packet_timeout
METHOD: Properties = [(P.AUTHENTICATION_METHOD, "SCRAM")]
AUTH = b"\xf0\x0a\x18\x08\x15\x00\x05SCRAM"


def read_connack(wire: bytes) -> Connack:
    frame = Frame()
    assert frame.read(wire, 0)
    return Connack.read(wire, 0, frame.body, frame.end, 5)


def read_disconnect(wire: bytes) -> Disconnect:
    frame = Frame()
    assert frame.read(wire, 0)
    return Disconnect.read(wire, 0, frame.body, frame.end, 5, from_client=False)


def trickle(play: Playbook, data: bytes, pause: float, each: int = 1) -> int:
    """Send `each` bytes after every `pause` seconds until all are sent or the connection ends: how many were."""
    sent = 0
    while sent < len(data) and play.state is State.OPEN:
        play.at(play.now + pause)
        if play.state is State.OPEN:
            play.client(data[sent : sent + each])
            sent += each
    return sent


class TestPacketUnderWay:
    def test_one_that_does_not_go_on_ends_its_connection(self) -> None:
        play = Playbook.opened(5)
        play.client(PINGREQ + b"\x30")
        play.take()
        assert play.connection.wake_at == PERIOD
        play.at(PERIOD - 0.1)
        assert play.state is State.OPEN
        to_client, to_broker, commands = play.at(PERIOD).take()
        answer = read_disconnect(to_client)
        assert answer.reason == ReasonCode.QUOTA_EXCEEDED
        assert get(answer.properties, P.REASON_STRING) == "the packet that was begun does not go on"
        assert (to_broker, commands) == (b"", ["end"])
        assert play.counters.value(TIMED_OUT_PACKET) == 1

    def test_version_3_is_closed_without_a_word(self) -> None:
        play = Playbook.opened(4).client(publish()[:3])
        assert play.at(PERIOD).take() == (b"", b"", ["end"])

    @pytest.mark.parametrize("version", [4, 5])
    @pytest.mark.parametrize("keepalive", [0, 600])
    @pytest.mark.parametrize("size", [100, 50_000, 500_000])
    def test_a_byte_a_second_is_not_going_on(self, version: int, keepalive: int, size: int) -> None:
        """Whatever of its header each byte brings to light."""
        properties: Properties | None = [(P.USER_PROPERTY, ("k", "v"))] * 10 if version == 5 else None
        play = Playbook.opened(version, keepalive)
        data = publish("topic", bytes(size), version=version, properties=properties)
        assert trickle(play, data, 1.0) == PERIOD
        assert play.counters.value(TIMED_OUT_PACKET) == 1

    def test_a_thin_line_is_enough_for_a_large_message(self) -> None:
        play = Playbook.opened(4, keepalive=60)
        data = publish("t", bytes((1 << 20) - 100))
        assert trickle(play, data, PERIOD / 20, each=PROGRESS // 18) >= len(data)
        assert play.state is State.OPEN
        assert len(play.take()[1]) >= len(data)

    def test_its_last_bytes_have_a_period_too_however_few(self) -> None:
        play = Playbook.opened(4)
        data = publish("t", bytes(PROGRESS))
        play.client(data[:-1])
        assert play.at(PERIOD - 0.1).client(data[-1:]).take()[1] == data
        assert play.at(10 * PERIOD).state is State.OPEN

    def test_the_next_one_has_its_own_time(self) -> None:
        play = Playbook.opened(4)
        data = publish("t", b"12345678") * 100
        assert trickle(play, data, PERIOD - 1.0, each=len(publish("t", b"12345678")) - 1) >= len(data)
        assert play.state is State.OPEN

    def test_so_has_one_behind_a_large_message(self) -> None:
        play = Playbook.opened(4)
        data = publish("t", bytes(100_000)) + publish("u")
        play.client(data[:90_000])
        play.at(PERIOD - 1.0).client(data[90_000:-1])
        play.at(2 * PERIOD - 1.5)
        assert play.state is State.OPEN
        assert play.at(2 * PERIOD - 1.0).state is State.CLOSED

    def test_one_that_is_refused_must_come_all_the_same(self) -> None:
        play = Playbook.opened(engine=engine(limit("all", Cases(Action.DROP), rate=rate(1, 1, 3600))))
        play.client(publish(), publish("t", bytes(100_000))[:70_000])
        assert play.at(PERIOD).state is State.CLOSED
        assert play.counters.value(TIMED_OUT_PACKET) == 1

    def test_nothing_is_put_into_a_packet_of_the_brokers(self) -> None:
        play = Playbook.opened(5).client(b"\x30").broker(publish(payload=bytes(100), version=5)[:50])
        play.take()
        assert play.at(PERIOD).take() == (b"", b"", ["end"])

    def test_while_none_is_under_way_there_is_no_timer(self) -> None:
        play = Playbook.opened(4).client(publish()[:3])
        play.client(publish()[3:])
        play.at(PERIOD)
        assert play.connection.wake_at == 0.0

    def test_time_in_which_the_client_is_not_read_does_not_count(self) -> None:
        play = Playbook.opened(4).client(publish()[:3])
        play.connection.client_unread = True
        play.at(PERIOD).at(5 * PERIOD)
        play.connection.client_unread = False
        play.connection.client_read_again(5.5 * PERIOD)
        play.at(6.4 * PERIOD)
        assert play.state is State.OPEN
        assert play.at(6.5 * PERIOD).state is State.CLOSED

    def test_being_read_again_means_nothing_to_a_client_without_one(self) -> None:
        play = Playbook.opened(4)
        play.connection.client_read_again(5.0)
        assert play.at(1e6).state is State.OPEN

    def test_what_was_begun_behind_connect_counts_from_connack(self) -> None:
        play = Playbook().client(connect() + publish()[:3]).upstream()
        play.now = 4.0
        play.broker(connack()).take()
        assert play.at(PERIOD + 3.9).state is State.OPEN
        assert play.at(PERIOD + 4.0).state is State.CLOSED

    def test_an_auth_that_was_begun_before_connack_must_go_on_too(self) -> None:
        play = Playbook().client(connect(5, properties=METHOD)).upstream().broker(AUTH)
        play.client(AUTH[:4])
        play.broker(connack(5))
        assert play.state is State.OPEN
        assert play.at(PERIOD).state is State.CLOSED
        assert play.counters.value(TIMED_OUT_PACKET) == 1

    def test_before_that_connect_timeout_holds_alone(self) -> None:
        play = Playbook(replace(BOUNDS, packet_timeout=1.0)).client(connect()[:3])
        assert play.at(4.9).state is State.GREETING
        assert play.at(5.0).state is State.CLOSED
        assert (play.counters.value(TIMED_OUT_CONNECT), play.counters.value(TIMED_OUT_PACKET)) == (1, 0)

    def test_keepalive_holds_as_well(self) -> None:
        play = Playbook.opened(4, keepalive=10)
        trickle(play, publish("t", bytes(500)), 1.0)
        assert play.now == 15.0
        assert play.counters.value(TIMED_OUT_KEEPALIVE) == 1


def large_connect(version: int, size: int) -> bytes:
    """What the first segment of a CONNECT of `size` bytes brings."""
    return b"\x10" + encode_length(size - 4) + connect(version)[2:]


class TestLargestConnect:
    @pytest.mark.parametrize(
        "bounds",
        [replace(BOUNDS, max_connect=20_000), replace(BOUNDS, max_packet=20_000)],
        ids=["max_connect", "the smaller max_packet"],
    )
    def test_is_refused_as_soon_as_its_length_is_known(self, bounds: Bounds) -> None:
        assert Playbook(bounds).client(large_connect(5, 20_000)).state is State.GREETING
        play = Playbook(bounds).client(large_connect(5, 20_001))
        to_client, to_broker, commands = play.take()
        assert read_connack(to_client).reason == ReasonCode.PACKET_TOO_LARGE
        assert (to_broker, commands) == (b"", ["end"])
        assert play.counters.value(MALFORMED + Fault.TOO_LARGE) == 1

    def test_also_when_nothing_else_is_known(self) -> None:
        assert Playbook().client(large_connect(5, 1 << 20)[:4]).take() == (b"", b"", ["end"])

    def test_version_3_has_no_code_for_it(self) -> None:
        assert Playbook().client(large_connect(4, 1 << 20)).take() == (b"", b"", ["end"])

    def test_auth_before_connack_is_no_larger(self) -> None:
        play = Playbook().client(connect(5, properties=METHOD)).upstream().broker(AUTH)
        play.take()
        play.client(b"\xf0" + encode_length(BOUNDS.max_connect))
        assert read_connack(play.take()[0]).reason == ReasonCode.PACKET_TOO_LARGE

    def test_after_connack_only_max_packet_holds(self) -> None:
        play = Playbook.opened(4, bounds=replace(BOUNDS, max_connect=1024))
        data = publish("t", bytes(2000))
        assert play.client(data).take()[1] == data


class TestUserProperties:
    @staticmethod
    def connect(own: int, wills: int) -> bytes:
        one: Properties = [(P.USER_PROPERTY, ("k", "v"))]
        will = Will("t", b"", 0, False, one * wills)
        return Connect(5, False, True, 0, "c", will=will, properties=one * own).write()

    @pytest.mark.parametrize("wills", [0, 1, MOST_USER_PROPERTIES])
    def test_so_many_pass(self, wills: int) -> None:
        wire = self.connect(MOST_USER_PROPERTIES - wills, wills)
        assert Playbook().client(wire).upstream().take()[1] == wire

    @pytest.mark.parametrize(
        ("own", "wills"), [(MOST_USER_PROPERTIES + 1, 0), (MOST_USER_PROPERTIES, 1), (0, 101), (10_000, 0), (0, 10_000)]
    )
    def test_more_are_refused(self, own: int, wills: int) -> None:
        play = Playbook(replace(BOUNDS, max_connect=1 << 20)).client(self.connect(own, wills))
        to_client, to_broker, commands = play.take()
        assert read_connack(to_client).reason == ReasonCode.QUOTA_EXCEEDED
        assert (to_broker, commands) == (b"", ["end"])
        assert play.counters.value(MALFORMED + Fault.USER_PROPERTIES) == 1


class TestLongestKeepalive:
    BOUNDS = replace(BOUNDS, max_keepalive=60)

    @pytest.mark.parametrize("version", [3, 4])
    @pytest.mark.parametrize("keepalive", [0, 61, 65_535])
    def test_who_cannot_be_told_is_refused(self, version: int, keepalive: int) -> None:
        play = Playbook(self.BOUNDS).client(connect(version, keepalive) + publish())
        assert play.take() == (b"\x20\x02\x00\x02", b"", ["end"])
        assert play.counters.value(REFUSED + Refusal.KEEPALIVE) == 1

    @pytest.mark.parametrize("version", [3, 4, 5])
    @pytest.mark.parametrize("keepalive", [1, 60])
    def test_a_shorter_one_is_the_clients_own(self, version: int, keepalive: int) -> None:
        play = Playbook.opened(version, keepalive, bounds=self.BOUNDS)
        assert play.connection.wake_at == 0.75 * keepalive

    @pytest.mark.parametrize("keepalive", [0, 61, 65_535])
    def test_version_5_is_told_which_one_holds(self, keepalive: int) -> None:
        play = Playbook(self.BOUNDS).client(connect(5, keepalive)).upstream()
        assert play.take()[1] == connect(5, keepalive)
        play.broker(connack(5))
        assert get(read_connack(play.take()[0]).properties, P.SERVER_KEEP_ALIVE) == 60
        assert play.at(45.0).take()[1] == PINGREQ, "the broker goes by no shorter one"
        play.at(89.9)
        assert play.state is State.OPEN
        assert play.at(90.0).state is State.CLOSED
        assert play.counters.value(TIMED_OUT_KEEPALIVE) == 1

    def test_without_a_longest_one_none_is_refused(self) -> None:
        assert Playbook.opened(4, 0).state is State.OPEN
        assert Playbook.opened(5, 65_535).connection.wake_at == 0.75 * 65_535

    @pytest.mark.parametrize(
        ("version", "keepalive", "servers", "asked"),
        [(4, 0, None, True), (4, 1, None, False), (5, 0, None, True), (5, 0, 10, False), (5, 10, 0, True)],
    )
    def test_the_kernel_asks_after_those_who_promise_no_sign_of_life(
        self, version: int, keepalive: int, servers: int | None, asked: bool
    ) -> None:
        play = Playbook().client(connect(version, keepalive)).upstream()
        play.take()
        play.broker(connack(version, 0, None if servers is None else [(P.SERVER_KEEP_ALIVE, servers)]))
        assert (play.connection.commands & ASK != 0) == asked
