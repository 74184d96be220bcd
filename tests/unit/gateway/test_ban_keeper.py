import asyncio
import json
import math
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from support.eventually import eventually
from support.record_log import RecordLog
from tidegate.gateway import ban_book, ban_keeper
from tidegate.gateway.ban_book import BY_HAND, BanBook, Entry
from tidegate.gateway.ban_file import BanFile
from tidegate.gateway.ban_keeper import MOST_LINES, BanKeeper
from tidegate.gateway.ban_sheet import BanSheet, read_sheet
from tidegate.gateway.bans import Bans
from tidegate.gateway.offences import Offence
from tidegate.policy.ban_keys import BanKey
from tidegate.policy.counts import BanCounts
from tidegate.policy.model import Policy
from unit.policy.reading import settings_of

POLICY = """\
[[limit]]
name = "guess"
on = "auth_failure"
rate = "5/min"
ban = { first = "10s", factor = 3, max = "1min" }
[[limit]]
name = "flood"
rate = "5/s"
per = ["client", "ip"]
on_excess = "ban"
[[limit]]
name = "milder"
rate = "5/s"
"""
TENANTS = """\
[class.b]
username = "{tenant}:*"
[[limit]]
name = "tenants"
rate = "5/s"
per = "tenant"
on_excess = "ban"
allow_lockout = true
"""
EVE = ip_address("192.0.2.7").packed


def offence(limit: str = "guess", client_id: str = "eve", address: str = "192.0.2.7") -> bytes:
    """The line of a worker."""
    where = ip_address(address) if address else None
    return Offence(limit, client_id, None, where).line().rstrip(b"\n")


class Scene:
    """A keeper on a given clock, its file, and what a worker would know."""

    def __init__(self, folder: Path, policy: str = POLICY) -> None:
        self.now = 1000.0
        self.log = RecordLog()
        self.file = BanFile(folder)
        self.sheet = BanSheet()
        self.told = 0
        self.policy: Policy = settings_of(policy).policy
        self.keeper = self.make()

    def make(self) -> BanKeeper:
        """Another keeper of the same file, as after a restart."""
        made = BanKeeper(BanFile(self.file.path.parent), self.sheet, self.policy, self.log, lambda: self.now)
        made.tell = self.tell
        return made

    def tell(self) -> None:
        self.told += 1

    @asynccontextmanager
    async def keeping(self) -> AsyncIterator[BanKeeper]:
        await self.keeper.start()
        task = asyncio.create_task(self.keeper.keep())
        yield self.keeper
        task.cancel()
        await asyncio.wait({task})
        await self.keeper.close()

    @property
    def bans(self) -> Bans:
        """What a worker goes by now."""
        made = Bans()
        found = read_sheet(self.sheet.fd)
        assert found is not None
        made.take(found)
        return made

    def until(self, address: bytes = EVE) -> float | None:
        """Until when a worker refuses an address."""
        ban = self.bans.of_address(address, self.now)
        return None if ban is None else ban.until

    def saved(self) -> list[tuple[str, str, float]]:
        """Key, limit and end of all entries on disk."""
        entries = BanFile(self.file.path.parent).read().entries
        return [(str(entry.key), entry.limit, entry.until) for entry in entries]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.sheet.close()


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done once in a while is done once in a test."""
    monkeypatch.setattr(ban_keeper, "PAUSE", 3600.0)


class TestOffence:
    async def test_the_first_is_known_and_saved_at_once(self, scene: Scene, slowly: None) -> None:
        async with scene.keeping() as keeper:
            told = scene.told
            keeper.offend(offence())
            await eventually(lambda: scene.until() == 1010, "the workers to know")
            assert scene.told > told
            await eventually(lambda: scene.saved() == [("ip 192.0.2.7", "guess", 1010)], "the file")
        assert scene.log.of("warning") == [
            ("banned", {"who": "ip 192.0.2.7", "limit": "guess", "until": "1970-01-01T00:16:50Z", "times": 1})
        ]

    async def test_many_at_once_are_one_sheet(self, scene: Scene, slowly: None) -> None:
        async with scene.keeping() as keeper:
            before = scene.sheet.generation
            for number in range(100):
                keeper.offend(offence(address=f"192.0.2.{number}"))
            await eventually(lambda: len(scene.saved()) == 100, "the file")
            assert scene.sheet.generation == before + 1
        lines = scene.log.of("warning")
        assert [event for event, _ in lines] == ["banned"] * MOST_LINES + ["more were banned"]
        assert lines[-1][1] == {"bans": 100 - MOST_LINES}

    async def test_those_that_follow_come_with_the_next(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ban_keeper, "PAUSE", 0.01)
        async with scene.keeping() as keeper:
            for number in (1, 2, 3):
                address = f"192.0.2.{number}"
                keeper.offend(offence(address=address))
                await eventually(lambda a=address: scene.until(ip_address(a).packed) is not None, "it to be known")  # type: ignore[misc]
            await eventually(lambda: len(scene.saved()) == 3, "the file")

    async def test_what_was_on_its_way_changes_nothing(self, scene: Scene) -> None:
        async with scene.keeping() as keeper:
            keeper.offend(offence())
            scene.now += 5
            keeper.offend(offence(client_id="other"))
            keeper.distribute()
        assert scene.saved() == [("ip 192.0.2.7", "guess", 1010)]
        assert len(scene.log.of("warning")) == 1

    async def test_the_second_lasts_longer_over_a_restart(self, scene: Scene) -> None:
        async with scene.keeping() as keeper:
            keeper.offend(offence())
        assert scene.saved() == [("ip 192.0.2.7", "guess", 1010)]
        scene.now = 1020.0
        scene.keeper = scene.make()
        async with scene.keeping() as keeper:
            assert scene.until() is None
            keeper.offend(offence())
            keeper.distribute()
            assert scene.until() == 1020 + 30
        assert scene.log.of("warning")[-1][1]["times"] == 2

    async def test_a_ban_is_in_force_when_the_first_worker_starts(self, scene: Scene) -> None:
        async with scene.keeping() as keeper:
            keeper.offend(offence())
        scene.keeper = scene.make()
        scene.sheet.publish(b"")
        await scene.keeper.start()
        assert scene.until() == 1010

    async def test_a_limit_that_is_gone_bans_nobody(self, scene: Scene) -> None:
        scene.keeper.offend(offence(limit="gone"))
        assert list(scene.keeper.counts())[1].active == 0
        assert scene.log.said == []

    async def test_nobody_to_ban_is_said_once(self, scene: Scene) -> None:
        for _ in range(3):
            scene.keeper.offend(offence("flood", client_id=""))
        ((event, fields),) = scene.log.of("warning")
        assert event.startswith("nobody to ban")
        assert fields == {"limit": "flood", "client": "", "username": None, "address": ip_address("192.0.2.7")}
        scene.keeper.reload(scene.policy)
        scene.keeper.offend(offence("flood", client_id=""))
        assert len(scene.log.of("warning")) == 2

    @pytest.mark.parametrize("line", [b"ban {}", b"ban " + b"[" * 100_000])
    async def test_what_no_worker_says_is_told(self, scene: Scene, line: bytes) -> None:
        scene.keeper.offend(line)
        assert scene.log.has("error", "cannot be read")

    async def test_new_bans_are_added_to_the_sheet_until_it_is_made_anew(
        self, scene: Scene, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ban_keeper, "MOST_ADDED", 2)
        await scene.keeper.start()
        bases = []
        for number in range(5):
            scene.keeper.offend(offence(address=f"192.0.2.{number}"))
            scene.keeper.distribute()
            sheet = read_sheet(scene.sheet.fd)
            assert sheet is not None
            bases.append(sheet.base)
            assert scene.until(ip_address(f"192.0.2.{number}").packed) == 1010
        assert bases == [2, 2, 5, 5, 5]
        assert scene.until(ip_address("192.0.2.0").packed) == 1010

    async def test_too_many_are_counted(self, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ban_book, "MOST", 3)
        monkeypatch.setattr(ban_book, "SLACK", 1)
        async with scene.keeping() as keeper:
            for number in range(5):
                keeper.offend(offence(address=f"192.0.2.{number}"))
            keeper.distribute()
        assert scene.keeper.dropped == 2
        assert len(scene.saved()) == 3
        assert ("bans dropped that would have ended first: there are too many", {"bans": 2, "most": 10_000}) in (
            scene.log.of("warning")
        )


class TestFile:
    async def test_what_others_add_and_remove_is_taken_over(self, scene: Scene) -> None:
        async with scene.keeping() as keeper:
            for address in ("192.0.2.1", "192.0.2.2"):
                keeper.offend(offence(address=address))
            await eventually(lambda: len(scene.saved()) == 2, "the file")
            other = BanFile(scene.file.path.parent)
            with other.locked():
                book = BanBook(other.read().entries)
                book.remove(BanKey(ip_network("192.0.2.1")))
                book.put(Entry(BanKey(ip_network("192.0.2.7")), BY_HAND, 0.0, math.inf, forget=math.inf))
                other.write(book)
            generation = await keeper.reread()
            assert generation == scene.sheet.generation
            assert scene.until() == math.inf
            assert scene.until(ip_address("192.0.2.1").packed) is None
            assert scene.until(ip_address("192.0.2.2").packed) == 1010
        assert scene.log.of("error") == []

    async def test_what_others_have_written_unseen_is_not_overwritten(self, scene: Scene) -> None:
        async with scene.keeping() as keeper:
            other = BanFile(scene.file.path.parent)
            other.write([Entry(BanKey(client_id="c"), BY_HAND, 0.0, math.inf, forget=math.inf)])
            keeper.offend(offence())
            await eventually(lambda: len(scene.saved()) == 2, "both to be on disk")
            await eventually(lambda: scene.bans.of_client("c", None, b"", 0.0), "the other's to be in force")

    async def test_a_file_that_is_gone_bans_nobody(self, scene: Scene) -> None:
        async with scene.keeping() as keeper:
            keeper.offend(offence())
            await eventually(lambda: scene.saved() != [], "the file")
            scene.file.path.unlink()
            await keeper.reread()
            assert scene.until() is None

    async def test_a_broken_file_is_kept_aside_and_what_can_be_read_is_in_force(self, scene: Scene) -> None:
        good = Entry(BanKey(ip_network("192.0.2.7")), BY_HAND, 0.0, math.inf, forget=math.inf).as_object()
        text = json.dumps({"version": 1, "bans": [good, 5]})
        scene.file.path.write_text(text)
        async with scene.keeping():
            assert scene.until() == math.inf
        aside = scene.file.path.with_name("bans.json.broken")
        assert aside.read_text() == text
        ((event, fields),) = scene.log.of("error")
        assert event == "bans that cannot be read are left out"
        assert str(fields["reason"]).startswith(f"{scene.file.path}: bans[1]: not an object; ")
        assert f"it is kept as {aside}" in str(fields["reason"])
        assert scene.saved() == [("ip 192.0.2.7", "", math.inf)]

    @pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"version": 9, "bans": []}'])
    async def test_a_foreign_file_keeps_nothing_from_starting(self, scene: Scene, text: str) -> None:
        scene.file.path.write_text(text)
        async with scene.keeping() as keeper:
            keeper.offend(offence())
        assert scene.saved() == [("ip 192.0.2.7", "guess", 1010)]
        assert scene.file.path.with_name("bans.json.broken").read_text() == text


class TestFullDisk:
    @pytest.fixture
    def disk(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
        """Fill it, or make room on it."""
        is_full = False

        def fsync(_: int) -> None:
            if is_full:
                raise OSError(28, "No space left on device")

        def fill(full: bool) -> None:
            nonlocal is_full
            is_full = full

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(ban_keeper, "PAUSE", 0.001)
        return fill

    async def test_bans_hold_all_the_same_and_are_saved_later(
        self, scene: Scene, disk: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ban_keeper, "RETRY", 0.005)
        disk(True)
        async with scene.keeping() as keeper:
            keeper.offend(offence())
            await eventually(lambda: scene.log.of("error"), "the failure")
            assert scene.until() == 1010
            assert "No space left on device" in keeper.trouble
            keeper.offend(offence(address="192.0.2.8"))
            await eventually(lambda: scene.until(ip_address("192.0.2.8").packed) == 1010, "the second")
            assert scene.saved() == []
            disk(False)
            await eventually(lambda: len(scene.saved()) == 2, "both to be saved")
            await eventually(lambda: keeper.trouble == "", "that to be heard of")
        ((event, fields),) = scene.log.of("error")
        assert event == "bans are not saved: they hold until the gateway ends"
        assert str(fields["reason"]).startswith(f"{scene.file.path}: cannot be written: No space left on device; ")
        assert scene.log.of("info") == [("bans are saved again", {})]

    async def test_what_others_wrote_meanwhile_is_not_lost(self, scene: Scene, disk: Callable[[bool], None]) -> None:
        async with scene.keeping() as keeper:
            BanFile(scene.file.path.parent).write([Entry(BanKey(client_id="c"), BY_HAND, 0.0, math.inf, 1, math.inf)])
            disk(True)
            keeper.offend(offence())
            await eventually(lambda: scene.log.of("error"), "the failure")
            disk(False)
        assert len(scene.saved()) == 2

    async def test_the_end_of_the_gateway_saves_what_has_not_been(
        self, scene: Scene, disk: Callable[[bool], None]
    ) -> None:
        async with scene.keeping() as keeper:
            disk(True)
            keeper.offend(offence())
            await eventually(lambda: scene.log.of("error"), "the failure")
            disk(False)
        assert scene.saved() == [("ip 192.0.2.7", "guess", 1010)]

    async def test_a_directory_that_is_none_keeps_nothing_from_starting(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        scene = Scene(tmp_path / "file")
        async with scene.keeping() as keeper:
            keeper.offend(offence())
            await eventually(lambda: scene.until() == 1010, "the ban")
        assert len(scene.log.of("error")) == 1
        scene.sheet.close()


class TestPolicy:
    async def test_a_capture_is_found_by_the_classes_in_force(self, tmp_path: Path) -> None:
        scene = Scene(tmp_path, TENANTS)
        async with scene.keeping() as keeper:
            keeper.offend(Offence("tenants", "c", "acme:u", None).line())
            keeper.distribute()
            assert scene.bans.of_client("d", "acme:v", EVE, 1000.0)
            keeper.reload(settings_of(TENANTS.replace("{tenant}:*", "*@{tenant}")).policy)
            await eventually(lambda: scene.bans.of_client("d", "v@acme", EVE, 1000.0), "the new classes")
            assert scene.bans.of_client("d", "acme:v", EVE, 1000.0) is None
        scene.sheet.close()

    async def test_bans_are_counted_by_limits_in_force(self, scene: Scene) -> None:
        keeper = scene.keeper
        scene.file.write(
            [
                Entry(BanKey(client_id="a"), BY_HAND, 0.0, math.inf, 1, math.inf),
                Entry(BanKey(client_id="b"), "gone", 0.0, math.inf, 1, math.inf),
                Entry(BanKey(client_id="c"), "milder", 0.0, math.inf, 1, math.inf),
                Entry(BanKey(client_id="d"), "flood", 0.0, 900.0, 1, math.inf),
            ]
        )
        await keeper.reread()
        keeper.offend(offence())
        assert list(keeper.counts()) == [
            BanCounts("", 1, None),
            BanCounts("flood", 0, 0),
            BanCounts("guess", 1, 1),
            BanCounts("other", 2, None),
        ]
        scene.now += 60
        assert [one.active for one in keeper.counts()] == [1, 0, 0, 2]
