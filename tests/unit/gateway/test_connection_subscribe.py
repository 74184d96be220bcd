"""Limits on subscribing, up to the broker's answer. What has to wait is in test_connection_requests.py."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from support.held import ALL, LEAVE, dismissal
from support.limits import engine, host, limit, rate
from support.playbook import ADDRESS, Playbook, connack, connect, door_of, publish, waiting_room
from support.subscribing import (
    QUOTA,
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
from tidegate.engine.binding import Engine
from tidegate.engine.counters import ROW_WORDS, Counters
from tidegate.gateway import connection
from tidegate.gateway.admission import Door
from tidegate.gateway.bans import Bans
from tidegate.gateway.connection import MOST_AT_ONCE
from tidegate.gateway.exchange import MOST_TOLD
from tidegate.gateway.states import State
from tidegate.gateway.waiting_room import WaitingRoom
from tidegate.mqtt.properties import PropertyId
from tidegate.mqtt.reasons import ReasonCode
from tidegate.mqtt.session import PINGREQ
from tidegate.mqtt.subscribe import Subscribe, Subscription, Unsubscribe
from tidegate.policy.model import Action, ByClass, Cases, Event, Limit, Policy

P = PropertyId
A = Action
THROTTLE = "$tidegate/throttle"

ONE = on_subscribe(rate=rate(1, 1, 3600))
"""One subscription an hour."""
TWO_HELD = on_subscribe(concurrent=ByClass(2), per=ALL)


def opened(*limits: Limit, version: int = 5, **other: object) -> Playbook:
    return Playbook.opened(version, engine=engine(*limits), **other)  # type: ignore[arg-type]


class TestWithinLimits:
    @pytest.mark.parametrize("version", [3, 4, 5])
    def test_the_very_packet_goes_on_and_so_does_its_answer(self, version: int) -> None:
        play = opened(on_subscribe(rate=rate(5)), TWO_HELD, version=version)
        wire = publish(version=version) + request("a", "b/#", version=version, qos=2) + PINGREQ
        play.connection.client_bytes(wire, 0.0)
        assert len(play.connection.to_broker) == 1, "one piece, as it was read"
        assert play.connection.to_broker[0] is wire
        play.take()
        answer = granted(2, 1, version=version)
        play.connection.broker_bytes(answer, 0.0)
        assert play.connection.to_client[0] is answer

    def test_who_meets_no_limit_costs_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        play = opened(limit("other", rate=rate(1)), on_subscribe("others'", concurrent=ByClass(1), not_classes=()))
        monkeypatch.setattr(connection, "Requests", None)
        plain = opened(limit("other", rate=rate(1)))
        plain.client(request("a", "b"), parting("a")).broker(granted(0, 0), released(0))
        assert plain.take() == (granted(0, 0) + released(0), request("a", "b") + parting("a"), [])
        with pytest.raises(TypeError):
            play.client(request("a"))


class TestRejected:
    def test_the_broker_gets_the_other_filters_and_each_has_its_reason_in_its_place(self) -> None:
        play = opened(on_subscribe(rate=rate(1, 1, 3600), topic=("a/#",)))
        play.client(request("a/1", "b", "a/2", "c", "a/3", qos=1))
        assert play.take() == (b"", request("a/1", "b", "c", qos=1), [])
        play.broker(granted(1, 0x87, 0))
        assert suback(play.take()[0]).reasons == [1, 0x87, 0x97, 0, 0x97]

    def test_v5_is_told_which_limit_and_when_to_come_back(self) -> None:
        play = opened(ONE)
        play.client(request("a", "b"))
        play.broker(granted(0))
        told = suback(play.take()[0])
        assert reason_of(told) == ("over limit some: retry in 3600001 ms", "3600001")

    def test_3_1_1_has_one_code_for_it(self) -> None:
        play = opened(ONE, version=4)
        play.client(request("a", "b", version=4))
        assert play.take()[1] == request("a", version=4)
        assert play.broker(granted(0, version=4)).take()[0] == granted(0, 0x80, version=4)

    def test_3_1_has_none_and_is_closed(self) -> None:
        play = opened(ONE, version=3)
        play.client(request("a", version=3) + publish(version=3) + request("b", version=3) + PINGREQ)
        assert play.take() == (b"", request("a", version=3) + publish(version=3), ["end"])

    @pytest.mark.parametrize(("version", "reason"), [(4, 0x80), (5, 0x97)])
    def test_of_none_that_pass_the_broker_hears_nothing(self, version: int, reason: int) -> None:
        play = opened(ONE, version=version).client(request("a", version=version))
        play.take()
        play.client(publish(version=version) + request("b", "c", packet_id=9, version=version) + PINGREQ)
        to_client, to_broker, _ = play.take()
        told = suback(to_client, version)
        assert (told.packet_id, told.reasons) == (9, [reason, reason])
        assert to_broker == publish(version=version) + PINGREQ

    @pytest.mark.parametrize("action", [A.REJECT, A.DELAY])
    @pytest.mark.parametrize(
        ("measure", "filters", "reasons"),
        [
            ({"depth": ByClass(2)}, ["a/b", "a/b/c", "a/#", "a/b/#", "$share/g/a/b"], [0, 0x97, 0, 0x97, 0]),
            ({"leading_wildcard": False}, ["#", "+/a", "a/#", "$share/g/#", "$share/g/a"], [0x97, 0x97, 0, 0x97, 0]),
        ],
    )
    def test_for_the_form_of_a_filter_no_wait_will_help(
        self, action: Action, measure: dict[str, Any], filters: list[str], reasons: list[int]
    ) -> None:
        play = opened(on_subscribe(on_excess=action, **measure))
        play.client(request(*filters))
        play.broker(granted(*(one for one in reasons if not one)))
        told = suback(play.take()[0])
        assert told.reasons == reasons
        assert reason_of(told) == ("over limit some: no such topic filter may be subscribed to", None)

    def test_the_reason_is_that_of_the_first(self) -> None:
        play = opened(on_subscribe("deep", depth=ByClass(1)), ONE)
        play.client(request("a", "b", "a/b"))
        play.broker(granted(0))
        assert reason_of(suback(play.take()[0])) == ("over limit some: retry in 3600001 ms", "3600001")

    def test_what_the_broker_says_of_the_others_stays(self) -> None:
        play = opened(ONE)
        play.client(request("a", "b"))
        own = [(P.REASON_STRING, "mine"), (P.USER_PROPERTY, ("k", "v"))]
        play.broker(granted(0, properties=own))  # type: ignore[arg-type]
        told = suback(play.take()[0])
        assert told.properties == [*own, (P.USER_PROPERTY, ("retry-after-ms", "3600001"))]

    def test_who_wants_no_reasons_has_none(self) -> None:
        play = opened(ONE, properties=[(P.REQUEST_PROBLEM_INFORMATION, 0)])
        play.client(request("a", "b"))
        assert play.broker(granted(0)).take()[0] == granted(0, 0x97)
        assert play.client(request("c")).take()[0] == granted(0x97)

    @pytest.mark.parametrize(
        ("most", "has"), [(72, (True, True)), (71, (False, True)), (33, (False, True)), (32, (False, False))]
    )
    def test_what_the_client_does_not_take_is_left_out(self, most: int, has: tuple[bool, bool]) -> None:
        play = opened(ONE, properties=[(P.MAXIMUM_PACKET_SIZE, most)])
        play.client(request("a", "b"))
        wire = play.broker(granted(0)).take()[0]
        assert len(wire) <= most
        assert suback(wire).reasons == [0, 0x97]
        assert tuple(one is not None for one in reason_of(suback(wire))) == has

    def test_an_answer_that_is_too_large_even_so_is_not_sent(self) -> None:
        play = opened(ONE, properties=[(P.MAXIMUM_PACKET_SIZE, 10)])
        play.client(request(*"abcdefgh"))
        assert play.broker(granted(0) + PINGREQ).take()[0] == PINGREQ

    def test_in_a_flood_the_hundredth_answer_and_those_behind_it_are_bare(self) -> None:
        play = opened(ONE).client(request("a"))
        play.take()
        for number in range(MOST_TOLD + 1):
            play.connection.client_bytes(request("b", packet_id=1 + number), 0.0)
        *reasons, last = play.connection.to_client
        assert all(reason_of(suback(one))[0] for one in reasons)
        assert last == granted(0x97, packet_id=1 + MOST_TOLD)

    def test_many_requests_of_one_read_leave_others_their_turn(self) -> None:
        play = opened(ONE)
        play.connection.client_bytes(b"".join(request("b", packet_id=1 + n) for n in range(200)), 0.0)
        assert len(play.connection.to_client) < MOST_AT_ONCE
        play.flush()
        assert len(play.connection.to_client) == 199

    @pytest.mark.parametrize("version", [4, 5])
    def test_one_who_asks_has_a_notice(self, version: int) -> None:
        play = opened(ONE, version=version).client(request(THROTTLE, "a", version=version))
        play.broker(granted(0, version=version)).take()
        to_client = play.client(request("b/+", "c", version=version)).take()[0]
        end = to_client.index(b"}") + 1
        told = json.loads(to_client[to_client.index(b"{") : end])
        assert told == {
            "limit": "some",
            "action": "reject",
            "topic": "b/+",
            "retry_after_ms": 3_600_001,
            "messages": 1,
        }
        assert len(suback(to_client[end:], version).reasons) == 2


class TestQos:
    @pytest.mark.parametrize("version", [3, 4, 5])
    def test_it_is_lowered_and_the_broker_says_so(self, version: int) -> None:
        play = opened(on_subscribe(max_qos=ByClass(1), topic=("a/#",)), version=version)
        options = 0b10_1110 if version == 5 else 2
        asked = [Subscription("a/1", options), Subscription("b", 2), Subscription("a/2", 1), Subscription("a/3", 0)]
        play.client(Subscribe(7, asked).write(version))
        (got,) = sent(play.take()[1], version)
        assert isinstance(got, Subscribe)
        assert got.subscriptions == [Subscription("a/1", options - 1), *asked[1:]]
        answer = granted(1, 2, 1, 0, packet_id=7, version=version)
        play.connection.broker_bytes(answer, 0.0)
        assert play.connection.to_client[0] is answer

    def test_the_properties_of_the_packet_stay(self) -> None:
        play = opened(on_subscribe(max_qos=ByClass(0)))
        said = Subscribe(7, [Subscription("a", 1)], [(P.SUBSCRIPTION_IDENTIFIER, 5), (P.USER_PROPERTY, ("k", "v"))])
        play.client(said.write(5))
        assert play.take()[1] == Subscribe(7, [Subscription("a", 0)], said.properties).write(5)


class TestDisconnected:
    @pytest.mark.parametrize(
        ("measure", "reason"),
        [
            ({"rate": rate(1, 1, 3600)}, ReasonCode.MESSAGE_RATE_TOO_HIGH),
            ({"concurrent": ByClass(1)}, ReasonCode.QUOTA_EXCEEDED),
            ({"depth": ByClass(1), "rate": rate(9)}, ReasonCode.QUOTA_EXCEEDED),
        ],
    )
    def test_with_the_reason(self, measure: dict[str, Any], reason: ReasonCode) -> None:
        play = opened(on_subscribe(on_excess=A.DISCONNECT, **measure))
        play.client(request("a") + publish(version=5) + request("b/c") + PINGREQ)
        to_client, to_broker, commands = play.take()
        assert dismissal(to_client).reason == reason
        assert "over limit some" in str(dismissal(to_client).properties)
        assert to_broker == request("a") + publish(version=5)
        assert (commands, play.state) == (["end"], State.CLOSED)

    def test_v3_is_closed(self) -> None:
        play = opened(on_subscribe(on_excess=A.DISCONNECT, rate=rate(1, 1, 3600)), version=4)
        assert play.client(request("a", "b", version=4)).take() == (b"", b"", ["end"])

    def test_a_ban_is_reported(self) -> None:
        one = engine(on_subscribe(on_excess=A.BAN, rate=rate(1, 1, 3600)))
        waiting = waiting_room(one, Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0))
        told: list[tuple[object, ...]] = []
        door = Door(waiting, Bans(), WaitingRoom(9, waiting.counters), lambda *offence: told.append(offence))
        play = Playbook(engine=one, waiting=waiting, door=door).client(connect(5)).upstream().broker(connack(5))
        play.client(request("a", "b"))
        assert told == [("some", "c", None, ADDRESS)]
        assert play.state is State.CLOSED

    def test_one_that_observes_changes_nothing(self) -> None:
        play = opened(on_subscribe(on_excess=A.OBSERVE, rate=rate(1, 1, 3600), depth=ByClass(1)))
        play.client(request("a", "b/c"))
        assert play.take()[1] == request("a", "b/c")


class TestHeld:
    """`concurrent`: subscriptions that clients have."""

    def test_beyond_it_they_are_refused(self) -> None:
        play = opened(TWO_HELD)
        play.client(request("a", "b", "c"))
        assert filters(play.take()[1]) == ["a", "b"]
        play.broker(granted(0, 0))
        told = suback(play.take()[0])
        assert told.reasons == [0, 0, 0x97]
        assert reason_of(told) == ("over limit some: too many subscriptions", None)

    def test_a_repeated_one_is_none_more(self) -> None:
        play = opened(TWO_HELD)
        play.client(request("a", "b", "a"), request("b"), request("a", "c"))
        assert filters(play.take()[1]) == ["a", "b", "a", "b", "a"]

    @pytest.mark.parametrize("long", [False, True])
    def test_unsubscribed_it_counts_until_the_broker_has_said_so(self, long: bool) -> None:
        a, b = ("a" * 1000, "b" * 1000) if long else ("a", "b")
        play = opened(TWO_HELD).client(request(a, b)).broker(granted(0, 0))
        play.client(parting(a))
        play.take()
        assert filters(play.client(request("c")).take()[1]) == []
        answer = released(0)
        play.connection.broker_bytes(answer, 0.0)
        assert play.connection.to_client.pop() is answer
        assert filters(play.client(request("c", "d")).take()[1]) == ["c"]

    def test_what_the_broker_refuses_counts_no_longer(self) -> None:
        play = opened(TWO_HELD).client(request("a", "b"))
        assert taken(play, of=2) == 2
        play.broker(granted(0x87, 0))
        assert taken(play, of=2) == 1

    def test_what_the_broker_refuses_to_end_counts_on(self) -> None:
        play = opened(TWO_HELD).client(request("a")).broker(granted(0)).client(parting("a"))
        play.broker(released(0x87))
        assert taken(play, of=2) == 1

    @pytest.mark.parametrize("version", [3, 4])
    def test_3_x_is_told_less(self, version: int) -> None:
        play = opened(TWO_HELD, version=version).client(request("a", "b", version=version))
        play.broker(granted(0, 0 if version == 3 else 0x80, version=version))
        assert taken(play, of=2) == (2 if version == 3 else 1)
        play.client(parting("a", version=version)).broker(released(version=version))
        assert taken(play, of=2) == (1 if version == 3 else 0)

    def test_a_repeated_one_that_is_refused_leaves_what_was(self) -> None:
        play = opened(TWO_HELD).client(request("a")).broker(granted(0)).client(request("a")).broker(granted(0x87))
        assert taken(play, of=2) == 1

    def test_asked_for_again_before_the_answer_it_counts_on(self) -> None:
        play = opened(TWO_HELD).client(request("a", packet_id=1)).broker(granted(0))
        play.client(parting("a"), request("a", packet_id=3))
        play.broker(released(0))
        assert taken(play, of=2) == 1
        play.broker(granted(0x87, packet_id=3))
        assert taken(play, of=2) == 0

    def test_a_late_answer_does_not_end_a_new_one(self) -> None:
        play = opened(TWO_HELD).client(request("a"), parting("a"))
        play.broker(granted(0x87))
        play.client(request("a", packet_id=3))
        play.broker(released(0x11), granted(0, packet_id=3))
        assert taken(play, of=2) == 1
        play.connection.broker_closed(False)
        assert taken(play, of=2) == 0

    def test_one_identifier_for_all_is_answered_in_order(self) -> None:
        play = opened(TWO_HELD).client(request("a"), request("b"), parting("a", packet_id=1))
        play.broker(granted(0x87) + granted(0) + released(0, packet_id=1))
        assert taken(play, of=2) == 1

    def test_an_answer_with_too_few_reasons_gives_nothing_back(self) -> None:
        play = opened(TWO_HELD).client(request("a", "b")).broker(granted(0x87))
        assert taken(play, of=2) == 1

    @pytest.mark.parametrize("how", ["gone", "left", "broker", "shutdown"])
    def test_when_the_connection_has_ended_all_are_free(self, how: str) -> None:
        play = opened(TWO_HELD).client(request("a")).broker(granted(0)).client(request("b", packet_id=2))
        if how == "gone":
            play.connection.client_closed()
        elif how == "left":
            play.client(LEAVE)
        elif how == "shutdown":
            play.connection.shut_down()
        if how != "broker":
            assert taken(play, of=2) == 2, "the broker does not know it yet"
        play.connection.broker_closed(False)
        assert taken(play, of=2) == 0

    def test_a_request_that_is_refused_whole_takes_nothing(self) -> None:
        play = opened(TWO_HELD, on_subscribe("deep", A.DISCONNECT, depth=ByClass(2)))
        play.client(request("a", "a/b/c"))
        play.connection.broker_closed(False)
        assert taken(play, of=2) == 0

    def test_of_two_with_one_identifier_each_has_its_own_answer(self) -> None:
        play = opened(on_subscribe(concurrent=ByClass(1), topic=("counted/#",)))
        play.client(request("denied"), request("counted/1"))
        play.broker(granted(0x87), granted(0)).take()
        play.client(request("counted/2"))
        assert suback(play.take()[0]).reasons == [QUOTA]


class TestReload:
    def scene(self, *limits: Limit) -> tuple[Playbook, Callable[..., None]]:
        made = host(*limits)
        one = Engine(made.segment, 0)
        one.load(made.segment.policy())

        def reload(*limits: Limit) -> None:
            made.replace(Policy(limits=limits))
            one.load(made.segment.policy())

        return Playbook.opened(5, engine=one), reload

    def test_a_limit_that_is_new_counts_what_comes_from_then_on(self) -> None:
        play, reload = self.scene()
        play.client(request("a")).broker(granted(0))
        reload(TWO_HELD)
        play.client(request("a", "b", "c")).broker(granted(0, 0))
        assert suback(play.take()[0][len(granted(0)) :]).reasons == [0, 0, 0x97]

    def test_one_that_is_gone_refuses_nothing_any_more(self) -> None:
        play, reload = self.scene(TWO_HELD)
        play.client(request("a", "b")).broker(granted(0, 0))
        reload()
        play.take()
        play.client(request("c"), parting("a")).broker(granted(0), released(0))
        assert play.take() == (granted(0) + released(0), request("c") + parting("a"), [])
        reload(TWO_HELD)
        play.connection.broker_closed(False)
        assert taken(play, of=3) == 1, "a limit that is back begins anew: nothing is given back to it"


class TestNotices:
    """Of several filters the gateway answers `$tidegate/throttle` itself, limits or not."""

    def test_beside_refusals(self) -> None:
        play = opened(ONE)
        play.client(request("b", THROTTLE, "c"))
        assert play.take()[1] == request("b")
        assert suback(play.broker(granted(1)).take()[0]).reasons == [1, 0, 0x97]

    def test_beside_refusals_alone(self) -> None:
        play = opened(on_subscribe(depth=ByClass(1))).client(request("a/b", THROTTLE))
        assert suback(play.take()[0]).reasons == [0x97, 0]

    def test_no_limit_counts_it(self) -> None:
        play = opened(ONE, on_subscribe("deep", depth=ByClass(1)))
        play.client(request(THROTTLE), request("a"))
        assert play.take()[1] == request("a")

    def test_leaving_both(self) -> None:
        play = opened(TWO_HELD).client(request("a", THROTTLE)).broker(granted(0))
        play.take()
        play.client(parting(THROTTLE, "a", THROTTLE))
        assert play.take()[1] == Unsubscribe(2, ["a"]).write(5)
        assert play.broker(released(0)).take()[0] == released(0, 0, 0)
        assert taken(play, of=2) == 0


class TestShared:
    """What is delivered by a shared subscription is never dropped: nobody else gets it."""

    def scene(self, *more: Limit) -> Playbook:
        drop = Limit("down", Event.DELIVER, Cases(A.DROP), rate=rate(1, 1, 3600))
        return opened(drop, *more, version=4)

    def deliver(self, play: Playbook, *topics: str) -> tuple[int, int]:
        """How many of these go on, and how many wait; the others are dropped."""
        assert play.waiting is not None
        play.take()
        before = play.waiting.messages
        play.broker(*(publish(topic) for topic in topics))
        return len(list(split(play.take()[0]))), play.waiting.messages - before

    def test_from_the_request_on(self) -> None:
        play = self.scene().client(request("$share/g/a/#", "b", version=4))
        assert self.deliver(play, "b", "b", "a/1", "a/2", "c") == (1, 2)

    @pytest.mark.parametrize("is_over", [False, True])
    def test_until_it_has_ended(self, is_over: bool) -> None:
        play = self.scene().client(request("$share/g/a", version=4)).broker(granted(0, version=4))
        play.client(parting("$share/g/a", version=4))
        if is_over:
            play.broker(released(version=4))
        assert self.deliver(play, "a", "a") == (1, not is_over)

    def test_not_if_the_broker_refuses_it(self) -> None:
        play = self.scene().client(request("$share/g/a", version=4)).broker(granted(0x80, version=4))
        assert self.deliver(play, "a", "a") == (1, 0)

    def test_nor_if_a_limit_does(self) -> None:
        play = self.scene(on_subscribe(rate=rate(1, 1, 3600))).client(request("b", "$share/g/a", version=4))
        assert self.deliver(play, "a", "a") == (1, 0)


def test_before_connack_nothing_is_decided() -> None:
    one = engine(ONE)
    waiting = waiting_room(one, Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0))
    play = Playbook(engine=one, waiting=waiting, door=door_of(waiting)).client(connect(5), request("a")).upstream()
    play.broker(connack(5, reason=0x87))
    other = Playbook.opened(5, engine=one, waiting=waiting)  # the same client identifier
    assert other.client(request("a")).take()[1] == request("a")
