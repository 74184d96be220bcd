"""A client that does the same again and passes (native/habit.c) is decided as if it had never been there.

Whether the engine goes by habit cannot be seen from outside, only what would be wrong if it did so wrongly: each test
makes the habit first. tests/property/test_engine.py holds decisions to a model; half of its traffic is of habits.
"""

from dataclasses import replace
from fractions import Fraction
from typing import Any

from support.engine_model import Client
from support.segments import BOOT, compiled, room, segment
from tidegate.engine.binding import TALLIES, Engine, Segment, Subject
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
BURST = 10
HABIT = 4
"""Messages after which a habit is there: with the third, one is remembered."""


def limit(name: str = "a", burst: int = BURST, **others: Any) -> Limit:
    rate: ByClass[tuple[Rate, ...]] = ByClass((Rate(1, Fraction(1), burst),))
    made = Limit(name, Event.PUBLISH, Cases(Action.REJECT, v3=Action.REJECT), per=(Key(KeyKind.CLIENT),), rate=rate)
    return replace(made, **others)


def engine_of(*limits: Limit, classes: tuple[ClientClass, ...] = (), memory: Segment | None = None) -> Engine:
    engine = Engine(memory or segment(), 0)
    engine.load(compiled(Policy(classes, limits)))
    return engine


def publish(engine: Engine, client: Subject, size: int = 1, now: int = START, topic: bytes = b"t") -> str:
    return engine.judge(client, topic, 0, packet=size, payload=size, now_ns=now).action


def passed(engine: Engine, client: Subject, count: int, size: int = 1, now: int = START) -> int:
    """How many of so many messages pass."""
    return [publish(engine, client, size, now) for _ in range(count)].count("pass")


def test_a_burst_is_a_burst_and_counted_so() -> None:
    memory = segment()
    engine = engine_of(limit(), limit("b", BURST + 1), memory=memory)
    client = Client().subject()
    assert passed(engine, client, 2 * BURST) == BURST
    assert passed(engine, client, 5, now=START + 3 * SECOND) == 3
    tallies = [dict(zip(TALLIES, memory.tallies(slot), strict=True)) for slot in range(2)]
    assert tallies[0]["passed"] == tallies[1]["passed"] == BURST + 3
    assert tallies[0]["reject"] == BURST + 2


def test_whom_the_second_limit_refuses_the_first_has_not_charged() -> None:
    engine = engine_of(limit(), limit("b", HABIT))
    client = Client().subject()
    assert passed(engine, client, 2 * BURST) == HABIT
    engine.load(compiled(Policy((), (limit(),))))
    assert passed(engine, client, BURST) == BURST - HABIT


def test_each_size_has_its_price() -> None:
    bandwidth = ByClass((Rate(1, Fraction(1), 100),))
    engine = engine_of(limit(rate=ByClass(), bandwidth=bandwidth))
    client = Client().subject()
    assert passed(engine, client, HABIT) == HABIT
    assert publish(engine, client, 100 - HABIT) == "pass"
    assert publish(engine, client) == "reject"


def test_what_is_too_large_is_so_for_the_smallest_of_all_sizes() -> None:
    engine = engine_of(limit(size=ByClass(20)), limit("b", size=ByClass(10)), limit("c", size=ByClass(30)))
    client = Client().subject()
    assert passed(engine, client, HABIT) == HABIT
    assert publish(engine, client, 11) == "reject"
    assert publish(engine, client, 10) == "pass"


def test_another_scale_factor_is_heard_at_once() -> None:
    memory = segment()
    engine = engine_of(limit(), memory=memory)
    client = Client().subject()
    assert passed(engine, client, HABIT) == HABIT
    memory.set_scale(0, Priority.NORMAL, 0.1)
    assert publish(engine, client) == "reject"
    assert passed(engine, client, BURST, now=START + HABIT * SECOND) == 1
    memory.set_scale(0, Priority.NORMAL, 1.0)
    assert passed(engine, client, 2 * BURST, now=START + 100 * SECOND) == BURST


def test_each_limit_has_its_own_factor() -> None:
    memory = segment()
    two: ByClass[tuple[Rate, ...]] = ByClass((Rate(1, Fraction(1), 100), Rate(1, Fraction(1), 20)))
    engine = engine_of(limit(rate=two), limit("b", rate=two), limit("c", rate=two), memory=memory)
    memory.set_scale(1, Priority.NORMAL, 0.5)
    client = Client().subject()
    # At half of its rate a message takes twice as much of a burst, which is time.
    assert passed(engine, client, 100) == 10
    assert passed(engine, client, 100, now=START + 10 * SECOND) == 5
    memory.set_scale(1, Priority.NORMAL, 1.0)
    memory.set_scale(2, Priority.NORMAL, 0.25)
    assert passed(engine, client, 100, now=START + 1010 * SECOND) == 5
    assert passed(engine, client, 100, now=START + 1030 * SECOND) == 5


def test_many_clients_have_each_its_own() -> None:
    engine = engine_of(limit(), memory=segment(words=1 << 18))
    many = [Client(client_id=str(number)).subject() for number in range(3000)]
    counts = [0] * len(many)
    for _ in range(BURST + 2):
        for number, client in enumerate(many):
            counts[number] += publish(engine, client) == "pass"
    assert counts == [BURST] * len(many)


def test_another_policy_is_heard_at_once() -> None:
    engine = engine_of(limit())
    client = Client().subject()
    assert passed(engine, client, HABIT) == HABIT
    engine.load(compiled(Policy((), (limit(topic=("u",)), limit("b", 1)))))
    assert passed(engine, client, 3) == 1


def test_other_numbers_are_heard_at_once() -> None:
    engine = engine_of(limit())
    client = Client().subject()
    assert passed(engine, client, HABIT) == HABIT
    engine.load(compiled(Policy((), (limit(burst=HABIT + 1),))))
    assert passed(engine, client, BURST) == 1


def test_another_process_charges_the_same_budget() -> None:
    memory = room(rows=2)
    engines = [Engine(Segment(memory, BOOT), row) for row in range(2)]
    for engine in engines:
        engine.load(compiled(Policy((), (limit(),))))
    client = Client().subject()
    other = Client().subject()
    results = [
        publish(engine, one) for _ in range(BURST) for engine, one in ((engines[0], client), (engines[1], other))
    ]
    assert results == ["pass"] * BURST + ["reject"] * BURST


def test_others_topics_and_retained_messages_have_limits_of_their_own() -> None:
    engine = engine_of(limit(topic=("t",)), limit("b", 1, topic=("u",)), limit("c", 2, retain=True))
    client = Client().subject()
    assert passed(engine, client, HABIT) == HABIT
    assert [publish(engine, client, topic=b"u") for _ in range(2)] == ["pass", "reject"]
    kept = [engine.judge(client, b"t", 0, True, now_ns=START).action for _ in range(3)]
    assert kept == ["pass", "pass", "reject"]


def test_another_client_of_the_same_classes_has_a_budget_of_its_own() -> None:
    engine = engine_of(limit())
    one, two = Client("one").subject(), Client("two").subject()
    assert passed(engine, one, HABIT) == HABIT
    assert passed(engine, two, 2 * BURST) == BURST
    assert passed(engine, one, 2 * BURST) == BURST - HABIT


def test_who_is_exempt_is_not_charged_by_the_habit_of_others_who_share_the_budget() -> None:
    exempt = ClientClass("exempt", Conditions(client_id=("free",)), exempt=True)
    engine = engine_of(limit(per=(Key(KeyKind.ALL),)), classes=(exempt,))
    client = Client("c").subject()
    assert passed(engine, client, HABIT) == HABIT
    assert passed(engine, Client("free").subject(), 2 * BURST) == 2 * BURST
    assert passed(engine, client, 2 * BURST) == BURST - HABIT


def test_a_bucket_that_has_become_anothers_is_not_charged() -> None:
    engine = engine_of(limit(burst=HABIT), memory=segment(words=1 << 10))
    client = Client("c").subject()
    assert passed(engine, client, HABIT) == HABIT
    later = START + 3600 * SECOND
    others = [Client(str(number)).subject() for number in range(2000)]  # two for each bucket
    for other in others:
        publish(engine, other, now=later)
    assert passed(engine, client, 2 * HABIT, now=later) <= HABIT
    assert passed(engine, others[0], 2 * HABIT, now=later) <= HABIT


def test_who_waits_is_not_overtaken() -> None:
    delaying = limit(on_excess=Cases(Action.DELAY))
    engine = engine_of(delaying)
    client = Client().subject()
    assert passed(engine, client, 2 * BURST) == BURST
    queue = engine.queue
    later = START + HABIT * SECOND
    assert engine.wait_for(queue, 1)
    assert publish(engine, client, now=later) == "delay"
    assert engine.wait_for(queue, 0)
    assert passed(engine, client, HABIT + 1, now=later) == HABIT
