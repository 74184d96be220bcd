import json
import math
import re
import time
from ipaddress import ip_network

import pytest

from tidegate.app.ban_show import as_json, left_text, table, until_text
from tidegate.gateway.ban_book import BY_HAND, Entry
from tidegate.policy.ban_keys import BanKey

NOW = 1_700_000_000.0
BANS = [
    Entry(BanKey(ip_network("192.0.2.7")), "guess", NOW - 10, NOW + 110, 2, NOW + 500),
    Entry(BanKey(client_id="\x1b[2J", captures=(("tenant", "acme"),)), BY_HAND, NOW, math.inf, 1, math.inf, "a\nnote"),
]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_the_table() -> None:
    head, first, second = table(BANS, NOW)
    assert head.split() == ["who", "limit", "times", "since", "until", "left", "note"]
    assert re.split(" {2,}", first) == [
        "ip 192.0.2.7",
        "guess",
        "2",
        "2023-11-14 22:13:10",
        "2023-11-14 22:15:10",
        "1min 50s",
    ]
    assert re.split(" {2,}", second) == [
        r'client "\u001b[2J", tenant "acme"',
        "by hand",
        "1",
        "2023-11-14 22:13:20",
        "for ever",
        "-",
        r"a\nnote",
    ]
    assert head.index("since") == first.index("2023") == second.index("2023")


def test_nobody() -> None:
    assert list(table([], NOW)) == ["nobody is banned"]
    assert json.loads(as_json([], NOW)) == []


def test_json() -> None:
    assert json.loads(as_json(BANS, NOW)) == [
        {
            "ip": "192.0.2.7",
            "limit": "guess",
            "since": NOW - 10,
            "until": NOW + 110,
            "level": 2,
            "note": "",
            "left": 110.0,
        },
        {
            "client_id": "\x1b[2J",
            "captures": {"tenant": "acme"},
            "limit": "",
            "since": NOW,
            "until": None,
            "level": 1,
            "note": "a\nnote",
            "left": None,
        },
    ]


def test_when_it_ends() -> None:
    assert until_text(BANS[0]) == "2023-11-14 22:15:10"
    assert until_text(BANS[1]) == "for ever"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.2, "1s"),
        (60, "1min"),
        (61, "1min 1s"),
        (3600, "1h"),
        (3660.5, "1h 1min"),
        (86_400 + 59, "1d"),
        (90_000, "1d 1h"),
        (365 * 86_400, "365d"),
    ],
)
def test_what_is_left(seconds: float, text: str) -> None:
    assert left_text(seconds) == text
