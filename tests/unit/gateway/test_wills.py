"""Clients who return before their will is due, over one worker or several, on a given clock."""

import gc
from collections.abc import Callable, Iterator

import pytest

from support.bereaved import DISCONNECT, Client, Stage, on_will
from support.limits import limit, rate
from support.playbook import connack, publish
from tidegate.gateway.kept import Kept
from tidegate.gateway.last_will import LastWill
from tidegate.gateway.post import ANSWER, ASK, Note
from tidegate.gateway.states import State
from tidegate.gateway.wills import RETURN_TIME
from tidegate.mqtt.properties import Properties, PropertyId
from tidegate.mqtt.session import Disconnect
from tidegate.policy.model import Action, Cases, Limit

Stages = Callable[..., Stage]
LATER = 20.0
"""Seconds for which all wills here are held back."""

both = pytest.mark.parametrize("worker", [0, 1], ids=["the same worker", "another"])
every_version = pytest.mark.parametrize("version", [3, 4, 5])


@pytest.fixture
def stages() -> Iterator[Stages]:
    made: list[Stage] = []

    def make(*rules: Limit, workers: int = 2) -> Stage:
        made.append(Stage(*(rules or (on_will(delay=LATER),)), workers=workers))
        return made[-1]

    yield make
    for one in made:
        one.close()


def waits(client: Client) -> bool:
    """Its CONNECT has not gone on."""
    return client.state is State.OPENING and client.upstream.written == b""


class TestReturn:
    @both
    @every_version
    def test_ends_the_former_upstream_first(self, stages: Stages, worker: int, version: int) -> None:
        stage = stages()
        former = stage.joins(version=version).goes()
        stage.at(5.0)
        client = stage.arrives(version=version, worker=worker).open()
        stage.deliver()
        assert former.upstream.written == DISCONNECT
        assert former.upstream.has_eof
        assert waits(client), "until the broker has seen that"
        former.broker_ends()
        assert client.upstream.take()[0] == 0x10
        client.broker(connack(version))
        assert client.state is State.OPEN
        assert stage.places[0].outcomes() == {"returned": 1}
        assert stage.places[0].held == 0

    @both
    def test_needs_no_will(self, stages: Stages, worker: int) -> None:
        stage = stages()
        former = stage.joins().goes()
        stage.arrives(worker=worker, topic=None).open()
        stage.deliver()
        assert former.upstream.written == DISCONNECT

    @both
    def test_so_often_as_it_likes(self, stages: Stages, worker: int) -> None:
        stage = stages()
        last = stage.joins().goes()
        for count in range(1, 10):
            stage.at(3.0 * count)
            client = stage.arrives(worker=worker if count % 2 else 0).open()
            stage.deliver()
            last.broker_ends()
            client.broker(connack()).goes()
            last = client
        assert last.is_kept
        assert sum(place.outcomes().get("returned", 0) for place in stage.places) == 9
        assert not any("published" in place.outcomes() for place in stage.places)

    @pytest.mark.parametrize(
        "other",
        [
            {"user": ("u", b"guess")},
            {"user": ("v", b"secret")},
            {"user": None},
            {"user": ("us", b"ecret")},
            {"client_id": "d"},
            {
                "version": 5,
                "properties": [(PropertyId.AUTHENTICATION_METHOD, "m")],
            },
        ],
        ids=["password", "user", "anonymous", "shifted", "client id", "enhanced authentication"],
    )
    @both
    def test_of_somebody_else_is_the_brokers_affair(
        self, stages: Stages, worker: int, other: dict[str, object]
    ) -> None:
        stage = stages()
        former = stage.joins(keepalive=0).goes()
        client = stage.arrives(**{"worker": worker, **other}).open()  # type: ignore[arg-type]
        stage.deliver()
        if worker:
            stage.at(0.1)
        assert client.upstream.take()[0] == 0x10
        assert former.is_kept

    @both
    def test_by_enhanced_authentication_is_never_known(self, stages: Stages, worker: int) -> None:
        stage = stages()
        method: Properties = [(PropertyId.AUTHENTICATION_METHOD, "m")]
        former = stage.joins(version=5, properties=method).goes()
        assert former.is_kept
        stage.arrives(version=5, worker=worker, properties=method).open()
        stage.deliver()
        assert former.is_kept
        assert stage.places[0].wills.presence.is_empty

    @both
    def test_of_one_that_went_before_connack(self, stages: Stages, worker: int) -> None:
        stage = stages()
        former = stage.arrives().open().goes()
        former.upstream.take()
        client = stage.arrives(worker=worker).open()
        stage.deliver()
        assert former.upstream.take() == DISCONNECT
        former.broker(connack()).broker_ends()
        assert client.upstream.take()[0] == 0x10

    @both
    def test_of_one_whose_end_has_not_been_seen(self, stages: Stages, worker: int) -> None:
        """It was faster than the event that its socket has closed; or the socket never says so."""
        stage = stages()
        former = stage.joins(version=5)
        client = stage.arrives(version=5, worker=worker).open()
        stage.deliver()
        assert former.upstream.take() == DISCONNECT
        assert former.line.written[:3] == Disconnect(0x8E).write()[:1] + former.line.written[1:2] + b"\x8e"
        assert waits(client)
        former.broker_ends()
        assert client.upstream.take()[0] == 0x10
        assert stage.places[0].outcomes() == {"returned": 1}

    @both
    def test_of_one_that_has_just_said_disconnect_waits_for_its_end(self, stages: Stages, worker: int) -> None:
        stage = stages()
        former = stage.joins().says(DISCONNECT)
        client = stage.arrives(worker=worker).open()
        stage.deliver()
        assert waits(client)
        assert former.upstream.take() == DISCONNECT
        former.broker_ends()
        assert client.upstream.take()[0] == 0x10
        assert stage.places[0].outcomes() == {}

    @both
    def test_does_not_wait_for_ever(self, stages: Stages, worker: int) -> None:
        stage = stages()
        stage.joins().goes()
        client = stage.arrives(worker=worker).open()
        stage.deliver()
        stage.at(RETURN_TIME - 0.1)
        assert waits(client)
        stage.at(RETURN_TIME + 0.1)
        assert client.upstream.take()[0] == 0x10
        client.broker(connack())
        assert client.state is State.OPEN

    @both
    def test_of_two_at_once_the_later_goes_on(self, stages: Stages, worker: int) -> None:
        stage = stages()
        former = stage.joins().goes()
        first = stage.arrives(worker=worker).open()
        second = stage.arrives().open()
        stage.deliver()
        assert first.state is State.CLOSED
        assert waits(second)
        former.broker_ends()
        first.broker_ends()
        assert first.upstream.written == b""
        assert second.upstream.take()[0] == 0x10

    @both
    def test_whose_client_goes_meanwhile_reaches_the_broker_all_the_same(self, stages: Stages, worker: int) -> None:
        """The former will is gone: if this one never came, nobody would hear that the client is away."""
        stage = stages()
        former = stage.joins().goes()
        client = stage.arrives(worker=worker, keepalive=0).open()
        stage.deliver()
        client.goes()
        former.broker_ends()
        assert client.upstream.take()[0] == 0x10
        client.broker(connack())
        assert client.is_kept
        stage.at(LATER)
        assert client.upstream.has_eof

    def test_over_an_upstream_that_has_not_opened_ends_nothing(self, stages: Stages) -> None:
        stage = stages()
        former = stage.joins(keepalive=0).goes()
        client = stage.arrives()
        client.relay.broker_failed()
        assert former.is_kept
        client.goes()
        assert former.is_kept

    @both
    def test_keeps_the_session_as_the_client_had_it(self, stages: Stages, worker: int) -> None:
        stage = stages()
        expiry: Properties = [(PropertyId.SESSION_EXPIRY_INTERVAL, 3600)]
        plain = stage.joins("a", version=5, properties=expiry).goes()
        shortened: Properties = [(PropertyId.SESSION_EXPIRY_INTERVAL, 60)]
        said = stage.joins("b", version=5, properties=expiry).says(Disconnect(4, shortened).write())
        for name in "ab":
            stage.arrives(name, worker=worker, version=5).open()
        stage.deliver()
        assert plain.upstream.written == DISCONNECT
        assert said.upstream.written == Disconnect(0, shortened).write()

    def test_of_one_whose_will_is_due_and_waits(self, stages: Stages) -> None:
        stage = stages(on_will("paced", rate=rate(1, 1), max_delay=60.0))
        first = stage.joins().goes()
        assert first.upstream.has_eof
        first.broker_ends()
        second = stage.joins().goes()
        assert second.is_kept
        stage.arrives(worker=1).open()
        stage.deliver()
        assert second.upstream.written == DISCONNECT

    def test_is_not_looked_for_by_limits_that_hold_nothing_back(self, stages: Stages) -> None:
        stage = stages(on_will("dry", Cases(Action.OBSERVE), rate=rate(1)))
        stage.joins()
        assert stage.places[0].wills.presence.is_empty
        assert stage.arrives().open().upstream.take()[0] == 0x10

    def test_inside_a_large_message_is_the_brokers_affair(self, stages: Stages) -> None:
        stage = stages()
        former = stage.joins().says(b"\x30\xff\xff\x03\x00\x01t" + bytes(40_000)).says(bytes(20_000))
        former.upstream.take()
        stage.arrives().open()
        assert former.upstream.written == b""
        assert former.upstream.has_eof


class TestAssigned:
    def test_identifier_is_known_again(self, stages: Stages) -> None:
        stage = stages()
        former = stage.arrives("", version=5).accepted([(PropertyId.ASSIGNED_CLIENT_IDENTIFIER, "auto-1")]).goes()
        assert former.is_kept
        stage.arrives("auto-1", version=5, worker=1).open()
        stage.deliver()
        assert former.upstream.take().endswith(DISCONNECT)

    def test_without_any_nobody_returns(self, stages: Stages) -> None:
        stage = stages()
        former = stage.joins("").goes()
        assert former.is_kept
        assert stage.arrives("").open().upstream.take()[0] == 0x10
        assert former.is_kept


class TestWorkers:
    def test_one_that_died_is_not_waited_for(self, stages: Stages) -> None:
        stage = stages()
        stage.joins().goes()
        client = stage.arrives(worker=1).open()
        stage.dies(0)
        stage.places[0].wills.receive = lambda: None  # type: ignore[method-assign]
        stage.at(0.2)
        assert client.upstream.take()[0] == 0x10

    def test_one_that_took_its_place_says_that_it_has_nobody(self, stages: Stages) -> None:
        stage = stages()
        stage.joins().goes()
        client = stage.arrives(worker=1).open()
        stage.places[0].wills._entered.clear()
        stage.deliver()
        assert client.upstream.take()[0] == 0x10

    def test_one_whose_pipe_is_full_is_asked_again(self, stages: Stages) -> None:
        stage = stages()
        former = stage.joins(keepalive=0).goes()
        fill = Note(ANSWER, 0, bytes(8))
        while stage.places[1].wills.post.send(0, fill):
            pass
        client = stage.arrives(worker=1).open()
        assert waits(client)
        stage.deliver()
        assert former.is_kept
        stage.at(0.1)
        assert former.upstream.written == DISCONNECT

    def test_a_question_from_nowhere_ends_nobody(self, stages: Stages) -> None:
        stage = stages()
        former = stage.joins().goes()
        key = former.relay.connection  # noqa: F841
        (will,) = next(iter(stage.places[0].wills._entered.values()))
        asked = Note(ASK, 1, b"ticket 8", 2**63, will.claim.key, bytes(32))
        stage.places[1].wills.post.send(0, asked)
        stage.deliver()
        assert former.is_kept

    def test_several_have_former_ones(self, stages: Stages) -> None:
        """As after a reload by which wills are held back that were not: all must end."""
        stage = stages(workers=3)
        made = [stage.joins("c", worker=row, user=("u", b"%d" % row)).goes() for row in range(2)]
        for place in stage.places[:2]:
            (entered,) = place.wills._entered.values()
            entered[0].claim = entered[0].claim._replace(identity=b"x" * 32)
        client = stage.arrives(worker=2).open()
        stage.deliver()
        assert client.upstream.take()[0] == 0x10
        assert all(one.is_kept for one in made)


def test_what_is_over_leaves_nothing_behind(stages: Stages) -> None:
    stage = stages()
    gc.collect()
    gc.disable()
    try:
        for worker in (0, 1):
            former = stage.joins(keepalive=5).says(publish(qos=1)).goes()
            client = stage.arrives(worker=worker).open()
            stage.deliver()
            former.broker_ends()
            client.broker(connack()).says(DISCONNECT).goes().broker_ends()
        del former, client
        stage.clock.timers.clear()
        assert [one for one in gc.get_objects() if isinstance(one, (Kept, LastWill))] == []
        assert all(place.wills.presence.is_empty and not place.wills.searches for place in stage.places)
        assert [(place.room.taken, place.room.kept) for place in stage.places] == [(0, 0), (0, 0)]
    finally:
        gc.enable()


def test_one_connect_costs_nothing_where_no_limit_concerns_wills(stages: Stages) -> None:
    stage = stages(limit("publish", rate=rate(1)))
    stage.places[0].wills._claim = None  # type: ignore[method-assign,assignment]
    stage.joins()
    assert stage.places[0].wills._entered == {}
