"""Whatever bytes are loaded as a policy, they are one or they are refused; nothing that loads does harm.

A checksum is no proof of sense, so damage is tried with its checksum made right as well. What is out of bounds shows
under `make sanitize`.
"""

import math
import random
import struct
from fractions import Fraction
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import untimed
from support.engine_model import Client
from support.segments import compiled, segment
from tidegate.engine.binding import Engine
from tidegate.engine.errors import PolicyError
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

SECOND = 10**9
CHECKED = 24
"""Bytes before what the checksum covers; it is the last eight of them."""


def rate(amount: int, burst: int, *more: Rate) -> ByClass[tuple[Rate, ...]]:
    return ByClass((Rate(amount, Fraction(1), burst), *more), {"plc": None, "fleet": (Rate(9, Fraction(60), 9),)})


CLASSES = (
    ClientClass("plc", Conditions(client_id=("plc-?*", "{x}é"), cidr=(IPv4Network("10.0.0.0/9"),))),
    ClientClass("fleet", Conditions(username=("{tenant}:*",)), (Conditions(version=(4, 5)), Conditions(bridge=True))),
)
PUBLISH = Event.PUBLISH
LIMITS = (
    Limit("a", PUBLISH, Cases(Action.REJECT, v3=Action.DROP), topic=("a/+/c/#", "a/b"), rate=rate(5, 2)),
    Limit("b", PUBLISH, Cases(Action.BAN), (Key(KeyKind.IP), Key(KeyKind.TOPIC, levels=2)), rate=rate(9, 3)),
    Limit(
        "c",
        PUBLISH,
        Cases(Action.DELAY, {0: Action.OBSERVE}),
        (Key(KeyKind.CAPTURE, capture="tenant"),),
        except_topic=("$SYS/#",),
        bandwidth=rate(1000, 500, Rate(1, Fraction(1), 1)),
        size=ByClass(50),
    ),
    Limit("d", Event.PACKET, Cases(Action.DISCONNECT), (Key(KeyKind.CLASS),), ("plc",), rate=rate(1, 1)),
    Limit("e", PUBLISH, Cases(Action.DROP), not_classes=("plc",), topic=("+/b",), rate=rate(1, 1)),
)
POLICY = compiled(Policy(CLASSES, LIMITS))
CLIENTS = (Client("plc-1é", "acme:x"), Client("", version=4, bridge=True), Client("é", "u:v:w", listener=""))
TOPICS = (b"a/b", b"a/b/c/d/e", b"$SYS/x", b"", b"/", b"a" * 300, b"a/" * 200)


def summed(data: bytes) -> bytes:
    """The same with the right checksum."""
    value = 0xCBF29CE484222325
    for byte in data[CHECKED:]:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFF_FFFF_FFFF_FFFF
    return data[: CHECKED - 8] + struct.pack("<Q", value) + data[CHECKED:]


class Victim:
    """An engine that is given anything, and has to go on deciding."""

    def __init__(self) -> None:
        self.segment = segment(slots=8, records=8, words=64)
        self.engine = Engine(self.segment, 0)
        self.clients = [client.subject() for client in CLIENTS]
        self.now = SECOND
        self.loaded = 0

    def swallow(self, data: bytes) -> bool:
        """Load it and decide by it, or see it refused."""
        try:
            self.engine.load(data)
        except PolicyError:
            return False
        self.loaded += 1
        self.now += SECOND // 3
        engine = self.engine
        assert len(engine.names) == engine.limits
        assert len(engine.bursts()) == engine.limits
        for client in self.clients:
            for number, topic in enumerate(TOPICS):
                for event in (0, 0, number):
                    verdict = engine.judge(
                        client, topic, number % 3, True, 300, 40, number == 5, event, now_ns=self.now
                    )
                    assert (
                        verdict.matched == len(engine.matching(client, topic, number % 3, True, event)) <= engine.limits
                    )
        self.segment.events(0, 0)
        return True


@pytest.fixture(scope="module")
def victim() -> Victim:
    return Victim()


def test_the_policy_itself_loads(victim: Victim) -> None:
    assert summed(POLICY) == POLICY
    assert victim.swallow(POLICY)


def test_every_truncation_is_refused(victim: Victim) -> None:
    for size in range(len(POLICY)):
        assert not victim.swallow(POLICY[:size])
    assert not victim.swallow(POLICY + b"\0")
    assert not victim.swallow(POLICY + POLICY)


def test_every_truncation_that_knows_its_size_is_refused(victim: Victim) -> None:
    for size in range(CHECKED, len(POLICY)):
        cut = bytearray(POLICY[:size])
        struct.pack_into("<I", cut, 12, size)
        assert not victim.swallow(summed(bytes(cut)))


def test_every_byte_that_is_changed_is_found_out(victim: Victim) -> None:
    for at in range(len(POLICY)):
        changed = bytearray(POLICY)
        changed[at] ^= 0x5A
        assert not victim.swallow(bytes(changed))


@pytest.mark.parametrize("change", [0x01, 0x80, 0xFF])
def test_every_byte_that_is_changed_with_its_checksum_does_no_harm(victim: Victim, change: int) -> None:
    before = victim.loaded
    for at in range(CHECKED, len(POLICY)):
        changed = bytearray(POLICY)
        changed[at] ^= change
        victim.swallow(summed(bytes(changed)))
    assert 0 < victim.loaded - before < len(POLICY) - CHECKED


def test_every_number_that_is_0_or_huge_does_no_harm(victim: Victim) -> None:
    for at in range(CHECKED, len(POLICY), 4):
        for number in (0, 1, 0x7FFF_FFFF, 0xFFFF_FFFF):
            changed = bytearray(POLICY)
            struct.pack_into("<I", changed, at, number)
            victim.swallow(summed(bytes(changed)))


@untimed
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_much_that_is_changed_does_no_harm(seed: int, changes: int) -> None:
    choose = random.Random(seed)
    changed = bytearray(POLICY)
    for _ in range(changes):
        at = choose.randrange(CHECKED, len(changed))
        changed[at] = choose.choice((0, 1, 2, changed[at] ^ 1, changed[at - 1], choose.randrange(256), 255))
    Victim().swallow(summed(bytes(changed)))


def field(section: str, number: int, at: int) -> int:
    """Where a field of a record lies, `at` bytes behind its beginning."""
    from tidegate.engine.format import RECORDS

    start = 120
    for name, count in zip(RECORDS, struct.unpack_from("<11I", POLICY, CHECKED), strict=True):
        if name == section:
            return start + number * RECORDS[name].size + at
        start += -(-count * RECORDS[name].size // 8) * 8
    raise KeyError(section)


def refused(*changes: tuple[int, str, float]) -> str:
    """Why the policy is refused with these changes: where, how, what."""
    changed = bytearray(POLICY)
    for at, form, value in changes:
        struct.pack_into(form, changed, at, value)
    with pytest.raises(PolicyError) as error:
        Engine(segment(slots=8), -1).load(summed(bytes(changed)))
    return str(error.value)


def test_a_limit_of_the_topic_tree_cannot_be_one_that_always_matches() -> None:
    # It would match twice, which nobody has room for.
    topics = field("limit", 0, 91)
    assert POLICY[topics] == 1
    assert "corrupt: node" in refused((topics, "<B", 0))


def test_a_node_of_the_topic_tree_has_one_way_to_it() -> None:
    # Two at every level are a walk of two to the power of the levels.
    parent, child = struct.unpack_from("<II", POLICY, field("edge", 0, 0))
    assert "corrupt: parents of node" in refused((field("node", parent, 0), "<I", child))


def test_why_a_policy_is_refused() -> None:
    assert refused((0, "<B", 0)) == "not a compiled policy of Tidegate"
    assert "another version" in refused((8, "<I", 77))
    assert "truncated" in refused((12, "<I", 77))
    assert "corrupt: sections" in refused((CHECKED, "<I", 77))
    assert "corrupt: limit 0" in refused((field("limit", 0, 8), "<I", 8))
    assert "corrupt: class 1" in refused((field("class", 1, 20), "<B", 4))
    assert "corrupt: condition 0" in refused((field("condition", 0, 0), "<I", 9))
    assert "corrupt: component 0" in refused((field("component", 0, 0), "<I", 8))
    assert "corrupt: budget 0" in refused((field("budget", 0, 24), "<Q", 1))
    assert "corrupt: limit 4" in refused((field("limit", 4, 120), "<I", 1))
    assert "corrupt: limit 1" in refused((field("limit", 1, 120), "<I", 0xFFFF_FFFF)), "it bans, for how long?"
    for at, form, value in ((0, "<Q", 0), (0, "<Q", 3601 * SECOND), (8, "<Q", 1 << 60)):
        assert "corrupt: ban 0" in refused((field("ban", 0, at), form, value))
    for factor in (0.5, -1.0, 101.0, math.inf, math.nan):
        assert "corrupt: ban 0" in refused((field("ban", 0, 16), "<d", factor))
    assert "corrupt: edge 1" in refused((field("edge", 1, 4), "<I", 1))
