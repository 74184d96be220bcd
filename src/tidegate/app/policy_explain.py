"""`tidegate policy explain`: which limits a message meets, with what keys and budgets, and what happens on excess."""

import ipaddress
import json
import re
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..engine.binding import Engine, Segment, Subject
from ..engine.memory import boot, secret
from ..mqtt.errors import PacketError
from ..mqtt.text import check_topic_name
from ..policy.compile import ordered
from ..policy.enforced import unenforced
from ..policy.model import Action, ClientClass, Conditions, Event, Key, KeyKind, Limit, Policy, Rate
from ..policy.settings import Settings, load
from ..policy.strictness import choose, of_number, of_rates
from .policy_compile import compiled

_VERSIONS = {"3.1": 3, "3.1.1": 4, "5": 5}
_UNITS = {Fraction(1): "s", Fraction(60): "min", Fraction(3600): "h", Fraction(86400): "d"}
_WORDS = 4096
"""Buckets of a segment that only answers a question."""
_WIRE = {
    Action.OBSERVE: "passes, and is counted",
    Action.DELAY: "waits its turn",
    Action.DROP: "is discarded; QoS 1 and 2 are acknowledged as if it had arrived",
    Action.REJECT: "is refused with 0x97 and retry-after-ms",
    Action.DISCONNECT: "ends the connection (MQTT 5: 0x96)",
    Action.BAN: "bans the client",
}


class BadQuestion(ValueError):
    """A message that no client could send."""


@dataclass(frozen=True)
class Question:
    """One message of one client, as the command line describes it."""

    client_id: str
    username: str | None
    address: str
    listener: str | None
    version: str
    bridge: bool
    clean_start: bool
    topic: str
    qos: int
    retain: bool
    payload: int


@dataclass(frozen=True)
class Met:
    """A limit that the message meets."""

    name: str
    place: str
    keys: dict[str, str]
    """What it is counted per, and the value for this message."""
    budgets: list[str]
    action: str
    """On excess, for this version and QoS."""
    enforced: bool


@dataclass(frozen=True)
class Answer:
    """What a message meets."""

    classes: list[str]
    priority: str
    exempt: bool
    verdict: str
    """What happens to the first such message, on full budgets."""
    met: list[Met]
    not_met: dict[str, str]
    """The other limits on publish, and why they are not met."""


def explain(file: Path, question: Question) -> Answer:
    """SettingsError for a file that is wrong, BadQuestion for a message that cannot be."""
    settings = load(file)
    policy = settings.policy
    blob = compiled(settings)
    topic = _topic(question.topic)
    listener = question.listener or str(settings.gateway.listen[0])
    size = Segment.size(0, max(1, len(policy.limits)), 0, _WORDS, 0)
    memory = bytearray(size)
    Segment.create(memory, 0, max(1, len(policy.limits)), 0, _WORDS, 0, boot(), secret())
    engine = Engine(Segment(memory, boot()), -1)
    engine.load(blob)
    subject = Subject(
        question.client_id.encode(),
        None if question.username is None else question.username.encode(),
        _address(question.address),
        listener.encode(),
        _VERSIONS[question.version],
        question.clean_start,
        question.bridge,
    )
    limits = ordered(policy)
    matching = engine.matching(subject, topic, question.qos, question.retain)
    classes = [policy.classes[number] for number in subject.classes]
    refused = {problem.line for problem in unenforced(policy, settings.document)}
    packet = question.payload + len(topic) + (7 if question.qos else 5)
    verdict = engine.judge(subject, topic, question.qos, question.retain, packet, question.payload, now_ns=0)
    return Answer(
        [one.name for one in classes],
        (classes[0].priority if classes else ClientClass("", Conditions()).priority).name.lower(),
        subject.exempt,
        "passes" if verdict.action == "pass" else f"{verdict.action} by {verdict.limit}",
        [_met(limits[number], settings, question, classes, listener, refused) for number in matching],
        {
            limit.name: _why_not(policy, engine, subject, limit, topic, question)
            for number, limit in enumerate(limits)
            if limit.on is Event.PUBLISH and number not in matching
        },
    )


def explain_json(answer: Answer) -> str:
    """The same for machines."""
    return json.dumps(asdict(answer), indent=2)


def show_explain(answer: Answer, out: Console) -> None:
    """A table of the limits that are met, then the others with the reason."""
    exempt = ", exempt: counted, never limited" if answer.exempt else ""
    out.print(f"classes: {', '.join(answer.classes) or 'none'} (priority {answer.priority}{exempt})", highlight=False)
    out.print(f"on full budgets it {_third_person(answer.verdict)}", highlight=False)
    if answer.met:
        table = Table("limit", "counted per", "budget", "on excess", "where", box=None, pad_edge=False)
        for met in answer.met:
            keys = "\n".join(f"{key} = {value}" if value else key for key, value in met.keys.items())
            action = met.action if met.enforced else f"{met.action} (not enforced yet)"
            table.add_row(*map(escape, (met.name, keys, "\n".join(met.budgets), action, met.place)))
        out.print(table)
    else:
        out.print("no limit meets it", highlight=False)
    for name, reason in answer.not_met.items():
        out.print(f"[dim]not met: {escape(name)}: {escape(reason)}[/]", highlight=False)


def _third_person(verdict: str) -> str:
    return verdict if verdict == "passes" else f"is over a limit: {verdict}"


def _topic(text: str) -> bytes:
    topic = text.encode()
    try:
        check_topic_name(topic, 0, len(topic))
    except PacketError as error:
        raise BadQuestion(f"--topic: {error.text}; write a topic name, without + and #") from error
    return topic


def _address(text: str) -> bytes:
    if text == "unix":
        return b""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError as error:
        raise BadQuestion(f"--ip: {error}; write an IPv4 or IPv6 address, or unix") from error


def _met(
    limit: Limit,
    settings: Settings,
    question: Question,
    classes: list[ClientClass],
    listener: str,
    refused: set[int],
) -> Met:
    names = {one.name for one in classes}
    budgets = []
    for word, numbers in (("rate", limit.rate), ("bandwidth", limit.bandwidth)):
        budgets += [f"{word} {_rate(rate)}" for rate in choose(numbers, names, of_rates) or ()]
    for word, number in (("concurrent", limit.concurrent), ("size", limit.size)):
        if (chosen := choose(number, names, of_number)) is not None:
            budgets.append(f"{word} {chosen}")
    action = limit.on_excess.of(_VERSIONS[question.version], question.qos)
    table = range(limit.line, _end_of(limit, settings.policy))
    return Met(
        limit.name,
        f"{settings.document.file}:{limit.line}",
        {str(key): _value(key, question, classes, listener) for key in limit.per},
        budgets,
        f"{action.name.lower()}: {_WIRE[action]}",
        not any(line in table for line in refused),
    )


def _end_of(limit: Limit, policy: Policy) -> int:
    """The line at which the next table of limits begins."""
    return min((other.line for other in policy.limits if other.line > limit.line), default=1 << 31)


def _rate(rate: Rate) -> str:
    period = rate.period
    unit = _UNITS.get(period, f"{float(period):g}s")
    return f"{rate.amount}/{unit} burst {rate.burst}"


def _value(key: Key, question: Question, classes: list[ClientClass], listener: str) -> str:
    match key.kind:
        case KeyKind.CLIENT:
            return question.client_id or "(this connection)"
        case KeyKind.USERNAME:
            return "(none)" if question.username is None else question.username
        case KeyKind.IP:
            return _network(key, question.address)
        case KeyKind.LISTENER:
            return listener
        case KeyKind.CLASS:
            return classes[0].name if classes else "(none)"
        case KeyKind.TOPIC:
            return "/".join(question.topic.split("/")[: key.levels or None])
        case KeyKind.CAPTURE:
            return _captured(key.capture, question, classes)
    return ""


def _network(key: Key, text: str) -> str:
    if text == "unix":
        return text
    address = ipaddress.ip_address(text)
    bits = key.v4 if address.version == 4 else key.v6
    return str(ipaddress.ip_network(f"{address}/{bits}", strict=False))


def _captured(name: str, question: Question, classes: list[ClientClass]) -> str:
    for one in classes:
        for conditions in (one.all_of, *one.any_of):
            for patterns, text in (
                (conditions.client_id, question.client_id),
                (conditions.username, question.username),
            ):
                for pattern in patterns:
                    found = None if text is None else _regex(pattern).fullmatch(text)
                    if found is not None and name in found.groupdict():
                        return found[name]
    return "(none)"


def _regex(pattern: str) -> re.Pattern[str]:
    """A glob with captures as a regular expression; the engine has its own matcher (native/subject.c)."""
    parts = re.split(r"(\*|\?|\{[a-z][a-z0-9_]*\})", pattern)
    words = {"*": ".*?", "?": "."}
    return re.compile(
        "".join(
            words.get(part) or (f"(?P<{part[1:-1]}>.+?)" if part.startswith("{") else re.escape(part)) for part in parts
        ),
        re.DOTALL,
    )


def _why_not(policy: Policy, engine: Engine, subject: Subject, limit: Limit, topic: bytes, question: Question) -> str:
    """Why a limit does not meet a message: the first of its conditions that does not hold."""
    if limit.qos and question.qos not in limit.qos:
        return f"it is for QoS {' and '.join(map(str, limit.qos))}"
    if limit.retain and not question.retain:
        return "it is for retained messages"
    names = {policy.classes[number].name for number in subject.classes}
    if limit.classes and not names & set(limit.classes):
        return f"the client is not in {' or '.join(limit.classes)}"
    if shut := names & set(limit.not_classes):
        return f"the client is in {', '.join(sorted(shut))}"
    numbers = {other.name: number for number, other in enumerate(ordered(policy))}
    if limit.topic and numbers[limit.name] not in engine.matching(subject, topic, question.qos, question.retain):
        return "the topic or the client is another"
    return "the client or the topic is another"
