"""Hypothesis strategies: valid packets of all kinds and versions, mutations of them, and streams cut into chunks."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from support.packets import CLIENT, EXAMPLES, SERVER, Message, Packet
from tidegate.mqtt.connack import Connack
from tidegate.mqtt.connect import Connect, Will
from tidegate.mqtt.framing import packet
from tidegate.mqtt.properties import WILL, Properties, PropertyId, Value, write_properties
from tidegate.mqtt.reasons import PacketType, ReasonCode
from tidegate.mqtt.session import Auth, Disconnect
from tidegate.mqtt.subscribe import Suback, Subscribe, Subscription, Unsuback, Unsubscribe

P = PropertyId
T = PacketType

untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For every test here: none may fail because the machine is slow."""

versions = st.sampled_from((3, 4, 5))
packet_ids = st.integers(1, 0xFFFF)
qos = st.integers(0, 2)
binary = st.binary(max_size=40)

_characters = st.characters(codec="utf-8", exclude_characters="\0")
texts = st.text(_characters, max_size=20)

_level_characters = st.characters(codec="utf-8", exclude_characters="\0/+#")
levels = st.text(_level_characters, max_size=6)
topics = st.lists(levels | st.sampled_from(("$SYS", "plant", "a")), min_size=1, max_size=5).map("/".join).filter(bool)


@st.composite
def filters(draw: DrawFn) -> str:
    """Valid topic filters, some of them shared."""
    parts = draw(st.lists(levels | st.sampled_from(("+", "plant", "a")), max_size=4))
    if draw(st.booleans()) or not any(parts):
        parts.append("#")
    topic_filter = "/".join(parts)
    if draw(st.integers(0, 3)) == 0:
        group = draw(levels.filter(bool))
        return f"$share/{group}/{topic_filter}"
    # What is left may by chance begin like a shared subscription; those are drawn above.
    return topic_filter if not topic_filter.startswith("$share/") else "#"


_bits = st.integers(0, 1)
_two_bytes = st.integers(0, 0xFFFF)
_four_bytes = st.integers(0, 0xFFFFFFFF)
_values: dict[PropertyId, SearchStrategy[Value]] = {
    P.PAYLOAD_FORMAT_INDICATOR: _bits,
    P.MESSAGE_EXPIRY_INTERVAL: _four_bytes,
    P.CONTENT_TYPE: texts,
    P.RESPONSE_TOPIC: topics,
    P.CORRELATION_DATA: binary,
    P.SUBSCRIPTION_IDENTIFIER: st.integers(1, 268_435_455),
    P.SESSION_EXPIRY_INTERVAL: _four_bytes,
    P.ASSIGNED_CLIENT_IDENTIFIER: texts,
    P.SERVER_KEEP_ALIVE: _two_bytes,
    P.AUTHENTICATION_METHOD: texts,
    P.AUTHENTICATION_DATA: binary,
    P.REQUEST_PROBLEM_INFORMATION: _bits,
    P.WILL_DELAY_INTERVAL: _four_bytes,
    P.REQUEST_RESPONSE_INFORMATION: _bits,
    P.RESPONSE_INFORMATION: texts,
    P.SERVER_REFERENCE: texts,
    P.REASON_STRING: texts,
    P.RECEIVE_MAXIMUM: st.integers(1, 0xFFFF),
    P.TOPIC_ALIAS_MAXIMUM: _two_bytes,
    P.TOPIC_ALIAS: st.integers(1, 0xFFFF),
    P.MAXIMUM_QOS: _bits,
    P.RETAIN_AVAILABLE: _bits,
    P.USER_PROPERTY: st.tuples(texts, texts),
    P.MAXIMUM_PACKET_SIZE: st.integers(1, 0xFFFFFFFF),
    P.WILDCARD_SUBSCRIPTION_AVAILABLE: _bits,
    P.SUBSCRIPTION_IDENTIFIER_AVAILABLE: _bits,
    P.SHARED_SUBSCRIPTION_AVAILABLE: _bits,
}

_REASON_AND_USER = (P.REASON_STRING, P.USER_PROPERTY)
_CARRIED: dict[int, tuple[PropertyId, ...]] = {
    WILL: (
        P.PAYLOAD_FORMAT_INDICATOR, P.MESSAGE_EXPIRY_INTERVAL, P.CONTENT_TYPE, P.RESPONSE_TOPIC,
        P.CORRELATION_DATA, P.WILL_DELAY_INTERVAL, P.USER_PROPERTY,
    ),
    T.CONNECT: (
        P.SESSION_EXPIRY_INTERVAL, P.AUTHENTICATION_METHOD, P.AUTHENTICATION_DATA,
        P.REQUEST_PROBLEM_INFORMATION, P.REQUEST_RESPONSE_INFORMATION, P.RECEIVE_MAXIMUM,
        P.TOPIC_ALIAS_MAXIMUM, P.USER_PROPERTY, P.MAXIMUM_PACKET_SIZE,
    ),
    T.CONNACK: (
        P.SESSION_EXPIRY_INTERVAL, P.ASSIGNED_CLIENT_IDENTIFIER, P.SERVER_KEEP_ALIVE,
        P.AUTHENTICATION_METHOD, P.AUTHENTICATION_DATA, P.RESPONSE_INFORMATION, P.SERVER_REFERENCE,
        P.REASON_STRING, P.RECEIVE_MAXIMUM, P.TOPIC_ALIAS_MAXIMUM, P.MAXIMUM_QOS, P.RETAIN_AVAILABLE,
        P.USER_PROPERTY, P.MAXIMUM_PACKET_SIZE, P.WILDCARD_SUBSCRIPTION_AVAILABLE,
        P.SUBSCRIPTION_IDENTIFIER_AVAILABLE, P.SHARED_SUBSCRIPTION_AVAILABLE,
    ),
    T.PUBLISH: (
        P.PAYLOAD_FORMAT_INDICATOR, P.MESSAGE_EXPIRY_INTERVAL, P.CONTENT_TYPE, P.RESPONSE_TOPIC,
        P.CORRELATION_DATA, P.TOPIC_ALIAS, P.USER_PROPERTY,
    ),
    T.PUBACK: _REASON_AND_USER,
    T.SUBSCRIBE: (P.SUBSCRIPTION_IDENTIFIER, P.USER_PROPERTY),
    T.SUBACK: _REASON_AND_USER,
    T.UNSUBSCRIBE: (P.USER_PROPERTY,),
    T.UNSUBACK: _REASON_AND_USER,
    T.DISCONNECT: (*_REASON_AND_USER, P.SERVER_REFERENCE),
    T.AUTH: (P.AUTHENTICATION_METHOD, P.AUTHENTICATION_DATA, *_REASON_AND_USER),
}  # fmt: skip


@st.composite
def properties(draw: DrawFn, packet_type: int) -> Properties:
    """Properties that this packet (or WILL) may carry, in any order."""
    chosen = draw(st.lists(st.sampled_from(_CARRIED[packet_type]), unique=True))
    if P.USER_PROPERTY in chosen:
        chosen += [P.USER_PROPERTY] * draw(st.integers(0, 2))
        chosen = draw(st.permutations(chosen))
    return [(identifier, draw(_values[identifier])) for identifier in chosen]


def _if_5(version: int, packet_type: int) -> SearchStrategy[Properties]:
    return properties(packet_type) if version == 5 else st.just([])


@st.composite
def wills(draw: DrawFn, version: int) -> Will:
    return Will(draw(topics), draw(binary), draw(qos), draw(st.booleans()), draw(_if_5(version, WILL)))


@st.composite
def connects(draw: DrawFn) -> Connect:
    version = draw(versions)
    username = draw(st.none() | texts)
    found = draw(_if_5(version, T.CONNECT))
    if not any(identifier is P.AUTHENTICATION_METHOD for identifier, _ in found):
        found = [pair for pair in found if pair[0] is not P.AUTHENTICATION_DATA]
    return Connect(
        version,
        version < 5 and draw(st.booleans()),
        draw(st.booleans()),
        draw(_two_bytes),
        draw(texts),
        username,
        draw(st.none() | binary) if version == 5 or username is not None else None,
        draw(st.none() | wills(version)),
        found,
    )


CONNACK_REASONS = (
    0, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
)  # fmt: skip
ACK_REASONS = (0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99)
SUBACK_REASONS = (0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2)
UNSUBACK_REASONS = (0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91)
DISCONNECT_REASONS = (0, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99)


@st.composite
def connacks(draw: DrawFn, version: int) -> Connack:
    reason = draw(st.sampled_from(CONNACK_REASONS) if version == 5 else st.integers(0, 5))
    return Connack(reason == 0 and draw(st.booleans()), reason, draw(_if_5(version, T.CONNACK)))


@st.composite
def subscriptions(draw: DrawFn, version: int) -> Subscription:
    topic_filter = draw(filters())
    options = draw(qos)
    if version == 5:
        options |= draw(st.integers(0, 2)) << 4 | draw(st.integers(0, 3)) << 2
        if topic_filter.startswith("$share/"):
            options &= ~4
    return Subscription(topic_filter, options)


@st.composite
def subscribes(draw: DrawFn, version: int) -> Subscribe:
    wanted = draw(st.lists(subscriptions(version), min_size=1, max_size=4))
    return Subscribe(draw(packet_ids), wanted, draw(_if_5(version, T.SUBSCRIBE)))


@st.composite
def subacks(draw: DrawFn, version: int) -> Suback:
    codes = SUBACK_REASONS if version == 5 else (0, 1, 2, 0x80)
    reasons: list[int] = draw(st.lists(st.sampled_from(codes), min_size=1, max_size=5))
    return Suback(draw(packet_ids), reasons, draw(_if_5(version, T.SUBACK)))


@st.composite
def unsubscribes(draw: DrawFn, version: int) -> Unsubscribe:
    unwanted = draw(st.lists(filters(), min_size=1, max_size=4))
    return Unsubscribe(draw(packet_ids), unwanted, draw(_if_5(version, T.UNSUBSCRIBE)))


@st.composite
def unsubacks(draw: DrawFn, version: int) -> Unsuback:
    if version < 5:
        return Unsuback(draw(packet_ids))
    reasons: list[int] = draw(st.lists(st.sampled_from(UNSUBACK_REASONS), min_size=1, max_size=5))
    return Unsuback(draw(packet_ids), reasons, draw(properties(T.UNSUBACK)))


@st.composite
def disconnects(draw: DrawFn, version: int) -> Disconnect:
    """What either side may send in MQTT 5; before, the client alone."""
    if version < 5:
        return Disconnect()
    return Disconnect(draw(st.sampled_from(DISCONNECT_REASONS)), draw(properties(T.DISCONNECT)))


@st.composite
def auths(draw: DrawFn) -> Auth:
    found = draw(properties(T.AUTH))
    if not any(identifier is P.AUTHENTICATION_METHOD for identifier, _ in found):
        found.append((P.AUTHENTICATION_METHOD, draw(texts)))
    return Auth(ReasonCode.CONTINUE_AUTHENTICATION, found)


@st.composite
def messages(draw: DrawFn, version: int) -> tuple[Message, Properties]:
    """A PUBLISH of a client, and its properties as values."""
    level = draw(qos)
    found = draw(_if_5(version, T.PUBLISH))
    alias = next((value for name, value in found if name is P.TOPIC_ALIAS), 0)
    assert isinstance(alias, int)
    written = write_properties(found)
    skip = next(i for i, byte in enumerate(written) if byte < 0x80) + 1
    message = Message(
        "" if alias and draw(st.booleans()) else draw(topics),
        draw(binary),
        level,
        draw(st.booleans()),
        level > 0 and draw(st.booleans()),
        draw(packet_ids) if level else 0,
        written[skip:],
        alias,
    )
    return message, found


def publish_bytes(message: Message, found: Properties, version: int) -> bytes:
    """The packet that says this message."""
    topic = message.topic.encode()
    body = len(topic).to_bytes(2, "big") + topic
    if message.qos:
        body += message.packet_id.to_bytes(2, "big")
    if version == 5:
        body += write_properties(found)
    return packet(0x30 | message.dup << 3 | message.qos << 1 | message.retain, body + message.payload)


@dataclass(frozen=True)
class Sent:
    """A packet on the wire, between whom, and what it means."""

    version: int
    from_client: bool
    wire: bytes
    packet: Packet


_BY_VERSION: tuple[tuple[bool, Callable[[int], SearchStrategy[Packet]]], ...] = (
    (SERVER, connacks), (CLIENT, subscribes), (SERVER, subacks), (CLIENT, unsubscribes), (SERVER, unsubacks),
)  # fmt: skip


@st.composite
def sent(draw: DrawFn) -> Sent:
    """One valid packet of any kind and version, the acknowledgements and pings among the examples."""
    match draw(st.integers(0, 9)):
        case 0 | 1:
            connect = draw(connects())
            return Sent(connect.version, CLIENT, connect.write(), connect)
        case 2:
            version = draw(versions)
            message, found = draw(messages(version))
            return Sent(version, CLIENT, publish_bytes(message, found, version), message)
        case 3:
            version = draw(versions)
            disconnect = draw(disconnects(version))
            return Sent(version, CLIENT, disconnect.write(), disconnect)
        case 4:
            auth = draw(auths())
            return Sent(5, draw(st.booleans()), auth.write(), auth)
        case 5:
            example = draw(st.sampled_from(EXAMPLES))
            return Sent(example.version, example.from_client, example.wire, example.packet)
    version = draw(versions)
    from_client, strategy = draw(st.sampled_from(_BY_VERSION))
    value = draw(strategy(version))
    assert isinstance(value, Connack | Subscribe | Suback | Unsubscribe | Unsuback)
    return Sent(version, from_client, value.write(version), value)


@st.composite
def mutated(draw: DrawFn) -> Sent:
    """A packet with bytes changed, removed or inserted, as on the wire; its frame may be broken as well."""
    original = draw(sent())
    wire = bytearray(original.wire)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(wire)))
        match draw(st.integers(0, 3)):
            case 0:
                wire[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del wire[at : at + draw(st.integers(1, 3))]
            case 2:
                wire[at:at] = draw(st.binary(min_size=1, max_size=3))
            case 3:
                wire[at:at] = wire[at : at + draw(st.integers(1, 8))]
    return Sent(original.version, original.from_client, bytes(wire), original.packet)


@st.composite
def chunks(draw: DrawFn, stream: bytes) -> list[bytes]:
    """The stream in pieces, some of them empty."""
    places = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *places, len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]
