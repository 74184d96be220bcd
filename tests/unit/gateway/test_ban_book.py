import math
from ipaddress import ip_network

import pytest

from tidegate.gateway import ban_book
from tidegate.gateway.ban_book import BY_HAND, BanBook, Entry, duration, read_entry
from tidegate.policy.ban_keys import BanKey
from tidegate.policy.model import BanTimes
from tidegate.policy.problems import BadValue

TIMES = BanTimes(first=30, factor=4, longest=1000)
HERE, THERE = (BanKey(ip_network(text)) for text in ("192.0.2.7", "198.51.100.0/24"))


def offend(book: BanBook, now: float, key: BanKey = HERE, limit: str = "guess") -> float | None:
    """Until when an offence bans; None when it is no further one."""
    entry = book.offend(limit, key, TIMES, now)
    return None if entry is None else entry.until


def by_hand(key: BanKey = HERE, until: float = math.inf) -> Entry:
    return Entry(key, BY_HAND, 0, until, forget=until)


class TestOffend:
    def test_each_next_one_lasts_longer_until_the_longest(self) -> None:
        book = BanBook()
        assert offend(book, 0) == 30
        assert offend(book, 30) == 30 + 120
        assert offend(book, 200) == 200 + 480
        assert offend(book, 700) == 700 + 1000
        assert offend(book, 2000) == 2000 + 1000
        (entry,) = book
        assert (entry.since, entry.level, entry.limit, entry.key) == (2000, 5, "guess", HERE)

    def test_what_was_on_its_way_is_no_further_offence(self) -> None:
        book = BanBook()
        offend(book, 0)
        for now in (0, 1, 29.9):
            assert offend(book, now) is None
        (entry,) = book
        assert (entry.until, entry.level) == (30, 1)

    def test_it_is_remembered_for_as_long_as_the_longest_ban(self) -> None:
        for pause, until in ((999.9, 120), (1000, 30)):
            book = BanBook()
            offend(book, 0)
            now = 30 + pause
            assert offend(book, now) == now + until

    def test_keys_and_limits_are_apart(self) -> None:
        book = BanBook()
        offend(book, 0)
        offend(book, 30)
        assert offend(book, 40, THERE) == 40 + 30
        assert offend(book, 40, HERE, "other") == 40 + 30
        assert len(book) == 3

    def test_a_ban_by_hand_is_apart_too(self) -> None:
        book = BanBook([by_hand()])
        assert offend(book, 0) == 30
        assert len(book) == 2

    @pytest.mark.parametrize(
        ("times", "level", "seconds"),
        [
            (TIMES, 1, 30),
            (TIMES, 1_000_000, 1000),
            (BanTimes(5, 1, 10), 1_000_000, 5),
            (BanTimes(5, 1, 5), 3, 5),
            (BanTimes(1, 100, 8760 * 3600), 4, 1_000_000),
            (BanTimes(1, 1.5, 100), 3, 2.25),
        ],
    )
    def test_durations(self, times: BanTimes, level: int, seconds: float) -> None:
        assert duration(times, level) == pytest.approx(seconds)


class TestBook:
    def test_what_is_in_force(self) -> None:
        book = BanBook([by_hand(), by_hand(THERE, until=50)])
        assert [entry.key for entry in book.active(49)] == [HERE, THERE]
        assert [entry.key for entry in book.active(50)] == [HERE]

    def test_the_later_of_two_for_one_holds(self) -> None:
        book = BanBook([by_hand(until=50), by_hand(until=70)])
        assert [entry.until for entry in book] == [70]

    def test_a_key_is_removed_with_all_that_is_known_of_it(self) -> None:
        book = BanBook([by_hand(), by_hand(THERE)])
        offend(book, 0)
        assert len(book.remove(HERE)) == 2
        assert [entry.key for entry in book] == [THERE]
        assert book.remove(HERE) == []
        assert offend(book, 40) == 40 + 30, "it begins anew"
        assert len(book.remove(None)) == 2
        assert len(book) == 0

    def test_what_is_over_is_forgotten(self) -> None:
        book = BanBook([by_hand(THERE, until=10)])
        offend(book, 0)
        assert book.trim(10) == 0
        assert [entry.key for entry in book] == [HERE]
        assert book.trim(1030) == 0
        assert len(book) == 0

    def test_too_many_lose_those_that_end_first_but_none_by_hand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ban_book, "MOST", 3)
        keys = [BanKey(client_id=f"c{number}") for number in range(6)]
        book = BanBook([by_hand(keys[0], until=5), by_hand(keys[1])])
        offend(book, 0, keys[2])  # ended at 30, remembered
        for number, now in ((3, 20), (4, 10), (5, 15)):
            offend(book, now, keys[number])
        assert book.trim(4) == 3
        assert [entry.key for entry in book] == [keys[0], keys[1], keys[3]]
        book = BanBook([by_hand(keys[0])])
        for number, now in ((1, 0), (2, 0), (3, 100), (4, 100)):
            offend(book, now, keys[number])
        assert book.trim(100) == 0, "only ended ones had to go"
        assert [entry.key for entry in book] == [keys[0], keys[3], keys[4]]

    def test_more_by_hand_than_there_is_room_for_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ban_book, "MOST", 1)
        book = BanBook([by_hand(), by_hand(THERE)])
        assert book.trim(0) == 0
        assert len(book) == 2


class TestJson:
    @pytest.mark.parametrize(
        "entry",
        [
            Entry(HERE, "guess", 1.5, 31.5, 3, 1031.5),
            Entry(BanKey(client_id="é"), BY_HAND, 0.0, math.inf, 1, math.inf, "why"),
        ],
    )
    def test_there_and_back(self, entry: Entry) -> None:
        assert read_entry(entry.as_object()) == entry

    def test_for_ever_is_null(self) -> None:
        assert by_hand().as_object()["until"] is None

    def test_what_somebody_wrote_by_hand_needs_little(self) -> None:
        assert read_entry({"ip": "192.0.2.7"}) == Entry(HERE, BY_HAND, 0.0, math.inf, 1, math.inf)
        assert read_entry({"ip": "192.0.2.7", "until": 50}) == Entry(HERE, BY_HAND, 0.0, 50.0, 1, 50.0)

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"limit": 5}, "limit: not the name of one"),
            ({"limit": "a" * 65}, "limit: not the name of one"),
            ({"note": "a" * 201}, "note: not a short text; write at most 200 characters"),
            ({"note": None}, "note: not a short text"),
            ({"level": 0}, "level: not a number from 1"),
            ({"level": True}, "level: not a number from 1"),
            ({"level": 10**9}, "level: not a number from 1"),
            ({"until": "tomorrow"}, "until: not a time"),
            ({"until": math.inf}, "until: not a time"),
            ({"until": math.nan}, "until: not a time"),
            ({"until": 10**400}, "until: not a time"),
            ({"since": None}, "since: not a time"),
            ({"forget": -1}, "forget: not a time"),
            ({"ip": None}, "nobody is named"),
        ],
    )
    def test_what_is_no_entry(self, change: dict[str, object], told: str) -> None:
        with pytest.raises(BadValue, match=told):
            read_entry({"ip": "192.0.2.7", **change})

    @pytest.mark.parametrize("value", [None, 5, "x", [], [{}]])
    def test_what_is_no_object(self, value: object) -> None:
        with pytest.raises(BadValue, match="not an object"):
            read_entry(value)
