"""A policy in the flat form that the engine reads.

Names become numbers, rates become prices in ticks, topic filters one tree for each event. What the engine must not have
to think about is settled here: choices by class stand with the strictest first, limits in the order of their events.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest

from ..engine.format import (
    CONFLATE,
    LONGEST,
    MAX_CAPTURES,
    MAX_COMPONENTS,
    MAX_LEVELS,
    NO_WILD,
    NONE,
    ONE,
    OWN,
    RUN,
    SHARES,
    Price,
    Range,
    Sections,
    capture,
    literal,
    price,
)
from ..mqtt.topics import share_of
from .model import Action, BanTimes, ByClass, Cases, Conditions, Event, Key, KeyKind, Limit, Policy, Rate
from .stages import Stage, stage_of
from .strictness import Strictness, of_duration, of_number, of_rates, ranked
from .tree import Tree

LARGEST_PACKET = 1 << 20
"""Bytes: gateway.max_packet by default."""

_VERSIONS = (4, 5)
_UNKNOWN = (0, 0)
"""At accept: a client has said no version."""
_MESSAGE_QOS = (0, 1, 2)
_SEGMENTS = re.compile(r"(\*+|\?|\{[a-z][a-z0-9_]*\})")

# The kinds of condition, as native/engine.h numbers them.
_CLIENT, _USERNAME, _CIDR, _LISTENER, _CN, _SAN, _VERSION, _CLEAN, _BRIDGE = range(9)

_BYTES = "bandwidth"
"""The kind of budget that is counted in bytes."""
_UNLIMITED = (1 << 64) - 1


class TooMuch(ValueError):
    """The policy is larger than the compiled form can say; the text says in what."""


def assign_slots(policy: Policy) -> dict[str, int]:
    """Places in a segment of its own, by the limits' names, in their order."""
    return {limit.name: slot for slot, limit in enumerate(policy.limits)}


def compile_policy(policy: Policy, slots: Mapping[str, int], largest_packet: int = LARGEST_PACKET) -> bytes:
    """The compiled policy; TooMuch when it does not fit.

    `slots`: the limits' places, from `assign_slots`. `largest_packet`: bytes of the largest that a bandwidth meets.
    """
    return _Compiler(policy, slots, largest_packet).pack()


def ordered(policy: Policy) -> list[Limit]:
    """The limits in the order in which the engine numbers them."""
    return sorted(policy.limits, key=lambda limit: limit.on)


def identity_of(*parts: str) -> int:
    """64 bits that stand for these words; over a reload, equal words keep their buckets."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest(), "little")


class _Compiler:
    def __init__(self, policy: Policy, slots: Mapping[str, int], largest_packet: int) -> None:
        self.out = Sections()
        self.limits = ordered(policy)
        self.slots = slots
        self.largest_packet = largest_packet
        self.classes = {one.name: number for number, one in enumerate(policy.classes)}
        self.by_name = {one.name: one for one in policy.classes}
        self.captures: dict[str, int] = {}
        self.components: dict[Key, int] = {}
        self.bans: dict[BanTimes, int] = {}
        self.out.add("group", 0, 0)  # number 0: fits everybody
        for one in policy.classes:
            all_of = self.group(one.all_of)
            first = len(self.out.records["group"])
            for conditions in one.any_of:
                self.group(conditions, always=True)
            any_of = (first, len(one.any_of))
            self.out.add("class", identity_of(one.name), all_of, *any_of, one.priority, one.exempt)
        for limit in self.limits:
            self.limit(limit)
        self.trees()

    def pack(self) -> bytes:
        return self.out.pack()

    # Clients

    def group(self, conditions: Conditions, always: bool = False) -> int:
        """The number of a group of conditions; 0 for one that fits everybody, unless it is wanted `always`."""
        rows: list[tuple[int, list[tuple[object, ...]]]] = []
        for kind, texts in (
            (_CLIENT, conditions.client_id),
            (_USERNAME, conditions.username),
            (_CN, conditions.cn),
            (_SAN, conditions.san),
        ):
            rows.append((kind, [self.value(text=self.pattern(text)) for text in texts]))
        networks = [
            self.value(number=net.version, bits=net.prefixlen, address=net.network_address.packed.ljust(16, b"\0"))
            for net in conditions.cidr
        ]
        rows.append((_CIDR, networks))
        rows.append((_LISTENER, [self.value(text=name.encode()) for name in conditions.listener]))
        rows.append((_VERSION, [self.value(number=version) for version in conditions.version]))
        for kind, wanted in ((_CLEAN, conditions.clean_start), (_BRIDGE, conditions.bridge)):
            rows.append((kind, [] if wanted is None else [self.value(number=int(wanted))]))
        found = [(kind, *self.out.extend("value", values)) for kind, values in rows if values]
        if not found and not always:
            return 0
        return self.out.add("group", *self.out.extend("condition", found))

    def value(
        self, text: bytes = b"", number: int = 0, bits: int = 0, address: bytes = bytes(16)
    ) -> tuple[object, ...]:
        return (*self.out.write_text(text), bits, number, address)

    def pattern(self, text: str) -> bytes:
        """The tokens of a glob; its captures get their numbers."""
        tokens = []
        for part in _SEGMENTS.split(text):
            if part.startswith("*"):
                tokens.append(RUN)
            elif part == "?":
                tokens.append(ONE)
            elif part.startswith("{") and _SEGMENTS.fullmatch(part):
                tokens.append(capture(self.capture(part[1:-1])))
            elif part:
                tokens.append(literal(part.encode()))
        return b"".join(tokens)

    def capture(self, name: str) -> int:
        number = self.captures.setdefault(name, len(self.captures))
        if number >= MAX_CAPTURES:
            raise TooMuch(f"more than {MAX_CAPTURES} names of captures")
        return number

    # Limits

    def limit(self, limit: Limit) -> None:
        per = "/".join(map(str, limit.per))
        identity = identity_of(limit.name, limit.on.name, per)
        numbers = self.out.write_numbers
        stage = stage_of(limit, self.by_name) if limit.on is Event.CONNECT else None
        versions = _UNKNOWN if stage is Stage.EARLY else _VERSIONS
        actions = _table(limit.on_excess, versions)
        self.out.add(
            "limit",
            identity,
            self.slots[limit.name],
            self.group(limit.who),
            *self.out.write_text(limit.name.encode()),
            *numbers([self.classes[name] for name in limit.classes]),
            *numbers([self.classes[name] for name in limit.not_classes]),
            *numbers([self.component(key) for key in limit.per]),
            *self.choices(limit.rate, identity, "rate"),
            *self.choices(limit.bandwidth, identity, _BYTES),
            *self.numbers(limit.concurrent),
            *self.numbers(limit.depth if limit.on is Event.SUBSCRIBE else limit.size),
            *self.extra(limit),
            limit.on,
            sum(1 << qos for qos in limit.qos or _MESSAGE_QOS) if stage is None else 1 << stage,
            limit.retain,
            bool(limit.topic),
            *actions,
            *_table(limit.then, versions),
            _flags(limit),
            int(limit.max_delay * 1e9),
            self.ban(limit.ban) if Action.BAN in actions else NONE,
        )

    def ban(self, times: BanTimes) -> int:
        """The number of these times of bans."""
        if times not in self.bans:
            nanoseconds = (round(seconds * 1e9) for seconds in (times.first, times.longest))
            self.bans[times] = self.out.add("ban", *nanoseconds, times.factor)
        return self.bans[times]

    def named(self, capture: str) -> tuple[int, int]:
        """The number of a capture, which another policy may give to another one, and half of its name's hash."""
        return (self.capture(capture), identity_of(capture) & 0xFFFF_FFFF) if capture else (0, 0)

    def component(self, key: Key) -> int:
        if key not in self.components:
            values = {
                KeyKind.IP: (key.v4, key.v6),
                KeyKind.TOPIC: (key.levels, 0),
                KeyKind.CAPTURE: self.named(key.capture),
            }.get(key.kind, (0, 0))
            self.components[key] = self.out.add("component", key.kind, *values)
            if len(self.components) > MAX_COMPONENTS:
                raise TooMuch(f"more than {MAX_COMPONENTS} different keys in `per`")
        return self.components[key]

    def choices(self, numbers: ByClass[tuple[Rate, ...]], limit: int, kind: str) -> Range:
        """Rates by class, the strictest first, the default last."""
        found = [(self.classes[name], rates) for name, rates in ranked(numbers, of_rates)]
        if numbers.default is not None:
            found.append((NONE, numbers.default))
        prices = [[self.price(rate, kind) for rate in rates or ()] for _, rates in found]
        # Clients of several classes may share a budget: what one rate has charged is no damage to another.
        furthest = [max(one.burst + one.largest for one in same if one) for same in zip_longest(*prices)]
        rows = [
            (number, *self.budgets(costs, furthest, limit, kind), 0, 0)
            for (number, _), costs in zip(found, prices, strict=True)
        ]
        return self.out.extend("choice", rows)

    def price(self, rate: Rate, kind: str) -> Price:
        try:
            return price(rate.amount, rate.period, rate.burst, self.largest_packet if kind == _BYTES else None)
        except ValueError as error:
            raise TooMuch(str(error)) from error

    def numbers(self, numbers: ByClass[int], strictness: Strictness[int] = of_number) -> Range:
        """The same for plain numbers."""
        found = ranked(numbers, strictness)
        rows = [(self.classes[name], 0, 0, 0, _UNLIMITED if value is None else value) for name, value in found]
        if numbers.default is not None:
            rows.append((NONE, 0, 0, 0, numbers.default))
        return self.out.extend("choice", rows)

    def extra(self, limit: Limit) -> Range:
        """What only one event has: the largest QoS of a subscription, the milliseconds that a will is held back."""
        if limit.on is not Event.WILL:
            return self.numbers(limit.max_qos)
        delays = limit.will_delay
        named = {name: _milliseconds(seconds) for name, seconds in delays.classes.items()}
        return self.numbers(ByClass(_milliseconds(delays.default), named), of_duration)

    def budgets(self, costs: Sequence[Price], furthest: Sequence[int], limit: int, kind: str) -> Range:
        rows = []
        for index, cost in enumerate(costs):
            identity = identity_of(str(limit), kind, str(index))
            largest = min(furthest[index] - cost.burst, LONGEST)
            rows.append((identity, cost.multiplier, cost.shift, kind == _BYTES, cost.burst, largest))
            self.out.horizon = max(self.out.horizon, cost.burst + largest)
        return self.out.extend("budget", rows)

    # Topics

    def trees(self) -> None:
        for event in Event:
            tree, shares = Tree(MAX_LEVELS), Tree(MAX_LEVELS)
            for number, limit in enumerate(self.limits):
                if limit.on is event:
                    filters = [(text, number << 1) for text in limit.topic]
                    filters += [(text, number << 1 | 1) for text in limit.except_topic]
                    try:
                        for text, what in filters:
                            share, rest = share_of(text) if event is Event.SUBSCRIBE else (None, text)
                            if share is None:
                                tree.add(text, what)
                            else:
                                shares.add(f"{share}/{rest}", what)
                    except ValueError as error:
                        raise TooMuch(str(error)) from error
            if not tree.empty or not shares.empty:
                self.out.roots[event] = tree.write(self.out)
            if not shares.empty:
                self.out.roots[SHARES] = shares.write(self.out)


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e3)


def _flags(limit: Limit) -> int:
    return (
        OWN * any(key.kind is KeyKind.CLIENT for key in limit.per)
        | CONFLATE * limit.conflate
        | NO_WILD * (not limit.leading_wildcard)
    )


def _table(cases: Cases, versions: Sequence[int]) -> list[Action]:
    """Actions by version and QoS, four to a version: the record's last of each is unused."""
    return [
        action for version in versions for action in (*(cases.of(version, qos) for qos in _MESSAGE_QOS), Action.PASS)
    ]
