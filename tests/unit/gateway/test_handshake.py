import pytest

from support.playbook import connack, connect
from tidegate.gateway.aliases import ALIAS_MAXIMUM
from tidegate.gateway.handshake import NO_LIMIT, Offer, client_connack, is_longer, number, upstream_connect
from tidegate.mqtt.connack import Connack
from tidegate.mqtt.connect import Connect
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.properties import Properties, PropertyId, get
from tidegate.mqtt.reasons import ReasonCode

P = PropertyId
MAX_PACKET = 1 << 20


def read_connect(wire: bytes) -> Connect:
    frame = Frame()
    assert frame.read(wire, 0)
    assert frame.end == len(wire)
    return Connect.read(wire, 0, frame.body, frame.end)


def read_connack(wire: bytes, version: int = 5) -> Connack:
    frame = Frame()
    assert frame.read(wire, 0)
    assert frame.end == len(wire)
    return Connack.read(wire, 0, frame.body, frame.end, version)


def offer(
    properties: Properties | None = None,
    *,
    version: int = 5,
    reason: int = 0,
    max_packet: int = MAX_PACKET,
    client_packet: int = NO_LIMIT,
    hold: int = 0,
    keepalive: int = 0,
    max_keepalive: int = 0,
) -> Offer:
    received = connack(version, reason, properties)
    return client_connack(
        read_connack(received, version), received, version, max_packet, client_packet, hold, keepalive, max_keepalive
    )


def offered(made: Offer) -> Properties:
    return read_connack(made.wire).properties


def test_number_is_the_property_or_the_default() -> None:
    assert number([(P.RECEIVE_MAXIMUM, 7)], P.RECEIVE_MAXIMUM, 1) == 7
    assert number([], P.RECEIVE_MAXIMUM, 1) == 1


class TestUpstreamConnect:
    @pytest.mark.parametrize("version", [3, 4, 5])
    def test_a_connect_that_needs_no_change_is_the_very_same_object(self, version: int) -> None:
        received = connect(version, 60, [(P.RECEIVE_MAXIMUM, 5)] if version == 5 else None)
        assert upstream_connect(read_connect(received), received) is received

    def test_the_broker_gets_no_leave_to_use_aliases_and_all_else_as_it_came(self) -> None:
        others: Properties = [
            (P.SESSION_EXPIRY_INTERVAL, 60),
            (P.USER_PROPERTY, ("a", "b")),
            (P.USER_PROPERTY, ("a", "c")),
        ]
        received = connect(5, 60, [others[0], (P.TOPIC_ALIAS_MAXIMUM, 10), *others[1:]])
        assert upstream_connect(read_connect(received), received) == connect(5, 60, others)

    def test_leave_for_no_alias_at_all_is_taken_out_too(self) -> None:
        received = connect(5, 0, [(P.TOPIC_ALIAS_MAXIMUM, 0)])
        assert upstream_connect(read_connect(received), received) == connect(5)


@pytest.mark.parametrize(
    ("keepalive", "most", "longer"),
    [(0, 0, False), (65_535, 0, False), (0, 60, True), (61, 60, True), (60, 60, False), (1, 60, False)],
)
def test_none_is_longer_than_any(keepalive: int, most: int, longer: bool) -> None:
    assert is_longer(keepalive, most) == longer


class TestClientConnack:
    @pytest.mark.parametrize("version", [3, 4])
    @pytest.mark.parametrize("reason", [0, 5])
    def test_versions_3_pass_as_they_came(self, version: int, reason: int) -> None:
        received = connack(version, reason)
        made = client_connack(read_connack(received, version), received, version, MAX_PACKET, NO_LIMIT)
        assert made.wire is received
        assert made == Offer(received, reason == 0, 0, 0, NO_LIMIT, 0)

    def test_a_refusal_of_version_5_passes_as_it_came(self) -> None:
        made = offer([(P.REASON_STRING, "no")], reason=ReasonCode.NOT_AUTHORIZED)
        assert made.wire == connack(5, ReasonCode.NOT_AUTHORIZED, [(P.REASON_STRING, "no")])
        assert not made.accepted

    def test_a_refusal_by_a_broker_of_3_1_1_passes_as_it_came(self) -> None:
        received = connack(4, 1)
        made = client_connack(read_connack(received, 5), received, 5, MAX_PACKET, NO_LIMIT)
        assert (made.wire, made.accepted) == (received, False)

    @pytest.mark.parametrize("brokers", [None, 0, 5, 65_535])
    def test_the_aliases_offered_are_the_gateways(self, brokers: int | None) -> None:
        made = offer([] if brokers is None else [(P.TOPIC_ALIAS_MAXIMUM, brokers)])
        assert get(offered(made), P.TOPIC_ALIAS_MAXIMUM) == ALIAS_MAXIMUM

    @pytest.mark.parametrize(("brokers", "told"), [(None, MAX_PACKET), (MAX_PACKET + 1, MAX_PACKET), (2000, 2000)])
    def test_the_smaller_packet_size_is_offered(self, brokers: int | None, told: int) -> None:
        made = offer([] if brokers is None else [(P.MAXIMUM_PACKET_SIZE, brokers)])
        assert get(offered(made), P.MAXIMUM_PACKET_SIZE) == told
        assert made.broker_packet == (NO_LIMIT if brokers is None else brokers)

    def test_all_else_passes(self) -> None:
        others: Properties = [
            (P.ASSIGNED_CLIENT_IDENTIFIER, "auto-1"), (P.SESSION_EXPIRY_INTERVAL, 60), (P.USER_PROPERTY, ("a", "b")),
        ]  # fmt: skip
        told = offered(offer(others))
        assert [pair for pair in told if pair in others] == others
        assert {identifier for identifier, _ in told} - {identifier for identifier, _ in others} == {
            P.TOPIC_ALIAS_MAXIMUM,
            P.MAXIMUM_PACKET_SIZE,
        }

    def test_session_present_is_kept(self) -> None:
        received = Connack(True, 0, []).write(5)
        made = client_connack(read_connack(received), received, 5, MAX_PACKET, NO_LIMIT)
        assert read_connack(made.wire).session_present

    @pytest.mark.parametrize(("properties", "maximum"), [([], 65_535), ([(P.RECEIVE_MAXIMUM, 20)], 20)])
    def test_receive_maximum_has_the_specifications_default(self, properties: Properties, maximum: int) -> None:
        assert offer(properties).receive_maximum == maximum

    @pytest.mark.parametrize(("brokers", "told"), [(20, 1020), (65_000, 65_535)])
    def test_messages_that_are_held_do_not_use_up_the_clients_quota(self, brokers: int, told: int) -> None:
        made = offer([(P.RECEIVE_MAXIMUM, brokers)], hold=1000)
        assert get(offered(made), P.RECEIVE_MAXIMUM) == told
        assert (made.receive_maximum, made.broker_quota) == (told, brokers)

    def test_the_largest_quota_grows_no_further(self) -> None:
        made = offer(hold=1000)
        assert get(offered(made), P.RECEIVE_MAXIMUM) is None
        assert (made.receive_maximum, made.broker_quota) == (65_535, 65_535)

    def test_a_client_that_cannot_be_told_of_more_has_the_brokers_quota(self) -> None:
        brokers: Properties = [(P.RECEIVE_MAXIMUM, 20)]
        made = offer(brokers, hold=1000, client_packet=len(connack(5, 0, brokers)))
        assert (made.receive_maximum, made.broker_quota) == (20, 20)

    @pytest.mark.parametrize(
        ("properties", "keepalive"), [([], 60), *(([(P.SERVER_KEEP_ALIVE, s)], s) for s in (0, 30, 90))]
    )
    def test_the_keepalive_is_the_clients_unless_the_broker_says_another(
        self, properties: Properties, keepalive: int
    ) -> None:
        made = offer(properties, keepalive=60)
        assert made.keepalive == keepalive
        assert [pair for pair in offered(made) if pair[0] is P.SERVER_KEEP_ALIVE] == properties

    @pytest.mark.parametrize(
        ("own", "brokers", "told"),
        [(0, None, 60), (61, None, 60), (0, 0, 60), (30, 0, 60), (30, 90, 60), (90, 61, 60), (90, 30, 30), (0, 60, 60)],
    )
    def test_a_longer_one_is_never_offered(self, own: int, brokers: int | None, told: int) -> None:
        made = offer([] if brokers is None else [(P.SERVER_KEEP_ALIVE, brokers)], keepalive=own, max_keepalive=60)
        assert made.keepalive == told
        assert [value for name, value in offered(made) if name is P.SERVER_KEEP_ALIVE] == [told]

    @pytest.mark.parametrize("own", [1, 60])
    def test_of_a_shorter_one_nothing_is_said(self, own: int) -> None:
        made = offer(keepalive=own, max_keepalive=60)
        assert made.keepalive == own
        assert get(offered(made), P.SERVER_KEEP_ALIVE) is None

    @pytest.mark.parametrize("brokers", [0, 90])
    def test_a_client_of_small_packets_is_told_in_the_brokers_own_words(self, brokers: int) -> None:
        received: Properties = [(P.SERVER_KEEP_ALIVE, brokers)]
        made = offer(received, keepalive=90, max_keepalive=60, client_packet=len(connack(5, 0, received)))
        assert (made.keepalive, offered(made)) == (60, [(P.SERVER_KEEP_ALIVE, 60)])

    def test_one_that_cannot_be_told_keeps_its_own(self) -> None:
        made = offer(keepalive=90, max_keepalive=60, client_packet=len(connack(5)))
        assert (made.keepalive, offered(made)) == (90, [])

    def test_nothing_is_larger_than_the_client_takes(self) -> None:
        received = connack(5, 0, [(P.RECEIVE_MAXIMUM, 20)])
        whole = len(offer([(P.RECEIVE_MAXIMUM, 20)]).wire)
        assert len(offer([(P.RECEIVE_MAXIMUM, 20)], client_packet=whole).wire) == whole
        assert offer([(P.RECEIVE_MAXIMUM, 20)], client_packet=whole - 1).wire == received


def test_what_cannot_be_said_to_a_client_of_small_packets_is_still_lowered() -> None:
    connack = Connack(False, 0, [(PropertyId.TOPIC_ALIAS_MAXIMUM, 100)])
    received = connack.write(5)
    offer = client_connack(connack, received, 5, max_packet=4096, client_packet=len(received))
    assert offer.wire == Connack(False, 0, [(PropertyId.TOPIC_ALIAS_MAXIMUM, ALIAS_MAXIMUM)]).write(5)
