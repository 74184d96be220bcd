"""Whatever is written into a segment, nobody who shares it crashes, and time heals it."""

import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from mmap import mmap
from pathlib import Path

from support import decider
from support.engine_model import Client, Message, Model
from support.segments import BOOT, SECRET, compiled
from tidegate.engine.binding import Engine, Segment
from tidegate.engine.errors import PolicyError
from tidegate.policy.compile import LARGEST_PACKET, assign_slots
from tidegate.policy.model import Action, ByClass, Cases, Event, Key, KeyKind, Limit, Policy, Priority, Rate

PROCESSES = 2
SHAPE = (PROCESSES + 1, 4, 64, 4096, 1 << 14)
SECOND = 10**9
START = 10**6 * SECOND
HORIZON = 256 * 8
"""Seconds: so far ahead the longest debt of the policy, 8 s, lies at the smallest scale factor."""
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


def blocks(memory: mmap, choose: random.Random) -> None:
    at = choose.randrange(len(memory) - 4096)
    memory[at : at + 4096] = choose.choice((choose.randbytes(4096), b"\xff" * 4096, bytes(4096)))


def shifted(memory: mmap, choose: random.Random) -> None:
    """What is right in another place."""
    size = choose.choice((1, 8, 16, 256, 5000))
    start, to = choose.randrange(len(memory) - size), choose.randrange(len(memory) - size)
    memory.move(to, start, size)


KINDS: tuple[Damage, ...] = (words, head_and_slots, blocks, shifted)


def test_damage_crashes_nobody_and_heals(tmp_path: Path) -> None:
    path, control = tmp_path / "segment", tmp_path / "control"
    path.write_bytes(bytes(Segment.size(*SHAPE)))
    control.write_bytes(bytes(16))
    memory = decider.open_memory(str(path))
    clock = memoryview(decider.open_memory(str(control))).cast("Q")
    clock[0] = START
    Segment.create(memory, *SHAPE, BOOT, SECRET)
    segment = Segment(memory, BOOT)
    policy = compiled(POLICY)
    segment.publish(policy)
    engine = Engine(segment, PROCESSES, PROCESSES)
    engine.load(policy)
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
            engine.judge(client, b"t/1", 1, packet=9, now_ns=clock[0])
            assert all(process.poll() is None for process in running)
        heal(segment, engine, policy, clock[0])
        clock[1] = 1
        for process in running:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            assert int(out) > 1000
    check(engine, clock[0] + 2 * HORIZON * SECOND)


def heal(segment: Segment, engine: Engine, policy: bytes, now: int) -> None:
    """What a control plane sets is set again; what lies too far ahead is set back when traffic meets it."""
    assert segment.publish(policy)
    assert segment.policy() == policy
    for limit, slot in assign_slots(POLICY).items():
        assert limit in engine.names
        for priority in Priority:
            segment.set_scale(slot, priority, 1.0)
    for client in CLIENTS:
        subject = client.subject()
        for topic in TOPICS:
            engine.judge(subject, topic.encode(), 1, packet=50, now_ns=now)
        engine.judge(subject, b"t", 1, event=Event.SUBSCRIBE, now_ns=now)


def check(engine: Engine, now: int) -> None:
    """Every decision is that of the model, which has seen none of it."""
    model = Model(LARGEST_PACKET)
    model.load(POLICY, assign_slots(POLICY))
    subjects = [client.subject() for client in CLIENTS]
    choose = random.Random(2)
    for _ in range(3000):
        now += choose.choice((0, SECOND // 100, SECOND // 3))
        number = choose.randrange(len(CLIENTS))
        event = choose.choice((Event.PUBLISH, Event.PUBLISH, Event.SUBSCRIBE))
        message = Message(choose.choice(TOPICS), 1, packet=100, event=event)
        expected = model.decide(CLIENTS[number], message, now)
        verdict = engine.judge(subjects[number], message.topic.encode(), 1, packet=100, event=event, now_ns=now)
        assert (verdict.action, verdict.limit, verdict.crowd) == (expected.action.name.lower(), expected.limit, False)
        assert round(verdict.wait * SECOND) == expected.wait


def test_a_policy_that_is_damaged_while_it_is_read_is_refused_or_whole(tmp_path: Path) -> None:
    memory = mmap(-1, Segment.size(*SHAPE))
    Segment.create(memory, *SHAPE, BOOT, SECRET)
    segment = Segment(memory, BOOT)
    policy = compiled(POLICY)
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
