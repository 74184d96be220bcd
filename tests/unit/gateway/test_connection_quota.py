"""Receive Maximum: what the client is offered, and what the broker gets of it."""

import pytest

from support.held import DROP, LEAVE, STUCK, acks, discarded, dismissal, opened, slow
from support.limits import engine, limit, rate
from support.playbook import Playbook, connack, connect, publish
from tidegate.gateway.connection import LONGEST_WAIT, STORE
from tidegate.gateway.states import State
from tidegate.mqtt.ack import write_ack
from tidegate.mqtt.connack import Connack
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.properties import PropertyId, get
from tidegate.mqtt.reasons import PacketType, ReasonCode
from tidegate.mqtt.session import PINGREQ
from tidegate.policy.model import Conditions, Key, KeyKind, Limit

P = PropertyId
T = PacketType


class TestQuota:
    """Version 5, a broker that takes two unacknowledged messages, a limit that is not in the way."""

    def opened(self, **room: int) -> Playbook:
        return opened(slow(1000), version=5, offered=[(P.RECEIVE_MAXIMUM, 2)], room=room)

    def offered(self, *limits: Limit) -> object:
        play = Playbook(engine=engine(*limits)).client(connect(5)).upstream()
        play.broker(connack(5, 0, [(P.RECEIVE_MAXIMUM, 20)]))
        frame, wire = Frame(), play.take()[0]
        assert frame.read(wire, 0)
        return get(Connack.read(wire, 0, frame.body, frame.end, 5).properties, P.RECEIVE_MAXIMUM)

    def test_held_messages_do_not_use_up_the_clients_quota(self) -> None:
        assert self.offered(slow()) == 20 + 1000

    @pytest.mark.parametrize(
        "limits", [(), (limit("drop", DROP, rate=rate(1)),), (slow(who=Conditions(client_id=("another",))),)]
    )
    def test_where_no_limit_may_delay_it_is_the_brokers(self, limits: tuple[Limit, ...]) -> None:
        assert self.offered(*limits) == 20

    def test_the_broker_never_has_more_than_it_takes(self) -> None:
        play = self.opened()
        messages = [publish(str(n), qos=1 + n % 2, packet_id=n, version=5) for n in range(1, 6)]
        play.client(b"".join(messages))
        assert play.take() == (b"", b"".join(messages[:2]), [])
        assert play.at(1.0).take() == (b"", b"", []), "and nothing but it is waited for"
        play.broker(write_ack(T.PUBACK, 2))
        assert play.take()[1] == messages[2]
        play.broker(write_ack(T.PUBREC, 1))
        assert play.take()[1] == b""
        play.broker(write_ack(T.PUBCOMP, 1) + write_ack(T.PUBREC, 3, 0x80))
        assert play.take()[1] == messages[3] + messages[4]

    def test_what_needs_no_quota_goes_on(self) -> None:
        play = self.opened()
        play.client(*(publish(qos=1, packet_id=n, version=5) for n in (1, 2, 3)))
        play.take()
        play.client(publish("other", version=5) + PINGREQ + publish(version=5))
        assert play.take()[1] == publish("other", version=5) + PINGREQ, "but not what is behind others of its topic"
        play.broker(write_ack(T.PUBACK, 1))
        assert play.take()[1] == publish(qos=1, packet_id=3, version=5) + publish(version=5)

    def test_overrunning_what_was_offered_is_told(self) -> None:
        play = self.opened(messages=3)
        play.client(*(publish(qos=1, packet_id=n, version=5) for n in range(1, 6)))
        assert play.state is State.OPEN
        told = dismissal(play.client(publish(qos=1, packet_id=6, version=5)).take()[0])
        assert told.reason == ReasonCode.RECEIVE_MAXIMUM_EXCEEDED

    def test_what_was_refused_here_is_the_clients_again(self) -> None:
        play = opened(STUCK, version=5, offered=[(P.RECEIVE_MAXIMUM, 2)], room={"messages": 3})
        play.client(publish(version=5))
        for first in range(1, 50, 5):
            play.client(*(publish(qos=1, packet_id=first + n, version=5) for n in range(3)))
            told = acks(play.at(play.now + 5.0).take()[0])
            assert told == [(T.PUBACK, first + n, 0x97) for n in range(3)]

    def test_a_limit_is_asked_when_there_is_quota_again(self) -> None:
        play = opened(slow(), version=5, offered=[(P.RECEIVE_MAXIMUM, 1)])
        first, second = (publish(qos=1, packet_id=n, version=5) for n in (1, 2))
        play.client(first, second)
        assert play.take()[1] == first
        assert play.at(1.5).take()[1] == b"", "the limit would let it pass"
        play.broker(write_ack(T.PUBACK, 1))
        assert play.at(1.6).take()[1] == second

    def test_a_large_message_whose_turn_has_come_counts(self) -> None:
        play = opened(slow(per=(Key(KeyKind.TOPIC),)), version=5, offered=[(P.RECEIVE_MAXIMUM, 1)])
        large = publish("big", bytes(2 * STORE), qos=1, packet_id=2, version=5)
        play.client(publish("big", version=5))
        play.now = 0.1
        play.client(publish("a", version=5), publish("a", qos=1, version=5), large)
        play.take()
        assert play.at(1.2).take()[1] == large
        play.broker(write_ack(T.PUBACK, 2))
        assert play.take()[1] == publish("a", qos=1, version=5)

    def test_what_is_given_up_when_its_client_has_left_takes_none(self) -> None:
        play = opened(slow(period=3600, max_delay=1.0, topic=("t",)), version=5, offered=[(P.RECEIVE_MAXIMUM, 1)])
        first, second = (publish(topic, qos=1, packet_id=n, version=5) for topic, n in (("u", 2), ("v", 3)))
        play.client(publish(version=5), publish(qos=1, packet_id=1, version=5), first, second, LEAVE)
        play.at(1.0).take()
        assert discarded(play) == {"LATE": 1}
        assert play.broker(write_ack(T.PUBACK, 2)).take()[1] == second + LEAVE

    def test_leaving_does_not_wait_for_it_for_ever(self) -> None:
        play = self.opened()
        play.client(*(publish(qos=2, packet_id=n, version=5) for n in (1, 2, 3)), LEAVE)
        play.broker(write_ack(T.PUBREC, 1)).take()
        play.connection.client_closed()
        assert play.at(LONGEST_WAIT - 0.1).take() == (b"", b"", [])
        assert play.at(LONGEST_WAIT).take() == (b"", LEAVE, ["end"])
        assert discarded(play) == {"LATE": 1}
