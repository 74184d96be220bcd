import pytest

from support.codec import bounded, reads_and_writes, refuses, shortened
from support.malformed import CONNACKS, Malformed
from support.packets import Example, examples
from tidegate.mqtt.connack import Connack
from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.reasons import PacketType

EXAMPLES = examples(PacketType.CONNACK)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_reads_and_writes(example: Example) -> None:
    reads_and_writes(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_every_truncation_is_refused(example: Example) -> None:
    assert shortened(example) == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_nothing_is_read_beyond_the_end(example: Example) -> None:
    bounded(example)


@pytest.mark.parametrize("case", CONNACKS, ids=lambda c: c.name)
def test_malformed(case: Malformed) -> None:
    refuses(case)


# Table 3-1 of MQTT 5.
REASONS = [0, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F]


def test_reasons_of_5() -> None:
    for reason in range(256):
        wire = bytes([0x20, 3, 0, reason, 0])
        if reason in REASONS:
            assert Connack.read(wire, 0, 2, 5, 5) == Connack(False, reason)
        else:
            with pytest.raises(PacketError) as caught:
                Connack.read(wire, 0, 2, 5, 5)
            assert caught.value.fault is Fault.REASON_CODE


@pytest.mark.parametrize("version", [3, 4])
def test_return_codes_of_3(version: int) -> None:
    for code in range(6):
        assert Connack.read(bytes([0x20, 2, 0, code]), 0, 2, 4, version) == Connack(False, code)
