"""Messages in flight: a slot of a window for each that passes, until it is given back (native/window.c).

Several engines of one segment stand for several processes; tests/integration/test_engine_processes.py has real ones.
"""

import struct
from dataclasses import replace
from fractions import Fraction
from ipaddress import IPv4Address
from mmap import mmap

import pytest

from support.engine_model import Client
from support.segments import BOOT, SECRET, compiled, room, segment, shares_at, tags_at, windows
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

SECOND = 10**9
START = 1000 * SECOND
SMALL = 64
"""Buckets of a segment with so few windows that each address may have one of its own."""
ROOM = 1 << 20
STEP = 0x3FF
"""The bits of a tag that say that it is not live (native/window.c)."""
FROZEN = 1 << 8
CLAIMED = 1 << 9


def window(
    name: str = "a",
    number: int | None = 2,
    per: KeyKind = KeyKind.CLIENT,
    action: Action = Action.DELAY,
    *,
    on: Event = Event.PUBLISH,
    topic: tuple[str, ...] = (),
    classes: dict[str, int | None] | None = None,
) -> Limit:
    concurrent = ByClass(number, classes or {})
    return Limit(name, on, Cases(action, v3=action), (Key(per),), topic=topic, concurrent=concurrent)


def engine_of(*limits: Limit, memory: Segment | None = None, row: int = 0) -> Engine:
    engine = Engine(memory or segment(), row)
    engine.load(compiled(Policy((), limits)))
    return engine


def engines_of(*limits: Limit, rows: int = 2, words: int = 1 << 10) -> tuple[mmap, list[Engine]]:
    memory = room(rows, words=words)
    return memory, [engine_of(*limits, memory=Segment(memory, BOOT), row=row) for row in range(rows)]


def subject(name: str = "c", network: int = 0, version: int = 5) -> Subject:
    """A client; each network is a neighbourhood of its own."""
    return Client(name, address=IPv4Address(0x0A000001 + (network << 8)), version=version).subject()


def judge(
    engine: Engine,
    client: Subject,
    qos: int = 1,
    topic: bytes = b"t",
    *,
    payload: int = 0,
    owed: int = 0,
    ask: bool = False,
) -> str:
    return engine.judge(client, topic, qos, payload=payload, owed=owed, ask=ask, now_ns=START).action


def place_of(engine: Engine) -> int:
    """The one place that the last message has taken."""
    place = engine.taken()
    assert isinstance(place, int)
    return place


def take(engine: Engine, client: Subject) -> int:
    assert judge(engine, client) == "pass"
    return place_of(engine)


def shares(memory: mmap, rows: int, words: int, row: int) -> list[int]:
    """What is in flight of one row, by window."""
    return list(
        struct.unpack_from(f"<{windows(words) * rows}I", memory, shares_at(memory, rows, words, ROOM))[row::rows]
    )


def put_tags(memory: mmap, rows: int, words: int, tags: list[int]) -> None:
    struct.pack_into(f"<{len(tags)}Q", memory, tags_at(memory, rows, words, ROOM), *tags)


def tags_of(memory: mmap, rows: int, words: int) -> list[int]:
    return list(struct.unpack_from(f"<{windows(words)}Q", memory, tags_at(memory, rows, words, ROOM)))


# Taking and giving back


def test_a_slot_is_taken_by_what_passes_and_free_when_it_is_given_back() -> None:
    engine = engine_of(window())
    client, other = subject(), subject("other")
    places = [take(engine, client) for _ in range(2)]
    assert places[0] == places[1]
    assert engine.judge(client, b"t", 1, now_ns=START) == ("delay", "a", 1e-9, 1, False, False)
    assert (engine.by_window, engine.taken()) == (True, None)
    queue = engine.queue
    take(engine, other)
    assert not engine.by_window
    assert engine.free(places[0]) == queue
    take(engine, client)
    assert judge(engine, client) == "delay"
    assert engine.queue == queue


@pytest.mark.parametrize("action", [Action.DROP, Action.REJECT, Action.DISCONNECT, Action.OBSERVE])
def test_a_full_window_may_do_more_or_less_than_delay(action: Action) -> None:
    engine = engine_of(window(number=1, action=action))
    client = subject()
    place = take(engine, client)
    assert judge(engine, client) == ("pass" if action is Action.OBSERVE else action.name.lower())
    assert engine.taken() is None
    counted = dict(zip(TALLIES, engine.segment.tallies(0), strict=True))
    assert {what: number for what, number in counted.items() if number} == {"passed": 1, action.name.lower(): 1}
    engine.free(place)
    take(engine, client)


def test_qos_0_takes_nothing_and_waits_for_nothing() -> None:
    engine = engine_of(window(number=1))
    client = subject()
    for _ in range(3):
        assert judge(engine, client, 0) == "pass"
        assert engine.taken() is None
    take(engine, client)
    assert judge(engine, client, 0) == "pass"
    assert [judge(engine, client, qos) for qos in (1, 2)] == ["delay", "delay"]


def test_a_message_takes_a_slot_of_each_limit_that_has_a_window_in_their_order() -> None:
    engine = engine_of(window("a"), replace(window("b"), concurrent=ByClass(), size=ByClass(9)), window("c", 3))
    client = subject()
    found = []
    for _ in range(2):
        assert judge(engine, client) == "pass"
        taken = engine.taken()
        assert isinstance(taken, tuple)
        found.append(taken)
    assert found[0] == found[1]
    assert judge(engine, client) == "delay"
    assert (engine.refused_by, engine.taken()) == ("a", None)
    assert engine.free(found[0][0]) == engine.queue
    engine.free(found[0][1])
    assert judge(engine, client) == "pass"


def test_what_another_limit_refuses_is_in_no_window() -> None:
    rate: ByClass[tuple[Rate, ...]] = ByClass((Rate(1, Fraction(100), 1),))
    blocked = Limit("d", Event.PUBLISH, Cases(Action.DROP), topic=("blocked",), size=ByClass(0))
    own = replace(window("b"), rate=rate)
    engine = engine_of(window("a"), own, blocked, window("e"))
    client = subject()
    for _ in range(3):
        assert judge(engine, client, topic=b"blocked", payload=1) == "drop"
        assert engine.taken() is None
    assert judge(engine, client) == "pass"
    assert len(engine.taken() or ()) == 3  # type: ignore[arg-type]  # it is no number
    assert judge(engine, client) == "delay"
    assert (engine.refused_by, engine.by_window, engine.wait) == ("b", False, 100.000000001)
    # The one message that passed is in the window of "a", and no other.
    engine.load(compiled(Policy((), (window("a"),))))
    assert [judge(engine, client) for _ in range(2)] == ["pass", "delay"]


def test_of_a_window_and_a_rate_it_waits_for_the_rate_which_knows_how_long() -> None:
    rate: ByClass[tuple[Rate, ...]] = ByClass((Rate(1, Fraction(10), 1),))
    both = replace(window("both", 1), rate=rate)
    for limits, by in (((both,), "both"), ((window("w", 1), replace(both, concurrent=ByClass())), "both")):
        engine = engine_of(*limits)
        client = subject()
        assert judge(engine, client) == "pass"
        assert judge(engine, client) == "delay"
        assert (engine.refused_by, engine.by_window, engine.wait) == (by, False, 10.000000001)


def test_a_question_takes_nothing() -> None:
    engine = engine_of(window(number=1))
    client = subject()
    for _ in range(2):
        assert judge(engine, client, ask=True) == "pass"
        assert engine.taken() is None
    take(engine, client)
    assert judge(engine, client, ask=True) == "delay"
    assert engine.by_window


def test_an_engine_that_only_asks_is_in_no_window() -> None:
    memory, (engine,) = engines_of(window(number=1), rows=1)
    asking = engine_of(window(number=1), memory=Segment(memory, BOOT), row=-1)
    client = subject()
    for _ in range(2):
        assert judge(asking, client) == "pass"
        assert asking.taken() is None
    place = take(engine, client)
    assert judge(asking, client) == "delay"
    assert (asking.by_window, asking.free(place), asking.rows_to_wake()) == (True, 0, 0)
    assert judge(engine, client) == "delay"


def test_a_segment_without_rows_has_no_windows() -> None:
    asking = engine_of(window(number=1), memory=Segment(room(0), BOOT), row=-1)
    client = subject()
    assert [judge(asking, client) for _ in range(3)] == ["pass"] * 3


def test_what_is_not_taken_cannot_be_given_back() -> None:
    memory, (engine, other) = engines_of(window(number=1), words=SMALL)
    client = subject()
    place = take(engine, client)
    assert [engine.free(one) for one in range(16) if one != place] == [0] * 15
    assert [engine.free(one) for one in (16, 1 << 20, 0xFFFF_FFFF)] == [0] * 3
    assert other.free(place) == 0
    assert judge(engine, client) == judge(other, client) == "delay"
    assert engine.free(place) == engine.queue
    assert engine.free(place) == 0
    assert shares(memory, 2, SMALL, 0) == shares(memory, 2, SMALL, 1) == [0] * 16
    take(other, client)


def test_a_window_counts_over_all_processes() -> None:
    _, engines = engines_of(window(number=3), rows=4)
    client = subject()
    in_flight: list[tuple[Engine, int]] = []
    for turn in range(40):
        engine = engines[turn % 4]
        if len(in_flight) < 3:
            in_flight.append((engine, take(engine, client)))
        else:
            assert {judge(one, client) for one in engines} == {"delay"}
            owner, place = in_flight.pop(turn % 3)
            assert owner.free(place) == engine.queue
    assert len({place for _, place in in_flight}) == 1


def test_a_client_of_a_class_has_the_number_of_that_class() -> None:
    plc = ClientClass("plc", Conditions(client_id=("plc*",)))
    engine = Engine(segment(), 0)
    engine.load(compiled(Policy((plc,), (window(number=1, classes={"plc": 3}), window("b", None, classes={"plc": 2})))))
    assert [judge(engine, subject("plc")) for _ in range(3)] == ["pass", "pass", "delay"]
    assert engine.refused_by == "b"
    assert [judge(engine, subject("x")) for _ in range(2)] == ["pass", "delay"]
    assert engine.refused_by == "a"


# QoS 2


@pytest.mark.parametrize(("number", "most"), [(1, 1), (2, 1), (3, 1), (4, 2), (20, 10)])
def test_who_owes_pubrels_keeps_a_part_of_a_window_from_the_others_not_all(number: int, most: int) -> None:
    engine = engine_of(window(number=number, per=KeyKind.LISTENER))
    client = subject()
    assert judge(engine, client, 2, owed=most) == "delay"
    assert (engine.by_window, engine.queue) == (True, ITSELF)
    assert judge(engine, client, 1, owed=most) == "pass"
    assert engine.free(place_of(engine)) != ITSELF
    assert judge(engine, client, 2, owed=most - 1) == "pass"
    assert judge(engine, subject("other"), 2) == ("pass" if number > 1 else "delay")
    assert judge(engine, client, 2, owed=1000) == "delay"
    assert engine.queue == ITSELF


def test_who_has_a_window_of_his_own_may_fill_it() -> None:
    both = replace(window(), per=(Key(KeyKind.LISTENER), Key(KeyKind.CLIENT)))
    engine = engine_of(both)
    assert [judge(engine, subject(), 2, owed=1000) for _ in range(3)] == ["pass", "pass", "delay"]
    assert engine.queue != ITSELF


def test_whether_others_may_be_in_the_same_windows() -> None:
    engine = engine_of(window("a"), window("b", 3, KeyKind.ALL, topic=("b",)))
    for topic, shared in ((b"a", False), (b"b", True), (b"a", False)):
        judge(engine, subject(), topic=topic)
        assert engine.shares is shared
    _, (engine,) = engines_of(window(), rows=1, words=SMALL)
    for name, shared in (("own", False), ("of the crowd", True), ("own", False)):
        take(engine, subject(name))
        assert engine.shares is shared


# Numbers that change


def test_a_scale_factor_makes_a_window_smaller_or_larger_but_never_nothing() -> None:
    engine = engine_of(window(number=4))
    client = subject()

    def room_at(factor: float) -> int:
        engine.segment.set_scale(0, Priority.NORMAL, factor)
        places = []
        while judge(engine, client) == "pass":
            places.append(place_of(engine))
        for place in places:
            engine.free(place)
        return len(places)

    assert [room_at(factor) for factor in (1.0, 0.5, 0.49, 0.0, 2.0, 1.0)] == [4, 2, 1, 1, 8, 4]
    engine.segment.set_scale(0, Priority.HIGH, 0.0)
    assert room_at(1.0) == 4


def test_a_smaller_window_lets_nothing_pass_until_there_is_less_in_flight() -> None:
    engine = engine_of(window(number=4))
    client = subject()
    places = [take(engine, client) for _ in range(4)]
    engine.segment.set_scale(0, Priority.NORMAL, 0.5)
    for place in places[:2]:
        engine.free(place)
        assert judge(engine, client) == "delay"
    engine.free(places[2])
    take(engine, client)


def test_a_reload_keeps_what_is_in_flight() -> None:
    engine = engine_of(window(number=2))
    client = subject()
    places = [take(engine, client) for _ in range(2)]
    engine.load(compiled(Policy((), (window(number=3),))))
    assert engine.taken() is None
    take(engine, client)
    assert judge(engine, client) == "delay"
    queue = engine.queue
    engine.load(compiled(Policy()))
    assert judge(engine, client) == "pass"
    assert engine.free(places[0]) == queue
    engine.load(compiled(Policy((), (window(number=2),))))
    assert judge(engine, client) == "delay"
    engine.free(places[1])
    take(engine, client)


@pytest.mark.parametrize("other", [window("b", 1), window(number=1, on=Event.DELIVER), window(per=KeyKind.USERNAME)])
def test_a_limit_that_gets_the_place_of_another_has_windows_of_its_own(other: Limit) -> None:
    engine = engine_of(window(number=1))
    client = Client("c", "c").subject()
    take(engine, client)
    engine.segment.forget(0)
    engine.load(compiled(Policy((), (replace(other, concurrent=ByClass(1)),))))
    verdicts = [engine.judge(client, b"t", 1, event=other.on, now_ns=START) for _ in range(2)]
    assert [verdict.action for verdict in verdicts] == ["pass", "delay"]


# More windows than there is room for


def test_an_address_that_has_its_part_of_the_windows_ends_in_its_crowd() -> None:
    _, (engine,) = engines_of(window(), rows=1, words=SMALL)
    own = take(engine, subject("own"))
    crowd = [take(engine, subject(f"{number}")) for number in range(2)]
    assert crowd[0] == crowd[1] != own
    assert engine.judge(subject("x"), b"t", 1, now_ns=START) == ("delay", "a", 1e-9, 1, True, False)
    assert engine.by_window
    assert engine.free(crowd[0]) == engine.queue
    assert take(engine, subject("x")) == crowd[0]
    assert judge(engine, subject("y")) == "delay"
    assert engine.segment.tallies(0)[TALLIES.index("crowded")] == 5
    # Who has a window of his own notices nothing.
    assert take(engine, subject("own")) == own
    assert engine.judge(subject("own"), b"t", 1, now_ns=START) == ("delay", "a", 1e-9, 1, False, False)


def test_an_address_may_have_other_windows_when_its_own_are_empty() -> None:
    _, (engine,) = engines_of(window(), rows=1, words=SMALL)
    places = [take(engine, subject("own")) for _ in range(2)]
    crowd = take(engine, subject("x"))
    engine.free(places[0])
    assert take(engine, subject("x")) == crowd
    engine.free(places[1])
    first, second = (take(engine, subject("x")) for _ in range(2))
    assert first == second != crowd
    assert engine.judge(subject("x"), b"t", 1, now_ns=START) == ("delay", "a", 1e-9, 1, False, False)
    assert judge(engine, subject("y")) == "delay"  # the crowd is full


def test_a_crowd_is_of_one_neighbourhood() -> None:
    _, (engine,) = engines_of(window(), rows=1, words=SMALL)

    def neighbour(name: str, address: str) -> Subject:
        return Client(name, address=IPv4Address(address)).subject()

    near = [take(engine, neighbour(f"{number}", "10.0.0.1")) for number in range(2)]
    other = take(engine, neighbour("2", "10.0.0.99"))
    assert len({*near, other}) == 3  # another address has windows of its own
    assert take(engine, neighbour("3", "10.0.0.99")) == near[1]
    assert judge(engine, neighbour("4", "10.0.0.1")) == judge(engine, neighbour("4", "10.0.0.99")) == "delay"
    far = [take(engine, neighbour(f"{number}", "10.0.1.1")) for number in range(5, 8)]
    assert far[1] == far[2]
    assert near[1] not in far


@pytest.mark.parametrize(("version", "mildest"), [(5, Action.REJECT), (4, Action.DROP)])
def test_nobody_is_thrown_out_for_a_crowd(version: int, mildest: Action) -> None:
    delaying = replace(window("b", 1, topic=("b",)), then=Cases(Action.DISCONNECT))
    limits = (window("a", 1, action=Action.BAN, topic=("a",)), delaying)
    _, (engine,) = engines_of(*limits, rows=1, words=SMALL)
    for name in "xyz":
        client = subject(name, version=version)
        verdict = engine.judge(client, b"a", 1, now_ns=START)
    assert (verdict.action, verdict.limit, verdict.crowd) == (mildest.name.lower(), "a", True)
    assert [engine.judge(client, b"b", 1, now_ns=START).action for _ in range(2)] == ["pass", "delay"]
    assert engine.last().crowd
    assert engine.then == mildest
    assert engine.judge(client, b"b", 2, again=True, now_ns=START).action == "delay"
    assert engine.then == Action.DISCONNECT  # what may be with the receiver already is not taken back
    (own,) = {name for name in "xyz" if judge(engine, subject(name, version=version), topic=b"a") == "ban"}
    assert own == "x"


def test_places_are_given_to_other_keys_when_nothing_is_in_flight() -> None:
    _, engines = engines_of(window(), words=SMALL)
    for number in range(1000):
        client = subject(f"{number}", number)
        places = [take(engine, client) for engine in engines]
        assert places[0] == places[1]
        assert {judge(engine, client) for engine in engines} == {"delay"}
        for engine, place in zip(engines, places, strict=True):
            assert engine.free(place) == engine.queue
    assert engines[0].segment.tallies(0)[TALLIES.index("crowded")] == 0


def test_keys_without_room_are_refused_until_there_is_some() -> None:
    memory, (engine,) = engines_of(window(number=1, action=Action.BAN), rows=1, words=SMALL)
    places = []
    for number in range(500):
        if judge(engine, subject(f"{number}", number)) == "pass":
            places.append(place_of(engine))
    assert sorted(places) == list(range(16))
    verdict = engine.judge(subject("x", 501), b"t", 1, now_ns=START)
    assert (verdict.action, verdict.crowd, engine.by_window) == ("reject", True, True)
    assert shares(memory, 1, SMALL, 0) == [1] * 16
    for place in places:
        engine.free(place)
    for number in range(500):
        engine.free(take(engine, subject(f"{number}", number)))


def test_no_two_keys_share_a_window() -> None:
    _, engines = engines_of(window(number=1), words=1 << 14)
    clients = [subject(f"{number}", number) for number in range(600)]
    places = [take(engines[number % 2], client) for number, client in enumerate(clients)]
    assert len(set(places)) == len(clients)
    assert {judge(engine, client) for client in clients for engine in engines} == {"delay"}
    assert engines[0].segment.tallies(0)[TALLIES.index("crowded")] == 0


def test_no_two_limits_share_a_window() -> None:
    engine = engine_of(*(window(name, per=KeyKind.ALL) for name in "abc"))
    client = subject()
    assert judge(engine, client) == "pass"
    taken = engine.taken()
    assert isinstance(taken, tuple)
    assert len(set(taken)) == 3


# Processes that die


def test_what_a_dead_process_had_in_flight_is_forgotten() -> None:
    memory, (engine, dead) = engines_of(window(number=3))
    one = Segment(memory, BOOT)
    client = subject()
    mine = take(engine, client)
    for _ in range(2):
        take(dead, client)
    for row in (2, 255, 1 << 31):
        one.recover(row)
    assert judge(engine, client) == "delay"
    one.recover(1)
    successor = engine_of(window(number=3), memory=Segment(memory, BOOT), row=1)
    assert successor.free(mine) == 0
    for other in (engine, successor):
        take(other, client)
    assert judge(engine, client) == judge(successor, client) == "delay"
    one.recover(1)
    take(engine, client)
    assert judge(engine, client) == "delay"
    assert engine.free(mine) == engine.queue


def test_a_window_that_somebody_was_about_to_take_away_stays() -> None:
    memory, (engine, other) = engines_of(window(number=1), words=SMALL)
    client = subject()
    place = take(engine, client)
    live = tags_of(memory, 2, SMALL)
    put_tags(memory, 2, SMALL, [tag | FROZEN if tag else 0 for tag in live])  # whoever did so has died
    assert judge(other, client, ask=True) == judge(other, client) == "delay"
    assert other.queue == live[place]
    assert engine.free(place) == other.queue
    assert take(other, client) == place
    assert tags_of(memory, 2, SMALL) == live


def test_claims_of_processes_that_died_keep_nobody_from_a_window() -> None:
    memory, (engine,) = engines_of(window(number=1), rows=1, words=SMALL)
    put_tags(memory, 1, SMALL, [9 << 48 | number << 10 | CLAIMED for number in range(16)])
    client = subject()
    place = take(engine, client)
    assert judge(engine, client) == "delay"
    assert [tag for tag in tags_of(memory, 1, SMALL) if not tag & STEP] == [engine.free(place)]


def test_of_several_claims_to_a_window_of_one_key_one_remains() -> None:
    memory, (engine, other) = engines_of(window(number=1), words=SMALL)
    reach = set()
    for number in range(20):
        client = subject(f"{number}", number)
        tag = engine.free(take(engine, client))
        put_tags(memory, 2, SMALL, [tag | CLAIMED] * 16)
        place = take(engine, client)
        tags = tags_of(memory, 2, SMALL)
        assert (tags[place], tags.count(tag)) == (tag, 1)
        assert judge(other, client) == judge(engine, client) == "delay"
        engine.free(place)
        # Every claim gives way to a window that is in use.
        seen = [at for at, found in enumerate(tags) if found != tag | CLAIMED]
        put_tags(
            memory, 2, SMALL, [0 if at not in seen else tag if at == seen[-1] else tag | CLAIMED for at in range(16)]
        )
        assert take(engine, client) == seen[-1]
        assert judge(other, client) == "delay"
        engine.free(seen[-1])
        reach.add(len(seen))
    assert reach == {8, 16}  # a key has one neighbourhood of eight or two


def test_every_claim_gives_way_to_a_window_that_is_frozen_as_it_may_be_in_use() -> None:
    memory, (engine, other) = engines_of(window(number=1), words=SMALL)
    client = subject()
    first = take(engine, client)
    tag = engine.free(first)
    put_tags(memory, 2, SMALL, [0] * 16)
    share = shares_at(memory, 2, SMALL, ROOM) + (2 * first + 1) * 4
    struct.pack_into("<I", memory, share, 1)
    second = take(engine, client)
    struct.pack_into("<I", memory, share, 0)
    put_tags(memory, 2, SMALL, [{first: tag | CLAIMED, second: tag | FROZEN}.get(at, 0) for at in range(16)])
    assert judge(other, client) == "delay"
    assert tags_of(memory, 2, SMALL) == [tag if at == second else 0 for at in range(16)]
    assert engine.free(second) == tag


# Damage


def test_a_sweep_heals_the_shares_of_its_own_process() -> None:
    words = 1 << 16
    memory, (engine, other) = engines_of(window(), words=words)
    client = subject()
    place, _ = take(engine, client), take(other, client)
    start, size = shares_at(memory, 2, words, ROOM), windows(words) * 8
    memory[start : start + size] = b"\xff" * size
    assert judge(engine, client) == judge(engine, subject("x")) == "delay"
    for _ in range(2):  # each heals a part
        engine.sweep(START / SECOND)
    assert shares(memory, 2, words, 0) == [number == place for number in range(windows(words))]
    assert set(shares(memory, 2, words, 1)) == {0xFFFF_FFFF}
    for _ in range(2):
        other.sweep(START / SECOND)
    assert shares(memory, 2, words, 0) == shares(memory, 2, words, 1)
    assert judge(engine, client) == "delay"
    for one in (engine, other):
        one.free(place)
        take(one, client)
    assert set(shares(memory, 2, words, 0)) == {0, 1}


def test_shares_that_were_lost_do_not_fall_below_nothing() -> None:
    memory, (engine,) = engines_of(window(), rows=1, words=SMALL)
    client = subject()
    place = take(engine, client)
    start = shares_at(memory, 1, SMALL, ROOM)
    memory[start : start + 64] = bytes(64)
    assert engine.free(place) != 0
    assert shares(memory, 1, SMALL, 0) == [0] * 16
    assert [judge(engine, client) for _ in range(3)] == ["pass", "pass", "delay"]


def test_a_window_whose_tag_was_lost_is_made_again_and_what_was_in_the_former_still_ends() -> None:
    memory, (engine,) = engines_of(window(number=1), rows=1, words=1 << 10)
    client = subject()
    place = take(engine, client)
    tags = tags_of(memory, 1, 1 << 10)
    put_tags(memory, 1, 1 << 10, [0x1234_5000 | FROZEN] * len(tags))
    again = take(engine, client)
    assert again != place
    assert judge(engine, client) == "delay"
    assert engine.free(place) == 0x1234_5000
    assert judge(engine, client) == "delay"
    assert engine.free(again) == engine.queue == tags[place]
    assert set(shares(memory, 1, 1 << 10, 0)) == {0}


def test_windows_lie_where_nobody_outside_can_aim() -> None:
    def tags(secret: tuple[int, int]) -> list[int]:
        memory = room(1, words=1 << 10, secret=secret)
        engine = engine_of(window(), memory=Segment(memory, BOOT))
        for number in range(20):
            take(engine, subject(f"{number}", number))
        return tags_of(memory, 1, 1 << 10)

    assert tags(SECRET) == tags(SECRET)
    assert tags(SECRET) != tags((SECRET[0] + 1, SECRET[1]))
