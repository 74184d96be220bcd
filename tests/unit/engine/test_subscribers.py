"""Limits on what clients subscribe to and are sent, on wills and on packets of any type, as a gateway asks for them.

tests/property/test_engine.py holds all of it to a model; here is what each function is for.
"""

from fractions import Fraction

import pytest

from support.engine_model import Client
from support.segments import compiled, segment
from tidegate.engine.binding import ITSELF, TALLIES, Engine, Segment, Subject
from tidegate.policy.model import (
    Action,
    ByClass,
    Cases,
    ClientClass,
    Conditions,
    Event,
    Key,
    KeyKind,
    Limit,
    Policy,
    Priority,
    Rate,
)

DELAY = Cases(Action.DELAY)
DROP = Cases(Action.DROP)
REJECT = Cases(Action.REJECT)
OBSERVE = Cases(Action.OBSERVE)
ONCE = ByClass((Rate(1, Fraction(1000), 1),))
"""One, and the next in a quarter of an hour."""
FREE = ClientClass("free", Conditions(username=("free",)), exempt=True)
NOW = 1000.0
EVENTS = tuple(Event)


def limit(name: str, on: Event, on_excess: Cases = REJECT, per: KeyKind = KeyKind.CLIENT, **other: object) -> Limit:
    return Limit(name, on, on_excess, (Key(per),), **other)  # type: ignore[arg-type]


def engine_of(*limits: Limit, memory: Segment | None = None) -> Engine:
    engine = Engine(memory or segment(), 0)
    engine.load(compiled(Policy((FREE,), limits)))
    return engine


def client(client_id: str = "c", username: str | None = None, version: int = 5) -> Subject:
    return Client(client_id, username, version=version).subject()


def tallies(engine: Engine, slot: int = 0) -> dict[str, int]:
    return {what: n for what, n in zip(TALLIES, engine.segment.tallies(slot), strict=True) if n}


# Before anything is decided


@pytest.mark.parametrize("event", EVENTS)
def test_whether_a_limit_on_an_event_meets_a_client(event: Event) -> None:
    engine = engine_of(
        limit("a", event, OBSERVE, rate=ONCE, who=Conditions(client_id=("a-*",)), topic=("t",)),
        *(limit(other.name, other, rate=ONCE) for other in EVENTS if other is not event),
    )
    assert engine.meets(client("a-1"), event)
    assert not engine.meets(client("b-1"), event)
    assert all(engine.meets(client("b-1"), other) for other in EVENTS if other is not event)
    with pytest.raises(IndexError):
        engine.meets(client(), 7)


def test_nothing_meets_a_client_without_limits() -> None:
    engine = engine_of()
    assert not any(engine.meets(client(), event) or engine.delays(client(), event) for event in EVENTS)
    assert not any(engine.window(client(), event) for event in EVENTS)
    assert engine.will_delay(client(), b"t", 0, False) == 0
    assert engine.decide_subscribe(client(), b"#", NOW) == Action.PASS
    assert engine.max_qos == 2


def test_whether_a_limit_on_an_event_may_delay() -> None:
    v3 = Cases(Action.REJECT, v3=Action.DELAY)
    engine = engine_of(
        limit("a", Event.SUBSCRIBE, v3, rate=ONCE),
        limit("b", Event.DELIVER, Cases(Action.DELAY, {0: Action.DROP}), rate=ONCE),
    )
    assert not engine.delays(client(), Event.SUBSCRIBE)
    assert engine.delays(client(version=4), Event.SUBSCRIBE)
    assert engine.delays(client(), Event.DELIVER)
    assert not engine.delays(client())


def test_a_policy_that_is_loaded_anew_is_asked() -> None:
    engine = engine_of(limit("a", Event.PACKET, rate=ONCE))
    subject = client()
    assert engine.meets(subject, Event.PACKET)
    engine.load(compiled(Policy((), (limit("a", Event.WILL, rate=ONCE),))))
    assert (engine.meets(subject, Event.PACKET), engine.meets(subject, Event.WILL)) == (False, True)


class TestWindow:
    def test_the_smallest_that_counts_all_messages_of_a_client(self) -> None:
        engine = engine_of(
            limit("a", Event.DELIVER, DELAY, concurrent=ByClass(20)),
            limit("b", Event.DELIVER, DELAY, KeyKind.ALL, concurrent=ByClass(12)),
            limit("topic", Event.DELIVER, DELAY, concurrent=ByClass(5), topic=("a/#",)),
            limit("each topic", Event.DELIVER, DELAY, KeyKind.TOPIC, concurrent=ByClass(5)),
            limit("qos", Event.DELIVER, DELAY, concurrent=ByClass(5), qos=(1,)),
            limit("retained", Event.DELIVER, DELAY, concurrent=ByClass(5), retain=True),
            limit("watched", Event.DELIVER, OBSERVE, concurrent=ByClass(5)),
            limit("up", Event.PUBLISH, DELAY, concurrent=ByClass(7)),
        )
        assert engine.window(client(), Event.DELIVER) == 12
        assert engine.window(client(), Event.PUBLISH) == 7
        assert engine.window(client(), Event.SUBSCRIBE) == 0
        assert engine.window(client(username="free"), Event.DELIVER) == 0

    def test_a_scale_factor_adds_to_it_and_takes_nothing_away(self) -> None:
        memory = segment()
        engine = engine_of(limit("a", Event.DELIVER, DELAY, concurrent=ByClass(20)), memory=memory)
        subject = client()
        for factor, number in ((0.5, 20), (1.5, 30), (1.0, 20)):
            memory.set_scale(0, Priority.NORMAL, factor)
            assert engine.window(subject, Event.DELIVER) == number


# Subscriptions

COVERED = [
    ("#", "#", True), ("#", "+/#", True), ("#", "a", True), ("+/#", "#", True), ("+/+/#", "#", False),
    ("a/#", "a", True), ("a/#", "a/#", True), ("a/#", "a/+/x", True), ("a/#", "+/x", False), ("a/#", "#", False),
    ("a/+", "a/+", True), ("a/+", "a/b", True), ("a/+", "a/#", False), ("a/+/#", "a/#", False), ("a/b", "a/+", False),
    ("#", "$SYS/#", False), ("+/#", "$SYS/a", False), ("$SYS/#", "$SYS/+", True), ("$SYS/#", "#", False),
    ("a/#", "$share/g/a/+", True), ("#", "$share/g/#", True), ("#", "$share/g/$SYS/a", False), ("#", "$share/g", False),
    ("$share/g/a/#", "a/b", False), ("$share/g/a/#", "$share/g/a/b", True),
    ("$share/g/a/#", "$share/h/a/b", False), ("$share/+/a/#", "$share/h/a/b", True),
    ("$share/+/a", "$share/h/b", False),
    ("$share/+/#", "$share/h/$SYS", False), ("$share/+/+/#", "$share/h/#", True), ("$share/+/#", "$share/h/", False),
    ("$share/+/a", "$share//a", True), ("$share/+/a", "$share/+/a", True), ("$share/g/a", "$share/+/a", False),
]  # fmt: skip
"""A limit's filter, a subscription's, and whether the one is about the other."""


@pytest.mark.parametrize(("mine", "asked", "is_covered"), COVERED)
def test_a_limit_is_about_subscriptions_that_its_filter_covers(mine: str, asked: str, *, is_covered: bool) -> None:
    engine = engine_of(
        limit("in", Event.SUBSCRIBE, rate=ONCE, topic=(mine,)),
        limit("out", Event.SUBSCRIBE, rate=ONCE, except_topic=(mine,)),
        limit("deep", Event.SUBSCRIBE, rate=ONCE, topic=("x/" * 100 + "x",)),
    )
    for _ in range(2):  # the second time it is remembered
        assert engine.matching(client(), asked.encode(), event=Event.SUBSCRIBE) == [0 if is_covered else 1]


def test_what_shares_is_told_apart_by_its_name() -> None:
    engine = engine_of(limit("a", Event.SUBSCRIBE, rate=ONCE, topic=("$share/g/a",)))
    subject = client()
    assert [engine.matching(subject, text, event=Event.SUBSCRIBE) for text in (b"$share/g/a", b"$share/h/a", b"a")] == [
        [0], [], [],
    ]  # fmt: skip


def test_a_budget_by_topic_goes_by_what_stands_behind_the_share() -> None:
    engine = engine_of(limit("a", Event.SUBSCRIBE, per=KeyKind.TOPIC, rate=ONCE))
    answers = [engine.decide_subscribe(client(), text, NOW) for text in (b"a/#", b"$share/g/a/#", b"$share/g/a/+")]
    assert answers == [Action.PASS, Action.REJECT, Action.PASS]


@pytest.mark.parametrize(
    ("asked", "passes"),
    [("a/b/c", True), ("a/b/c/d", False), ("a/b/c/#", False), ("//", True), ("///", False), ("#", True),
     ("$share/g/a/b/c", True), ("$share/g/a/b/c/d", False), ("$share/g", True)],
)  # fmt: skip
def test_how_deep_a_filter_may_be(asked: str, *, passes: bool) -> None:
    engine = engine_of(limit("a", Event.SUBSCRIBE, depth=ByClass(3)))
    decided = engine.decide_subscribe(client(), asked.encode(), NOW)
    assert (decided == Action.PASS, engine.by_size) == (passes, not passes)


@pytest.mark.parametrize(
    ("asked", "passes"),
    [("#", False), ("+", False), ("+/a", False), ("a/#", True), ("/#", True), ("$share/g/#", False),
     ("$share/g/+/a", False), ("$share/g/a/+", True), ("$share/+/a", True), ("$SYS/#", True)],
)  # fmt: skip
def test_filters_that_begin_with_a_wildcard(asked: str, *, passes: bool) -> None:
    engine = engine_of(limit("a", Event.SUBSCRIBE, DELAY, then=REJECT, leading_wildcard=False))
    assert (engine.decide_subscribe(client(), asked.encode(), NOW) == Action.PASS) is passes
    assert tallies(engine) == ({"passed": 1} if passes else {"reject": 1})


def test_the_largest_qos_is_said_whatever_is_decided() -> None:
    engine = engine_of(
        limit("a", Event.SUBSCRIBE, max_qos=ByClass(1), topic=("a/#",)),
        limit("b", Event.SUBSCRIBE, max_qos=ByClass(0), topic=("a/b",)),
        limit("watched", Event.SUBSCRIBE, OBSERVE, max_qos=ByClass(0), topic=("c",)),
        limit("once", Event.SUBSCRIBE, rate=ONCE),
    )
    for asked, most in ((b"a/c", 1), (b"a/b", 0), (b"c", 2), (b"b", 2), (b"a/c", 1)):
        engine.decide_subscribe(client(), asked, NOW)
        assert engine.max_qos == most
    assert engine.decide_subscribe(client(), b"a/c", NOW) == Action.REJECT
    engine.decide_subscribe(client(username="free"), b"a/b", NOW)
    assert engine.max_qos == 2
    assert tallies(engine, 1) == {"passed": 1}


def test_subscriptions_are_counted_until_they_end_and_one_made_again_is_none_more() -> None:
    engine = engine_of(limit("a", Event.SUBSCRIBE, concurrent=ByClass(2)))
    subject = client()
    assert engine.decide_subscribe(subject, b"a", NOW) == Action.PASS
    first = engine.taken()
    assert isinstance(first, int)
    assert engine.decide_subscribe(subject, b"b", NOW) == Action.PASS
    assert engine.decide_subscribe(subject, b"c", NOW) == Action.REJECT
    assert engine.by_window
    assert engine.decide_subscribe(subject, b"b", NOW, has=True) == Action.PASS
    assert engine.taken() is None
    engine.free(first)
    assert engine.decide_subscribe(subject, b"c", NOW) == Action.PASS


def test_a_subscription_made_again_is_refused_like_any_other() -> None:
    engine = engine_of(limit("a", Event.SUBSCRIBE, rate=ONCE))
    assert engine.decide_subscribe(client(), b"a", NOW) == Action.PASS
    assert engine.decide_subscribe(client(), b"a", NOW, has=True) == Action.REJECT


# On the way to a client


def deliver(engine: Engine, subject: Subject, qos: int = 0, *, owed: int = 0, kept: bool = False, size: int = 9) -> int:
    return engine.decide_deliver(subject, b"-a/b-", 1, 4, qos, False, size + 5, size, NOW, owed=owed, kept=kept)


def test_what_waits_for_a_subscriber_may_be_conflated() -> None:
    engine = engine_of(
        limit("a", Event.DELIVER, DELAY, rate=ONCE, topic=("a/b",), conflate=True, then=DELAY),
        limit("b", Event.DELIVER, DELAY, rate=ONCE, topic=("a/c",)),
    )
    assert deliver(engine, client()) == Action.PASS
    assert not engine.conflates
    assert deliver(engine, client()) == Action.DELAY
    assert (engine.conflates, engine.then) == (True, Action.DELAY)
    for _ in range(2):
        decided = engine.decide_deliver(client(), b"a/c", 0, 3, 0, False, 9, 9, NOW)
    assert (decided, engine.conflates) == (Action.DELAY, False)


def test_what_must_be_kept_is_delayed_in_place_of_a_drop_and_never_too_large() -> None:
    engine = engine_of(
        limit("a", Event.DELIVER, DROP, rate=ONCE, then=DROP),
        limit("b", Event.DELIVER, DROP, size=ByClass(9)),
    )
    assert deliver(engine, client("x")) == Action.PASS
    assert deliver(engine, client("x")) == Action.DROP
    assert deliver(engine, client("x"), kept=True) == Action.DELAY
    assert engine.then == Action.DELAY
    assert deliver(engine, client("y"), size=10) == Action.DROP
    assert deliver(engine, client("y"), size=10, kept=True) == Action.PASS


@pytest.mark.parametrize("qos", [1, 2])
def test_a_connection_has_half_of_a_window_that_others_share(qos: int) -> None:
    engine = engine_of(limit("a", Event.DELIVER, DELAY, KeyKind.ALL, concurrent=ByClass(4)))
    assert deliver(engine, client(), qos, owed=1) == Action.PASS
    assert engine.shares
    assert deliver(engine, client(), qos, owed=2) == Action.DELAY
    assert engine.queue == ITSELF
    assert deliver(engine, client("other"), qos) == Action.PASS
    alone = engine_of(limit("a", Event.DELIVER, DELAY, concurrent=ByClass(4)))
    assert deliver(alone, client(), qos, owed=3) == Action.PASS


def test_qos_0_is_in_no_window() -> None:
    engine = engine_of(limit("a", Event.DELIVER, DELAY, concurrent=ByClass(1)))
    assert [deliver(engine, client()) for _ in range(3)] == [Action.PASS] * 3
    assert engine.taken() is None


# Wills


def test_a_will_is_held_back_for_the_longest_that_a_limit_says() -> None:
    engine = engine_of(
        limit("a", Event.WILL, will_delay=ByClass(20.0)),
        limit("b", Event.WILL, will_delay=ByClass(0.25, {"free": 90.0}), topic=("a/#",)),
        limit("c", Event.WILL, will_delay=ByClass(60.0), retain=True),
        limit("watched", Event.WILL, OBSERVE, will_delay=ByClass(3600.0)),
    )
    assert engine.will_delay(client(), b"a/b", 0, False) == 20
    assert engine.will_delay(client(), b"a/b", 0, True) == 60
    assert engine.will_delay(client(username="free"), b"a/b", 0, True) == 0
    assert tallies(engine) == {}
    only = engine_of(limit("b", Event.WILL, will_delay=ByClass(0.25), topic=("a/#",), qos=(1,)))
    assert only.will_delay(client(), b"a/b", 1, False) == 0.25
    assert only.will_delay(client(), b"a/b", 0, False) == 0
    assert only.will_delay(client(), b"b", 1, False) == 0


def test_the_strictest_of_several_classes_holds_a_will_back_longest() -> None:
    classes = tuple(ClientClass(name, Conditions(client_id=(glob,))) for name, glob in (("x", "*"), ("y", "c*")))
    delays = ByClass(5.0, {"x": 10.0, "y": 20.0})
    engine = Engine(segment(), 0)
    engine.load(compiled(Policy(classes, (limit("a", Event.WILL, will_delay=delays),))))
    assert engine.will_delay(client("c"), b"t", 0, False) == 20
    assert engine.will_delay(client("d"), b"t", 0, False) == 10


def test_a_storm_of_wills_is_paced_and_what_has_waited_long_enough_counts_as_passed() -> None:
    engine = engine_of(limit("a", Event.WILL, DELAY, KeyKind.ALL, rate=ONCE, then=Cases(Action.PASS)))
    assert engine.decide_will(client("x"), b"t", 1, False, 20, 5, NOW) == Action.PASS
    assert engine.decide_will(client("y"), b"t", 1, False, 20, 5, NOW) == Action.DELAY
    assert engine.then == Action.PASS
    engine.late(client("y"), engine.then, NOW)
    assert tallies(engine) == {"passed": 2, "delay": 1}
    told, _, _ = engine.segment.events(0, 0)
    assert [event.action for event in told] == ["delay"]


# Packets of any type


def test_packets_of_any_type() -> None:
    bytes_a_second = ByClass((Rate(100, Fraction(1), 100),))
    engine = engine_of(
        limit("a", Event.PACKET, Cases(Action.DISCONNECT), bandwidth=bytes_a_second),
        limit("b", Event.PACKET, DELAY, size=ByClass(200), then=Cases(Action.DISCONNECT)),
    )
    subject = client()
    assert [engine.decide_packet(subject, 50, NOW) for _ in range(3)] == [Action.PASS, Action.PASS, Action.DISCONNECT]
    assert engine.decide_packet(subject, 201, NOW + 10) == Action.DISCONNECT
    assert engine.refused_by == "b"
    assert engine.decide_packet(client(username="free"), 5000, NOW) == Action.PASS
