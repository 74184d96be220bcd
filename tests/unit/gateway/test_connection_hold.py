"""What a client sends while messages of its are held, and what becomes of those when it ends."""

from collections.abc import Callable

import pytest

from support.held import (
    DEFAULT,
    DROP,
    LEAVE,
    STUCK,
    acks,
    discarded,
    dismissal,
    flow,
    numbered,
    opened,
    slow,
)
from support.limits import engine, host, limit, rate
from support.playbook import Playbook, connect, publish, waiting_room
from tidegate.engine.binding import Engine
from tidegate.engine.counters import (
    HELD_MESSAGES,
    HOLD_BYTES,
    MALFORMED,
    TIMED_OUT_KEEPALIVE,
)
from tidegate.gateway.connection import FREE_CLIENT, HOLD_CLIENT, MOST_AT_ONCE, MOST_WAITING, RESUME, STORE
from tidegate.gateway.states import State
from tidegate.mqtt.ack import write_ack
from tidegate.mqtt.errors import Fault
from tidegate.mqtt.properties import PropertyId
from tidegate.mqtt.reasons import PacketType, ReasonCode
from tidegate.mqtt.session import PINGREQ, PINGRESP, Disconnect
from tidegate.policy.model import Action, Cases

P = PropertyId
T = PacketType


class TestManyAtOnce:
    """One read with more messages to be kept back than others should have to wait for."""

    @pytest.mark.parametrize("action", [Action.DELAY, Action.DROP])
    def test_the_rest_has_its_turn_later(self, action: Action) -> None:
        one = limit("some", Cases(action), rate=rate(1, 1, 3600), topic=("t",))
        play = opened(one)
        connection = play.connection
        messages = numbered(3 * MOST_AT_ONCE + 8)
        connection.client_bytes(b"".join(messages) + PINGREQ, play.now)
        assert b"".join(connection.to_broker) == messages[0]
        assert connection.commands == HOLD_CLIENT | RESUME
        connection.commands = 0
        connection.client_bytes(publish("free"), play.now)  # read before it could be stopped
        for _ in range(3):
            assert connection.commands & FREE_CLIENT == 0
            assert len(connection.to_broker) == 1
            connection.commands = 0
            connection.resume(play.now)
        assert b"".join(connection.to_broker[1:]) == PINGREQ + publish("free")
        assert connection.commands & FREE_CLIENT

    def test_nothing_waits_where_nothing_is_left(self) -> None:
        play = opened(limit("some", Cases(Action.DROP), rate=rate(1, 1, 3600)))
        play.connection.client_bytes(publish() * (1 + MOST_AT_ONCE), play.now)
        assert play.connection.commands == 0

    def test_so_many_that_have_waited_too_long_go_at_a_time(self) -> None:
        play = opened(STUCK)
        play.client(b"".join(numbered(200)))
        play.connection.tick(5.0)
        assert play.connection.wake_at <= 5.0, "at once again"
        assert discarded(play) == {}
        assert play.counters.value(HELD_MESSAGES) == 199 - MOST_AT_ONCE
        play.at(5.0)
        assert play.counters.value(HELD_MESSAGES) == 0


class TestFull:
    """A hold of four messages that is full, and what the client has sent behind."""

    def full(self, version: int = 4, keepalive: int = 0, behind: bytes = b"", then: Cases = DEFAULT) -> Playbook:
        one = slow(period=3600, topic=("t",), then=then)
        play = opened(one, version=version, keepalive=keepalive, room={"messages": 4})
        play.client(publish(version=version) * 5)
        assert play.take()[2] == []
        return play.client(behind) if behind else play

    def test_the_client_is_not_read(self) -> None:
        play = self.full(behind=publish() + PINGREQ)
        assert play.take() == (b"", b"", ["hold"])
        assert play.client(PINGREQ).take() == (b"", b"", []), "what was read before it could be stopped"

    def test_what_is_read_besides_needs_no_room(self) -> None:
        play = self.full(behind=publish("other") + PINGREQ)
        assert play.take() == (b"", publish("other") + PINGREQ, [])

    def test_it_is_read_again_when_there_is_room(self) -> None:
        play = opened(slow(), room={"messages": 4})
        messages = numbered(9)
        play.client(b"".join(messages) + PINGREQ)
        assert play.take() == (b"", messages[0], ["hold"])
        assert [packet for _, packet in flow(9.0, play)] == [*messages[1:5], PINGREQ, *messages[5:]]

    @pytest.mark.parametrize(("keepalive", "stops"), [(0, 5.0), (60, 5.0), (4, 2.0)])
    def test_after_max_delay_or_half_the_keepalive_qos_0_is_dropped(self, keepalive: int, stops: float) -> None:
        play = self.full(keepalive=keepalive, behind=publish() + PINGREQ)
        play.take()
        assert play.at(stops - 0.01).take() == (b"", b"", [])
        assert play.at(stops).take() == (b"", PINGREQ, ["free"])

    @pytest.mark.parametrize(("qos", "kind"), [(1, T.PUBACK), (2, T.PUBREC)])
    def test_qos_1_and_2_get_then(self, qos: int, kind: PacketType) -> None:
        play = self.full(5, 4, publish(qos=qos, packet_id=7, version=5) + PINGREQ)
        play.take()
        to_client, to_broker, commands = play.at(2.0).take()
        assert acks(to_client) == [(kind, 7, 0x97)]
        assert (to_broker, commands) == (PINGREQ, ["free"])

    def test_version_3_is_disconnected_unless_told_otherwise(self) -> None:
        play = self.full(4, 4, publish(qos=1, packet_id=7))
        play.take()
        assert play.at(2.0).take() == (b"", b"", ["free", "end"])
        play = self.full(4, 4, publish(qos=1, packet_id=7), then=DROP)
        play.take()
        assert play.at(2.0).take() == (write_ack(T.PUBACK, 7), b"", ["free"])

    def test_what_had_gathered_meanwhile_is_read_without_another_stop(self) -> None:
        play = self.full(keepalive=4, behind=publish())
        play.at(2.0).take()
        assert play.client(publish() * (STORE // 6 + 1)).take() == (b"", b"", [])
        assert play.client(publish() + PINGREQ).take() == (b"", PINGREQ, [])

    def test_then_it_may_be_stopped_again(self) -> None:
        play = self.full(keepalive=4, behind=publish())
        play.at(2.0)
        play.client(PINGREQ).take()
        assert play.client(publish() + PINGREQ).take() == (b"", b"", ["hold"])
        assert play.at(3.9).take() == (b"", b"", [])
        assert play.at(4.0).take()[1:] == (PINGREQ, ["free"])

    def test_the_last_command_counts(self) -> None:
        """All that was held is given up, what was parked takes its place, and the rest has no room for too long."""
        play = self.full(behind=publish() * 6 + PINGREQ)
        assert play.take()[2] == ["hold"]
        assert play.at(5.0).take() == (b"", PINGREQ, ["free"])

    @pytest.mark.parametrize("room_first", [True, False])
    def test_one_that_floods_inside_a_brokers_packet_has_two_reasons(self, room_first: bool) -> None:
        """No room, and too many answers that wait for the packet's end: it is read when neither is left."""
        drop = limit("drop", DROP, rate=rate(1, 1, 3600), topic=("u",))
        play = opened(slow(period=3600, topic=("t",)), drop, room={"messages": 4})
        large = publish(payload=bytes(1000))
        play.broker(large[:500])
        play.client(publish("u") + publish("u", qos=1) * MOST_WAITING + publish() * 6)
        assert play.take()[2] == ["hold"]
        if room_first:
            assert play.at(5.0).take()[2] == []
            assert play.broker(large[500:]).take()[2] == ["free"]
        else:
            assert play.broker(large[500:]).take()[2] == []
            assert play.at(5.0).take()[2] == ["free"]

    def test_what_comes_much_later_is_no_part_of_what_had_gathered(self) -> None:
        play = self.full(keepalive=4, behind=publish())
        play.at(2.0).take()
        play.now = 8.0
        assert play.client(publish()).take() == (b"", b"", ["hold"])

    def test_its_bytes_are_bounded(self) -> None:
        play = opened(STUCK, room={"size": 100_000})
        play.client(publish("a"), publish("a", bytes(60_000)))
        assert play.take()[2] == []
        play.client(publish("b", bytes(60_000)))
        assert play.take()[2] == ["hold"]
        assert play.counters.value(HOLD_BYTES) < 100_000

    def test_one_may_always_wait(self) -> None:
        play = opened(STUCK, room={"size": 1000})
        play.client(publish("a"), publish("a", bytes(60_000)))
        assert play.take()[2] == []

    @pytest.mark.parametrize(("version", "qos"), [(4, 0), (5, 0), (5, 1), (4, 1)])
    def test_one_that_is_over_no_limit_itself(self, version: int, qos: int) -> None:
        """It waits only for its topic's sake."""
        play = opened(
            slow(period=3600, max_delay=60.0, qos=(2,)),
            version=version,
            keepalive=4,
            room={"messages": 2},
        )
        for packet_id in (1, 2, 3):
            play.client(publish(qos=2, packet_id=packet_id, version=version))
        play.client(publish(qos=qos, packet_id=7, version=version) + PINGREQ)
        play.take()
        to_client, to_broker, commands = play.at(2.0).take()
        assert discarded(play)["FULL"] == 1
        if version == 4 and qos:
            assert play.state is State.CLOSED
        else:
            assert acks(to_client) == ([(T.PUBACK, 7, 0x97)] if qos else [])
            assert (to_broker, commands) == (PINGREQ, ["free"])

    def test_one_that_another_limit_refuses_gets_what_that_says(self) -> None:
        stuck = slow(period=3600, max_delay=60.0, qos=(2,))
        made = host(stuck, limit("drop", DROP, rate=rate(1, 1, 3600), qos=(1,)))
        one = Engine(made.segment, 0)
        one.load(made.segment.policy())
        first = Playbook.opened(engine=one)
        play = Playbook.opened(engine=one, keepalive=4, waiting=waiting_room(one, first.counters, messages=2))
        play.client(publish("u", qos=1), *(publish(qos=2, packet_id=n) for n in (2, 3, 4)), publish(qos=1, packet_id=5))
        play.take()
        assert play.at(2.0).take()[0] == write_ack(T.PUBACK, 5)
        assert discarded(play) == {}
        assert [counts.limited[Action.DROP] for counts in made.counts(2.0)] == [0, 1]

    def test_progress_does_not_stop_it_any_longer(self) -> None:
        play = opened(slow(max_delay=60.0), keepalive=10, room={"size": 150_000})
        play.client(publish() * 61, publish("big", bytes(60_000)))
        play.client(publish("big", bytes(60_000)) + PINGREQ)
        assert play.take()[2] == ["hold"]
        got = flow(5.0, play)
        assert got[-1] == (5.0, PINGREQ)


class TestPool:
    """What all connections of a worker hold together is bounded."""

    def test_the_largest_holder_is_cut_and_never_an_innocent(self) -> None:
        one = engine(STUCK)
        first = Playbook.opened(5, engine=one, client_id="first")
        room = waiting_room(one, first.counters, pool=100_000)
        small, large, last = (
            Playbook.opened(5, engine=one, client_id=name, waiting=room) for name in ("small", "large", "last")
        )
        for play, size in ((small, 100), (large, 60_000), (last, 30_000)):
            play.client(publish(version=5), publish(payload=bytes(size), version=5))
        assert large.state is State.OPEN
        small.client(publish("u", bytes(20_000), version=5))
        assert [play.state for play in (small, large, last)] == [State.OPEN, State.CLOSED, State.OPEN]
        assert discarded(large) == {"POOL": 1}
        assert large.connection.cut_client == "large"
        wire = large.take()[0]
        assert dismissal(wire).reason == ReasonCode.QUOTA_EXCEEDED

    def test_the_largest_may_be_the_one_that_asks(self) -> None:
        play = opened(STUCK, version=5, room={"pool": 100_000})
        play.client(publish(version=5) + publish(payload=bytes(60_000), version=5) * 2 + PINGREQ)
        to_client, to_broker, commands = play.take()
        assert dismissal(to_client).reason == ReasonCode.QUOTA_EXCEEDED
        assert (to_broker, commands) == (publish(version=5), ["end"])
        assert discarded(play) == {"POOL": 2}
        assert play.counters.value(HOLD_BYTES) == 0


class TestBrokerThatDoesNotTake:
    def held(self) -> Playbook:
        play = opened(slow())
        play.client(publish() + publish(qos=1, packet_id=7))
        play.take()
        play.connection.upstream_takes(False, play.now)
        return play

    def test_what_is_held_stays_held(self) -> None:
        play = self.held()
        assert play.at(1.5).take() == (b"", b"", [])
        play.connection.upstream_takes(True, play.now)
        assert play.take()[1] == publish(qos=1, packet_id=7)

    def test_and_goes_on_when_its_turn_has_come(self) -> None:
        play = self.held()
        play.connection.upstream_takes(True, play.now)
        assert play.take()[1] == b""
        assert play.at(1.5).take()[1] == publish(qos=1, packet_id=7)


class TestIdentifiers:
    def held(self, version: int = 4) -> Playbook:
        play = opened(slow(), version=version)
        play.client(publish(version=version) + publish(qos=1, packet_id=7, version=version))
        play.take()
        return play

    def test_a_message_that_is_sent_again_while_it_is_held_goes_on_once(self) -> None:
        play = self.held()
        play.client(publish("elsewhere", qos=1, packet_id=7, dup=True), publish(qos=1, packet_id=7, dup=True))
        assert flow(9.0, play) == [(1.0, publish(qos=1, packet_id=7))]

    @pytest.mark.parametrize(("qos", "answer"), [(1, T.PUBACK), (2, T.PUBREC)])
    def test_one_that_is_sent_again_does_not_go_on_once_the_first_is_answered(
        self, qos: int, answer: PacketType
    ) -> None:
        play = opened(slow())
        first, behind = publish(qos=qos, packet_id=7), publish(qos=1, packet_id=8)
        play.client(first, publish(qos=qos, packet_id=7, dup=True), behind)
        play.broker(write_ack(answer, 7))
        assert [packet for _, packet in flow(9.0, play)] == [first, behind]

    def test_of_one_that_is_large_nothing_goes_on(self) -> None:
        play = self.held()
        again = publish("u", PINGREQ * STORE, qos=1, packet_id=7, dup=True)
        play.client(again[:STORE], again[STORE:] + PINGREQ)
        assert play.take() == (b"", PINGREQ, [])

    def test_version_5_is_told_that_an_identifier_is_in_use(self) -> None:
        play = self.held(5).client(publish("elsewhere", qos=1, packet_id=7, version=5))
        to_client, _, commands = play.take()
        assert dismissal(to_client).reason == ReasonCode.PROTOCOL_ERROR
        assert commands == ["end"]
        assert play.counters.value(MALFORMED + Fault.PACKET_ID) == 1

    def test_version_3_is_closed(self) -> None:
        play = self.held().client(publish("elsewhere", qos=1, packet_id=7))
        assert play.take() == (b"", b"", ["end"])

    def test_one_that_has_gone_on_and_is_acknowledged_is_free(self) -> None:
        play = self.held(5)
        play.at(1.1).broker(write_ack(T.PUBACK, 7)).take()
        play.client(publish("elsewhere", qos=1, packet_id=7, version=5))
        assert play.state is State.OPEN

    def played(self) -> Playbook:
        """Of identifier 7 the exchange is played here, and messages to "t" are held."""
        play = opened(slow(topic=("t",)), limit("drop", DROP, rate=rate(1), topic=("u",)))
        play.client(publish("u") + publish("u", qos=2, packet_id=7) + publish() * 2)
        assert play.take() == (write_ack(T.PUBREC, 7), publish("u") + publish(), [])
        return play

    def test_one_of_an_exchange_that_is_played_cannot_be_held(self) -> None:
        assert self.played().client(publish(qos=2, packet_id=7)).take() == (b"", b"", ["end"])

    def test_what_is_sent_again_of_such_an_exchange_is_answered_at_once(self) -> None:
        play = self.played().client(publish(qos=2, packet_id=7, dup=True))
        assert play.take() == (write_ack(T.PUBREC, 7), b"", [])
        assert flow(9.0, play) == [(1.0, publish())]


class TestAliases:
    def test_one_is_learned_from_a_message_that_is_held(self) -> None:
        play = opened(slow(), version=5)
        play.client(publish(version=5), publish("a", version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        play.client(publish("", b"y", version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        play.client(publish("b", version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        assert [packet for _, packet in flow(9.0, play)] == [
            publish(version=5),
            publish("a", version=5),
            publish("a", b"y", version=5),
            publish("b", version=5),
        ]

    def test_a_topic_is_the_same_by_whatever_name(self) -> None:
        play = opened(slow(qos=(1,)), version=5)
        play.client(publish(qos=1, version=5), publish(qos=1, packet_id=2, version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        play.client(publish("", b"y", version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        assert [now for now, _ in flow(9.0, play)] == [0.0, 1.0, 1.0]


class TestKeepalive:
    def test_the_broker_is_pinged_while_all_is_held_and_its_answer_swallowed(self) -> None:
        play = opened(slow(period=3600, max_delay=60.0), keepalive=10)
        play.client(publish())
        play.take()
        for second in (3.0, 6.0):
            play.now = second
            play.client(publish())
        assert play.at(7.4).take() == (b"", b"", [])
        assert play.at(7.5).take() == (b"", PINGREQ, [])
        assert play.broker(PINGRESP).take() == (b"", b"", [])

    def test_a_client_that_is_silent_is_closed_though_messages_of_its_are_held(self) -> None:
        play = opened(slow(period=3600, max_delay=60.0), keepalive=10)
        play.client(publish() * 2)
        assert play.at(14.9).take()[2] == []
        assert play.at(15.0).take()[2] == ["end"]
        assert play.counters.value(TIMED_OUT_KEEPALIVE) == 1
        assert discarded(play) == {"ENDED": 1}

    def test_a_message_that_finds_no_room_is_a_sign_of_life(self) -> None:
        play = opened(slow(period=3600, max_delay=600.0), keepalive=40, room={"messages": 1})
        play.client(publish() * 2).at(55.0).client(publish())
        assert play.at(61.0).state is State.OPEN

    def test_one_that_has_taken_its_leave_need_not_speak(self) -> None:
        play = opened(slow(period=20, max_delay=60.0), keepalive=10)
        play.client(publish() * 2 + LEAVE)
        pings = [packet for _, packet in flow(20.1, play)]
        assert pings == [publish(), PINGREQ, PINGREQ, publish(), LEAVE]


class TestLeaving:
    def test_disconnect_follows_what_is_held(self) -> None:
        play = opened(slow(), version=5)
        leave = Disconnect(ReasonCode.DISCONNECT_WITH_WILL, [(P.REASON_STRING, "bye")]).write()
        play.client(publish(version=5) * 3 + leave + publish("after", version=5))
        assert play.take() == (b"", publish(version=5), ["hold"])
        assert flow(2.1, play) == [(1.0, publish(version=5)), (2.0, publish(version=5)), (2.0, leave)]
        assert play.state is State.LEAVING

    def test_also_when_the_client_closes_its_socket_right_behind_it(self) -> None:
        play = opened(slow())
        play.client(publish() * 3 + LEAVE)
        play.connection.client_closed()
        assert [packet for _, packet in flow(9.0, play)] == [publish(), publish(), publish(), LEAVE]
        assert play.state is State.CLOSED
        assert discarded(play) == {}

    def test_what_waits_for_too_long_is_given_up(self) -> None:
        play = opened(STUCK)
        play.client(publish() * 3 + publish("u", qos=1, packet_id=7) + LEAVE)
        play.take()
        assert play.at(5.0).take() == (b"", LEAVE, [])
        assert discarded(play) == {"LATE": 3}

    def test_acknowledgements_reach_it_meanwhile(self) -> None:
        play = opened(slow())
        play.client(publish() + publish(qos=1, packet_id=7) + LEAVE)
        play.at(1.1).take()
        assert play.broker(write_ack(T.PUBACK, 7)).take() == (write_ack(T.PUBACK, 7), b"", [])

    def test_the_broker_may_end_it_before(self) -> None:
        play = opened(slow(), version=5)
        play.client(publish(version=5) * 3 + LEAVE)
        play.broker(Disconnect(ReasonCode.SERVER_BUSY, []).write())
        assert play.state is State.LEAVING
        assert discarded(play) == {"BROKER_GONE": 2}


class TestDiscarded:
    """What is held of a connection that ends is given up, and counted by the reason."""

    ENDS: tuple[tuple[str, Callable[[Playbook], object]], ...] = (
        ("CLIENT_GONE", lambda play: play.connection.client_closed()),
        ("BROKER_GONE", lambda play: play.connection.broker_closed(True)),
        ("BROKER_GONE", lambda play: play.broker(Disconnect(ReasonCode.SERVER_BUSY, []).write())),
        ("SHUTDOWN", lambda play: play.connection.shut_down()),
        ("ENDED", lambda play: play.client(b"\xc1\x00")),
        ("ENDED", lambda play: play.client(connect(5))),
        ("POOL", lambda play: play.connection.cut()),
    )

    @pytest.mark.parametrize(("reason", "end"), ENDS)
    def test_reason(self, reason: str, end: Callable[[Playbook], object]) -> None:
        play = opened(slow(), version=5)
        play.client(publish(version=5) * 3 + publish("u", version=5))
        end(play)
        assert discarded(play) == {reason: 3}
        assert (play.counters.value(HELD_MESSAGES), play.counters.value(HOLD_BYTES)) == (0, 0)
        assert play.connection.holds() == 0
        play.take()
        assert publish(version=5) not in [packet for _, packet in flow(9.0, play)]

    def test_what_went_on_is_not_counted(self) -> None:
        play = opened(slow(2))
        play.client(publish() * 2)
        play.connection.client_closed()
        assert discarded(play) == {}
