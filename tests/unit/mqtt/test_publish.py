import pytest

from support.codec import bounded, reads_and_writes, refuses
from support.malformed import PUBLISHES, Malformed
from support.packets import CLIENT, SERVER, Example, Message, examples, read_message, read_whole
from tidegate.mqtt.errors import PacketError
from tidegate.mqtt.framing import Frame, packet
from tidegate.mqtt.publish import Publish
from tidegate.mqtt.reasons import PacketType

EXAMPLES = examples(PacketType.PUBLISH)


def head(example: Example) -> int:
    """Where the payload begins."""
    assert isinstance(example.packet, Message)
    return len(example.wire) - len(example.packet.payload)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_reads(example: Example) -> None:
    reads_and_writes(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_every_truncation_of_the_head_is_refused(example: Example) -> None:
    for end in range(2, head(example)):
        with pytest.raises(PacketError):
            read_message(example.wire[:end], 0, 2, end, example.version, example.from_client)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_what_has_not_arrived_is_waited_for(example: Example) -> None:
    publish = Publish()
    for size in range(2, len(example.wire) + 1):
        done = publish.read(example.wire[:size], 0, 2, len(example.wire), example.version, example.from_client)
        assert done == (size >= head(example))
        if done:
            assert publish.payload == head(example)
        else:
            assert size < publish.needed <= head(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_nothing_is_read_beyond_the_end(example: Example) -> None:
    bounded(example)


@pytest.mark.parametrize("case", PUBLISHES, ids=lambda c: f"{c.name} {c.version}")
def test_malformed(case: Malformed) -> None:
    refuses(case)


@pytest.mark.parametrize("case", PUBLISHES, ids=lambda c: f"{c.name} {c.version}")
def test_malformed_byte_by_byte(case: Malformed) -> None:
    def arrive(frame: Frame) -> None:
        for size in range(frame.body, frame.end + 1):
            read_message(case.wire[:size], 0, frame.body, frame.end, case.version, case.from_client)

    frame = Frame()
    assert frame.read(case.wire, 0)
    with pytest.raises(PacketError) as caught:
        arrive(frame)
    assert caught.value.fault is case.fault


def test_many_properties() -> None:
    # More than one byte of length, and identifiers on both sides of 32.
    properties = b"\x03\x00\x02ab\x23\x00\x05" + b"\x26\x00\x03key\x00\x05value" * 20
    wire = packet(0x32, b"\x00\x01t\x00\x09\x8c\x02" + properties + b"payload")
    assert len(properties) == 2 << 7 | 0x0C
    assert read_whole(wire, 5, CLIENT) == Message("t", b"payload", 1, False, False, 9, properties, 5)


def test_identifiers_do_not_fall_together() -> None:
    # 0x23 and 0x03 are the same modulo 32: no property is another's double.
    read_whole(packet(0x30, b"\x00\x01t\x06\x03\x00\x00\x23\x00\x01"), 5, CLIENT)
    read_whole(packet(0x30, b"\x00\x01t\x06\x23\x00\x01\x03\x00\x00"), 5, CLIENT)


@pytest.mark.parametrize(
    ("topic", "properties", "kept"),
    [
        (b"", b"\x23\x00\x07", b""),
        (b"old", b"\x23\x00\x07", b""),
        (b"", b"\x01\x01\x23\x00\x07", b"\x01\x01"),
        (b"", b"\x23\x00\x07\x01\x01", b"\x01\x01"),
        (b"", b"\x26\x00\x01#\x00\x01#\x23\x00\x07\x01\x01", b"\x26\x00\x01#\x00\x01#\x01\x01"),
        (b"", b"\x03\x00\x7d" + b"c" * 125 + b"\x23\x00\x07", b"\x03\x00\x7d" + b"c" * 125),
    ],
)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_without_alias(topic: bytes, properties: bytes, kept: bytes, qos: int) -> None:
    identifier = b"\x00\x09" if qos else b""
    size = bytes([len(properties)]) if len(properties) < 128 else bytes([len(properties) - 128 | 128, 1])
    body = len(topic).to_bytes(2, "big") + topic + identifier + size + properties + b"payload"
    wire = packet(0x30 | qos << 1, body)
    frame = Frame()
    assert frame.read(wire, 0)
    publish = Publish()
    arrived = wire[:-4]  # the payload's rest is still to come
    assert publish.read(arrived, 0, frame.body, frame.end, 5, CLIENT)
    assert publish.alias == 7
    new = publish.without_alias(arrived, 0, frame.end, b"plant/1")
    kept_size = bytes([len(kept)]) if len(kept) < 128 else bytes([len(kept) - 128 | 128, 1])
    assert new + b"payload" == packet(0x30 | qos << 1, b"\x00\x07plant/1" + identifier + kept_size + kept + b"payload")


def test_a_reading_leaves_nothing_for_the_next() -> None:
    publish = Publish()
    first = packet(0x3B, b"\x00\x01t\x00\x09\x03\x23\x00\x07x")
    assert publish.read(first, 0, 2, len(first), 5, CLIENT)
    second = packet(0x30, b"\x00\x01u\x00x")
    assert publish.read(second, 0, 2, len(second), 5, SERVER)
    assert (publish.qos, publish.dup, publish.retain, publish.packet_id) == (0, False, False, 0)
    assert (publish.alias, publish.alias_at) == (0, 0)
