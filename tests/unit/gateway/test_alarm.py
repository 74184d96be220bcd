import asyncio
import errno
import os
import resource
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import pytest

from support.eventually import eventually
from tidegate.gateway.alarm import Alarm

PAST = 1e-6
"""Seconds of the monotonic clock: since then it has gone on."""
FAR = 1e9
NEVER = float("inf")


class Make(Protocol):
    def __call__(self, callback: Callable[[], None] = ..., /) -> Alarm: ...


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Alarm] = []

    def alarm(callback: Callable[[], None] = lambda: None) -> Alarm:
        made.append(Alarm(asyncio.get_running_loop(), callback))
        return made[-1]

    yield alarm
    for one in made:
        one.close()


async def later_ones_have_rung(make: Make) -> None:
    """Return when an alarm that was set last has rung, so that whatever rings at once has done so."""
    rings: list[int] = []
    make(lambda: rings.append(1)).set(PAST)
    await eventually(lambda: rings, "the last alarm")


@pytest.mark.parametrize("at", [0.0, PAST, -1.0])
async def test_a_time_that_is_over_rings_at_once_and_once(make: Make, at: float) -> None:
    rings: list[int] = []
    alarm = make(lambda: rings.append(1))
    for number in (1, 2):
        alarm.set(at)
        await later_ones_have_rung(make)
        assert len(rings) == number


@pytest.mark.parametrize("at", [FAR, NEVER])
async def test_only_the_time_said_last_counts(make: Make, at: float) -> None:
    rings: list[int] = []
    alarm = make(lambda: rings.append(1))
    alarm.set(PAST)
    alarm.set(at)
    await later_ones_have_rung(make)
    assert rings == []
    alarm.set(PAST)
    await eventually(lambda: rings, "the alarm")


async def test_one_that_is_set_anew_while_it_rings_does_not(make: Make) -> None:
    rings: list[int] = []
    alarms: list[Alarm] = []

    def ring() -> None:
        rings.append(1)
        for alarm in alarms:
            alarm.set(FAR)

    alarms += [make(ring), make(ring)]
    for alarm in alarms:
        alarm.set(PAST)
    await later_ones_have_rung(make)
    assert len(rings) == 1


async def test_one_that_is_closed_rings_no_more(make: Make) -> None:
    rings: list[int] = []
    before = len(os.listdir("/proc/self/fd"))
    alarm = Alarm(asyncio.get_running_loop(), lambda: rings.append(1))
    alarm.set(PAST)
    alarm.close()
    assert len(os.listdir("/proc/self/fd")) == before
    await later_ones_have_rung(make)
    assert rings == []


async def test_a_process_without_descriptors_has_none(make: Make) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as raised:
            make()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert raised.value.errno == errno.EMFILE
