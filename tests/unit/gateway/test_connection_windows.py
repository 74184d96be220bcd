"""Windows: `concurrent` bounds the messages in flight of each key, over all its connections."""

from collections.abc import Callable

import pytest

from support.held import flow
from support.limits import engine as engine_of
from support.limits import host as host_of
from support.limits import limit, rate
from support.paced import paced
from support.playbook import Playbook, publish
from tidegate.engine.binding import Engine
from tidegate.engine.counters import HELD_MESSAGES, TIMED_OUT_WINDOW
from tidegate.gateway.connection import STORE, Connection
from tidegate.gateway.guard import OWED_TIME
from tidegate.gateway.states import State
from tidegate.gateway.waiting import LOOK_AGAIN, Waiting
from tidegate.mqtt.ack import Ack, write_ack
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.properties import PropertyId, get, read_properties
from tidegate.mqtt.reasons import PacketType, ReasonCode
from tidegate.mqtt.session import PINGREQ, Disconnect
from tidegate.policy.model import Action, ByClass, Cases, Key, KeyKind, Limit, Policy

T = PacketType
DELAY, DROP = Cases(Action.DELAY), Cases(Action.DROP)
ALL = (Key(KeyKind.ALL),)


def window(number: int, on_excess: Cases = DELAY, **other: object) -> Limit:
    """So many in flight, for all clients together."""
    return limit("window", on_excess, **{"concurrent": ByClass(number), "per": ALL, **other})


class Worker:
    """An engine and the waiting room of its connections."""

    def __init__(self, *limits: Limit, engine: Engine | None = None) -> None:
        self.engine = engine or engine_of(*limits)
        self.waiting: Waiting | None = None

    def client(self, name: str = "c", version: int = 4, address: int = 1, quota: int = 65_535) -> Playbook:
        """`quota`: the Receive Maximum of its broker."""
        play = Playbook.opened(
            version,
            engine=self.engine,
            client_id=name,
            waiting=self.waiting,
            address=bytes([192, 0, 2, address]),
            offered=[(PropertyId.RECEIVE_MAXIMUM, quota)] if version == 5 else None,
        )
        if self.waiting is None:
            self.waiting = play.waiting
        return play

    def run(self, now: float, *plays: Playbook) -> list[bytes]:
        """Give turns; what each one's broker gets."""
        for play in plays:
            play.at(now)
        return [play.take()[1] for play in plays]


def messages(count: int, qos: int = 1, first: int = 1, version: int = 4, topic: str = "t") -> list[bytes]:
    return [publish(f"{topic}/{n}", b"", qos, n, version) for n in range(first, first + count)]


class TestPlaces:
    def test_never_more_than_so_many_are_in_flight(self) -> None:
        play, sent = Worker(window(3)).client(), messages(5)
        play.client(*sent)
        assert play.take() == (b"", b"".join(sent[:3]), [])
        assert play.at(1.0).take() == (b"", b"", [])
        play.broker(write_ack(T.PUBACK, 2))
        assert play.at(1.0).take()[1] == sent[3]

    def test_over_all_connections_of_the_key(self) -> None:
        worker = Worker(window(3))
        a, b = worker.client("a"), worker.client("b")
        a.client(*messages(2))
        b.client(*messages(2, topic="u"))
        assert (a.take()[1], b.take()[1]) == (b"".join(messages(2)), messages(2, topic="u")[0])
        a.broker(write_ack(T.PUBACK, 1))
        assert worker.run(0.0, a, b) == [b"", messages(2, topic="u")[1]]

    def test_each_key_has_its_own(self) -> None:
        worker = Worker(window(1, per=(Key(KeyKind.CLIENT),)))
        for name in "ab":
            play = worker.client(name)
            play.client(*messages(2))
            assert play.take()[1] == messages(1)[0]

    @pytest.mark.parametrize(
        ("qos", "answers", "is_free"),
        [
            (1, [write_ack(T.PUBACK, 1)], True),
            (2, [write_ack(T.PUBREC, 1)], False),
            (2, [write_ack(T.PUBREC, 1), write_ack(T.PUBCOMP, 1)], True),
            (2, [write_ack(T.PUBREC, 1, 0x97)], True),
            (1, [write_ack(T.PUBACK, 2)], False),
        ],
    )
    def test_one_is_free_when_its_exchange_is_over(self, qos: int, answers: list[bytes], is_free: bool) -> None:
        worker = Worker(window(1))
        a, b = worker.client("a", 5), worker.client("b", 5)
        a.client(publish(qos=qos, version=5))
        b.client(publish(qos=1, version=5))
        a.broker(*answers)
        assert b.at(0.0).take()[1] == (publish(qos=1, version=5) if is_free else b"")

    @pytest.mark.parametrize(
        "end", [Connection.client_closed, Connection.shut_down, Connection.cut, lambda connection: None]
    )
    def test_all_of_a_connection_are_free_when_the_broker_knows_of_its_end(
        self, end: Callable[[Connection], None]
    ) -> None:
        worker = Worker(window(2))
        a, b = worker.client("a"), worker.client("b")
        a.client(*messages(3))
        b.client(*messages(2))
        end(a.connection)
        assert b.at(0.0).take()[1] == b""
        a.connection.broker_closed(False)
        assert b.at(0.0).take()[1] == b"".join(messages(2))

    def test_what_is_held_takes_none(self) -> None:
        worker = Worker(window(1), limit("stuck", DELAY, topic=("u",), rate=rate(1, 1, 3600)))
        a, b = worker.client("a"), worker.client("b")
        a.client(publish("u"), publish("u", qos=1))
        b.client(publish(qos=1))
        assert (a.take()[1], b.take()[1]) == (publish("u"), publish(qos=1))
        assert worker.waiting is not None
        assert worker.waiting.messages == 1

    def test_qos_0_needs_none(self) -> None:
        play = Worker(window(1)).client()
        play.client(publish(qos=1))
        play.take()
        assert play.client(publish("u") * 9).take()[1] == publish("u") * 9

    def test_what_is_in_flight_goes_on_once(self) -> None:
        play = Worker(window(2)).client()
        play.client(publish(qos=1), publish(qos=1, dup=True), publish(qos=1, packet_id=2))
        assert play.take()[1] == publish(qos=1) + publish(qos=1, packet_id=2)

    @pytest.mark.parametrize("version", [4, 5])
    def test_an_identifier_that_is_in_flight_cannot_be_used_again(self, version: int) -> None:
        play = Worker(window(2)).client(version=version)
        play.client(publish(qos=1, version=version) * 2)
        assert play.state is State.CLOSED

    def test_what_another_limit_refuses_takes_none(self) -> None:
        play = Worker(window(1), limit("small", DROP, size=ByClass(1))).client()
        play.client(publish(payload=b"large", qos=1), publish(qos=1, packet_id=2))
        assert play.take()[1] == publish(qos=1, packet_id=2)

    def test_a_large_message_waits_unread_for_its(self) -> None:
        play = Worker(window(1)).client()
        large = publish("big", bytes(2 * STORE), 1, 2)
        play.client(publish(qos=1), large[:STORE])
        assert play.take()[1:] == (publish(qos=1), ["hold"])
        play.broker(write_ack(T.PUBACK, 1))
        assert play.at(0.0).take()[1:] == (large[:STORE], ["free"])
        play.client(large[STORE:])
        play.client(publish(qos=1, packet_id=3))
        assert play.take()[1] == large[STORE:]


class TestWaiting:
    def test_those_who_wait_take_turns(self) -> None:
        worker = Worker(window(1))
        plays = [worker.client(name, address=1) for name in "ab"] + [worker.client("c", address=2)]
        first = worker.client("first")
        first.client(publish(qos=1, packet_id=9))
        for play in plays:
            play.client(*messages(3))
        served = []
        acknowledge = (first, 9)
        for _ in range(9):
            play, packet_id = acknowledge
            play.broker(write_ack(T.PUBACK, packet_id))
            got = worker.run(0.0, *plays)
            (index,) = (i for i, sent in enumerate(got) if sent)
            served.append("abc"[index])
            acknowledge = (plays[index], served.count("abc"[index]))
        assert "".join(served) == "acbcacbab"

    def test_one_who_comes_does_not_overtake_them(self) -> None:
        worker = Worker(window(1))
        a, b = worker.client("a"), worker.client("b")
        a.client(*messages(2))
        a.broker(write_ack(T.PUBACK, 1))  # and before anybody has a turn
        b.client(*messages(1))
        assert worker.run(0.0, a, b) == [b"".join(messages(2)), b""]

    def test_the_window_is_looked_at_even_if_nobody_says_that_a_place_is_free(self) -> None:
        made = host_of(window(1), workers=2)
        engines = [Engine(made.segment, row) for row in range(2)]
        for engine in engines:
            engine.load(made.segment.policy())
        a, b = (Worker(engine=engine).client(name) for engine, name in zip(engines, "ab", strict=True))
        a.client(publish(qos=1))
        b.client(publish(qos=1))
        assert b.at(0.0).take()[1] == b""
        made.segment.recover(0)  # its process has died
        assert b.at(LOOK_AGAIN - 0.01).take()[1] == b""
        assert b.at(LOOK_AGAIN).take()[1] == publish(qos=1)

    @pytest.mark.parametrize("by", ["acknowledged", "closed"])
    def test_another_worker_is_told(self, by: str) -> None:
        made = host_of(window(1), workers=2)
        engines = [Engine(made.segment, row) for row in range(2)]
        for engine in engines:
            engine.load(made.segment.policy())
        a, b = (Worker(engine=engine).client(name) for engine, name in zip(engines, "ab", strict=True))
        signals: list[int] = []
        assert a.waiting is not None
        assert b.waiting is not None
        a.waiting.signal = signals.append
        a.client(publish(qos=1))
        b.client(publish(qos=1))
        b.at(0.0).take()
        if by == "closed":
            a.connection.client_closed()
            a.connection.broker_closed(False)
        else:
            a.broker(write_ack(T.PUBACK, 1))
        assert signals == [0b10]
        b.waiting.look(0.01)
        assert b.at(0.01).take()[1] == publish(qos=1)

    def test_for_too_long_and_it_gets_then(self) -> None:
        play = Worker(window(1, max_delay=2.0)).client(version=5)
        play.client(publish(qos=1, version=5), publish(qos=1, packet_id=2, version=5))
        play.take()
        frame, ack, wire = Frame(), Ack(), play.at(2.0).take()[0]
        assert frame.read(wire, 0)
        ack.read(wire, 0, frame.body, frame.end, 5)
        assert (ack.packet_id, ack.reason) == (2, ReasonCode.QUOTA_EXCEEDED)
        properties = read_properties(wire, frame.body + 3, frame.end, T.PUBACK)[0]
        assert "too many messages wait for their acknowledgement" in str(get(properties, PropertyId.REASON_STRING))
        assert get(properties, PropertyId.USER_PROPERTY) is None, "nobody knows when to come back"

    def test_another_action_does_not_wait(self) -> None:
        play = Worker(window(1, DROP)).client()
        play.client(publish(qos=1), publish(qos=1, packet_id=2))
        assert play.take() == (write_ack(T.PUBACK, 2), publish(qos=1), [])

    def test_a_smaller_window_after_a_reload(self) -> None:
        made = host_of(window(3))
        engine = Engine(made.segment, 0)
        engine.load(made.segment.policy())
        play, sent = Worker(engine=engine).client(), messages(5)
        play.client(*sent)
        made.replace(Policy(limits=(window(1),)))
        engine.load(made.segment.policy())
        play.take()
        for packet_id, got in ((1, b""), (2, b""), (3, sent[3]), (4, sent[4])):
            play.broker(write_ack(T.PUBACK, packet_id))
            assert play.at(0.0).take()[1] == got


class TestNotReading:
    """A client that does not take what is written to it has its messages in flight for ever."""

    def test_others_do_not_wait_for_it_for_ever(self) -> None:
        play = Worker(window(2)).client(version=5)
        play.client(publish(qos=1, version=5)).take()
        play.connection.client_takes(False, 0.5)
        assert play.at(OWED_TIME).take()[2] == []
        assert play.at(OWED_TIME + 0.5).take()[2] == ["end"]
        assert play.counters.value(TIMED_OUT_WINDOW) == 1

    @pytest.mark.parametrize("key", [KeyKind.ALL, KeyKind.CLIENT])
    def test_who_keeps_nothing_from_others_may(self, key: KeyKind) -> None:
        play = Worker(window(2, per=(Key(key),))).client()
        if key is KeyKind.CLIENT:
            play.client(publish(qos=1))
        play.connection.client_takes(False, 0.5)
        assert play.at(10 * OWED_TIME).take()[2] == []

    def test_one_who_reads_again_in_time_may_go_on(self) -> None:
        play = Worker(window(2)).client()
        play.client(publish(qos=1)).take()
        play.connection.client_takes(False, 0.5)
        play.connection.client_takes(True, 5.0)
        assert play.at(10 * OWED_TIME).take()[2] == []


class TestWithARate:
    def test_a_message_waits_for_both(self) -> None:
        play = Worker(window(2), limit("slow", DELAY, rate=rate(1, 3))).client()
        sent = messages(5)
        play.client(*sent)
        assert play.take()[1] == b"".join(sent[:2])
        play.broker(write_ack(T.PUBACK, 1), write_ack(T.PUBACK, 2))
        assert flow(0.5, play) == [(0.0, sent[2])]
        assert flow(1.5, play) == [(1.0, sent[3])]
        assert flow(2.5, play) == []
        play.broker(write_ack(T.PUBACK, 3))
        assert flow(3.0, play) == [(2.5, sent[4])]


class TestOwedPubrels:
    """A client that does not send PUBREL keeps a place; it may have no more than half of a window so."""

    def owing(self, count: int, number: int = 4, version: int = 4) -> tuple[Worker, Playbook]:
        worker = Worker(window(number))
        play = worker.client("owing", version)
        play.client(*messages(count, 2, version=version))
        play.broker(*(write_ack(T.PUBREC, n) for n in range(1, count + 1)))
        play.take()
        return worker, play

    def test_half_of_a_window_at_most(self) -> None:
        worker, play = self.owing(2)
        play.client(publish("qos2", qos=2, packet_id=9))
        assert play.at(0.0).take()[1] == b"", "though half of the places are free: for all others, and for QoS 1"
        assert play.client(publish("qos1", qos=1, packet_id=8)).take()[1] == publish("qos1", qos=1, packet_id=8)
        other = worker.client("other").client(publish(qos=2, packet_id=7))
        assert other.take()[1] == publish(qos=2, packet_id=7)

    def test_of_a_window_of_one_that_one(self) -> None:
        _, play = self.owing(1, number=1)
        play.client(publish("qos2", qos=2, packet_id=9))
        assert play.take()[1] == b""

    def test_less_than_half_is_nobodys_business(self) -> None:
        _, play = self.owing(1)
        play.client(publish("qos2", qos=2, packet_id=9))
        assert play.take()[1] == publish("qos2", qos=2, packet_id=9)

    def test_with_the_pubrel_it_goes_on(self) -> None:
        _, play = self.owing(2)
        play.client(publish("qos2", qos=2, packet_id=9))
        play.at(0.0).take()
        play.client(write_ack(T.PUBREL, 1))
        assert play.take()[1] == write_ack(T.PUBREL, 1) + publish("qos2", qos=2, packet_id=9)

    @pytest.mark.parametrize("version", [4, 5])
    def test_one_who_owes_it_for_too_long_is_closed(self, version: int) -> None:
        worker, play = self.owing(1, number=1, version=version)
        other = worker.client("other")
        other.now = OWED_TIME - 1.0
        other.client(publish(qos=1))
        assert play.connection.wake_at == OWED_TIME
        assert play.at(OWED_TIME - 0.1).take() == (b"", b"", [])
        to_client, to_broker, commands = play.at(OWED_TIME).take()
        assert (to_broker, commands) == (b"", ["end"])
        assert play.counters.value(TIMED_OUT_WINDOW) == 1
        play.connection.broker_closed(False)
        assert other.at(OWED_TIME).take()[1] == publish(qos=1)
        if version == 5:
            frame = Frame()
            assert frame.read(to_client, 0)
            told = Disconnect.read(to_client, 0, frame.body, frame.end, 5, from_client=False)
            assert told.reason == ReasonCode.QUOTA_EXCEEDED

    def test_repeating_it_all_is_no_excuse(self) -> None:
        _, play = self.owing(1, number=1)
        play.now = 5.0
        play.client(publish("t/1", b"", 2, 1, dup=True)).broker(write_ack(T.PUBREC, 1))
        assert play.at(OWED_TIME).take()[2] == ["end"]

    def test_not_being_read_is_one(self) -> None:
        slow = limit("slow", DELAY, rate=rate(1, 1, 3600), topic=("big",), max_delay=60.0)
        play = Worker(window(1), slow).client()
        play.client(publish(qos=2)).broker(write_ack(T.PUBREC, 1))
        play.client(publish("big"), publish("big", bytes(2 * STORE)) + write_ack(T.PUBREL, 1))
        play.take()
        assert play.at(OWED_TIME).take()[1:] == (write_ack(T.PUBREL, 1), ["free"]), "what it was behind is given up"
        assert play.state is State.OPEN

    def test_nor_is_one_that_waits_as_a_packet_given_up_for_that(self) -> None:
        play = Worker(window(1), paced(2, 2, 3600, max_delay=60.0)).client()
        play.client(publish(qos=2)).broker(write_ack(T.PUBREC, 1))
        play.client(PINGREQ * 2 + write_ack(T.PUBREL, 1))
        assert play.take()[1] == publish(qos=2) + PINGREQ
        assert play.at(OWED_TIME).take() == (b"", b"", [])
        assert play.at(2 * OWED_TIME).take() == (b"", b"", ["end"]), "once, as others wait for its place"
        assert play.counters.value(HELD_MESSAGES) == 0

    def test_one_who_has_left_sends_none(self) -> None:
        _, play = self.owing(1, number=1)
        play.client(*messages(1, 1, 2), b"\xe0\x00")
        play.take()
        assert play.at(5.0).take()[1] == b"\xe0\x00"
        slow = limit("slow", DELAY, rate=rate(1, 1, 3600), topic=("u",), max_delay=60.0)
        play = Worker(window(1), slow).client()
        play.client(publish(qos=2)).broker(write_ack(T.PUBREC, 1))
        play.client(publish("u") * 2, b"\xe0\x00")
        play.take()
        assert play.at(OWED_TIME).take()[1] == b"\xe0\x00", "its place is not kept any longer"

    def test_one_who_sends_it_in_time_is_not(self) -> None:
        _, play = self.owing(2)
        play.now = 6.0
        play.client(write_ack(T.PUBREL, 1))
        assert play.connection.wake_at == OWED_TIME, "the second is still owed"
        play.client(write_ack(T.PUBREL, 2) + PINGREQ)
        assert play.at(OWED_TIME).take()[2] == []
        assert play.state is State.OPEN

    def test_the_brokers_quota_may_be_used_up_meanwhile(self) -> None:
        play = Worker(window(4)).client(version=5, quota=3)
        play.client(*messages(3, 2, version=5), publish("qos1", qos=1, packet_id=4, version=5))
        play.broker(*(write_ack(T.PUBREC, n) for n in (1, 2))).take()
        to_client, to_broker, commands = play.at(5.0).take()
        assert to_client[:1] + to_client[2:5] == b"\x50\x00\x03\x97", "PUBREC for it: quota exceeded"
        assert (to_broker, commands) == (b"", [])

    def test_a_window_of_its_own_is_its_own_business(self) -> None:
        play = Worker(window(2, per=(Key(KeyKind.CLIENT),))).client()
        play.client(*messages(2, 2)).broker(write_ack(T.PUBREC, 1), write_ack(T.PUBREC, 2))
        assert play.take()[1] == b"".join(messages(2, 2))
        assert play.connection.wake_at == 0.0

    def test_without_a_window_nobody_counts(self) -> None:
        play = Worker(limit("other", DROP, size=ByClass(1000))).client()
        play.client(publish(qos=2)).broker(write_ack(T.PUBREC, 1))
        assert play.connection.wake_at == 0.0
        assert play.counters.value(HELD_MESSAGES) == 0
