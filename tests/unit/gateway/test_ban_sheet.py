import json
import math
import os
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from tidegate.gateway.ban_book import Entry
from tidegate.gateway.ban_sheet import BanSheet, Sheet, lines_of, read_sheet, sheet_of
from tidegate.policy.ban_keys import BanKey
from unit.policy.reading import settings_of


@pytest.fixture
def sheet() -> Iterator[BanSheet]:
    made = BanSheet()
    yield made
    made.close()


class TestMemory:
    def test_a_new_one_is_empty(self, sheet: BanSheet) -> None:
        assert read_sheet(sheet.fd) == Sheet(1, 1, sheet_of((), ()))

    def test_what_is_published_is_read_whatever_its_size(self, sheet: BanSheet) -> None:
        for generation, text in enumerate((b"x" * 1_000_000, b"", b"short"), 2):
            assert sheet.publish(text) == generation
            assert read_sheet(sheet.fd) == (generation, generation, text)

    def test_lines_are_added(self, sheet: BanSheet) -> None:
        sheet.publish(b"tables\n")
        assert sheet.add(b"a\n") == 3
        assert sheet.add(b"b\n") == 4
        assert read_sheet(sheet.fd) == Sheet(4, 2, b"tables\na\nb\n")

    def test_who_reads_while_lines_are_added_has_those_before(
        self, sheet: BanSheet, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[Sheet | None] = []
        write = os.pwrite

        def watched(fd: int, data: bytes, at: int) -> int:
            written = write(fd, data, at)
            seen.append(read_sheet(fd))
            return written

        sheet.publish(b"tables\n")
        monkeypatch.setattr(os, "pwrite", watched)
        sheet.add(b"a\n")
        assert seen == [Sheet(2, 2, b"tables\n"), Sheet(3, 2, b"tables\na\n")]
        sheet.publish(b"others\n")
        assert seen[2:] == [None, Sheet(4, 4, b"others\n")]

    @pytest.mark.parametrize("at", [16, 20, 24, 28])
    def test_what_is_half_written_is_nothing(self, sheet: BanSheet, at: int) -> None:
        sheet.publish(b"whole")
        os.pwrite(sheet.fd, b"\xff", at)
        assert read_sheet(sheet.fd) is None


def entry(key: BanKey, limit: str = "guess", until: float = 100.0) -> Entry:
    return Entry(key, limit, 0.0, until)


def test_bans_are_in_tables_by_what_their_keys_consist_of() -> None:
    document = json.loads(
        sheet_of(
            [
                entry(BanKey(ip_network("192.0.2.7"))),
                entry(BanKey(ip_network("192.0.2.8")), until=math.inf),
                entry(BanKey(ip_network("2001:db8::/32"))),
                entry(BanKey(is_unix=True, client_id="c")),
                entry(BanKey(ip_network("192.0.2.0/24"), client_id="c", is_anonymous=True)),
            ],
            (),
            settings_of(
                '[[limit]]\nname = "guess"\non = "auth_failure"\nper = ["ip/24", "username"]\nrate = "1/s"'
            ).policy.limits,
        )
    )
    assert document == {
        "classes": [],
        "limits": {"guess": [[3, 24, 64, ""], [2, 32, 64, ""]]},
        "tables": [
            [4, 32, [], {"c0000207": [100.0, "guess"], "c0000208": [math.inf, "guess"]}],
            [6, 32, [], {"20010db8": [100.0, "guess"]}],
            [0, 0, ["client_id"], {"0\0c": [100.0, "guess"]}],
            [4, 24, ["client_id", "anonymous"], {"c00002\0c\0": [100.0, "guess"]}],
        ],
    }


def test_of_two_limits_the_longer_ban_is_told() -> None:
    key = BanKey(client_id="c")
    for bans in ([entry(key, "a", 5.0), entry(key, "b", 7.0)], [entry(key, "b", 7.0), entry(key, "a", 5.0)]):
        assert json.loads(sheet_of(bans, ()))["tables"] == [[None, 0, ["client_id"], {"c": [7.0, "b"]}]]


def test_a_line_has_table_and_place() -> None:
    lines = lines_of([entry(BanKey(ip_network("192.0.2.0/24"), client_id="a\nb")), entry(BanKey(username="u"))])
    assert lines.endswith(b"\n")
    assert [json.loads(line) for line in lines.splitlines()] == [
        [[4, 24, ["client_id"]], "c00002\0a\nb", 100.0, "guess"],
        [[None, 0, ["username"]], "u", 100.0, "guess"],
    ]
