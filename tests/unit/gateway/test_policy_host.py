import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from support.limits import limit, rate
from tidegate.engine.binding import Engine, Subject
from tidegate.engine.counters import DELAY_BOUNDS, DELAY_SERIES, ROW_WORDS, Counters
from tidegate.engine.memory import GUEST_ROWS
from tidegate.gateway import policy_host
from tidegate.gateway.policy_host import LEAST_SLOTS, RECORDS, PolicyHost
from tidegate.policy.compile import TooMuch, identity_of
from tidegate.policy.counts import DelayCounts, LimitCounts
from tidegate.policy.model import (
    Action,
    ByClass,
    Cases,
    ClientClass,
    Conditions,
    Event,
    Key,
    KeyKind,
    Limit,
    Policy,
)

START = 10**12
NOW = START / 1e9
HOUR = 3600
DROP = Cases(Action.DROP)
Make = Callable[..., PolicyHost]


@pytest.fixture
def make() -> Iterator[Make]:
    hosts: list[PolicyHost] = []

    def make_host(*limits: Limit, workers: int = 1, buckets: int = 4096) -> PolicyHost:
        hosts.append(PolicyHost(Policy(limits=limits), workers=workers, buckets=buckets, largest_packet=1 << 20))
        return hosts[-1]

    yield make_host
    for host in hosts:
        os.close(host.fd)


class Worker:
    """Decides by what the host has published last, when told so."""

    def __init__(self, host: PolicyHost, row: int = 0) -> None:
        self.engine = Engine(host.segment, row, row)
        self.reload()

    def reload(self) -> None:
        self.engine.load(self.engine.segment.policy())

    def publish(self, client: str = "c", topic: str = "t", count: int = 1, address: str = "10.0.0.1") -> list[str]:
        subject = Subject(client.encode(), None, IPv4Address(address).packed, b"l", 5)
        return [self.engine.judge(subject, topic.encode(), 1, now_ns=START).action for _ in range(count)]


def hourly(name: str, amount: int = 2, **other: object) -> Limit:
    return limit(name, DROP, rate=rate(amount, period=HOUR), **other)


def counted(host: PolicyHost) -> dict[str, LimitCounts]:
    return {counts.name: counts for counts in host.counts(NOW)}


def passed(host: PolicyHost) -> dict[str, int]:
    return {name: counts.passed for name, counts in counted(host).items()}


def change(host: PolicyHost, worker: Worker, *limits: Limit) -> None:
    host.replace(Policy(limits=limits))
    worker.reload()


class TestReplace:
    def test_each_policy_is_a_generation(self, make: Make) -> None:
        host = make(hourly("a"))
        assert host.generation == 1
        host.replace(Policy())
        assert host.generation == 2
        assert host.policy == Policy()

    def test_a_worker_that_starts_later_has_the_newest(self, make: Make) -> None:
        host = make(hourly("a", 1))
        host.replace(Policy(limits=(hourly("a", 1), hourly("b", 5))))
        assert Worker(host).engine.names == ["a", "b"]

    def test_a_limit_that_stays_keeps_its_budgets(self, make: Make) -> None:
        host = make(hourly("a"))
        worker = Worker(host)
        assert worker.publish(count=3) == ["pass", "pass", "drop"]
        change(host, worker, hourly("b", 100), hourly("a"))
        assert worker.publish() == ["drop"]
        assert worker.publish("other", count=3) == ["pass", "pass", "drop"]

    def test_a_limit_that_is_changed_keeps_them_too(self, make: Make) -> None:
        host = make(hourly("a"))
        worker = Worker(host)
        worker.publish(count=2)
        change(host, worker, limit("a", rate=rate(2, period=HOUR)), hourly("b", 100))
        assert worker.publish() == ["reject"]  # another action, the same budget

    def test_what_is_counted_per_something_else_begins_anew(self, make: Make) -> None:
        host = make(hourly("a"))
        worker = Worker(host)
        assert worker.publish(count=3)[-1] == "drop"
        change(host, worker, hourly("a", per=(Key(KeyKind.IP),)))
        assert worker.publish(count=3) == ["pass", "pass", "drop"]
        change(host, worker, hourly("a"))
        assert worker.publish() == ["drop"]  # what had been spent before is still spent

    def test_a_limit_of_another_name_begins_anew(self, make: Make) -> None:
        host = make(hourly("a"))
        worker = Worker(host)
        assert worker.publish(count=3)[-1] == "drop"
        change(host, worker, hourly("b"))
        assert worker.publish(count=3) == ["pass", "pass", "drop"]

    def test_counters_stay_with_the_name_whatever_the_order(self, make: Make) -> None:
        host = make(hourly("a", topic=("a",)), hourly("b", topic=("b",)))
        worker = Worker(host)
        worker.publish(topic="a")
        worker.publish(topic="b", count=2)
        assert passed(host) == {"a": 1, "b": 2}
        change(host, worker, hourly("new", topic=("n",)), hourly("b", topic=("b",)), hourly("a", topic=("a",)))
        assert passed(host) == {"new": 0, "b": 2, "a": 1}
        worker.publish(topic="n")
        assert passed(host) == {"new": 1, "b": 2, "a": 1}

    def test_a_limit_that_comes_back_has_its_counters_while_nobody_needed_the_place(self, make: Make) -> None:
        host = make(hourly("a"), hourly("b"))
        worker = Worker(host)
        worker.publish()
        change(host, worker, hourly("b"))
        assert passed(host) == {"b": 1}
        change(host, worker, hourly("c"), hourly("b"))
        worker.publish()
        assert passed(host) == {"c": 1, "b": 2}

    def test_places_of_limits_that_are_gone_are_used_last_and_zeroed(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(policy_host, "LEAST_SLOTS", 4)
        host = make(hourly("a"))
        assert host.segment.slots == 4
        worker = Worker(host)
        worker.publish(count=2)
        host.segment.set_scale(0, 2, 0.5)
        change(host, worker, hourly("b"), hourly("c"))
        worker.publish()
        assert host.segment.tallies(0)[0] == 2  # nobody had to have a's place
        change(host, worker, hourly("b"), hourly("c"), hourly("d"), hourly("e"))
        assert host.segment.tallies(0)[0] == 0
        assert passed(host) == {"b": 1, "c": 1, "d": 0, "e": 0}
        assert worker.publish("fresh", count=3) == ["pass", "pass", "drop"]  # at the whole rate
        assert passed(host) == {"b": 3, "c": 3, "d": 2, "e": 2}

    def test_there_is_room_for_more_limits_than_at_the_start(self, make: Make) -> None:
        host = make(hourly("a"))
        host.replace(Policy(limits=tuple(hourly(f"l{number}") for number in range(LEAST_SLOTS))))
        assert len(counted(host)) == LEAST_SLOTS

    def test_twice_as_many_limits_as_at_the_start_always_fit(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(policy_host, "LEAST_SLOTS", 1)
        for number in (1, 2, 3, 7, 8):
            limits = tuple(hourly(f"l{i}") for i in range(2 * number))
            make(*limits[:number]).replace(Policy(limits=limits))

    def test_too_many_limits_change_nothing(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(policy_host, "LEAST_SLOTS", 4)
        host = make(hourly("a"))
        worker = Worker(host)
        worker.publish(count=2)
        with pytest.raises(TooMuch, match="more limits than the 4 that this start has room for; restart"):
            host.replace(Policy(limits=tuple(hourly(name) for name in "abcde")))
        assert host.generation == 1
        worker.reload()
        assert worker.publish() == ["drop"]
        assert passed(host) == {"a": 2}
        change(host, worker, *(hourly(name) for name in "abcd"))
        assert passed(host)["a"] == 2

    def test_a_policy_much_larger_than_the_first_changes_nothing(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(policy_host, "LEAST_ROOM", 0)
        host = make(hourly("a"))
        worker = Worker(host)
        worker.publish(count=2)
        larger = (hourly("a"), *(hourly(f"l{number}") for number in range(100)))
        with pytest.raises(TooMuch, match=r"much larger than the one at the start.*; restart"):
            host.replace(Policy(limits=larger))
        assert (host.generation, [one.name for one in host.policy.limits]) == (1, ["a"])
        worker.reload()
        assert worker.publish() == ["drop"]
        assert passed(host) == {"a": 2}

    def test_what_cannot_be_said_changes_nothing(self, make: Make) -> None:
        host = make(hourly("a"))
        keys = tuple(Key(KeyKind.TOPIC, levels=number) for number in range(1, 100))
        with pytest.raises(TooMuch, match="different keys"):
            host.replace(Policy(limits=tuple(hourly(f"l{key.levels}", per=(key,)) for key in keys)))
        assert (host.generation, passed(host)) == (1, {"a": 0})


class TestCounts:
    def test_without_limits_there_is_nothing(self, make: Make) -> None:
        assert counted(make()) == {}

    def test_actions_are_those_that_a_limit_can_take(self, make: Make) -> None:
        by_case = Cases(Action.REJECT, {0: Action.OBSERVE}, v3=Action.DROP)
        told = counted(make(hourly("a"), limit("b", by_case, rate=rate(1))))
        assert told["a"].actions == {Action.DROP}
        assert told["b"].actions == {Action.REJECT, Action.OBSERVE, Action.DROP}

    def test_what_passes_in_the_end_or_is_only_changed_is_no_action(self, make: Make) -> None:
        paced = Limit("a", Event.WILL, Cases(Action.DELAY), then=Cases(Action.PASS), rate=rate(1))
        patient = Limit("b", Event.WILL, Cases(Action.DELAY), then=Cases(Action.PASS), will_delay=ByClass(20.0))
        told = counted(make(paced, patient))
        assert [one.actions for one in told.values()] == [{Action.DELAY}, set()]

    def test_what_passed_and_what_did_not(self, make: Make) -> None:
        host = make(hourly("a", topic=("a",)), limit("b", Cases(Action.OBSERVE), rate=rate(1, period=HOUR)))
        worker = Worker(host)
        worker.publish(topic="a", count=5)
        told = counted(host)
        assert (told["a"].passed, told["a"].limited[Action.DROP]) == (2, 3)
        assert told["b"].limited[Action.OBSERVE] == 4
        assert told["a"].limited.keys() == set(Action) - {Action.PASS}
        assert sum(told["a"].limited.values()) == 3

    def test_all_workers_count_together(self, make: Make) -> None:
        host = make(hourly("a", 5), workers=2)
        for row in range(2):
            Worker(host, row).publish(count=3)
        told = counted(host)["a"]
        assert (told.passed, told.limited[Action.DROP]) == (5, 1)

    def test_buckets_in_use_and_those_that_are_empty(self, make: Make) -> None:
        host = make(hourly("a"), hourly("b", 100, per=(Key(KeyKind.ALL),)))
        worker = Worker(host)
        worker.publish("x", count=2)
        worker.publish("y")
        told = counted(host)
        assert (told["a"].live, told["a"].full) == (2, 1)
        assert (told["b"].live, told["b"].full) == (1, 0)
        later = {counts.name: counts for counts in host.counts(NOW + HOUR + 1)}
        assert (later["a"].live, later["a"].full, later["a"].passed) == (0, 0, 3)

    def test_after_a_refused_policy_the_present_one_is_counted(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(policy_host, "LEAST_ROOM", 0)
        host = make(hourly("a"))
        with pytest.raises(TooMuch):
            host.replace(Policy(limits=tuple(hourly(f"l{number}") for number in range(100))))
        assert passed(host) == {"a": 0}

    def test_a_refused_policy_takes_no_counters(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(policy_host, "LEAST_SLOTS", 2)
        host = make(hourly("a"))
        Worker(host).publish()
        with pytest.raises(TooMuch):
            host.replace(Policy(limits=tuple(hourly(name) for name in "bcdefghi")))
        assert passed(host) == {"a": 1}


PLC, HMI = (ClientClass(name, Conditions(client_id=(f"{name}-*",))) for name in ("plc", "hmi"))


class TestDelays:
    """Limits have the places of their order: `a` has 0."""

    def setup_method(self) -> None:
        self.words = memoryview(bytearray(2 * ROW_WORDS * 8)).cast("Q")
        self.workers = [Counters(self.words, row) for row in range(2)]

    def held(self, slot: int, name: str = "", seconds: float = 0.5, row: int = 0) -> None:
        self.workers[row].delayed(slot, identity_of(name) if name else 0, seconds)

    def told(self, host: PolicyHost) -> dict[tuple[str, str], DelayCounts]:
        delays = list(host.delays(self.words))
        found = {(one.limit, one.class_name): one for one in delays}
        assert len(found) == len(delays)
        return found

    def counts(self, host: PolicyHost) -> dict[tuple[str, str], int]:
        return {labels: one.count for labels, one in self.told(host).items()}

    def test_without_delays_there_is_nothing(self, make: Make) -> None:
        assert self.told(make(hourly("a"), workers=2)) == {}

    def test_all_workers_count_together(self, make: Make) -> None:
        host = make(hourly("a"), hourly("b"), workers=2)
        self.held(1, seconds=9.0)  # so that the rows are not in the same order
        for row in range(2):
            self.held(0, seconds=DELAY_BOUNDS[1], row=row)
            self.held(0, seconds=40.5, row=row)
        self.held(0, seconds=0.0)
        buckets = (1, 2, *[0] * (len(DELAY_BOUNDS) - 2))
        told = self.told(host)
        assert told["a", ""] == DelayCounts("a", "", 5, 81.01, buckets)
        assert self.counts(host) == {("a", ""): 5, ("b", ""): 1}

    def test_each_class_has_its_own(self, make: Make) -> None:
        host = make(hourly("a"))
        host.replace(Policy((PLC, HMI), (hourly("a"),)))
        for name in ("plc", "hmi", "", "plc"):
            self.held(0, name)
        assert self.counts(host) == {("a", "plc"): 2, ("a", "hmi"): 1, ("a", ""): 1}

    def test_a_limit_or_class_that_is_gone_is_left_out(self, make: Make) -> None:
        host = make()
        both = Policy((PLC, HMI), (hourly("a"), hourly("b")))
        host.replace(both)
        for slot, name in ((0, "plc"), (1, "plc"), (1, "hmi")):
            self.held(slot, name)
        host.replace(Policy((PLC,), (hourly("b"),)))
        assert self.counts(host) == {("b", "plc"): 1}
        host.replace(both)  # the class goes on, the limit has another place and begins anew
        assert self.counts(host) == {("b", "plc"): 1, ("b", "hmi"): 1}

    def test_what_had_no_series_of_its_own_is_of_others_and_never_told_twice(self, make: Make) -> None:
        other = ClientClass("other", Conditions(client_id=("o",)))
        host = make(workers=2)
        host.replace(Policy((other,), (hourly("other"), hourly("b"))))
        self.held(0, "other")
        for slot in range(100, 100 + DELAY_SERIES - 2):  # limits that were here once
            self.held(slot)
        assert self.counts(host) == {("other", "other"): 1}
        self.held(1)
        self.held(1, row=1)
        assert self.counts(host) == {("other", "other"): 2, ("b", ""): 1}


class TestTransitions:
    def test_they_are_told_once_with_the_limits_name(self, make: Make) -> None:
        host = make(hourly("quiet", 100), hourly("a", 1))
        worker = Worker(host)
        worker.publish("pump", count=4)
        ((over, told),) = host.transitions()
        assert over.name == "a"
        assert (told.kind, told.action, told.client_id, told.topic) == ("began", "drop", "pump", "t")
        assert list(host.transitions()) == []
        worker.publish("other", count=2)
        assert [told.client_id for _, told in host.transitions()] == ["other"]

    def test_all_workers_are_read(self, make: Make) -> None:
        host = make(hourly("a", 1), workers=3)
        for row in range(3):
            Worker(host, row).publish(f"c{row}", count=2)
        assert [told.client_id for _, told in host.transitions()] == ["c0", "c1", "c2"]

    def test_of_a_limit_that_is_gone_nobody_is_told(self, make: Make) -> None:
        host = make(hourly("a", 1), hourly("b", 100))
        worker = Worker(host)
        worker.publish(count=2)
        change(host, worker, hourly("b", 100))
        assert list(host.transitions()) == []

    def test_names_follow_a_reload(self, make: Make) -> None:
        host = make(hourly("a", 1, topic=("a",)), hourly("b", 1, topic=("b",)))
        worker = Worker(host)
        change(host, worker, hourly("b", 1, topic=("b",)), hourly("a", 1, topic=("a",)))
        worker.publish(topic="b", count=2)
        assert [over.name for over, _ in host.transitions()] == ["b"]

    def test_those_that_were_overwritten_are_counted_as_lost(self, make: Make) -> None:
        host = make(hourly("a", 1), buckets=1 << 16)
        worker = Worker(host)
        for number in range(RECORDS + 100):
            worker.publish(f"c{number}", count=2, address=f"10.{number // 256}.{number % 256}.1")
        crowded_out = host.events_lost  # two keys of one place among the episodes: the worker itself cannot tell
        told = list(host.transitions())
        assert len(told) == RECORDS
        assert len(told) + host.events_lost == RECORDS + 100
        assert crowded_out < host.events_lost
        assert list(host.transitions()) == []
        assert len(told) + host.events_lost == RECORDS + 100


def test_a_segment_with_a_name_has_rows_for_guests_and_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    policy = Policy(limits=(replace(limit("a", per=(Key(KeyKind.ALL),), concurrent=ByClass(1)), on=Event.CONNECT),))
    host = PolicyHost(policy, workers=2, buckets=4096, largest_packet=1 << 20, path=path)
    assert host.segment.rows == 2 + GUEST_ROWS
    guest = os.open(path, os.O_RDWR)
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, (1 << 62) + 5, 1, 0)
    fcntl.fcntl(guest, fcntl.F_OFD_SETLK, lock)
    engine = Engine(host.segment, 5, 5)
    engine.load(host.segment.policy())
    subject = Subject(b"c", None, bytes(4), b"l", 0)
    assert engine.decide_connect(subject, False, 0, NOW) == Action.PASS
    host.recover_guests()
    own = Engine(host.segment, 0, 0)
    own.load(host.segment.policy())
    assert own.decide_connect(subject, False, 0, NOW, ask=True) != Action.PASS
    os.close(guest)  # as when its process ends
    host.recover_guests()
    assert own.decide_connect(subject, False, 0, NOW, ask=True) == Action.PASS
    host.close()
    assert not path.exists()


def test_a_file_that_another_start_has_replaced_is_left(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    hosts = [PolicyHost(Policy(), workers=1, buckets=4096, largest_packet=1 << 20, path=path) for _ in range(2)]
    hosts[0].close()
    assert path.exists()
    hosts[1].close()
    assert not path.exists()
