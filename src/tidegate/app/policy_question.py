"""What `tidegate policy explain` is asked: a message, a subscription, a packet, a refusal of the broker; and whose."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from ..mqtt.connect import Connect
from ..mqtt.errors import PacketError
from ..mqtt.framing import LARGEST_REMAINING, encode_length
from ..mqtt.text import check_topic_name
from ..mqtt.topics import check_filter
from ..policy.address import Address
from ..policy.events import MEANINGS, event_name
from ..policy.model import Event
from ..policy.problems import BadValue
from ..policy.settings import Settings
from ..policy.units import size_text
from .policy_match import VERSIONS, Client, Message

UNIX = "unix"
"""What `Question.address` says of a client that comes by a Unix socket."""
ON = {event_name(event): event for event in Event}
"""What can be asked about."""
_MESSAGES = (Event.PUBLISH, Event.DELIVER, Event.WILL)
PAYLOAD = 64
"""Bytes of a message's, unless told."""
_LEAST_PACKET = 2
"""Bytes of any packet, such as PINGREQ (section 2.1)."""
_KEEPALIVE = 60
_LONGEST = 65535
"""Bytes of a text (section 1.5.4)."""


class BadQuestion(ValueError):
    """What no client could do here; the text says which option is to blame, and the fix."""


@dataclass(frozen=True)
class Question:
    """What a client sends, is sent or leaves behind, or the broker's refusal of it, as the command line says it."""

    topic: str | None = None
    """Of a subscription, its filter."""
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
    """Of a subscription, the largest that it asks for."""
    retain: bool = False
    size: int | None = None
    """Bytes of a message's payload, or of a packet; None: PAYLOAD, or the least that such a packet can have."""
    on: str = event_name(Event.PUBLISH)


def client_of(question: Question, settings: Settings) -> Client:
    """Who it is; BadQuestion."""
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


def message_of(question: Question, client: Client, most: int) -> Message:
    """What it is about; BadQuestion. `most`: bytes of the largest packet."""
    on = ON[question.on]
    if MEANINGS[on].has_topics and question.topic is None:
        what = "a subscription has a filter" if on is Event.SUBSCRIBE else "a message has one"
        raise BadQuestion(f"--topic: {what}; write --topic TOPIC, or ask with --on about something else")
    given = {
        "--topic": question.topic is not None and not MEANINGS[on].has_topics,
        "--qos": question.qos != 0 and on not in (*_MESSAGES, Event.SUBSCRIBE),
        "--retain": question.retain and on not in _MESSAGES,
        "--size": question.size is not None and on in (Event.AUTH_FAILURE, Event.SUBSCRIBE),
    }
    for option, is_given in given.items():
        if is_given:
            raise BadQuestion(f"{option}: means nothing with --on {question.on}; leave it out")
    match on:
        case Event.SUBSCRIBE:
            return _subscribe(question, question.topic or "", client)
        case Event.CONNECT:
            return _connect(question, client, most)
        case Event.PACKET:
            packet = _LEAST_PACKET if question.size is None else question.size
            if packet < _LEAST_PACKET:
                raise BadQuestion(f"--size: a packet has {_LEAST_PACKET} bytes at least; write more, or leave it out")
            _check_size("--size", packet, most)
            return Message("", 0, False, packet, packet, on)
        case Event.AUTH_FAILURE:
            return Message("", 0, False, 0, 0, on)
    return _publish(question, question.topic or "", client, on, most)


def _publish(question: Question, topic: str, client: Client, on: Event, most: int) -> Message:
    """A message, in whatever direction, or a will, which becomes one."""
    payload = PAYLOAD if question.size is None else question.size
    name = _text("--topic", topic).encode()
    try:
        check_topic_name(name, 0, len(name))
    except PacketError as error:
        raise BadQuestion(f"--topic: {error.text}; write the topic of one message") from error
    if on is Event.WILL and payload > _LONGEST:
        raise BadQuestion(f"--size: a will has {_LONGEST} bytes at most (section 3.1.3.3); write less")
    # Without properties.
    body = 2 + len(name) + (2 if question.qos else 0) + (1 if client.version == 5 else 0) + payload
    if on is Event.PUBLISH:
        _check_size("--size", body, most)
    elif body > LARGEST_REMAINING:
        raise BadQuestion(f"--size: no packet is larger than {size_text(LARGEST_REMAINING)}; write less")
    packet = 1 + len(encode_length(body)) + body
    if on is Event.PUBLISH:
        _check_size("--size", packet, most)
    return Message(topic, question.qos, question.retain, payload, packet, on)


def _subscribe(question: Question, topic_filter: str, client: Client) -> Message:
    try:
        check_filter(_text("--topic", topic_filter), client.version)
    except PacketError as error:
        raise BadQuestion(f"--topic: {error.text}; write the filter of one subscription") from error
    return Message(topic_filter, question.qos, False, 0, 0, Event.SUBSCRIBE)


def _connect(question: Question, client: Client, most: int) -> Message:
    alone = Connect(client.version, client.bridge, client.clean_start, _KEEPALIVE, client.client_id, client.username)
    least = len(alone.write())
    packet = least if question.size is None else question.size
    if packet < least:
        raise BadQuestion(f"--size: a CONNECT that says this has {least} bytes at least; write more, or leave it out")
    _check_size("--client-id" if question.size is None else "--size", packet, most)
    return Message("", 0, False, packet, packet, Event.CONNECT)


def _check_size(option: str, packet: int, most: int) -> None:
    if packet > most:
        raise BadQuestion(
            f"{option}: the packet is larger than gateway.max_packet = {size_text(most)}, "
            "which ends the connection before any limit; write less, or raise that"
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
