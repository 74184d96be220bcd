"""Whatever is written into a segment, nobody who shares it crashes, and time heals it."""

import random
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from mmap import mmap
from pathlib import Path

from support import decider
from support.engine_model import Client, Message, Model, Queue
from support.segments import BOOT, SECRET, shares_at, table_at, turns_at, windows
from tidegate.engine.binding import Engine, Segment
from tidegate.engine.errors import PolicyError
from tidegate.policy.compile import assign_slots, compile_policy
from tidegate.policy.model import Action, ByClass, Cases, Event, Key, KeyKind, Limit, Policy, Priority, Rate

PROCESSES = 2
SHAPE = (PROCESSES + 1, 6, 64, 4096, 1 << 14)
SECOND = 10**9
START = 10**6 * SECOND
REST = 10 * SECOND
"""After which the policy lets every client publish again."""
HORIZON = 256 * 8
"""Seconds: so far ahead the longest debt of the policy, 8 s, lies at the smallest scale factor."""
LARGEST_PACKET = 1000
POLICY = Policy(
    (),
    (
        Limit(
            "own", Event.PUBLISH, Cases(Action.REJECT), rate=ByClass((Rate(1, Fraction(1), 3), Rate(2, Fraction(8), 2)))
        ),
        Limit(
            "topic",
            Event.PUBLISH,
            Cases(Action.BAN),
            per=(Key(KeyKind.TOPIC), Key(KeyKind.IP)),
            bandwidth=ByClass((Rate(1000, Fraction(1), 500),)),
        ),
        Limit(
            "all",
            Event.SUBSCRIBE,
            Cases(Action.DELAY),
            per=(Key(KeyKind.ALL),),
            rate=ByClass((Rate(5, Fraction(1), 9),)),
        ),
        Limit("flight", Event.PUBLISH, Cases(Action.DELAY), concurrent=ByClass(2)),
        Limit("group", Event.PUBLISH, Cases(Action.DELAY), per=(Key(KeyKind.TOPIC),), concurrent=ByClass(7)),
    ),
)

CLIENTS = [Client(f"{number}") for number in range(50)]
TOPICS = [f"t/{number}" for number in range(20)]

Damage = Callable[[mmap, random.Random], None]


def words(memory: mmap, choose: random.Random) -> None:
    for _ in range(400):
        at = choose.randrange(len(memory) // 8) * 8
        memory[at : at + 8] = choose.choice((choose.randbytes(8), b"\xff" * 8, bytes(8), b"\x01" + bytes(7)))


def head_and_slots(memory: mmap, choose: random.Random) -> None:
    for _ in range(200):
        at = choose.randrange(3 * 4096)
        memory[at] = choose.randrange(256)


def windows_and_turns(memory: mmap, choose: random.Random) -> None:
    """Single words, of which most bits are as they were: shares, tags and keys that are nearly right."""
    rows, _, _, words, policy_room = SHAPE
    start, end = turns_at(memory, rows, words, policy_room), table_at(memory, words, policy_room)
    for _ in range(100):
        at = choose.randrange(start, end)
        memory[at] = choose.choice((0, 1, 255, memory[at] ^ 1 << choose.randrange(8)))


def blocks(memory: mmap, choose: random.Random) -> None:
    at = choose.randrange(len(memory) - 4096)
    memory[at : at + 4096] = choose.choice((choose.randbytes(4096), b"\xff" * 4096, bytes(4096)))


def shifted(memory: mmap, choose: random.Random) -> None:
    """What is right in another place."""
    size = choose.choice((1, 8, 16, 256, 5000))
    start, to = choose.randrange(len(memory) - size), choose.randrange(len(memory) - size)
    memory.move(to, start, size)


KINDS: tuple[Damage, ...] = (words, head_and_slots, windows_and_turns, blocks, shifted)


def test_damage_crashes_nobody_and_heals(tmp_path: Path) -> None:
    path, control = tmp_path / "segment", tmp_path / "control"
    path.write_bytes(bytes(Segment.size(*SHAPE)))
    control.write_bytes(bytes(16))
    memory = decider.open_memory(str(path))
    clock = memoryview(decider.open_memory(str(control))).cast("Q")
    clock[0] = START
    Segment.create(memory, *SHAPE, BOOT, SECRET)
    segment = Segment(memory, BOOT)
    policy = compile_policy(POLICY, assign_slots(POLICY), LARGEST_PACKET)
    segment.publish(policy)
    engine = Engine(segment, PROCESSES, PROCESSES)
    engine.load(policy)
    worker = decider.Worker(engine)
    choose = random.Random(1)
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, decider.__file__, str(control), str(path), str(row)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for row in range(PROCESSES)
        ]
        for process in running:
            stack.callback(process.kill)
            assert process.stdout
            assert process.stdout.readline() == "ready\n", process.communicate()[1]
        for _ in range(3000):
            choose.choice(KINDS)(memory, choose)
            clock[0] += choose.choice((0, 1000, SECOND // 100))
            client = choose.choice(CLIENTS).subject()
            worker.decided(engine.judge(client, b"t/1", 1, packet=9, now_ns=clock[0]).action, choose)
            if choose.random() < 0.1:
                engine.sweep(clock[0] / SECOND)
            assert all(process.poll() is None for process in running)
        clock[1] = 1
        for process in running:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            assert int(out) > 1000
    heal(segment, worker, policy, clock[0])
    assert not any(shares(memory))
    check(engine, clock[0] + 2 * HORIZON * SECOND)


def heal(segment: Segment, worker: decider.Worker, policy: bytes, now: int) -> None:
    """What a supervisor and a control plane set is set again; the rest is healed when traffic meets it."""
    engine = worker.engine
    assert segment.publish(policy)
    assert segment.policy() == policy
    for limit, slot in assign_slots(POLICY).items():
        assert limit in engine.names
        for priority in Priority:
            segment.set_scale(slot, priority, 1.0)
    for row in range(PROCESSES):  # they have ended
        segment.recover(row)
    worker.end()
    subjects = [client.subject() for client in CLIENTS]
    for turn in range(4 * len(TOPICS)):
        now += REST
        engine.sweep(now / SECOND)
        for subject in subjects:
            engine.judge(subject, TOPICS[turn % len(TOPICS)].encode(), 1, packet=1, now_ns=now)
            for place in decider.places_of(engine.taken()):
                engine.free(place)
            if engine.queue:  # whoever waited there waits no longer
                engine.wait_for(engine.queue, 1)
                engine.wait_for(engine.queue, 0)
            engine.judge(subject, b"t", 1, event=Event.SUBSCRIBE, now_ns=now)


def shares(memory: mmap) -> tuple[int, ...]:
    """What is in flight, by window and row."""
    rows, _, _, words, policy_room = SHAPE
    return struct.unpack_from(f"<{windows(words) * rows}I", memory, shares_at(memory, rows, words, policy_room))


def check(engine: Engine, now: int) -> None:
    """Every decision is that of the model, which has seen none of it."""
    model = Model(LARGEST_PACKET)
    model.load(POLICY, assign_slots(POLICY))
    subjects = [client.subject() for client in CLIENTS]
    choose = random.Random(2)
    in_flight: list[tuple[list[int], tuple[Queue, ...]]] = []
    decided: Counter[str] = Counter()
    for _ in range(6000):
        now += choose.choice((0, 0, SECOND // 100, SECOND // 5))
        if in_flight and choose.random() < 0.3:
            places, windows = in_flight.pop(choose.randrange(len(in_flight)))
            for place, window in zip(places, windows, strict=True):
                engine.free(place)
                model.free(window)
        number = choose.randrange(len(CLIENTS))
        event = choose.choice((Event.PUBLISH, Event.PUBLISH, Event.SUBSCRIBE))
        message = Message(choose.choice(TOPICS), 1, packet=100, event=event)
        expected = model.decide(CLIENTS[number], message, now)
        verdict = engine.judge(subjects[number], message.topic.encode(), 1, packet=100, event=event, now_ns=now)
        assert (verdict.action, verdict.limit, verdict.crowd) == (expected.action.name.lower(), expected.limit, False)
        assert (round(verdict.wait * SECOND), engine.by_window) == (expected.wait, expected.by_window)
        if expected.taken:
            in_flight.append((decider.places_of(engine.taken()), expected.taken))
        decided[f"{expected.limit}: {expected.by_window}"] += 1
    assert min(decided[what] for what in (": False", "own: False", "all: False", "flight: True", "group: True")) > 20, (
        decided
    )


def test_a_policy_that_is_damaged_while_it_is_read_is_refused_or_whole(tmp_path: Path) -> None:
    memory = mmap(-1, Segment.size(*SHAPE))
    Segment.create(memory, *SHAPE, BOOT, SECRET)
    segment = Segment(memory, BOOT)
    policy = compile_policy(POLICY, assign_slots(POLICY), LARGEST_PACKET)
    segment.publish(policy)
    choose = random.Random(3)
    half = len(memory) - (1 << 14) - 4096
    for _ in range(500):
        at = half + choose.randrange(len(policy) + 8)
        kept = memory[at]
        memory[at] ^= 1 << choose.randrange(8)
        found = segment.policy()
        try:
            Engine(segment, -1).load(found)
        except PolicyError:
            pass
        else:
            raise AssertionError("its checksum was right")
        memory[at] = kept
    Engine(segment, -1).load(segment.policy())
