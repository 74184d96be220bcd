import errno
import resource

import pytest

from support.record_log import RecordLog
from tidegate.engine.counters import REFUSED, ROW_WORDS, Counters, Refusal
from tidegate.gateway.room import SPARE, TELL_INTERVAL, UNLIMITED, Room, clients_within, is_shortage, raise_open_files


class Limit:
    """What stands in for the process's own limit."""

    def __init__(self, soft: int, hard: int, error: type[Exception] | None = None) -> None:
        self.now = (soft, hard)
        self.error = error

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.now

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        if self.error is not None:
            raise self.error
        self.now = limits


class TestLimit:
    @pytest.mark.parametrize(("hard", "files"), [(1024, 1024), (20_000, 20_000), (resource.RLIM_INFINITY, UNLIMITED)])
    def test_is_raised_as_far_as_may_be(self, monkeypatch: pytest.MonkeyPatch, hard: int, files: int) -> None:
        limit = Limit(1024, hard)
        monkeypatch.setattr(resource, "getrlimit", limit.getrlimit)
        monkeypatch.setattr(resource, "setrlimit", limit.setrlimit)
        assert raise_open_files() == files
        assert limit.now == (hard, hard)

    @pytest.mark.parametrize("error", [ValueError, PermissionError])
    def test_where_that_is_forbidden_the_soft_one_holds(
        self, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        limit = Limit(1024, 4096, error)
        monkeypatch.setattr(resource, "getrlimit", limit.getrlimit)
        monkeypatch.setattr(resource, "setrlimit", limit.setrlimit)
        assert raise_open_files() == 1024

    @pytest.mark.parametrize(
        ("limit", "listeners", "workers", "clients"),
        [(20_000, 1, 1, 9966), (1024, 1, 1, 478), (1024, 60, 64, 386), (SPARE, 1, 1, 0), (0, 1, 1, 0)],
    )
    def test_each_client_takes_two(self, limit: int, listeners: int, workers: int, clients: int) -> None:
        assert clients_within(limit, listeners, workers) == clients


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EMFILE, True),
        (errno.ENFILE, True),
        (errno.ENOBUFS, True),
        (errno.ENOMEM, True),
        (errno.ECONNREFUSED, False),
        (errno.ENOENT, False),
        (None, False),
    ],
)
def test_a_shortage_of_ones_own(code: int | None, expected: bool) -> None:
    assert is_shortage(OSError("several") if code is None else OSError(code, "")) == expected


class TestRoom:
    def made(self, most: int) -> tuple[Room, RecordLog, Counters]:
        self.now = 1000.0
        log, counters = RecordLog(), Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0)
        return Room(most, 100, counters, log, lambda: self.now), log, counters

    def test_so_many_and_again_when_some_have_left(self) -> None:
        made, log, counters = self.made(2)
        assert [made.take() for _ in range(4)] == [True, True, False, False]
        made.leave()
        assert [made.take() for _ in range(2)] == [True, False]
        assert counters.value(REFUSED + Refusal.OPEN_FILES) == 3
        assert [event for event, _ in log.of("warning")] == [
            "clients refused: the open-file limit has no room for more"
        ]

    def test_who_is_refused_is_told_now_and_then_and_not_each(self) -> None:
        made, log, _ = self.made(0)
        for _ in range(5):
            made.take()
        self.now += TELL_INTERVAL
        for _ in range(3):
            made.take()
        self.now += 100 * TELL_INTERVAL
        made.take()
        told = [fields for _, fields in log.of("warning")]
        assert [fields["refused"] for fields in told] == [1, 5, 3]
        assert {(fields["clients"], fields["limit"]) for fields in told} == {(0, 100)}

    def test_a_shortage_is_told_now_and_then_too(self) -> None:
        made, log, _ = self.made(1)
        for _ in range(3):
            made.tell_shortage(OSError(errno.ENFILE, "Too many open files in system"))
        self.now += TELL_INTERVAL
        made.tell_shortage(OSError(errno.EMFILE, "Too many open files"))
        assert [fields["reason"] for _, fields in log.of("warning")] == [
            "Too many open files in system", "Too many open files",
        ]  # fmt: skip
