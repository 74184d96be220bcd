import pytest

from support.codec import bounded, reads_and_writes, refuses, shortened
from support.malformed import SESSIONS, Malformed
from support.packets import CLIENT, SERVER, Example, examples
from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.session import PINGREQ, PINGRESP, Auth, Disconnect, check_ping

EXAMPLES = examples(PacketType.PINGREQ, PacketType.PINGRESP, PacketType.DISCONNECT, PacketType.AUTH)

# The shorter forms that section 3.14.2 gives to the same packet.
SHORTER = {
    "disconnect 5, with its will": [0],
    "disconnect 5, another expiry": [0, 1],
    "disconnect 5, moved": [0, 1],
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_reads_and_writes(example: Example) -> None:
    reads_and_writes(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_every_truncation_is_refused(example: Example) -> None:
    assert shortened(example) == SHORTER.get(example.name, [])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_nothing_is_read_beyond_the_end(example: Example) -> None:
    bounded(example)


@pytest.mark.parametrize("case", SESSIONS, ids=lambda c: f"{c.name} {c.version}")
def test_malformed(case: Malformed) -> None:
    refuses(case)


def test_pings() -> None:
    for wire in (PINGREQ, PINGRESP):
        check_ping(wire, 0, 2, 2)
    assert (PINGREQ, PINGRESP) == (b"\xc0\x00", b"\xd0\x00")


# Table 3-10 of MQTT 5, and 0x8C of table 2-6.
EITHER = {0, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}
BY_SENDER = {
    CLIENT: EITHER | {4},
    SERVER: EITHER | {0x87, 0x89, 0x8B, 0x8C, 0x8D, 0x8E, 0x8F} | set(range(0x9A, 0xA3)),
}


@pytest.mark.parametrize("from_client", [CLIENT, SERVER])
def test_reasons_of_disconnect(from_client: bool) -> None:
    for reason in range(256):
        wire = bytes([0xE0, 1, reason])
        if reason in BY_SENDER[from_client]:
            assert Disconnect.read(wire, 0, 2, 3, 5, from_client) == Disconnect(reason)
        else:
            with pytest.raises(PacketError) as caught:
                Disconnect.read(wire, 0, 2, 3, 5, from_client)
            assert caught.value.fault is Fault.REASON_CODE


@pytest.mark.parametrize(("from_client", "allowed"), [(CLIENT, {0x18, 0x19}), (SERVER, {0, 0x18})])
def test_reasons_of_auth(from_client: bool, allowed: set[int]) -> None:
    for reason in range(256):
        wire = bytes([0xF0, 6, reason]) + b"\x04\x15\x00\x01m"
        if reason in allowed:
            assert Auth.read(wire, 0, 2, 8, from_client).reason == reason
        else:
            with pytest.raises(PacketError) as caught:
                Auth.read(wire, 0, 2, 8, from_client)
            assert caught.value.fault is Fault.REASON_CODE
