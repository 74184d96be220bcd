"""Why a limit meets a message or a connection, or does not, in words.

The engine alone decides which limits are met (native/subject.c, native/decide.c); here its reasons are found
again, one condition at a time. A generated test holds the two together.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from ..mqtt.topics import asked_by, covers, matches
from ..policy.captures import captures_of_fitting
from ..policy.model import ClientClass, Conditions, Event, Key, KeyKind, Limit
from ..policy.patterns import first_fit
from ..policy.strictness import choose, of_duration, of_number, of_rates

VERSIONS = {"3.1": 3, "3.1.1": 4, "5": 5}
_NAMES = {number: name for name, number in VERSIONS.items()}


@dataclass(frozen=True)
class Client:
    """A client, as it says that it is."""

    client_id: str
    username: str | None
    address: IPv4Address | IPv6Address | None
    """None: it came by a Unix socket."""
    listener: str
    version: int
    """3 is MQTT 3.1, 4 is 3.1.1."""
    clean_start: bool
    bridge: bool


@dataclass(frozen=True)
class Message:
    """One PUBLISH in either direction, a will, a subscription, any packet, a CONNECT or the broker's refusal of it."""

    topic: str
    """Of a subscription, its filter; empty where there is none."""
    qos: int
    retain: bool
    payload: int
    """Bytes that a `size` is compared with."""
    packet: int = 0
    """Bytes."""
    on: Event = Event.PUBLISH


def captured(classes: Sequence[ClientClass], client: Client) -> dict[str, str]:
    """What the patterns of a client's classes capture of it; of two that capture the same, the later holds."""
    found: dict[str, str] = {}
    for one in classes:
        for group in (one.all_of, *[group for group in one.any_of if not [*_unfit(group, client)]][:1]):
            found |= captures_of_fitting(group, client.client_id, client.username)
    return found


def reasons_against(
    limit: Limit, client: Client, message: Message, classes: Collection[str], captures: Mapping[str, str]
) -> list[str]:
    """All that keeps a limit on the same event from meeting a message; empty when it does. `classes`: names."""
    return [
        *_about_message(limit, message),
        *_about_classes(limit, classes),
        *_unfit(limit.who, client),
        *(f"no class of the client captures {{{key.capture}}}" for key in _lacking(limit.per, captures)),
        *_unlimited(limit, classes),
    ]


def _about_message(limit: Limit, message: Message) -> Iterator[str]:
    asks = limit.on is Event.SUBSCRIBE
    fits, what = (_covers, "filter is not within") if asks else (matches, "topic does not match")
    if limit.topic and not any(fits(one, message.topic) for one in limit.topic):
        yield f"the {what} {_alternatives(limit.topic)}"
    if fitting := [one for one in limit.except_topic if fits(one, message.topic)]:
        yield f"the {'filter' if asks else 'topic'} is excepted by {fitting[0]}"
    if limit.qos and message.qos not in limit.qos:
        yield f"the QoS is not {_alternatives(map(str, limit.qos))}"
    if limit.retain and not message.retain:
        yield "the message is not retained"


def _covers(topic_filter: str, subscription: str) -> bool:
    """Whether a limit's filter is about all that a subscription asks for."""
    share, wanted = asked_by(topic_filter)
    name, asked = asked_by(subscription)
    return (share is None or (name is not None and share in ("+", name))) and covers(wanted, asked)


def _about_classes(limit: Limit, classes: Collection[str]) -> Iterator[str]:
    if limit.classes and not set(limit.classes) & set(classes):
        yield f"the client is not in class {_alternatives(limit.classes)}"
    for name in limit.not_classes:
        if name in classes:
            yield f"the client is in class {name}"


def _lacking(per: Sequence[Key], captures: Mapping[str, str]) -> Iterator[Key]:
    return (key for key in per if key.kind is KeyKind.CAPTURE and key.capture not in captures)


def _unlimited(limit: Limit, classes: Collection[str]) -> Iterator[str]:
    numbers = (
        choose(limit.rate, classes, of_rates),
        choose(limit.bandwidth, classes, of_rates),
        *(choose(one, classes, of_number) for one in (limit.concurrent, limit.size, limit.depth, limit.max_qos)),
        choose(limit.will_delay, classes, of_duration),
    )
    if limit.leading_wildcard and all(number is None for number in numbers):
        yield 'it has no number for this client: "none", or no default'


def _unfit(conditions: Conditions, client: Client) -> Iterator[str]:
    """The conditions that a client does not fulfil."""
    if conditions.client_id and first_fit(conditions.client_id, client.client_id) is None:
        yield f"the client id is not {_alternatives(conditions.client_id)}"
    if conditions.username and client.username is None:
        yield "the client has no user name"
    elif conditions.username and first_fit(conditions.username, client.username) is None:
        yield f"the user name is not {_alternatives(conditions.username)}"
    if conditions.cidr and not any(client.address in network for network in conditions.cidr if client.address):
        yield f"the address is not in {_alternatives(map(str, conditions.cidr))}"
    if conditions.listener and client.listener not in conditions.listener:
        yield f"the listener is not {_alternatives(conditions.listener)}"
    if conditions.cn or conditions.san:
        yield "the client has no certificate"
    if conditions.version and client.version not in conditions.version:
        yield f"the version is not {_alternatives(_NAMES[one] for one in conditions.version)}"
    if conditions.clean_start not in (None, client.clean_start):
        yield "the client starts clean" if client.clean_start else "the client keeps its session"
    if conditions.bridge not in (None, client.bridge):
        yield "the client is a bridge" if client.bridge else "the client is no bridge"


def _alternatives(words: Iterator[str] | Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
