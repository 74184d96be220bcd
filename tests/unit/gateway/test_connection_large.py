"""Messages too large to be kept, under a limit that delays."""

import pytest

from support.held import DROP, STUCK, acks, flow, opened, slow
from support.playbook import publish
from tidegate.engine.counters import INFLIGHT_FROM_CLIENT
from tidegate.gateway.connection import LONGEST_WAIT, STORE
from tidegate.mqtt.ack import write_ack
from tidegate.mqtt.properties import PropertyId
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.session import PINGREQ

P = PropertyId
T = PacketType


class TestLargeMessages:
    """One that is larger than what is kept waits unread, and all behind it."""

    LARGE = publish("big", bytes(3 * STORE), qos=1, packet_id=7)

    def test_it_is_forwarded_whole_when_its_turn_has_come(self) -> None:
        play = opened(slow())
        play.client(publish() + self.LARGE[:STORE])
        assert play.take() == (b"", publish(), ["hold"])
        assert play.at(0.9).take() == (b"", b"", [])
        assert play.at(1.1).take() == (b"", self.LARGE[:STORE], ["free"])
        assert play.client(self.LARGE[STORE:] + PINGREQ).take() == (b"", self.LARGE[STORE:] + PINGREQ, [])
        assert play.counters.value(INFLIGHT_FROM_CLIENT) == 1

    def test_one_that_was_read_whole_too(self) -> None:
        play = opened(slow())
        play.client(publish() + self.LARGE + PINGREQ)
        play.take()
        assert play.at(1.1).take() == (b"", self.LARGE + PINGREQ, ["free"])

    @pytest.mark.parametrize(("keepalive", "waits"), [(0, 5.0), (4, 2.0)])
    def test_or_skipped_and_answered(self, keepalive: int, waits: float) -> None:
        large = publish("big", bytes(3 * STORE), qos=1, packet_id=7, version=5)
        play = opened(STUCK, version=5, keepalive=keepalive)
        play.client(publish(version=5) + large[:STORE])
        play.take()
        assert play.at(waits - 0.01).take() == (b"", b"", [])
        assert play.at(waits).take() == (b"", b"", ["free"])
        to_client, to_broker, _ = play.client(large[STORE:] + PINGREQ).take()
        assert acks(to_client) == [(T.PUBACK, 7, 0x97)]
        assert to_broker == PINGREQ

    def test_it_waits_behind_others_of_its_topic(self) -> None:
        play = opened(slow())
        play.client(publish("big") * 2 + self.LARGE + publish("big", b"last"))
        got = [(now, len(packet)) for now, packet in flow(9.0, play)]
        assert got == [(0.0, 8), (1.0, 8), (2.0, len(self.LARGE)), (3.0, 11)]

    def test_behind_others_no_longer_than_half_the_keepalive(self) -> None:
        play = opened(slow(period=60, max_delay=30.0, then=DROP), keepalive=10)
        play.client(publish("big") * 2 + self.LARGE + PINGREQ)
        play.take()
        assert play.at(5.0).take() == (write_ack(T.PUBACK, 7), PINGREQ, ["free"])

    def test_its_alias_stands_for_a_topic(self) -> None:
        play = opened(slow(), version=5)
        play.client(publish("big", version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        play.client(publish("", bytes(2 * STORE), version=5, properties=[(P.TOPIC_ALIAS, 1)]))
        play.take()
        assert play.at(1.1).take()[1] == publish("big", bytes(2 * STORE), version=5)

    def test_nothing_is_written_inside_one_that_is_on_its_way(self) -> None:
        play = opened(slow(topic=("t",)))
        play.client(publish() * 2, self.LARGE[:STORE])
        play.take()
        assert play.at(1.5).take() == (b"", b"", [])
        assert play.client(self.LARGE[STORE:]).take()[1] == self.LARGE[STORE:] + publish()

    def test_between_two_of_them_what_is_held_has_its_turn(self) -> None:
        play = opened(slow(topic=("t",)))
        play.client(publish() * 2, self.LARGE[:STORE])
        play.at(1.5).take()
        play.client(self.LARGE[STORE:] + self.LARGE[:STORE])
        assert play.take()[1] == self.LARGE[STORE:] + publish() + self.LARGE[:STORE]

    def test_what_the_broker_has_to_be_told_meanwhile_is_read_in_time(self) -> None:
        """QoS 2 has used up the broker's quota, and only the PUBRELs behind the large message free it."""
        play = opened(slow(1000), version=5, offered=[(P.RECEIVE_MAXIMUM, 1)])
        large = publish("big", bytes(2 * STORE), qos=1, packet_id=2, version=5)
        play.client(publish(qos=2, packet_id=1, version=5) + large)
        play.broker(write_ack(T.PUBREC, 1))
        play.client(write_ack(T.PUBREL, 1)).take()
        to_client, to_broker, _ = play.at(LONGEST_WAIT).take()
        assert acks(to_client) == [(T.PUBACK, 2, 0x97)]
        assert to_broker == write_ack(T.PUBREL, 1)
