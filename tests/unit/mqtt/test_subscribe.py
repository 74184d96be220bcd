from dataclasses import replace

import pytest

from support.codec import bounded, reads_and_writes, refuses, shortened
from support.malformed import SUBACKS, SUBSCRIBES, UNSUBACKS, UNSUBSCRIBES, Malformed
from support.packets import Example, examples
from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.properties import Properties, PropertyId
from tidegate.mqtt.reasons import PacketType, ReasonCode
from tidegate.mqtt.subscribe import (
    MOST_FILTERS,
    MOST_USER_PROPERTIES,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
)

EXAMPLES = examples(PacketType.SUBSCRIBE, PacketType.SUBACK, PacketType.UNSUBSCRIBE, PacketType.UNSUBACK)

# Lists of several: cut between two members, what is left is a valid packet of fewer.
SHORTER = {
    "subscribe 3.1.1": [6],
    "subscribe 5": [18],
    "suback 3.1.1": [3, 4, 5],
    "suback 5": [9],
    "unsubscribe 3.1.1": [5],
    "unsuback 5": [4],
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_reads_and_writes(example: Example) -> None:
    reads_and_writes(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_every_truncation_is_refused(example: Example) -> None:
    assert shortened(example) == SHORTER.get(example.name, [])


def read(wire: bytes, version: int) -> Subscribe | Unsubscribe:
    frame = Frame()
    assert frame.read(wire, 0)
    kind = Subscribe if wire[0] >> 4 == PacketType.SUBSCRIBE else Unsubscribe
    return kind.read(wire, 0, frame.body, frame.end, version)


@pytest.mark.parametrize("version", [3, 4, 5])
def test_filters_are_bounded(version: int) -> None:
    most = Subscribe(1, [Subscription("a", 0)] * MOST_FILTERS), Unsubscribe(1, ["a"] * MOST_FILTERS)
    more = Subscribe(1, [Subscription("a", 0)] * (MOST_FILTERS + 1)), Unsubscribe(1, ["a"] * (MOST_FILTERS + 1))
    for one in most:
        assert read(one.write(version), version) == one
    for one in more:
        with pytest.raises(PacketError) as raised:
            read(one.write(version), version)
        assert (raised.value.fault, raised.value.reason) == (Fault.TOO_LARGE, ReasonCode.QUOTA_EXCEEDED)


def test_user_properties_are_bounded() -> None:
    most: Properties = [(PropertyId.USER_PROPERTY, ("k", "v"))] * MOST_USER_PROPERTIES
    for one in (Subscribe(1, [Subscription("a", 0)], most), Unsubscribe(1, ["a"], most)):
        assert read(one.write(5), 5) == one
        with pytest.raises(PacketError) as raised:
            read(replace(one, properties=[*most, most[0]]).write(5), 5)
        assert (raised.value.fault, raised.value.reason) == (Fault.USER_PROPERTIES, ReasonCode.QUOTA_EXCEEDED)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_nothing_is_read_beyond_the_end(example: Example) -> None:
    bounded(example)


@pytest.mark.parametrize(
    "case", [*SUBSCRIBES, *SUBACKS, *UNSUBSCRIBES, *UNSUBACKS], ids=lambda c: f"{c.name} {c.version}"
)
def test_malformed(case: Malformed) -> None:
    refuses(case)


def test_options() -> None:
    plain = Subscription("t", 0)
    assert (plain.qos, plain.no_local, plain.retain_as_published, plain.retain_handling) == (0, False, False, 0)
    rich = Subscription("t", 0b00101110)
    assert (rich.qos, rich.no_local, rich.retain_as_published, rich.retain_handling) == (2, True, True, 2)


def test_31_lets_requests_be_repeated_with_dup() -> None:
    wire = b"\x8a\x06\x00\x01\x00\x01t\x01"
    assert Subscribe.read(wire, 0, 2, 8, 3) == Subscribe(1, [Subscription("t", 1)])
    wire = b"\xaa\x05\x00\x01\x00\x01t"
    assert Unsubscribe.read(wire, 0, 2, 7, 3) == Unsubscribe(1, ["t"])


# Tables 3-8 and 3-9 of MQTT 5.
SUBACK_REASONS = [0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2]
UNSUBACK_REASONS = [0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91]


@pytest.mark.parametrize(("first", "allowed"), [(0x90, SUBACK_REASONS), (0xB0, UNSUBACK_REASONS)])
def test_reasons(first: int, allowed: list[int]) -> None:
    kind = Suback if first == 0x90 else Unsuback
    for reason in range(256):
        wire = bytes([first, 4, 0, 1, 0, reason])
        if reason in allowed:
            assert kind.read(wire, 0, 2, 6, 5).reasons == [reason]
        else:
            with pytest.raises(PacketError) as caught:
                kind.read(wire, 0, 2, 6, 5)
            assert caught.value.fault is Fault.REASON_CODE
