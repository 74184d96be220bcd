"""Who waits where, in which process (native/turn.c); gateway/waiting.py gives the turns."""

import struct
from dataclasses import replace
from fractions import Fraction
from mmap import mmap

import pytest

from support.engine_model import Client
from support.segments import BOOT, compiled, room, segment, turns_at
from tidegate.engine.binding import Engine, Segment, Subject
from tidegate.policy.model import Action, ByClass, Cases, Event, Limit, Policy, Rate

SECOND = 10**9
START = 1000 * SECOND
WORDS = 1 << 10
TURNS = 4096
KEY = 0x1234_5678_9ABC_DEF0
RATE: ByClass[tuple[Rate, ...]] = ByClass((Rate(1, Fraction(1), 2),))


def limit(
    name: str = "a", action: Action = Action.DELAY, concurrent: int | None = None, *, rated: bool = True
) -> Limit:
    return Limit(
        name,
        Event.PUBLISH,
        Cases(action, v3=action),
        rate=RATE if rated else ByClass(),
        concurrent=ByClass(concurrent),
    )


def engines_of(*limits: Limit, rows: int = 2) -> tuple[mmap, list[Engine]]:
    memory = room(rows, words=WORDS)
    engines = [Engine(Segment(memory, BOOT), row) for row in range(rows)]
    for engine in engines:
        engine.load(compiled(Policy((), limits)))
    return memory, engines


def judge(engine: Engine, client: Subject, turn: int = 0, *, again: bool = False, now: int = START) -> str:
    return engine.judge(client, b"t", 1, again=again, turn=turn, now_ns=now).action


def queue_of(engine: Engine, client: Subject, now: int = START) -> int:
    """What messages of a client wait for when they must wait."""
    while judge(engine, client, 1, now=now) == "pass":
        pass
    return engine.queue


def same_place(key: int) -> int:
    """Another key whose turns stand in the same place."""
    return key ^ (1 << 20 | 1 << 52)


# Saying so


def test_who_waits_is_said_until_nobody_does() -> None:
    _, (one, other) = engines_of(limit())
    assert one.lead(KEY) == 0.0
    assert one.wait_for(KEY, 3)
    assert one.wait_for(KEY, 2)
    assert other.wait_for(KEY, 1)
    one.served(KEY)
    assert (one.lead(KEY), other.lead(KEY)) == (0.5, -0.5)
    assert one.wait_for(KEY, 0)
    assert (one.lead(KEY), other.lead(KEY)) == (0.0, 0.0)
    assert one.wait_for(KEY, 0)


def test_a_place_that_another_key_has_is_not_taken_from_it() -> None:
    _, (one, other) = engines_of(limit())
    second = same_place(KEY)
    assert one.wait_for(KEY, 1)
    assert not one.wait_for(second, 1)
    assert not one.wait_for(second, 0)
    assert other.wait_for(second, 1)  # each process has places of its own
    one.served(second)
    assert (one.lead(second), other.lead(second), one.lead(KEY)) == (0.0, 0.0, 0.0)
    assert one.wait_for(KEY, 0)
    assert one.wait_for(second, 1)
    assert not one.wait_for(KEY, 1)
    other.served(second)
    assert (one.lead(second), other.lead(second)) == (-1.0, 1.0)


def test_as_many_keys_as_there_are_places() -> None:
    _, (one, other) = engines_of(limit())
    keys = [number + 1 for number in range(TURNS)]
    for engine in (one, other):
        assert all(engine.wait_for(key, 1) for key in keys)
    assert not one.wait_for(TURNS + 1, 1)
    for key in keys:
        one.served(key)
    assert {other.lead(key) for key in keys} == {-1.0}


def test_an_engine_that_only_asks_has_nobody_waiting() -> None:
    memory, (one, _) = engines_of(limit())
    asking = Engine(Segment(memory, BOOT), -1)
    assert not asking.wait_for(KEY, 1)
    assert one.wait_for(KEY, 1)
    asking.served(KEY)
    asking.level(KEY)
    assert (asking.lead(KEY), one.lead(KEY)) == (0.0, 0.0)


# Who is ahead


def test_a_round_is_one_message_of_each_that_waits() -> None:
    _, (one, other) = engines_of(limit())
    one.wait_for(KEY, 4)
    other.wait_for(KEY, 1)
    for _ in range(4):
        one.served(KEY)
    assert one.lead(KEY) == 1.0
    for _ in range(3):
        other.served(KEY)
    assert (one.lead(KEY), other.lead(KEY)) == (-2.0, 2.0)
    one.wait_for(KEY, 2)
    one.served(KEY)
    assert one.lead(KEY) == -1.5


def test_of_several_others_the_one_that_has_been_served_least_counts() -> None:
    _, engines = engines_of(limit(), rows=4)
    for engine in engines[:3]:
        engine.wait_for(KEY, 1)
    for engine, rounds in zip(engines, (3, 2, 0, 9), strict=True):
        for _ in range(rounds):
            engine.served(KEY)
    assert [engine.lead(KEY) for engine in engines] == [3.0, 2.0, -2.0, 0.0]
    engines[2].wait_for(KEY, 0)
    assert [engine.lead(KEY) for engine in engines] == [1.0, -1.0, 0.0, 0.0]


def test_who_comes_later_is_owed_nothing_from_before() -> None:
    _, (one, other) = engines_of(limit())
    one.wait_for(KEY, 1)
    for _ in range(50):
        one.served(KEY)
    other.wait_for(KEY, 1)
    assert (one.lead(KEY), other.lead(KEY)) == (0.0, 0.0)


def test_who_comes_back_is_as_far_ahead_as_he_was_unless_that_was_long_ago() -> None:
    _, (one, other) = engines_of(limit())
    one.wait_for(KEY, 1)
    other.wait_for(KEY, 1)
    for _ in range(3):
        one.served(KEY)
    one.wait_for(KEY, 0)
    one.wait_for(KEY, 1)
    assert one.lead(KEY) == 3.0  # nobody gets more by leaving in between
    for _ in range(2):
        one.served(KEY)
    one.wait_for(KEY, 0)
    one.wait_for(KEY, 1)
    assert one.lead(KEY) == 0.0


def test_who_has_been_let_to_catch_up_and_has_not_is_waited_for_no_longer() -> None:
    _, engines = engines_of(limit(), rows=3)
    for engine in engines:
        engine.wait_for(KEY, 1)
    for _ in range(3):
        engines[0].served(KEY)
    engines[1].served(KEY)
    engines[0].level(KEY)
    assert [engine.lead(KEY) for engine in engines] == [0.0, 1.0, 0.0]
    engines[2].wait_for(KEY, 0)
    engines[2].level(KEY)  # it has nobody waiting
    assert [engine.lead(KEY) for engine in engines] == [-1.0, 1.0, 0.0]


def test_rounds_are_compared_also_when_their_number_has_wrapped() -> None:
    memory, (one, other) = engines_of(limit())
    place = (KEY ^ KEY >> 32) % TURNS
    for row in range(2):
        at = turns_at(memory, 2, WORDS, 1 << 20) + (row * TURNS + place) * 16
        struct.pack_into("<QII", memory, at, 0, 0, 0xFFFF_FFFF)
    one.wait_for(KEY, 1)
    other.wait_for(KEY, 1)
    for _ in range(3):
        one.served(KEY)
    assert (one.lead(KEY), other.lead(KEY)) == (3.0, -3.0)


# Who arrives while others wait


def test_who_arrives_while_others_wait_is_behind_them_and_charged_nothing() -> None:
    _, (engine, other) = engines_of(limit())
    client = Client().subject()
    queue = queue_of(engine, client)
    assert engine.wait_for(queue, 1)
    later = START + 2 * SECOND
    for _ in range(3):
        assert judge(engine, client, now=later) == "delay"
        assert (engine.queue, engine.wait, engine.by_window) == (queue, 1e-9, False)
    assert judge(engine, Client("x").subject(), now=later) == "pass"
    assert judge(other, client, now=later) == "pass"  # who waits there is told by nobody but that process
    assert judge(engine, client, queue, now=later) == "pass"
    assert judge(engine, client, queue, now=later) == "delay"
    assert engine.wait == 1.000000001
    assert engine.wait_for(queue, 0)
    assert judge(engine, client, now=later + SECOND) == "pass"


def test_whoever_has_a_turn_is_behind_nobody() -> None:
    """Two queues that a message is in could each send it to the other for ever."""
    _, (engine, _) = engines_of(limit("a"), limit("b"))
    client = Client().subject()
    queue = queue_of(engine, client)
    for one in (queue, KEY):
        engine.wait_for(one, 1)
    later = START + 2 * SECOND
    assert judge(engine, client, now=later) == "delay"
    assert judge(engine, client, KEY, now=later) == "pass"


def test_who_arrives_while_others_wait_for_a_window_is_behind_them() -> None:
    _, (engine, _) = engines_of(limit(concurrent=1, rated=False))
    client = Client().subject()
    assert judge(engine, client) == "pass"
    place = engine.taken()
    assert isinstance(place, int)
    assert judge(engine, client) == "delay"
    queue = engine.queue
    engine.wait_for(queue, 1)
    assert engine.free(place) == queue
    assert judge(engine, client) == "delay"
    assert (engine.queue, engine.by_window, engine.taken()) == (queue, False, None)
    assert engine.judge(client, b"t", 0, now_ns=START).action == "pass"  # it takes no part in windows
    assert judge(engine, client, queue) == "pass"


@pytest.mark.parametrize("action", [Action.DROP, Action.REJECT, Action.DISCONNECT, Action.OBSERVE])
def test_who_would_not_wait_himself_is_not_behind_those_who_do(action: Action) -> None:
    _, (engine, _) = engines_of(limit())
    client = Client().subject()
    engine.wait_for(queue_of(engine, client), 1)
    engine.load(compiled(Policy((), (limit(action=action),))))
    later = START + 9 * SECOND
    assert judge(engine, client, now=later) == "pass"
    expected = "delay" if action in (Action.DROP, Action.REJECT) else "pass"
    assert judge(engine, client, again=True, now=later) == expected


def test_what_is_too_large_is_not_behind_those_who_wait() -> None:
    sized = Limit("a", Event.PUBLISH, Cases(Action.DELAY), rate=RATE, size=ByClass(9), then=Cases(Action.DROP))
    _, (engine, _) = engines_of(sized)
    client = Client().subject()
    engine.wait_for(queue_of(engine, client), 1)
    assert engine.judge(client, b"t", 1, payload=10, now_ns=START + 9 * SECOND).action == "drop"


def test_who_waits_for_one_limit_is_charged_by_none() -> None:
    one = replace(limit("b"), rate=ByClass((Rate(1, Fraction(1), 1),)))
    _, (engine, _) = engines_of(limit("a", Action.DROP), one)
    client, later = Client().subject(), START + 9 * SECOND
    assert [judge(engine, client) for _ in range(2)] == ["pass", "delay"]
    queue = engine.queue
    engine.wait_for(queue, 1)
    assert [judge(engine, client, now=later) for _ in range(3)] == ["delay"] * 3
    assert [judge(engine, client, queue, now=later) for _ in range(2)] == ["pass", "delay"]
    engine.load(compiled(Policy((), (limit("a", Action.DROP),))))
    assert [judge(engine, client, now=later) for _ in range(2)] == ["pass", "drop"]


# Who is woken


def test_those_who_wait_for_a_window_are_woken_wherever_they_are() -> None:
    _, engines = engines_of(limit(concurrent=1, rated=False), rows=70)
    client = Client().subject()
    assert judge(engines[0], client) == "pass"
    place = engines[0].taken()
    assert isinstance(place, int)
    assert judge(engines[1], client) == "delay"
    queue = engines[1].queue
    for row in (0, 2, 5, 69):
        engines[row].wait_for(queue, 1)
    engines[3].wait_for(KEY, 1)
    assert engines[0].rows_to_wake() == 0
    engines[0].free(place)
    assert engines[0].rows_to_wake() == 1 << 2 | 1 << 5 | 1 << (69 - 64)
    assert engines[0].rows_to_wake() == 0
    engines[0].free(place)  # it is free
    assert engines[0].rows_to_wake() == 0


def test_those_who_wait_for_what_was_taken_for_a_moment_are_woken_too() -> None:
    own = limit("a", concurrent=1, rated=False)
    _, (engine, other) = engines_of(own)
    client = Client().subject()
    assert [judge(engine, client) for _ in range(2)] == ["pass", "delay"]
    other.wait_for(engine.queue, 1)
    blocked = Limit("b", Event.PUBLISH, Cases(Action.DROP), size=ByClass(0))
    engine.load(compiled(Policy((), (replace(own, concurrent=ByClass(2)), blocked))))
    engine.rows_to_wake()
    assert engine.judge(client, b"t", 1, payload=1, now_ns=START).action == "drop"
    assert engine.rows_to_wake() == 1 << 1


def test_whom_a_dead_process_had_waiting_is_forgotten() -> None:
    memory, (one, dead) = engines_of(limit())
    for engine in (one, dead):
        engine.wait_for(KEY, 1)
    for _ in range(3):
        one.served(KEY)
    assert one.lead(KEY) == 3.0
    Segment(memory, BOOT).recover(1)
    assert one.lead(KEY) == 0.0
    successor = Engine(Segment(memory, BOOT), 1)
    assert successor.lead(KEY) == 0.0
    assert successor.wait_for(same_place(KEY), 1)
    assert one.lead(KEY) == 0.0
    assert one.wait_for(KEY, 0)


def test_a_reload_keeps_who_waits() -> None:
    one = segment()
    engine = Engine(one, 0)
    engine.load(compiled(Policy((), (limit(),))))
    client = Client().subject()
    queue = queue_of(engine, client)
    engine.wait_for(queue, 1)
    engine.load(compiled(Policy((), (limit("b"), limit()))))
    assert judge(engine, client, now=START + 9 * SECOND) == "delay"
    assert engine.queue == queue
