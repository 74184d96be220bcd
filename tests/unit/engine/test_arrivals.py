"""Limits on connecting, at accept and when CONNECT has been read, and on what the broker refuses."""

from collections.abc import Callable
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network

import pytest

from support.engine_model import Client
from support.segments import compiled, segment
from tidegate.engine.binding import TALLIES, Engine, Subject
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
    Rate,
)

NOW = 1000.0
REJECT = Cases(Action.REJECT)
DELAY = Cases(Action.DELAY)
BAN = Cases(Action.BAN)
ADDRESS = IPv4Address("10.0.0.1")
CLIENT = Client("c", "u", ADDRESS)
ANYBODY = Conditions()
FROM_HERE = Conditions(cidr=(IPv4Network("10.0.0.0/8"),))
CONNECT = 90
"""Bytes."""


def limit(
    per: KeyKind = KeyKind.IP,
    rate: int | None = 2,
    *,
    name: str = "a",
    on: Event = Event.CONNECT,
    on_excess: Cases = REJECT,
    then: Cases = REJECT,
    concurrent: int | None = None,
    size: int | None = None,
    classes: tuple[str, ...] = (),
    who: Conditions = ANYBODY,
) -> Limit:
    rates = None if rate is None else (Rate(rate, Fraction(1), rate),)
    return Limit(
        name,
        on,
        on_excess,
        (Key(per),),
        classes,
        who=who,
        rate=ByClass(rates),
        concurrent=ByClass(concurrent),
        size=ByClass(size),
        then=then,
    )


def engine_of(*limits: Limit, classes: tuple[ClientClass, ...] = (), words: int = 1 << 16) -> Engine:
    engine = Engine(segment(words=words), 0)
    engine.load(compiled(Policy(classes, limits)))
    return engine


def stranger(client: Client = CLIENT) -> Subject:
    return client.stranger.subject()


def accept(engine: Engine, client: Client = CLIENT, now: float = NOW, *, turn: int = 0, ask: bool = False) -> str:
    """What becomes of one who is there, and has said nothing."""
    engine.decide_connect(stranger(client), False, 0, now, turn, bool(turn), ask)
    return engine.last().action


def connect(
    engine: Engine, client: Client = CLIENT, now: float = NOW, *, ask: bool = False, size: int = CONNECT
) -> str:
    """What becomes of one whose CONNECT has been read."""
    engine.decide_connect(client.subject(), True, size, now, ask=ask)
    return engine.last().action


def place_of(engine: Engine) -> int:
    """The one place that the connection just decided has taken."""
    place = engine.taken()
    assert isinstance(place, int)
    return place


def failures(engine: Engine, number: int, client: Client = CLIENT, now: float = NOW) -> list[int]:
    return [engine.decide_failure(client.subject(), now) for _ in range(number)]


def counted(engine: Engine, slot: int = 0) -> dict[str, int]:
    return {what: count for what, count in zip(TALLIES, engine.segment.tallies(slot), strict=True) if count}


# Two stages


@pytest.mark.parametrize(
    ("one", "early"),
    [
        (limit(), True),
        (limit(KeyKind.ALL), True),
        (limit(KeyKind.LISTENER), True),
        (limit(who=Conditions(cidr=(IPv4Network("10.0.0.0/8"),))), True),
        (limit(KeyKind.CLIENT), False),
        (limit(KeyKind.USERNAME), False),
        (limit(who=Conditions(username=("u",))), False),
        (limit(size=1000), False),
    ],
)
def test_a_limit_is_decided_at_one_stage(one: Limit, early: bool) -> None:
    engine = engine_of(one)
    accepted = [accept(engine) for _ in range(3)]
    connected = [connect(engine) for _ in range(3)]
    limited = ["pass", "pass", "reject"]
    assert (accepted, connected) == ((limited, ["pass"] * 3) if early else (["pass"] * 3, limited))
    assert counted(engine) == {"passed": 2, "reject": 1}


def test_without_limits_everybody_comes_in() -> None:
    engine = engine_of()
    assert (accept(engine), connect(engine), failures(engine, 1)) == ("pass", "pass", [0])
    engine = engine_of(limit(on=Event.PUBLISH, rate=1))
    assert [accept(engine), accept(engine), connect(engine), connect(engine)] == ["pass"] * 4


def test_both_stages_have_budgets_of_their_own() -> None:
    engine = engine_of(limit(name="early"), limit(KeyKind.CLIENT, 1, name="late"))
    assert [accept(engine), accept(engine), accept(engine)] == ["pass", "pass", "reject"]
    assert engine.refused_by == "early"
    assert [connect(engine), connect(engine)] == ["pass", "reject"]
    assert (engine.refused_by, engine.slot) == ("late", 1)


def test_who_is_asked_is_not_charged() -> None:
    engine = engine_of(limit(), limit(KeyKind.CLIENT, 1, name="late", concurrent=1))
    assert [accept(engine, ask=True) for _ in range(5)] == ["pass"] * 5
    assert [connect(engine, ask=True) for _ in range(5)] == ["pass"] * 5
    assert (engine.taken(), counted(engine), counted(engine, 1)) == (None, {}, {})
    assert connect(engine) == "pass"
    assert connect(engine, ask=True) == "reject"
    assert counted(engine, 1) == {"passed": 1, "reject": 1}


def test_whom_a_name_would_have_banned_is_not_told_so_before_it_is_proven() -> None:
    engine = engine_of(limit(KeyKind.CLIENT, 1, on_excess=BAN), limit(name="by-ip", on_excess=BAN))
    assert connect(engine) == "pass"
    assert [connect(engine, ask=True), connect(engine)] == ["pass", "ban"]
    assert counted(engine) == {"passed": 1, "ban": 1}
    assert [accept(engine), accept(engine), accept(engine, ask=True)] == ["pass", "pass", "ban"]


def test_who_is_exempt_is_counted_when_it_has_come_in() -> None:
    friend = ClientClass("friend", FROM_HERE, exempt=True)
    engine = engine_of(limit(KeyKind.CLIENT, 1), classes=(friend,))
    assert [connect(engine, ask=True), connect(engine)] == ["pass", "pass"]
    assert counted(engine) == {"passed": 1}


# At accept only the place is known


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(client_id=("*",)),
        Conditions(username=("*",)),
        Conditions(cn=("*",)),
        Conditions(san=("*",)),
        Conditions(version=(3, 4, 5)),
        Conditions(clean_start=True),
        Conditions(bridge=False),
        Conditions(cidr=FROM_HERE.cidr, client_id=("*",)),
    ],
)
def test_who_has_said_nothing_is_in_no_class_that_asks_for_it(conditions: Conditions) -> None:
    engine = engine_of(limit(), classes=(ClientClass("x", conditions, exempt=True),))
    client = stranger()
    assert not engine.is_exempt(client, False)
    assert client.classes == ()
    assert [accept(engine) for _ in range(3)] == ["pass", "pass", "reject"]


def test_any_of_several_conditions_may_be_of_the_place() -> None:
    mixed = ClientClass("x", Conditions(), (Conditions(client_id=("nobody",)), FROM_HERE))
    engine = engine_of(limit(), classes=(mixed, ClientClass("y", Conditions(listener=("l",)))))
    client = stranger()
    engine.resolve(client)
    assert client.classes == (0, 1)


def test_who_is_exempt_for_his_address_is_so_from_the_start() -> None:
    engine = engine_of(limit(), classes=(ClientClass("x", FROM_HERE, exempt=True),))
    assert [accept(engine) for _ in range(9)] == ["pass"] * 9
    assert counted(engine) == {"passed": 9}


def test_at_accept_no_version_is_known() -> None:
    cases = Cases(Action.REJECT, v3=Action.DROP, v5=Action.DELAY)
    engine = engine_of(limit(rate=1, on_excess=cases))
    assert [accept(engine), accept(engine)] == ["pass", "reject"]
    engine = engine_of(limit(rate=1, on_excess=DELAY, then=cases))
    assert [accept(engine), accept(engine)] == ["pass", "delay"]
    assert engine.then == Action.REJECT


@pytest.mark.parametrize(("version", "action"), [(3, "drop"), (4, "drop"), (5, "delay")])
def test_when_connect_has_been_read_it_is(version: int, action: str) -> None:
    engine = engine_of(limit(KeyKind.CLIENT, 1, on_excess=Cases(Action.REJECT, v3=Action.DROP, v5=Action.DELAY)))
    client = Client(version=version)
    assert [connect(engine, client), connect(engine, client)] == ["pass", action]


def test_an_unknown_client_publishes_nothing() -> None:
    engine = engine_of(limit(KeyKind.ALL, 1, on=Event.PUBLISH))
    assert engine.matching(stranger(), b"t") == []


# What a limit on connecting can measure


def test_the_largest_connect() -> None:
    engine = engine_of(limit(rate=None, size=100))
    assert [connect(engine, size=size) for size in (100, 101)] == ["pass", "reject"]
    assert engine.by_size


@pytest.mark.parametrize(("per", "come"), [(KeyKind.IP, accept), (KeyKind.CLIENT, connect)])
def test_open_connections(per: KeyKind, come: Callable[..., str]) -> None:
    engine = engine_of(limit(per, None, concurrent=2))
    places = []
    for _ in range(2):
        assert come(engine) == "pass"
        places.append(place_of(engine))
    assert come(engine) == "reject"
    assert (engine.by_window, engine.taken()) == (True, None)
    assert come(engine, Client("other", address=IPv4Address("10.0.9.1"))) == "pass"
    engine.free(places[0])
    assert [come(engine), come(engine)] == ["pass", "reject"]


def test_a_refusal_takes_no_place_and_no_budget() -> None:
    engine = engine_of(limit(name="first", rate=9, concurrent=9), limit(KeyKind.ALL, 1, name="second"))
    assert accept(engine) == "pass"
    first = place_of(engine)
    assert [accept(engine) for _ in range(50)] == ["reject"] * 50
    assert engine.taken() is None
    assert [accept(engine, now=NOW + second) for second in range(1, 9)] == ["pass"] * 8
    assert accept(engine, now=NOW + 9) == "reject"
    assert engine.refused_by == "first"
    engine.free(first)
    assert accept(engine, now=NOW + 9) == "pass"


def test_places_are_halved_for_nobody() -> None:
    """What a QoS 2 message owes to a window that others share is nothing that a connection could owe."""
    engine = engine_of(limit(KeyKind.ALL, None, concurrent=4))
    assert [accept(engine) for _ in range(5)] == ["pass"] * 4 + ["reject"]
    assert engine.queue != 0


# Waiting


def test_who_waits_is_ahead_of_who_comes() -> None:
    engine = engine_of(limit(KeyKind.ALL, 1, on_excess=DELAY, then=Cases(Action.DROP)))
    assert [accept(engine), accept(engine)] == ["pass", "delay"]
    queue = engine.queue
    assert (engine.max_delay, engine.then, engine.by_window) == (5.0, Action.DROP, False)
    assert 0 < engine.wait <= 1.000000001
    assert engine.wait_for(queue, 1)
    assert accept(engine, now=NOW + 1) == "delay"
    assert engine.queue == queue
    assert accept(engine, now=NOW + 1, turn=queue) == "pass"
    assert engine.wait_for(queue, 0)
    assert counted(engine) == {"passed": 2, "delay": 2}


def test_who_has_waited_for_too_long_is_counted() -> None:
    engine = engine_of(limit(rate=1, on_excess=DELAY))
    client = stranger()
    assert [engine.decide_connect(client, False, 0, NOW) for _ in range(2)] == [Action.PASS, Action.DELAY]
    engine.late(client, engine.then, NOW + 5)
    assert counted(engine) == {"passed": 1, "delay": 1, "reject": 1}
    told, _, _ = engine.segment.events(0, 0)
    assert [(one.kind, one.action, one.client_id, one.address[:4], one.topic) for one in told] == [
        ("began", "delay", "", ADDRESS.packed, ""),
        ("began", "reject", "", ADDRESS.packed, ""),
    ]


# Who is told of


def test_at_accept_the_address_is_told_and_then_the_name() -> None:
    engine = engine_of(limit(rate=1), limit(KeyKind.CLIENT, 1, name="late"))
    for _ in range(2):
        accept(engine)
        connect(engine)
    told, _, _ = engine.segment.events(0, 0)
    address = ADDRESS.packed
    assert [(one.slot, one.action, one.client_id, one.username, one.address[:4], one.topic) for one in told] == [
        (0, "reject", "", "", address, ""),
        (1, "reject", "c", "u", address, ""),
    ]


# Bans and crowds


def test_a_ban_is_said_as_such() -> None:
    ban = Cases(Action.BAN)
    engine = engine_of(limit(rate=1, on_excess=ban), limit(on=Event.PUBLISH, name="p", rate=1, on_excess=ban))
    assert [accept(engine), accept(engine)] == ["pass", "ban"]
    assert engine.refused_by == "a"
    data = b"topic"
    subject = CLIENT.subject()
    verdicts = [engine.decide(subject, data, 0, len(data), qos, False, 9, 0, False, NOW) for qos in (0, 1)]
    assert verdicts == [Action.PASS, Action.BAN]
    # Not even a redelivery of QoS 2 is milder: with the connection ends what the broker holds of it.
    assert engine.decide(subject, data, 0, len(data), 2, False, 9, 0, True, NOW) == Action.BAN
    assert counted(engine, 1) == {"passed": 1, "ban": 2}


@pytest.mark.parametrize("action", [Action.BAN, Action.DISCONNECT])
@pytest.mark.parametrize("version", [4, 5])
def test_nobody_is_banned_for_a_crowd(version: int, action: Action) -> None:
    """Of those for whom there is neither bucket nor window of their own."""
    engine = engine_of(
        limit(KeyKind.CLIENT, 1, on_excess=Cases(action), concurrent=1),
        limit(KeyKind.CLIENT, 1, name="f", on=Event.AUTH_FAILURE, on_excess=Cases(Action.BAN)),
        words=64,
    )
    clients = [Client(f"{number}", address=ADDRESS, version=version) for number in range(200)]
    assert {connect(engine, client) for client in clients} == {"pass", "reject"}
    assert engine.last().crowd
    assert {engine.decide_failure(client.subject(), NOW) for client in clients} == {Action.PASS}
    assert counted(engine, 1)["observe"] > 0


def test_what_a_crowd_waited_for_ends_no_harder() -> None:
    engine = engine_of(limit(KeyKind.CLIENT, 1, on_excess=DELAY, then=Cases(Action.DISCONNECT)), words=64)
    for number in range(200):
        connect(engine, Client(f"{number}", address=ADDRESS))
    assert (engine.last().action, engine.last().crowd, engine.then) == ("delay", True, Action.REJECT)


# What the broker refuses


def guessing(who: Conditions = ANYBODY) -> Limit:
    return limit(rate=5, on=Event.AUTH_FAILURE, on_excess=Cases(Action.BAN), who=who)


def test_failures_are_counted_and_then_banned() -> None:
    engine = engine_of(guessing())
    assert failures(engine, 7) == [Action.PASS] * 5 + [Action.BAN] * 2
    assert (engine.refused_by, counted(engine)) == ("a", {"passed": 5, "ban": 2})
    assert failures(engine, 2, now=NOW + 0.2) == [Action.PASS, Action.BAN]
    assert failures(engine, 1, Client("c", "u", IPv4Address("10.0.0.2"))) == [Action.PASS]


def test_failures_may_be_observed_only() -> None:
    engine = engine_of(limit(rate=1, on=Event.AUTH_FAILURE, on_excess=Cases(Action.OBSERVE)))
    assert failures(engine, 3) == [Action.PASS] * 3
    assert counted(engine) == {"passed": 1, "observe": 2}


def test_a_limit_may_be_for_some_names() -> None:
    engine = engine_of(guessing(Conditions(username=("admin",))))
    assert failures(engine, 9) == [Action.PASS] * 9
    assert failures(engine, 6, Client("x", "admin", ADDRESS))[-1] == Action.BAN


def test_who_only_claims_to_be_exempt_may_not_guess() -> None:
    claimed = ClientClass("x", Conditions(username=("u",)), exempt=True)
    engine = engine_of(guessing(), limit(KeyKind.CLIENT, 1, name="late"), classes=(claimed,))
    assert failures(engine, 6)[-1] == Action.BAN
    assert [connect(engine) for _ in range(3)] == ["pass"] * 3  # whom the broker accepts is who he says
    client = CLIENT.subject()
    assert (engine.is_exempt(client, True), engine.is_exempt(client, False)) == (True, False)


def test_who_is_exempt_for_his_address_may() -> None:
    there = ClientClass("x", Conditions(), (Conditions(username=("root",)), FROM_HERE), exempt=True)
    engine = engine_of(guessing(), classes=(there,))
    assert failures(engine, 9) == [Action.PASS] * 9
    assert failures(engine, 6, Client("c", "root", IPv4Address("192.0.2.1")))[-1] == Action.BAN
    client = CLIENT.subject()
    assert (engine.is_exempt(client, True), engine.is_exempt(client, False)) == (True, True)


def test_a_policy_without_limits_has_its_exempt_classes() -> None:
    engine = engine_of(classes=(ClientClass("x", FROM_HERE, exempt=True),))
    assert [engine.is_exempt(stranger(), proven) for proven in (False, True)] == [True, True]
    assert not engine.is_exempt(stranger(Client(address=IPv4Address("192.0.2.1"))), False)
