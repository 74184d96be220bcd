import pytest

from support.fake_engine import FakeEngine
from tidegate.engine.counters import HELD_MESSAGES, HOLD_BYTES, ROW_WORDS, Counters
from tidegate.gateway.hold import MOST_STALE, OVERHEAD, Hold
from tidegate.gateway.waiting import GONE, NEVER, Lane, Waiting

KEY, OTHER = 7, 8


class Owner:
    """A connection that is never served here."""

    def serve(self, lane: Lane, now: float) -> int:
        return GONE

    def flush(self) -> None:
        pass

    def cut(self) -> None:
        raise AssertionError("the pool is large")

    def holds(self) -> int:
        return 0


class Scene:
    """The hold of one connection, for four messages or 10,000 bytes."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.counters = Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0)
        self.waiting = Waiting(self.engine.real, self.counters, 4, 10_000, 1 << 20)
        self.hold = Hold(self.waiting, Owner(), b"address")

    def add(self, topic: bytes, packet: bytes | None = b"x", packet_id: int = 0, key: int | None = None) -> None:
        held = self.hold.add(topic, packet, packet_id, 0.0)
        if key is not None:
            self.hold.wait(topic, held, key, 1.0, 0.0)

    def leaves(self, topic: bytes) -> bytes | None:
        return self.hold.remove(topic, 0.0).packet


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_topic_leaves_as_it_came_and_no_topic_waits_for_another(scene: Scene) -> None:
    for topic, packet in ((b"a", b"1"), (b"b", b"2"), (b"a", b"3")):
        scene.add(topic, packet)
    assert [scene.leaves(topic) for topic in (b"a", b"a", b"b")] == [b"1", b"3", b"2"]
    assert scene.hold.topics == {}


def test_the_first_of_a_topic(scene: Scene) -> None:
    assert scene.hold.first(b"a") is None
    scene.add(b"a", b"1")
    scene.add(b"a", b"2")
    first = scene.hold.first(b"a")
    assert first is not None
    assert first.packet == b"1"


def test_identifiers_are_known_while_their_messages_wait(scene: Scene) -> None:
    scene.add(b"a", packet_id=3)
    scene.add(b"a")
    assert scene.hold.ids == {3}
    scene.leaves(b"a")
    assert scene.hold.ids == set()


class TestRoom:
    def test_messages_are_counted(self, scene: Scene) -> None:
        for topic in (b"a", b"b", b"c"):
            scene.add(topic)
        assert scene.hold.has_room(1)
        scene.add(b"d")
        assert not scene.hold.has_room(1)

    def test_bytes_are_counted_with_what_a_message_costs_besides(self, scene: Scene) -> None:
        scene.add(b"a", bytes(5000))
        left = 10_000 - 5000 - 1 - 2 * OVERHEAD
        assert scene.hold.has_room(left)
        assert not scene.hold.has_room(left + 1)

    def test_one_may_always_wait(self, scene: Scene) -> None:
        assert scene.hold.has_room(1 << 20)

    def test_one_that_is_not_kept_costs_no_more_than_that(self, scene: Scene) -> None:
        scene.add(b"topic", None)
        assert scene.hold.bytes == OVERHEAD + 5

    @pytest.mark.parametrize(("messages", "size"), [(3, 1), (1, 7500 - 1 - OVERHEAD)])
    def test_it_is_roomy_while_a_quarter_is_free(self, scene: Scene, messages: int, size: int) -> None:
        for topic in range(messages):
            scene.add(b"%d" % topic, bytes(size))
        assert scene.hold.is_roomy
        scene.add(b"last", b"")
        assert not scene.hold.is_roomy

    def test_the_worker_knows(self, scene: Scene) -> None:
        scene.add(b"a", bytes(100))
        scene.add(b"b", bytes(10))
        scene.leaves(b"a")
        assert scene.hold.bytes == scene.waiting.bytes == 11 + OVERHEAD
        assert scene.counters.value(HOLD_BYTES) == 11 + OVERHEAD
        assert scene.counters.value(HELD_MESSAGES) == scene.hold.count == 1


class TestLanes:
    def test_all_that_wait_for_the_same_have_one_place_in_the_queue(self, scene: Scene) -> None:
        scene.add(b"a", key=KEY)
        scene.add(b"b", key=KEY)
        assert scene.engine.said == [(KEY, 1)]
        scene.leaves(b"a")
        assert scene.engine.announced == {KEY: 1}
        scene.leaves(b"b")
        assert scene.engine.announced == {KEY: 0}

    def test_one_may_come_to_wait_for_something_else(self, scene: Scene) -> None:
        scene.add(b"a", key=KEY)
        first = scene.hold.first(b"a")
        assert first is not None
        scene.hold.wait(b"a", first, OTHER, 1.0, 0.0)
        assert scene.engine.announced == {KEY: 0, OTHER: 1}

    def test_those_behind_the_first_wait_for_nothing_yet(self, scene: Scene) -> None:
        scene.add(b"a", key=KEY)
        scene.add(b"a")
        scene.leaves(b"a")
        assert scene.engine.announced == {KEY: 0}

    def test_what_the_connection_itself_lacks_is_nobody_elses_business(self, scene: Scene) -> None:
        scene.add(b"a", key=0)
        assert scene.engine.said == []
        lane = scene.hold.own_lane()
        assert lane is not None
        assert lane.heads == [(1, b"a")]
        scene.leaves(b"a")
        assert scene.hold.own_lane() is None


class TestDeadlines:
    def expires(self, scene: Scene, topic: bytes, deadline: float) -> None:
        first = scene.hold.first(topic)
        assert first is not None
        scene.hold.expires(topic, first, deadline)

    def test_the_next_is_the_earliest(self, scene: Scene) -> None:
        for topic, deadline in ((b"a", 5.0), (b"b", 3.0), (b"c", 4.0)):
            scene.add(topic)
            self.expires(scene, topic, deadline)
        assert scene.hold.next_deadline == 3.0
        assert scene.hold.expired(2.9) is None
        assert scene.hold.expired(3.0) == b"b"

    def test_of_one_that_has_left_it_is_forgotten(self, scene: Scene) -> None:
        scene.add(b"a")
        self.expires(scene, b"a", 5.0)
        scene.add(b"a")
        scene.leaves(b"a")
        assert scene.hold.next_deadline == NEVER
        assert scene.hold.expired(9.0) is None

    def test_those_of_messages_that_have_left_do_not_pile_up(self, scene: Scene) -> None:
        scene.add(b"first")
        self.expires(scene, b"first", 1.0)
        for number in range(10 * MOST_STALE):
            scene.add(b"a")
            self.expires(scene, b"a", 100.0 + number)
            scene.leaves(b"a")
        assert len(scene.hold._deadlines) <= MOST_STALE + 4
        assert scene.hold.next_deadline == 1.0

    def test_it_may_be_put_off(self, scene: Scene) -> None:
        scene.add(b"a")
        self.expires(scene, b"a", 5.0)
        self.expires(scene, b"a", NEVER)
        assert scene.hold.next_deadline == NEVER
        self.expires(scene, b"a", 7.0)
        assert scene.hold.next_deadline == 7.0


class TestDuplicates:
    """A redelivery is held, and the broker answers the first."""

    def test_it_is_forgotten_wherever_it_waits(self, scene: Scene) -> None:
        scene.add(b"a", b"\x3a1", packet_id=3, key=KEY)
        scene.add(b"a", b"\x3a2", packet_id=4)
        scene.add(b"a", b"\x322", packet_id=5)
        assert scene.hold.forget_duplicate(4, 0.0) is None
        assert scene.hold.forget_duplicate(3, 0.0) == b"a", "what is behind it may be tried"
        assert (scene.hold.count, scene.hold.ids) == (1, {5})

    def test_one_that_is_none_goes_on(self, scene: Scene) -> None:
        scene.add(b"a", b"\x321", packet_id=3)
        scene.add(b"b", None)
        assert scene.hold.forget_duplicate(3, 0.0) is None
        assert scene.hold.forget_duplicate(4, 0.0) is None
        assert scene.hold.count == 2


def test_what_waits_for_the_connection_itself_can_be_given_up(scene: Scene) -> None:
    scene.add(b"a", packet_id=3, key=0)
    scene.add(b"a", packet_id=4)
    scene.add(b"b", packet_id=5, key=KEY)
    assert scene.hold.waits_itself(b"a")
    assert not scene.hold.waits_itself(b"b")
    assert not scene.hold.waits_itself(b"c")
    assert scene.hold.give_up_own(0.0) == [3, 4]
    assert set(scene.hold.topics) == {b"b"}


@pytest.mark.parametrize(("address", "whose"), [(bytes(4), bytes(4)), (b"", b""), (bytes(range(16)), bytes(range(7)))])
def test_one_customer_takes_turns_as_one(address: bytes, whose: bytes) -> None:
    assert Hold(Scene().waiting, Owner(), address).address == whose


def test_one_may_be_given_up_before_its_turn(scene: Scene) -> None:
    scene.add(b"a", b"1")
    scene.add(b"a", b"2", packet_id=3)
    assert scene.hold.remove_last(b"a", 0.0).packet == b"2"
    assert (scene.hold.count, scene.hold.ids) == (1, set())
    assert scene.hold.remove_last(b"a", 0.0).packet == b"1"
    assert scene.hold.topics == {}


def test_all_of_it_is_given_up(scene: Scene) -> None:
    scene.add(b"a", packet_id=3, key=KEY)
    scene.add(b"a")
    scene.add(b"b", key=0)
    assert scene.hold.discard(0.0) == 3
    assert (scene.hold.count, scene.hold.bytes, scene.hold.ids) == (0, 0, set())
    assert (scene.waiting.messages, scene.waiting.bytes) == (0, 0)
    assert scene.engine.announced == {KEY: 0}
    assert scene.waiting.next_at == scene.hold.next_deadline == NEVER
    assert scene.hold.own_lane() is None
