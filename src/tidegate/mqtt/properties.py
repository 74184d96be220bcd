"""The properties of MQTT 5 (section 2.2.2): one table, a check in place, and values.

`check_properties` walks bytes and allocates nothing: it stands in the path of every MQTT 5 message.
`read_properties` and `write_properties` are for the packets that the gateway rewrites.
"""

from collections.abc import Iterable
from enum import IntEnum

from .errors import Fault, PacketError
from .fields import write_binary, write_text
from .framing import LARGEST_REMAINING, encode_length
from .reasons import PacketType
from .text import field_end, text_end


class Kind(IntEnum):
    """How a property's value is written (section 2.2.2.2)."""

    BYTE = 1
    TWO_BYTES = 2
    FOUR_BYTES = 3
    VARIABLE = 4
    TEXT = 5
    BINARY = 6
    PAIR = 7


class PropertyId(IntEnum):
    """The identifiers of section 2.2.2.2."""

    PAYLOAD_FORMAT_INDICATOR = 0x01
    MESSAGE_EXPIRY_INTERVAL = 0x02
    CONTENT_TYPE = 0x03
    RESPONSE_TOPIC = 0x08
    CORRELATION_DATA = 0x09
    SUBSCRIPTION_IDENTIFIER = 0x0B
    SESSION_EXPIRY_INTERVAL = 0x11
    ASSIGNED_CLIENT_IDENTIFIER = 0x12
    SERVER_KEEP_ALIVE = 0x13
    AUTHENTICATION_METHOD = 0x15
    AUTHENTICATION_DATA = 0x16
    REQUEST_PROBLEM_INFORMATION = 0x17
    WILL_DELAY_INTERVAL = 0x18
    REQUEST_RESPONSE_INFORMATION = 0x19
    RESPONSE_INFORMATION = 0x1A
    SERVER_REFERENCE = 0x1C
    REASON_STRING = 0x1F
    RECEIVE_MAXIMUM = 0x21
    TOPIC_ALIAS_MAXIMUM = 0x22
    TOPIC_ALIAS = 0x23
    MAXIMUM_QOS = 0x24
    RETAIN_AVAILABLE = 0x25
    USER_PROPERTY = 0x26
    MAXIMUM_PACKET_SIZE = 0x27
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A


WILL = 0
"""The will of a CONNECT has properties of its own; no packet has type 0, so the table gives it that row."""

_P = PropertyId
_T = PacketType
_ACKS = (_T.PUBACK, _T.PUBREC, _T.PUBREL, _T.PUBCOMP, _T.SUBACK, _T.UNSUBACK)

# Section 2.2.2.2, table 2-4: identifier, kind of value, the packets that may carry it.
_TABLE: tuple[tuple[PropertyId, Kind, tuple[int, ...]], ...] = (
    (_P.PAYLOAD_FORMAT_INDICATOR, Kind.BYTE, (_T.PUBLISH, WILL)),
    (_P.MESSAGE_EXPIRY_INTERVAL, Kind.FOUR_BYTES, (_T.PUBLISH, WILL)),
    (_P.CONTENT_TYPE, Kind.TEXT, (_T.PUBLISH, WILL)),
    (_P.RESPONSE_TOPIC, Kind.TEXT, (_T.PUBLISH, WILL)),
    (_P.CORRELATION_DATA, Kind.BINARY, (_T.PUBLISH, WILL)),
    (_P.SUBSCRIPTION_IDENTIFIER, Kind.VARIABLE, (_T.PUBLISH, _T.SUBSCRIBE)),
    (_P.SESSION_EXPIRY_INTERVAL, Kind.FOUR_BYTES, (_T.CONNECT, _T.CONNACK, _T.DISCONNECT)),
    (_P.ASSIGNED_CLIENT_IDENTIFIER, Kind.TEXT, (_T.CONNACK,)),
    (_P.SERVER_KEEP_ALIVE, Kind.TWO_BYTES, (_T.CONNACK,)),
    (_P.AUTHENTICATION_METHOD, Kind.TEXT, (_T.CONNECT, _T.CONNACK, _T.AUTH)),
    (_P.AUTHENTICATION_DATA, Kind.BINARY, (_T.CONNECT, _T.CONNACK, _T.AUTH)),
    (_P.REQUEST_PROBLEM_INFORMATION, Kind.BYTE, (_T.CONNECT,)),
    (_P.WILL_DELAY_INTERVAL, Kind.FOUR_BYTES, (WILL,)),
    (_P.REQUEST_RESPONSE_INFORMATION, Kind.BYTE, (_T.CONNECT,)),
    (_P.RESPONSE_INFORMATION, Kind.TEXT, (_T.CONNACK,)),
    (_P.SERVER_REFERENCE, Kind.TEXT, (_T.CONNACK, _T.DISCONNECT)),
    (_P.REASON_STRING, Kind.TEXT, (_T.CONNACK, *_ACKS, _T.DISCONNECT, _T.AUTH)),
    (_P.RECEIVE_MAXIMUM, Kind.TWO_BYTES, (_T.CONNECT, _T.CONNACK)),
    (_P.TOPIC_ALIAS_MAXIMUM, Kind.TWO_BYTES, (_T.CONNECT, _T.CONNACK)),
    (_P.TOPIC_ALIAS, Kind.TWO_BYTES, (_T.PUBLISH,)),
    (_P.MAXIMUM_QOS, Kind.BYTE, (_T.CONNACK,)),
    (_P.RETAIN_AVAILABLE, Kind.BYTE, (_T.CONNACK,)),
    (
        _P.USER_PROPERTY,
        Kind.PAIR,
        (
            _T.CONNECT, _T.CONNACK, _T.PUBLISH, WILL, *_ACKS,
            _T.SUBSCRIBE, _T.UNSUBSCRIBE, _T.DISCONNECT, _T.AUTH,
        ),
    ),
    (_P.MAXIMUM_PACKET_SIZE, Kind.FOUR_BYTES, (_T.CONNECT, _T.CONNACK)),
    (_P.WILDCARD_SUBSCRIPTION_AVAILABLE, Kind.BYTE, (_T.CONNACK,)),
    (_P.SUBSCRIPTION_IDENTIFIER_AVAILABLE, Kind.BYTE, (_T.CONNACK,)),
    (_P.SHARED_SUBSCRIPTION_AVAILABLE, Kind.BYTE, (_T.CONNACK,)),
)  # fmt: skip

# The same as rows of bytes, one per packet type, indexed by identifier: the kind where allowed, else 0. The
# bit _REPEATABLE is set for user properties, and for the subscription identifiers of a PUBLISH, which has one
# for each subscription that it matches (section 3.3.2.3.8).
_REPEATABLE = 8
_SIZE = 1 + max(PropertyId)
_KINDS = {identifier: kind for identifier, kind, _ in _TABLE}


def _row(packet_type: int) -> bytes:
    row = bytearray(_SIZE)
    for identifier, kind, packets in _TABLE:
        if packet_type in packets:
            repeatable = identifier is _P.USER_PROPERTY or (
                identifier is _P.SUBSCRIPTION_IDENTIFIER and packet_type == _T.PUBLISH
            )
            row[identifier] = kind | (_REPEATABLE if repeatable else 0)
    return bytes(row)


ALLOWED = tuple(_row(packet_type) for packet_type in range(16))
"""By packet type (or WILL): the row that `check_properties` takes."""

# A value of 0 is a protocol error for these (sections 3.1.2.11 and 3.3.2.3.4).
_NOT_ZERO = frozenset({_P.RECEIVE_MAXIMUM, _P.MAXIMUM_PACKET_SIZE, _P.TOPIC_ALIAS})

_WIDTHS = {Kind.BYTE: 1, Kind.TWO_BYTES: 2, Kind.FOUR_BYTES: 4}


def variable_end(data: bytes, at: int, end: int) -> int:
    """The end of the variable byte integer at `at`, which must be as short as can be (section 1.5.5)."""
    for i in range(at, at + 4):
        if i >= end:
            raise PacketError(Fault.TRUNCATED, "the packet ends inside a variable byte integer")
        if data[i] < 0x80:
            if data[i] == 0 and i > at:
                raise PacketError(Fault.LENGTH, "a variable byte integer is longer than its value needs")
            return i + 1
    raise PacketError(Fault.LENGTH, "a variable byte integer has more than four bytes")


def variable_value(data: bytes, at: int, stop: int) -> int:
    """The value of the variable byte integer from `at` to `stop`."""
    value = 0
    for i in range(stop - 1, at - 1, -1):
        value = value << 7 | (data[i] & 0x7F)
    return value


def property_end(data: bytes, at: int, end: int, allowed: bytes) -> int:
    """The end of the property at `at`; PacketError unless it is whole and `allowed` has it."""
    identifier = data[at]
    kind = allowed[identifier] & 7 if identifier < len(allowed) else 0
    if kind == 0:
        raise PacketError(Fault.FOREIGN_PROPERTY, f"property 0x{identifier:02X} cannot stand in this packet")
    stop = at + 1
    if kind == 1:  # the values of Kind: an enum's member would be looked up for each property
        stop += 1
    elif kind == 2:
        stop += 2
    elif kind == 3:
        stop += 4
    elif kind == 4:
        stop = variable_end(data, stop, end)
        if data[stop - 1] == 0:  # no property of this kind may be 0 (sections 3.3.2.3.8 and 3.8.2.1.2)
            raise PacketError(Fault.PROPERTY, f"property 0x{identifier:02X} must not be 0")
        return stop
    elif kind == 5:
        return text_end(data, stop, end)
    elif kind == 6:
        return field_end(data, stop, end)
    else:
        return text_end(data, text_end(data, stop, end), end)
    if stop > end:
        raise PacketError(Fault.TRUNCATED, "a property reaches beyond the properties' end")
    return stop


def check_properties(data: bytes, at: int, end: int, allowed: bytes) -> int:
    """Check the properties from `at` to `end` against a row of ALLOWED.

    The result has bit n set where the property with identifier n is there.
    """
    seen = 0
    one = 1  # as wide as `seen` when compiled: identifiers go beyond the 31 bits of a literal
    while at < end:
        identifier = data[at]
        at = property_end(data, at, end, allowed)
        if seen >> identifier & 1 and allowed[identifier] & 8 == 0:  # _REPEATABLE
            raise PacketError(Fault.PROPERTY, f"property 0x{identifier:02X} stands twice in a packet")
        seen |= one << identifier
    return seen


def find_property(data: bytes, at: int, end: int, identifier: int, allowed: bytes) -> int:
    """The offset of the property's identifier byte in properties that were checked before; 0: not there."""
    while at < end:
        if data[at] == identifier:
            return at
        at = property_end(data, at, end, allowed)
    return 0


Value = int | str | bytes | tuple[str, str]
Properties = list[tuple[PropertyId, Value]]


def read_properties(
    data: bytes, at: int, end: int, packet_type: int, most_user_properties: int = LARGEST_REMAINING
) -> tuple[Properties, int]:
    """The properties whose length stands at `at`, checked, and the offset behind them.

    User properties beyond `most_user_properties` are a PacketError before they cost anything.
    """
    behind = variable_end(data, at, end)
    stop = behind + variable_value(data, at, behind)
    if stop > end:
        raise PacketError(Fault.TRUNCATED, "the properties reach beyond the packet's end")
    allowed = ALLOWED[packet_type]
    check_properties(data, behind, stop, allowed)
    found: Properties = []
    at = behind
    while at < stop:
        identifier = PropertyId(data[at])
        if identifier is _P.USER_PROPERTY:
            most_user_properties -= 1
            if most_user_properties < 0:
                raise PacketError(Fault.USER_PROPERTIES, "more user properties than are taken")
        property_stop = property_end(data, at, stop, allowed)
        value = _value(data, at + 1, property_stop, _KINDS[identifier])
        _check_range(identifier, value, packet_type)
        found.append((identifier, value))
        at = property_stop
    return found, stop


def _value(data: bytes, at: int, stop: int, kind: Kind) -> Value:
    if kind is Kind.TEXT:
        return data[at + 2 : stop].decode()
    if kind is Kind.BINARY:
        return data[at + 2 : stop]
    if kind is Kind.PAIR:
        middle = field_end(data, at, stop)
        return data[at + 2 : middle].decode(), data[middle + 2 : stop].decode()
    if kind is Kind.VARIABLE:
        return variable_value(data, at, stop)
    return int.from_bytes(data[at:stop], "big")


def _check_range(identifier: PropertyId, value: Value, packet_type: int) -> None:
    if _KINDS[identifier] is Kind.BYTE and value not in (0, 1):
        raise PacketError(Fault.PROPERTY, f"property 0x{identifier:02X} must be 0 or 1")
    if value == 0 and identifier in _NOT_ZERO:
        raise PacketError(Fault.PROPERTY, f"property 0x{identifier:02X} must not be 0")
    if identifier is _P.RESPONSE_TOPIC and isinstance(value, str) and (not value or set("+#") & set(value)):
        raise PacketError(Fault.TOPIC, "the response topic is empty or holds a wildcard")


def write_properties(properties: Iterable[tuple[PropertyId, Value]]) -> bytes:
    """The bytes of properties, their length in front; ValueError for a value that does not fit its kind."""
    out = bytearray()
    for identifier, value in properties:
        out.append(identifier)
        out += _encode(_KINDS[identifier], value)
    return encode_length(len(out)) + bytes(out)


def _encode(kind: Kind, value: Value) -> bytes:
    match kind, value:
        case Kind.BYTE | Kind.TWO_BYTES | Kind.FOUR_BYTES, int() if 0 <= value < 256 ** _WIDTHS[kind]:
            return value.to_bytes(_WIDTHS[kind], "big")
        case Kind.VARIABLE, int():
            return encode_length(value)
        case Kind.TEXT, str():
            return write_text(value)
        case Kind.BINARY, bytes():
            return write_binary(value)
        case Kind.PAIR, (name, text):
            return write_text(name) + write_text(text)
    raise ValueError(f"{value!r} cannot be written as {kind.name}")


def get(properties: Properties, identifier: PropertyId) -> Value | None:
    """The value of a property that stands at most once; None where it is absent."""
    return next((value for name, value in properties if name is identifier), None)


def user_properties(properties: Properties) -> int:
    """How many of them are user properties."""
    return sum(name is PropertyId.USER_PROPERTY for name, _ in properties)


def replaced(properties: Properties, identifier: PropertyId, value: Value | None) -> Properties:
    """The properties with this one set to `value`, or without it for None; the others keep their order."""
    kept: Properties = [pair for pair in properties if pair[0] is not identifier]
    return kept if value is None else [*kept, (identifier, value)]
