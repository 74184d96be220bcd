import json
from ipaddress import ip_address

import pytest

from tidegate.gateway.offences import MAX_LINE, MOST, PAUSE, Offence, Tellings

EVE = ip_address("192.0.2.7").packed
LONGEST = "\x01" * 65_535


@pytest.mark.parametrize(
    "offence",
    [
        Offence("guess", "eve", "u", ip_address("192.0.2.7")),
        Offence("guess", "", None, ip_address("2001:db8::7")),
        Offence("guess", 'a "b"\n\\é', "", None),
        Offence("guess", LONGEST, LONGEST, None),
    ],
)
def test_an_offence_is_a_line(offence: Offence) -> None:
    line = offence.line()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) < MAX_LINE
    assert Offence.read(line.rstrip(b"\n")) == offence


def test_the_line_says_what_it_is_made_of() -> None:
    line = Offence("guess", "eve", None, ip_address("192.0.2.7")).line()
    assert json.loads(line.removeprefix(b"ban ")) == {
        "limit": "guess",
        "client_id": "eve",
        "username": None,
        "address": "192.0.2.7",
    }
    assert json.loads(Offence("g", "c", None, None).line()[4:])["address"] == ""


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"loaded",
        b"ban ",
        b"ban []",
        b"ban {}",
        b'ban {"limit": "a", "client_id": 5, "username": null, "address": ""}',
        b'ban {"limit": "a", "client_id": "c", "username": 5, "address": ""}',
        b'ban {"limit": "a", "client_id": "c", "address": ""}',
        b'ban {"limit": "a", "client_id": "c", "username": null, "address": "x"}',
        b"ban \xff",
    ],
)
def test_what_is_no_offence(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Offence.read(line)


class TestTellings:
    def test_one_offence_is_told_once_in_a_while(self) -> None:
        tellings = Tellings()
        told = [tellings.line("guess", "eve", None, EVE, now) for now in (10.0, 10.1, 10.9, 10.0 + PAUSE, 11.5)]
        assert [line is not None for line in told] == [True, False, False, True, False]

    def test_different_ones_are_told_at_once(self) -> None:
        tellings = Tellings()
        offences: list[tuple[str, str, str | None, bytes]] = [
            ("a", "c", "u", EVE),
            ("b", "c", "u", EVE),
            ("a", "d", "u", EVE),
            ("a", "c", None, EVE),
            ("a", "c", "u", b""),
        ]
        assert all(tellings.line(*offence, 10.0) for offence in offences)

    def test_so_many_in_all(self) -> None:
        tellings = Tellings()
        told = [tellings.line("guess", f"c{number}", None, EVE, 10.0) for number in range(MOST + 5)]
        assert sum(line is not None for line in told) == MOST
        assert tellings.line("guess", "late", None, EVE, 10.0 + PAUSE) is not None
