"""What a compiled policy consists of; tests/property/test_engine.py holds the decisions by it to a model."""

import struct
from collections.abc import Mapping
from fractions import Fraction
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest

from support.engine_model import Client
from support.segments import compiled, segment
from tidegate.engine.binding import Engine
from tidegate.engine.format import MAX_CAPTURES, MAX_COMPONENTS, MAX_LEVELS, NONE, RECORDS
from tidegate.policy.compile import TooMuch, assign_slots, compile_policy, ordered
from tidegate.policy.model import (
    Action,
    BanTimes,
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

START = 10**12
SECOND = 10**9
ONE_A_SECOND: ByClass[tuple[Rate, ...]] = ByClass((Rate(1, Fraction(1), 1),))
DROP = Cases(Action.DROP)


def limit(
    name: str = "a",
    per: tuple[Key, ...] = (Key(KeyKind.CLIENT),),
    *,
    on: Event = Event.PUBLISH,
    cases: Cases = DROP,
    topic: tuple[str, ...] = (),
    rate: ByClass[tuple[Rate, ...]] = ONE_A_SECOND,
) -> Limit:
    return Limit(name, on, cases, per=per, topic=topic, rate=rate)


def engine_of(*limits: Limit, classes: tuple[ClientClass, ...] = ()) -> Engine:
    engine = Engine(segment(slots=1024), 0)
    engine.load(compiled(Policy(classes, limits)))
    return engine


def fits(conditions: Conditions, client: Client) -> bool:
    engine = engine_of(limit(), classes=(ClientClass("x", conditions),))
    subject = client.subject()
    engine.resolve(subject)
    return subject.classes == (0,)


def burst(engine: Engine, client: Client, topic: bytes = b"t", packet: int = 0) -> int:
    """How many messages pass at once."""
    subject = client.subject()
    tries = range(100)
    return sum(engine.judge(subject, topic, packet=packet, now_ns=START).action == "pass" for _ in tries)


def test_the_empty_policy_compiles() -> None:
    assert engine_of().limits == 0


def test_the_same_policy_is_the_same_bytes() -> None:
    policy = Policy((ClientClass("x", Conditions(client_id=("*",))),), (limit("a"), limit("b", topic=("a/#", "b"))))
    assert compiled(policy) == compiled(policy)


def test_limits_stand_by_event_and_else_in_the_files_order() -> None:
    limits = (limit("d", on=Event.WILL), limit("b"), limit("c", on=Event.CONNECT), limit("a"))
    assert [one.name for one in ordered(Policy((), limits))] == ["b", "a", "c", "d"]
    assert engine_of(*limits).names == ["b", "a", "c", "d"]


def test_slots_follow_the_files_order() -> None:
    assert assign_slots(Policy((), (limit("z"), limit("a"), limit("m")))) == {"z": 0, "a": 1, "m": 2}


def test_buckets_stay_with_name_event_and_per() -> None:
    client = Client()

    def passes_after(changed: Limit) -> bool:
        engine = engine_of(limit())
        assert burst(engine, client) == 1
        engine.load(compile_policy(Policy((), (changed,)), {changed.name: 0}))
        return burst(engine, client) == 1

    assert not passes_after(limit(cases=Cases(Action.BAN)))
    assert not passes_after(limit(topic=("#",)))
    assert not passes_after(limit(rate=ByClass((Rate(2, Fraction(2), 1),))))
    assert passes_after(limit("b"))
    assert passes_after(limit(per=(Key(KeyKind.ALL),)))
    assert passes_after(limit(per=(Key(KeyKind.CLIENT), Key(KeyKind.ALL))))


@pytest.mark.parametrize(
    ("pattern", "fitting", "other"),
    [
        ("*", ["", "a", "é\n"], []),
        ("a*", ["a", "ab", "a*"], ["", "ba"]),
        ("**a", ["a", "ba"], ["ab"]),
        ("?", ["a", "é", "😀", "/"], ["", "ab", "éé"]),
        ("?*?", ["ab", "éé", "abc"], ["a", ""]),
        ("*ab*ab", ["abab", "abxab", "ababab"], ["ab", "aba"]),
        ("{x}", ["a", "é"], [""]),
        ("{x}:{y}", ["a:b", "a:b:c", "::a"], ["a:", ":b", ":", "::"]),
        ("{X}", ["{X}"], ["a"]),
        ("{}", ["{}"], ["a"]),
        ("{x", ["{x"], ["a"]),
        ("[a].\\d+", ["[a].\\d+"], ["a.1"]),
        ("a", ["a"], ["", "A", "aa", "a\n"]),
        ("a" * 300 + "*", ["a" * 300, "a" * 301], ["a" * 299]),
    ],
)
def test_globs(pattern: str, fitting: list[str], other: list[str]) -> None:
    assert [text for text in fitting if not fits(Conditions(client_id=(pattern,)), Client(text))] == []
    assert [text for text in other if fits(Conditions(client_id=(pattern,)), Client(text))] == []
    assert [text for text in fitting if not fits(Conditions(username=(pattern,)), Client("c", text))] == []
    assert [text for text in other if fits(Conditions(username=(pattern,)), Client("c", text))] == []
    assert not fits(Conditions(username=(pattern,)), Client("c", None))


def test_a_glob_costs_no_more_than_text_times_pattern() -> None:
    assert not fits(Conditions(client_id=("*a" * 50 + "b",)), Client("a" * 20_000))


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        (IPv4Network("10.0.0.0/9"), "10.127.255.255", "10.128.0.0"),
        (IPv4Network("10.1.2.3/32"), "10.1.2.3", "10.1.2.2"),
        (IPv4Network("0.0.0.0/0"), "255.255.255.255", "::"),
        (IPv6Network("2001:db8::/33"), "2001:db8:7fff::1", "2001:db8:8000::1"),
        (IPv6Network("::1/128"), "::1", "::2"),
        (IPv6Network("::/0"), "::a00:1", "10.0.0.1"),
    ],
)
def test_networks(network: IPv4Network | IPv6Network, inside: str, outside: str) -> None:
    conditions = Conditions(cidr=(IPv4Network("1.1.1.1/32"), network))
    assert fits(conditions, Client(address=ip_address(inside)))
    assert not fits(conditions, Client(address=ip_address(outside)))
    assert not fits(conditions, Client(address=None))


@pytest.mark.parametrize(
    ("conditions", "client", "fitting"),
    [
        (Conditions(), Client(), True),
        (Conditions(version=(3, 4)), Client(version=4), True),
        (Conditions(version=(3, 4)), Client(version=5), False),
        (Conditions(listener=("l", "m")), Client(listener="m"), True),
        (Conditions(listener=("l",)), Client(listener="lm"), False),
        (Conditions(clean_start=False), Client(clean_start=False), True),
        (Conditions(clean_start=False), Client(clean_start=True), False),
        (Conditions(clean_start=True), Client(clean_start=False), False),
        (Conditions(bridge=True), Client(bridge=True), True),
        (Conditions(bridge=False), Client(bridge=True), False),
        (Conditions(client_id=("c",), version=(4,)), Client("c", version=4), True),
        (Conditions(client_id=("c",), version=(4,)), Client("c", version=5), False),
        (Conditions(cn=("*",)), Client(), False),
        (Conditions(san=("*",)), Client(), False),
    ],
)
def test_conditions(conditions: Conditions, client: Client, fitting: bool) -> None:
    assert fits(conditions, client) is fitting
    any_of = (Conditions(client_id=("nobody",)), conditions)
    engine = engine_of(limit(), classes=(ClientClass("x", Conditions(), any_of),))
    subject = client.subject()
    engine.resolve(subject)
    assert subject.classes == ((0,) if fitting else ())


def test_an_empty_condition_among_others_fits_everybody() -> None:
    classes = (ClientClass("x", Conditions(), (Conditions(client_id=("nobody",)), Conditions())),)
    subject = Client().subject()
    engine_of(limit(), classes=classes).resolve(subject)
    assert subject.classes == (0,)


CLASSES = tuple(ClientClass(name, Conditions(client_id=(f"*{name}*",))) for name in "xyz")
NAMED: Mapping[str, tuple[Rate, ...] | None] = {
    "x": (Rate(5, Fraction(1), 5),),
    "y": (Rate(600, Fraction(60), 10), Rate(180, Fraction(60), 3)),
    "z": None,
}


@pytest.mark.parametrize(
    ("client_id", "passing"), [("a", 2), ("x", 5), ("y", 3), ("z", 100), ("xy", 3), ("xz", 5), ("xyz", 3)]
)
def test_of_several_classes_the_strictest_number_holds(client_id: str, passing: int) -> None:
    rates: ByClass[tuple[Rate, ...]] = ByClass((Rate(1, Fraction(1), 2),), NAMED)
    assert burst(engine_of(limit(rate=rates), classes=CLASSES), Client(client_id)) == passing


def test_a_limit_that_says_nothing_for_a_client_does_not_match_it() -> None:
    engine = engine_of(limit(rate=ByClass(None, NAMED)), classes=CLASSES)
    found = [engine.matching(Client(client_id).subject(), b"t") for client_id in ("a", "z", "x", "xz")]
    assert found == [[], [], [0], [0]]


def test_sizes_by_class() -> None:
    size = Limit("a", Event.PUBLISH, Cases(Action.DROP), size=ByClass(10, {"x": 5, "y": 20, "z": None}))
    engine = engine_of(size, classes=CLASSES)

    def largest(client_id: str) -> int:
        client = Client(client_id).subject()
        return max(n for n in range(30) if engine.judge(client, b"t", payload=n, now_ns=START).action == "pass")

    assert [largest(client_id) for client_id in ("a", "x", "y", "z", "xy", "yz")] == [10, 5, 20, 29, 5, 20]


def test_rates_and_bandwidths_hold_together() -> None:
    both = Limit(
        "a",
        Event.PUBLISH,
        Cases(Action.DROP),
        rate=ByClass((Rate(1, Fraction(1), 10), Rate(1, Fraction(10), 20))),
        bandwidth=ByClass((Rate(1000, Fraction(1), 500), Rate(1, Fraction(1), 700))),
    )
    assert burst(engine_of(both), Client(), packet=1) == 10
    assert burst(engine_of(both), Client(), packet=100) == 5
    assert burst(engine_of(both), Client(), packet=600) == 1


def test_actions_by_case() -> None:
    cases = Cases(Action.REJECT, {0: Action.DROP}, v3=Action.DELAY)
    engine = engine_of(limit(cases=cases))

    def action(version: int, qos: int) -> str:
        client = Client(f"{version}{qos}", version=version).subject()
        return [engine.judge(client, b"t", qos, now_ns=START).action for _ in range(2)][1]

    assert [action(5, qos) for qos in range(3)] == ["drop", "reject", "reject"]
    assert [action(4, qos) for qos in range(3)] == ["drop", "delay", "delay"]
    assert [action(3, qos) for qos in range(3)] == ["drop", "delay", "delay"]


def test_topics_of_one_event_do_not_match_another() -> None:
    engine = engine_of(limit("p", topic=("a/#",)), limit("s", topic=("a/b", "+/c"), on=Event.SUBSCRIBE))
    client = Client().subject()
    assert [engine.matching(client, b"a/b", event=event) for event in Event] == [[0], [], [1], [], [], [], []]
    assert engine.matching(client, b"x/c", event=Event.SUBSCRIBE) == [1]


def test_thousands_of_limits() -> None:
    limits = tuple(limit(f"limit {n}", topic=(f"plant/{n}/#", f"+/{n}")) for n in range(2000))
    engine = Engine(segment(slots=2000, policy_room=0), 0)
    engine.load(compiled(Policy((), limits)))
    client = Client().subject()
    assert engine.matching(client, b"plant/1777/x") == [1777]
    assert engine.matching(client, b"plant/1999") == [1999]
    assert engine.matching(client, b"x/0") == [0]


# What is too much


def test_levels_of_a_filter() -> None:
    engine = engine_of(limit(topic=("/".join("a" * MAX_LEVELS),)))
    client = Client().subject()
    assert [len(engine.matching(client, b"/".join([b"a"] * n))) for n in (127, 128, 129)] == [0, 1, 0]
    with pytest.raises(TooMuch, match="more than 128 levels"):
        compiled(Policy((), (limit(topic=("/".join("a" * (MAX_LEVELS + 1)),)),)))


def test_captures() -> None:
    def classes(number: int) -> tuple[ClientClass, ...]:
        return tuple(ClientClass(f"{n}", Conditions(client_id=(f"{n}{{c{n}}}",))) for n in range(number))

    compiled(Policy(classes(MAX_CAPTURES)))
    with pytest.raises(TooMuch, match="more than 16 names of captures"):
        compiled(Policy(classes(MAX_CAPTURES + 1)))


def test_components_of_keys() -> None:
    def limits(number: int) -> tuple[Limit, ...]:
        return tuple(limit(f"{n}", (Key(KeyKind.IP, v6=n), Key(KeyKind.CLIENT))) for n in range(number))

    engine_of(*limits(MAX_COMPONENTS - 1))
    with pytest.raises(TooMuch, match="more than 64 different keys"):
        compiled(Policy((), limits(MAX_COMPONENTS)))


def test_bursts_that_take_years() -> None:
    with pytest.raises(TooMuch, match="two years"):
        compiled(Policy((), (limit(rate=ByClass((Rate(1, Fraction(86400), 1000),))),)))


def records(blob: bytes, wanted: str) -> list[tuple[object, ...]]:
    """The records of one kind, of a compiled policy."""
    start = 120
    for (name, record), count in zip(RECORDS.items(), struct.unpack_from("<11I", blob, 24), strict=True):
        size = count * record.size
        if name == wanted:
            return [*record.iter_unpack(blob[start : start + size])]
        start += -(-size // 8) * 8
    raise KeyError(wanted)


def test_limits_have_the_times_of_their_bans_which_are_written_once() -> None:
    # At accept nobody has told a version yet: of what is decided there, the action for all of them counts.
    ban = Cases(Action.BAN, v3=Action.OBSERVE, v5=Action.OBSERVE)
    limits = (
        Limit("a", Event.AUTH_FAILURE, Cases(Action.BAN), rate=ONE_A_SECOND, ban=BanTimes(60, 2.5, 86400)),
        Limit("b", Event.CONNECT, ban, (Key(KeyKind.IP, 32, 64),), rate=ONE_A_SECOND),
        Limit("c", Event.PUBLISH, Cases(Action.REJECT, {2: Action.BAN}), rate=ONE_A_SECOND),
        Limit("d", Event.PUBLISH, DROP, rate=ONE_A_SECOND, ban=BanTimes(1, 1, 1)),
    )
    blob = compiled(Policy((), limits))
    assert records(blob, "ban") == [(30 * 10**9, 3600 * 10**9, 4.0), (60 * 10**9, 86400 * 10**9, 2.5)]
    # In the order of their events: c, d, b, a.
    assert [record[-1] for record in records(blob, "limit")] == [0, NONE, 0, 1]


def test_a_capture_is_known_by_its_name_whatever_its_number() -> None:
    def parts(*names: str) -> dict[object, object]:
        found = tuple(ClientClass(name, Conditions(client_id=(f"{{{name}}}",))) for name in names)
        limits = [limit(name, (Key(KeyKind.CAPTURE, capture=name),)) for name in names]
        return {number: name for _, number, name in records(compiled(Policy(found, tuple(limits))), "component")}

    there, back = parts("x", "y"), parts("y", "x")
    assert there[0] == back[1] != there[1] == back[0]
