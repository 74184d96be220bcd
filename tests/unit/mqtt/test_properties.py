import pytest

from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.properties import (
    ALLOWED,
    WILL,
    Properties,
    PropertyId,
    Value,
    check_properties,
    find_property,
    get,
    property_end,
    read_properties,
    replaced,
    user_properties,
    variable_end,
    variable_value,
    write_properties,
)
from tidegate.mqtt.reasons import PacketType

P = PropertyId
T = PacketType

# Table 2-4 of MQTT 5, written down a second time: a value, its bytes, and the packets that may carry it.
ACKS = {T.PUBACK, T.PUBREC, T.PUBREL, T.PUBCOMP, T.SUBACK, T.UNSUBACK}
TABLE: list[tuple[PropertyId, Value, bytes, set[int]]] = [
    (P.PAYLOAD_FORMAT_INDICATOR, 1, b"\x01\x01", {T.PUBLISH, WILL}),
    (P.MESSAGE_EXPIRY_INTERVAL, 1 << 31, b"\x02\x80\x00\x00\x00", {T.PUBLISH, WILL}),
    (P.CONTENT_TYPE, "é", b"\x03\x00\x02\xc3\xa9", {T.PUBLISH, WILL}),
    (P.RESPONSE_TOPIC, "r", b"\x08\x00\x01r", {T.PUBLISH, WILL}),
    (P.CORRELATION_DATA, b"\x00\xff", b"\x09\x00\x02\x00\xff", {T.PUBLISH, WILL}),
    (P.SUBSCRIPTION_IDENTIFIER, 268_435_455, b"\x0b\xff\xff\xff\x7f", {T.PUBLISH, T.SUBSCRIBE}),
    (P.SESSION_EXPIRY_INTERVAL, 4294967295, b"\x11\xff\xff\xff\xff", {T.CONNECT, T.CONNACK, T.DISCONNECT}),
    (P.ASSIGNED_CLIENT_IDENTIFIER, "c", b"\x12\x00\x01c", {T.CONNACK}),
    (P.SERVER_KEEP_ALIVE, 65535, b"\x13\xff\xff", {T.CONNACK}),
    (P.AUTHENTICATION_METHOD, "m", b"\x15\x00\x01m", {T.CONNECT, T.CONNACK, T.AUTH}),
    (P.AUTHENTICATION_DATA, b"", b"\x16\x00\x00", {T.CONNECT, T.CONNACK, T.AUTH}),
    (P.REQUEST_PROBLEM_INFORMATION, 0, b"\x17\x00", {T.CONNECT}),
    (P.WILL_DELAY_INTERVAL, 0, b"\x18\x00\x00\x00\x00", {WILL}),
    (P.REQUEST_RESPONSE_INFORMATION, 1, b"\x19\x01", {T.CONNECT}),
    (P.RESPONSE_INFORMATION, "", b"\x1a\x00\x00", {T.CONNACK}),
    (P.SERVER_REFERENCE, "s", b"\x1c\x00\x01s", {T.CONNACK, T.DISCONNECT}),
    (P.REASON_STRING, "r", b"\x1f\x00\x01r", {T.CONNACK, T.DISCONNECT, T.AUTH} | ACKS),
    (P.RECEIVE_MAXIMUM, 1, b"\x21\x00\x01", {T.CONNECT, T.CONNACK}),
    (P.TOPIC_ALIAS_MAXIMUM, 0, b"\x22\x00\x00", {T.CONNECT, T.CONNACK}),
    (P.TOPIC_ALIAS, 258, b"\x23\x01\x02", {T.PUBLISH}),
    (P.MAXIMUM_QOS, 1, b"\x24\x01", {T.CONNACK}),
    (P.RETAIN_AVAILABLE, 0, b"\x25\x00", {T.CONNACK}),
    (
        P.USER_PROPERTY, ("k", "v"), b"\x26\x00\x01k\x00\x01v",
        {T.CONNECT, T.CONNACK, T.PUBLISH, WILL, T.SUBSCRIBE, T.UNSUBSCRIBE, T.DISCONNECT, T.AUTH} | ACKS,
    ),
    (P.MAXIMUM_PACKET_SIZE, 1, b"\x27\x00\x00\x00\x01", {T.CONNECT, T.CONNACK}),
    (P.WILDCARD_SUBSCRIPTION_AVAILABLE, 1, b"\x28\x01", {T.CONNACK}),
    (P.SUBSCRIPTION_IDENTIFIER_AVAILABLE, 1, b"\x29\x01", {T.CONNACK}),
    (P.SHARED_SUBSCRIPTION_AVAILABLE, 1, b"\x2a\x01", {T.CONNACK}),
]  # fmt: skip
WIRES = {identifier: wire for identifier, _, wire, _ in TABLE}


def framed(wire: bytes) -> bytes:
    return bytes([len(wire)]) + wire


def fault_of(data: bytes, packet_type: int) -> Fault:
    with pytest.raises(PacketError) as caught:
        read_properties(data, 0, len(data), packet_type)
    return caught.value.fault


def test_the_table_is_whole() -> None:
    assert set(WIRES) == set(PropertyId)


@pytest.mark.parametrize(("identifier", "value", "wire", "packets"), TABLE, ids=lambda v: getattr(v, "name", ""))
def test_every_property_in_every_packet(identifier: PropertyId, value: Value, wire: bytes, packets: set[int]) -> None:
    assert write_properties([(identifier, value)]) == framed(wire)
    for packet_type in range(16):
        if packet_type in packets:
            assert read_properties(framed(wire), 0, 1 + len(wire), packet_type) == (
                [(identifier, value)], 1 + len(wire),
            )  # fmt: skip
            assert check_properties(wire, 0, len(wire), ALLOWED[packet_type]) == 1 << identifier
            for end in range(1, len(wire)):
                assert fault_of(framed(wire[:end]), packet_type) is Fault.TRUNCATED
        else:
            assert fault_of(framed(wire), packet_type) is Fault.FOREIGN_PROPERTY


@pytest.mark.parametrize("packet_type", range(16))
def test_repetition(packet_type: int) -> None:
    for identifier, value, wire, packets in TABLE:
        if packet_type not in packets:
            continue
        repeatable = identifier is P.USER_PROPERTY or (
            identifier is P.SUBSCRIPTION_IDENTIFIER and packet_type == T.PUBLISH
        )
        if repeatable:
            assert read_properties(framed(wire * 2), 0, 1 + 2 * len(wire), packet_type)[0] == [
                (identifier, value), (identifier, value),
            ]  # fmt: skip
        else:
            assert fault_of(framed(wire * 2), packet_type) is Fault.PROPERTY


@pytest.mark.parametrize("packet_type", range(16))
def test_all_that_a_packet_may_carry_at_once(packet_type: int) -> None:
    """No property is taken for another, whatever their identifiers have in common."""
    carried = [row for row in TABLE if packet_type in row[3]]
    wire = b"".join(row[2] for row in carried)
    seen = check_properties(wire, 0, len(wire), ALLOWED[packet_type])
    assert seen == sum(1 << row[0] for row in carried)
    properties, end = read_properties(framed(wire), 0, 1 + len(wire), packet_type)
    assert properties == [row[:2] for row in carried]
    assert end == 1 + len(wire)
    at = 0
    for identifier, _, one, _ in carried:
        assert find_property(b"\xff" + wire, 1, 1 + len(wire), identifier, ALLOWED[packet_type]) == 1 + at
        at += len(one)
    assert find_property(b"\xff" + wire, 1, 1 + len(wire), 0x7F, ALLOWED[packet_type]) == 0


def test_unknown_identifiers() -> None:
    for identifier in set(range(256)) - set(PropertyId):
        for packet_type in range(16):
            with pytest.raises(PacketError) as caught:
                property_end(bytes([identifier, 0, 0, 0, 0]), 0, 5, ALLOWED[packet_type])
            assert caught.value.fault is Fault.FOREIGN_PROPERTY


@pytest.mark.parametrize(
    ("packet_type", "wire", "fault"),
    [
        (T.CONNECT, b"\x21\x00\x00", Fault.PROPERTY),
        (T.CONNECT, b"\x27\x00\x00\x00\x00", Fault.PROPERTY),
        (T.CONNECT, b"\x17\x02", Fault.PROPERTY),
        (T.CONNACK, b"\x24\x02", Fault.PROPERTY),
        (T.PUBLISH, b"\x23\x00\x00", Fault.PROPERTY),
        (T.PUBLISH, b"\x0b\x00", Fault.PROPERTY),
        (T.SUBSCRIBE, b"\x0b\x00", Fault.PROPERTY),
        (T.SUBSCRIBE, b"\x0b\x80\x00", Fault.LENGTH),
        (T.SUBSCRIBE, b"\x0b\xff\xff\xff\xff\x7f", Fault.LENGTH),
        (WILL, b"\x01\x02", Fault.PROPERTY),
        (WILL, b"\x08\x00\x00", Fault.TOPIC),
        (WILL, b"\x08\x00\x01+", Fault.TOPIC),
        (WILL, b"\x08\x00\x03a/#", Fault.TOPIC),
        (WILL, b"\x03\x00\x01\x00", Fault.UTF8),
        (T.AUTH, b"\x26\x00\x01\xff\x00\x00", Fault.UTF8),
        (T.AUTH, b"\x26\x00\x00\x00\x01\x00", Fault.UTF8),
    ],
)
def test_values_out_of_range(packet_type: int, wire: bytes, fault: Fault) -> None:
    assert fault_of(framed(wire), packet_type) is fault


def test_bad_lengths() -> None:
    assert fault_of(b"", T.CONNECT) is Fault.TRUNCATED
    assert fault_of(b"\x80", T.CONNECT) is Fault.TRUNCATED
    assert fault_of(b"\x80\x00", T.CONNECT) is Fault.LENGTH
    assert fault_of(b"\x80\x80\x80\x80\x01", T.CONNECT) is Fault.LENGTH
    assert fault_of(b"\x03\x21\x00", T.CONNECT) is Fault.TRUNCATED


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (b"\x00", 0), (b"\x7f", 127), (b"\x80\x01", 128), (b"\xff\x7f", 16383), (b"\x80\x80\x01", 16384),
        (b"\xff\xff\x7f", 2097151), (b"\x80\x80\x80\x01", 2097152), (b"\xff\xff\xff\x7f", 268435455),
    ],
)  # fmt: skip
def test_variable_byte_integers(wire: bytes, value: int) -> None:
    data = b"\xff" + wire + b"\xff"
    end = variable_end(data, 1, len(data))
    assert end == 1 + len(wire)
    assert variable_value(data, 1, end) == value
    for cut in range(1, end):
        with pytest.raises(PacketError) as caught:
            variable_end(data, 1, cut)
        assert caught.value.fault is Fault.TRUNCATED


@pytest.mark.parametrize(
    ("identifier", "value"),
    [
        (P.MAXIMUM_QOS, 256), (P.MAXIMUM_QOS, -1), (P.RECEIVE_MAXIMUM, 65536), (P.MAXIMUM_PACKET_SIZE, 1 << 32),
        (P.SUBSCRIPTION_IDENTIFIER, 1 << 28), (P.REASON_STRING, "x" * 65536), (P.REASON_STRING, b"x"),
        (P.AUTHENTICATION_DATA, bytes(65536)), (P.AUTHENTICATION_DATA, "x"), (P.RECEIVE_MAXIMUM, "1"),
        (P.USER_PROPERTY, "x"), (P.USER_PROPERTY, ("k", "v" * 65536)),
    ],
)  # fmt: skip
def test_values_that_cannot_be_written(identifier: PropertyId, value: Value) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        write_properties([(identifier, value)])


def test_get_and_replaced() -> None:
    properties: Properties = [(P.RECEIVE_MAXIMUM, 1), (P.USER_PROPERTY, ("k", "v")), (P.TOPIC_ALIAS_MAXIMUM, 2)]
    assert get(properties, P.TOPIC_ALIAS_MAXIMUM) == 2
    assert get(properties, P.MAXIMUM_PACKET_SIZE) is None
    assert replaced(properties, P.RECEIVE_MAXIMUM, None) == properties[1:]
    assert replaced(properties, P.RECEIVE_MAXIMUM, 5) == [*properties[1:], (P.RECEIVE_MAXIMUM, 5)]
    assert replaced(properties, P.MAXIMUM_PACKET_SIZE, 9) == [*properties, (P.MAXIMUM_PACKET_SIZE, 9)]


def test_user_properties_are_counted_and_bounded() -> None:
    pair: tuple[PropertyId, Value] = (P.USER_PROPERTY, ("k", "v"))
    properties: Properties = [pair, (P.RECEIVE_MAXIMUM, 1), pair]
    data = write_properties(properties)
    assert user_properties(properties) == 2
    assert read_properties(data, 0, len(data), T.CONNECT, 2) == (properties, len(data))
    with pytest.raises(PacketError) as caught:
        read_properties(data, 0, len(data), T.CONNECT, 1)
    assert caught.value.fault is Fault.USER_PROPERTIES
