"""More keys than there is room for count together: an attacker's crowd is the attacker, and nobody else notices."""

import random
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import untimed
from support.engine_model import Client, Message, Model
from support.segments import compiled, segment
from tidegate.engine.binding import TALLIES, Engine, Segment, Verdict
from tidegate.policy.compile import LARGEST_PACKET, assign_slots
from tidegate.policy.model import Action, ByClass, Cases, Event, Key, KeyKind, Limit, Policy, Rate

WORDS = 4096
OF_LIMIT = WORDS // 4
OF_ADDRESS = 256
"""Buckets that a limit, and one address in it, may have (native/budget.c); at most twice as many are in use at once."""
SECOND = 10**9
START = 1000 * SECOND
BURST = 3
LIFE = BURST + 1
"""Seconds that a bucket can be in use after its last charge, at one message a second."""


def limit(
    name: str = "a", per: KeyKind = KeyKind.CLIENT, action: Action = Action.BAN, on: Event = Event.PUBLISH
) -> Limit:
    rate: ByClass[tuple[Rate, ...]] = ByClass((Rate(1, Fraction(1), BURST),))
    return Limit(name, on, Cases(action, v3=action), per=(Key(per),), rate=rate)


def engine_of(*limits: Limit, words: int = WORDS) -> Engine:
    engine = Engine(segment(words=words, slots=8, records=64), 0)
    engine.load(compiled(Policy((), limits)))
    return engine


def live(one: Segment, slot: int, now_ns: int) -> int:
    return one.census(now_ns / SECOND, [0] * 8)[slot][0]


def flood(engine: Engine, names: Iterable[str], addresses: list[str], now_ns: int, step_ns: int = 0) -> list[Verdict]:
    """One message of each fresh client, from these addresses in turn."""
    verdicts = []
    for number, name in enumerate(names):
        client = Client(name, address=IPv4Address(addresses[number % len(addresses)])).subject()
        verdicts.append(engine.judge(client, b"t", 1, now_ns=now_ns + number * step_ns))
    return verdicts


def names(seed: int, count: int) -> list[str]:
    choose = random.Random(seed)
    return [f"{choose.getrandbits(64):x}" for _ in range(count)]


def admitted(verdicts: list[Verdict]) -> int:
    return sum(verdict.action == "pass" for verdict in verdicts)


@settings(untimed, max_examples=8)
@given(st.integers(0, 2**32), st.integers(0, 200_000))
def test_fresh_keys_of_one_address_end_in_its_crowd(seed: int, step_ns: int) -> None:
    engine = engine_of(limit())
    count = 20_000
    verdicts = flood(engine, names(seed, count), ["10.0.0.1"], START, step_ns)
    seconds = -(-count * step_ns // SECOND)
    buckets = OF_ADDRESS * (1 + seconds / LIFE)
    crowd = BURST + seconds
    assert OF_ADDRESS <= admitted(verdicts) <= buckets + crowd + 1
    assert live(engine.segment, 0, START + count * step_ns) <= 2 * OF_ADDRESS + 1
    assert {verdict.action for verdict in verdicts} <= {"pass", "reject"}
    assert all(verdict.crowd for verdict in verdicts if verdict.action != "pass")
    counted = dict(zip(TALLIES, engine.segment.tallies(0), strict=True))
    assert counted["passed"] + counted["reject"] == count
    assert counted["crowded"] >= count - buckets


def test_an_address_keeps_its_share_as_time_goes_by() -> None:
    engine = engine_of(limit())
    for number in range(10):
        now = START + 100 * number * SECOND
        assert OF_ADDRESS <= admitted(flood(engine, names(number, 1000), ["10.0.0.1"], now)) <= OF_ADDRESS + BURST


def test_many_addresses_fill_no_more_than_the_limits_share() -> None:
    engine = engine_of(limit(), limit("b", on=Event.SUBSCRIBE))
    addresses = [f"10.{number}.0.1" for number in range(60)]
    verdicts = flood(engine, names(1, 20_000), addresses, START)
    assert OF_LIMIT <= admitted(verdicts) <= OF_LIMIT + len(addresses) * BURST + BURST
    assert live(engine.segment, 0, START) <= 2 * OF_LIMIT
    # Another limit has its own share, even for who is in the crowd of this one.
    (crowded,) = flood(engine, ["calm"], addresses[:1], START)
    assert crowded.crowd
    client = Client("calm", address=IPv4Address(addresses[0])).subject()
    verdicts = [engine.judge(client, b"t", 1, event=Event.SUBSCRIBE, now_ns=START) for _ in range(BURST + 1)]
    assert [verdict.action for verdict in verdicts] == ["pass"] * BURST + ["ban"]
    assert not any(verdict.crowd for verdict in verdicts)


def test_a_crowd_is_of_one_neighbourhood() -> None:
    engine = engine_of(limit())
    flood(engine, names(1, 3000), ["10.0.0.1"], START)
    near, far = (
        flood(engine, names(seed, 50), [address], START) for seed, address in ((2, "10.0.0.200"), (3, "10.0.1.1"))
    )
    assert [admitted(near), admitted(far)] == [50, 50]  # they have shares of their own
    flood(engine, names(4, 3000), ["10.0.0.200"], START)
    flood(engine, names(5, 3000), ["10.0.1.1"], START)
    (verdict,) = flood(engine, ["a"], ["10.0.0.1"], START)
    assert verdict.crowd
    assert 0 < verdict.wait <= 1.000000001
    # A second later one of the crowd passes, whoever comes first.
    late = START + SECOND
    assert [admitted(flood(engine, names(6, 5), [address], late)) for address in ("10.0.0.200", "10.0.0.1")] >= [1, 0]


@settings(untimed, max_examples=10)
@given(st.integers(0, 2**32), st.booleans(), st.sampled_from((WORDS, 64, 16)))
def test_a_client_with_a_budget_keeps_exactly_that_budget(seed: int, near: bool, words: int) -> None:
    engine = engine_of(limit(action=Action.REJECT), words=words)
    policy = Policy((), (limit(action=Action.REJECT),))
    model = Model(LARGEST_PACKET)
    model.load(policy, assign_slots(policy))
    victim = Client("victim", address=IPv4Address("10.0.0.1"))
    subject = victim.subject()
    choose = random.Random(seed)
    now, full = START, START
    for _ in range(200):
        for _ in range(choose.randrange(1, BURST + 2)):
            expected = model.decide(victim, Message("t", 1), now)
            verdict = engine.judge(subject, b"t", 1, now_ns=now)
            assert (verdict.action, round(verdict.wait * SECOND)) == (expected.action.name.lower(), expected.wait)
            assert not verdict.crowd
            if verdict.action == "pass":
                full = max(full, now) + SECOND
        # Its budget is never quite full again: for a bucket that is, anybody may take the place.
        now += int((full - now) * choose.choice((0, 0.5, 0.9, 0.999999)))
        addresses = ["10.0.0.1"] if near else [f"10.{choose.randrange(250)}.{choose.randrange(3)}.1" for _ in range(9)]
        flood(engine, names(choose.getrandbits(32), choose.choice((0, 1, 20, 100))), addresses, now)


@settings(untimed, max_examples=10)
@given(st.integers(0, 2**32), st.sampled_from((WORDS, 64, 16)))
def test_throwaway_keys_between_refund_nothing(seed: int, words: int) -> None:
    engine = engine_of(limit(), words=words)
    choose = random.Random(seed)
    own = Client("attacker", address=IPv4Address("10.0.0.1")).subject()
    passed: list[int] = []
    now = START
    for _ in range(400):
        if engine.judge(own, b"t", 1, now_ns=now).action == "pass":
            passed.append(now)
        flood(engine, names(choose.getrandbits(32), choose.randrange(60)), ["10.0.0.1", "10.0.5.1"], now)
        now += choose.randrange(SECOND // 5)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            assert last - first + 1 <= BURST + (passed[last] - passed[first]) / SECOND


@settings(untimed, max_examples=10)
@given(st.integers(0, 2**32))
def test_even_with_pauses_a_key_has_at_most_its_budget_and_its_crowds(seed: int) -> None:
    engine = engine_of(limit())
    choose = random.Random(seed)
    own = Client("attacker", address=IPv4Address("10.0.0.1")).subject()
    passed = 0
    now = START
    for _ in range(150):
        for _ in range(10):
            passed += engine.judge(own, b"t", 1, now_ns=now).action == "pass"
        flood(engine, names(choose.getrandbits(32), choose.randrange(400)), ["10.0.0.1"], now)
        now += choose.choice((0, SECOND, 3 * SECOND, 5 * SECOND))
    assert passed <= 2 * (BURST + (now - START) / SECOND)


MILDEST = {
    (Event.PUBLISH, 5): "reject",
    (Event.PUBLISH, 4): "drop",
    (Event.CONNECT, 5): "reject",
    (Event.CONNECT, 4): "reject",
    (Event.SUBSCRIBE, 5): "reject",
    (Event.SUBSCRIBE, 4): "reject",
    (Event.DELIVER, 5): "drop",
    (Event.WILL, 4): "drop",
    (Event.PACKET, 5): "delay",
    (Event.AUTH_FAILURE, 5): "pass",
}


@pytest.mark.parametrize(("event", "version"), MILDEST)
@pytest.mark.parametrize("action", [Action.BAN, Action.DISCONNECT])
def test_nobody_is_thrown_out_for_a_crowd(event: Event, version: int, action: Action) -> None:
    engine = engine_of(limit(action=action, on=event))
    actions: Counter[tuple[bool, str]] = Counter()
    for number in range(2000):
        client = Client(f"{number}", address=IPv6Address(0x2001_0DB8 << 96 | number), version=version).subject()
        verdict = engine.judge(client, b"t", 1, event=event, now_ns=START)
        actions[verdict.crowd, verdict.action] += 1
    assert set(actions) == {(False, "pass"), (MILDEST[event, version] != "pass", MILDEST[event, version])}
    own = Client("0", address=IPv6Address("2001:db8::"), version=version).subject()
    for _ in range(BURST):
        verdict = engine.judge(own, b"t", 1, event=event, now_ns=START)
    assert verdict.action == action.name.lower()  # who has a budget of its own answers for it
    counted = dict(zip(TALLIES, engine.segment.tallies(0), strict=True))
    assert counted[MILDEST[event, version].replace("pass", "observe")] == 2000 - OF_ADDRESS - BURST


def test_a_crowd_is_told_of_once() -> None:
    engine = engine_of(limit())
    flood(engine, names(1, 5000), ["10.0.0.1"], START)
    told = [(event.kind, event.action, event.crowd) for event in engine.segment.events(0, 0)[0]]
    assert told == [("began", "reject", True)]
