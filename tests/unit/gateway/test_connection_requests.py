"""SUBSCRIBE and UNSUBSCRIBE that have to wait: for a limit, behind one another, for the broker; and how that ends."""

import json

import pytest

from support.held import ALL, LEAVE, dismissal, due, flow, slow
from support.limits import engine, host, rate
from support.playbook import Playbook, publish, waiting_room
from support.subscribing import (
    filters,
    granted,
    on_subscribe,
    parting,
    reason_of,
    released,
    request,
    sent,
    suback,
    taken,
)
from support.wire import split
from tidegate.engine.binding import TALLIES, Engine
from tidegate.engine.counters import DELAYS, HELD_MESSAGES, HOLD_BYTES
from tidegate.gateway.answers import MOST_AWAITED
from tidegate.gateway.connection import STORE
from tidegate.gateway.requests import OVERHEAD
from tidegate.gateway.states import State
from tidegate.gateway.waiting import NEVER
from tidegate.mqtt.reasons import ReasonCode
from tidegate.mqtt.session import PINGREQ
from tidegate.mqtt.subscribe import Subscribe, Unsubscribe
from tidegate.policy.model import Action, ByClass, Limit, Policy

A = Action
PACED = on_subscribe(on_excess=A.DELAY, rate=rate(1))
"""One subscription each second."""
STUCK = on_subscribe(on_excess=A.DELAY, rate=rate(1, 1, 3600))
"""One; the others wait as long as they may: five seconds."""
ONE_HELD = on_subscribe(on_excess=A.DELAY, concurrent=ByClass(1), per=ALL)


def opened(*limits: Limit, version: int = 5, room: dict[str, int] | None = None, **other: object) -> Playbook:
    """A client under these limits; `room`: the bounds of what may wait."""
    play = Playbook.opened(version, engine=engine(*limits), **other)  # type: ignore[arg-type]
    if room is not None:
        assert play.waiting is not None
        waiting = waiting_room(play.waiting.engine, play.counters, **room)
        play = Playbook.opened(version, engine=waiting.engine, waiting=waiting, **other)  # type: ignore[arg-type]
    return play


def waits(play: Playbook) -> tuple[int, int]:
    """Messages and bytes that wait in the worker."""
    assert play.waiting is not None
    return play.waiting.messages, play.waiting.bytes


def asked(play: Playbook, until: float) -> list[tuple[float, list[str]]]:
    """The filters of each request that the broker gets until then, with the second."""
    return [(at, filters(packet)) for at, packet in flow(until, play)]


class TestTheWholePacketWaits:
    def test_until_its_last_filter_may_pass(self) -> None:
        play = opened(PACED).client(request("a", "b", "c"))
        assert asked(play, 9.0) == [(2.0, ["a", "b", "c"])]
        answer = granted(0, 1, 2)
        play.connection.broker_bytes(answer, 9.0)
        assert play.connection.to_client[0] is answer

    def test_it_is_the_packet_that_came(self) -> None:
        play = opened(PACED).client(request("a", "b", qos=2))
        assert [packet for _, packet in flow(9.0, play)] == [request("a", "b", qos=2)]

    def test_what_is_refused_meanwhile_is_left_out(self) -> None:
        play = opened(PACED, on_subscribe("deep", depth=ByClass(1)), on_subscribe("low", max_qos=ByClass(1)))
        play.client(request("a", "b/c", "d", qos=2))
        (only,) = flow(9.0, play)
        assert only == (1.0, request("a", "d", qos=1))
        assert suback(play.broker(granted(1, 1)).take()[0]).reasons == [1, 0x97, 1]

    def test_those_behind_it_keep_their_order_and_nothing_else_waits(self) -> None:
        play = opened(PACED).client(request("a"), request("b", packet_id=2), parting("b", packet_id=3))
        play.client(request("c", packet_id=4), publish(version=5) + PINGREQ)
        got = flow(9.0, play)
        assert [at for at, _ in got] == [0.0, 0.0, 0.0, 1.0, 1.0, 2.0]
        assert b"".join(packet for _, packet in got) == (
            request("a")
            + publish(version=5)
            + PINGREQ
            + request("b", packet_id=2)
            + parting("b", packet_id=3)
            + request("c", packet_id=4)
        )

    def test_one_behind_it_that_no_limit_concerns_waits_too(self) -> None:
        play = opened(on_subscribe(on_excess=A.DELAY, rate=rate(1), topic=("a/#",)))
        play.client(request("a/1", "a/2"), request("b", packet_id=2))
        assert asked(play, 9.0) == [(1.0, ["a/1", "a/2"]), (1.0, ["b"])]

    def test_with_another_policy_it_goes_on_at_once(self) -> None:
        made = host(STUCK)
        one = Engine(made.segment, 0)
        one.load(made.segment.policy())
        play = Playbook.opened(5, engine=one).client(request("a", "b"), request("c", packet_id=2))
        made.replace(Policy())
        one.load(made.segment.policy())
        assert play.waiting is not None
        play.waiting.reconsider(0.5)
        play.at(0.5)
        assert filters(play.take()[1]) == ["a", "b", "c"]
        assert due(play) == NEVER

    def test_the_time_is_counted_for_each_filter(self) -> None:
        play = opened(PACED).client(request("a", "b", "c"))
        flow(9.0, play)
        assert [play.counters.value(DELAYS + 2 + n) for n in range(2)] == [2, 3_000_000]

    def test_a_limit_counts_each_filter_once(self) -> None:
        made = host(PACED)
        one = Engine(made.segment, 0)
        one.load(made.segment.policy())
        play = Playbook.opened(5, engine=one).client(request(*"abcdefgh"))
        flow(9.0, play)
        assert dict(zip(TALLIES, made.segment.tallies(0), strict=True)) == dict.fromkeys(TALLIES, 0) | {
            "passed": 6,
            "delay": 7,
            "reject": 2,
        }

    def test_it_is_counted_among_what_is_held(self) -> None:
        play = opened(PACED).client(request("a"), request("b"), request("c"))
        assert play.counters.value(HELD_MESSAGES) == 2
        assert play.counters.value(HOLD_BYTES) > 2 * OVERHEAD
        flow(9.0, play)
        assert (play.counters.value(HELD_MESSAGES), play.counters.value(HOLD_BYTES)) == (0, 0)

    def test_one_who_asks_has_a_notice(self) -> None:
        play = opened(PACED).client(request("$tidegate/throttle"), request("a"))
        play.take()
        to_client = play.client(request("b")).take()[0]
        told = json.loads(to_client[to_client.index(b"{") :])
        assert (told["action"], told["topic"], told["retry_after_ms"]) == ("delay", "b", 1001)


class TestTooLong:
    @pytest.mark.parametrize(("version", "reason"), [(4, 0x80), (5, 0x97)])
    def test_the_filters_that_are_left_are_refused(self, version: int, reason: int) -> None:
        play = opened(PACED, version=version)
        play.client(request(*"abcdefgh", version=version))
        assert asked(play, 4.99) == []
        play.at(5.0)
        assert filters(play.take()[1], version) == list("abcdef")
        play.broker(granted(*[0] * 6, version=version))
        assert suback(play.take()[0], version).reasons == [0] * 6 + [reason] * 2

    def test_but_not_those_that_may_pass_even_now(self) -> None:
        play = opened(on_subscribe(on_excess=A.DELAY, rate=rate(1, 1, 3600), topic=("a/#",)))
        play.client(request("a/1", "a/2", "b", "a/3", "c"))
        assert asked(play, 9.0) == [(5.0, ["a/1", "b", "c"])]
        told = suback(play.broker(granted(0, 0, 0)).take()[0])
        assert told.reasons == [0, 0x97, 0, 0x97, 0]
        assert reason_of(told) == ("over limit some: retry in 3595001 ms", "3595001")

    def test_all_refused_the_client_is_answered_and_the_next_has_its_turn(self) -> None:
        play = opened(STUCK).client(request("a"))
        play.take()
        play.client(request("b", packet_id=2), parting("a", packet_id=3))
        play.at(5.0)
        to_client, to_broker, _ = play.take()
        assert (suback(to_client).packet_id, suback(to_client).reasons) == (2, [0x97])
        assert to_broker == parting("a", packet_id=3)

    def test_those_behind_have_waited_as_long(self) -> None:
        play = opened(STUCK).client(request("a"), request("b", packet_id=2))
        play.at(1.0).client(request("c", packet_id=3))
        play.take()
        assert len(list(split(play.at(5.99).take()[0]))) == 1
        assert suback(play.at(6.0).take()[0]).packet_id == 3

    def test_3_1_is_closed(self) -> None:
        play = opened(STUCK, version=3).client(request("a", "b", version=3))
        assert play.at(5.0).take() == (b"", b"", ["end"])

    def test_then_may_be_the_end(self) -> None:
        play = opened(on_subscribe(on_excess=A.DELAY, then=A.DISCONNECT, rate=rate(1, 1, 3600), max_delay=2.0))
        play.client(request("a", "b"))
        to_client, _, commands = play.at(2.0).take()
        assert dismissal(to_client).reason == ReasonCode.MESSAGE_RATE_TOO_HIGH
        assert (commands, waits(play)) == (["end"], (0, 0))


class TestTurns:
    def test_two_clients_take_turns_filter_by_filter(self) -> None:
        first = opened(on_subscribe(on_excess=A.DELAY, rate=rate(1), per=ALL, max_delay=60.0))
        assert first.waiting is not None
        second = Playbook.opened(5, engine=first.waiting.engine, waiting=first.waiting, client_id="d", address=bytes(4))
        first.client(request(*(f"a/{n}" for n in range(20))), request("z", packet_id=2))
        second.client(request("b/1", "b/2"))
        got = []
        for now in range(1, 30):
            first.at(float(now))
            second.at(float(now))
            got += [(now, filters(packet)[0]) for packet in split(first.take()[1] + second.take()[1])]
        assert got == [(4, "b/1"), (21, "a/0"), (22, "z")]

    def test_where_there_is_enough_for_two_each_has_one(self) -> None:
        first = opened(on_subscribe(on_excess=A.DELAY, rate=rate(2), per=ALL)).client(request("x", "y"))
        assert first.waiting is not None
        second = Playbook.opened(5, engine=first.waiting.engine, waiting=first.waiting, client_id="d", address=bytes(4))
        first.client(request("a", "b")).take()
        second.client(request("c"))
        first.waiting.run(1.0)
        assert (filters(first.take()[1]), filters(second.take()[1])) == ([], ["c"])
        first.waiting.run(1.6)
        assert filters(first.take()[1]) == ["a", "b"]

    def test_who_waits_for_a_rate_and_then_for_a_place_is_woken_by_that(self) -> None:
        first = opened(PACED, on_subscribe("held", A.DELAY, concurrent=ByClass(1), per=ALL, topic=("w/#",)))
        assert first.waiting is not None
        first.client(request("w/0")).broker(granted(0))
        second = Playbook.opened(5, engine=first.waiting.engine, waiting=first.waiting, client_id="d")
        second.client(request("a", "b", "w/1"))
        assert asked(second, 2.4) == []
        first.now = 2.4
        first.client(parting("w/0")).broker(released(0))
        assert filters(second.at(2.4).take()[1]) == ["a", "b", "w/1"]

    def test_who_comes_later_does_not_overtake(self) -> None:
        first = opened(on_subscribe(on_excess=A.DELAY, rate=rate(1), per=ALL))
        assert first.waiting is not None
        second = Playbook.opened(5, engine=first.waiting.engine, waiting=first.waiting, client_id="d")
        first.client(request("a", "b"))
        second.now = 1.0
        assert filters(second.client(request("c")).take()[1]) == []
        first.at(1.0)
        second.at(1.0)
        assert (filters(first.take()[1]), filters(second.take()[1])) == (["a", "b"], [])

    def test_a_place_that_is_given_back_goes_to_the_one_who_waits(self) -> None:
        first = opened(ONE_HELD).client(request("a")).broker(granted(0))
        assert first.waiting is not None
        second = Playbook.opened(5, engine=first.waiting.engine, waiting=first.waiting, client_id="d")
        second.client(request("b"))
        first.client(parting("a")).at(1.0)
        assert second.at(1.0).take()[1] == b""
        first.broker(released(0))
        assert filters(second.at(1.0).take()[1]) == ["b"]

    def test_it_may_wait_for_one_thing_after_another(self) -> None:
        play = opened(
            on_subscribe("all", A.DELAY, rate=rate(1), per=ALL), on_subscribe("own", A.DELAY, rate=rate(1, 2, 2))
        )
        play.client(request("a", "b", "c"))
        assert asked(play, 9.0) == [(2.0, ["a", "b", "c"])]
        assert due(play) == NEVER


class TestForTheBroker:
    """Nothing is written to it that it does not take, nor inside a message of the client's."""

    def test_which_does_not_take_what_is_written(self) -> None:
        play = opened(PACED).client(request("a", "b"))
        play.connection.upstream_takes(False, 0.0)
        assert asked(play, 3.0) == []
        play.connection.upstream_takes(True, 3.0)
        assert filters(play.take()[1]) == ["a", "b"]
        assert due(play.at(5.0)) == NEVER

    def test_inside_a_large_message(self) -> None:
        play = opened(PACED).client(request("a", "b"))
        play.take()
        large = publish(payload=bytes(3 * STORE), version=5)
        play.client(large[:STORE])
        play.take()
        assert asked(play, 3.0) == []
        play.client(large[STORE:] + PINGREQ)
        assert play.take()[1] == large[STORE:] + request("a", "b") + PINGREQ

    def test_too_late_it_is_told_when_it_can_be(self) -> None:
        play = opened(STUCK).client(request("a", "b", "c"))
        play.connection.upstream_takes(False, 0.0)
        assert play.at(7.0).take()[:2] == (b"", b"")
        assert due(play) == NEVER
        play.connection.upstream_takes(True, 8.0)
        assert filters(play.take()[1]) == ["a"]
        assert suback(play.broker(granted(0)).take()[0]).reasons == [0, 0x97, 0x97]

    def test_which_owes_many_answers(self) -> None:
        play = opened(on_subscribe(concurrent=ByClass(2 * MOST_AWAITED)))
        names = [str(number) for number in range(MOST_AWAITED // 2)]
        play.client(*(request(*(f"{n}/{name}" for name in names), packet_id=1 + n) for n in range(3)))
        play.client(parting("0/0", packet_id=9), publish(version=5))
        first, second, third = sent(play.take()[1])
        assert isinstance(first, Subscribe)
        assert isinstance(second, Subscribe)
        assert third == publish(version=5)
        play.broker(granted(*[0] * len(names), packet_id=2))
        (third,) = sent(play.take()[1])
        assert isinstance(third, Subscribe)
        assert third.packet_id == 3
        play.broker(granted(*[0] * len(names)))
        assert sent(play.take()[1]) == [Unsubscribe(9, ["0/0"])]
        assert waits(play) == (0, 0)


class TestBounded:
    def test_in_number(self) -> None:
        play = opened(STUCK, room={"messages": 2}).client(request("a"))
        play.take()
        play.client(*(request("b", "c", packet_id=n) for n in (2, 3, 4)))
        told = suback(play.take()[0])
        assert (told.packet_id, told.reasons) == (4, [0x97, 0x97])
        assert reason_of(told) == ("too many requests wait already", None)
        assert waits(play)[0] == 2

    def test_in_bytes(self) -> None:
        play = opened(STUCK, room={"size": 3000}, version=4).client(request("a", version=4))
        play.take()
        for number in range(2, 9):
            play.client(request("b" * 500, packet_id=number, version=4))
        assert [suback(one, 4).packet_id for one in split(play.take()[0])] == [4, 5, 6, 7, 8]
        assert waits(play)[1] <= 3000

    def test_what_has_gone_on_makes_room(self) -> None:
        play = opened(PACED, room={"size": 2000}).client(request("a"))
        for second in range(1, 2000):
            play.client(request("b"))
            assert len(flow(float(second), play)) >= 1
        assert play.take()[0] == b""

    def test_one_that_is_too_large_to_wait_gets_then_at_once(self) -> None:
        play = opened(STUCK, room={"size": 1000})
        play.client(request("a", "b", "c", "d"))
        assert play.take()[1] == request("a")
        assert suback(play.broker(granted(0)).take()[0]).reasons == [0, 0x97, 0x97, 0x97]

    @pytest.mark.parametrize(("version", "wire"), [(3, request("c", version=3)), (5, parting("c"))])
    def test_what_cannot_be_refused_is_the_end(self, version: int, wire: bytes) -> None:
        play = opened(STUCK, room={"messages": 1}, version=version)
        play.client(request("a", version=version), request("b", version=version))
        play.take()
        to_client, _, commands = play.client(wire).take()
        assert commands == ["end"]
        assert version == 3 or dismissal(to_client).reason == ReasonCode.QUOTA_EXCEEDED
        assert waits(play) == (0, 0)

    def test_when_the_worker_is_full_who_has_most_waiting_is_closed(self) -> None:
        first = opened(STUCK, slow(period=3600), room={"pool": 10_000})
        assert first.waiting is not None
        first.client(publish(version=5) * 2, request("a"), request("b", "c"), request(*(["d"] * 20)))
        second = Playbook.opened(5, engine=first.waiting.engine, waiting=first.waiting, client_id="d", address=bytes(4))
        second.client(request("a"), request("b"))
        assert (first.state, second.state) == (State.OPEN, State.OPEN)
        second.client(request(*(["d"] * 30), packet_id=7))
        assert (first.state, second.state) == (State.OPEN, State.CLOSED)
        assert waits(second)[0] == 3
        first.connection.client_closed()
        assert waits(first) == (0, 0)

    def test_its_own_may_be_the_most(self) -> None:
        play = opened(STUCK, room={"pool": 2000}).client(request("a"))
        play.take()
        to_client, _, commands = play.client(request("b", *"cdefghijk")).take()
        assert dismissal(to_client).reason == ReasonCode.QUOTA_EXCEEDED
        assert (commands, waits(play), due(play)) == (["end"], (0, 0), NEVER)


class TestTheEnd:
    @pytest.mark.parametrize("how", ["gone", "left", "leaves", "broker", "shutdown"])
    def test_what_waits_is_given_up_and_its_places_are_free(self, how: str) -> None:
        play = opened(
            on_subscribe("held", concurrent=ByClass(3), per=ALL),
            on_subscribe(on_excess=A.DELAY, rate=rate(2, 2, 3600), topic=("a/#",)),
            slow(1, 1, 3600),
        )
        play.client(request("a/1"), request("a/2", "a/3"), parting("a/1"), publish(version=5))
        assert taken(play, of=3) == 2
        play.take()
        if how == "gone":
            play.connection.client_closed()
        elif how == "leaves":
            play.client(publish(version=5) + LEAVE)
            assert play.state is State.EMPTYING
        elif how == "left":
            play.client(LEAVE)
        elif how == "shutdown":
            play.connection.shut_down()
        else:
            play.connection.broker_closed(False)
        if how != "broker":
            assert taken(play, of=3) == 1, "what the broker has not seen"
        if how == "leaves":
            assert waits(play)[0] == 1
            play.at(9.0)
            assert filters(play.take()[1]) == []
        play.connection.broker_closed(False)
        assert taken(play, of=3) == 0
        assert waits(play) == (0, 0)
        assert due(play) == NEVER

    def test_one_that_ends_in_its_turn_leaves_nothing(self) -> None:
        play = opened(PACED, on_subscribe("deep", A.DISCONNECT, depth=ByClass(1)))
        play.client(request("a", "b", "c/d"))
        play.at(1.0)
        assert play.state is State.CLOSED
        assert (waits(play), due(play)) == ((0, 0), NEVER)
