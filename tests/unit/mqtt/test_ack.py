import pytest

from support.codec import bounded, reads_and_writes, refuses, shortened
from support.malformed import ACKS, Malformed
from support.packets import Acked, Example, examples, read_whole
from tidegate.mqtt.ack import Ack, write_ack
from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.properties import PropertyId
from tidegate.mqtt.reasons import PacketType

KINDS = (PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP)
EXAMPLES = examples(*KINDS)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_reads(example: Example) -> None:
    reads_and_writes(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_every_truncation_is_refused(example: Example) -> None:
    # Section 3.4.2: without properties, and without a reason, the packet is the same in a shorter form.
    body = len(example.wire) - 2
    assert shortened(example) == [size for size in (2, 3) if size < body]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_nothing_is_read_beyond_the_end(example: Example) -> None:
    bounded(example)


@pytest.mark.parametrize("case", ACKS, ids=lambda c: c.name)
def test_malformed(case: Malformed) -> None:
    refuses(case)


@pytest.mark.parametrize("kind", KINDS)
def test_writes(kind: PacketType) -> None:
    first = kind << 4 | (2 if kind == PacketType.PUBREL else 0)
    reason = 0x92 if kind >= PacketType.PUBREL else 0x97
    assert write_ack(kind, 0x1234) == bytes([first, 2, 0x12, 0x34])
    assert write_ack(kind, 1, reason) == bytes([first, 3, 0, 1, reason])
    told = write_ack(kind, 1, reason, [(PropertyId.REASON_STRING, "no")])
    assert told == bytes([first, 9, 0, 1, reason]) + b"\x05\x1f\x00\x02no"
    assert read_whole(told, 5, True) == Acked(kind, 1, reason)
    assert write_ack(kind, 1, 0, [(PropertyId.REASON_STRING, "")])[4:] == b"\x00\x03\x1f\x00\x00"


# Tables 3-4 to 3-7 of MQTT 5.
RECEIVED = [0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]
RELEASED = [0, 0x92]


@pytest.mark.parametrize("kind", KINDS)
def test_reasons(kind: PacketType) -> None:
    allowed = RECEIVED if kind <= PacketType.PUBREC else RELEASED
    ack = Ack()
    for reason in range(256):
        wire = bytes([kind << 4 | (2 if kind == PacketType.PUBREL else 0), 3, 0, 1, reason])
        if reason in allowed:
            ack.read(wire, 0, 2, 5, 5)
            assert ack.reason == reason
        else:
            with pytest.raises(PacketError) as caught:
                ack.read(wire, 0, 2, 5, 5)
            assert caught.value.fault is Fault.REASON_CODE


def test_a_reading_leaves_nothing_for_the_next() -> None:
    ack = Ack()
    ack.read(b"\x40\x03\x00\x07\x97", 0, 2, 5, 5)
    ack.read(b"\x40\x02\x00\x08", 0, 2, 4, 5)
    assert (ack.packet_id, ack.reason) == (8, 0)
