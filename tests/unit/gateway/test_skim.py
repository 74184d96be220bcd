import pytest

from tidegate.gateway.skim import Skim
from tidegate.mqtt.errors import PacketError

PINGRESP = b"\xd0\x00"
PUBLISH = b"\x30\x08\x00\x01t" + PINGRESP * 2 + b"x"
LONG = b"\x30\x80\x01" + b"\xd0\x00" * 64
"""Its payload looks like answers, and is none."""


def test_pings_are_counted_among_other_packets() -> None:
    skim = Skim(0, b"", 2)
    assert not skim.feed(PUBLISH + PINGRESP + PUBLISH)
    assert skim.feed(PINGRESP)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_packets_may_come_in_any_pieces(size: int) -> None:
    stream = LONG + PINGRESP + PUBLISH + LONG + PINGRESP
    skim = Skim(0, b"", 2)
    told = [skim.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    assert told.index(True) == len(told) - 1


@pytest.mark.parametrize("came", range(len(LONG) + 1))
def test_it_goes_on_within_a_packet(came: int) -> None:
    """Of which the connection has had a part: either it knows how much is to come, or it has kept it."""
    for skim in (Skim(0, LONG[:came], 1), Skim(len(LONG) - came, b"", 1)):
        assert not skim.feed(LONG[came:])
        assert skim.feed(PINGRESP)


def test_what_is_no_mqtt_is_an_error() -> None:
    with pytest.raises(PacketError):
        Skim(0, b"", 1).feed(b"\xd0\xff\xff\xff\xff\xff")
