import asyncio
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import cast

import pytest

from support import limits
from support.record_log import RecordLog
from tidegate.app import attribution
from tidegate.app.attribution import MOST_LINES, Attribution, tell_transitions
from tidegate.engine.binding import Engine, Subject, Transition
from tidegate.gateway.policy_host import PolicyHost
from tidegate.policy.model import Event, Limit

START = 10**12
SECOND = 10**9
BEGAN = "over a limit"
ENDED = "no longer over a limit"
MORE = "more came over a limit, or no longer are"
V4 = bytes([10, 0, 0, 1]) + bytes(12)


def transition(kind: str = "began", key: int = 1, **changes: object) -> Transition:
    told = Transition(kind, "reject", 0, 3, False, 1.0, key, 4, V4, f"c{key}", "", "a/b")
    return told._replace(**changes)  # type: ignore[arg-type]


class FakeHost:
    """What is told next, and what has been lost so far."""

    def __init__(self) -> None:
        self.told: list[Transition] = []
        self.events_lost = 0
        self.on = Event.PUBLISH

    def transitions(self) -> Iterator[tuple[Limit, Transition]]:
        told, self.told = self.told, []
        return ((Limit("flood", self.on, limits.REJECT), one) for one in told)


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def log() -> RecordLog:
    return RecordLog()


@pytest.fixture
def made(host: FakeHost, log: RecordLog) -> Attribution:
    return Attribution(cast(PolicyHost, host), log)


def lines(made: Attribution, host: FakeHost, log: RecordLog, *told: Transition) -> list[tuple[str, dict[str, object]]]:
    """What is logged of these."""
    host.told = list(told)
    log.said.clear()
    made.look()
    assert {level for level, _, _ in log.said} <= {"info"}
    return log.of("info")


def test_nothing_happens_and_nothing_is_said(made: Attribution, host: FakeHost, log: RecordLog) -> None:
    assert lines(made, host, log) == []


def test_who_came_under_which_limit(made: Attribution, host: FakeHost, log: RecordLog) -> None:
    about: dict[str, object] = {"limit": "flood", "action": "reject", "client": "c1", "address": "10.0.0.1"}
    about |= {"topic": "a/b", "messages": 3}
    assert lines(made, host, log, transition()) == [(BEGAN, about)]
    assert lines(made, host, log, transition("still", count=70)) == [("still over a limit", about | {"messages": 70})]


def test_the_end_tells_whose_it_is_too(made: Attribution, host: FakeHost, log: RecordLog) -> None:
    about: dict[str, object] = {"limit": "flood", "action": "reject", "client": "c1", "username": "u"}
    about |= {"address": "10.0.0.1", "topic": "a/b", "messages": 9}
    assert lines(made, host, log, transition("ended", username="u", count=9)) == [(ENDED, about)]


def test_who_connects_is_told_as_far_as_he_is_known(made: Attribution, host: FakeHost, log: RecordLog) -> None:
    host.on = Event.CONNECT
    about: dict[str, object] = {"limit": "flood", "action": "reject", "address": "10.0.0.1", "attempts": 3}
    assert lines(made, host, log, transition(client_id="", topic="")) == [(BEGAN, about)]
    about |= {"client": "c1", "username": "u"}
    assert lines(made, host, log, transition(username="u", topic="")) == [(BEGAN, about)]


@pytest.mark.parametrize(
    ("on", "what"),
    [
        (Event.SUBSCRIBE, "subscriptions"),
        (Event.DELIVER, "messages"),
        (Event.WILL, "wills"),
        (Event.PACKET, "packets"),
        (Event.AUTH_FAILURE, "attempts"),
    ],
)
def test_what_is_counted_is_called_by_its_name(
    made: Attribution, host: FakeHost, log: RecordLog, on: Event, what: str
) -> None:
    host.on = on
    ((_, about),) = lines(made, host, log, transition())
    assert list(about.items())[-1] == (what, 3)


@pytest.mark.parametrize(
    ("family", "address", "shown"),
    [(4, V4, "10.0.0.1"), (6, IPv6Address("2001:db8::1").packed, "2001:db8::1"), (0, bytes(16), "unix")],
)
def test_addresses(made: Attribution, host: FakeHost, log: RecordLog, family: int, address: bytes, shown: str) -> None:
    ((_, about),) = lines(made, host, log, transition(family=family, address=address))
    assert about["address"] == shown


def test_a_crowd_is_called_one(made: Attribution, host: FakeHost, log: RecordLog) -> None:
    ((_, about),) = lines(made, host, log, transition(crowd=True))
    assert about["crowd"] is True


def test_a_flood_of_clients_is_not_one_of_lines(made: Attribution, host: FakeHost, log: RecordLog) -> None:
    told = [transition(key=key) for key in range(MOST_LINES + 5)]
    host.events_lost = 2
    said = lines(made, host, log, *told)
    assert [about["client"] for _, about in said[:-1]] == [f"c{key}" for key in range(MOST_LINES)]
    assert said[-1] == (MORE, {"events": 7})
    assert lines(made, host, log) == []


def test_what_was_lost_before_is_not_told_again(host: FakeHost, log: RecordLog) -> None:
    host.events_lost = 5
    made = Attribution(cast(PolicyHost, host), log)
    assert lines(made, host, log) == []
    host.events_lost = 6
    assert lines(made, host, log) == [(MORE, {"events": 1})]


async def test_it_goes_on_looking(host: FakeHost, log: RecordLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attribution, "INTERVAL", 0.0)
    task = asyncio.create_task(tell_transitions(cast(PolicyHost, host), log))
    for number in (1, 2):
        host.told = [transition(key=number)]
        while len(log.said) < number:
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert [about["client"] for _, about in log.of("info")] == ["c1", "c2"]


def test_an_engine_tells_it_so(log: RecordLog) -> None:
    real = limits.host(limits.limit("flood", rate=limits.rate(1, period=3600)))
    engine = Engine(real.segment, 0)
    engine.load(real.segment.policy())
    made = Attribution(real, log)
    subject = Subject(b"pump", b"u", bytes([10, 0, 0, 1]), b"l", 5)
    for number in range(4):
        engine.judge(subject, b"a/b", 1, now_ns=START + number)
    made.look()
    for _ in range(32):  # each looks at some of the places where it may stand
        engine.sweep((START + 60 * SECOND) / 1e9)
    made.look()
    about: dict[str, object] = {
        "limit": "flood",
        "action": "reject",
        "client": "pump",
        "username": "u",
        "address": "10.0.0.1",
    }
    about |= {"topic": "a/b"}
    assert log.of("info") == [(BEGAN, about | {"messages": 1}), (ENDED, about | {"messages": 2})]
