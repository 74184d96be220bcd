"""Limits on `deliver` beside all else that a connection goes through: leaving, other limits, a reload, a full hold."""

import os

import pytest

from support.delivered import heard, limit, slow, window
from support.held import ALL
from support.held import slow as slow_publish
from support.limits import engine as engine_of
from support.limits import host
from support.paced import paced
from support.playbook import Playbook, publish, waiting_room
from tidegate.engine.binding import Engine
from tidegate.gateway.bounds import STORE
from tidegate.gateway.delaying import MOST_AT_ONCE
from tidegate.gateway.policy_host import PolicyHost
from tidegate.gateway.states import State
from tidegate.mqtt.ack import write_ack
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.session import PINGREQ, PINGRESP
from tidegate.policy.model import Action, ByClass, Cases, ClientClass, Conditions, Policy

T = PacketType
LEAVE = b"\xe0\x00"


def messages(play: Playbook) -> list[bytes]:
    return [one for one in heard(play) if one[0] >> 4 == T.PUBLISH]


class TestLeaving:
    def test_what_the_broker_has_sent_is_read_on_where_it_was_left(self) -> None:
        play = Playbook.opened(engine=engine_of(slow()))
        stream = b"".join(publish(f"t/{n}") for n in range(2 * MOST_AT_ONCE)) + publish("half", b"\xff" * 100)
        play.connection.broker_bytes(stream[:-50], 0.0)  # more than is kept at a time: it goes on in another turn
        play.client(LEAVE)
        assert play.state is State.LEAVING
        play.broker(stream[-50:] + publish("last"))
        assert play.connection.broker_fault is None
        assert play.state is State.LEAVING

    @pytest.mark.parametrize("holds", [False, True])
    def test_the_end_of_a_broker_that_was_not_read_is_noticed(self, holds: bool) -> None:
        limits = [slow(), slow_publish()] if holds else [slow()]
        play = Playbook.opened(engine=engine_of(*limits))
        if holds:
            play.client(publish("up"), publish("up"))
        large = publish("t", bytes(STORE), 1, 2)
        play.broker(publish("t", b"x", 1, 1), large[:-10])
        assert play.take()[2] == ["hold broker"]
        play.client(LEAVE)
        assert "free broker" in play.take()[2]
        play.broker(large[-10:] + PINGRESP)
        assert play.connection.broker_fault is None

    def test_a_window_that_others_share_is_free_once_a_client_has_left(self) -> None:
        engine = engine_of(window(2, per=ALL), slow_publish(period=60, max_delay=50.0))
        waiting = waiting_room(engine, Playbook(engine=engine).counters)
        play = Playbook.opened(engine=engine, waiting=waiting)
        play.broker(publish("t", b"", 1, 1))
        play.client(publish("up"), publish("up") + LEAVE)
        assert play.state is State.EMPTYING
        other = Playbook.opened(engine=engine, waiting=waiting, client_id="other")
        other.broker(publish("t", b"", 1, 1))
        assert len(messages(other)) == 1
        for now in range(1, 30):
            play.at(float(now))
        assert play.state is State.EMPTYING


class TestWindows:
    def test_a_large_message_does_not_wait_for_a_pubrel_behind_it(self) -> None:
        play = Playbook.opened(engine=engine_of(window(1)))
        small, large = publish("t", b"x", 2, 1), publish("t", bytes(STORE), 2, 2)
        play.broker(small, large)
        assert heard(play) == [small]
        play.client(write_ack(T.PUBREC, 1))
        play.broker(write_ack(T.PUBREL, 1))
        play.at(0.1)
        assert heard(play) == [large, write_ack(T.PUBREL, 1)]

    def test_nor_when_it_was_received_before(self) -> None:
        play = Playbook.opened(engine=engine_of(window(1)))
        small, large = publish("t", b"x", 2, 1), publish("t", bytes(STORE), 2, 2)
        play.broker(small)
        play.client(write_ack(T.PUBREC, 1))
        play.broker(large, write_ack(T.PUBREL, 1))
        play.at(0.1)
        assert heard(play) == [small, large, write_ack(T.PUBREL, 1)]

    def test_otherwise_it_counts_until_pubcomp(self) -> None:
        play = Playbook.opened(engine=engine_of(window(1)))
        play.broker(publish("t", b"x", 2, 1), publish("t", b"y", 2, 2))
        play.client(write_ack(T.PUBREC, 1))
        play.at(0.1)
        assert heard(play) == [publish("t", b"x", 2, 1)]
        play.client(write_ack(T.PUBCOMP, 1))
        play.at(0.2)
        assert heard(play) == [publish("t", b"y", 2, 2)]

    def test_an_identifier_that_the_broker_uses_again_keeps_no_place(self) -> None:
        play = Playbook.opened(engine=engine_of(window(2)))
        play.broker(publish("t", b"1", 1, 7), publish("t", b"2", 1, 7))
        play.client(write_ack(T.PUBACK, 7))
        play.broker(publish("t", b"3", 1, 8), publish("t", b"4", 1, 9))
        play.at(0.1)
        assert len(messages(play)) == 4

    def test_acknowledgements_that_have_waited_themselves_let_others_go_on(self) -> None:
        play = Playbook.opened(engine=engine_of(window(2, per=ALL), paced()))
        play.broker(publish("t", b"1", 1, 1), publish("t", b"2", 1, 2))
        assert len(messages(play)) == 1
        play.client(PINGREQ + write_ack(T.PUBACK, 1))
        assert messages(play) == []
        assert play.waiting is not None
        play.now = 1.0
        play.waiting.run(1.0)  # its turn has come; nothing else happens
        play.flush()
        assert messages(play) == [publish("t", b"2", 1, 2)]

    def test_nobody_keeps_a_shared_one_by_being_left_unread(self) -> None:
        engine = engine_of(window(2, per=ALL), paced())
        play = Playbook.opened(engine=engine)
        play.broker(publish("t", b"1", 1, 1))
        for tenth in range(400):
            play.client(PINGREQ)  # faster than it may
            play.at(tenth / 10)
            if play.state is State.CLOSED:
                break
        assert 10 < play.now < 25
        assert play.state is State.CLOSED


class TestFull:
    def test_who_is_cut_for_another_disturbs_no_decision(self) -> None:
        engine = engine_of(slow(period=10, except_topic=("free",)))
        counters = Playbook(engine=engine).counters
        waiting = waiting_room(engine, counters, pool=200_000)
        big = Playbook.opened(engine=engine, waiting=waiting, client_id="big")
        big.broker(*(publish(f"t/{n}", bytes(30_000)) for n in range(6)))
        big.broker(publish("large", bytes(STORE)), publish("free"))
        small = Playbook.opened(engine=engine, waiting=waiting, client_id="small")
        small.broker(publish("a"), publish("t", bytes(50_000), 1, 1))  # big is cut for it
        assert messages(small) == [publish("a")]
        for now in (0.0, 9.9):
            small.at(now)
        assert messages(small) == []
        small.at(10.1)
        assert len(messages(small)) == 1

    def test_nothing_follows_the_disconnect_of_who_is_cut(self) -> None:
        engine = engine_of(slow())
        waiting = waiting_room(engine, Playbook(engine=engine).counters, pool=3000)
        play = Playbook.opened(5, engine=engine, waiting=waiting)
        play.client(PINGREQ)
        sent = [publish("t", bytes(1000), 1, n, 5) for n in range(1, 4)]
        play.broker(b"".join([*sent[:2], PINGRESP, sent[2]]))
        assert [one[0] >> 4 for one in heard(play)] == [T.PUBLISH, T.DISCONNECT]


class TestClientThatTakesNothing:
    def test_the_newest_of_each_topic_is_kept_where_that_is_enough(self) -> None:
        engine = engine_of(slow(100, 100, conflate=True))
        waiting = waiting_room(engine, Playbook(engine=engine).counters, messages=5)
        play = Playbook.opened(engine=engine, waiting=waiting)
        play.connection.client_takes(False, 0.0)
        for n in range(20):
            play.broker(publish("a", b"%d" % n), publish("b", b"%d" % n))
        play.connection.client_takes(True, 0.0)
        assert messages(play) == [publish("a", b"19"), publish("b", b"19")]

    def test_that_it_does_not_is_noticed_while_something_is_written(self) -> None:
        play = Playbook.opened(engine=engine_of(slow(), slow_publish(2, 1)))
        play.client(publish("up"), publish("up"))
        sent = [publish("a"), publish("b", bytes(STORE)) + write_ack(T.PUBACK, 9)]
        play.broker(*sent)
        written = [play.take()[0]]

        def write() -> None:
            """As the driver does, which is told by the socket while it writes."""
            play.flush()
            written.append(b"".join(play.connection.to_client))
            play.connection.client_takes(False, 1.0)
            play.connection.to_client.clear()

        play.connection.flusher = write
        play.now = 1.0
        assert play.waiting is not None
        play.waiting.run(1.0)
        assert b"".join(written) == b"".join(sent)

    def test_an_exempt_one_loses_nothing(self) -> None:
        free = ClientClass("free", Conditions(client_id=("c",)), exempt=True)
        shared = PolicyHost(Policy((free,), (slow(),)), workers=1, buckets=4096, largest_packet=1 << 20)
        os.close(shared.fd)
        one = Engine(shared.segment, 0)
        one.load(one.segment.policy())
        waiting = waiting_room(one, Playbook(engine=one).counters, messages=5)
        play = Playbook.opened(engine=one, waiting=waiting)
        play.broker(publish("t"))
        assert not play.connection.spares_broker()

    def test_without_a_limit_any_more_the_broker_is_not_read(self) -> None:
        shared = host(slow())
        os.close(shared.fd)
        engine = Engine(shared.segment, 0)
        engine.load(engine.segment.policy())
        play = Playbook.opened(engine=engine)
        play.broker(publish("a"))
        assert play.connection.spares_broker()
        play.connection.client_takes(False, 0.0)
        play.take()
        shared.replace(Policy())
        engine.load(engine.segment.policy())
        play.broker(publish("b"))
        assert play.take()[2] == ["hold broker"]
        play.connection.client_takes(True, 0.0)
        assert play.take()[2] == ["free broker"]


class TestSize:
    def test_what_is_too_large_is_dropped_behind_others_of_its_topic_too(self) -> None:
        play = Playbook.opened(engine=engine_of(slow(), limit(Cases(Action.DROP), qos=(0,), size=ByClass(10))))
        sent = [publish("t", b"x", 1, 1), publish("t", b"y", 1, 2), publish("t", b"z"), publish("t", bytes(11))]
        play.broker(*sent)
        for now in range(1, 6):
            play.at(float(now))
        assert messages(play) == sent[:3]
