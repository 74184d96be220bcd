"""`tidegate policy explain`: which limits a message meets, with what keys and budgets, and what happens on excess."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path

from ..engine.binding import Engine, Segment, Subject
from ..engine.memory import boot, secret
from ..engine.rate import UNITS
from ..mqtt.errors import PacketError
from ..mqtt.framing import encode_length
from ..mqtt.text import check_topic_name
from ..policy.address import Address
from ..policy.compile import ordered
from ..policy.enforced import unenforced
from ..policy.model import Action, ClientClass, Event, Key, KeyKind, Limit, Policy, Priority, Rate
from ..policy.problems import BadValue
from ..policy.settings import Settings, load
from ..policy.strictness import choose, of_number, of_rates
from ..policy.units import duration_text, size_text
from .policy_compile import compiled
from .policy_match import VERSIONS, Client, Message, captured, reasons_against

UNIX = "unix"
"""What `Question.address` says of a client that comes by a Unix socket."""
_WORDS = 4096
"""Buckets of a segment that only answers a question."""
_LONGEST = 65535
"""Bytes of a text (section 1.5.4)."""
_ACKS = {1: "PUBACK", 2: "PUBREC"}


class BadQuestion(ValueError):
    """A message that no client could send here; the text says which option is to blame, and the fix."""


@dataclass(frozen=True)
class Question:
    """One message of one client, as the command line describes it."""

    topic: str
    client_id: str = ""
    username: str | None = None
    address: str | None = None
    """None: 127.0.0.1, or UNIX where it connects to a Unix socket."""
    listener: str | None = None
    """None: the first that such an address can connect to."""
    version: str = "5"
    bridge: bool = False
    clean_start: bool = True
    qos: int = 0
    retain: bool = False
    payload: int = 64


@dataclass(frozen=True)
class Met:
    """A limit that the message meets."""

    name: str
    place: str
    """FILE:LINE."""
    keys: dict[str, str]
    """What it is counted per, and the value for this message."""
    budgets: dict[str, list[str]]
    """What this client has of rate, bandwidth, concurrent and size, as the file would write it."""
    action: str
    """On excess, for this version and QoS."""
    max_delay: float | None
    """How long it may be held back, in seconds; None unless the action is `delay`."""
    then: str | None
    """The action after that."""
    wire: str
    """What the client sees of it."""
    enforced: bool


@dataclass(frozen=True)
class Answer:
    """What a message meets."""

    client: dict[str, str]
    message: dict[str, str]
    classes: list[str]
    priority: str
    exempt: bool
    verdict: str
    """The action on the first such message, when nothing else has been sent: `pass`, unless it is too large."""
    by: str | None
    """The limit that decides so."""
    met: list[Met]
    not_met: dict[str, list[str]]
    """The other limits on publish, and all that keeps them from meeting it."""


def explain(file: Path, question: Question) -> Answer:
    """SettingsError for a file that is wrong, BadQuestion for a message that cannot be."""
    settings = load(file)
    policy = settings.policy
    engine = _engine(settings)
    client = _client(question, settings)
    message = Message(_text("--topic", question.topic), question.qos, question.retain, question.payload)
    topic = _topic(message.topic)
    packet = _packet(client, message, len(topic), settings.gateway.max_packet)
    subject = _subject(client)
    engine.resolve(subject)
    matching = engine.matching(subject, topic, message.qos, message.retain)
    verdict = engine.judge(subject, topic, message.qos, message.retain, packet, message.payload, now_ns=0)
    action = verdict.action
    if action == _name(Action.DELAY):  # no time makes it smaller
        by = next(limit for limit in policy.limits if limit.name == verdict.limit)
        action = _name(by.then.of(client.version, message.qos))
    classes = [policy.classes[number] for number in subject.classes]
    names = [one.name for one in classes]
    captures = captured(classes, client)
    limits = ordered(policy)
    return Answer(
        _tell_client(client),
        {
            "topic": message.topic,
            "qos": str(message.qos),
            "retain": str(message.retain).lower(),
            "payload": size_text(message.payload),
            "packet": size_text(packet),
        },
        names,
        Priority(subject.priority).name.lower(),
        subject.exempt,
        action,
        verdict.limit or None,
        [*_met(settings, [limits[number] for number in matching], client, message, classes, captures)],
        {
            limit.name: reasons_against(limit, client, message, names, captures)
            for number, limit in enumerate(limits)
            if limit.on is Event.PUBLISH and number not in matching
        },
    )


def explain_json(answer: Answer) -> str:
    """The same for machines."""
    return json.dumps(asdict(answer), indent=2)


# The question


def _client(question: Question, settings: Settings) -> Client:
    address, listener = _way(question, settings)
    username = question.username
    return Client(
        _text("--client-id", question.client_id),
        None if username is None else _text("--username", username),
        address,
        listener,
        VERSIONS[question.version],
        question.clean_start,
        question.bridge,
    )


def _way(question: Question, settings: Settings) -> tuple[IPv4Address | IPv6Address | None, str]:
    """From where to where it connects: no address goes with a Unix socket, and only that."""
    known = settings.gateway.listen
    if question.listener is None:
        kind = None if question.address is None else "unix" if question.address == UNIX else "tcp"
        listener = next((one for one in known if kind in (None, one.kind)), None)
        if listener is None:
            raise BadQuestion(
                f"--ip: gateway.listen has no {'Unix socket' if kind == UNIX else 'port'}; {_one_of(known)}"
            )
    else:
        listener = _listener(question.listener, known)
    text = question.address or (UNIX if listener.kind == "unix" else "127.0.0.1")
    if (text == UNIX) != (listener.kind == "unix"):
        raise BadQuestion(f"--ip: nobody comes from {text} to {listener}; leave one of --ip and --listener out")
    return None if text == UNIX else _address(text), str(listener)


def _listener(text: str, known: tuple[Address, ...]) -> Address:
    try:
        listener = Address.parse(text)
    except BadValue as error:
        raise BadQuestion(f"--listener: {error}") from error
    if listener not in known:
        raise BadQuestion(f"--listener: gateway.listen has no {text}; {_one_of(known)}")
    return listener


def _one_of(known: tuple[Address, ...]) -> str:
    return f"it has {', '.join(map(str, known))}"


def _address(text: str) -> IPv4Address | IPv6Address:
    """An address as the gateway sees it: without its zone, and IPv4 that came by an IPv6 socket is IPv4."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError as error:
        raise BadQuestion(f"--ip: {text!r} is no address; write one of IPv4 or IPv6, or {UNIX}") from error
    return getattr(address, "ipv4_mapped", None) or address


def _text(option: str, text: str) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise BadQuestion(f"{option}: not UTF-8; MQTT has no other text") from error
    if size > _LONGEST:
        raise BadQuestion(f"{option}: {size} bytes; MQTT has texts of up to {_LONGEST}")
    return text


def _topic(text: str) -> bytes:
    topic = text.encode()
    try:
        check_topic_name(topic, 0, len(topic))
    except PacketError as error:
        raise BadQuestion(f"--topic: {error.text}; write the topic of one message") from error
    return topic


def _packet(client: Client, message: Message, topic_size: int, most: int) -> int:
    """Bytes of the packet, without properties."""
    body = 2 + topic_size + (2 if message.qos else 0) + (1 if client.version == 5 else 0) + message.payload
    if body > most or (size := 1 + len(encode_length(body)) + body) > most:
        raise BadQuestion(
            f"--size: the packet is larger than gateway.max_packet = {size_text(most)}, "
            "which ends the connection before any limit; write less, or raise that"
        )
    return size


def _engine(settings: Settings) -> Engine:
    slots = max(1, len(settings.policy.limits))
    memory = bytearray(Segment.size(0, slots, 0, _WORDS, 0))
    Segment.create(memory, 0, slots, 0, _WORDS, 0, boot(), secret())
    engine = Engine(Segment(memory, boot()), -1)
    engine.load(compiled(settings))
    return engine


def _subject(client: Client) -> Subject:
    return Subject(
        client.client_id.encode(),
        None if client.username is None else client.username.encode(),
        b"" if client.address is None else client.address.packed,
        client.listener.encode(),
        client.version,
        client.clean_start,
        client.bridge,
    )


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


def _met(
    settings: Settings,
    limits: list[Limit],
    client: Client,
    message: Message,
    classes: list[ClientClass],
    captures: Mapping[str, str],
) -> Iterator[Met]:
    problems = unenforced(settings.policy, settings.document)
    refused = {problem.line for problem in problems if problem.key.startswith(("limit", "[[limit"))}
    names = {one.name for one in classes}
    for limit in limits:
        action, then = (cases.of(client.version, message.qos) for cases in (limit.on_excess, limit.then))
        delays = action is Action.DELAY
        budgets = dict(_budgets(limit, names))
        table = range(limit.line, _end_of(limit, settings.policy))
        yield Met(
            limit.name,
            f"{settings.document.file}:{limit.line}",
            {str(key): _value(key, client, message, classes, captures) for key in limit.per},
            budgets,
            _name(action),
            limit.max_delay if delays else None,
            _name(then) if delays else None,
            _outcome(limit, budgets, client.version, message.qos),
            not any(line in table for line in refused),
        )


def _end_of(limit: Limit, policy: Policy) -> int:
    """The line at which the next table of limits begins."""
    return min((other.line for other in policy.limits if other.line > limit.line), default=1 << 31)


def _budgets(limit: Limit, classes: set[str]) -> Iterator[tuple[str, list[str]]]:
    for word, rates, write in (("rate", limit.rate, str), ("bandwidth", limit.bandwidth, size_text)):
        if chosen := choose(rates, classes, of_rates):
            yield word, [f"{write(one.amount)}/{_period(one)} burst {write(one.burst)}" for one in chosen]
    for word, number, write in (("concurrent", limit.concurrent, str), ("size", limit.size, size_text)):
        if (most := choose(number, classes, of_number)) is not None:
            yield word, [write(most)]


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
            return "/".join(message.topic.split("/")[: key.levels or None])
        case KeyKind.CAPTURE:
            return captures[key.capture]
    return "everybody together"


def _network(key: Key, address: IPv4Address | IPv6Address | None) -> str:
    if address is None:
        return "all who come by a Unix socket"
    network = ip_network((address, key.v4 if address.version == 4 else key.v6), strict=False)
    return str(address) if network.num_addresses == 1 else str(network)


def _name(action: Action) -> str:
    return action.name.lower()


def _outcome(limit: Limit, budgets: Collection[str], version: int, qos: int) -> str:
    """What a client sees of a message that exceeds one of the budgets."""
    windowed = "concurrent" in budgets
    if qos == 0 and windowed and len(budgets) == 1:
        return "never happens: QoS 0 is not acknowledged, so a window does not count it"
    refills = bool({"rate", "bandwidth"} & set(budgets))
    action = limit.on_excess.of(version, qos)
    if action is not Action.DELAY:
        return _wire(action, version, qos, refills=refills)
    until = ["one in flight is acknowledged"] if windowed and qos else []
    until += ["its budget allows it"] if refills else []
    then = limit.then.of(version, qos)
    told = f"{_name(then)}: {_wire(then, version, qos, refills=refills)}"
    if not until:
        return f"as waiting makes nothing smaller, at once {told}"
    return f"held back until {' and '.join(until)}, at most {duration_text(limit.max_delay)}; then {told}"


def _wire(action: Action, version: int, qos: int, *, refills: bool) -> str:
    """What a client sees of an action but `delay`. `refills`: it is known when the message would pass."""
    match action:
        case Action.OBSERVE:
            return "passes, and is counted"
        case Action.DROP if qos:
            return f"discarded, and acknowledged ({_ACKS[qos]}) as if it had arrived"
        case Action.REJECT if qos:
            return f"{_ACKS[qos]} 0x97 (quota exceeded), with the reason{' and retry-after-ms' if refills else ''}"
        case Action.DROP | Action.REJECT:
            return "discarded, and nothing is said: QoS 0 is never answered"
        case Action.DISCONNECT if version == 5:
            return "DISCONNECT 0x96 (message rate too high) with the reason, and the connection is closed"
        case Action.BAN:
            return "the connection is closed, and the client is kept out for a time"
    return "the connection is closed without a word: MQTT 3 has none for it"
