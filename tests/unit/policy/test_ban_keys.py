from ipaddress import ip_address, ip_network

import pytest

from tidegate.policy.ban_keys import MAX_TEXT, BanKey, as_object, key_of_offence, read_key, short
from tidegate.policy.problems import BadValue
from unit.policy.reading import settings_of

CLASSES = '[class.b]\nusername = "{tenant}:*"\n'


def banned(
    per: str, client_id: str = "c", username: str | None = None, address: str | None = "192.0.2.7"
) -> BanKey | None:
    """Whom a limit counted per this bans, who was over it."""
    settings = settings_of(
        f'{CLASSES}[[limit]]\nname = "x"\nrate = "1/s"\non_excess = "ban"\nallow_lockout = true\nper = {per}\n'
    )
    (limit,) = settings.policy.limits
    where = None if address is None else ip_address(address)
    return key_of_offence(limit.per, settings.policy.classes, client_id, username, where)


class TestOfOffence:
    @pytest.mark.parametrize(
        ("per", "network"),
        [('"ip"', "192.0.2.7/32"), ('"ip/24"', "192.0.2.0/24"), ('["ip/20/56", "topic", "class"]', "192.0.0.0/20")],
    )
    def test_a_network(self, per: str, network: str) -> None:
        assert banned(per) == BanKey(ip_network(network))

    @pytest.mark.parametrize(("per", "network"), [('"ip"', "2001:db8:1:2::/64"), ('"ip/24/48"', "2001:db8:1::/48")])
    def test_a_network_of_ipv6(self, per: str, network: str) -> None:
        assert banned(per, address="2001:db8:1:2:3::4") == BanKey(ip_network(network))

    def test_all_that_per_says_must_fit(self) -> None:
        key = banned('["client", "username", "tenant", "ip"]', "c", "acme:u")
        assert key == BanKey(ip_network("192.0.2.7"), False, "c", "acme:u", False, (("tenant", "acme"),))

    def test_who_sends_no_user_name(self) -> None:
        assert banned('["username", "ip"]') == BanKey(ip_network("192.0.2.7"), is_anonymous=True)

    def test_who_comes_by_a_unix_socket(self) -> None:
        assert banned('["client", "ip"]', address=None) == BanKey(is_unix=True, client_id="c")

    @pytest.mark.parametrize(
        ("per", "client_id", "username", "address"),
        [
            ('"ip"', "c", None, None),
            ('["username", "ip"]', "c", None, None),
            ('"username"', "c", None, "192.0.2.7"),
            ('["client", "ip"]', "", None, "192.0.2.7"),
            ('["tenant", "ip"]', "c", "nobody", "192.0.2.7"),
        ],
    )
    def test_nobody(self, per: str, client_id: str, username: str | None, address: str | None) -> None:
        assert banned(per, client_id, username, address) is None

    def test_long_texts_are_short(self) -> None:
        key = banned('["client", "tenant"]', "c" * 1000, "t" * 1000 + ":u")
        assert key is not None
        assert key.client_id == short("c" * 1000)
        assert key.captures == (("tenant", short("t" * 1000)),)


class TestShort:
    @pytest.mark.parametrize("text", ["", "a", "é" * MAX_TEXT])
    def test_a_text_of_usual_length_stays(self, text: str) -> None:
        assert short(text) == text

    def test_others_stay_apart(self) -> None:
        texts = [short("a" * 1000 + end) for end in ("b", "c")] + [short("a" * 1001)]
        assert len(set(texts)) == 3
        assert all(len(text) <= MAX_TEXT and text.startswith("aaa") for text in texts)
        assert [short(text) for text in texts] == texts


WORDS = [
    (BanKey(ip_network("192.0.2.7")), {"ip": "192.0.2.7"}, "ip 192.0.2.7"),
    (BanKey(ip_network("2001:db8::/32")), {"ip": "2001:db8::/32"}, "ip 2001:db8::/32"),
    (BanKey(is_unix=True, client_id="c"), {"ip": "unix", "client_id": "c"}, 'ip unix, client "c"'),
    (BanKey(username=""), {"username": ""}, 'username ""'),
    (BanKey(ip_network("::1"), is_anonymous=True), {"ip": "::1", "anonymous": True}, "ip ::1, no username"),
    (
        BanKey(captures=(("site", "s"), ("tenant", "a b"))),
        {"captures": {"site": "s", "tenant": "a b"}},
        'site "s", tenant "a b"',
    ),
    (BanKey(client_id='\x1b[31m"\n'), {"client_id": '\x1b[31m"\n'}, r'client "\u001b[31m\"\n"'),
]


@pytest.mark.parametrize(("key", "parts", "words"), WORDS)
def test_a_key_in_words_and_in_json(key: BanKey, parts: dict[str, object], words: str) -> None:
    assert str(key) == words
    assert as_object(key) == parts
    assert read_key(parts) == key


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({}, "nobody is named; name a network, a client, a user name or a capture"),
        ({"captures": {}}, "nobody is named"),
        ({"ip": "192.0.2"}, "ip: not a network; write for instance"),
        ({"ip": "192.0.2.7/24"}, 'ip: an address with a network.s length; write "192.0.2.0/24"'),
        ({"ip": 7}, "ip: not a network"),
        ({"ip": "::ffff:192.0.2.7"}, "ip: no client comes from there"),
        ({"client_id": ""}, "client_id: a client without identifier cannot be told from others"),
        ({"client_id": 5}, "client_id: not text"),
        ({"client_id": "a\0"}, "client_id: no text of MQTT holds U.0000"),
        ({"username": "\udcff"}, "username: not UTF-8"),
        ({"username": "u", "anonymous": True}, "anonymous: nobody has a user name and sends none"),
        ({"anonymous": 1}, "anonymous: neither true nor false"),
        ({"captures": ["a"]}, "captures: not a few names and values"),
        ({"captures": {f"n{i}": "x" for i in range(9)}}, "captures: not a few names and values; write at most 8"),
        ({"captures": {"ip": "x"}}, 'captures: "ip" is no name of a capture'),
        ({"captures": {"tenant": ""}}, "captures: tenant has no value"),
        ({"captures": {"tenant": 1}}, "tenant: not text"),
    ],
)
def test_what_is_no_key(parts: dict[str, object], told: str) -> None:
    with pytest.raises(BadValue, match=told):
        read_key(parts)
