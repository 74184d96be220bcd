"""Hypothesis strategies: policies, clients and traffic of few names, so that keys, classes and topics collide."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from support.engine_model import Client, Message
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

T = TypeVar("T")

LARGEST_PACKET = 4096
CLASSES = ("plc", "guest", "bridge")
LIMITS = ("a", "b", "c", "d", "e")
CLIENT_IDS = ("", "a", "b", "ab", "a-b", "é", "a-é-b", "{x}", "*")
CLIENT_GLOBS = (
    "*",
    "a*",
    "?",
    "{x}",
    "{x}-*",
    "a-{y}",
    "{x}-{y}",
    "*-{x}",
    "é",
    "?*b",
    "{x}?",
    "{x}{y}",
    "{X}",
    "[ab]",
)
USERNAMES = (None, "", "u", "acme:u", "acme:v", "b:c:d")
USER_GLOBS = ("{x}:*", "*", "u", "acme:?", "*:{y}", "{x}:{y}:*")
ADDRESSES = (
    None,
    *map(IPv4Address, ("10.0.0.1", "10.0.0.2", "10.0.1.1", "192.168.0.1")),
    *map(IPv6Address, ("::1", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "2001:db8:1::1")),
)
NETWORKS = (
    *map(IPv4Network, ("0.0.0.0/0", "10.0.0.0/23", "10.0.0.0/24", "10.0.0.1/32")),
    *map(IPv6Network, ("::/0", "2001:db8::/63", "2001:db8::/44", "::1/128")),
)
LISTENERS = ("tcp://a", "unix:/b")
TOPICS = (
    "a", "b", "a/b", "a/a", "b/a/b", "a/b/c", "a/b/c/d", "/", "//", "/a", "a/", "a//b", "$SYS", "$SYS/a", "$a/b",
    "é", "é/a", "+", "#", "a/+", "a b",
)  # fmt: skip
FILTERS = (
    "#", "+", "a", "a/#", "a/b", "+/b", "a/+", "+/+", "+/#", "a/+/c", "a/b/c/d", "/", "/+", "+/", "//", "a//b", "/#",
    "$SYS/#", "$SYS/+", "$a/b", "$SYS", "é/#", "é/+", "b/a/b", "a/+/#",
)  # fmt: skip
KEYS = (
    *(Key(kind) for kind in (KeyKind.ALL, KeyKind.CLIENT, KeyKind.USERNAME, KeyKind.LISTENER, KeyKind.CLASS)),
    *(Key(KeyKind.IP, v4, v6) for v4, v6 in ((32, 64), (24, 48), (0, 0), (31, 128), (9, 63))),
    *(Key(KeyKind.CAPTURE, capture=name) for name in ("x", "y")),
    *(Key(KeyKind.TOPIC, levels=levels) for levels in (0, 1, 2, 5)),
)
ACTIONS = tuple(action for action in Action if action is not Action.PASS)
EVENTS = (*[Event.PUBLISH] * 6, *Event)


def _some(values: tuple[T, ...], most: int, *, least: int = 0) -> SearchStrategy[tuple[T, ...]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=most, unique=True).map(tuple)


def _rarely(some: SearchStrategy[T], nothing: T) -> SearchStrategy[T]:
    return st.integers(0, 7).flatmap(lambda number: some if number == 7 else st.just(nothing))


@st.composite
def conditions(draw: DrawFn) -> Conditions:
    """What a client must be; often nothing at all."""
    return Conditions(
        client_id=draw(_rarely(_some(CLIENT_GLOBS, 2), ())),
        username=draw(_rarely(_some(USER_GLOBS, 2), ())),
        cidr=draw(_rarely(_some(NETWORKS, 2), ())),
        listener=draw(_rarely(_some(LISTENERS, 2), ())),
        cn=draw(st.sampled_from(((), (), (), (), (), ("*",)))),
        version=draw(_rarely(_some((3, 4, 5), 2), ())),
        clean_start=draw(_rarely(st.booleans(), None)),
        bridge=draw(_rarely(st.booleans(), None)),
    )


@st.composite
def classes(draw: DrawFn, name: str) -> ClientClass:
    """A class of this name."""
    return ClientClass(
        name,
        draw(conditions()),
        tuple(draw(st.lists(conditions(), max_size=2))),
        draw(st.sampled_from(Priority)),
        exempt=draw(st.integers(0, 9)) == 0,
    )


rates = st.builds(
    Rate,
    st.sampled_from((1, 2, 3, 10)),
    st.sampled_from((Fraction(1), Fraction(1, 10), Fraction(10), Fraction(60), Fraction(3))),
    st.integers(1, 4),
)
bandwidths = st.builds(
    Rate,
    st.sampled_from((100, 1024, 999)),
    st.sampled_from((Fraction(1), Fraction(7))),
    st.sampled_from((50, 1000, 4096)),
)


def by_class(numbers: SearchStrategy[T], names: tuple[str, ...]) -> SearchStrategy[ByClass[T]]:
    """A number for all, and others for some classes; now and then none."""
    named: SearchStrategy[dict[str, T | None]] = (
        _rarely(st.dictionaries(st.sampled_from(names), st.none() | numbers), {}) if names else st.just({})
    )
    return st.builds(ByClass, st.none() | numbers, named)


@st.composite
def cases(draw: DrawFn) -> Cases:
    """Any action in any case."""
    actions = st.sampled_from(ACTIONS)
    return Cases(
        draw(actions),
        draw(_rarely(st.dictionaries(st.integers(0, 2), actions), {})),
        draw(st.none() | actions),
        draw(st.none() | actions),
    )


@st.composite
def limits(draw: DrawFn, name: str, names: tuple[str, ...]) -> Limit:
    """A limit of this name that may speak of these classes."""
    rated = st.lists(rates, min_size=1, max_size=3).map(tuple)
    banded = st.lists(bandwidths, min_size=1, max_size=2).map(tuple)
    return Limit(
        name,
        draw(st.sampled_from(EVENTS)),
        draw(cases()),
        per=draw(_some(KEYS, 3, least=1)),
        classes=draw(_rarely(_some(names, 2), ())) if names else (),
        not_classes=draw(_rarely(_some(names, 1), ())) if names else (),
        who=draw(_rarely(conditions(), Conditions())),
        topic=draw(st.just(()) | _some(FILTERS, 3)),
        except_topic=draw(_rarely(_some(FILTERS, 2), ())),
        qos=draw(_rarely(_some((0, 1, 2), 2), ())),
        retain=draw(st.integers(0, 7)) == 0,
        rate=draw(by_class(rated, names) | by_class(rated, names).filter(lambda rate: rate.default is not None)),
        bandwidth=draw(_rarely(by_class(banded, names), ByClass())),
        size=draw(_rarely(by_class(st.sampled_from((0, 10, 1000)), names), ByClass())),
        concurrent=draw(_rarely(by_class(st.sampled_from((1, 20)), names), ByClass())),
    )


@st.composite
def policies(draw: DrawFn) -> Policy:
    """A few classes and limits, in any order."""
    names = draw(_some(CLASSES, 3))
    return Policy(
        tuple([draw(classes(name)) for name in names]),
        tuple([draw(limits(name, names)) for name in draw(_some(LIMITS, 5, least=1))]),
    )


clients = st.builds(
    Client,
    st.sampled_from(CLIENT_IDS),
    st.sampled_from(USERNAMES),
    st.sampled_from(ADDRESSES),
    st.sampled_from(LISTENERS),
    st.sampled_from((3, 4, 5, 5)),
    st.booleans(),
    st.booleans(),
    st.integers(1, 2),
)


@dataclass(frozen=True)
class Traffic:
    """Messages that follow from a number, hundreds for the price of one: what shrinks is their count."""

    seed: int
    count: int

    def messages(self, clients: int, policy: Policy) -> Iterator[tuple[int, int, Message]]:
        """Nanoseconds since the one before, the client's number, the message; by far most about events with limits."""
        choose = random.Random(self.seed)
        events = [limit.on for limit in policy.limits] * 4 + [Event.PUBLISH, *Event]
        for _ in range(self.count):
            pause = choose.choice((0, 0, 0, 1, 10**6, 10**8, 10**8 - 1, 333_333_333, 10**9, 10**10))
            size = choose.choice((0, 1, 9, 10, 11, 100, 1000, 1001, LARGEST_PACKET - 20))
            yield (
                pause,
                choose.randrange(clients),
                Message(
                    choose.choice(TOPICS) if choose.random() < 0.9 else "",
                    choose.randrange(3),
                    choose.random() < 0.3,
                    size + choose.randrange(20),
                    size,
                    choose.choice(events),
                    force=choose.random() < 0.1,
                ),
            )


traffic = st.builds(Traffic, st.integers(0, 2**32), st.integers(1, 60))
