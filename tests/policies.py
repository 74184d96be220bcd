"""Hypothesis strategies: policies, clients and traffic of few names, so that keys, classes and topics collide."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from support.engine_model import Client, Message
from tidegate.policy.events import BY_CLASS, MEANINGS
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
from tidegate.policy.stages import Stage

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
NETWORKS: tuple[IPv4Network | IPv6Network, ...] = (
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
SHARES = ("$share/g/#", "$share/+/a/+", "$share/h/a/b", "$share/+/+/#", "$share/g/$SYS/#", "$share/g/+")
"""Filters of limits on shared subscriptions."""
SUBSCRIPTIONS = (
    *FILTERS, "$share/g/#", "$share/h/#", "$share/g/a/+", "$share/h/a/b", "$share/g/+/#", "$share/g/+",
    "$share/h/$SYS/#", "$share/g", "$share/g/", "$share//a", "$share/+/a/b", "$share/g//", "a/b/c/d/#",
    "a/b/c/d/e/f", "+/+/+/+/+",
)  # fmt: skip
KEYS = (
    *(Key(kind) for kind in (KeyKind.ALL, KeyKind.CLIENT, KeyKind.USERNAME, KeyKind.LISTENER, KeyKind.CLASS)),
    *(Key(KeyKind.IP, v4, v6) for v4, v6 in ((32, 64), (24, 48), (0, 0), (31, 128), (9, 63))),
    *(Key(KeyKind.CAPTURE, capture=name) for name in ("x", "y")),
    *(Key(KeyKind.TOPIC, levels=levels) for levels in (0, 1, 2, 5)),
)
ACTIONS = tuple(action for action in Action if action is not Action.PASS)
EVENTS = (*[Event.PUBLISH] * 6, *Event)
NOTHING: Any = ByClass()
DOWN = (Event.SUBSCRIBE, Event.SUBSCRIBE, Event.DELIVER, Event.DELIVER, Event.WILL, Event.PACKET)
"""Those of subscribers, wills and packets of any type."""
ARRIVALS = (Event.CONNECT, Event.CONNECT, Event.CONNECT, Event.AUTH_FAILURE)
"""The events of a client that is not let in yet."""


def _some(values: tuple[T, ...], most: int, *, least: int = 0) -> SearchStrategy[tuple[T, ...]]:
    return st.lists(st.sampled_from(values), min_size=least, max_size=most, unique=True).map(tuple)


def _rarely(some: SearchStrategy[T], nothing: T) -> SearchStrategy[T]:
    return st.integers(0, 7).flatmap(lambda number: some if number == 7 else st.just(nothing))


conditions = st.builds(
    Conditions,
    client_id=_rarely(_some(CLIENT_GLOBS, 2), ()),
    username=_rarely(_some(USER_GLOBS, 2), ()),
    cidr=_rarely(_some(NETWORKS, 2), ()),
    listener=_rarely(_some(LISTENERS, 2), ()),
    cn=_rarely(st.just(("*",)), ()),
    version=_rarely(_some((3, 4, 5), 2), ()),
    clean_start=_rarely(st.booleans(), None),
    bridge=_rarely(st.booleans(), None),
)
"""What a client must be; often nothing at all."""


def classes(name: str) -> SearchStrategy[ClientClass]:
    """A class of this name."""
    return st.builds(
        ClientClass,
        st.just(name),
        conditions,
        st.lists(conditions, max_size=2).map(tuple),
        st.sampled_from(Priority),
        exempt=st.sampled_from((False,) * 9 + (True,)),
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


def by_class(numbers: SearchStrategy[T]) -> SearchStrategy[ByClass[T]]:
    """A number for all, now and then none, and others for some classes."""
    named: SearchStrategy[dict[str, T | None]] = st.dictionaries(st.sampled_from(CLASSES), st.none() | numbers)
    return st.builds(ByClass, _rarely(st.none(), None) | numbers, _rarely(named, {}))


actions = st.sampled_from((*ACTIONS, Action.DELAY, Action.DELAY))
cases = st.builds(
    Cases,
    actions,
    _rarely(st.dictionaries(st.integers(0, 2), actions), {}),
    _rarely(actions, None),
    _rarely(actions, None),
)
"""Any action in any case."""
ends = st.sampled_from((Action.DROP, Action.REJECT, Action.DISCONNECT, Action.PASS, Action.DELAY))
after_delays = st.builds(Cases, ends, _rarely(st.dictionaries(st.integers(0, 2), ends), {}), _rarely(ends, None))
"""What may follow a delay."""

windows = by_class(st.sampled_from((1, 2, 3, 20)))


def limits(name: str, events: tuple[Event, ...]) -> SearchStrategy[Limit]:
    """A limit of this name, on one of these events."""
    return st.builds(
        Limit,
        st.just(name),
        st.sampled_from(events),
        cases,
        per=_some(KEYS, 3, least=1),
        classes=_rarely(_some(CLASSES, 2), ()),
        not_classes=_rarely(_some(CLASSES, 1), ()),
        who=_rarely(conditions, Conditions()),
        topic=_rarely(_some(FILTERS, 3), ()) | _some(FILTERS, 3) | _some((*FILTERS, *SHARES), 3),
        except_topic=_rarely(_some((*FILTERS, *SHARES), 2), ()),
        qos=_rarely(_some((0, 1, 2), 2), ()),
        retain=st.sampled_from((False,) * 7 + (True,)),
        rate=by_class(st.lists(rates, min_size=1, max_size=3).map(tuple)),
        bandwidth=_rarely(by_class(st.lists(bandwidths, min_size=1, max_size=2).map(tuple)), ByClass()),
        size=_rarely(by_class(st.sampled_from((0, 10, 1000))), ByClass()),
        concurrent=_rarely(windows, ByClass()) | windows,
        depth=_rarely(by_class(st.integers(1, 5)), ByClass()),
        leading_wildcard=st.sampled_from((True,) * 7 + (False,)),
        max_qos=_rarely(by_class(st.integers(0, 1)), ByClass()),
        will_delay=_rarely(by_class(st.sampled_from((0.001, 3.0, 20.0))), ByClass()),
        max_delay=st.sampled_from((0.5, 5.0)),
        then=after_delays,
        conflate=st.booleans(),
    ).map(_meaningful)


def _meaningful(limit: Limit) -> Limit:
    """Without what means nothing for its event: the language has no such limit."""
    meaning = MEANINGS[limit.on]
    limit = replace(
        limit,
        leading_wildcard=limit.leading_wildcard or "leading_wildcard" not in meaning.keys,
        conflate=limit.conflate and "conflate" in meaning.keys,
    )
    for key in BY_CLASS:
        if key not in meaning.keys:
            limit = replace(limit, **{key: NOTHING})
    if limit.on is not Event.SUBSCRIBE:
        limit = replace(limit, topic=_unshared(limit.topic), except_topic=_unshared(limit.except_topic))
    if not meaning.has_topics:
        per = tuple(key for key in limit.per if key.kind is not KeyKind.TOPIC) or (meaning.per,)
        limit = replace(limit, topic=(), except_topic=(), per=per)
    if not meaning.has_qos:
        on_excess, then = replace(limit.on_excess, qos={}), replace(limit.then, qos={})
        limit = replace(limit, qos=(), retain=False, on_excess=on_excess, then=then)
    return limit


def _unshared(filters: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text for text in filters if text not in SHARES)


def _policies(events: tuple[Event, ...]) -> SearchStrategy[Policy]:
    by_name = {name: limits(name, events) for name in LIMITS}
    return st.builds(
        Policy,
        st.permutations([classes(name) for name in CLASSES]).flatmap(lambda some: st.tuples(*some)),
        _some(LIMITS, 5, least=1).flatmap(lambda names: st.tuples(*(by_name[name] for name in names))),
    )


policies = _policies(EVENTS)
"""Three classes and a few limits, in any order."""
arrivals = _policies(ARRIVALS)
"""Likewise, with limits on who comes."""

subscribers = _policies(DOWN)
"""Likewise, with limits on what subscribers ask for and get, on wills and on any packet."""

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


def _told(message: Message, choose: random.Random) -> Message:
    """As much of it as there is to its event."""
    if message.event is Event.AUTH_FAILURE:
        return Message("", event=message.event)
    if message.event in (Event.PUBLISH, Event.DELIVER):
        return message
    if message.event is Event.WILL:
        return replace(message, again=False, owed=0)
    if message.event is Event.SUBSCRIBE:
        asked = choose.choice(SUBSCRIPTIONS)
        return replace(message, topic=asked, qos=0, retain=False, packet=0, payload=0, owed=0)
    if message.event is Event.PACKET:
        return replace(message, topic="", qos=0, retain=False, payload=message.packet, again=False, owed=0)
    stage = choose.choice(tuple(Stage))
    size = message.packet if stage is Stage.LATE else 0
    return replace(message, topic="", qos=stage, retain=False, packet=size, payload=size, again=False, owed=0)


@dataclass(frozen=True)
class Traffic:
    """Messages that follow from a number, hundreds for the price of one: what shrinks is their count."""

    seed: int
    count: int
    habit: float = 0.0
    """How likely a message is like the one before: of the same client, on the same topic; of any size."""

    def messages(self, clients: int, policy: Policy) -> Iterator[tuple[int, int, Message]]:
        """Nanoseconds since the one before, the client's number, the message; by far most about events with limits."""
        choose = random.Random(self.seed)
        events = [limit.on for limit in policy.limits] * 4 + [Event.PUBLISH, *Event]
        last: tuple[int, tuple[str, int, bool], Event] | None = None
        for _ in range(self.count):
            pause = choose.choice((0, 0, 0, 1, 10**6, 10**8, 10**8 - 1, 333_333_333, 10**9, 10**10))
            size = choose.choice((0, 1, 9, 10, 11, 100, 1000, 1001, LARGEST_PACKET - 20))
            if last is None or choose.random() >= self.habit:
                topic = choose.choice(TOPICS) if choose.random() < 0.9 else ""
                last = (
                    choose.randrange(clients),
                    (topic, choose.randrange(3), choose.random() < 0.3),
                    choose.choice(events),
                )
            number, what, event = last
            message = Message(
                *what,
                size + choose.randrange(20),
                size,
                event,
                again=choose.random() < 0.1,
                turn=choose.random() < 0.5,
                held=choose.random() < 0.3,
                owed=choose.choice((0, 0, 0, 1, 2, 30)),
                ask=choose.random() < 0.1,
            )
            yield pause, number, _told(message, choose)


traffic = st.builds(Traffic, st.integers(0, 2**32), st.integers(1, 60), st.sampled_from((0.0, 0.9)))
