import json

import pytest

from support.limits import engine, host, limit, rate
from support.playbook import Playbook, connack, publish
from tidegate.engine.binding import Engine
from tidegate.engine.counters import MALFORMED
from tidegate.gateway.connection import MOST_WAITING, STORE
from tidegate.gateway.guard import MOST_PLAYED
from tidegate.gateway.states import State
from tidegate.mqtt.ack import Ack, write_ack
from tidegate.mqtt.connect import Connect
from tidegate.mqtt.errors import Fault
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.properties import Properties, PropertyId, get, read_properties
from tidegate.mqtt.reasons import PacketType, ReasonCode
from tidegate.mqtt.session import PINGREQ, Disconnect
from tidegate.mqtt.subscribe import Suback, Subscribe, Subscription, Unsuback, Unsubscribe
from tidegate.policy.model import Action, ByClass, Cases, Key, KeyKind, Policy

P = PropertyId
DROP = Cases(Action.DROP)
DISCONNECT = Cases(Action.DISCONNECT)
PUBREL = 0x62


def two(on_excess: Cases | None = None, **other: object) -> Engine:
    """Two messages at once for each client, one more each second."""
    cases = {} if on_excess is None else {"on_excess": on_excess}
    return engine(limit("flood", rate=rate(1, 2), **cases, **other))  # type: ignore[arg-type]


def spent(version: int = 4, engine: Engine | None = None, **opened: object) -> Playbook:
    """A client whose budget of two is gone."""
    play = Playbook.opened(version, engine=engine or two(), **opened)  # type: ignore[arg-type]
    play.client(publish(version=version) * 2)
    assert play.take() == (b"", publish(version=version) * 2, [])
    return play


def read_ack(wire: bytes, version: int = 5) -> tuple[int, int, int, Properties]:
    """Type, identifier, reason and properties of the one acknowledgement in `wire`."""
    frame, ack = Frame(), Ack()
    assert frame.read(wire, 0)
    assert frame.end == len(wire)
    ack.read(wire, 0, frame.body, frame.end, version)
    kind = wire[0] >> 4
    properties = read_properties(wire, frame.body + 3, frame.end, kind)[0] if frame.end - frame.body > 3 else []
    return kind, ack.packet_id, ack.reason, properties


class TestDrop:
    def test_qos_0_goes_nowhere(self) -> None:
        assert spent().client(publish()).take() == (b"", b"", [])

    def test_qos_1_is_acknowledged(self) -> None:
        play = spent().client(publish(qos=1, packet_id=7))
        assert play.take() == (write_ack(PacketType.PUBACK, 7), b"", [])

    def test_of_qos_2_the_whole_exchange_is_played(self) -> None:
        play = spent()
        assert play.client(publish(qos=2, packet_id=7)).take() == (write_ack(PacketType.PUBREC, 7), b"", [])
        assert play.client(publish(qos=2, packet_id=7, dup=True)).take() == (write_ack(PacketType.PUBREC, 7), b"", [])
        assert play.client(write_ack(PacketType.PUBREL, 7)).take() == (write_ack(PacketType.PUBCOMP, 7), b"", [])
        # Over: the identifier is free, and a second PUBREL is the broker's business.
        assert play.client(write_ack(PacketType.PUBREL, 7)).take() == (b"", write_ack(PacketType.PUBREL, 7), [])

    def test_an_identifier_in_an_exchange_that_is_played_cannot_be_used_again(self) -> None:
        play = spent(5, two(DROP)).client(publish(qos=2, packet_id=7, version=5))
        play.take()
        to_client, to_broker, commands = play.client(publish(qos=2, packet_id=7, version=5)).take()
        frame = Frame()
        assert frame.read(to_client, 0)
        told = Disconnect.read(to_client, 0, frame.body, frame.end, 5, from_client=False)
        assert told.reason == ReasonCode.PROTOCOL_ERROR
        assert (to_broker, commands) == (b"", ["end"])

    def test_exchanges_left_open_are_bounded(self) -> None:
        play = spent()
        for packet_id in range(1, MOST_PLAYED + 1):
            play.client(publish(qos=2, packet_id=packet_id))
        assert play.take()[2] == []
        assert play.client(publish(qos=2, packet_id=MOST_PLAYED + 1)).take()[2] == ["end"]
        assert play.counters.value(MALFORMED + Fault.RECEIVE_MAXIMUM) == 1

    def test_what_is_around_it_goes_on_as_it_came(self) -> None:
        free = publish("free", qos=1, packet_id=9)
        play = spent(engine=two(DROP, topic=("t",)))
        to_client, to_broker, _ = play.client(free + publish() + PINGREQ + publish(qos=1) + free).take()
        assert to_client == write_ack(PacketType.PUBACK, 1)
        assert to_broker == free + PINGREQ + free

    def test_any_chunking_gives_the_same(self) -> None:
        wire = publish(payload=b"x" * 300) + publish("a", qos=1) + PINGREQ + publish(qos=2, packet_id=3)
        whole = spent().client(wire).take()
        bytewise = spent().client(*(wire[i : i + 1] for i in range(len(wire)))).take()
        assert whole == bytewise

    def test_the_budget_comes_back_with_time(self) -> None:
        play = spent()
        play.now = 1.5
        assert play.client(publish() * 2).take() == (b"", publish(), [])


class TestReject:
    @pytest.mark.parametrize(("qos", "kind"), [(1, PacketType.PUBACK), (2, PacketType.PUBREC)])
    def test_version_5_is_told_why_and_when_to_come_back(self, qos: int, kind: PacketType) -> None:
        play = spent(5).client(publish(qos=qos, packet_id=7, version=5))
        to_client, to_broker, commands = play.take()
        got, packet_id, reason, properties = read_ack(to_client)
        assert (got, packet_id, reason) == (kind, 7, ReasonCode.QUOTA_EXCEEDED)
        assert "flood" in str(get(properties, P.REASON_STRING))
        assert get(properties, P.USER_PROPERTY) == ("retry-after-ms", "1001")
        assert (to_broker, commands) == (b"", [])

    def test_a_rejected_identifier_is_free(self) -> None:
        play = spent(5)
        for _ in range(3):
            play.client(publish(qos=2, packet_id=7, version=5))
        assert play.state is State.OPEN
        assert play.take()[1] == b""

    def test_without_problem_information_the_code_alone(self) -> None:
        play = spent(5, properties=[(P.REQUEST_PROBLEM_INFORMATION, 0)])
        assert read_ack(play.client(publish(qos=1, version=5)).take()[0])[3] == []

    @pytest.mark.parametrize(("room", "named"), [(40, [P.USER_PROPERTY]), (20, [])])
    def test_nothing_is_larger_than_the_client_takes(self, room: int, named: list[PropertyId]) -> None:
        play = spent(5, properties=[(P.MAXIMUM_PACKET_SIZE, room)])
        wire = play.client(publish(qos=1, version=5)).take()[0]
        assert len(wire) <= room
        assert [name for name, _ in read_ack(wire)[3]] == named

    def test_the_quota_is_the_clients_again(self) -> None:
        play = Playbook.opened(5, offered=[(P.RECEIVE_MAXIMUM, 2)], engine=two())
        for packet_id in range(1, 50):
            play.client(publish(qos=1, packet_id=packet_id, version=5))
            play.broker(write_ack(PacketType.PUBACK, packet_id))
        assert play.state is State.OPEN

    def test_a_message_that_is_too_large_is_not_told_to_come_back(self) -> None:
        play = Playbook.opened(5, engine=engine(limit("small", size=ByClass(3))))
        assert play.client(publish(payload=b"123", version=5)).take()[1] == publish(payload=b"123", version=5)
        properties = read_ack(play.client(publish(payload=b"1234", qos=1, version=5)).take()[0])[3]
        assert get(properties, P.USER_PROPERTY) is None
        assert "too large" in str(get(properties, P.REASON_STRING))

    def test_a_flood_is_not_answered_by_a_larger_one(self) -> None:
        play = spent(5).client(publish(qos=1, version=5) * 1000)
        assert len(play.take()[0]) < 12 * 1000, "five bytes each, but for the first hundred"

    def test_an_identifier_that_the_broker_has_still_to_acknowledge_cannot_be_refused(self) -> None:
        play = Playbook.opened(5, engine=two())
        play.client(publish(qos=1, packet_id=7, version=5) + publish(version=5))
        assert play.client(publish(qos=1, packet_id=7, version=5)).take()[2] == ["end"]
        assert play.counters.value(MALFORMED + Fault.PACKET_ID) == 1


class TestDisconnect:
    def test_version_5_is_told(self) -> None:
        play = Playbook.opened(5, engine=two(DISCONNECT))
        to_client, to_broker, commands = play.client(publish(version=5) * 3 + PINGREQ).take()
        frame = Frame()
        assert frame.read(to_client, 0)
        told = Disconnect.read(to_client, 0, frame.body, frame.end, 5, from_client=False)
        assert told.reason == ReasonCode.MESSAGE_RATE_TOO_HIGH
        assert "flood" in str(get(told.properties, P.REASON_STRING))
        # What had passed still goes out; no DISCONNECT does, so that the broker fires the will.
        assert (to_broker, commands) == (publish(version=5) * 2, ["end"])
        assert play.state is State.CLOSED

    def test_version_3_is_closed(self) -> None:
        play = Playbook.opened(4, engine=two(DISCONNECT))
        assert play.client(publish() * 3).take() == (b"", publish() * 2, ["end"])


class TestRedelivery:
    """A PUBLISH of QoS 2 with DUP that the broker may hold is neither dropped nor rejected, but delayed."""

    AGAIN = publish(qos=2, packet_id=7, dup=True)

    def waits(self, play: Playbook) -> None:
        """It goes on as soon as the budget has room, and not before."""
        play.take()
        assert play.client(self.AGAIN).take() == (b"", b"", [])
        assert play.at(0.9).take() == (b"", b"", [])
        assert play.at(1.1).take() == (b"", self.AGAIN, [])

    def test_where_the_broker_has_a_session(self) -> None:
        self.waits(spent(session_present=True))

    def test_where_this_connection_has_sent_qos_2(self) -> None:
        play = Playbook.opened(engine=two())
        self.waits(play.client(publish(qos=2, packet_id=7), publish()))

    def test_version_3_1_does_not_tell_of_a_session(self) -> None:
        persistent = Connect(version=3, bridge=False, clean_start=False, keepalive=0, client_id="c").write()
        play = Playbook(engine=two()).client(persistent).upstream().broker(connack(3))
        self.waits(play.client(publish() * 2))

    def test_without_a_session_it_is_a_message_like_any_other(self) -> None:
        play = spent().client(self.AGAIN)
        assert play.take() == (write_ack(PacketType.PUBREC, 7), b"", [])

    def test_qos_1_with_dup_has_no_privilege(self) -> None:
        play = spent(session_present=True).client(publish(qos=1, packet_id=7, dup=True))
        assert play.take() == (write_ack(PacketType.PUBACK, 7), b"", [])

    def test_past_max_delay_the_connection_is_closed(self) -> None:
        play = Playbook.opened(engine=two(max_delay=0.5), session_present=True)
        play.client(publish() * 2 + self.AGAIN)
        play.take()
        assert play.at(0.4).take() == (b"", b"", [])
        assert play.at(0.5).take() == (b"", b"", ["end"])

    def test_one_that_will_never_pass_ends_the_connection_at_once(self) -> None:
        play = Playbook.opened(engine=engine(limit("small", size=ByClass(0))), session_present=True)
        assert play.client(self.AGAIN).take() == (b"", b"", ["end"])


class TestLargeMessages:
    @pytest.mark.parametrize("chunk", [1 << 16, 1000, 1 << 20])
    def test_one_that_is_refused_is_skipped_and_answered_at_its_end(self, chunk: int) -> None:
        play = spent(5)
        wire = publish(payload=bytes(4 * STORE), qos=1, packet_id=7, version=5)
        for at in range(0, len(wire) - 1, chunk):
            play.client(wire[at : min(at + chunk, len(wire) - 1)])
        assert play.take() == (b"", b"", [])
        to_client, to_broker, _ = play.client(wire[-1:] + PINGREQ).take()
        assert read_ack(to_client)[:3] == (PacketType.PUBACK, 7, ReasonCode.QUOTA_EXCEEDED)
        assert to_broker == PINGREQ

    def test_the_broker_is_pinged_meanwhile(self) -> None:
        play = spent(keepalive=10)
        play.client(publish(payload=bytes(4 * STORE))[:STORE])
        play.at(8.0)
        assert play.take()[1] == PINGREQ

    def test_the_verdict_falls_on_its_head(self) -> None:
        play = Playbook.opened(engine=two(DISCONNECT))
        play.client(publish() * 2 + publish(payload=bytes(4 * STORE))[: STORE + 1])
        assert play.state is State.CLOSED


class TestInsideABrokersPacket:
    """What the gateway says must not stand inside a large PUBLISH of the broker's."""

    def test_it_waits_for_the_end(self) -> None:
        large = publish(payload=bytes(1000))
        play = spent().broker(large[:500])
        play.take()
        assert play.client(publish(qos=1, packet_id=7)).take()[0] == b""
        assert play.broker(large[500:] + connack()[:0]).take()[0] == large[500:] + write_ack(PacketType.PUBACK, 7)

    def test_an_exchange_that_is_played_waits_too(self) -> None:
        large = publish(payload=bytes(1000))
        play = spent().client(publish(qos=2, packet_id=7))
        play.take()
        play.broker(large[:500]).take()
        assert play.client(write_ack(PacketType.PUBREL, 7)).take() == (b"", b"", [])
        assert play.broker(large[500:]).take()[0] == large[500:] + write_ack(PacketType.PUBCOMP, 7)

    def test_one_that_floods_meanwhile_is_no_longer_read(self) -> None:
        large = publish(payload=bytes(1000))
        play = spent().broker(large[:500])
        play.take()
        for _ in range(MOST_WAITING):
            play.client(publish(qos=1, packet_id=7))
        assert play.take() == (b"", b"", ["hold"])
        to_client, _, commands = play.broker(large[500:]).take()
        assert to_client == large[500:] + write_ack(PacketType.PUBACK, 7) * MOST_WAITING
        assert commands == ["free"]


class TestAliases:
    def test_one_is_learned_from_a_message_that_is_refused(self) -> None:
        play = spent(5, two(topic=("t",)))
        play.client(publish("t", version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        assert play.take()[1] == b""
        play.now = 10.0
        play.client(publish("", version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        assert play.take()[1] == publish("t", version=5)

    def test_the_limit_sees_the_topic_behind_it(self) -> None:
        play = Playbook.opened(5, engine=two(topic=("t",)))
        play.client(publish("t", version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        play.client(publish("", version=5, properties=[(P.TOPIC_ALIAS, 1)]) * 5)
        assert play.take()[1] == publish("t", version=5) * 2


class TestWho:
    def test_clients_are_told_apart_by_identifier(self) -> None:
        one = two()
        spent(engine=one, client_id="a")
        spent(engine=one, client_id="b")
        assert Playbook.opened(engine=one, client_id="a").client(publish()).take()[1] == b""

    def test_without_an_identifier_each_connection_is_its_own(self) -> None:
        one = two()
        spent(engine=one, client_id="")
        spent(engine=one, client_id="")

    def test_the_identifier_that_the_broker_assigns_counts(self) -> None:
        one = two()
        spent(5, one, client_id="", offered=[(P.ASSIGNED_CLIENT_IDENTIFIER, "given")])
        play = Playbook.opened(5, engine=one, client_id="given")
        assert play.client(publish(version=5)).take()[1] == b""

    def test_nothing_is_decided_before_connack(self) -> None:
        one = engine(limit("flood", DROP, rate=rate(1, 2), per=(Key(KeyKind.ALL),)))
        play = Playbook(engine=one)
        play.client(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c" + publish() * 9)
        play.upstream()
        play.broker(connack(reason=5))
        assert Playbook.opened(engine=one).client(publish() * 3).take()[1] == publish() * 2

    def test_a_reload_is_seen_by_connections_that_are_open(self) -> None:
        flood = limit("flood", DROP, rate=rate(1, 2))
        made = host(flood)
        one = Engine(made.segment, 0)
        one.load(made.segment.policy())
        play = spent(engine=one)
        for limits, expected in (
            ((limit("other", DROP, rate=rate(1, 9)), flood), b""),  # the budget of a limit that stays is kept
            ((), publish() * 3),
        ):
            made.replace(Policy(limits=limits))
            one.load(made.segment.policy())
            assert play.client(publish() * 3).take()[1] == expected


THROTTLE = Subscription("$tidegate/throttle", 0)


class TestNotices:
    @pytest.mark.parametrize("version", [3, 4, 5])
    def test_one_who_subscribes_is_told_of_its_own_refusals(self, version: int) -> None:
        play = spent(version, two(DROP))
        request = Subscribe(5, [THROTTLE]).write(version)
        assert play.client(request).take() == (Suback(5, [0]).write(version), b"", [])
        to_client = play.client(publish(version=version)).take()[0]
        mark = b"$tidegate/throttle" + (b"\0" if version == 5 else b"")
        told = json.loads(to_client[to_client.index(mark) + len(mark) :])
        assert told == {"limit": "flood", "action": "drop", "topic": "t", "retry_after_ms": 1001, "messages": 1}
        assert to_client[0] == 0x30

    def test_they_are_few(self) -> None:
        play = spent().client(Subscribe(5, [THROTTLE]).write(4))
        play.take()
        assert play.client(publish()).take()[0] != b""
        assert play.client(publish() * 5).take()[0] == b""
        play.now = 1.0
        assert b'"messages": 6}' in play.client(publish() * 2).take()[0], "one has passed"

    def test_of_several_filters_the_broker_gets_the_others(self) -> None:
        play = Playbook.opened(5, engine=two())
        a, b = Subscription("a", 1), Subscription("b", 2)
        play.client(Subscribe(5, [a, THROTTLE, b]).write(5))
        assert play.take() == (b"", Subscribe(5, [a, b]).write(5), [])
        play.broker(Suback(5, [1, 2]).write(5))
        assert play.take()[0] == Suback(5, [1, 0, 2]).write(5)

    def test_unsubscribing_ends_them(self) -> None:
        play = spent(5).client(Subscribe(5, [THROTTLE]).write(5))
        play.client(Unsubscribe(6, ["$tidegate/throttle"]).write(5), Unsubscribe(7, ["$tidegate/throttle"]).write(5))
        acks = Suback(5, [0]).write(5) + Unsuback(6, [0]).write(5) + Unsuback(7, [0x11]).write(5)
        assert play.take() == (acks, b"", [])
        assert play.client(publish(version=5)).take()[0] == b""

    def test_unsubscribing_from_more_is_completed(self) -> None:
        play = Playbook.opened(5, engine=two()).client(Unsubscribe(6, ["$tidegate/throttle", "a"]).write(5))
        assert play.take()[1] == Unsubscribe(6, ["a"]).write(5)
        assert play.broker(Unsuback(6, [0]).write(5)).take()[0] == Unsuback(6, [0x11, 0]).write(5)

    def test_a_suback_of_another_request_passes_as_it_is(self) -> None:
        play = Playbook.opened(5, engine=two()).client(Subscribe(5, [THROTTLE]).write(5))
        play.take()
        assert play.broker(Suback(9, [1]).write(5)).take()[0] == Suback(9, [1]).write(5)

    def test_one_that_is_too_large_for_the_client_is_left_out(self) -> None:
        play = spent(5, properties=[(P.MAXIMUM_PACKET_SIZE, 50)]).client(Subscribe(5, [THROTTLE]).write(5))
        play.take()
        assert play.client(publish(version=5)).take()[0] == b""

    def test_without_limits_in_force_the_topic_is_the_brokers(self) -> None:
        request = Subscribe(5, [THROTTLE]).write(4)
        assert Playbook.opened().client(request).take()[1] == request
