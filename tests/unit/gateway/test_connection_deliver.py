"""Limits on `deliver`, on a given clock: what goes on to a client and when, what is replaced, what is dropped."""

from collections.abc import Iterable

import pytest

from support.delivered import DELAY, heard, limit, slow, window
from support.held import ALL, discarded, steps
from support.limits import engine as engine_of
from support.limits import host, rate
from support.playbook import Playbook, connack, connect, publish, waiting_room
from support.wire import split
from tidegate.engine.binding import Engine
from tidegate.engine.counters import HELD_MESSAGES, HOLD_DISCARDED, INFLIGHT_FROM_BROKER, PACKETS_FROM_BROKER, Discard
from tidegate.gateway.bounds import STORE
from tidegate.gateway.states import State
from tidegate.gateway.waiting import Waiting
from tidegate.mqtt.ack import write_ack
from tidegate.mqtt.connect import Connect
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.properties import PropertyId
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.session import PINGREQ, PINGRESP
from tidegate.mqtt.subscribe import Suback
from tidegate.policy.model import Action, Cases, Limit

T = PacketType


def opened(
    *limits: Limit, version: int = 4, room: dict[str, int] | None = None, engine: Engine | None = None,
    waiting: Waiting | None = None, client_id: str = "c", address: int = 1,
) -> Playbook:  # fmt: skip
    """A client under these limits; `room`: the bounds of its hold."""
    engine = engine or engine_of(*limits)
    address_of = bytes([192, 0, 2, address])
    play = Playbook.opened(version, engine=engine, waiting=waiting, client_id=client_id, address=address_of)
    if room is None:
        return play
    return Playbook.opened(version, engine=engine, waiting=waiting_room(engine, play.counters, **room))


def told(packets: Iterable[bytes]) -> list[tuple[str, bytes]]:
    """Topic and payload of each PUBLISH of 3.x."""
    found = []
    frame = Frame()
    for wire in packets:
        assert frame.read(wire, 0)
        assert wire[0] >> 4 == T.PUBLISH
        end = frame.body + 2 + int.from_bytes(wire[frame.body : frame.body + 2], "big")
        found.append((wire[frame.body + 2 : end].decode(), wire[end + (2 if wire[0] & 6 else 0) :]))
    return found


def flow(until: float, play: Playbook) -> list[tuple[float, bytes]]:
    """The packets that the client gets until then, each with its second."""
    got = [(play.now, packet) for packet in split(play.take()[0])]
    for now in steps(until, play):
        got += [(round(now, 3), packet) for packet in split(play.take()[0])]
    return got


class TestPace:
    @pytest.mark.parametrize("qos", [0, 1, 2])
    @pytest.mark.parametrize("version", [4, 5])
    def test_a_burst_passes_and_then_one_each_interval(self, version: int, qos: int) -> None:
        play = opened(slow(2, 2), version=version)
        sent = [publish(f"t/{n}", b"", qos, n, version) for n in range(1, 6)]
        play.broker(b"".join(sent))
        got = flow(10.0, play)
        assert [packet for _, packet in got] == sent
        assert [at for at, _ in got] == [0.0, 0.0, 0.5, 1.0, 1.5]

    def test_control_packets_travel_at_once(self) -> None:
        play = opened(slow())
        play.client(PINGREQ)
        suback = Suback(7, [0]).write(4)
        play.broker(publish("a"), publish("b"), PINGRESP + suback, write_ack(T.PUBACK, 9))
        assert heard(play) == [publish("a"), PINGRESP, suback, write_ack(T.PUBACK, 9)]
        assert flow(2.0, play) == [(1.0, publish("b"))]

    def test_the_broker_is_read_on(self) -> None:
        play = opened(slow())
        for n in range(100):
            play.broker(publish(f"t/{n}"))
        assert play.take()[2] == []

    def test_any_chunking_gives_the_same(self) -> None:
        stream = b"".join(publish(f"t/{n % 3}", b"%d" % n, n % 3, n + 1) for n in range(9)) + PINGRESP
        for size in (1, 7, len(stream)):
            play = opened(slow(3, 3))
            play.broker(*(stream[at : at + size] for at in range(0, len(stream), size)))
            got = [packet for _, packet in flow(10.0, play)]
            assert len(got) == 10
            assert [name for name, _ in told(p for p in got if p[0] >> 4 == T.PUBLISH and p[0] & 6)] == [
                f"t/{n % 3}" for n in range(9) if n % 3
            ]

    def test_much_at_once_is_taken_in_several_turns(self) -> None:
        play = opened(slow(100, 1))
        stream = b"".join(publish(f"t/{n}") for n in range(500)) + PINGRESP
        play.client(PINGREQ)
        play.connection.broker_bytes(stream, 0.0)
        assert PINGRESP not in split(play.take()[0])
        play.connection.resume_broker(0.0)
        for _ in range(10):
            play.connection.resume_broker(0.0)
        assert PINGRESP in heard(play)
        assert play.counters.value(HELD_MESSAGES) == 499

    def test_what_is_counted_once(self) -> None:
        play = opened(slow())
        play.broker(*(publish(f"t/{n}", b"", 1, n) for n in range(1, 4)))
        assert play.counters.value(PACKETS_FROM_BROKER + T.PUBLISH) == 3
        assert play.counters.value(INFLIGHT_FROM_BROKER) == 1
        play.at(1.0)
        assert play.counters.value(INFLIGHT_FROM_BROKER) == 2

    def test_bandwidth(self) -> None:
        size = len(publish("t", bytes(100)))
        play = opened(limit(DELAY, bandwidth=rate(size, size)))
        play.broker(*(publish("t", bytes(100)) for _ in range(3)))
        assert [at for at, _ in flow(5.0, play)] == [0.0, 1.0, 2.0]

    def test_only_what_it_meets(self) -> None:
        play = opened(slow(topic=("slow/#",)))
        play.broker(publish("slow/1"), publish("slow/2"), publish("fast/1"), publish("fast/2"))
        assert heard(play) == [publish("slow/1"), publish("fast/1"), publish("fast/2")]

    def test_observe_changes_nothing(self) -> None:
        engine = engine_of(limit(Cases(Action.OBSERVE), rate=rate(1)))
        play = opened(engine=engine)
        play.broker(publish("a") + publish("b"))
        assert play.take()[0] == publish("a") + publish("b")
        assert not play.connection.spares_broker()


class TestOrder:
    def test_qos_1_and_2_keep_theirs_over_all_topics(self) -> None:
        play = opened(slow(topic=("slow",)))
        sent = [publish("slow", b"1", 1, 1), publish("slow", b"2", 1, 2), publish("fast", b"3", 2, 3)]
        play.broker(*sent)
        assert flow(3.0, play) == [(0.0, sent[0]), (1.0, sent[1]), (1.0, sent[2])]

    def test_qos_0_overtakes(self) -> None:
        play = opened(slow(topic=("slow",)))
        play.broker(publish("slow", b"", 1, 1), publish("slow", b"", 1, 2), publish("fast"))
        assert told(heard(play)) == [("slow", b""), ("fast", b"x")]

    def test_but_not_on_its_own_topic(self) -> None:
        play = opened(slow())
        sent = [
            publish("t", b"0", 0), publish("t", b"1", 0), publish("t", b"2", 1, 1), publish("t", b"3", 0),
            publish("t", b"4", 2, 2), publish("t", b"5", 0),
        ]  # fmt: skip
        play.broker(b"".join(sent))
        assert [packet for _, packet in flow(10.0, play)] == sent

    def test_what_came_first_of_other_topics_goes_first(self) -> None:
        play = opened(slow())
        sent = [publish(f"t/{n}", b"", n % 3, n) for n in range(1, 7)]
        play.broker(*sent)
        assert [packet for _, packet in flow(10.0, play)] == sent


class TestConflate:
    def test_the_newest_of_each_topic_takes_the_place_of_the_older(self) -> None:
        play = opened(slow(conflate=True))
        play.broker(*(publish(topic, b"%d" % n) for n in range(5) for topic in "abc"))
        assert [(at, *told([p])[0]) for at, p in flow(9.0, play)] == [
            (0.0, "a", b"0"), (1.0, "b", b"4"), (2.0, "c", b"4"), (3.0, "a", b"4"),
        ]  # fmt: skip

    def test_it_waits_for_its_turn_however_long(self) -> None:
        play = opened(slow(1, 1, 60, conflate=True))
        play.broker(publish("a"), publish("b", b"1"))
        assert flow(59.0, play) == [(0.0, publish("a"))]
        play.broker(publish("b", b"2"))
        assert flow(61.0, play) == [(60.0, publish("b", b"2"))]

    def test_qos_1_is_never_replaced(self) -> None:
        play = opened(slow(conflate=True))
        sent = [publish("a", b"%d" % n, 1, n) for n in range(1, 4)]
        play.broker(*sent)
        assert [packet for _, packet in flow(9.0, play)] == sent

    def test_behind_one_of_qos_1_the_newest_is_kept(self) -> None:
        play = opened(slow(conflate=True))
        play.broker(publish("x"), publish("a", b"1", 1, 1), *(publish("a", b"%d" % n) for n in range(2, 9)))
        assert [p for _, p in flow(9.0, play)] == [publish("x"), publish("a", b"1", 1, 1), publish("a", b"8")]

    def test_the_memory_is_that_of_the_newest(self) -> None:
        play = opened(slow(conflate=True), room={"messages": 2})
        play.broker(publish("x"), *(publish(topic, bytes(n)) for n in range(1000) for topic in "ab"))
        assert play.waiting is not None
        assert play.waiting.messages == 2
        assert play.waiting.bytes < 5000
        assert [len(payload) for _, payload in told(p for _, p in flow(5.0, play))] == [1, 999, 999]

    def test_what_is_replaced_is_counted_as_dropped_by_the_limit(self) -> None:
        engine = engine_of(slow(conflate=True))
        play = opened(engine=engine)
        play.broker(publish("x"), *(publish("a") for _ in range(5)))
        counted = dict(zip(("passed", "observe", "delay", "drop"), engine.segment.tallies(0), strict=False))
        assert counted == {"passed": 1, "observe": 0, "delay": 1, "drop": 4}


class TestTooLong:
    def test_qos_0_is_dropped(self) -> None:
        engine = engine_of(slow(1, 1, 60))
        play = opened(engine=engine)
        play.broker(publish("a"), publish("b"), publish("b"))
        assert flow(70.0, play) == [(0.0, publish("a"))]
        assert engine.segment.tallies(0)[3] == 2
        assert play.counters.value(HELD_MESSAGES) == 0

    @pytest.mark.parametrize("message", [publish("b", b"", 1, 1), publish("b", b"", 2, 1), publish("b", retain=True)])
    def test_all_else_waits_on(self, message: bytes) -> None:
        play = opened(slow(1, 1, 60))
        play.broker(publish("a"), message)
        assert flow(70.0, play) == [(0.0, publish("a")), (60.0, message)]


class TestRoom:
    def test_without_it_qos_0_is_dropped_by_the_limit(self) -> None:
        engine = engine_of(slow())
        play = opened(engine=engine, room={"messages": 2})
        play.broker(*(publish(f"t/{n}") for n in range(5)))
        assert [name for name, _ in told(p for _, p in flow(9.0, play))] == ["t/0", "t/1", "t/2"]
        assert engine.segment.tallies(0)[3] == 2
        assert play.take()[2] == []

    def test_for_qos_1_the_broker_is_not_read_until_there_is_room(self) -> None:
        play = opened(slow(), room={"messages": 2})
        sent = [publish(f"t/{n}", b"", 1, n) for n in range(1, 7)]
        play.broker(b"".join(sent))
        assert play.take() == (sent[0], b"", ["hold broker"])
        assert flow(9.0, play) == [(float(n), sent[n]) for n in range(1, 6)]
        assert play.state is State.OPEN

    def test_in_bytes_only_while_the_worker_has_few(self) -> None:
        for pool, held in ((1 << 20, 9), (8_000, 3)):
            play = opened(slow(), room={"size": 2500, "pool": pool})
            play.broker(publish("x"), *(publish(f"t/{n}", bytes(500), 1, n) for n in range(1, 10)))
            assert play.waiting is not None
            assert play.waiting.messages == held

    def test_meanwhile_its_pings_are_answered_here(self) -> None:
        play = opened(slow(), room={"messages": 1})
        play.client(PINGREQ)
        play.broker(*(publish(f"t/{n}", b"", 1, n) for n in range(1, 4)))
        assert heard(play)[-1] == PINGRESP  # the one that was asked for before
        play.client(PINGREQ)
        assert play.take()[:2] == (PINGRESP, PINGREQ)
        play.broker(PINGRESP + PINGRESP)  # read only later, and for nobody
        assert PINGRESP not in [packet for _, packet in flow(9.0, play)]
        play.client(PINGREQ).broker(PINGRESP)
        assert heard(play) == [PINGRESP]

    def test_what_must_be_kept_does_not_wait_for_what_need_not(self) -> None:
        play = opened(slow(), room={"messages": 2})
        play.broker(publish("x"), publish("a"), publish("b"), publish("c", b"", 1, 1))
        assert play.take()[2] == []
        assert [name for name, _ in told(p for _, p in flow(9.0, play))] == ["a", "b", "c"]

    def test_the_pool_drops_qos_0_of_the_largest(self) -> None:
        engine = engine_of(slow())
        first = opened(engine=engine)
        waiting = waiting_room(engine, first.counters, pool=5000)
        a, b = (opened(engine=engine, waiting=waiting, client_id=name, address=n) for n, name in enumerate("ab", 1))
        a.broker(publish("x"), publish("small"))
        b.broker(publish("x"), *(publish(f"t/{n}", bytes(500)) for n in range(10)))
        assert (a.state, b.state) == (State.OPEN, State.OPEN)
        assert discarded(first)["POOL"] >= 3
        assert waiting.bytes <= 5000
        assert [name for name, _ in told(p for _, p in flow(2.0, a))] == ["x", "small"]

    def test_or_ends_it_when_all_is_of_qos_1(self) -> None:
        engine = engine_of(slow())
        first = opened(engine=engine)
        waiting = waiting_room(engine, first.counters, pool=5000)
        play = opened(engine=engine, waiting=waiting)
        play.broker(publish("x"), *(publish(f"t/{n}", bytes(500), 1, n) for n in range(1, 11)))
        assert play.state is State.CLOSED
        assert (waiting.bytes, waiting.messages) == (0, 0)

    def test_and_that_is_done_also_when_another_has_filled_the_pool(self) -> None:
        engine = engine_of(slow())
        first = opened(engine=engine)
        waiting = waiting_room(engine, first.counters, pool=5000)
        a, b = (opened(engine=engine, waiting=waiting, client_id=name, address=n) for n, name in enumerate("ab", 1))
        a.broker(publish("x"), *(publish(f"t/{n}", bytes(500), 1, n) for n in range(1, 4)))
        flushed: list[State] = []
        a.connection.flusher = lambda: flushed.append(a.state)
        b.broker(publish("x"), *(publish(f"t/{n}", bytes(500), 1, n) for n in range(1, 3)))
        waiting.run(0.0)  # for which it has asked: b was in the middle of its own
        assert flushed == [State.CLOSED]
        assert b.state is State.OPEN


class TestLarge:
    SIZE = STORE + 1000

    def parts(self, wire: bytes) -> list[bytes]:
        return [wire[at : at + 10_000] for at in range(0, len(wire), 10_000)]

    @pytest.mark.parametrize("qos", [0, 1])
    def test_one_that_passes_is_not_kept(self, qos: int) -> None:
        play = opened(slow())
        wire = publish("t", bytes(self.SIZE), qos)
        first, *others = self.parts(wire)
        play.broker(first)
        assert play.take()[0] == first
        play.broker(*others)
        assert play.take()[0] == b"".join(others)

    @pytest.mark.parametrize("qos", [0, 1])
    def test_one_that_waits_is_left_with_the_broker(self, qos: int) -> None:
        play = opened(slow())
        first, *others = self.parts(publish("t", bytes(self.SIZE), qos))
        play.broker(publish("x"), first)
        assert play.take()[::2] == (publish("x"), ["hold broker"])
        assert play.at(1.0).take()[::2] == (first, ["free broker"])
        play.broker(*others, publish("y"))
        assert play.take()[0] == b"".join(others)
        assert flow(2.0, play) == [(2.0, publish("y"))]

    def test_of_qos_0_not_for_ever(self) -> None:
        play = opened(slow(1, 1, 60))
        first, *others = self.parts(publish("t", bytes(self.SIZE)))
        play.broker(publish("x"), first)
        play.take()
        assert play.at(5.0).take()[::2] == (b"", ["free broker"])
        play.broker(*others, PINGRESP)
        assert play.take()[0] == PINGRESP

    def test_nothing_is_written_inside_of_it(self) -> None:
        play = opened(slow(topic=("s",)))
        first, *others = self.parts(publish("t", bytes(self.SIZE)))
        play.broker(publish("s", b"1"), publish("s", b"2"), first)
        play.take()
        assert play.at(1.5).take()[0] == b""
        play.broker(*others)
        assert play.take()[0] == b"".join(others) + publish("s", b"2")


class TestWindow:
    @pytest.mark.parametrize("version", [4, 5])
    @pytest.mark.parametrize("qos", [1, 2])
    def test_never_more_than_so_many_are_unacknowledged(self, version: int, qos: int) -> None:
        play = opened(window(2), version=version)
        sent = [publish(f"t/{n}", b"", qos, n, version) for n in range(1, 6)]
        play.broker(b"".join(sent))
        assert heard(play) == sent[:2]
        if qos == 2:
            play.client(write_ack(T.PUBREC, 1))
            assert heard(play.at(0.0)) == []
        play.client(write_ack(T.PUBACK if qos == 1 else T.PUBCOMP, 1))
        assert heard(play.at(0.0)) == sent[2:3]

    def test_a_refusing_pubrec_frees_its_place(self) -> None:
        play = opened(window(1), version=5)
        sent = [publish(f"t/{n}", b"", 2, n, 5) for n in range(1, 3)]
        play.broker(*sent)
        play.client(write_ack(T.PUBREC, 1, 0x97))
        assert heard(play.at(0.0)) == sent

    def test_qos_0_does_not_count(self) -> None:
        play = opened(window(1))
        play.broker(publish("a", b"", 1, 1), publish("b", b"", 1, 2), publish("c"), publish("d"))
        assert told(heard(play)) == [("a", b""), ("c", b"x"), ("d", b"x")]

    def test_others_have_their_own_unless_it_is_shared(self) -> None:
        engine = engine_of(window(2, per=ALL))
        a = opened(engine=engine, client_id="a")
        b = opened(engine=engine, client_id="b", waiting=a.waiting, address=2)
        a.broker(*(publish("t", b"", 1, n) for n in range(1, 5)))
        assert len(heard(a)) == 1  # of a shared one nobody gets more than half
        b.broker(publish("t", b"", 1, 1), publish("t", b"", 1, 2))
        assert len(heard(b)) == 1
        a.client(write_ack(T.PUBACK, 1))
        a.at(0.0), b.at(0.0)
        assert (len(heard(a)), len(heard(b))) == (1, 0)

    def test_its_places_are_free_when_it_ends(self) -> None:
        engine = engine_of(window(2, per=ALL))
        a = opened(engine=engine, client_id="a")
        b = opened(engine=engine, client_id="b", waiting=a.waiting, address=2)
        a.broker(publish("t", b"", 1, 1))
        b.broker(publish("t", b"", 1, 1), publish("t", b"", 1, 2))
        b.take()
        a.connection.client_closed()
        c = opened(engine=engine, client_id="c", waiting=a.waiting, address=3)
        c.broker(publish("t", b"", 1, 1))
        assert len(heard(c)) == 1

    def test_a_scale_factor_moves_it_at_once_both_ways(self) -> None:
        engine = engine_of(window(4))
        play = opened(engine=engine)
        play.broker(*(publish("t", b"", 1, n) for n in range(1, 21)))
        assert len(heard(play)) == 4
        engine.segment.set_scale(0, 2, 0.5)
        for n in range(1, 5):
            play.client(write_ack(T.PUBACK, n))
        assert len(heard(play.at(0.0))) == 2
        engine.segment.set_scale(0, 2, 1.5)
        play.client(write_ack(T.PUBACK, 5))
        assert len(heard(play.at(0.0))) == 5


class TestReceiveMaximum:
    def asked(self, *limits: Limit, version: int = 5, wants: int | None = 65_535, **room: int) -> int:
        """What the broker is told that it may send unacknowledged."""
        engine = engine_of(*limits)
        first = Playbook(engine=engine)
        play = Playbook(engine=engine, waiting=waiting_room(engine, first.counters, **room))
        properties = [] if wants is None else [(PropertyId.RECEIVE_MAXIMUM, wants)]
        play.client(connect(version, properties=properties if version == 5 else None))  # type: ignore[arg-type]
        wire = play.upstream().take()[1]
        frame = Frame()
        assert frame.read(wire, 0)
        assert Connect.read(wire, 0, frame.body, frame.end).client_id == "c"
        play.broker(connack(version))
        assert play.state is State.OPEN
        return Connect.read(wire, 0, frame.body, frame.end).receive_maximum

    def test_no_more_than_the_window(self) -> None:
        assert self.asked(window(20)) == 20

    def test_no_more_than_the_client_wants(self) -> None:
        assert self.asked(window(20), wants=7) == 7

    @pytest.mark.parametrize("wants", [None, 65_535])
    def test_no_more_than_there_is_room_for(self, wants: int | None) -> None:
        assert self.asked(slow(), wants=wants) == 1000
        assert self.asked(slow(), wants=wants, messages=10) == 10

    @pytest.mark.parametrize("limits", [(), (limit(Cases(Action.OBSERVE), rate=rate(1)),)])
    def test_as_it_was_where_nothing_is_delayed(self, limits: tuple[Limit, ...]) -> None:
        assert self.asked(*limits) == 65_535

    def test_3_has_none(self) -> None:
        assert self.asked(window(20), version=4) == 65_535


class TestSlowReader:
    def test_the_broker_is_read_on_while_it_takes_nothing(self) -> None:
        play = opened(slow(1000, 1000))
        play.broker(publish("t"))
        assert play.connection.spares_broker()
        play.take()
        play.connection.client_takes(False, 0.0)
        play.broker(publish("a"), publish("b", b"", 1, 1), PINGRESP)
        assert heard(play) == [PINGRESP]
        play.connection.client_takes(True, 0.0)
        assert heard(play) == [publish("a"), publish("b", b"", 1, 1)]

    def test_within_bounds(self) -> None:
        play = opened(slow(1000, 1000), room={"messages": 2})
        play.broker(publish("t"))
        play.connection.client_takes(False, 0.0)
        play.broker(*(publish(f"t/{n}") for n in range(5)))
        assert play.waiting is not None
        assert play.waiting.counters.value(HOLD_DISCARDED + Discard.FULL) == 3
        assert play.take()[2] == []

    def test_without_a_limit_that_delays_it_is_not(self) -> None:
        play = opened()
        play.broker(publish("t"))
        assert not play.connection.spares_broker()


class TestEnd:
    @pytest.mark.parametrize("leave", [b"\xe0\x00", None])
    def test_what_waits_is_given_up(self, leave: bytes | None) -> None:
        play = opened(slow())
        play.broker(publish("a"), publish("b"), publish("c", b"", 1, 1))
        if leave is not None:
            play.client(leave)
        else:
            play.connection.client_closed()
        assert sum(discarded(play).values()) == 2
        assert play.counters.value(HELD_MESSAGES) == 0
        assert play.waiting is not None
        assert play.waiting.messages == 0

    def test_a_limit_that_is_gone_lets_all_pass(self) -> None:
        policy = host(slow(1, 1, 3600))
        engine = Engine(policy.segment, 0)
        engine.load(policy.segment.policy())
        play = opened(engine=engine)
        play.broker(publish("a"), publish("b", b"", 1, 1))
        play.take()
        engine.load(host().segment.policy())
        assert play.waiting is not None
        play.waiting.reconsider(play.now)
        play.at(0.0)
        assert heard(play) == [publish("b", b"", 1, 1)]

    def test_one_that_comes_holds_for_who_is_in(self) -> None:
        engine = engine_of()
        play = opened(engine=engine)
        play.broker(publish("a"), publish("b"))
        assert len(heard(play)) == 2
        engine.load(engine_of(slow()).segment.policy())
        play.broker(publish("a"), publish("b"))
        assert len(heard(play)) == 1
