"""What limits on every packet do to one client, on a given clock: what passes, what waits unread, what ends it."""

from collections.abc import Callable

import pytest

from support.held import ALL, acks, dismissal, due, flow, numbered, opened, slow
from support.limits import BAN, engine, host, limit, rate
from support.paced import DISCONNECT, paced, packets, small
from support.playbook import ADDRESS, Playbook, connack, connect, publish, waiting_room
from tidegate.engine.binding import Engine
from tidegate.engine.counters import DELAYS, HELD_MESSAGES, HOLD_BYTES
from tidegate.gateway.admission import Door
from tidegate.gateway.bans import Bans
from tidegate.gateway.connection import STORE
from tidegate.gateway.states import State
from tidegate.gateway.waiting_room import WaitingRoom
from tidegate.mqtt.ack import write_ack
from tidegate.mqtt.properties import PropertyId, get
from tidegate.mqtt.reasons import PacketType, ReasonCode
from tidegate.mqtt.session import PINGREQ, PINGRESP
from tidegate.mqtt.subscribe import Subscribe, Subscription, Unsubscribe
from tidegate.policy.model import Action, Cases, ClientClass, Conditions, Limit, Policy

T = PacketType
LEAVE = b"\xe0\x00"
OBSERVE = Cases(Action.OBSERVE)
STUCK = paced(period=3600, max_delay=60.0)
"""One packet passes, the others wait for a minute."""


def kinds(version: int = 4) -> list[bytes]:
    """A packet of each type that a client may send once it is in, but DISCONNECT."""
    return [
        publish(version=version),
        publish(qos=2, version=version),
        *(write_ack(kind, 9) for kind in (T.PUBACK, T.PUBREC, T.PUBREL, T.PUBCOMP)),
        Subscribe(5, [Subscription("#", 1)]).write(version),
        Unsubscribe(6, ["#"]).write(version),
        PINGREQ,
    ]


class TestPace:
    @pytest.mark.parametrize("version", [4, 5])
    def test_packets_of_every_type_count_and_keep_their_order(self, version: int) -> None:
        play, wanted = opened(paced(2, 2), version=version), kinds(version)
        play.client(b"".join(wanted))
        expected = [0.0, 0.0] + [0.5 * number for number in range(1, len(wanted) - 1)]
        assert flow(9.0, play) == list(zip(expected, wanted, strict=True))

    def test_any_chunking_gives_the_same(self) -> None:
        wire = b"".join(kinds()) * 2 + publish("big", bytes(2 * STORE)) + PINGREQ
        whole, bytewise = opened(paced(20, 2)), opened(paced(20, 2))
        whole.client(wire)
        bytewise.client(*(wire[i : i + 5] for i in range(0, len(wire), 5)))

        def sent(play: Playbook) -> bytes:
            return b"".join(packet for _, packet in flow(9.0, play))

        assert sent(whole) == sent(bytewise) == wire

    def test_the_client_is_not_read_meanwhile(self) -> None:
        play = opened(paced(2, 1))
        assert play.client(PINGREQ * 3).take() == (b"", PINGREQ, ["hold"])
        assert play.at(0.51).take() == (b"", PINGREQ, [])
        assert play.at(1.02).take() == (b"", PINGREQ, ["free"])

    def test_what_was_read_before_the_driver_could_stop_waits_behind(self) -> None:
        play, messages = opened(paced(2, 1)), numbered(6)
        play.client(
            messages[0] + messages[1], messages[2] + messages[3][:4], messages[3][4:] + messages[4], messages[5]
        )
        assert flow(9.0, play) == [(0.5 * number, message) for number, message in enumerate(messages)]

    def test_what_the_broker_sends_reaches_it(self) -> None:
        play = opened(STUCK)
        play.client(PINGREQ * 2).take()
        wire = PINGRESP + publish(qos=1) + write_ack(T.PUBACK, 7)
        assert play.broker(wire).take() == (wire, b"", [])

    def test_bytes_are_paced_too(self) -> None:
        play = opened(packets(bandwidth=rate(100, 100)))
        wanted = [publish(payload=bytes(45)), publish(payload=bytes(45)), PINGREQ, publish(payload=bytes(45))]
        play.client(b"".join(wanted))
        assert [now for now, _ in flow(9.0, play)] == [0.0, 0.0, 0.02, 0.52]

    def test_who_leaves_is_not_held_up(self) -> None:
        play = opened(STUCK)
        play.client(PINGREQ).take()
        assert play.client(LEAVE).take() == (b"", LEAVE, ["hold"])
        assert play.state is State.LEAVING

    def test_but_what_it_sent_before_comes_first(self) -> None:
        play = opened(paced())
        play.client(PINGREQ * 3 + LEAVE)
        assert flow(9.0, play) == [(0.0, PINGREQ), (1.0, PINGREQ), (2.0, PINGREQ), (2.0, LEAVE)]

    def test_what_came_behind_connect_counts_from_connack_on(self) -> None:
        play = Playbook(engine=engine(paced()))
        play.client(connect() + PINGREQ * 2).upstream()
        play.take()
        assert play.broker(connack()).take() == (connack(), PINGREQ, [])
        assert flow(9.0, play) == [(1.0, PINGREQ)]

    def test_a_large_message_is_decided_by_its_header(self) -> None:
        play, large = opened(paced()), publish(payload=bytes(4 * STORE))
        play.client(PINGREQ + large[:STORE])
        assert play.take() == (b"", PINGREQ, ["hold"])
        assert play.at(1.0).take() == (b"", large[:STORE], ["free"])
        assert play.client(large[STORE:]).take() == (b"", large[STORE:], [])

    def test_and_paid_once_however_slowly_its_header_comes(self) -> None:
        play, large = opened(paced(2, 2, 3600)), publish("a" * 3000, bytes(2 * STORE))
        play.client(*(large[i : i + 100] for i in range(0, 5000, 100)), large[5000:], PINGREQ)
        assert play.take() == (b"", large + PINGREQ, [])
        assert play.client(PINGREQ).take() == (b"", b"", ["hold"])

    def test_how_long_it_waited_is_counted_and_that_it_did_once(self) -> None:
        play = opened(paced())
        play.client(PINGREQ * 2).at(0.5).at(1.0)
        count, microseconds = (play.counters.value(DELAYS + 2 + n) for n in range(2))
        assert (count, microseconds) == (1, 1_000_000)
        assert play.waiting is not None
        assert play.waiting.engine.segment.tallies(0)[Action.DELAY] == 1

    def test_an_exempt_client_is_not_held_up(self) -> None:
        free = ClientClass("free", Conditions(client_id=("c",)), exempt=True)
        made = host(paced())
        made.replace(Policy(classes=(free,), limits=(paced(),)))
        one = Engine(made.segment, 0)
        one.load(made.segment.policy())
        play = Playbook.opened(engine=one)
        assert play.client(PINGREQ * 5).take() == (b"", PINGREQ * 5, [])

    def test_a_client_that_has_asked_is_told(self) -> None:
        play = opened(paced(), version=4)
        play.client(Subscribe(5, [Subscription("$tidegate/throttle", 0)]).write(4)).take()
        to_client, _, _ = play.client(PINGREQ).take()
        assert b'{"limit": "packets", "action": "delay", "topic": null, "retry_after_ms": 1001' in to_client


class TestRefusals:
    @pytest.mark.parametrize("version", [4, 5])
    def test_disconnect(self, version: int) -> None:
        play = opened(packets(on_excess=DISCONNECT, rate=rate(2, 2)), version=version)
        play.client(PINGREQ + publish(version=version) + PINGREQ * 5)
        to_client, to_broker, commands = play.take()
        assert (to_broker, commands, play.state) == (PINGREQ + publish(version=version), ["end"], State.CLOSED)
        if version == 4:
            assert to_client == b""
        else:
            said = dismissal(to_client)
            assert said.reason == ReasonCode.MESSAGE_RATE_TOO_HIGH
            assert get(said.properties, PropertyId.REASON_STRING) == "over limit packets: retry in 501 ms"

    def test_ban(self) -> None:
        reported: list[tuple[object, ...]] = []
        one = engine(packets(on_excess=BAN, rate=rate(1)))
        play = Playbook.opened(engine=one)
        waiting = play.waiting
        assert waiting is not None
        door = Door(waiting, Bans(), WaitingRoom(10, play.counters), lambda *what: reported.append(what))
        play = Playbook(engine=one, waiting=waiting, door=door)
        play.client(connect()).upstream().broker(connack())
        play.client(PINGREQ * 2)
        assert play.state is State.CLOSED
        assert reported == [("packets", "c", None, ADDRESS)]

    def test_observe(self) -> None:
        play = opened(packets(on_excess=OBSERVE, rate=rate(1)))
        assert play.client(PINGREQ * 4).take() == (b"", PINGREQ * 4, [])
        assert play.waiting is not None
        assert play.waiting.engine.segment.tallies(0)[Action.OBSERVE] == 3

    @pytest.mark.parametrize("on_excess", [Cases(Action.DELAY), DISCONNECT])
    def test_no_wait_will_help_one_that_is_too_large(self, on_excess: Cases) -> None:
        play = opened(small(50, on_excess=on_excess), version=5)
        assert play.client(PINGREQ).take() == (b"", PINGREQ, [])
        to_client, to_broker, commands = play.client(publish(payload=bytes(60), version=5)).take()
        said = dismissal(to_client)
        assert (to_broker, commands, said.reason) == (b"", ["end"], ReasonCode.MESSAGE_RATE_TOO_HIGH)
        assert get(said.properties, PropertyId.REASON_STRING) == "over limit packets: the packet is too large"

    def test_a_large_one_that_is_too_large_ends_it_at_its_header(self) -> None:
        play = opened(small(STORE + 100))
        play.client(publish(payload=bytes(2 * STORE))[:100])
        assert play.take() == (b"", b"", ["end"])

    def test_who_has_waited_for_too_long(self) -> None:
        play = opened(paced(period=3600, max_delay=2.0), version=5)
        play.client(PINGREQ * 2)
        assert flow(1.9, play) == [(0.0, PINGREQ)]
        play.take()
        to_client, to_broker, commands = play.at(2.0).take()
        assert (dismissal(to_client).reason, to_broker, commands) == (ReasonCode.MESSAGE_RATE_TOO_HIGH, b"", ["end"])
        assert play.waiting is not None
        tallies = play.waiting.engine.segment.tallies(0)
        assert (tallies[Action.DELAY], tallies[Action.DISCONNECT]) == (1, 1)

    def test_each_packet_has_all_that_time(self) -> None:
        play = opened(paced(max_delay=1.5))
        play.client(PINGREQ * 9)
        assert flow(8.0, play) == [(float(number), PINGREQ) for number in range(9)]

    def test_no_longer_than_half_of_the_keepalive(self) -> None:
        play = opened(STUCK, keepalive=10)
        play.client(PINGREQ * 2).take()
        assert play.at(4.9).take() == (b"", b"", [])
        assert play.at(5.0).take() == (b"", b"", ["end"])

    def test_of_a_crowd_nobody_is_thrown_out_for_what_his_neighbours_did(self) -> None:
        one = engine(paced(period=3600, max_delay=2.0))
        for number in range(1000):  # keys of one source, of which only some have buckets of their own
            assert one.decide_packet(one.subject(b"x%d" % number, None, ADDRESS, b"", 4), 2, 0.0) in (0, Action.DELAY)
        play = Playbook.opened(engine=one, keepalive=4)
        assert play.client(PINGREQ).take() == (b"", b"", ["hold"])
        assert flow(12.0, play) == [(3.0 * number, PINGREQ) for number in range(1, 5)], "pings of our own"
        assert play.state is State.OPEN


class TestWhichClients:
    def test_they_take_turns_by_address(self) -> None:
        one = engine(paced(2, 1, per=ALL))
        plays: list[Playbook] = []
        for number, address in enumerate((1, 1, 2)):
            waiting = plays[0].waiting if plays else None
            plays.append(
                Playbook.opened(
                    engine=one, client_id=f"c{number}", waiting=waiting, address=bytes([192, 0, 2, address])
                )
            )
            plays[-1].client(b"".join(numbered(9, f"{number}")))
        got = [message[4:5] for now, message in flow(4.1, *plays) if now > 0]
        assert [one.decode() for one in got] == ["0", "2", "1", "2", "0", "2", "1", "2"]

    def test_who_waits_holds_up_nobody_else(self) -> None:
        one = engine(STUCK)
        play = Playbook.opened(engine=one)
        other = Playbook.opened(engine=one, client_id="other", waiting=play.waiting)
        play.client(PINGREQ * 3).take()
        assert other.client(PINGREQ).take() == (b"", PINGREQ, [])


class TestBesideLimitsOnPublish:
    """The packet comes first: what it has paid for it has, whatever the message waits for then."""

    def test_a_message_that_is_held_has_paid(self) -> None:
        play = opened(paced(4, 4, 3600), slow())
        play.client(b"".join(numbered(3)) + PINGREQ)
        assert [packet for _, packet in flow(0.1, play)] == [numbered(1)[0], PINGREQ]
        assert [packet for _, packet in flow(9.0, play)] == numbered(2, first=1)
        assert play.client(PINGREQ).take() == (b"", b"", ["hold"])

    def test_one_that_found_no_room_pays_once(self) -> None:
        play = opened(paced(5, 5, 3600), slow(), room={"messages": 1})
        play.client(b"".join(numbered(4)) + PINGREQ)
        assert sorted(packet for _, packet in flow(9.0, play)) == sorted([*numbered(4), PINGREQ])
        play.take()
        assert play.client(PINGREQ).take() == (b"", b"", ["hold"])

    def test_nor_twice_if_it_is_large_and_left_unread(self) -> None:
        play, large = opened(paced(3, 3, 3600), slow()), publish(payload=bytes(2 * STORE))
        play.client(publish() + large + PINGREQ)
        assert b"".join(packet for _, packet in flow(2.0, play)) == publish() + large + PINGREQ
        play.take()
        assert play.client(PINGREQ).take() == (b"", b"", ["hold"])

    def test_room_in_the_hold_is_no_turn(self) -> None:
        play = opened(paced(3, 3, 3600), slow(2, 1))
        play.client(b"".join(numbered(3)) + PINGREQ)
        assert [packet for _, packet in flow(4.0, play)] == numbered(3)
        assert play.counters.value(HELD_MESSAGES) == 1

    def test_each_time_that_it_is_left_unread_counts_for_itself(self) -> None:
        limits = paced(1, 3, 15, max_delay=60.0), slow(period=12, max_delay=60.0)
        play = opened(*limits, keepalive=40, room={"messages": 1})
        messages = [publish(topic) for topic in "abcd"]
        play.client(b"".join(messages))  # the third finds room after 12 seconds, the fourth nine after its turn
        assert flow(40.0, play) == [(12.0 * number, message) for number, message in enumerate(messages)]

    def test_a_message_that_is_dropped_has_paid(self) -> None:
        play = opened(paced(3, 3, 3600), limit("drop", Cases(Action.DROP), rate=rate(1, 1, 3600)))
        play.client(b"".join(numbered(3)) + PINGREQ)
        assert play.take()[1:] == (numbered(1)[0], ["hold"])

    def test_of_messages_that_wait_until_a_turn_has_come_none_is_lost(self) -> None:
        play = opened(paced(10, 1), slow(1, 1), version=4)
        messages = numbered(6)
        play.client(b"".join(messages))
        assert [packet for _, packet in flow(9.0, play)] == messages

    def test_the_exchange_that_is_played_here_pays_for_its_pubrel(self) -> None:
        play = opened(paced(2, 2), limit("drop", Cases(Action.DROP), rate=rate(1, 1, 3600)), version=5)
        play.client(publish(version=5) + publish(qos=2, version=5) + write_ack(T.PUBREL, 1))
        assert acks(play.take()[0]) == [(T.PUBREC, 1, 0)]
        assert acks(play.at(0.6).take()[0]) == [(T.PUBCOMP, 1, 0)]


class TestReload:
    def scene(self, *limits: Limit) -> tuple[Playbook, Callable[..., None]]:
        made = host(*limits)
        one = Engine(made.segment, 0)
        one.load(made.segment.policy())
        play = Playbook.opened(engine=one)

        def reload(*limits: Limit) -> None:
            made.replace(Policy(limits=limits))
            one.load(made.segment.policy())
            assert play.waiting is not None
            play.waiting.reconsider(play.now)

        return play, reload

    def test_a_limit_that_is_new_counts_for_who_is_in_already(self) -> None:
        play, reload = self.scene()
        assert play.client(PINGREQ * 2).take() == (b"", PINGREQ * 2, [])
        reload(paced())
        assert play.client(PINGREQ * 2).take() == (b"", PINGREQ, ["hold"])

    def test_without_it_all_passes(self) -> None:
        play, reload = self.scene(STUCK)
        assert play.client(PINGREQ * 3).take() == (b"", PINGREQ, ["hold"])
        reload()
        assert play.at(0.1).take() == (b"", PINGREQ * 2, ["free"])
        assert play.client(PINGREQ * 3).take() == (b"", PINGREQ * 3, [])

    def test_what_waits_goes_by_the_new_one(self) -> None:
        play, reload = self.scene(STUCK)
        play.client(PINGREQ * 3)
        reload(paced(name="other"))
        assert [now for now, _ in flow(9.0, play)] == [0.0, 0.0, 1.0]

    def test_which_may_end_it(self) -> None:
        play, reload = self.scene(STUCK)
        play.client(PINGREQ + publish(payload=bytes(60)))
        reload(small(50, on_excess=DISCONNECT))
        assert play.at(0.1).take() == (b"", PINGREQ, ["hold", "end"])


class TestWhoIsThere:
    def test_both_sides_are_kept_alive_meanwhile(self) -> None:
        play = opened(paced(period=20, max_delay=60.0), keepalive=60)
        play.client(PINGREQ * 4)
        got = flow(100.0, play)
        assert got == [(20.0 * number, PINGREQ) for number in range(4)]
        assert play.state is State.OPEN, "what it has sent is a sign of life, when it goes on"

    def test_a_packet_that_waits_is_a_sign_of_life(self) -> None:
        play = opened(paced(period=65, max_delay=90.0), keepalive=40)
        play.client(PINGREQ).at(55.0).client(PINGREQ).take()
        assert flow(65.0, play) == [(65.0, PINGREQ)], "one and a half times the keepalive ended at 60"

    def test_the_broker_is_pinged_for_a_client_that_waits(self) -> None:
        play = opened(paced(period=45, max_delay=60.0), keepalive=100)
        play.client(PINGREQ * 2 + publish())
        assert flow(91.0, play) == [(0.0, PINGREQ), (45.0, PINGREQ), (90.0, publish())]
        play = opened(paced(period=49, max_delay=60.0), keepalive=99)
        play.client(PINGREQ)
        play.at(40.0).client(PINGREQ)
        assert play.at(74.25).take()[1] == PINGREQ * 2

    def test_who_has_closed_its_socket_is_given_up_after_max_delay(self) -> None:
        play = opened(paced(max_delay=3.0))
        play.client(PINGREQ * 20)
        flow(2.5, play)
        play.connection.client_gone = True
        assert [now for now, _ in flow(20.0, play)] == [3.0, 4.0, 5.0, 6.0]
        assert play.state is State.CLOSED

    def test_but_what_it_sent_before_goes_on(self) -> None:
        play = opened(paced(max_delay=3.0))
        play.client(PINGREQ * 3 + LEAVE)
        play.connection.client_gone = True
        assert [packet for _, packet in flow(4.0, play)] == [PINGREQ] * 3 + [LEAVE]
        assert play.state is State.LEAVING


class TestBounds:
    def held(self, play: Playbook) -> tuple[int, int]:
        return play.counters.value(HELD_MESSAGES), play.counters.value(HOLD_BYTES)

    def test_what_waits_unread_counts_in_the_pool(self) -> None:
        play = opened(paced())
        play.client(b"".join(numbered(3)) + publish(payload=bytes(1000)))
        count, size = self.held(play)
        assert (count, size > 1000) == (1, True)
        play.at(1.01)
        assert self.held(play) < (count, size)
        flow(9.0, play)
        assert self.held(play) == (0, 0)

    @pytest.mark.parametrize("how", ["client", "broker", "violation", "shutdown", "dismissed"])
    def test_and_no_longer_when_its_connection_ends(self, how: str) -> None:
        play = opened(STUCK, version=5)
        play.client(PINGREQ * 3)
        assert self.held(play)[0] == 1
        play.take()
        connection = play.connection
        if how == "client":
            connection.client_closed()
        elif how == "broker":
            connection.broker_closed(True)
        elif how == "violation":
            play.broker(b"\xff\x00")
        elif how == "shutdown":
            connection.shut_down()
        else:
            play.broker(b"\xe0\x00")
        play.take()
        assert self.held(play) == (0, 0)
        assert play.waiting is not None
        assert play.waiting.next_at == due(play) or play.waiting.next_at > 1e9
        assert [packet for _, packet in flow(99.0, play)] == []

    def test_when_the_pool_is_full_who_has_the_most_in_it_is_cut(self) -> None:
        one = engine(STUCK)
        first = Playbook.opened(engine=one)
        waiting = waiting_room(one, first.counters, pool=100_000)
        plays = [
            Playbook.opened(5, engine=one, client_id=f"c{number}", waiting=waiting, address=bytes([192, 0, 2, number]))
            for number in range(3)
        ]
        for play, size in zip(plays, (10_000, 60_000, 40_000), strict=True):
            play.client(PINGREQ + publish(payload=bytes(size), version=5))
        assert [play.state for play in plays] == [State.OPEN, State.CLOSED, State.OPEN]
        assert dismissal(plays[1].take()[0]).reason == ReasonCode.QUOTA_EXCEEDED

    def test_it_may_be_the_one_that_has_just_come(self) -> None:
        play = opened(STUCK, room={"pool": 50_000}, version=5)
        play.client(PINGREQ + publish(payload=bytes(60_000), version=5))
        to_client, to_broker, commands = play.take()
        assert (dismissal(to_client).reason, to_broker, commands) == (
            ReasonCode.QUOTA_EXCEEDED,
            PINGREQ,
            ["hold", "end"],
        )
        assert self.held(play) == (0, 0)
