from dataclasses import replace

import pytest

from support.codec import bounded, reads_and_writes, refuses, shortened
from support.malformed import CONNECTS, Malformed
from support.packets import Example, examples
from tidegate.mqtt.connect import MOST_USER_PROPERTIES, Connect, Will, peek_version
from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.framing import Frame, packet
from tidegate.mqtt.properties import Properties, PropertyId
from tidegate.mqtt.reasons import PacketType

EXAMPLES = examples(PacketType.CONNECT)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_reads_and_writes(example: Example) -> None:
    reads_and_writes(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_every_truncation_is_refused(example: Example) -> None:
    # 3.1 allows a user name's flag without the field, and a password's: two cuts of the full example are valid.
    assert shortened(example) == ([26, 29] if example.name == "connect 3.1, all there is" else [])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_nothing_is_read_beyond_the_end(example: Example) -> None:
    bounded(example)


@pytest.mark.parametrize("case", CONNECTS, ids=lambda c: c.name)
def test_malformed(case: Malformed) -> None:
    refuses(case)


def read(body: bytes) -> Connect:
    wire = packet(0x10, body)
    return Connect.read(wire, 0, 2, len(wire))


def test_31_disregards_what_it_does_not_use() -> None:
    assert read(b"\x00\x06MQIsdp\x03\x3b\x00\x00\x00\x01c") == Connect(3, False, True, 0, "c")


def test_31_user_name_and_password_may_be_missing() -> None:
    assert read(b"\x00\x06MQIsdp\x03\xc2\x00\x00\x00\x01c") == Connect(3, False, True, 0, "c")
    assert read(b"\x00\x06MQIsdp\x03\xc2\x00\x00\x00\x01c\x00\x01u") == Connect(3, False, True, 0, "c", "u")


def test_long_identifiers_of_31_are_the_brokers_to_judge() -> None:
    connect = Connect(3, False, True, 0, "c" * 1000)
    wire = connect.write()
    frame = Frame()
    assert frame.read(wire, 0)
    assert Connect.read(wire, 0, frame.body, frame.end) == connect


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_version_is_told_as_soon_as_the_level_is_there(example: Example) -> None:
    level = example.wire.index(b"MQ") + (6 if example.version == 3 else 4)
    for size in range(2, len(example.wire)):
        expected = example.version if size > level else 0
        assert peek_version(example.wire[:size], 2, len(example.wire)) == expected
        assert peek_version(example.wire, 2, size) == expected


@pytest.mark.parametrize("case", CONNECTS, ids=lambda c: c.name)
def test_version_of_a_malformed_packet(case: Malformed) -> None:
    known = any(name in case.wire for name in (b"MQIsdp\x03", b"MQTT\x04", b"MQTT\x05"))
    assert peek_version(case.wire, 2, len(case.wire)) == (case.version if known else 0)


def test_what_the_client_offers() -> None:
    silent = Connect(5, False, True, 0, "c")
    assert silent.receive_maximum == 65535
    assert silent.maximum_packet_size == 0
    assert silent.request_problem_information is True
    assert silent.authentication_method is None
    told = replace(
        silent,
        properties=[
            (PropertyId.RECEIVE_MAXIMUM, 7),
            (PropertyId.MAXIMUM_PACKET_SIZE, 100),
            (PropertyId.REQUEST_PROBLEM_INFORMATION, 0),
            (PropertyId.AUTHENTICATION_METHOD, "SCRAM"),
        ],
    )
    assert told.receive_maximum == 7
    assert told.maximum_packet_size == 100
    assert told.request_problem_information is False
    assert told.authentication_method == "SCRAM"


def test_a_field_that_is_too_long_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="65536 bytes cannot be written"):
        Connect(4, False, True, 0, "c" * 65536).write()
    with pytest.raises(ValueError, match="70000 bytes cannot be written"):
        Connect(4, False, True, 0, "", will=Will("t", bytes(70000), 0, False)).write()


@pytest.mark.parametrize("wills", [0, 1, MOST_USER_PROPERTIES])
def test_so_many_user_properties_are_read_and_no_more(wills: int) -> None:
    one: Properties = [(PropertyId.USER_PROPERTY, ("k", "v"))]

    def read_again(own: int) -> Connect:
        will = Will("t", b"", 0, False, one * wills)
        wire = Connect(5, False, True, 0, "c", will=will, properties=one * own).write()
        frame = Frame()
        assert frame.read(wire, 0)
        return Connect.read(wire, 0, frame.body, frame.end)

    most = MOST_USER_PROPERTIES - wills
    assert len(read_again(most).properties) == most
    with pytest.raises(PacketError) as caught:
        read_again(most + 1)
    assert caught.value.fault is Fault.USER_PROPERTIES
