"""What a limit that delays does to one client's messages: pace, order, how long, on a given clock."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from support.held import (
    ALL,
    DEFAULT,
    DELAY,
    DROP,
    REJECT,
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
from support.playbook import Playbook, publish
from tidegate.engine.binding import Engine
from tidegate.engine.counters import (
    DELAY_BOUNDS,
    DELAYS,
    HELD_MESSAGES,
    HOLD_BYTES,
    INFLIGHT_FROM_BROKER,
    INFLIGHT_FROM_CLIENT,
    MALFORMED,
)
from tidegate.gateway.connection import LONGEST_WAIT, STORE
from tidegate.gateway.guard import MOST_PLAYED
from tidegate.gateway.states import State
from tidegate.mqtt.ack import write_ack
from tidegate.mqtt.errors import Fault
from tidegate.mqtt.properties import PropertyId, get
from tidegate.mqtt.reasons import PacketType, ReasonCode
from tidegate.mqtt.session import PINGREQ
from tidegate.mqtt.subscribe import Subscribe, Subscription
from tidegate.policy.model import Action, Cases, Limit, Policy

P = PropertyId
T = PacketType


class TestPace:
    def test_a_burst_passes_and_then_one_each_interval_in_order(self) -> None:
        play, messages = opened(slow(20, 40)), numbered(100)
        play.client(b"".join(messages))
        expected = [0.0] * 40 + [round(0.05 * number, 3) for number in range(1, 61)]
        assert flow(3.1, play) == list(zip(expected, messages, strict=True))
        assert play.take() == (b"", b"", [])

    def test_it_goes_on_at_that_pace_however_long_they_come(self) -> None:
        play, messages = opened(slow(20, 1)), numbered(40)
        for number, message in enumerate(messages):
            play.now = number * 0.05
            play.client(message)
        assert [message for _, message in flow(2.1, play)] == messages

    @pytest.mark.parametrize(
        "other",
        [
            PINGREQ,
            Subscribe(5, [Subscription("#", 1)]).write(4),
            *(write_ack(kind, 9) for kind in (T.PUBACK, T.PUBREC, T.PUBREL, T.PUBCOMP)),
            publish("other", qos=1, packet_id=9),
        ],
    )
    def test_all_else_passes_at_once(self, other: bytes) -> None:
        play = opened(slow(topic=("t",)))
        play.client(publish() * 3 + other)
        assert play.take() == (b"", publish() + other, [])

    def test_a_topic_keeps_its_order_over_all_qos(self) -> None:
        play = opened(slow(qos=(1,)))
        messages = [
            publish(payload=b"0", qos=1, packet_id=1),
            publish(payload=b"1", qos=1, packet_id=2),
            publish(payload=b"2"),
            publish(payload=b"3", qos=2, packet_id=3),
            publish(payload=b"4", qos=1, packet_id=4),
            publish(payload=b"5"),
        ]
        play.client(b"".join(messages))
        assert flow(9.0, play) == list(zip([0.0, 1.0, 1.0, 1.0, 2.0, 2.0], messages, strict=True))

    def test_topics_that_wait_for_the_same_leave_as_they_came(self) -> None:
        play = opened(slow(2, 1))
        messages = [publish(topic, b"%d" % number) for number, topic in enumerate("aaabbcab")]
        play.client(*messages)
        assert [message for _, message in flow(9.0, play)] == messages

    def test_one_that_is_new_waits_behind_those_that_wait(self) -> None:
        play = opened(slow())
        first, second, third = publish("a"), publish("b"), publish("c")
        play.client(first + second)
        play.now = 1.0  # the budget has room, but it is the second's
        play.client(third)
        assert flow(9.0, play) == [(1.0, first), (1.0, second), (2.0, third)]

    def test_bandwidth_is_paced_too(self) -> None:
        play = opened(limit("bytes", DELAY, bandwidth=rate(100, 100)))
        messages = [publish(payload=bytes(45)) for _ in range(4)]  # 50 bytes each
        play.client(*messages)
        assert [now for now, _ in flow(9.0, play)] == [0.0, 0.0, 0.5, 1.0]

    def test_any_chunking_gives_the_same(self) -> None:
        wire = b"".join(numbered(5)) + PINGREQ + publish("big", bytes(STORE + 1))
        whole, bytewise = opened(slow(2)), opened(slow(2))
        whole.client(wire)
        bytewise.client(*(wire[i : i + 1000] for i in range(0, len(wire), 1000)))

        def sent(play: Playbook) -> bytes:
            return b"".join(packet for _, packet in flow(9.0, play))

        assert sent(whole) == sent(bytewise)


class TestBetweenClients:
    """A budget that all share: one message, then two each second."""

    def scene(self, *addresses: int) -> list[Playbook]:
        one = engine(slow(2, 1, per=ALL))
        plays: list[Playbook] = []
        for number, address in enumerate(addresses):
            plays.append(
                Playbook.opened(
                    engine=one,
                    client_id=f"client-{number}",
                    waiting=plays[0].waiting if plays else None,
                    address=bytes([192, 0, 2, address]),
                )
            )
        return plays

    def test_a_flooder_waits_behind_itself(self) -> None:
        *flooders, light = self.scene(1, 1, 1, 2)
        for play in flooders:
            play.client(publish("flood") * 50)
        light.client(*numbered(3, "light"))
        got = flow(4.0, *flooders, light)
        assert [now for now, message in got if b"light" in message] == [1.0, 2.0, 3.0], "every other one"

    def test_one_that_leaves_owes_nothing(self) -> None:
        flooder, other = self.scene(1, 2)
        flooder.client(publish("flood") * 100)
        other.client(publish("other"))
        flooder.connection.client_closed()
        assert flow(1.1, other) == [(0.5, publish("other"))]

    def test_what_is_held_has_cost_nothing_yet(self) -> None:
        flooder, other = self.scene(1, 2)
        flooder.client(publish("flood") * 100)
        flooder.connection.client_closed()
        other.now = 1.0
        other.client(publish("other"))
        assert other.take()[1] == publish("other")


class Late(NamedTuple):
    version: int
    qos: int
    then: Cases
    to_client: list[tuple[int, int, int]]
    end: bool


class TestMaxDelay:
    """A message that has waited for five seconds gets what `then` says."""

    @pytest.mark.parametrize(
        "case",
        [
            Late(4, 0, DEFAULT, [], end=False),
            Late(4, 1, DEFAULT, [], end=True),
            Late(4, 2, DEFAULT, [], end=True),
            Late(5, 0, DEFAULT, [], end=False),
            Late(5, 1, DEFAULT, [(T.PUBACK, 7, 0x97)], end=False),
            Late(5, 2, DEFAULT, [(T.PUBREC, 7, 0x97)], end=False),
            Late(4, 0, DROP, [], end=False),
            Late(4, 1, DROP, [(T.PUBACK, 7, 0)], end=False),
            Late(4, 2, DROP, [(T.PUBREC, 7, 0)], end=False),
            Late(5, 1, DROP, [(T.PUBACK, 7, 0)], end=False),
            Late(4, 0, Cases(Action.DISCONNECT), [], end=True),
            Late(4, 1, Cases(Action.DISCONNECT), [], end=True),
        ],
    )
    def test_then(self, case: Late) -> None:
        play = opened(slow(period=3600, then=case.then), version=case.version)
        play.client(publish(version=case.version) + publish("u", b"", case.qos, 7, case.version))
        play.take()
        assert play.at(4.9).take() == (b"", b"", [])
        to_client, to_broker, commands = play.at(5.0).take()
        assert acks(to_client, case.version) == case.to_client
        assert (to_broker, commands) == (b"", ["end"] if case.end else [])
        assert play.counters.value(HELD_MESSAGES) == 0

    def test_version_5_is_told_why_it_is_disconnected(self) -> None:
        play = opened(slow(period=3600, then=Cases(Action.DISCONNECT)), version=5)
        play.client(publish(version=5) * 2)
        play.take()
        told = dismissal(play.at(5.0).take()[0])
        assert told.reason == ReasonCode.MESSAGE_RATE_TOO_HIGH
        assert "over limit slow" in str(get(told.properties, P.REASON_STRING))

    def test_it_wakes_for_that(self) -> None:
        play = opened(slow(period=3600, max_delay=3.0))
        play.client(publish() * 2)
        assert play.connection.wake_at == 3.0

    def test_each_has_its_own_time(self) -> None:
        play = opened(STUCK, version=5)
        for second in range(4):
            play.now = float(second)
            play.client(publish(qos=1, packet_id=1 + second, version=5))
        play.take()
        told = [acks(play.at(now).take()[0]) for now in (5.0, 6.0, 7.0, 8.0)]
        assert told == [[], [(T.PUBACK, 2, 0x97)], [(T.PUBACK, 3, 0x97)], [(T.PUBACK, 4, 0x97)]]

    def test_one_that_may_pass_when_its_time_is_over_does(self) -> None:
        play = opened(slow(max_delay=0.5))
        play.client(publish() * 2)
        play.take()
        play.now = 9.0
        play.connection.tick(9.0)  # nobody has given it a turn
        assert play.take() == (b"", publish(), [])

    def test_of_qos_2_that_is_dropped_the_exchange_is_played(self) -> None:
        play = opened(slow(period=3600, then=DROP))
        play.client(publish() + publish(qos=2, packet_id=7))
        play.at(5.0).take()
        assert play.client(write_ack(T.PUBREL, 7)).take() == (write_ack(T.PUBCOMP, 7), b"", [])

    def test_exchanges_left_open_are_bounded(self) -> None:
        play = opened(slow(period=3600, then=DROP))
        play.client(publish())
        half = MOST_PLAYED // 2 + 1
        for first in (1, 1 + half):
            for packet_id in range(first, first + half):
                play.client(publish(str(packet_id), qos=2, packet_id=packet_id))
            play.at(play.now + 5.0)
        assert play.state is State.CLOSED
        assert play.counters.value(MALFORMED + Fault.RECEIVE_MAXIMUM) == 1

    def test_both_are_counted(self) -> None:
        made = host(STUCK)
        one = Engine(made.segment, 0)
        one.load(made.segment.policy())
        play = Playbook.opened(5, engine=one)
        play.client(publish(qos=1, version=5), publish(qos=1, packet_id=2, version=5), publish(version=5))
        play.at(5.0)
        (counts,) = made.counts(5.0)
        told = {action.name: count for action, count in counts.limited.items() if count}
        assert (counts.passed, told) == (1, {"DELAY": 2, "REJECT": 2})


class TestSeveralLimits:
    def test_a_message_waits_for_all_that_delay_it(self) -> None:
        play = opened(slow(2, 2), limit("second", DELAY, rate=rate(1, 3)))
        play.client(*numbered(8))
        assert [now for now, _ in flow(9.0, play)] == [0.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0]

    def test_none_is_charged_for_what_another_holds_back(self) -> None:
        play = opened(slow(1, 1, topic=("t",)), limit("second", DELAY, rate=rate(1, 3, 3600)))
        play.client(*numbered(2), publish("u"), publish("u", b"y"))
        assert [packet for _, packet in flow(2.0, play)] == [publish(payload=b"0"), publish("u"), publish("u", b"y")]

    def test_another_limit_may_refuse_it_when_its_turn_comes(self) -> None:
        play = opened(slow(topic=("t",)), limit("hard", REJECT, rate=rate(2, 2, 3600)), version=5)
        play.client(publish(version=5) + publish(qos=1, packet_id=7, version=5) + publish("u", version=5))
        assert play.take() == (b"", publish(version=5) + publish("u", version=5), [])
        to_client, to_broker, commands = play.at(1.1).take()
        assert acks(to_client) == [(T.PUBACK, 7, 0x97)]
        assert (to_broker, commands) == (b"", [])

    def test_or_end_the_connection(self) -> None:
        play = opened(
            slow(topic=("t",)), limit("hard", Cases(Action.DISCONNECT), rate=rate(2, 2, 3600), topic=("t", "u"))
        )
        play.client(publish() * 3 + publish("u"))
        play.take()
        play.at(1.1)
        assert play.state is State.CLOSED
        assert discarded(play) == {"ENDED": 1}

    def test_the_strictest_decides_at_once(self) -> None:
        play = opened(slow(), limit("hard", DROP, rate=rate(1)))
        play.client(publish() + publish(qos=1, packet_id=7))
        assert play.take() == (write_ack(T.PUBACK, 7), publish(), [])


class TestRedelivery:
    """QoS 2 with DUP that the broker may hold already."""

    def test_it_waits_like_any_other(self) -> None:
        play = opened(slow(), session_present=True)
        again = publish(qos=2, packet_id=7, dup=True)
        play.client(publish(), again)
        assert flow(9.0, play) == [(0.0, publish()), (1.0, again)]

    @pytest.mark.parametrize("version", [4, 5])
    def test_for_too_long_and_the_connection_is_closed(self, version: int) -> None:
        play = opened(STUCK, version=version, session_present=True)
        play.client(publish(version=version), publish(qos=2, packet_id=7, version=version, dup=True))
        play.at(5.0)
        assert play.state is State.CLOSED

    @pytest.mark.parametrize("size", [60_000, 2 * STORE])
    def test_nor_is_it_refused_for_lack_of_room_or_quota(self, size: int) -> None:
        play = opened(
            slow(1000), version=5, offered=[(P.RECEIVE_MAXIMUM, 1)], session_present=True, room={"size": 100_000}
        )
        play.client(publish(qos=1, packet_id=1, version=5), publish("u", bytes(60_000), 1, 2, 5))
        play.client(publish("v", bytes(size), 2, 3, 5, dup=True))
        play.take()
        to_client, _, commands = play.at(LONGEST_WAIT).take()
        assert dismissal(to_client).reason == ReasonCode.MESSAGE_RATE_TOO_HIGH
        assert "end" in commands


class TestNotices:
    def test_one_who_asks_is_told_of_a_delay(self) -> None:
        play = opened(slow())
        play.client(Subscribe(5, [Subscription("$tidegate/throttle", 0)]).write(4) + publish())
        play.take()
        to_client = play.client(publish() * 2).take()[0]
        assert b'{"limit": "slow", "action": "delay", "topic": "t", "retry_after_ms": 1001' in to_client
        assert to_client.count(b"$tidegate/throttle") == 1


class TestReload:
    def scene(self, *limits: Limit) -> tuple[Playbook, Callable[..., None]]:
        made = host(*limits)
        one = Engine(made.segment, 0)
        one.load(made.segment.policy())

        def reload(*limits: Limit) -> None:
            made.replace(Policy(limits=limits))
            one.load(made.segment.policy())

        return Playbook.opened(engine=one), reload

    def test_what_is_held_keeps_its_order_and_passes_when_it_may(self) -> None:
        play, reload = self.scene(slow(2))
        play.client(*numbered(5))
        reload(slow(1))
        play.now = 0.1
        play.client(publish(payload=b"5"))
        assert [packet for _, packet in flow(9.0, play)] == numbered(6)

    def test_without_the_limit_it_passes_in_the_end(self) -> None:
        play, reload = self.scene(STUCK)
        play.client(*numbered(3))
        reload()
        assert [packet for _, packet in flow(5.0, play)] == numbered(3)

    def test_of_another_limit_it_gets_what_that_says(self) -> None:
        play, reload = self.scene(slow())
        play.client(publish() + publish(qos=1, packet_id=7))
        reload(limit("other", DROP, rate=rate(1, 1, 3600)))
        play.client(publish("u"))
        play.take()
        assert play.at(1.1).take() == (write_ack(T.PUBACK, 7), b"", [])


class TestGauges:
    def test_in_flight_towards_the_broker(self) -> None:
        play = opened(slow(2))
        value = play.counters.value
        play.client(publish() + publish(qos=1, packet_id=1) + publish(qos=1, packet_id=2) + publish(qos=2, packet_id=3))
        assert (value(INFLIGHT_FROM_CLIENT), value(HELD_MESSAGES)) == (1, 2)
        play.at(1.1)
        assert (value(INFLIGHT_FROM_CLIENT), value(HELD_MESSAGES)) == (3, 0)
        for wire, left in (
            (write_ack(T.PUBACK, 1) + write_ack(T.PUBACK, 2), 1),
            (write_ack(T.PUBREC, 3), 1),
            (write_ack(T.PUBCOMP, 3), 0),
            (write_ack(T.PUBCOMP, 3), 0),
        ):
            play.broker(wire)
            assert value(INFLIGHT_FROM_CLIENT) == left

    def test_in_flight_towards_the_client(self) -> None:
        play = opened(version=5)
        value = play.counters.value
        play.broker(*(publish(qos=qos, packet_id=1 + n, version=5) for n, qos in enumerate((0, 1, 2, 2))))
        assert value(INFLIGHT_FROM_BROKER) == 3
        for wire, left in (
            (write_ack(T.PUBACK, 2), 2),
            (write_ack(T.PUBREC, 3), 2),
            (write_ack(T.PUBCOMP, 3), 1),
            (write_ack(T.PUBREC, 4, 0x80), 0),
        ):
            play.client(wire)
            assert value(INFLIGHT_FROM_BROKER) == left

    def test_those_of_a_connection_that_ends_are_over(self) -> None:
        play = opened(slow(2))
        play.client(publish(qos=1) + publish(qos=1, packet_id=2) * 2)
        play.broker(publish(qos=1))
        play.connection.client_closed()
        gauges = (INFLIGHT_FROM_CLIENT, INFLIGHT_FROM_BROKER, HELD_MESSAGES, HOLD_BYTES)
        assert [play.counters.value(gauge) for gauge in gauges] == [0, 0, 0, 0]

    def test_how_long_they_were_held(self) -> None:
        play = opened(slow())
        play.client(publish() * 3)
        play.at(1.5).at(2.5)
        count, microseconds, *buckets = [play.counters.value(DELAYS + 2 + n) for n in range(2 + len(DELAY_BOUNDS))]
        assert (count, microseconds // 1000) == (2, 4000)
        assert {bound: n for bound, n in zip(DELAY_BOUNDS, buckets, strict=True) if n} == {2.5: 2}
