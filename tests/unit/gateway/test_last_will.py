import pytest

from tidegate.gateway.last_will import Claim, LastWill, size_of
from tidegate.mqtt.connack import Connack
from tidegate.mqtt.connect import Connect, Will
from tidegate.mqtt.framing import packet
from tidegate.mqtt.properties import Properties, PropertyId
from tidegate.mqtt.session import Disconnect

EXPIRY = PropertyId.SESSION_EXPIRY_INTERVAL
FOR_EVER = 0xFFFF_FFFF


class Nobody:
    """An owner of whom nothing is asked."""

    def make_way(self, now: float) -> None:
        raise AssertionError(now)

    def flush(self) -> None:
        raise AssertionError


def made(delay: int | None = None, expiry: int | None = None, version: int = 5) -> LastWill:
    of_will: Properties = [] if delay is None else [(PropertyId.WILL_DELAY_INTERVAL, delay)]
    properties: Properties = [] if expiry is None else [(EXPIRY, expiry)]
    will = Will("t", b"x", 1, True, of_will)
    connect = Connect(version, False, True, 60, "c", None, None, will, properties)
    return LastWill(Nobody(), Claim(b"k", b"i", 1), connect, will, b"")


class TestPatience:
    @pytest.mark.parametrize(
        ("delay", "expiry", "patience"),
        [(None, None, 0), (30, None, 0), (30, 10, 10), (30, 60, 30), (30, FOR_EVER, 30), (None, 60, 0)],
    )
    def test_is_the_brokers_own(self, delay: int | None, expiry: int | None, patience: float) -> None:
        assert made(delay, expiry).patience == patience

    def test_connack_may_say_how_long_the_session_lasts(self) -> None:
        will = made(30, 60)
        will.accept(None, Connack(False, 0, [(EXPIRY, 5)]))  # type: ignore[arg-type]
        assert will.patience == 5

    def test_so_may_disconnect(self) -> None:
        will = made(30, 60)
        will.say(Disconnect(4, [(EXPIRY, 7)]))
        assert will.patience == 7


class TestFarewell:
    def test_of_3(self) -> None:
        assert made(version=4).farewell() == b"\xe0\x00"

    def test_leaves_the_session_as_connect_had_it(self) -> None:
        assert made(30, 60).farewell() == b"\xe0\x00"

    def test_says_what_the_clients_own_disconnect_said(self) -> None:
        will = made(30, 60)
        will.say(Disconnect(4, [(EXPIRY, 7), (PropertyId.REASON_STRING, "bye")]))
        assert will.is_asked_for
        assert will.farewell() == Disconnect(0, [(EXPIRY, 7)]).write()

    def test_a_plain_disconnect_asks_for_nothing(self) -> None:
        will = made()
        will.say(Disconnect())
        assert not will.is_asked_for


@pytest.mark.parametrize("size", [0, 1, 120, 130, 17_000])
@pytest.mark.parametrize("qos", [0, 1])
def test_its_size_is_that_of_the_publish(size: int, qos: int) -> None:
    body = b"\x00\x03t/\xc3" + (b"id" if qos else b"") + bytes(size)
    assert size_of(Will("t/x", bytes(size), qos, False), 4) == len(packet(0x30, body))


def test_in_5_its_properties_count_without_the_delay() -> None:
    properties: Properties = [(PropertyId.WILL_DELAY_INTERVAL, 5), (PropertyId.CONTENT_TYPE, "text")]
    body = b"\x00\x01t" + b"\x07\x03\x00\x04text" + b"x"
    assert size_of(Will("t", b"x", 0, False, properties), 5) == len(packet(0x30, body))
