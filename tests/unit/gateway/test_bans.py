import math
from ipaddress import ip_address, ip_network

import pytest

from tidegate.gateway.ban_book import Entry
from tidegate.gateway.ban_sheet import Sheet, lines_of, sheet_of
from tidegate.gateway.bans import AHEAD, BY_HAND, Ban, Bans
from tidegate.policy.ban_keys import BanKey, short
from tidegate.policy.captures import capturing
from tidegate.policy.model import ClientClass
from unit.policy.reading import settings_of

NOW = 50.0
CLASSES = '[class.a]\nusername = "{tenant}:*"\n[class.b]\nclient_id = "{tenant}/*"\ncidr = "10.0.0.0/8"\n'
UNIX = b""


def at(text: str) -> bytes:
    return ip_address(text).packed


def bans(*keys: BanKey, until: float = 100.0, classes: tuple[ClientClass, ...] = ()) -> Bans:
    made = Bans()
    made.load(sheet_of([Entry(key, "guess", 0.0, until) for key in keys], capturing(classes)))
    return made


def test_without_bans_nobody_is_banned() -> None:
    for made in (Bans(), bans()):
        assert made.of_address(at("192.0.2.7"), NOW) is None
        assert made.of_client("c", None, at("192.0.2.7"), NOW) is None


class TestOfAddress:
    @pytest.mark.parametrize(
        ("network", "inside", "outside"),
        [
            ("192.0.2.7", ["192.0.2.7"], ["192.0.2.6", "::c000:207"]),
            ("192.0.2.0/24", ["192.0.2.0", "192.0.2.255"], ["192.0.1.255", "192.0.3.0"]),
            ("10.0.0.0/9", ["10.127.255.255"], ["10.128.0.0"]),
            ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::"]),
            ("0.0.0.1", ["0.0.0.1"], ["0.0.0.0", "0.0.1.1"]),
            ("2001:db8::/63", ["2001:db8:0:1::"], ["2001:db8:0:2::", "32.1.13.184"]),
            ("::1", ["::1"], ["0.0.0.1", "::2"]),
        ],
    )
    def test_networks(self, network: str, inside: list[str], outside: list[str]) -> None:
        made = bans(BanKey(ip_network(network)))
        assert all(made.of_address(at(address), NOW) == Ban("guess", 100.0) for address in inside)
        assert not any(made.of_address(at(address), NOW) for address in outside)
        assert made.of_address(UNIX, NOW) is None

    def test_a_unix_socket(self) -> None:
        made = bans(BanKey(is_unix=True))
        assert made.of_address(UNIX, NOW) == Ban("guess", 100.0)
        assert made.of_address(at("0.0.0.0"), NOW) is None

    def test_of_several_the_longest(self) -> None:
        made = Bans()
        lengths = {"192.0.2.7": 60.0, "192.0.2.0/24": math.inf, "192.0.0.0/16": 70.0}
        keys = {BanKey(ip_network(text)): until for text, until in lengths.items()}
        made.load(sheet_of([Entry(key, f"until {until}", 0.0, until) for key, until in keys.items()], ()))
        assert made.of_address(at("192.0.2.7"), NOW) == Ban("until inf", math.inf)
        assert made.of_address(at("192.0.9.9"), NOW) == Ban("until 70.0", 70.0)

    def test_until_it_ends(self) -> None:
        made = bans(BanKey(ip_network("192.0.2.7")))
        assert made.of_address(at("192.0.2.7"), 99.9)
        assert made.of_address(at("192.0.2.7"), 100.0) is None

    def test_more_than_an_address_is_for_of_client(self) -> None:
        made = bans(BanKey(ip_network("192.0.2.7"), client_id="c"))
        assert made.of_address(at("192.0.2.7"), NOW) is None


class TestOfClient:
    @pytest.mark.parametrize(
        ("key", "fitting", "others"),
        [
            (BanKey(client_id="c"), [("c", None, "::1"), ("c", "u", "")], [("d", None, "::1"), ("", "c", "::1")]),
            (BanKey(username="u"), [("c", "u", "::1")], [("u", None, "::1"), ("c", "", "::1")]),
            (BanKey(username=""), [("c", "", "::1")], [("c", None, "::1")]),
            (BanKey(is_anonymous=True), [("c", None, "::1")], [("c", "", "::1")]),
            (
                BanKey(ip_network("192.0.2.0/24"), client_id="c", username="u"),
                [("c", "u", "192.0.2.9")],
                [("c", "u", "192.0.3.9"), ("c", None, "192.0.2.9"), ("d", "u", "192.0.2.9"), ("c", "u", "")],
            ),
            (BanKey(is_unix=True, client_id="c"), [("c", None, "")], [("c", None, "0.0.0.0"), ("d", None, "")]),
            (
                BanKey(captures=(("tenant", "acme"),)),
                [("c", "acme:u", "192.0.2.7"), ("acme/1", None, "10.0.0.1"), ("acme/1", "x:u", "10.0.0.1")],
                [("c", "acme", "192.0.2.7"), ("acme/1", None, "192.0.2.7"), ("acme/1", None, ""), ("c", "x:u", "::1")],
            ),
            (
                BanKey(ip_network("10.0.0.0/8"), captures=(("tenant", "acme"),)),
                [("acme/1", None, "10.0.0.1")],
                [("c", "acme:u", "192.0.2.7")],
            ),
        ],
    )
    def test_all_that_is_given_must_fit(
        self, key: BanKey, fitting: list[tuple[str, str | None, str]], others: list[tuple[str, str | None, str]]
    ) -> None:
        made = bans(key, classes=settings_of(CLASSES).policy.classes)
        for client_id, username, address in fitting:
            packed = at(address) if address else UNIX
            assert made.of_client(client_id, username, packed, NOW) == Ban("guess", 100.0), (client_id, username)
        for client_id, username, address in others:
            assert made.of_client(client_id, username, at(address) if address else UNIX, NOW) is None

    def test_long_texts_are_found_by_what_stands_for_them(self) -> None:
        made = bans(BanKey(client_id=short("c" * 5000)))
        assert made.of_client("c" * 5000, None, UNIX, NOW)
        assert made.of_client("c" * 5001, None, UNIX, NOW) is None

    def test_an_address_alone_is_for_of_address(self) -> None:
        made = bans(BanKey(ip_network("192.0.2.7")))
        assert made.of_client("c", None, at("192.0.2.7"), NOW) is None

    def test_a_capture_that_no_class_has_any_more_finds_nobody(self) -> None:
        made = bans(BanKey(captures=(("tenant", "acme"),)))
        assert made.of_client("acme/1", "acme:u", at("10.0.0.1"), NOW) is None

    def test_a_new_sheet_replaces_the_former(self) -> None:
        made = bans(BanKey(client_id="c"), BanKey(ip_network("192.0.2.7")))
        made.load(sheet_of([Entry(BanKey(client_id="d"), "", 0.0, math.inf)], ()))
        assert made.of_client("c", None, UNIX, NOW) is None
        assert made.of_address(at("192.0.2.7"), NOW) is None
        assert made.of_client("d", None, UNIX, NOW) == Ban("", math.inf)


class TestTake:
    """Sheets, one after the other."""

    HERE, THERE = (BanKey(ip_network(text)) for text in ("192.0.2.7", "198.51.100.7"))

    @staticmethod
    def entry(key: BanKey, until: float = 100.0) -> Entry:
        return Entry(key, f"until {until:g}", 0.0, until)

    def test_only_what_was_added_is_read(self) -> None:
        made = Bans()
        first = sheet_of([self.entry(self.HERE)], ())
        added = lines_of([self.entry(self.THERE), self.entry(BanKey(client_id="c"))])
        made.take(Sheet(5, 5, first))
        made.take(Sheet(6, 5, b"x" * len(first) + added))
        for key in ("192.0.2.7", "198.51.100.7"):
            assert made.of_address(at(key), NOW) == Ban("until 100", 100.0)
        assert made.of_client("c", None, UNIX, NOW) == Ban("until 100", 100.0)
        made.take(Sheet(7, 5, b"x" * len(first + added) + lines_of([self.entry(self.HERE, 200.0)])))
        assert made.of_address(at("192.0.2.7"), NOW) == Ban("until 200", 200.0)

    def test_new_tables_are_read_with_the_lines_behind_them(self) -> None:
        made = Bans()
        made.take(Sheet(5, 5, sheet_of([self.entry(self.HERE)], ())))
        made.take(Sheet(9, 8, sheet_of([], ()) + lines_of([self.entry(self.THERE)])))
        assert made.of_address(at("192.0.2.7"), NOW) is None
        assert made.of_address(at("198.51.100.7"), NOW) == Ban("until 100", 100.0)

    def test_the_same_sheet_again_changes_nothing(self) -> None:
        made = Bans()
        for _ in range(2):
            made.take(Sheet(5, 5, sheet_of([self.entry(self.HERE)], ())))
        assert made.of_address(at("192.0.2.7"), NOW)

    def test_of_two_for_one_key_the_longer_holds(self) -> None:
        made = Bans()
        made.load(sheet_of([self.entry(self.HERE, 70.0)], ()) + lines_of([self.entry(self.HERE, 60.0)]))
        assert made.of_address(at("192.0.2.7"), NOW) == Ban("until 70", 70.0)

    def test_it_tells_of_new_bans_by_hand(self) -> None:
        made = Bans()
        assert not made.take(Sheet(5, 5, sheet_of([self.entry(self.HERE)], ())))
        by_hand = sheet_of([Entry(self.THERE, BY_HAND, 0.0, math.inf)], ())
        assert made.take(Sheet(6, 6, by_hand))
        assert not made.take(Sheet(7, 6, by_hand + lines_of([self.entry(self.HERE)])))

    def test_a_capture_may_come_later(self) -> None:
        made = Bans()
        classes = capturing(settings_of(CLASSES).policy.classes)
        made.load(sheet_of([], classes) + lines_of([self.entry(BanKey(captures=(("tenant", "acme"),)))]))
        assert made.of_client("c", "acme:u", UNIX, NOW)


class TestExpected:
    """A worker bans at once, and the supervisor says for how long."""

    LIMITS = """
    [class.tenant]
    username = "{tenant}:*"
    [[limit]]
    name = "both"
    on = "auth_failure"
    per = ["ip/24/56", "username"]
    rate = "1/min"
    [[limit]]
    name = "tenants"
    per = ["tenant", "ip"]
    rate = "1/min"
    on_excess = "ban"
    [[limit]]
    name = "other"
    rate = "1/min"
    """

    def sheet(self) -> bytes:
        policy = settings_of(self.LIMITS).policy
        return sheet_of([], capturing(policy.classes), policy.limits[:2])

    def made(self) -> Bans:
        made = Bans()
        made.take(Sheet(1, 1, self.sheet()))
        return made

    def test_whom_the_limit_counts(self) -> None:
        made = self.made()
        made.expect("both", "c", "u", at("192.0.2.7"), NOW)
        ban = Ban("both", NOW + AHEAD)
        assert made.of_client("d", "u", at("192.0.2.8"), NOW) == ban
        assert made.of_client("c", "u", at("192.0.3.7"), NOW) is None
        assert made.of_client("c", "v", at("192.0.2.7"), NOW) is None
        assert made.of_address(at("192.0.2.7"), NOW) is None
        assert made.of_client("c", "u", at("192.0.2.7"), NOW + AHEAD) is None

    def test_captures(self) -> None:
        made = self.made()
        made.expect("tenants", "c", "acme:u", at("192.0.2.7"), NOW)
        assert made.of_client("d", "acme:v", at("192.0.2.7"), NOW)
        assert made.of_client("d", "other:v", at("192.0.2.7"), NOW) is None

    def test_the_supervisors_word_holds_longer(self) -> None:
        made = self.made()
        made.expect("both", "c", "u", at("192.0.2.7"), NOW)
        key = BanKey(ip_network("192.0.2.0/24"), username="u")
        made.take(Sheet(2, 1, self.sheet() + lines_of([Entry(key, "both", NOW, NOW + 30.0)])))
        assert made.of_client("c", "u", at("192.0.2.7"), NOW + AHEAD) == Ban("both", NOW + 30.0)

    @pytest.mark.parametrize(("limit", "client_id"), [("gone", "c"), ("other", "c")])
    def test_a_limit_that_does_not_ban(self, limit: str, client_id: str) -> None:
        made = self.made()
        made.expect(limit, client_id, "u", at("192.0.2.7"), NOW)
        assert made.of_client(client_id, "u", at("192.0.2.7"), NOW) is None
