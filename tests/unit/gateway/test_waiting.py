from support.fake_engine import FakeEngine
from tidegate.engine.counters import HELD_MESSAGES, HOLD_BYTES, ROW_WORDS, Counters
from tidegate.gateway.waiting import (
    GONE,
    LOOK_AGAIN,
    LOOKS,
    MOST_TURNS,
    NEVER,
    PASSED,
    WAITS,
    WINDOW_POLL,
    YIELD,
    Lane,
    Waiting,
)

KEY, OTHER = 7, 8


class Scene:
    """A worker's waiting room. So many messages pass as there are `places`."""

    def __init__(self, hold_pool: int = 1000) -> None:
        self.engine = FakeEngine()
        self.counters = Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0)
        self.waiting = Waiting(self.engine.real, self.counters, 10, 1000, hold_pool)
        self.armed: list[float] = []
        self.signals: list[int] = []
        self.waiting.arm = self.armed.append
        self.waiting.signal = self.signals.append
        self.places = 0
        self.order = ""
        """Who was served, by name."""

    def client(self, name: str, address: bytes = b"", messages: int = 1, key: int = KEY, now: float = 0.0) -> "Client":
        return Client(self, name, address, messages, key, now)

    def run(self, now: float, places: int) -> str:
        """Who is served of so many."""
        self.places, self.order = places, ""
        self.waiting.run(now)
        return self.order


class Client:
    """One with messages waiting, each of a topic of its own."""

    def __init__(self, scene: Scene, name: str, address: bytes, messages: int, key: int, now: float) -> None:
        self.scene = scene
        self.name = name
        self.lane = Lane(self, address or name.encode(), key)
        self.gone = False
        self.held = 0
        self.cuts = 0
        self.flushes = 0
        for number in range(messages):
            self.lane.push(number, b"%d" % number)
        scene.waiting.join(self.lane, 0.0, now)

    def serve(self, lane: Lane, now: float) -> int:
        assert lane is self.lane
        if self.gone:
            self.scene.order += "-"
            self.scene.waiting.leave(lane, now)
            return GONE
        if not self.scene.places:
            return WAITS
        self.scene.places -= 1
        self.scene.order += self.name
        lane.remove(lane.heads[0][1])
        if not lane.heads:
            self.scene.waiting.leave(lane, now)
        return PASSED

    def flush(self) -> None:
        self.flushes += 1

    def holds(self) -> int:
        return self.held

    def hold(self, size: int) -> None:
        self.held += size
        self.scene.waiting.took(self, self.lane.address, size)

    def give(self, size: int) -> None:
        self.held -= size
        self.scene.waiting.gave(self.lane.address, size)
        if not self.held:
            self.scene.waiting.left(self, self.lane.address)

    def cut(self) -> None:
        self.cuts += 1
        self.give(self.held)


class TestLane:
    def lane(self) -> Lane:
        lane = Client(Scene(), "a", b"", 0, KEY, 0.0).lane
        for sequence, topic in ((3, b"c"), (1, b"a"), (2, b"b")):
            lane.push(sequence, topic)
        return lane

    def test_the_first_is_the_one_that_came_first(self) -> None:
        lane = self.lane()
        assert lane.heads[0] == (1, b"a")
        lane.remove(b"a")
        assert lane.heads[0] == (2, b"b")

    def test_one_may_leave_from_behind(self) -> None:
        lane = self.lane()
        lane.remove(b"b")
        lane.remove(b"a")
        assert lane.heads == [(3, b"c")]


class TestTurns:
    def test_addresses_take_turns(self) -> None:
        scene = Scene()
        for name in "abc":
            scene.client(name, messages=2)
        assert scene.run(0.0, 9) == "abcabc"

    def test_connections_of_one_address_share_its_turns(self) -> None:
        scene = Scene()
        for name in "abc":
            scene.client(name, b"flooder", messages=9)
        scene.client("x", messages=3)
        assert scene.run(0.0, 7) == "axbxcxa"

    def test_where_one_must_wait_nobody_is_tried_before_it(self) -> None:
        scene = Scene()
        for name in "ab":
            scene.client(name, messages=2)
        assert scene.run(0.0, 1) == "a"
        assert scene.waiting.next_at == scene.engine.wait
        assert scene.run(0.049, 1) == ""
        assert scene.run(0.05, 1) == "b"
        assert scene.run(0.10, 1) == "a"

    def test_one_who_no_longer_waits_is_passed_over(self) -> None:
        scene = Scene()
        scene.client("a").gone = True
        scene.client("b")
        assert scene.run(0.0, 1) == "-b"
        assert scene.engine.announced == {KEY: 0}

    def test_queues_do_not_wait_for_each_other(self) -> None:
        scene = Scene()
        scene.client("a", messages=2)
        scene.client("b", messages=2, key=OTHER)
        assert scene.run(0.0, 9) == "aabb"
        assert scene.engine.passed == [KEY, KEY, OTHER, OTHER]

    def test_one_run_has_an_end(self) -> None:
        scene = Scene()
        scene.client("a", messages=MOST_TURNS + 1)
        assert len(scene.run(1.0, 9999)) == MOST_TURNS
        assert scene.waiting.next_at == 1.0
        assert scene.run(1.0, 9999) == "a"

    def test_what_was_done_is_written_once_for_each(self) -> None:
        scene = Scene()
        a, b, c = scene.client("a", messages=3), scene.client("b"), scene.client("c", key=OTHER, now=1.0)
        scene.run(0.0, 9)
        assert (a.flushes, b.flushes, c.flushes) == (1, 1, 0)

    def test_one_who_leaves_holds_nobody_up(self) -> None:
        scene = Scene()
        a = scene.client("a")
        scene.client("b")
        scene.engine.wait = 60.0  # for the large message of a
        scene.run(0.0, 0)
        scene.waiting.leave(a.lane, 1.0)
        assert scene.waiting.next_at == 1.0
        assert scene.run(1.0, 1) == "b"

    def test_one_may_leave_twice(self) -> None:
        scene = Scene()
        a = scene.client("a")
        scene.waiting.leave(a.lane, 0.0)
        scene.waiting.leave(a.lane, 0.0)
        assert scene.waiting.next_at == NEVER


class TestWhenItIsDue:
    def test_nothing_waits(self) -> None:
        assert Scene().waiting.next_at == NEVER

    def test_what_was_said_of_a_queue_that_is_gone_is_forgotten(self) -> None:
        scene = Scene()
        scene.waiting.leave(scene.client("a").lane, 0.0)
        assert scene.waiting.next_at == NEVER

    def test_any_queue_is_looked_at_as_its_rate_may_have_risen(self) -> None:
        scene = Scene()
        scene.engine.wait = 60.0
        scene.client("a")
        scene.run(0.0, 0)
        assert scene.waiting.next_at == LOOK_AGAIN

    def test_of_very_many_less_often(self) -> None:
        scene = Scene()
        scene.engine.wait = 60.0
        for key in range(1, 2 * LOOKS + 1):
            scene.client("a", key=key, now=0.0 if key == 1 else 9.0)
        scene.run(0.0, 0)
        assert scene.waiting.next_at == 2 * LOOK_AGAIN

    def test_under_another_policy_all_are_tried(self) -> None:
        scene = Scene()
        scene.engine.wait = 0.9
        for name in "ab":
            scene.client(name, key=ord(name))
        scene.run(0.0, 0)
        scene.waiting.reconsider(0.1)
        assert sorted(scene.run(0.1, 2)) == ["a", "b"]

    def test_an_earlier_time_is_told(self) -> None:
        scene = Scene()
        for name, now in (("a", 5.0), ("b", 9.0), ("c", 1.0)):
            scene.client(name, key=ord(name), now=now)
        assert scene.armed == [5.0, 1.0]
        assert scene.waiting.next_at == 1.0

    def test_after_a_run_what_comes_next(self) -> None:
        scene = Scene()
        for name, now in (("a", 5.0), ("b", 1.0)):
            scene.client(name, key=ord(name), now=now)
        scene.armed.clear()
        assert scene.run(2.0, 1) == "b"
        assert scene.armed == [5.0]
        assert scene.run(6.0, 1) == "a"
        assert scene.armed == [5.0, NEVER]


class TestWindows:
    def waiting_for_a_window(self) -> Scene:
        scene = Scene()
        scene.client("a", messages=9)
        scene.engine.by_window = True
        scene.run(0.0, 0)
        return scene

    def test_one_is_looked_at_even_if_nobody_says_that_a_place_is_free(self) -> None:
        assert self.waiting_for_a_window().waiting.next_at == LOOK_AGAIN

    def test_more_often_if_nobody_can_know_that_we_wait(self) -> None:
        scene = Scene()
        scene.engine.by_window = True
        scene.engine.has_place = False
        scene.client("a")
        scene.run(0.0, 0)
        assert scene.waiting.next_at == WINDOW_POLL

    def test_a_place_that_is_free_is_given_at_once(self) -> None:
        scene = self.waiting_for_a_window()
        scene.waiting.wake(KEY, 0.01)
        assert scene.waiting.next_at == 0.01
        assert scene.run(0.01, 1) == "a"
        scene.waiting.wake(OTHER, 0.02)
        assert scene.waiting.next_at == 0.01 + LOOK_AGAIN

    def test_what_is_due_already_is_not_put_off(self) -> None:
        scene = Scene()
        scene.client("a", now=1.0)
        scene.waiting.wake(KEY, 2.0)
        assert scene.waiting.next_at == 1.0

    def test_another_worker_has_given_one_back(self) -> None:
        scene = self.waiting_for_a_window()
        scene.engine.by_window = False
        scene.client("b", key=OTHER)
        scene.run(0.0, 0)
        scene.waiting.look(0.01)
        assert scene.run(0.01, 2) == "aa", "a budget is not to be had any sooner"

    def test_other_workers_are_told(self) -> None:
        scene = Scene()
        scene.engine.rows = 0b110
        scene.waiting.wake_others()
        scene.waiting.wake_others()
        assert scene.signals == [0b110]

    def test_a_run_tells_them_too(self) -> None:
        scene = Scene()
        scene.engine.rows = 0b100
        scene.run(0.0, 0)
        assert scene.signals == [0b100]


class TestOtherWorkers:
    def test_they_know_how_many_addresses_wait_here(self) -> None:
        scene = Scene()
        a, b = scene.client("a", b"one"), scene.client("b", b"one")
        c = scene.client("c", b"two")
        for client in (a, c, b):
            scene.waiting.leave(client.lane, 0.0)
        assert scene.engine.said == [(KEY, n) for n in (1, 1, 2, 2, 1, 0)]

    def test_one_who_is_served_still_waits_meanwhile(self) -> None:
        scene = Scene()
        scene.client("a")
        scene.run(0.0, 1)
        assert scene.engine.said == [(KEY, 1), (KEY, 0)], "the second when the run is over"

    def test_one_who_is_ahead_lets_them_catch_up(self) -> None:
        scene = Scene()
        scene.client("a", messages=3)
        scene.engine.ahead = 1.5
        assert scene.run(0.0, 9) == ""
        assert scene.waiting.next_at == YIELD
        scene.engine.ahead = 0.5
        assert scene.run(YIELD, 1) == "a"

    def test_if_they_do_not_they_are_waited_for_once(self) -> None:
        scene = Scene()
        scene.client("a", messages=3)
        scene.engine.ahead = 1.5
        scene.run(0.0, 9)
        assert scene.run(YIELD, 9) == "aaa", "they may have died"
        assert scene.engine.ahead == 0.0

    def test_one_round_ahead_is_no_lead(self) -> None:
        scene = Scene()
        scene.client("a", messages=3)
        scene.engine.ahead = 1.0
        assert scene.run(0.0, 1) == "a"

    def test_a_burst_is_no_lead_either(self) -> None:
        scene = Scene()
        for name in "ab":
            scene.client(name, messages=9)
        scene.engine.wait = YIELD / 2
        assert scene.run(0.0, 4) == "abab"
        scene.engine.ahead = 3.0
        assert scene.run(YIELD / 2, 1) == "a", "two rounds in so short a time may be what was left of the budget"
        scene.engine.ahead = 3.6
        assert scene.run(YIELD, 1) == "", "more than that is a lead"


class TestWhatIsHeld:
    def test_gauges(self) -> None:
        scene = Scene()
        a = scene.client("a")
        a.hold(100)
        a.hold(50)
        a.give(100)
        assert (scene.waiting.bytes, scene.waiting.messages) == (50, 1)
        assert (scene.counters.value(HOLD_BYTES), scene.counters.value(HELD_MESSAGES)) == (50, 1)

    def test_the_largest_is_cut_and_never_an_innocent(self) -> None:
        scene = Scene(hold_pool=1000)
        a, b, c = (scene.client(name) for name in "abc")
        b.hold(600)
        a.hold(400)
        assert (a.cuts, b.cuts) == (0, 0)
        c.hold(1)
        assert (a.cuts, b.cuts, c.cuts) == (0, 1, 0)
        assert b.flushes == 0, "a is in the middle of a decision"
        assert scene.armed[-1] == 0.0
        scene.waiting.run(0.0)
        assert b.flushes == 1
        assert scene.counters.value(HOLD_BYTES) == 401

    def test_of_the_address_that_holds_the_most(self) -> None:
        scene = Scene(hold_pool=1000)
        many = [scene.client(name, b"flooder") for name in "abc"]
        one = scene.client("x")
        for client, size in zip(many, (150, 160, 150), strict=True):
            client.hold(size)
        one.hold(450)
        assert [client.cuts for client in many] == [0, 0, 0]
        many[0].hold(100)
        assert ([client.cuts for client in many], one.cuts) == ([1, 0, 0], 0)

    def test_the_one_that_asks_may_be_the_largest(self) -> None:
        scene = Scene(hold_pool=1000)
        a = scene.client("a")
        a.hold(1001)
        assert (a.cuts, a.flushes) == (1, 0), "it is just being read: what it has to say is written then"
        assert scene.waiting.bytes == 0

    def test_one_whose_messages_have_left_is_not_asked(self) -> None:
        scene = Scene(hold_pool=1000)
        a, b = scene.client("a"), scene.client("b")
        a.hold(900)
        a.give(900)
        b.hold(1001)
        assert (a.cuts, b.cuts) == (0, 1)
