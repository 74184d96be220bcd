"""What the engine must decide, said once more in the plainest way: one dict of theoretical arrival times, and one of
messages in flight.

Written from DESIGN.md and policy/model.py, not from the C: budgets are looked up by what they are counted per, topics
match by `mqtt.topics.matches`, globs are regular expressions, and a client's classes are found anew for every message.
Costs come from `engine.format.price`, so that times are equal to the tick. There is always room: a model has no crowds.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TypeVar

from tidegate.engine.binding import Subject
from tidegate.engine.format import Price, price
from tidegate.mqtt.topics import asked_by, covers, matches
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
from tidegate.policy.stages import stage_of

T = TypeVar("T")

TICKS_OF_NS = 16
SECOND = 10**9 * TICKS_OF_NS
LAG = 10 * SECOND
"""Ticks that the clock of one process may be behind another's: a time within it is no damage."""
UNSCALED = 1 << 16
LEAST_SCALE = 1 << 8

Budget = tuple[object, ...]
"""What tells a budget from all others."""
Queue = tuple[object, ...]
"""What messages wait for: a window, or all the budgets that one limit has for a key."""
ITSELF: Queue = ("itself",)
"""What a message waits for whose sender has yet to do something."""


@dataclass(frozen=True)
class Client:
    """A client that the broker has accepted, or what one claims to be."""

    client_id: str = "c"
    username: str | None = None
    address: IPv4Address | IPv6Address | None = None
    listener: str = "l"
    version: int = 5
    """0: it has said nothing yet."""
    clean_start: bool = True
    bridge: bool = False
    nonce: int = 0

    @property
    def stranger(self) -> "Client":
        """What is known of it at accept."""
        return Client("", None, self.address, self.listener, 0)

    def subject(self) -> Subject:
        """The same for the engine."""
        return Subject(
            self.client_id.encode(),
            None if self.username is None else self.username.encode(),
            b"" if self.address is None else self.address.packed,
            self.listener.encode(),
            self.version,
            self.clean_start,
            self.bridge,
            self.nonce,
        )


@dataclass(frozen=True)
class Message:
    """What is decided: a message, or that a client connects, or that the broker has refused it."""

    topic: str = "t"
    qos: int = 0
    """Of a connection, the Stage."""
    retain: bool = False
    packet: int = 0
    payload: int = 0
    event: Event = Event.PUBLISH
    again: bool = False
    """PUBLISH: the broker may have it already. DELIVER: it must not be dropped. SUBSCRIBE: it is there already."""
    turn: bool = False
    """It has waited, and is the first of those that do."""
    held: bool = False
    """It was delayed before."""
    owed: int = 0
    """In windows of several clients: QoS 2 messages for which its sender has yet to send PUBREL; of DELIVER, all
    messages that the client has yet to acknowledge."""
    ask: bool = False
    """Only a question."""


@dataclass(frozen=True)
class Decision:
    """What became of it; `wait` in nanoseconds."""

    action: Action
    limit: str
    wait: int
    matched: int
    by_size: bool
    by_window: bool = False
    queue: Queue | None = None
    """Of a delay: what it waits for."""
    max_delay: int = 0
    """Of a delay: nanoseconds that it may last."""
    then: Action = Action.PASS
    """Of a delay: what follows when it has lasted so long."""
    taken: tuple[Queue, ...] = ()
    """Windows that it is in now."""
    shares: bool = False
    """Other clients may be in one of them too."""
    conflates: bool = False
    """Of a delay, or of what was only asked about: the newest of its topic is enough."""
    max_qos: int = 2
    """Of a subscription: what it may have."""


@dataclass
class _Charge:
    budget: Budget
    ticks: int
    burst: int
    most: int
    """Ticks that its time can be ahead."""


@dataclass
class _Refusal:
    action: Action
    limit: Limit
    wait: int
    by_size: bool
    by_window: bool
    queue: Queue


class Model:
    """The decisions of one engine, whatever the number of processes that share its segment."""

    def __init__(self, largest_packet: int) -> None:
        self._largest_packet = largest_packet
        self._policy = Policy()
        self._slots: Mapping[str, int] = {}
        self._times: dict[Budget, int] = {}
        """Theoretical arrival times, in ticks."""
        self._in_flight: Counter[Queue] = Counter()
        self._waiting: set[Queue] = set()
        self._prices: dict[tuple[int, Fraction, int, str], Price] = {}
        self._scales: dict[tuple[str, Priority], int] = {}
        self.tallies: Counter[tuple[str, str]] = Counter()
        """Messages by limit and what became of them."""

    def load(self, policy: Policy, slots: Mapping[str, int]) -> None:
        """Another policy; budgets and windows stay with name, event and `per` of a limit, while it keeps its place."""
        for limit in policy.limits:
            if self._slots.get(limit.name) != slots[limit.name]:
                self._scales = {key: scale for key, scale in self._scales.items() if key[0] != limit.name}
                self.tallies = Counter({key: n for key, n in self.tallies.items() if key[0] != limit.name})
        self._policy, self._slots = policy, slots

    def set_scale(self, limit: str, priority: Priority, factor: float) -> None:
        """Multiply the rates of a limit for clients of a priority."""
        self._scales[limit, priority] = min(max(int(factor * UNSCALED), LEAST_SCALE), (1 << 32) - 1)

    def wait_for(self, queue: Queue, addresses: int) -> None:
        """Clients of so many addresses wait here for `queue`."""
        (self._waiting.add if addresses else self._waiting.discard)(queue)

    def free(self, window: Queue) -> None:
        """A message that was in this window has been acknowledged."""
        assert self._in_flight[window] > 0
        self._in_flight[window] -= 1

    def late(self, limit: str, action: Action) -> None:
        """Count what became of a message that this limit has delayed for too long."""
        self.tallies[limit, "passed" if action is Action.PASS else action.name.lower()] += 1

    def decide(self, client: Client, message: Message, now_ns: int) -> Decision:
        """Charge all budgets of a message and take a slot of all its windows, or nothing of it."""
        now = now_ns * TICKS_OF_NS
        classes, captures = classes_of(client, self._policy)
        names = [one.name for one in classes]
        by_name = {one.name: one for one in self._policy.classes}
        found = [
            limit
            for limit in self._policy.limits
            if concerns(limit, client, names, captures)
            and about(limit, message, by_name)
            and _says_anything(limit, names)
        ]
        # Of who has been refused, only where he comes from is no mere claim.
        proven = classes_of(client.stranger, self._policy)[0] if message.event is Event.AUTH_FAILURE else classes
        if any(one.exempt for one in proven):
            self.tallies.update((limit.name, "passed") for limit in found if not message.ask)
            return Decision(Action.PASS, "", 0, len(found), by_size=False)
        decision = self._decide(client, message, now, found, classes, captures)
        return replace(decision, max_qos=_max_qos(found, client, message, names))

    def _decide(
        self,
        client: Client,
        message: Message,
        now: int,
        found: list[Limit],
        classes: list[ClientClass],
        captures: Mapping[str, str],
    ) -> Decision:
        """The same for a client that is not exempt, of the limits that have been found."""
        names = [one.name for one in classes]
        priority = classes[0].priority if classes else Priority.NORMAL
        refused: list[_Refusal] = []
        passed: list[str] = []
        charges: list[_Charge] = []
        windows: list[Queue] = []
        shares = False
        for limit in found:
            scale = self._scales.get((limit.name, priority), UNSCALED)
            key = tuple(key_of(key, client, message, names, captures) for key in limit.per)
            mine = self._charges(limit, message, names, key, scale)
            whose: Queue = ("budgets", limit.name, limit.on, limit.per, key)
            window: Queue = ("window", self._slots[limit.name], limit.name, limit.on, limit.per, key)
            number = chosen(limit.concurrent, names, float) if is_counted(message) else None
            room = 0 if number is None else _scaled_number(number, scale)
            by_size = is_too_much(limit, message, names)
            action = _action(limit, client, message, by_size=by_size)
            wait = max((self._wait(charge, now) for charge in mine), default=0)
            before = None
            if action is Action.DELAY and not by_size and not message.turn:
                queues = [whose] if number is None else [whose, window]
                before = next((queue for queue in queues if queue in self._waiting), None)
            is_own = any(key.kind is KeyKind.CLIENT for key in limit.per)
            ends = message.qos == 2 or message.event is Event.DELIVER
            owes = ends and not is_own and message.owed >= max(1, room // 2)
            full = number is not None and (owes or self._in_flight[window] >= room)
            if not wait and not by_size and not before and not full:
                charges += mine
                passed.append(limit.name)
                windows += [] if number is None else [window]
                shares |= number is not None and not is_own
                continue
            if message.ask and message.event is Event.CONNECT and action is Action.BAN and _is_by_name(limit):
                if not by_size:
                    continue  # nobody is banned for a name that is only claimed
                action = Action.REJECT
            by_window = not wait and not by_size and not before
            queue = before or (whose if not by_window else ITSELF if owes else window)
            refused.append(_Refusal(action, limit, wait // TICKS_OF_NS + 1, by_size, by_window, queue))
        observed = [one.limit.name for one in refused if one.action is Action.OBSERVE]
        refused = [one for one in refused if one.action > Action.OBSERVE]
        if not message.held:
            self.tallies.update((name, "observe") for name in observed)
        if refused:
            decision = _verdict(refused, client, message, len(found))
            if not message.held or decision.action is not Action.DELAY:
                self.tallies[decision.limit, decision.action.name.lower()] += 1
            return decision
        if message.ask:
            is_enough = message.event is Event.DELIVER and any(
                limit.conflate and _of(limit.on_excess, client, message) is Action.DELAY for limit in found
            )
            return Decision(Action.PASS, "", 0, len(found), by_size=False, conflates=is_enough)
        self.tallies.update((name, "passed") for name in passed)
        for charge in charges:
            self._times[charge.budget] = now + self._ahead(charge, now) + charge.ticks
        self._in_flight.update(windows)
        return Decision(Action.PASS, "", 0, len(found), by_size=False, taken=tuple(windows), shares=shares)

    def will_delay(self, client: Client, message: Message) -> float:
        """Seconds that a will is held back before it is decided."""
        classes, captures = classes_of(client, self._policy)
        names = [one.name for one in classes]
        if any(one.exempt for one in classes):
            return 0.0
        acting = [
            limit
            for limit in self._policy.limits
            if concerns(limit, client, names, captures)
            and about(limit, message, {})
            and _of(limit.on_excess, client, message) is not Action.OBSERVE
        ]
        delays = (chosen(limit.will_delay, names, lambda seconds: -seconds) for limit in acting)
        return max((delay for delay in delays if delay is not None), default=0.0)

    def _charges(
        self, limit: Limit, message: Message, names: list[str], key: tuple[object, ...], scale: int
    ) -> list[_Charge]:
        charges = []
        kinds: tuple[tuple[str, ByClass[tuple[Rate, ...]], int], ...] = (
            ("rate", limit.rate, 1),
            ("bandwidth", limit.bandwidth, message.packet),
        )
        for kind, numbers, units in kinds:
            mine = chosen(numbers, names, _slowest)
            for index, rate in enumerate(mine or ()):
                cost = self._price(rate, kind)
                ticks = _scaled(-(-units * cost.multiplier // (1 << cost.shift)), scale)
                # All rates that one bucket may be charged by agree on how far it can lie ahead.
                most = max(
                    one.burst + one.largest
                    for rates in (numbers.default, *numbers.classes.values())
                    if rates is not None and index < len(rates)
                    for one in [self._price(rates[index], kind)]
                )
                largest = max(most - cost.burst, _scaled(most - cost.burst, scale), ticks)
                budget = (self._slots[limit.name], limit.name, limit.on, limit.per, kind, index, key)
                charges.append(_Charge(budget, ticks, cost.burst, cost.burst + largest))
        return charges

    def _price(self, rate: Rate, kind: str) -> Price:
        known = (rate.amount, rate.period, rate.burst, kind)
        if known not in self._prices:
            largest = self._largest_packet if kind == "bandwidth" else None
            self._prices[known] = price(rate.amount, rate.period, rate.burst, largest)
        return self._prices[known]

    def _ahead(self, charge: _Charge, now: int) -> int:
        ahead = max(0, self._times.get(charge.budget, 0) - now)
        if ahead > charge.most + LAG:  # of another policy: no charge of this one takes it so far
            ahead = charge.most
            self._times[charge.budget] = now + ahead
        return ahead

    def _wait(self, charge: _Charge, now: int) -> int:
        """Ticks until it passes."""
        return max(0, self._ahead(charge, now) - max(0, charge.burst - charge.ticks))


def _action(limit: Limit, client: Client, message: Message, *, by_size: bool) -> Action:
    """What a limit does to a message over it. No wait makes it small, and its receiver may have it already."""
    action = _of(limit.on_excess, client, message)
    if by_size and action is Action.DELAY:
        action = _of(limit.then, client, message)
    if message.again and action in (Action.DROP, Action.REJECT) and message.event is not Event.SUBSCRIBE:
        return Action.DISCONNECT if by_size else Action.DELAY
    return action


def is_counted(message: Message) -> bool:
    """Whether it is one more in a window."""
    if message.event is Event.SUBSCRIBE:
        return not message.again
    return message.qos > 0 or message.event is Event.CONNECT


def is_too_much(limit: Limit, message: Message, names: list[str]) -> bool:
    """Whether it is larger than the limit allows, or asks for more; no wait changes that."""
    if message.event is Event.SUBSCRIBE:
        text = asked_by(message.topic)[1]
        depth = chosen(limit.depth, names, float)
        is_deep = depth is not None and len(text.split("/")) > depth
        return is_deep or (not limit.leading_wildcard and text.startswith(("+", "#")))
    size = chosen(limit.size, names, float)
    must_come = message.event is Event.DELIVER and message.again
    return size is not None and message.payload > size and not must_come


def _max_qos(found: list[Limit], client: Client, message: Message, names: list[str]) -> int:
    if message.event is not Event.SUBSCRIBE:
        return 2
    acting = [limit for limit in found if _of(limit.on_excess, client, message) is not Action.OBSERVE]
    return min((most for limit in acting if (most := chosen(limit.max_qos, names, float)) is not None), default=2)


def _is_by_name(limit: Limit) -> bool:
    return any(key.kind in (KeyKind.CLIENT, KeyKind.USERNAME, KeyKind.CAPTURE) for key in limit.per)


def _of(cases: Cases, client: Client, message: Message) -> Action:
    """At accept there is only one case."""
    return cases.of(client.version, message.qos) if client.version else cases.default


def _verdict(refused: list[_Refusal], client: Client, message: Message, matched: int) -> Decision:
    """The strictest; of several that delay, the one that takes longest."""
    strictest = max(one.action for one in refused)
    candidates = [one for one in refused if one.action is strictest]
    longest = max(one.wait for one in refused)
    delayed = strictest is Action.DELAY
    one = max(candidates, key=lambda one: one.wait) if delayed else candidates[0]
    decision = Decision(strictest, one.limit.name, longest, matched, any(one.by_size for one in refused), one.by_window)
    if not delayed:
        return decision
    then = _of(one.limit.then, client, message)
    if message.again:
        then = {Event.PUBLISH: Action.DISCONNECT, Event.DELIVER: Action.DELAY}.get(message.event, then)
    return replace(
        decision,
        queue=one.queue,
        max_delay=int(one.limit.max_delay * 1e9),
        then=then,
        conflates=one.limit.conflate,
    )


def _scaled_number(number: int, scale: int) -> int:
    """A window's number at a scale: never less than one."""
    return number if scale == UNSCALED else max(1, number * scale // UNSCALED)


def _scaled(ticks: int, scale: int) -> int:
    """Ticks at a scale, rounded up to an even number."""
    whole = -(-ticks * UNSCALED // scale)
    return whole + whole % 2


def _slowest(rates: tuple[Rate, ...]) -> object:
    return min(rate.per_second for rate in rates)


# Clients


def classes_of(client: Client, policy: Policy) -> tuple[list[ClientClass], dict[str, str]]:
    """The classes that a client is in, and what they remember of it."""
    found = []
    captures: dict[str, str] = {}
    for one in policy.classes:
        mine = fits(one.all_of, client)
        other = next((it for it in (fits(c, client) for c in one.any_of) if it is not None), None) if one.any_of else {}
        if mine is not None and other is not None:
            found.append(one)
            captures |= mine | other
    return found, captures


def fits(conditions: Conditions, client: Client) -> dict[str, str] | None:
    """None when it does not, else what is captured."""
    if not client.version and conditions != Conditions(cidr=conditions.cidr, listener=conditions.listener):
        return None  # nothing but that is known
    captures: dict[str, str] = {}
    for globs, text in (
        (conditions.client_id, client.client_id),
        (conditions.username, client.username),
        (conditions.cn, None),
        (conditions.san, None),
    ):
        if globs:
            tried = (None if text is None else glob(pattern, text) for pattern in globs)
            mine = next((it for it in tried if it is not None), None)
            if mine is None:
                return None
            captures |= mine
    address = client.address
    if conditions.cidr and not any(address is not None and address in network for network in conditions.cidr):
        return None
    if conditions.listener and client.listener not in conditions.listener:
        return None
    if conditions.version and client.version not in conditions.version:
        return None
    if conditions.clean_start not in (None, client.clean_start) or conditions.bridge not in (None, client.bridge):
        return None
    return captures


def glob(pattern: str, text: str) -> dict[str, str] | None:
    """None when the whole text does not match, else what each `{name}` stands for, as short as possible."""
    names = []
    regex = ""
    for part in re.split(r"(\*|\?|\{[a-z][a-z0-9_]*\})", pattern):
        if part == "*":
            regex += ".*?"
        elif part == "?":
            regex += "."
        elif re.fullmatch(r"\{[a-z][a-z0-9_]*\}", part):
            names.append(part[1:-1])
            regex += "(.+?)"
        else:
            regex += re.escape(part)
    found = re.fullmatch(regex, text, re.DOTALL)
    return None if found is None else dict(zip(names, found.groups(), strict=True))


def key_of(key: Key, client: Client, message: Message, names: list[str], captures: Mapping[str, str]) -> object:
    """What one element of `per` tells clients and messages apart by."""
    match key.kind:
        case KeyKind.CLIENT:
            return client.client_id or client.nonce
        case KeyKind.USERNAME:
            return client.username
        case KeyKind.IP if client.address is not None:
            bits = key.v4 if client.address.version == 4 else key.v6
            return ip_network((client.address, bits), strict=False)
        case KeyKind.LISTENER:
            return client.listener
        case KeyKind.CLASS:
            return names[0] if names else None
        case KeyKind.CAPTURE:
            return captures[key.capture]
        case KeyKind.TOPIC:
            topic = asked_by(message.topic)[1] if message.event is Event.SUBSCRIBE else message.topic
            levels = topic.split("/")
            return tuple(levels[: key.levels] if key.levels else levels)
    return None


# Limits


def concerns(limit: Limit, client: Client, names: list[str], captures: Mapping[str, str]) -> bool:
    """Whether it is about this client."""
    return (
        (not limit.classes or any(name in limit.classes for name in names))
        and not any(name in limit.not_classes for name in names)
        and all(key.kind is not KeyKind.CAPTURE or key.capture in captures for key in limit.per)
        and fits(limit.who, client) is not None
    )


def about(limit: Limit, message: Message, classes: Mapping[str, ClientClass]) -> bool:
    """Whether it is about this message."""
    topic = message.topic
    if message.event is Event.CONNECT:
        return limit.on is message.event and stage_of(limit, classes) == message.qos
    fits = is_covered if message.event is Event.SUBSCRIBE else matches
    return (
        limit.on is message.event
        and (not limit.qos or message.qos in limit.qos)
        and (not limit.retain or message.retain)
        and (not limit.topic or any(topic and fits(one, topic) for one in limit.topic))
        and not any(topic and fits(one, topic) for one in limit.except_topic)
    )


def is_covered(topic_filter: str, subscription: str) -> bool:
    """Whether a limit's filter is about all that a subscription asks for."""
    share, wanted = asked_by(topic_filter)
    name, asked = asked_by(subscription)
    return (share is None or (name is not None and share in ("+", name))) and covers(wanted, asked)


def chosen(numbers: ByClass[T], names: list[str], strictness: Callable[[T], object]) -> T | None:
    """The strictest of those of the client's classes; the default where it names none of them."""
    named = [value for name, value in numbers.classes.items() if name in names]
    limited = [value for value in named if value is not None]
    if named:
        return min(limited, key=strictness) if limited else None  # type: ignore[arg-type]
    return numbers.default


def _says_anything(limit: Limit, names: list[str]) -> bool:
    rates = (limit.rate, limit.bandwidth)
    numbers = (limit.size, limit.concurrent, limit.depth, limit.max_qos)
    return (
        not limit.leading_wildcard
        or any(chosen(one, names, _slowest) is not None for one in rates)
        or any(chosen(one, names, float) is not None for one in numbers)
        or chosen(limit.will_delay, names, float) is not None
    )
