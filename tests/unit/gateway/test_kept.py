"""What becomes of a will once its client has gone, on a given clock."""

from collections.abc import Callable, Iterator

import pytest

from support.bereaved import DISCONNECT, Client, Stage, on_will
from support.limits import limit, rate
from support.playbook import publish
from tidegate.engine.counters import CONNECTIONS, INFLIGHT_FROM_CLIENT
from tidegate.gateway.conversation import LINGER
from tidegate.gateway.guard import OWED_TIME
from tidegate.gateway.states import State
from tidegate.mqtt.properties import Properties, PropertyId
from tidegate.mqtt.session import PINGREQ, PINGRESP, Disconnect
from tidegate.policy.model import Action, ByClass, Cases, Key, KeyKind, Limit

Stages = Callable[..., Stage]
DROP = Cases(Action.DROP)
TOGETHER = (Key(KeyKind.ALL),)
EXPIRY = PropertyId.SESSION_EXPIRY_INTERVAL


@pytest.fixture
def stages() -> Iterator[Stages]:
    made: list[Stage] = []

    def make(*rules: Limit, workers: int = 1, room: int = 1000) -> Stage:
        made.append(Stage(*rules, workers=workers, room=room))
        return made[-1]

    yield make
    for one in made:
        one.close()


def paced(amount: int = 1, burst: int = 1, **other: object) -> Limit:
    return on_will("paced", rate=rate(amount, burst), **other)  # type: ignore[arg-type]


def is_published(client: Client) -> bool:
    """The upstream was closed without a word."""
    return client.upstream.has_eof and DISCONNECT not in client.upstream.written


class TestHeldBack:
    def test_until_its_time_has_come(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.joins(keepalive=0).goes()
        stage.at(19.9)
        assert client.is_kept
        assert stage.places[0].held == 1
        stage.at(20.0)
        assert is_published(client)
        client.broker_ends()
        assert stage.places[0].held == 0
        assert stage.places[0].outcomes() == {"published": 1}

    def test_its_clients_side_is_closed_and_forgotten_at_once(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.joins().goes()
        place = stage.places[0]
        assert client.state is State.CLOSED
        assert place.relays == set()
        assert place.counters.value(CONNECTIONS) == 0
        assert (place.room.taken, place.room.kept) == (0, 1)
        stage.at(20.0)
        client.broker_ends()
        assert place.room.kept == 0

    def test_the_broker_is_pinged_meanwhile(self, stages: Stages) -> None:
        stage = stages(on_will(delay=100.0))
        client = stage.joins(keepalive=40).goes()
        for seconds in (29.9, 30.0, 59.9, 60.0):
            stage.at(seconds)
            client.broker(PINGRESP * (seconds == 30.0))
            assert client.upstream.take() == (PINGREQ if seconds in (30.0, 60.0) else b"")

    def test_without_a_keepalive_it_is_not(self, stages: Stages) -> None:
        stage = stages(on_will(delay=10_000.0))
        client = stage.joins(keepalive=0).goes()
        stage.at(9_000.0)
        assert client.upstream.written == b""

    def test_what_the_broker_sends_is_let_go(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.joins(keepalive=0).goes()
        client.upstream.reading = True
        client.broker(publish(qos=1)).broker(publish(qos=2))
        assert client.upstream.written == b""

    def test_it_is_read_again_if_the_client_had_not_kept_up(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.joins()
        client.relay.pause_writing()
        assert not client.upstream.reading
        client.goes()
        assert client.upstream.reading

    def test_the_longest_of_several_counts(self, stages: Stages) -> None:
        stage = stages(on_will("a", delay=5.0), on_will("b", delay=20.0))
        client = stage.joins(keepalive=0).goes()
        stage.at(19.9)
        assert client.is_kept

    @pytest.mark.parametrize(
        "other", [{"topic": "other"}, {"retain": False}, {"qos": 0}], ids=["topic", "retain", "qos"]
    )
    def test_one_that_no_limit_concerns_is_not(self, stages: Stages, other: dict[str, object]) -> None:
        stage = stages(on_will(delay=20.0, topic=("status/#",), retain=True, qos=(1,)))
        fits: dict[str, object] = {"topic": "status/c", "retain": True, "qos": 1}
        client = stage.joins(**fits | other).goes()  # type: ignore[arg-type]
        assert is_published(client)
        assert stage.joins("d", **fits).goes().is_kept  # type: ignore[arg-type]

    def test_without_a_will_nothing_is_kept(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.joins(topic=None).goes()
        assert client.upstream.has_eof
        assert client.upstream.protocol is None

    def test_by_limits_on_other_events_nothing_is_kept(self, stages: Stages) -> None:
        stage = stages(limit("publish", rate=rate(1)))
        client = stage.joins().goes()
        assert client.upstream.protocol is None

    def test_a_new_policy_may_make_it_due(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        clients = [stage.joins(name, keepalive=0).goes() for name in "ab"]
        stage.at(4.0)
        stage.reload(on_will(delay=5.0))
        assert all(one.is_kept for one in clients)
        stage.at(5.0)
        assert all(is_published(one) for one in clients)

    def test_or_due_later(self, stages: Stages) -> None:
        stage = stages(on_will(delay=5.0))
        client = stage.joins(keepalive=0).goes()
        stage.reload(on_will(delay=20.0))
        stage.at(19.9)
        assert client.is_kept

    def test_the_broker_may_end_it(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        stage.joins(version=5).goes().broker(Disconnect(0x8E).write()).broker_ends()
        assert stage.places[0].outcomes() == {"lost": 1}
        assert stage.places[0].held == 0
        stage.at(100.0)


class TestEnds:
    """Whatever ends a connection so that the broker would publish its will."""

    @pytest.mark.parametrize(
        "end",
        [
            lambda client: client.goes(),
            lambda client: client.says(Disconnect(4).write()),
            lambda client: client.place.stage.at(100.0),
        ],
        ids=["closes", "asks for it", "is silent"],
    )
    def test_it_is_held_back(self, stages: Stages, end: Callable[[Client], object]) -> None:
        stage = stages(on_will(delay=1000.0))
        client = stage.joins(version=5, keepalive=60)
        end(client)
        assert client.is_kept
        assert client.line.has_eof or client.relay.connection.state == State.CLOSED
        assert not client.upstream.take().endswith(b"\xe0\x01\x04")

    def test_a_limit_that_disconnects(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0), limit("end", Cases(Action.DISCONNECT), rate=rate(1)))
        client = stage.joins().says(publish() + publish())
        assert client.state is State.CLOSED
        assert client.is_kept

    @pytest.mark.parametrize("version", [4, 5])
    def test_a_plain_disconnect_is_none(self, stages: Stages, version: int) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.joins(version=version).says(DISCONNECT).goes()
        assert client.upstream.written == DISCONNECT
        assert client.upstream.protocol is None
        client.broker_ends()
        assert stage.places[0].wills.presence.is_empty

    def test_that_the_broker_has_gone_is_none(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.joins().broker_ends()
        assert client.upstream.protocol is None
        assert stage.places[0].wills.presence.is_empty

    def test_a_disconnect_that_asks_for_it_goes_on_when_it_is_due(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        said = Disconnect(4, [(PropertyId.REASON_STRING, "bye")]).write()
        client = stage.joins(version=5, keepalive=0).says(said)
        assert client.line.has_eof
        stage.at(20.0)
        assert client.upstream.take() == said
        assert client.upstream.has_eof

    def test_after_what_was_held(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0), limit("slow", Cases(Action.DELAY), rate=rate(1)))
        client = stage.joins(version=5, keepalive=0)
        client.says(publish("a", version=5) + publish("b", version=5) + Disconnect(4).write())
        assert client.state is State.EMPTYING
        stage.at(1.0)
        assert client.is_kept
        stage.at(20.9)
        assert client.is_kept
        client.upstream.take()
        stage.at(21.0)
        assert client.upstream.take() == Disconnect(4).write()

    def test_one_who_goes_before_connack_is_waited_for(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.arrives(keepalive=0).open().goes()
        assert client.state is State.ORPHANED
        assert not client.upstream.has_eof
        client.broker(b"\x20\x02\x00\x00")
        assert client.is_kept
        stage.at(20.0)
        assert client.upstream.has_eof
        client.broker_ends()
        assert stage.places[0].room.taken == 0

    def test_if_the_broker_refuses_him_there_is_no_will(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.arrives().open().goes().broker(b"\x20\x02\x00\x05")
        assert client.state is State.CLOSED
        assert client.upstream.protocol is None
        client.broker_ends()
        assert stage.places[0].wills.presence.is_empty
        assert stage.places[0].room.taken == 0

    def test_and_if_it_never_answers_neither(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.arrives().open().goes()
        stage.at(5.0)
        assert client.state is State.CLOSED
        assert client.upstream.has_eof

    def test_one_without_a_will_is_not_waited_for(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.arrives(topic=None).open().goes()
        assert client.state is State.CLOSED


class TestDue:
    def test_wills_are_paced(self, stages: Stages) -> None:
        stage = stages(paced(10, 5, max_delay=60.0, per=TOGETHER))
        clients = [stage.joins(f"c{number}", keepalive=0) for number in range(25)]
        for client in clients:
            client.goes()
        assert sum(one.upstream.has_eof for one in clients) == 5
        for tenths in range(1, 21):
            stage.at(tenths / 10 + 0.001)
            assert sum(one.upstream.has_eof for one in clients) == 5 + tenths
        assert stage.places[0].outcomes() == {"published": 25}

    def test_addresses_take_turns(self, stages: Stages) -> None:
        stage = stages(paced(10, 1, max_delay=60.0, per=TOGETHER))
        many = [stage.joins(f"c{number}", keepalive=0).goes() for number in range(20)]
        other = stage.joins("other", keepalive=0, address=b"\x7f\x00\x00\x02").goes()
        stage.at(0.25)
        assert other.upstream.has_eof
        assert sum(one.upstream.has_eof for one in many) == 2

    def test_after_max_delay_they_pass(self, stages: Stages) -> None:
        stage = stages(paced(1, 1, max_delay=2.0, per=TOGETHER))
        clients = [stage.joins(f"c{number}", keepalive=0).goes() for number in range(10)]
        stage.at(1.99)
        assert sum(one.upstream.has_eof for one in clients) == 2
        stage.at(2.01)
        assert all(is_published(one) for one in clients)

    def test_or_are_dropped_if_the_limit_says_so(self, stages: Stages) -> None:
        stage = stages(paced(1, 1, max_delay=2.0, per=TOGETHER, then=DROP))
        clients = [stage.joins(f"c{number}", keepalive=0).goes() for number in range(10)]
        stage.at(2.01)
        assert stage.places[0].outcomes() == {"published": 3, "dropped": 7}
        assert sum(one.upstream.written == DISCONNECT for one in clients) == 7

    def test_the_time_held_back_is_not_taken_off_max_delay(self, stages: Stages) -> None:
        stage = stages(paced(1, 1, max_delay=2.0, per=TOGETHER, delay=10.0))
        clients = [stage.joins(f"c{number}", keepalive=0).goes() for number in range(3)]
        stage.at(9.9)
        assert not any(one.upstream.has_eof for one in clients)
        stage.at(11.5)
        assert sum(one.upstream.has_eof for one in clients) == 2

    def test_the_delay_is_measured(self, stages: Stages) -> None:
        stage = stages(paced(1, 1, max_delay=5.0, per=TOGETHER))
        for name in "ab":
            stage.joins(name, keepalive=0).goes()
        stage.at(1.5)
        (one,) = stage.host.delays(stage.places[0].words)
        assert (one.limit, one.count) == ("paced", 1)
        assert one.seconds == pytest.approx(1.0, abs=0.01)

    def test_drop(self, stages: Stages) -> None:
        stage = stages(on_will("large", DROP, size=ByClass(3)))
        large, small = stage.joins(payload=b"long").goes(), stage.joins(payload=b"ok").goes()
        assert large.upstream.written == DISCONNECT
        assert large.upstream.has_eof
        assert is_published(small)
        assert stage.places[0].outcomes() == {"published": 1, "dropped": 1}

    def test_one_that_is_too_large_waits_for_nothing(self, stages: Stages) -> None:
        stage = stages(on_will("size", size=ByClass(3), max_delay=60.0, then=DROP))
        client = stage.joins(payload=b"long").goes()
        assert client.upstream.written == DISCONNECT

    def test_observe_changes_nothing(self, stages: Stages) -> None:
        stage = stages(on_will("dry", Cases(Action.OBSERVE), size=ByClass(3)))
        assert is_published(stage.joins(payload=b"long").goes())
        (counts,) = stage.host.counts(0.0)
        assert counts.limited[Action.OBSERVE] == 1

    def test_its_bytes_are_those_of_a_publish(self, stages: Stages) -> None:
        packet = len(publish("status/c", bytes(50)))
        stage = stages(on_will("bytes", DROP, bandwidth=rate(1, 2 * packet), per=TOGETHER))
        clients = [stage.joins(name, payload=bytes(50)).goes() for name in "abc"]
        assert [is_published(one) for one in clients] == [True, True, False]


class TestDelayOf5:
    """The broker waits by itself, for Will Delay Interval or until the session ends."""

    @pytest.mark.parametrize(
        ("delay", "expiry", "kept"),
        [(0, 0, 20), (8, 0, 20), (8, 60, 12), (30, 60, 0), (30, 5, 15)],
    )
    def test_is_taken_off(self, stages: Stages, delay: int, expiry: int, kept: int) -> None:
        stage = stages(on_will(delay=20.0))
        of_will: Properties = [(PropertyId.WILL_DELAY_INTERVAL, delay)]
        client = stage.joins(version=5, keepalive=0, properties=[(EXPIRY, expiry)], will_properties=of_will).goes()
        stage.at(kept - 0.1)
        assert client.is_kept == (kept > 0)
        stage.at(kept)
        assert is_published(client)

    def test_and_dropped_all_the_same(self, stages: Stages) -> None:
        stage = stages(on_will("none", DROP, size=ByClass(0)))
        of_will: Properties = [(PropertyId.WILL_DELAY_INTERVAL, 30)]
        client = stage.joins(version=5, properties=[(EXPIRY, 60)], will_properties=of_will).goes()
        assert client.upstream.written == DISCONNECT


class TestRoom:
    def test_beyond_it_the_address_with_the_most_loses_one(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0), room=16)
        assert stage.places[0].wills.places.size == 4
        many = [stage.joins(f"c{number}", keepalive=0).goes() for number in range(5)]
        assert [one.is_kept for one in many] == [True, True, True, True, False]
        other = stage.joins("other", keepalive=0, address=b"\x7f\x00\x00\x02").goes()
        assert [one.is_kept for one in many] == [True, True, True, False, False]
        assert other.is_kept
        assert stage.places[0].held == 4

    def test_who_loses_it_gets_then(self, stages: Stages) -> None:
        stage = stages(paced(1, 1, max_delay=60.0, per=TOGETHER, then=DROP), room=8)
        many = [stage.joins(f"c{number}", keepalive=0).goes() for number in range(4)]
        assert [one.upstream.written == DISCONNECT for one in many] == [False, False, False, True]
        assert is_published(many[0])

    def test_what_is_kept_takes_room_from_clients(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0), room=4)
        place = stage.places[0]
        stage.joins(keepalive=0).goes()
        stay = [stage.joins(f"c{number}", topic=None) for number in range(3)]
        assert not place.take_room()
        stay[0].goes().broker_ends()
        assert place.take_room()


class TestWindows:
    """What the client has in flight is finished when the broker has read it all."""

    WINDOW = limit("window", Cases(Action.REJECT, v3=Action.DROP), concurrent=ByClass(1))

    def is_free(self, stage: Stage) -> bool:
        other = stage.joins("c", topic=None)
        other.says(publish(qos=1))
        went = bool(other.upstream.take())
        other.goes().broker_ends()
        return went

    def test_which_it_says_by_answering_a_ping(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0), self.WINDOW)
        client = stage.joins("c", user=None, keepalive=0).says(publish(qos=1))
        client.upstream.take()
        client.goes()
        assert client.upstream.take() == PINGREQ
        assert not self.is_free(stage)
        client.broker(PINGRESP)
        assert self.is_free(stage)

    def test_or_never_says(self, stages: Stages) -> None:
        stage = stages(on_will(delay=60.0), self.WINDOW)
        stage.joins("c", user=None, keepalive=0).says(publish(qos=1)).goes()
        stage.at(OWED_TIME)
        assert self.is_free(stage)

    def test_or_by_the_end(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0), self.WINDOW)
        client = stage.joins("c", user=None, keepalive=0).says(publish(qos=1)).goes()
        client.broker_ends()
        assert self.is_free(stage)
        assert stage.places[0].counters.value(INFLIGHT_FROM_CLIENT) == 0


class TestInsideALargeMessage:
    """Nothing may be written then, so neither pings nor a DISCONNECT."""

    def begin(self, stage: Stage) -> Client:
        client = stage.joins(keepalive=40)
        client.says(b"\x30\xff\xff\x03\x00\x01t" + bytes(40_000)).says(bytes(20_000))
        assert client.upstream.take()
        return client.goes()

    def test_it_is_held_back_in_silence(self, stages: Stages) -> None:
        stage = stages(on_will(delay=35.0))
        client = self.begin(stage)
        stage.at(34.9)
        assert client.is_kept
        stage.at(35.0)
        assert client.upstream.written == b""
        assert client.upstream.has_eof

    def test_it_cannot_be_dropped(self, stages: Stages) -> None:
        stage = stages(on_will("none", DROP, size=ByClass(0)))
        assert is_published(self.begin(stage))
        assert stage.places[0].outcomes() == {"published": 1}


class TestEndOfTheGateway:
    def test_closes_all(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.joins().goes()
        (kept,) = stage.places[0].wills.close()
        kept.shut_down()
        assert is_published(client)

    def test_keeps_none_any_more(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.joins()
        stage.places[0].wills.close()
        client.goes()
        assert is_published(client)

    def test_one_that_is_open_is_not_kept(self, stages: Stages) -> None:
        stage = stages(on_will(delay=20.0))
        client = stage.joins()
        client.relay.shut_down()
        assert client.upstream.has_eof
        assert client.upstream.protocol is None


def test_a_broker_that_does_not_end_it_is_cut_off(stages: Stages) -> None:
    stage = stages(on_will("none", DROP, size=ByClass(0)))
    client = stage.joins().goes()
    stage.at(LINGER - 0.1)
    assert not client.upstream.is_aborted
    stage.at(LINGER)
    assert client.upstream.is_aborted
