import asyncio
from collections.abc import Awaitable, Callable

import pytest

from support.record_log import RecordLog
from tidegate.engine.counters import ROW_WORDS, UPSTREAM_UP, Counters
from tidegate.gateway.health import FIRST_PAUSE, IDLE_PAUSE, LONGEST_PAUSE, Health, pauses
from tidegate.policy.address import Address

BROKER = Address(kind="tcp", host="127.0.0.1", port=1)


class Stage:
    """A broker whose answers are given, and a clock that moves when the test says so."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.sleeps: list[float] = []
        self.wake: dict[float, list[asyncio.Event]] = {}
        self.log = RecordLog()
        self.counters = Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0)
        self.health = Health(BROKER, self.counters, self.log, ask=self.ask, sleep=self.sleep)

    async def ask(self, address: Address, seconds: float) -> str | None:
        self.asked += 1
        return self.answers.pop(0) if self.answers else None

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        if seconds == IDLE_PAUSE:
            event = asyncio.Event()
            self.wake.setdefault(seconds, []).append(event)
            await event.wait()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("what was waited for did not happen")


def test_pauses_double_up_to_the_longest_and_vary() -> None:
    full = pauses(lambda: 0.0)
    assert [full() for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE, LONGEST_PAUSE]
    assert pauses(lambda: 1.0)() == FIRST_PAUSE / 2


async def watched(stage: Stage, busy: bool, body: Callable[[], Awaitable[None]]) -> None:
    task = asyncio.create_task(stage.health.watch(lambda: busy))
    try:
        await body()
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_broker_that_answers_is_said_once() -> None:
    stage = Stage(None)

    async def body() -> None:
        await until(lambda: stage.health.up and stage.counters.value(UPSTREAM_UP) == 1)
        stage.health.answered()

    await watched(stage, True, body)
    assert [event for _, event, _ in stage.log.said] == ["broker answers"]


async def test_down_is_said_once_probed_with_pauses_and_up_again() -> None:
    stage = Stage("connection refused", "connection refused", "connection refused", None)

    async def body() -> None:
        await until(lambda: stage.asked == 4)
        await until(lambda: stage.health.up)

    await watched(stage, True, body)
    assert [event for _, event, _ in stage.log.said] == ["broker does not answer", "broker answers"]
    assert stage.counters.value(UPSTREAM_UP) == 1


async def test_a_failed_connect_marks_it_down_at_once_and_probes() -> None:
    stage = Stage()

    async def body() -> None:
        await until(lambda: stage.asked == 1)
        stage.health.failed("no such file")
        assert not stage.health.up
        assert stage.counters.value(UPSTREAM_UP) == 0
        await until(lambda: stage.health.up)
        assert stage.asked == 2

    await watched(stage, True, body)


@pytest.mark.parametrize(("busy", "asked"), [(True, 1), (False, 2)])
async def test_an_idle_gateway_looks_after_its_broker_a_busy_one_need_not(busy: bool, asked: int) -> None:
    stage = Stage()

    async def body() -> None:
        await until(lambda: bool(stage.wake.get(IDLE_PAUSE)))
        stage.wake[IDLE_PAUSE].pop().set()
        await until(lambda: bool(stage.wake[IDLE_PAUSE]))
        assert stage.asked == asked

    await watched(stage, busy, body)


async def test_a_doubt_asks_even_while_busy() -> None:
    stage = Stage()

    async def body() -> None:
        await until(lambda: stage.asked == 1)
        stage.health.doubt()
        await until(lambda: stage.asked == 2)

    await watched(stage, True, body)
