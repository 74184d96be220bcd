"""Segment, Subject and Engine as Python sees them; tests/property/test_engine.py holds their decisions to a model."""

import struct
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from ipaddress import IPv4Address
from mmap import mmap
from typing import Any

import pytest

from support.engine_model import Client
from support.segments import BOOT, SECRET, compiled, room, segment, table_at
from tidegate.engine.binding import ACTIONS, TALLIES, Engine, Meter, Segment, Subject, Transition
from tidegate.engine.errors import PolicyError, SegmentError
from tidegate.engine.format import TICKS, price
from tidegate.policy.compile import assign_slots, compile_policy
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

SECOND = 10**9
START = 1000 * SECOND
SWEEPS = 32
"""So many look at all places where what goes on may be written down (native/events.c)."""


def classes_of(client: Subject) -> list[int]:
    return list(client.classes)


def limit(
    name: str = "a",
    action: Action = Action.REJECT,
    burst: int = 1,
    per: KeyKind = KeyKind.CLIENT,
    *,
    on: Event = Event.PUBLISH,
    period: Fraction = Fraction(1),
    classes: Mapping[str, tuple[Rate, ...] | None] | None = None,
) -> Limit:
    rate = ByClass((Rate(1, period, burst),), classes or {})
    return Limit(name, on, Cases(action, v3=action), per=(Key(per),), rate=rate)


def engine_of(*limits: Limit, classes: tuple[ClientClass, ...] = (), memory: Segment | None = None) -> Engine:
    engine = Engine(memory or segment(), 0)
    engine.load(compiled(Policy(classes, limits)))
    return engine


# Segment


def test_a_segment_says_its_shape() -> None:
    one = segment(rows=3, slots=5, words=32, policy_room=999)
    assert (one.rows, one.slots, one.words, one.policy_room, one.generation) == (3, 5, 32, 999, 0)


def test_a_policy_is_published_to_whoever_shares_the_memory() -> None:
    memory = room(policy_room=1000)
    writer, reader = Segment(memory, BOOT), Segment(memory, BOOT)
    assert reader.policy() == b""
    for generation in range(1, 6):
        policy = bytes([generation]) * (generation * 200)
        assert writer.publish(policy)
        assert (reader.generation, reader.policy()) == (generation, policy)
    assert not writer.publish(bytes(1001))
    assert reader.generation == 5


def test_a_reader_of_the_former_generation_is_not_disturbed_by_the_next() -> None:
    memory = room(policy_room=4088, words=16)
    one = Segment(memory, BOOT)
    one.publish(b"a" * 4088)
    before = memory[table_at(memory, 16, 4088) :]
    one.publish(b"b" * 4088)
    assert memory[-8192:].count(b"b") + before.count(b"a") == 2 * 4088
    assert memory[table_at(memory, 16, 4088) :].count(b"a") == 4088


def test_a_segment_without_room_for_a_policy_has_none() -> None:
    one = segment(policy_room=0)
    assert not one.publish(b"x")
    assert one.policy() == b""
    assert one.generation == 0


def test_the_size_of_a_policy_is_not_believed() -> None:
    memory = room(words=16, policy_room=100)
    one = Segment(memory, BOOT)
    one.publish(bytes(100))
    half = table_at(memory, 16, 100) + 4096 + 4096  # generation 1 lies in the second
    assert struct.unpack_from("<Q", memory, half) == (100,)
    for size in (101, 1 << 63, (1 << 64) - 1):
        struct.pack_into("<Q", memory, half, size)
        assert one.policy() == b""


def test_changes_of_scale_factors_are_counted() -> None:
    one = segment(slots=4)
    assert one.scalings == 0
    one.reset_scales()  # to what they are
    assert one.scalings == 0
    one.set_scale(3, Priority.LOW, 0.5)
    assert one.scalings == 1
    one.reset_scales()
    assert one.scalings == 2


@pytest.mark.parametrize("call", ["tallies", "forget"])
def test_a_place_that_is_not_there(call: str) -> None:
    with pytest.raises(IndexError):
        getattr(segment(slots=4), call)(4)


def test_a_row_or_priority_that_is_not_there() -> None:
    one = segment(rows=2)
    with pytest.raises(IndexError):
        one.events(2, 0)
    with pytest.raises(IndexError):
        one.events_lost(2)
    with pytest.raises(IndexError):
        one.set_scale(64, 0, 1.0)
    with pytest.raises(IndexError):
        one.set_scale(0, 4, 1.0)
    with pytest.raises(IndexError):
        Engine(one, 2)


def test_tallies_are_summed_over_the_processes() -> None:
    memory = room(rows=3)
    policy = compiled(Policy((), (limit(), limit("b", Action.OBSERVE))))
    client = Client().subject()
    for row in range(3):
        engine = Engine(Segment(memory, BOOT), row)
        engine.load(policy)
        for _ in range(2):
            engine.judge(client, b"t", now_ns=START)
    one = Segment(memory, BOOT)
    assert dict(zip(TALLIES, one.tallies(0), strict=True)) == dict.fromkeys(TALLIES, 0) | {"passed": 1, "reject": 5}
    assert one.tallies(1)[:2] == [1, 5]
    one.forget(0)
    assert one.tallies(0) == [0] * len(TALLIES)
    assert one.tallies(1)[0] == 1


def test_a_process_that_only_asks_counts_and_tells_nothing() -> None:
    one = segment()
    engine = Engine(one, -1)
    engine.load(compiled(Policy((), (limit(),))))
    client = Client().subject()
    assert [engine.judge(client, b"t", now_ns=START).action for _ in range(2)] == ["pass", "reject"]
    assert one.tallies(0) == [0] * len(TALLIES)
    assert one.events(0, 0) == ([], 0, 0)


def test_a_place_that_another_limit_gets_is_as_new() -> None:
    one = segment(words=16)
    engine = engine_of(limit(burst=4, period=Fraction(100)), memory=one)
    one.set_scale(0, Priority.NORMAL, 0.25)
    for number in range(20):  # all quotas and the crowd's last resort are used
        engine.judge(Client(f"{number}").subject(), b"t", now_ns=START)
    assert engine.judge(Client("x").subject(), b"t", now_ns=START).crowd
    one.forget(0)
    engine.load(compiled(Policy((), (limit("b", burst=4),))))
    verdicts = [engine.judge(Client("y").subject(), b"t", now_ns=START + 500 * SECOND) for _ in range(5)]
    assert [verdict.action for verdict in verdicts] == ["pass"] * 4 + ["reject"]
    assert not any(verdict.crowd for verdict in verdicts)


def test_census_tells_buckets_in_use_and_those_that_refuse() -> None:
    one = segment()
    engine = engine_of(limit(burst=3), limit("b", per=KeyKind.ALL, on=Event.PACKET), memory=one)
    for number in range(5):
        for _ in range(number):
            engine.judge(Client(f"{number}").subject(), b"t", now_ns=START)
    bursts = engine.bursts()
    assert bursts == [2 * TICKS, 0]
    assert one.census(START / SECOND, bursts) == [(4, 2), (0, 0)]
    assert one.census(START / SECOND + 1.5, bursts) == [(3, 0), (0, 0)]
    assert one.census(START / SECOND + 5, bursts) == [(0, 0), (0, 0)]
    assert one.census(START / SECOND, bursts[:1]) == [(4, 2)]
    assert one.census(START / SECOND, []) == []


def test_bursts_of_the_largest_budget_in_the_policys_order() -> None:
    rate: ByClass[tuple[Rate, ...]] = ByClass((Rate(1000, Fraction(1), 500),))
    engine = engine_of(
        Limit("a", Event.PUBLISH, Cases(Action.DROP), bandwidth=rate), Limit("b", Event.WILL, Cases(Action.DROP))
    )
    assert engine.bursts() == [pytest.approx(TICKS / 2, abs=2000), 0]
    by_class = limit("c", burst=3, classes={"plc": (Rate(1, Fraction(60), 2),)})
    assert engine_of(by_class, limit(burst=5), classes=(PLC,)).bursts() == [60 * TICKS, 4 * TICKS]
    assert Engine(segment(), 0).bursts() == []


# Events


def told(one: Segment, after: int = 0) -> list[tuple[str, str, int, float, str]]:
    return [(it.kind, it.action, it.count, it.now, it.client_id) for it in one.events(0, after)[0]]


def test_an_excess_is_told_when_it_begins_while_it_goes_on_and_when_it_has_ended() -> None:
    one = segment()
    engine = engine_of(limit(period=Fraction(1000)), memory=one)
    client = Client("c", "u", IPv4Address("10.1.2.3")).subject()
    for second in range(66):
        engine.judge(client, b"plant/1", now_ns=START + second * SECOND)
    assert told(one) == [
        ("began", "reject", 1, 1001.0, "c"),
        ("still", "reject", 31, 1032.0, "c"),
        ("still", "reject", 31, 1063.0, "c"),
    ]
    for _ in range(SWEEPS):
        engine.sweep(1070.0)
    assert told(one, 3) == []
    for _ in range(SWEEPS):
        engine.sweep(1070.1)
    assert [(kind, count, client) for kind, _, count, _, client in told(one, 3)] == [("ended", 2, "c")]
    first = one.events(0, 0)[0][0]
    assert first == Transition(
        "began", "reject", 0, 1, False, 1001.0, first.key, 4, bytes([10, 1, 2, 3]) + bytes(12), "c", "u", "plant/1"
    )
    assert len({it.key for it in one.events(0, 0)[0]}) == 1


def test_an_excess_that_comes_back_after_a_while_ends_and_begins() -> None:
    one = segment()
    engine = engine_of(limit(period=Fraction(1000)), memory=one)
    client = Client().subject()
    for second in (0, 1, 2, 10):
        engine.judge(client, b"t", now_ns=START + second * SECOND)
    assert [(kind, count) for kind, _, count, _, _ in told(one)] == [("began", 1), ("ended", 1), ("began", 1)]


def test_texts_are_cut_between_characters() -> None:
    one = segment()
    engine = engine_of(limit(), memory=one)
    client = Client("é" * 40, "x" + "😀" * 20).subject()
    for _ in range(2):
        engine.judge(client, "ab€".encode() * 30, now_ns=START)
    (event,) = one.events(0, 0)[0]
    assert (event.client_id, event.username, event.topic) == ("é" * 32, "x" + "😀" * 11, "ab€" * 16)


def test_observed_messages_are_told() -> None:
    one = segment()
    engine = engine_of(limit("a", Action.OBSERVE), limit("b", burst=9), memory=one)
    client = Client().subject()
    for _ in range(2):
        assert engine.judge(client, b"t", again=True, now_ns=START).action == "pass"
    assert [(it.slot, it.action) for it in one.events(0, 0)[0]] == [(0, "observe")]
    assert one.tallies(0)[:2] == [1, 1]


# Delays


def test_a_verdict_that_delays_says_what_for_how_long_and_what_then() -> None:
    engine = engine_of(limit("a", burst=9), replace(limit("b", Action.DELAY), max_delay=1.5, then=Cases(Action.DROP)))
    client, other = Client().subject(), Client("other").subject()
    for one in (client, other):
        assert engine.judge(one, b"t", now_ns=START).action == "pass"
    assert (engine.queue, engine.max_delay, engine.then, engine.slot) == (0, 0.0, Action.PASS, -1)
    assert engine.judge(client, b"t", now_ns=START) == ("delay", "b", 1.000000001, 2, False, False)
    assert (engine.max_delay, engine.then, engine.slot, engine.by_window) == (1.5, Action.DROP, 1, False)
    queue = engine.queue
    assert engine.judge(other, b"t", now_ns=START).action == "delay"
    assert 0 != engine.queue != queue
    assert engine.judge(client, b"other", now_ns=START).action == "delay"
    assert engine.queue == queue


def test_of_several_that_delay_it_waits_for_the_one_that_takes_longest() -> None:
    engine = engine_of(
        *(limit(name, Action.DELAY, period=Fraction(of)) for name, of in zip("abc", (1, 9, 5), strict=True))
    )
    client = Client().subject()
    for _ in range(2):
        verdict = engine.judge(client, b"t", now_ns=START)
    assert verdict == ("delay", "b", 9.000000001, 3, False, False)
    assert engine.slot == 1


def test_what_is_held_is_not_counted_again_until_it_is_over() -> None:
    one = segment()
    engine = engine_of(limit("a", Action.OBSERVE), limit("b", Action.DELAY), memory=one)
    client = Client().subject()
    engine.judge(client, b"t", now_ns=START)
    held = [False, True, True]
    assert [engine.judge(client, b"t", held=it, now_ns=START).action for it in held] == ["delay"] * 3
    assert one.tallies(0)[:3] == [1, 1, 0]
    assert one.tallies(1)[:3] == [1, 0, 1]
    assert [(it.slot, it.kind, it.action) for it in one.events(0, 0)[0]] == [
        (0, "began", "observe"),
        (1, "began", "delay"),
    ]
    assert engine.judge(client, b"t", held=True, now_ns=START + SECOND).action == "pass"
    assert one.tallies(1)[:3] == [2, 0, 1]


def test_what_is_held_and_refused_in_the_end_is_counted() -> None:
    one = segment()
    engine = engine_of(limit("a", Action.DELAY), limit("b", Action.DROP), memory=one)
    client = Client().subject()
    engine.judge(client, b"t", now_ns=START)
    assert engine.judge(client, b"t", held=True, now_ns=START).action == "drop"
    assert one.tallies(1)[: Action.DROP + 1] == [1, 0, 0, 1]


def test_a_delay_that_was_too_long_is_counted_and_told_as_what_it_ends_in() -> None:
    one = segment()
    engine = engine_of(limit("a", Action.DELAY), memory=one)
    client = Client().subject()
    for _ in range(2):
        engine.judge(client, b"t", now_ns=START)
    for _ in range(3):
        engine.judge(client, b"t", held=True, now_ns=START)
        engine.late(client, Action.REJECT, START / SECOND)
    assert one.tallies(0)[: Action.REJECT + 1] == [1, 0, 1, 0, 3]
    assert [(it.kind, it.action) for it in one.events(0, 0)[0]] == [("began", "delay"), ("began", "reject")]
    engine.late(client, len(ACTIONS), START / SECOND)
    engine.judge(client, b"t", now_ns=START + SECOND)
    engine.late(client, Action.DROP, START / SECOND)  # it has passed: no limit has had it waiting
    assert one.tallies(0)[: Action.REJECT + 1] == [2, 0, 1, 0, 3]


def test_a_question_charges_nothing() -> None:
    engine = engine_of(limit("a", Action.DELAY))
    client = Client().subject()
    for _ in range(3):
        assert engine.judge(client, b"t", ask=True, now_ns=START).action == "pass"
    assert [engine.judge(client, b"t", ask=ask, now_ns=START).action for ask in (False, True)] == ["pass", "delay"]
    assert engine.wait == 1.000000001


@pytest.mark.parametrize("action", [Action.DROP, Action.REJECT, Action.DELAY])
def test_a_redelivery_is_delayed_and_in_the_end_its_client_must_come_again(action: Action) -> None:
    one = segment()
    engine = engine_of(limit(action=action), memory=one)
    client = Client().subject()
    assert engine.judge(client, b"t", 2, again=True, now_ns=START).action == "pass"
    assert engine.judge(client, b"t", 2, again=True, now_ns=START).action == "delay"
    assert (engine.then, engine.max_delay) == (Action.DISCONNECT, 5.0)
    assert one.tallies(0)[: Action.DELAY + 1] == [1, 0, 1]
    assert engine.judge(client, b"t", 2, now_ns=START).action == action.name.lower()
    assert engine.judge(client, b"t", 2, again=True, now_ns=START + SECOND).action == "pass"


def test_what_is_too_large_has_nothing_to_wait_for() -> None:
    engine = engine_of(
        *(
            Limit(
                action.name,
                Event.PUBLISH,
                Cases(action),
                topic=(action.name,),
                size=ByClass(1),
                then=Cases(Action.DROP),
            )
            for action in (Action.DELAY, Action.DROP, Action.REJECT, Action.BAN)
        )
    )
    client = Client().subject()

    def actions(*, again: bool) -> list[str]:
        names = [name.encode() for name in engine.names]
        return [engine.judge(client, name, 2, payload=2, again=again, now_ns=START).action for name in names]

    assert actions(again=False) == ["drop", "drop", "reject", "ban"]
    assert actions(again=True) == ["disconnect", "disconnect", "disconnect", "ban"]
    assert engine.by_size


def test_whether_a_client_may_be_delayed() -> None:
    only_plc = replace(limit("a", Action.DELAY), classes=("plc",))
    engine = engine_of(
        only_plc, limit("b", Action.REJECT), limit("c", Action.DELAY, on=Event.SUBSCRIBE), classes=(PLC,)
    )
    assert engine.delays(Client("plc-1").subject())
    assert not engine.delays(Client("x").subject())
    by_case = Limit("a", Event.PUBLISH, Cases(Action.DROP, {2: Action.DELAY}, v3=Action.DROP), size=ByClass(1))
    assert engine_of(by_case).delays(Client().subject())
    v3 = replace(by_case, on_excess=Cases(Action.REJECT, v3=Action.DELAY))
    assert [engine_of(v3).delays(Client(version=version).subject()) for version in (3, 4, 5)] == [True, True, False]
    assert not Engine(segment(), 0).delays(Client().subject())


# The ring


def test_events_that_were_overwritten_are_counted_as_lost() -> None:
    one = segment(records=8)
    engine = engine_of(limit(), memory=one)
    for number in range(20):
        client = Client(f"{number}", address=IPv4Address(number)).subject()
        engine.judge(client, b"t", now_ns=START)
        engine.judge(client, b"t", now_ns=START)
    events, written, lost = one.events(0, 0)
    assert ([it.client_id for it in events], written, lost) == ([f"{number}" for number in range(12, 20)], 20, 12)
    events, written, lost = one.events(0, 18)
    assert ([it.client_id for it in events], written, lost) == (["18", "19"], 20, 0)
    assert one.events(0, 20) == ([], 20, 0)
    assert one.events_lost(0) == 0


def test_a_flood_of_keys_does_not_push_out_who_is_told_of() -> None:
    one = segment(records=8192, words=1 << 20)
    engine = engine_of(limit(), memory=one)
    for number in range(12000):
        client = Client(f"{number}", address=IPv4Address(0x0A000000 + 256 * number)).subject()
        engine.judge(client, b"t", now_ns=START)
        engine.judge(client, b"t", now_ns=START)
    events, written, _ = one.events(0, 0)
    assert written == len(events) <= 8192
    assert one.events_lost(0) == 12000 - written
    assert {it.kind for it in events} == {"began"}


KEYS = (Key(KeyKind.CLIENT), Key(KeyKind.TOPIC))


def test_one_source_does_not_push_out_the_others() -> None:
    one = segment(records=8192)
    engine = engine_of(Limit("a", Event.PUBLISH, Cases(Action.DROP), KEYS, size=ByClass(1)), memory=one)
    flooder = Client("flooder", address=IPv4Address("192.0.2.1")).subject()
    for number in range(5000):
        engine.judge(flooder, b"t/%d" % number, payload=2, now_ns=START)
    for number in range(100):
        other = Client(f"{number}", address=IPv4Address(0x0A000000 + 256 * number)).subject()
        engine.judge(other, b"other/%d" % number, payload=2, now_ns=START)
    told = {it.client_id for it in one.events(0, 0)[0]}
    assert len(told) > 90, "all others but those whose places happen to be the flooder's"


def test_an_episode_that_grows_stricter_is_told_again() -> None:
    one = segment()
    engine = engine_of(
        Limit("a", Event.PUBLISH, Cases(Action.DISCONNECT, {0: Action.DROP}), size=ByClass(1)), memory=one
    )
    client = Client().subject()
    for qos in (0, 1, 0):
        engine.judge(client, b"t", qos, payload=2, now_ns=START)
    assert [(it.kind, it.action) for it in one.events(0, 0)[0]] == [("began", "drop"), ("still", "disconnect")]


def test_a_segment_without_records_tells_nothing() -> None:
    one = segment(records=0)
    engine = engine_of(limit(), memory=one)
    for _ in range(2):
        engine.judge(Client().subject(), b"t", now_ns=START)
    assert one.events(0, 0) == ([], 0, 0)


@pytest.mark.parametrize("written", [1, 7, 8, 9, 1 << 31, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("after", [0, 5, 1 << 40, (1 << 64) - 1])
def test_whatever_the_events_head_says_a_reader_ends(written: int, after: int) -> None:
    memory = room(rows=1, slots=1, records=8)
    for at in range(3 * 4096, 3 * 4096 + 8 * 256):  # behind head, slots and tallies
        memory[at] = 0xA5
    struct.pack_into("<Q", memory, 3 * 4096, written)
    events, now, lost = Segment(memory, BOOT).events(0, after)
    assert now == written
    assert len(events) <= 8
    assert lost <= 1 << 32


def test_an_event_of_nonsense_is_read_without_harm() -> None:
    memory = room(rows=1, slots=1, records=1)
    head, event = 3 * 4096, 4 * 4096
    memory[event : event + 256] = b"\xff" * 256
    struct.pack_into("<Q", memory, head, 1)
    struct.pack_into("<Q", memory, event, 1)
    (read,) = Segment(memory, BOOT).events(0, 0)[0]
    assert (read.kind, read.action, len(read.client_id), len(read.username), len(read.topic)) == (
        "began",
        "pass",
        64,
        48,
        80,
    )


# Subjects


@pytest.mark.parametrize("address", [b"\x01", bytes(5), bytes(17)])
def test_an_address_has_4_or_16_bytes_or_none(address: bytes) -> None:
    with pytest.raises(ValueError, match="4 or 16 bytes"):
        Subject(b"c", None, address, b"l", 5)


@pytest.mark.parametrize("which", [0, 2, 3])
def test_only_a_user_name_may_be_missing(which: int) -> None:
    texts: list[Any] = [b"c", b"u", b"", b"l"]
    texts[which] = None
    with pytest.raises(TypeError):
        Subject(texts[0], texts[1], texts[2], texts[3], 5)


PLC = ClientClass("plc", Conditions(client_id=("plc-*",)), priority=Priority.HIGH)
TESTER = ClientClass("tester", Conditions(username=("t*",)), priority=Priority.LOW, exempt=True)


def test_a_client_gets_its_classes_when_it_is_resolved() -> None:
    engine = engine_of(limit(), classes=(PLC, TESTER))
    both = Client("plc-1", "tim").subject()
    assert (classes_of(both), both.priority, both.exempt) == ([], Priority.NORMAL, False)
    engine.resolve(both)
    assert (classes_of(both), both.priority, both.exempt) == ([0, 1], Priority.HIGH, True)
    neither = Client("x").subject()
    engine.resolve(neither)
    assert (classes_of(neither), neither.priority, neither.exempt) == ([], Priority.NORMAL, False)


def test_a_client_is_resolved_again_after_a_reload_and_by_another_engine() -> None:
    one = segment()
    first, second = engine_of(limit(), classes=(PLC, TESTER), memory=one), Engine(one, -1)
    client = Client("plc-1", "tim").subject()
    first.judge(client, b"t", now_ns=START)
    assert classes_of(client) == [0, 1]
    second.load(compiled(Policy((TESTER,), tuple(limit(name) for name in "abcdefgh"))))
    assert second.judge(client, b"t", now_ns=START).matched == 8
    assert classes_of(client) == [0]
    assert first.judge(client, b"t", now_ns=START).matched == 1
    first.load(compiled(Policy()))
    assert first.judge(client, b"t", now_ns=START).matched == 0
    first.load(compiled(Policy((PLC,), (limit(),))))
    assert first.judge(client, b"t", now_ns=START).matched == 1
    assert (classes_of(client), client.priority, client.exempt) == ([0], Priority.HIGH, False)


def test_an_engine_makes_clients_too() -> None:
    engine = engine_of(limit(), classes=(PLC,))
    client = engine.subject(b"plc-1", None, bytes(4), b"l", 4)
    assert engine.judge(client, b"t", now_ns=START).action == "pass"
    assert classes_of(client) == [0]


def test_a_client_identifier_that_is_empty_is_one_key_for_each_connection() -> None:
    engine = engine_of(limit())
    one, again, other = (Client("", nonce=nonce).subject() for nonce in (1, 1, 2))
    assert [engine.judge(client, b"t", now_ns=START).action for client in (one, again, other)] == [
        "pass",
        "reject",
        "pass",
    ]


def test_many_clients_of_few_classes_share_few_profiles() -> None:
    engine = engine_of(*(limit(f"{number}") for number in range(64)), classes=(PLC,))
    clients = [Client(f"{'plc-' if number % 2 else ''}{number}").subject() for number in range(2000)]
    tracemalloc.start()
    for client in clients:
        engine.resolve(client)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {client.classes for client in clients} == {(), (0,)}
    assert held < 256 * len(clients)  # a profile of 64 limits has 3 KiB


# Engine


def test_an_engine_without_a_policy_lets_everything_pass() -> None:
    engine = Engine(segment(), 0)
    client = Client().subject()
    assert engine.judge(client, b"t", now_ns=START) == ("pass", "", 0.0, 0, False, False)
    assert engine.matching(client, b"t") == []
    assert (engine.limits, engine.names) == (0, [])
    with pytest.raises(PolicyError, match="no policy is loaded"):
        engine.resolve(client)


def test_a_policy_that_is_none_leaves_the_former_one() -> None:
    engine = engine_of(limit())
    client = Client().subject()
    engine.judge(client, b"t", now_ns=START)
    for wrong in (b"", b"x" * 200, compiled(Policy((), (limit("b"),)))[:-8]):
        with pytest.raises(PolicyError):
            engine.load(wrong)
    assert engine.names == ["a"]
    assert engine.judge(client, b"t", now_ns=START).limit == "a"


def test_a_limit_beyond_the_segments_places_is_refused() -> None:
    policy = Policy((), tuple(limit(name) for name in "abc"))
    engine = Engine(segment(slots=2), 0)
    with pytest.raises(PolicyError, match="limit 2"):
        engine.load(compiled(policy))


def test_a_verdict_does_not_outlive_its_policy() -> None:
    engine = engine_of(limit())
    client = Client().subject()
    for _ in range(2):
        engine.judge(client, b"t", now_ns=START)
    assert (engine.refused_by, engine.wait > 0) == ("a", True)
    engine.load(compiled(Policy()))
    assert engine.judge(client, b"t", now_ns=START) == ("pass", "", 0.0, 0, False, False)
    assert (engine.refused_by, engine.wait, engine.by_size) == ("", 0.0, False)


@pytest.mark.parametrize(
    ("at", "end", "qos"), [(-1, 1, 0), (2, 1, 0), (0, 5, 0), (0, 1, -1), (0, 1, 3), (0, 1 << 40, 0)]
)
def test_a_topic_or_qos_that_is_not_there(at: int, end: int, qos: int) -> None:
    engine = engine_of(limit())
    with pytest.raises(IndexError):
        engine.decide(Client().subject(), b"abcd", at, end, qos, False, 0, 0, False, 1.0)


@pytest.mark.parametrize("event", [-1, 7])
def test_an_event_that_is_none(event: int) -> None:
    engine = engine_of(limit())
    with pytest.raises(IndexError):
        engine.judge(Client().subject(), b"t", event=event, now_ns=START)
    with pytest.raises(IndexError):
        engine.matching(Client().subject(), b"t", event=event)
    with pytest.raises(IndexError):
        engine.matching(Client().subject(), b"t", qos=3)


def test_decide_takes_the_topic_from_where_it_lies_in_the_packet() -> None:
    a = Limit("a", Event.PUBLISH, Cases(Action.DROP), topic=("a",), rate=ByClass((Rate(1, Fraction(1), 1),)))
    engine = engine_of(a)
    client = Client().subject()
    packet = b"\x30\x05\x00\x01abc"
    assert [engine.decide(client, packet, 4, 5, 0, False, 7, 2, False, 1000.0) for _ in range(2)] == [0, Action.DROP]
    assert engine.last() == ("drop", "a", 1.000000001, 1, False, False)
    assert engine.decide(client, packet, 4, 6, 0, False, 7, 1, False, 1000.0) == Action.PASS
    assert engine.refused_by == ""
    assert engine.decide(client, packet, 4, 5, 0, False, 7, 2, True, 1000.0) == Action.DELAY
    assert engine.refused_by == "a"


def test_matching_names_limits_and_charges_nothing() -> None:
    engine = engine_of(limit("p", on=Event.PACKET), limit("a"), limit("b"))
    client = Client().subject()
    for _ in range(3):
        assert engine.matching(client, b"t") == [0, 1]
        assert engine.names == ["a", "b", "p"]
        assert engine.matching(client, b"t", event=Event.PACKET) == [2]
    assert engine.judge(client, b"t", now_ns=START).action == "pass"


def test_names_of_actions_are_the_models() -> None:
    assert [name.upper() for name in ACTIONS] == [action.name for action in Action]
    assert ("passed", *ACTIONS[1:], "crowded") == TALLIES


def test_a_scale_factor_changes_the_rate_and_not_the_burst() -> None:
    one = segment()
    engine = engine_of(limit(burst=4), memory=one)
    client = Client().subject()
    one.set_scale(0, Priority.NORMAL, 0.5)
    verdicts = [engine.judge(client, b"t", now_ns=START) for _ in range(3)]
    assert [verdict.action for verdict in verdicts] == ["pass", "pass", "reject"]  # four seconds of tolerance
    assert verdicts[-1].wait == pytest.approx(2.0, abs=1e-6)
    one.set_scale(0, Priority.NORMAL, 1.0)
    one.set_scale(0, Priority.LOW, 0.0)
    assert engine.judge(client, b"t", now_ns=START + SECOND).action == "pass"


@pytest.mark.parametrize("factor", [0.0, -1.0, 1e-9, 1 / 256])
def test_no_scale_factor_is_below_one_256th(factor: float) -> None:
    one = segment()
    engine = engine_of(limit(), memory=one)
    client = Client().subject()
    one.set_scale(0, Priority.NORMAL, factor)
    engine.judge(client, b"t", now_ns=START)
    assert engine.judge(client, b"t", now_ns=START).wait == pytest.approx(256.0)


def test_a_budget_that_lies_too_far_ahead_is_set_back_once_and_for_all() -> None:
    engine = engine_of(limit(burst=1, period=Fraction(86400 * 7)))
    client = Client().subject()
    assert engine.judge(client, b"t", now_ns=START).action == "pass"
    engine.load(compiled(Policy((), (limit(burst=2, period=Fraction(1)),))))
    assert engine.judge(client, b"t", now_ns=START).wait == pytest.approx(2.0)
    assert engine.judge(client, b"t", now_ns=START + SECOND).wait == pytest.approx(1.0)
    assert engine.judge(client, b"t", now_ns=START + 2 * SECOND).action == "pass"


def test_what_a_slower_rate_of_the_same_budget_has_charged_is_no_damage() -> None:
    shared = limit(per=KeyKind.ALL, period=Fraction(60), classes={"plc": (Rate(10, Fraction(1), 1),)})
    engine = engine_of(shared, classes=(PLC,))
    slow, fast = Client("x").subject(), Client("plc-1").subject()
    assert engine.judge(slow, b"t", now_ns=START).action == "pass"
    assert engine.judge(fast, b"t", now_ns=START).wait == pytest.approx(60.0)
    assert engine.judge(slow, b"t", now_ns=START + 30 * SECOND).wait == pytest.approx(30.0)


def test_a_class_that_does_not_fit_captures_nothing() -> None:
    tenant = ClientClass("tenant", Conditions(username=("{tenant}:*",)), (Conditions(version=(5,)),))
    per = Limit(
        "a",
        Event.PUBLISH,
        Cases(Action.DROP),
        per=(Key(KeyKind.CAPTURE, capture="tenant"),),
        rate=ByClass((Rate(1, Fraction(1), 1),)),
    )
    engine = engine_of(per, classes=(tenant,))
    assert engine.matching(Client("c", "a:b", version=5).subject(), b"t") == [0]
    assert engine.matching(Client("c", "a:b", version=4).subject(), b"t") == []


def test_a_budget_per_class_stays_with_the_class_when_the_order_changes() -> None:
    classes = (ClientClass("x", Conditions(client_id=("x",))), ClientClass("y", Conditions(client_id=("y",))))
    limits = (limit(per=KeyKind.CLASS, period=Fraction(100)),)
    engine = engine_of(*limits, classes=classes)
    x, y = Client("x").subject(), Client("y").subject()
    assert engine.judge(x, b"t", now_ns=START).action == "pass"
    engine.load(compiled(Policy(classes[::-1], limits)))
    assert [engine.judge(client, b"t", now_ns=START).action for client in (x, y)] == ["reject", "pass"]


# Meter


def test_meters_of_one_segment_are_apart() -> None:
    one = segment(slots=2)
    first, same, other = (Meter(one, identity, 1, price(1, Fraction(1), 1)) for identity in (1, 1, 2))
    assert first.hit(b"k", 1, START) == 0
    assert same.hit(b"k", 1, START) == SECOND + 1
    assert other.hit(b"k", 1, START) == 0
    with pytest.raises(SegmentError, match="all 2 places"):
        Meter(one, 3, 1, price(1, Fraction(1), 1))


def test_two_segments_hash_differently() -> None:
    def places(secret: tuple[int, int]) -> bytes:
        memory: mmap = room(slots=1, words=1024, policy_room=0, secret=secret)
        meter = Meter(Segment(memory, BOOT), 1, 1, price(1, Fraction(1), 1))
        for number in range(20):
            meter.hit(b"%d" % number, 1, START)
        return memory[4096:]

    assert places(SECRET) == places(SECRET)
    assert places(SECRET) != places((SECRET[0] + 1, SECRET[1]))


def test_slots_decide_where_a_limit_counts() -> None:
    policy = Policy((), (limit("a"), limit("b")))
    assert assign_slots(policy) == {"a": 0, "b": 1}
    one = segment()
    engine = Engine(one, 0)
    engine.load(compile_policy(policy, {"a": 7, "b": 3}))
    engine.judge(Client().subject(), b"t", now_ns=START)
    assert [one.tallies(slot)[0] for slot in (0, 1, 3, 7)] == [0, 0, 1, 1]


def claim_at(now_ns: int, nonce: int = 77) -> int:
    """What stands for a time in a word that somebody is about to make a bucket of (native/table.c)."""
    return now_ns >> 20 << 32 | nonce << 1 | 1


def test_the_claim_of_a_process_that_died_is_taken_over() -> None:
    memory = room(slots=1, words=1024, policy_room=0)
    meter = Meter(Segment(memory, BOOT), 1, 1, price(1, Fraction(1), 2))
    assert meter.hit(b"k", 1, START) == 0
    table = table_at(memory, 1024, 0)
    (at,) = [
        at
        for at in range(table, table + 1024 * 16, 16)
        if struct.unpack_from("<Q", memory, at)[0] >> 48 == 1  # slot 0: the key's own, not what limits its maker
    ]
    for owner in (START, START - 500 * SECOND, START + 500 * SECOND, 0):
        struct.pack_into("<Q", memory, at + 8, claim_at(owner))
        assert [meter.hit(b"k", 1, START) > 0 for _ in range(3)] == [False, False, True]
        assert struct.unpack_from("<Q", memory, at + 8)[0] == (START + 2 * SECOND) * 16


def test_a_claim_is_respected_while_its_owner_may_be_alive() -> None:
    memory = room(slots=1, words=16, policy_room=0)
    meter = Meter(Segment(memory, BOOT), 1, 1, price(1, Fraction(100), 1))
    words = [value for number in range(16) for value in (9 << 48 | number, claim_at(START))]
    table = table_at(memory, 16, 0)
    struct.pack_into("<32Q", memory, table, *words)
    assert meter.hit(b"k", 1, START) == 0  # no room: in the crowd
    assert list(struct.unpack_from("<32Q", memory, table)) == words
    assert meter.hit(b"other", 1, START) > 0
    assert meter.hit(b"k", 1, START + SECOND) == 0  # the owner would long have been done
    assert list(struct.unpack_from("<32Q", memory, table)) != words
