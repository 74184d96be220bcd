"""`tidegate policy explain`: which limits a message, a subscription or a connection meets, and what then."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

from ..engine.binding import Engine, Segment, Subject
from ..engine.memory import boot, secret
from ..engine.rate import UNITS
from ..mqtt.topics import asked_by
from ..policy.compile import ordered
from ..policy.enforced import unenforced
from ..policy.events import action_name, event_name
from ..policy.model import Action, ClientClass, Event, Key, KeyKind, Limit, Policy, Priority, Rate
from ..policy.settings import Settings, load
from ..policy.stages import Stage, awaited
from ..policy.strictness import choose, of_duration, of_number, of_rates
from ..policy.units import duration_text, size_text
from .policy_compile import compiled
from .policy_match import VERSIONS, Client, Message, captured, reasons_against
from .policy_outcome import Excess, outcome
from .policy_question import UNIX, Question, client_of, message_of

_WORDS = 4096
"""Buckets of a segment that only answers a question."""


@dataclass(frozen=True)
class Met:
    """A limit that is met."""

    name: str
    place: str
    """FILE:LINE."""
    stage: str | None
    """Of a limit on connect: `accept`, or `connect` when it is decided by what CONNECT says."""
    awaits: list[str]
    """What it asks that only CONNECT says."""
    keys: dict[str, str]
    """What it is counted per, and the value for this client and message."""
    budgets: dict[str, list[str]]
    """What this client has of rate, bandwidth, concurrent and so on, as the file would write it."""
    action: str
    """On excess, for this version and QoS."""
    max_delay: float | None
    """How long it may be held back, in seconds; None unless the action is `delay`."""
    then: str | None
    """The action after that."""
    wire: str
    """What the client sees of it."""
    exempt: bool
    """Whether it is counted only, as the client is exempt."""
    enforced: bool


@dataclass(frozen=True)
class Answer:
    """What a message, a subscription, a packet or a refusal of the broker meets."""

    on: str
    client: dict[str, str]
    message: dict[str, str]
    classes: list[str]
    priority: str
    exempt: bool
    """Whether one of the classes is."""
    verdict: str
    """The action on the first of its kind, when nothing else has happened: `pass`, unless it is too much by itself."""
    by: str | None
    """The limit that decides so."""
    met: list[Met]
    not_met: dict[str, list[str]]
    """The other limits on the same event, and all that keeps them from being met."""
    changed: str | None = None
    """What becomes of a subscription or a will that no limit refuses, if that is not what was asked for."""


@dataclass(frozen=True)
class _Asked:
    """The question, put to an engine."""

    settings: Settings
    engine: Engine
    client: Client
    message: Message
    subject: Subject
    classes: list[ClientClass]
    captures: dict[str, str]

    @property
    def names(self) -> list[str]:
        """Of the client's classes."""
        return [one.name for one in self.classes]

    @property
    def policy(self) -> Policy:
        """The file's."""
        return self.settings.policy

    def stages(self) -> list[tuple[Stage | None, Subject]]:
        """When it is decided, and by what is known of the client then."""
        if self.message.on is not Event.CONNECT:
            return [(None, self.subject)]
        return [(Stage.EARLY, _subject(self.client, is_known=False)), (Stage.LATE, self.subject)]


def explain(file: Path, question: Question) -> Answer:
    """SettingsError for a file that is wrong, BadQuestion for what cannot be."""
    asked = _ask(load(file), question)
    limits = ordered(asked.policy)
    on = asked.message.on
    met: dict[int, Met] = {}
    verdict, by = Action.PASS, None
    for stage, subject in asked.stages():
        qos = asked.message.qos if stage is None else int(stage)
        topic = asked.message.topic.encode()
        for number in asked.engine.matching(subject, topic, qos, asked.message.retain, on):
            is_exempt = asked.engine.is_exempt(subject, on is not Event.AUTH_FAILURE)
            met[number] = _met(asked, limits[number], stage, is_exempt=is_exempt)
        if by is None:
            verdict, by = _verdict(asked, subject, qos, stage)
    return Answer(
        event_name(on),
        _tell_client(asked.client),
        _tell_message(asked.message),
        asked.names,
        Priority(asked.subject.priority).name.lower(),
        asked.subject.exempt,
        action_name(verdict),
        by,
        list(met.values()),
        {
            limit.name: reasons_against(limit, asked.client, asked.message, asked.names, asked.captures)
            for number, limit in enumerate(limits)
            if limit.on is on and number not in met
        },
        _changed(asked) if by is None else None,
    )


def explain_json(answer: Answer) -> str:
    """The same for machines."""
    return json.dumps(asdict(answer), indent=2)


# The question


def _ask(settings: Settings, question: Question) -> _Asked:
    engine = _engine(settings)
    client = client_of(question, settings)
    message = message_of(question, client, settings.gateway.max_packet)
    subject = _subject(client)
    engine.resolve(subject)
    classes = [settings.policy.classes[number] for number in subject.classes]
    return _Asked(settings, engine, client, message, subject, classes, captured(classes, client))


def _engine(settings: Settings) -> Engine:
    slots = max(1, len(settings.policy.limits))
    memory = bytearray(Segment.size(0, slots, 0, _WORDS, 0))
    Segment.create(memory, 0, slots, 0, _WORDS, 0, boot(), secret())
    engine = Engine(Segment(memory, boot()), -1)
    engine.load(compiled(settings))
    return engine


def _subject(client: Client, *, is_known: bool = True) -> Subject:
    address = b"" if client.address is None else client.address.packed
    if not is_known:
        return Subject(b"", None, address, client.listener.encode(), 0)
    return Subject(
        client.client_id.encode(),
        None if client.username is None else client.username.encode(),
        address,
        client.listener.encode(),
        client.version,
        client.clean_start,
        client.bridge,
    )


def _verdict(asked: _Asked, subject: Subject, qos: int, stage: Stage | None) -> tuple[Action, str | None]:
    """The action, and the limit whose it is."""
    message = asked.message
    packet, payload = (0, 0) if stage is Stage.EARLY else (message.packet, message.payload)
    verdict = asked.engine.judge(
        subject, message.topic.encode(), qos, message.retain, packet, payload, event=message.on, now_ns=0
    )
    action = Action[verdict.action.upper()]
    if action is Action.DELAY:  # no time makes it smaller
        limit = next(limit for limit in asked.policy.limits if limit.name == verdict.limit)
        action = limit.then.of(asked.client.version, message.qos)
    return action, verdict.limit or None


def _changed(asked: _Asked) -> str | None:
    message, engine = asked.message, asked.engine
    if message.on is Event.SUBSCRIBE and engine.max_qos < message.qos:
        return f"it gets QoS {engine.max_qos} instead of {message.qos}"
    if message.on is Event.WILL:
        delay = engine.will_delay(asked.subject, message.topic.encode(), message.qos, message.retain)
        if delay:
            return f"it is held back for {duration_text(delay)}, and never sent if its client is back by then"
    return None


# The answer


def _tell_client(client: Client) -> dict[str, str]:
    version = next(name for name, number in VERSIONS.items() if number == client.version)
    told = {"client_id": client.client_id}
    if client.username is not None:
        told["username"] = client.username
    return told | {
        "address": UNIX if client.address is None else str(client.address),
        "listener": client.listener,
        "version": version,
        "session": "new" if client.clean_start else "kept",
        "bridge": str(client.bridge).lower(),
    }


def _tell_message(message: Message) -> dict[str, str]:
    if message.on is Event.AUTH_FAILURE:
        return {}
    packet = {"packet": size_text(message.packet)}
    if message.on in (Event.CONNECT, Event.PACKET):
        return packet
    if message.on is Event.SUBSCRIBE:
        return {"filter": message.topic, "qos": str(message.qos)}
    return {
        "topic": message.topic,
        "qos": str(message.qos),
        "retain": str(message.retain).lower(),
        "payload": size_text(message.payload),
    } | packet


def _met(asked: _Asked, limit: Limit, stage: Stage | None, *, is_exempt: bool) -> Met:
    document = asked.settings.document
    refused = {
        problem.line for problem in unenforced(asked.policy, document) if problem.key.startswith(("limit", "[[limit"))
    }
    table = range(limit.line, _end_of(limit, asked.policy))
    budgets = dict(_budgets(limit, set(asked.names)))
    excess = Excess(limit, budgets, asked.client.version, asked.message.qos, stage)
    delays = excess.action is Action.DELAY
    classes = {one.name: one for one in asked.policy.classes}
    return Met(
        limit.name,
        f"{document.file}:{limit.line}",
        None if stage is None else "accept" if stage is Stage.EARLY else "connect",
        [] if stage is None else [*awaited(limit, classes)],
        {str(key): _value(key, asked.client, asked.message, asked.classes, asked.captures) for key in limit.per},
        budgets,
        action_name(excess.action),
        limit.max_delay if delays else None,
        action_name(excess.then) if delays else None,
        outcome(excess),
        is_exempt,
        not any(line in table for line in refused),
    )


def _end_of(limit: Limit, policy: Policy) -> int:
    """The line at which the next table of limits begins."""
    return min((other.line for other in policy.limits if other.line > limit.line), default=1 << 31)


def _budgets(limit: Limit, classes: set[str]) -> Iterator[tuple[str, list[str]]]:
    for word, rates, write in (("rate", limit.rate, str), ("bandwidth", limit.bandwidth, size_text)):
        if chosen := choose(rates, classes, of_rates):
            yield word, [f"{write(one.amount)}/{_period(one)} burst {write(one.burst)}" for one in chosen]
    for word, number, write in (
        ("concurrent", limit.concurrent, str),
        ("size", limit.size, size_text),
        ("depth", limit.depth, str),
        ("max_qos", limit.max_qos, str),
    ):
        if (most := choose(number, classes, of_number)) is not None:
            yield word, [write(most)]
    if not limit.leading_wildcard:
        yield "leading_wildcard", ["false"]
    if (delay := choose(limit.will_delay, classes, of_duration)) is not None:
        yield "will_delay", [duration_text(delay)]


def _period(rate: Rate) -> str:
    """As it is written behind the stroke: the largest unit that leaves a whole number of them."""
    found = ((rate.period / seconds, unit) for unit, seconds in reversed(UNITS.items()))
    number, unit = next(one for one in found if one[0].denominator == 1)
    return unit if number == Fraction(1) else f"{number}{unit}"


def _value(key: Key, client: Client, message: Message, classes: list[ClientClass], captures: Mapping[str, str]) -> str:
    match key.kind:
        case KeyKind.CLIENT:
            return client.client_id or "this connection, which has no client id"
        case KeyKind.USERNAME:
            return "all who have no user name" if client.username is None else client.username
        case KeyKind.IP:
            return _network(key, client.address)
        case KeyKind.LISTENER:
            return client.listener
        case KeyKind.CLASS:
            return classes[0].name if classes else "all who are in no class"
        case KeyKind.TOPIC:
            topic = asked_by(message.topic)[1] if message.on is Event.SUBSCRIBE else message.topic
            return "/".join(topic.split("/")[: key.levels or None])
        case KeyKind.CAPTURE:
            return captures[key.capture]
    return "everybody together"


def _network(key: Key, address: IPv4Address | IPv6Address | None) -> str:
    if address is None:
        return "all who come by a Unix socket"
    network = ip_network((address, key.v4 if address.version == 4 else key.v6), strict=False)
    return str(address) if network.num_addresses == 1 else str(network)
