import pytest

from support.packets import EXAMPLES, cut
from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.framing import LARGEST_REMAINING, Frame, encode_length, packet
from tidegate.mqtt.reasons import ReasonCode

STREAM = [example.wire for example in EXAMPLES] + [packet(0x30, b"\x00\x01t" + bytes(size)) for size in (124, 125, 400)]

# The bounds of table 1-1.
LENGTHS = [
    (0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (16_383, b"\xff\x7f"), (16_384, b"\x80\x80\x01"),
    (2_097_151, b"\xff\xff\x7f"), (2_097_152, b"\x80\x80\x80\x01"), (268_435_455, b"\xff\xff\xff\x7f"),
]  # fmt: skip


@pytest.mark.parametrize(("length", "wire"), LENGTHS)
def test_lengths(length: int, wire: bytes) -> None:
    assert encode_length(length) == wire
    frame = Frame()
    for size in range(len(wire) + 1):
        assert frame.read(b"\x30" + wire[:size], 0) == (size == len(wire))
    assert (frame.body, frame.end) == (1 + len(wire), 1 + len(wire) + length)


@pytest.mark.parametrize("length", [-1, LARGEST_REMAINING + 1])
def test_lengths_that_cannot_be_written(length: int) -> None:
    with pytest.raises(ValueError, match="cannot be a remaining length"):
        encode_length(length)


@pytest.mark.parametrize("wire", [b"\x30\x80\x80\x80\x80", b"\xff\xff\xff\xff\xff\xff", b"\x10\x80\x80\x80\x80\x01"])
def test_a_length_of_five_bytes(wire: bytes) -> None:
    frame = Frame()
    for size in range(5):
        assert not frame.read(wire[:size], 0)
    with pytest.raises(PacketError) as caught:
        frame.read(wire, 0)
    assert caught.value.fault is Fault.LENGTH
    assert caught.value.reason is ReasonCode.MALFORMED_PACKET


def test_a_length_may_be_longer_than_it_need_be() -> None:
    # Section 1.5.5 forbids it to the sender only from MQTT 5 on, and no version is known before CONNECT is read.
    frame = Frame()
    assert frame.read(b"\xc0\x80\x80\x00", 0)
    assert (frame.body, frame.end) == (4, 4)


def test_every_truncation_asks_for_more() -> None:
    frame = Frame()
    for wire in STREAM:
        for size in range(len(wire)):
            assert not frame.read(wire[:size], 0) or frame.end == len(wire)


def test_in_the_middle_of_a_stream() -> None:
    frame = Frame()
    assert frame.read(b"\xc0\x00\x30\x03\x00\x01t", 2)
    assert (frame.body, frame.end) == (4, 7)
    assert not frame.read(b"\xc0\x00", 2)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 1 << 20])
def test_any_chunking(size: int) -> None:
    stream = b"".join(STREAM)
    assert cut([stream[i : i + size] for i in range(0, len(stream), size)]) == STREAM
