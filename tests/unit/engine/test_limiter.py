import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import tidegate
from tidegate.engine import memory
from tidegate.engine.binding import Segment
from tidegate.engine.limiter import BUDGETS, Hit, Limiter

SECOND = 10**9
Make = Callable[..., Limiter]


class Clock:
    """A time that only tests move, in nanoseconds."""

    def __init__(self) -> None:
        self.now = SECOND

    def __call__(self) -> int:
        return self.now

    def forward(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits"


def passed(limiter: Limiter, key: str | bytes, hits: int) -> int:
    return sum(bool(limiter.hit(key)) for _ in range(hits))


def test_a_burst_passes_and_what_is_refused_says_until_when(path: Path, clock: Clock) -> None:
    with Limiter(path, "10/s burst 3", clock=clock) as limiter:
        assert [limiter.hit("a") for _ in range(3)] == [Hit(passed=True, retry_after=0.0)] * 3
        refused = limiter.hit("a")
        assert not refused
        assert refused.retry_after == pytest.approx(0.1, abs=1e-6)
        clock.forward(refused.retry_after - 1e-3)
        assert not limiter.hit("a")
        clock.forward(1e-3)
        assert limiter.hit("a")
        assert not limiter.hit("a")


def test_a_rate_without_burst_lets_its_amount_through_at_once(path: Path, clock: Clock) -> None:
    with Limiter(path, "600/min", clock=clock) as limiter:
        assert passed(limiter, "a", 700) == 600
        clock.forward(1)
        assert passed(limiter, "a", 700) == 10


def test_keys_do_not_share_and_text_is_its_utf8(path: Path, clock: Clock) -> None:
    with Limiter(path, "1/s", clock=clock) as limiter:
        assert limiter.hit("é")
        assert not limiter.hit("é".encode())
        assert limiter.hit("e")
        assert limiter.hit("")
        assert limiter.hit("\ud800")  # a text from outside may hold half a character
        assert not limiter.hit("\ud800")


def test_a_cost_is_charged_whole_or_not_at_all(path: Path, clock: Clock) -> None:
    with Limiter(path, "10/s", clock=clock) as limiter:
        assert limiter.hit("a", 7)
        refused = limiter.hit("a", 4)
        assert not refused
        assert refused.retry_after == pytest.approx(0.1, abs=1e-6)
        assert limiter.hit("a", 3)
        assert not limiter.hit("a")


@pytest.mark.parametrize("cost", [0, -1, 11, 1 << 70])
def test_a_cost_that_could_never_pass(path: Path, cost: int) -> None:
    with Limiter(path, "1/s burst 10") as limiter, pytest.raises(ValueError, match="give 1 to 10"):
        limiter.hit("a", cost)


def test_it_goes_on_where_another_stopped(path: Path, clock: Clock) -> None:
    with Limiter(path, "1/s burst 5", clock=clock) as first, Limiter(path, "1/s burst 5", clock=clock) as second:
        assert passed(first, "a", 3) + passed(second, "a", 3) == 5
    with Limiter(path, "60/min burst 5", keys=1, clock=clock) as third:  # the same rate, the same budget
        assert not third.hit("a")


def test_names_and_rates_are_budgets_of_their_own(path: Path, clock: Clock) -> None:
    with (
        Limiter(path, "1/s", name="login", clock=clock) as login,
        Limiter(path, "1/s", name="search", clock=clock) as search,
        Limiter(path, "2/s", name="login", clock=clock) as faster,
    ):
        assert [passed(one, "a", 5) for one in (login, search, faster)] == [1, 1, 2]


def test_keys_beyond_the_table_share_one_budget(path: Path, clock: Clock) -> None:
    with Limiter(path, "1/h", keys=256, clock=clock) as limiter:
        fresh = sum(bool(limiter.hit(f"key {number}")) for number in range(5000))
        assert 256 <= fresh <= 3 * 256
        assert not limiter.hit("key 0")  # no newcomer has pushed it out
        clock.forward(3600)
        assert limiter.hit("key 4999")


def test_one_name_cannot_use_up_the_keys_of_another(path: Path, clock: Clock) -> None:
    with Limiter(path, "1/h", keys=256, clock=clock) as flooded, Limiter(path, "1/h", name="b", clock=clock) as other:
        passed_of = [sum(bool(one.hit(f"{number}")) for number in range(256)) for one in (flooded, other)]
        for number in range(5000):
            flooded.hit(f"more {number}")
        # The table is half full then: now and again a key finds its sixteen words taken, and counts in the crowd.
        assert min(passed_of) > 250


def test_there_are_only_so_many_places_for_rates(path: Path) -> None:
    for number in range(BUDGETS):
        Limiter(path, "1/s", name=f"{number}").close()
    Limiter(path, "1/s", name="7").close()
    with pytest.raises(tidegate.SegmentError, match=r"limits: all 1024 places for rates are taken; remove the file"):
        Limiter(path, "1/s", name="one more")


def test_the_file_is_for_the_group_and_of_the_size_that_was_asked_for(path: Path) -> None:
    Limiter(path, "1/s", keys=100_000).close()
    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert 524_288 * 16 <= status.st_size < 524_288 * 16 + (1 << 20)
    assert os.listdir(path.parent) == ["limits"]


@pytest.mark.parametrize("keys", [0, -5, 1 << 40])
def test_a_number_of_keys_that_is_none(path: Path, keys: int) -> None:
    with pytest.raises(ValueError, match="keys; give 1 to"):
        Limiter(path, "1/s", keys=keys)
    assert not path.exists()


def test_a_rate_that_is_none_makes_no_file(path: Path) -> None:
    with pytest.raises(ValueError, match="no unit of time"):
        Limiter(path, "1/fortnight")
    assert not path.exists()


def test_a_closed_limiter(path: Path) -> None:
    limiter = Limiter(path, "1/s")
    limiter.close()
    limiter.close()
    with pytest.raises(ValueError, match="closed"):
        limiter.hit("a")


def make(path: Path, *, rows: int = 0, room: int = 0, boot: int | None = None) -> None:
    size = Segment.size(rows, 16, 0, 1024, room)
    written = memory.boot() if boot is None else boot
    memory.open_named(path, size, lambda m: Segment.create(m, rows, 16, 0, 1024, room, written, (1, 2)))


def test_what_a_former_boot_has_left_is_replaced(path: Path, clock: Clock) -> None:
    make(path, boot=memory.boot() ^ 1)
    old = path.stat().st_ino
    with Limiter(path, "1/s", clock=clock) as limiter, Limiter(path, "1/s", clock=clock) as second:
        assert path.stat().st_ino != old
        assert limiter.hit("a")
        assert not second.hit("a")
    assert os.listdir(path.parent) == ["limits"]


def test_who_comes_late_to_replace_it_takes_the_one_that_is_there(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(path, boot=memory.boot() ^ 1)
    made: list[Limiter] = []

    def flock(_fd: int, _what: int) -> None:
        """Wait so long for the lock that another has replaced the file."""
        monkeypatch.undo()
        made.append(Limiter(path, "1/s", clock=clock))

    monkeypatch.setattr(memory, "fcntl", SimpleNamespace(flock=flock, LOCK_EX=0))
    with Limiter(path, "1/s", clock=clock) as late:
        assert made[0].hit("a")
        assert not late.hit("a")


@pytest.mark.parametrize("content", [b"", b"precious" * 2000, b"TIDEGATE\xff\xff\xff\xff" + bytes(8192)])
def test_what_is_not_ours_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(tidegate.SegmentError, match=rf"{path}: .*rm {path}"):
        Limiter(path, "1/s")
    assert path.read_bytes() == content


@pytest.mark.parametrize(("rows", "room"), [(1, 0), (0, 4096)])
def test_a_gateways_segment_is_left_alone(path: Path, rows: int, room: int) -> None:
    make(path, rows=rows, room=room)
    with pytest.raises(tidegate.SegmentError, match="segment of a gateway; give the limiter a path of its own"):
        Limiter(path, "1/s")


def test_a_damaged_segment_of_a_former_boot_is_left_alone(path: Path) -> None:
    make(path, boot=memory.boot() ^ 1)
    os.truncate(path, 8192)
    with pytest.raises(tidegate.SegmentError, match="left over"):
        Limiter(path, "1/s")
    assert path.stat().st_size == 8192


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(tidegate.SegmentError, match="cannot be made"):
        Limiter(tmp_path / "none" / "limits", "1/s")


def test_the_clock_of_the_machine_is_the_default(path: Path) -> None:
    with Limiter(path, "1/365d") as limiter:
        assert limiter.hit("a")
        assert limiter.hit("a").retry_after > 364 * 86400


def test_the_package_offers_it() -> None:
    assert tidegate.Limiter is Limiter
    assert tidegate.Hit is Hit
    with pytest.raises(AttributeError, match="no attribute 'Limit'"):
        tidegate.Limit  # noqa: B018


def test_a_child_of_a_fork_is_another_process_than_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[Limiter] = []

    def renew(self: Limiter) -> None:
        renewed.append(self)

    monkeypatch.setattr(Limiter, "renew", renew)
    limiter = Limiter(tmp_path / "segment", "5/s")
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, bytes([limiter in renewed, bool(limiter.hit("k"))]))
        os._exit(0)
    assert os.read(read, 2) == bytes([True, True])
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)
    assert limiter not in renewed
