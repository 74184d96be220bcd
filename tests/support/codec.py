"""The checks that the test of every packet module makes on its examples and its malformed packets."""

import pytest

from support.malformed import Malformed
from support.packets import Example, read_any, read_whole, write_any
from tidegate.mqtt.errors import PacketError
from tidegate.mqtt.framing import Frame


def reads_and_writes(example: Example) -> None:
    """It reads as what it means, also amid other bytes, and is written as it was."""
    assert read_whole(example.wire, example.version, example.from_client) == example.packet
    frame = Frame()
    assert frame.read(b"\xff\x00" + example.wire, 2)
    around = b"\xff\x00" + example.wire + b"\xff\xff"
    found = read_any(around, 2, frame.body, frame.end, example.version, example.from_client)
    assert found == example.packet
    assert write_any(example.packet, example.version) in (None, example.wire)


def shortened(example: Example) -> list[int]:
    """The lengths at which the packet, cut there and framed as whole, still reads as valid."""
    frame = Frame()
    assert frame.read(example.wire, 0)
    valid = []
    for end in range(frame.body, frame.end):
        try:
            read_any(example.wire[:end], 0, frame.body, end, example.version, example.from_client)
        except PacketError:
            continue
        valid.append(end - frame.body)
    return valid


def bounded(example: Example) -> None:
    """A reader sees nothing beyond its packet's end: what stands there changes neither value nor error."""
    frame = Frame()
    assert frame.read(example.wire, 0)
    for end in range(frame.body, frame.end):
        outcomes = set()
        for behind in (b"", b"\x00" * 8, b"\xff" * 8):
            data = example.wire[:end] + behind
            try:
                found = repr(read_any(data, 0, frame.body, end, example.version, example.from_client))
            except PacketError as error:
                found = f"{error.fault} {error.text}"
            outcomes.add(found)
        assert len(outcomes) == 1, (end, outcomes)


def refuses(case: Malformed) -> None:
    """It raises the one error, with the fault and the reason that the table says."""
    frame = Frame()
    assert frame.read(case.wire, 0)
    with pytest.raises(PacketError) as caught:
        read_any(case.wire, 0, frame.body, frame.end, case.version, case.from_client)
    assert (caught.value.fault, caught.value.reason) == (case.fault, case.reason), caught.value.text
