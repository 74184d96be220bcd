from dataclasses import replace

import pytest

from support.playbook import BOUNDS, Playbook, connack, connect, publish
from tidegate.engine.counters import (
    BROKER_LOST,
    MALFORMED,
    PACKETS_FROM_CLIENT,
    REFUSED,
    TIMED_OUT_CONNECT,
    TIMED_OUT_KEEPALIVE,
    Refusal,
)
from tidegate.gateway.aliases import ALIAS_BYTES, ALIAS_MAXIMUM
from tidegate.gateway.connection import HEADER, LINGER, STORE, STORED
from tidegate.gateway.states import State
from tidegate.mqtt.ack import write_ack
from tidegate.mqtt.connack import Connack
from tidegate.mqtt.errors import Fault
from tidegate.mqtt.framing import Frame, encode_length
from tidegate.mqtt.properties import Properties, PropertyId, get
from tidegate.mqtt.reasons import PacketType, ReasonCode
from tidegate.mqtt.session import PINGREQ, PINGRESP, Disconnect

P = PropertyId


def read_connack(wire: bytes, version: int) -> Connack:
    frame = Frame()
    assert frame.read(wire, 0)
    assert frame.end == len(wire)
    return Connack.read(wire, 0, frame.body, frame.end, version)


def read_disconnect(wire: bytes) -> Disconnect:
    frame = Frame()
    assert frame.read(wire, 0)
    assert frame.end == len(wire)
    return Disconnect.read(wire, 0, frame.body, frame.end, 5, from_client=False)


class TestGreeting:
    def test_connect_opens_the_upstream_and_goes_out_when_that_is_open(self) -> None:
        play = Playbook().client(connect())
        assert play.take() == (b"", b"", ["open"])
        assert play.upstream().take() == (b"", connect(), [])
        assert play.broker(connack()).take() == (connack(), b"", [])
        assert play.state is State.OPEN

    def test_a_connect_in_single_bytes_is_the_same(self) -> None:
        play = Playbook()
        wire = connect(5, 60)
        play.client(*(wire[i : i + 1] for i in range(len(wire))))
        assert play.take() == (b"", b"", ["open"])
        assert play.upstream().take()[1] == wire

    @pytest.mark.parametrize("first", [b"\xc0\x00", b"\x30", b"\x00", b"GET / HTTP/1.1\r\n"])
    def test_anything_but_connect_is_closed_unanswered(self, first: bytes) -> None:
        play = Playbook().client(first)
        assert play.take() == (b"", b"", ["end"])
        assert play.counters.value(MALFORMED + Fault.FIRST_PACKET) == 1

    def test_an_unknown_version_is_answered_with_code_1(self) -> None:
        play = Playbook().client(b"\x10\x0d\x00\x04MQTT\x09\x02\x00\x00\x00\x01c")
        assert play.take() == (b"\x20\x02\x00\x01", b"", ["end"])

    def test_a_malformed_connect_of_version_5_is_told_so(self) -> None:
        wire = bytearray(connect(5))
        wire[9] |= 1  # the reserved flag
        play = Playbook().client(bytes(wire))
        to_client, to_broker, commands = play.take()
        assert read_connack(to_client, 5).reason == ReasonCode.MALFORMED_PACKET
        assert (to_broker, commands) == (b"", ["end"])

    def test_a_padded_length_is_malformed_in_version_5_alone(self) -> None:
        def padded(wire: bytes) -> bytes:
            return bytes([wire[0], wire[1] | 0x80, 0]) + wire[2:]

        to_client, _, commands = Playbook().client(padded(connect(5))).take()
        assert read_connack(to_client, 5).reason == ReasonCode.MALFORMED_PACKET
        assert commands == ["end"]
        assert Playbook().client(padded(connect(4))).take() == (b"", b"", ["open"])

    def test_a_connect_larger_than_what_is_taken_is_refused_before_it_has_come(self) -> None:
        play = Playbook(replace(BOUNDS, max_packet=1 << 28, max_connect=1 << 20))
        play.client(b"\x10" + encode_length(STORED) + connect(5)[2:])
        assert read_connack(play.take()[0], 5).reason == ReasonCode.PACKET_TOO_LARGE

    def test_no_connect_in_time(self) -> None:
        play = Playbook(replace(BOUNDS, connect_timeout=5.0))
        assert play.connection.wake_at == 5.0
        play.client(connect()[:5])
        assert play.at(4.9).take() == (b"", b"", [])
        assert play.at(5.0).take() == (b"", b"", ["end"])
        assert play.counters.value(TIMED_OUT_CONNECT) == 1

    def test_bytes_behind_connect_wait_for_connack(self) -> None:
        play = Playbook().client(connect() + publish("a") + publish("b")[:3])
        assert play.take() == (b"", b"", ["open", "hold"])
        assert play.upstream().take()[1] == connect()
        assert play.broker(connack()).take() == (connack(), publish("a"), ["free"])
        assert play.client(publish("b")[3:]).take()[1] == publish("b")

    def test_a_refusal_drops_what_was_held(self) -> None:
        play = Playbook().client(connect() + publish()).upstream()
        play.take()
        assert play.broker(connack(reason=5)).take() == (connack(reason=5), b"", []), "it is not read already"
        assert play.state is State.LEAVING


class TestUpstreamDown:
    def test_version_5_gets_0x88_with_a_reason(self) -> None:
        play = Playbook().client(connect(5))
        play.take()
        play.connection.upstream_failed()
        to_client, _, commands = play.take()
        answer = read_connack(to_client, 5)
        assert answer.reason == ReasonCode.SERVER_UNAVAILABLE
        assert get(answer.properties, P.REASON_STRING) == "the broker is not available"
        assert commands == ["end"]
        assert play.counters.value(REFUSED + Refusal.UPSTREAM_DOWN) == 1

    @pytest.mark.parametrize("version", [3, 4])
    def test_version_3_gets_code_3(self, version: int) -> None:
        play = Playbook().client(connect(version))
        play.take()
        play.connection.upstream_failed()
        assert play.take() == (b"\x20\x02\x00\x03", b"", ["end"])

    def test_a_broker_that_is_lost_before_connack_is_down(self) -> None:
        play = Playbook().client(connect(4)).upstream()
        play.take()
        play.connection.broker_closed(True)
        assert play.take()[0] == b"\x20\x02\x00\x03"

    def test_a_broker_that_closes_before_connack_by_its_own_will_is_copied(self) -> None:
        play = Playbook().client(connect(4)).upstream()
        play.take()
        play.connection.broker_closed(False)
        assert play.take() == (b"", b"", ["end"])

    def test_a_broker_that_never_answers_is_down(self) -> None:
        play = Playbook().client(connect(4)).upstream()
        play.take()
        assert play.at(4.0).take() == (b"", b"", [])
        assert play.at(5.0).take() == (b"\x20\x02\x00\x03", b"", ["end"])
        assert play.connection.doubt_broker

    def test_gone_in_mid_session(self) -> None:
        play = Playbook.opened(5)
        play.connection.broker_closed(False)
        to_client, _, commands = play.take()
        assert read_disconnect(to_client).reason == ReasonCode.SERVER_SHUTTING_DOWN
        assert commands == ["end"]
        assert play.counters.value(BROKER_LOST) == 1

    def test_gone_inside_a_message_nothing_is_put_into_it(self) -> None:
        play = Playbook.opened(5)
        half = publish("t", b"x" * 100, version=5)[:50]
        assert play.broker(half).take()[0] == half
        play.connection.broker_closed(True)
        assert play.take() == (b"", b"", ["end"])


METHOD: Properties = [(P.AUTHENTICATION_METHOD, "SCRAM")]


class TestEnhancedAuthentication:
    AUTH = b"\xf0\x0a\x18\x08\x15\x00\x05SCRAM"

    def test_auth_passes_both_ways_before_connack(self) -> None:
        play = Playbook().client(connect(5, properties=METHOD)).upstream()
        play.take()
        assert play.broker(self.AUTH).take() == (self.AUTH, b"", [])
        assert play.client(self.AUTH).take() == (b"", self.AUTH, [])
        play.broker(connack(5))
        assert play.state is State.OPEN

    def test_auth_that_the_broker_has_not_asked_for(self) -> None:
        play = Playbook().client(connect(5, properties=METHOD))
        play.take()
        to_client, to_broker, commands = play.client(self.AUTH).take()
        assert read_connack(to_client, 5).reason == ReasonCode.PROTOCOL_ERROR
        assert (to_broker, commands) == (b"", ["end"])

    def test_without_a_method_auth_is_held_like_anything_else(self) -> None:
        play = Playbook().client(connect(5)).upstream()
        play.take()
        assert play.client(self.AUTH).take() == (b"", b"", ["hold"])

    def test_a_client_that_lets_the_exchange_wait_is_closed_and_the_broker_not_blamed(self) -> None:
        play = Playbook().client(connect(5, properties=METHOD)).upstream()
        play.broker(self.AUTH)
        play.take()
        assert play.at(5.0).take() == (b"", b"", ["end"])
        assert play.counters.value(TIMED_OUT_CONNECT) == 1

    def test_reauthentication_passes(self) -> None:
        again = bytes([0xF0, 0x0A, 0x19]) + self.AUTH[3:]
        play = Playbook.opened(5, properties=METHOD)
        assert play.client(again).take()[1] == again
        assert play.broker(self.AUTH).take()[0] == self.AUTH


class TestOwnedConnack:
    def test_what_is_offered_is_the_gateways(self) -> None:
        play = Playbook(replace(BOUNDS, max_packet=4096)).client(connect(5)).upstream()
        play.take()
        play.broker(connack(5, 0, [(P.TOPIC_ALIAS_MAXIMUM, 10), (P.RECEIVE_MAXIMUM, 20)]))
        offered = read_connack(play.take()[0], 5).properties
        assert get(offered, P.TOPIC_ALIAS_MAXIMUM) == ALIAS_MAXIMUM
        assert get(offered, P.MAXIMUM_PACKET_SIZE) == 4096
        assert get(offered, P.RECEIVE_MAXIMUM) == 20

    def test_a_smaller_packet_size_of_the_broker_stays(self) -> None:
        play = Playbook(replace(BOUNDS, max_packet=4096)).client(connect(5)).upstream()
        play.take()
        play.broker(connack(5, 0, [(P.MAXIMUM_PACKET_SIZE, 1000)]))
        assert get(read_connack(play.take()[0], 5).properties, P.MAXIMUM_PACKET_SIZE) == 1000

    def test_a_client_whose_largest_packet_it_would_exceed_gets_the_brokers_own(self) -> None:
        play = Playbook().client(connect(5, properties=[(P.MAXIMUM_PACKET_SIZE, 8)])).upstream()
        play.take()
        assert play.broker(connack(5)).take()[0] == connack(5)

    def test_the_broker_is_not_offered_topic_aliases(self) -> None:
        wire = connect(5, properties=[(P.TOPIC_ALIAS_MAXIMUM, 7), (P.RECEIVE_MAXIMUM, 9)])
        play = Playbook().client(wire).upstream()
        assert play.take()[1] == connect(5, properties=[(P.RECEIVE_MAXIMUM, 9)])

    def test_version_3_passes_as_it_came(self) -> None:
        play = Playbook().client(connect(3)).upstream()
        play.take()
        assert play.broker(connack(3)).take()[0] == connack(3)


class TestForwarding:
    def test_a_read_that_passes_is_forwarded_as_the_very_same_object(self) -> None:
        play = Playbook.opened()
        data = publish("a") + publish("b", qos=1) + PINGREQ
        play.client(data)
        assert play.connection.to_broker[0] is data
        play.broker(answer := PINGRESP + publish("c"))
        assert play.connection.to_client[0] is answer

    def test_a_packet_is_checked_whole_before_any_of_it_goes_on(self) -> None:
        play = Playbook.opened()
        wire = publish("t", b"x" * 1000)
        assert play.client(publish("a") + wire[:500]).take()[1] == publish("a")
        assert play.client(wire[500:]).take()[1] == wire

    @pytest.mark.parametrize("size", [STORE + 1, 300_000])
    @pytest.mark.parametrize("cut", [1, 2, 3, 5, 9, 64])
    def test_a_large_message_goes_on_as_it_comes(self, size: int, cut: int) -> None:
        play = Playbook.opened()
        wire = publish("topic", b"x" * size)
        play.client(wire[:cut])
        seen = play.take()[1]
        play.client(wire[cut : cut + 1000])
        seen += play.take()[1]
        assert len(seen) == cut + 1000, "the header is known: nothing is kept"
        assert play.client(wire[cut + 1000 :] + PINGREQ).take()[1] == wire[cut + 1000 :] + PINGREQ

    def test_a_header_without_end_is_not_kept(self) -> None:
        play = Playbook.opened(5, bounds=replace(BOUNDS, max_packet=1 << 28))
        head = b"\x30" + encode_length(1 << 27) + b"\x00\x01t" + encode_length(HEADER)
        play.client(head + b"\x26\x00\x01a\x00\x01b")
        assert read_disconnect(play.take()[0]).reason == ReasonCode.PACKET_TOO_LARGE

    def test_what_follows_disconnect_is_nobodys(self) -> None:
        play = Playbook.opened()
        assert play.client(b"\xe0\x00" + publish()).take() == (b"", b"\xe0\x00", ["hold"])
        assert play.client(publish()).take() == (b"", b"", [])
        assert play.broker(last := write_ack(PacketType.PUBACK, 7)).take()[0] == last
        play.connection.broker_closed(False)
        assert play.take() == (b"", b"", ["end"])

    def test_a_broker_that_does_not_end_after_disconnect_is_left(self) -> None:
        play = Playbook.opened()
        play.client(b"\xe0\x00")
        play.take()
        assert play.at(LINGER).take() == (b"", b"", ["end"])
        assert play.counters.value(TIMED_OUT_CONNECT) == 0

    def test_packets_are_counted_by_type(self) -> None:
        play = Playbook.opened()
        play.client(publish() * 3 + PINGREQ)
        assert play.counters.value(PACKETS_FROM_CLIENT + PacketType.PUBLISH) == 3
        assert play.counters.value(PACKETS_FROM_CLIENT + PacketType.PINGREQ) == 1

    def test_client_gone(self) -> None:
        play = Playbook.opened()
        play.connection.client_closed()
        assert play.take() == (b"", b"", ["end"])

    def test_shutdown_is_told(self) -> None:
        play = Playbook.opened(5)
        play.connection.shut_down()
        assert read_disconnect(play.take()[0]).reason == ReasonCode.SERVER_SHUTTING_DOWN


class TestViolations:
    @pytest.mark.parametrize(
        ("wire", "fault", "reason"),
        [
            (connect(5), Fault.SECOND_CONNECT, ReasonCode.PROTOCOL_ERROR),
            (b"\x20\x03\x00\x00\x00", Fault.DIRECTION, ReasonCode.PROTOCOL_ERROR),
            (b"\xd0\x00", Fault.DIRECTION, ReasonCode.PROTOCOL_ERROR),
            (b"\x00\x00", Fault.DIRECTION, ReasonCode.PROTOCOL_ERROR),
            (b"\x36\x05\x00\x01t\x00\x01", Fault.QOS, ReasonCode.MALFORMED_PACKET),
            (b"\x30\xff\xff\xff\xff\x01", Fault.LENGTH, ReasonCode.MALFORMED_PACKET),
            (b"\xc1\x00", Fault.RESERVED_BITS, ReasonCode.MALFORMED_PACKET),
            (b"\xc0\x80\x00", Fault.LENGTH, ReasonCode.MALFORMED_PACKET),
            (b"\xf0\x0a\x19\x08\x15\x00\x05SCRAM", Fault.DIRECTION, ReasonCode.PROTOCOL_ERROR),
            (publish("a/+", version=5), Fault.TOPIC, ReasonCode.PROTOCOL_ERROR),
            (publish(qos=1, packet_id=0, version=5), Fault.PACKET_ID, ReasonCode.PROTOCOL_ERROR),
            (b"\x82\x07\x00\x01\x00\x00\x01a\x03", Fault.QOS, ReasonCode.MALFORMED_PACKET),
            (publish("t", b"x" * (1 << 20), version=5)[:9], Fault.TOO_LARGE, ReasonCode.PACKET_TOO_LARGE),
        ],
    )
    def test_told_counted_closed_and_never_forwarded(self, wire: bytes, fault: Fault, reason: ReasonCode) -> None:
        play = Playbook.opened(5)
        good = publish("good", version=5)
        to_client, to_broker, commands = play.client(good + wire).take()
        assert to_broker == good
        assert read_disconnect(to_client).reason == reason
        assert commands == ["end"]
        assert play.counters.value(MALFORMED + fault) == 1
        assert play.client(publish(version=5)).take() == (b"", b"", [])

    def test_version_3_is_closed_without_a_word(self) -> None:
        assert Playbook.opened(4).client(b"\xc1\x00").take() == (b"", b"", ["end"])

    def test_the_reason_string_respects_the_clients_largest_packet(self) -> None:
        play = Playbook.opened(5, properties=[(P.MAXIMUM_PACKET_SIZE, 12)])
        assert play.client(b"\xc1\x00").take()[0] == b"\xe0\x01\x81"
        play = Playbook.opened(5, properties=[(P.MAXIMUM_PACKET_SIZE, 2)])
        assert play.client(b"\xc1\x00").take()[0] == b""

    def test_a_broker_that_does_not_speak_mqtt(self) -> None:
        play = Playbook().client(connect(5)).upstream()
        play.take()
        to_client, _, commands = play.broker(b"HTTP/1.1 400 Bad Request\r\n").take()
        assert read_connack(to_client, 5).reason == ReasonCode.SERVER_UNAVAILABLE
        assert commands == ["end"]
        assert play.connection.broker_fault is not None


class TestReceiveMaximum:
    def test_one_more_than_offered_is_0x93(self) -> None:
        play = Playbook.opened(5, offered=[(P.RECEIVE_MAXIMUM, 2)])
        play.client(publish(qos=1, packet_id=1, version=5), publish(qos=2, packet_id=2, version=5))
        assert play.state is State.OPEN
        play.client(publish(qos=1, packet_id=3, version=5))
        assert read_disconnect(play.take()[0]).reason == ReasonCode.RECEIVE_MAXIMUM_EXCEEDED
        assert play.counters.value(MALFORMED + Fault.RECEIVE_MAXIMUM) == 1

    @pytest.mark.parametrize(
        "answers",
        [
            [write_ack(PacketType.PUBACK, 1)],
            [write_ack(PacketType.PUBCOMP, 1)],
            [write_ack(PacketType.PUBREC, 1, ReasonCode.QUOTA_EXCEEDED)],
        ],
    )
    def test_an_answer_that_ends_the_exchange_frees_its_place(self, answers: list[bytes]) -> None:
        play = Playbook.opened(5, offered=[(P.RECEIVE_MAXIMUM, 1)])
        play.client(publish(qos=2, packet_id=1, version=5)).broker(*answers)
        play.client(publish(qos=1, packet_id=2, version=5))
        assert play.state is State.OPEN

    def test_pubrec_alone_does_not(self) -> None:
        play = Playbook.opened(5, offered=[(P.RECEIVE_MAXIMUM, 1)])
        play.client(publish(qos=2, packet_id=1, version=5)).broker(write_ack(PacketType.PUBREC, 1))
        play.client(publish(qos=1, packet_id=2, version=5))
        assert play.state is State.CLOSED

    def test_version_3_is_not_limited(self) -> None:
        play = Playbook.opened(4)
        play.client(*(publish(qos=1, packet_id=i) for i in range(1, 500)))
        assert play.state is State.OPEN


class TestAliases:
    def test_the_broker_gets_the_topic_in_full(self) -> None:
        play = Playbook.opened(5)
        alias: Properties = [(P.TOPIC_ALIAS, 3)]
        rest: Properties = [(P.CONTENT_TYPE, "a"), (P.TOPIC_ALIAS, 3), (P.USER_PROPERTY, ("k", "v"))]
        assert play.client(publish("plant/1", version=5, properties=alias)).take()[1] == publish("plant/1", version=5)
        assert play.client(publish("", b"y", 1, 9, 5, rest)).take()[1] == publish(
            "plant/1", b"y", 1, 9, 5, [(P.CONTENT_TYPE, "a"), (P.USER_PROPERTY, ("k", "v"))]
        )

    def test_between_other_packets_of_one_read(self) -> None:
        play = Playbook.opened(5)
        alias: Properties = [(P.TOPIC_ALIAS, 1)]
        plain = publish("p", version=5)
        data = plain + publish("t", version=5, properties=alias) + PINGREQ + publish("", version=5, properties=alias)
        assert play.client(data).take()[1] == plain + publish("t", version=5) + PINGREQ + publish("t", version=5)

    def test_a_large_message_with_an_alias_goes_on_as_it_comes(self) -> None:
        play = Playbook.opened(5)
        play.client(publish("topic", version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        play.take()
        payload = b"x" * 100_000
        wire = publish("", payload, version=5, properties=[(P.TOPIC_ALIAS, 1)])
        play.client(wire[:70_000], wire[70_000:])
        assert play.take()[1] == publish("topic", payload, version=5)

    @pytest.mark.parametrize(
        ("alias", "topic", "reason"),
        [
            (0, "t", ReasonCode.TOPIC_ALIAS_INVALID),
            (ALIAS_MAXIMUM + 1, "t", ReasonCode.TOPIC_ALIAS_INVALID),
            (5, "", ReasonCode.PROTOCOL_ERROR),
        ],
    )
    def test_an_alias_that_is_none(self, alias: int, topic: str, reason: ReasonCode) -> None:
        play = Playbook.opened(5)
        play.client(publish(topic, version=5, properties=[(P.TOPIC_ALIAS, alias)]))
        assert read_disconnect(play.take()[0]).reason == reason

    def test_what_stood_before_a_wrong_alias_goes_on_once(self) -> None:
        play = Playbook.opened(5)
        good = publish("good", qos=2, version=5)
        assert play.client(good + publish("", version=5, properties=[(P.TOPIC_ALIAS, 9)])).take()[1] == good

    def test_expanded_beyond_what_mqtt_can_frame(self) -> None:
        play = Playbook.opened(5, bounds=replace(BOUNDS, max_packet=1 << 28))
        play.client(publish("t" * 60_000, version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        play.take()
        play.client(b"\x30" + encode_length((1 << 28) - 10) + b"\x00\x00\x03\x23\x00\x01")
        assert read_disconnect(play.take()[0]).reason == ReasonCode.PACKET_TOO_LARGE

    def test_the_topics_behind_aliases_are_bounded(self) -> None:
        play = Playbook.opened(5)
        topic = "x" * (ALIAS_BYTES // 2)
        for alias in (1, 2, 2):
            play.client(publish(topic, version=5, properties=[(P.TOPIC_ALIAS, alias)]))
        assert play.state is State.OPEN
        play.take()
        play.client(publish("y", version=5, properties=[(P.TOPIC_ALIAS, 3)]))
        assert read_disconnect(play.take()[0]).reason == ReasonCode.QUOTA_EXCEEDED

    def test_expanded_beyond_what_the_broker_takes(self) -> None:
        play = Playbook.opened(5, offered=[(P.MAXIMUM_PACKET_SIZE, 60)])
        topic = "t" * 40
        play.client(publish(topic, version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        assert play.state is State.OPEN
        play.take()
        play.client(publish("", b"x" * 30, version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        assert read_disconnect(play.take()[0]).reason == ReasonCode.PACKET_TOO_LARGE


class TestKeepalive:
    def test_one_and_a_half_times_towards_the_client(self) -> None:
        play = Playbook.opened(5, keepalive=10)
        play.at(8.0).client(PINGREQ)
        play.take()
        play.at(22.9)
        assert play.state is State.OPEN
        play.take()
        play.at(23.0)
        to_client, _, commands = play.take()
        assert read_disconnect(to_client).reason == ReasonCode.KEEP_ALIVE_TIMEOUT
        assert commands == ["end"]
        assert play.counters.value(TIMED_OUT_KEEPALIVE) == 1

    def test_the_broker_is_pinged_when_it_has_heard_nothing_and_the_answer_is_ours(self) -> None:
        play = Playbook.opened(4, keepalive=10)
        assert play.connection.wake_at == 7.5
        assert play.at(7.5).take() == (b"", PINGREQ, [])
        assert play.connection.wake_at == 15.0
        assert play.broker(publish("a") + PINGRESP + publish("b")).take()[0] == publish("a") + publish("b")
        assert play.broker(PINGRESP).take()[0] == PINGRESP, "nobody asked: not ours to hide"

    def test_a_clients_ping_is_answered_before_ours(self) -> None:
        play = Playbook.opened(4, keepalive=10)
        play.at(7.5)
        play.client(PINGREQ)
        play.take()
        assert play.broker(PINGRESP).take()[0] == PINGRESP
        assert play.broker(PINGRESP).take()[0] == b""

    def test_the_servers_keepalive_holds(self) -> None:
        play = Playbook.opened(5, keepalive=600, offered=[(P.SERVER_KEEP_ALIVE, 10)])
        assert play.connection.wake_at == 7.5
        play.at(15.0)
        assert play.state is State.CLOSED

    def test_no_keepalive_no_timer(self) -> None:
        play = Playbook.opened(4, keepalive=0)
        assert play.connection.wake_at == 0.0
        assert play.at(1e6).take() == (b"", b"", []), "the timer that CONNECT had armed says nothing any more"
        assert play.state is State.OPEN

    def test_silence_of_a_client_whose_bytes_are_not_read_is_not_its_own(self) -> None:
        play = Playbook.opened(4, keepalive=10)
        play.connection.client_excused = True
        play.at(14.0)
        play.at(28.0)
        assert play.state is State.OPEN

    def test_a_large_packet_under_way_is_a_sign_of_life_and_no_place_for_a_ping(self) -> None:
        play = Playbook.opened(4, keepalive=10)
        wire = publish("t", b"x" * 200_000)
        play.client(wire[:1000])
        play.at(7.0).client(wire[1000:2000])
        play.take()
        play.at(20.0)
        assert play.state is State.OPEN
        assert play.take()[1] == b""
        assert play.connection.wake_at == 22.0

    def test_a_byte_now_and_then_of_a_small_packet_is_not(self) -> None:
        play = Playbook.opened(4, keepalive=10)
        play.client(publish("t", b"x" * 500)[:10])
        play.now = 9.0
        play.client(b"x")
        play.at(15.0)
        assert play.state is State.CLOSED
