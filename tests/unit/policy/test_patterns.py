from ipaddress import ip_network

import pytest

from tidegate.policy.patterns import (
    captures_of,
    first_fit,
    is_capture,
    read_filter,
    read_network,
    read_pattern,
    read_plain_pattern,
)
from tidegate.policy.problems import BadValue


@pytest.mark.parametrize(
    ("text", "captures"),
    [
        ("sensor-*", []),
        ("*", []),
        ("a?c", []),
        ("{tenant}:*", ["tenant"]),
        ("{a}/{b_2}/x", ["a", "b_2"]),
        ("*{a}*", ["a"]),
        ("é" * 1024, []),
    ],
)
def test_patterns(text: str, captures: list[str]) -> None:
    assert read_pattern(text) == text
    assert captures_of(text) == captures


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (5, "not text"),
        ("", "empty"),
        ("a" * 1025, "a pattern of 1025 characters"),
        ("a\0", "no text of MQTT holds U.0000"),
        *[(text, "a brace that is no capture") for text in ("{a", "a}", "{{a}}", "}{")],
        ("{}", "is no name of a capture; use a to z, 0 to 9 and _, at most 32, for instance {tenant}"),
        ("{A}", '"A" is no name of a capture'),
        ("{1a}", '"1a" is no name of a capture'),
        ("{" + "a" * 33 + "}", "is no name of a capture"),
        ("{username}", 'per = "username" has another meaning; call the capture otherwise'),
        ("{a}-{a}", "the same capture twice"),
        ("{a}{b}", "nothing tells where the one capture ends"),
    ],
)
def test_what_is_no_pattern(value: object, told: str) -> None:
    with pytest.raises(BadValue, match=told):
        read_pattern(value)


@pytest.mark.parametrize(
    ("patterns", "text", "found"),
    [
        (["sensor-*"], "sensor-", {}),
        (["sensor-*"], "sensor", None),
        (["a", "b*"], "bc", {}),
        (["a?c"], "abc", {}),
        (["a?c"], "a\nc", {}),
        (["a.c"], "abc", None),
        (["{tenant}:*"], "acme:u:v", {"tenant": "acme"}),
        (["{tenant}:*"], ":u", None),
        (["{a}-{b}"], "x-y-z", {"a": "x", "b": "y-z"}),
        (["*-{a}-b"], "x-y-z-b", {"a": "y-z"}),
        (["{a}?"], "xyz", {"a": "xy"}),
        (["x", "{a}:{b}:*"], "1:2:3:4", {"a": "1", "b": "2"}),
        (["*"], None, None),
        ([], "a", None),
    ],
)
def test_the_first_that_fits_captures(patterns: list[str], text: str | None, found: dict[str, str] | None) -> None:
    assert first_fit(patterns, text) == found


def test_a_hostile_text_is_read_once() -> None:
    """Tried again for each run, this would take a day and more."""
    assert first_fit(["*a*b*c*d*e*f*x"], "abcdef" * 10_000) is None
    assert first_fit(["{a}:{b}:{c}:{d}:x"], ":" * 65_000) is None


@pytest.mark.parametrize(("name", "may"), [("tenant", True), ("a_2", True), ("ip", False), ("A", False), ("", False)])
def test_names_of_captures(name: str, may: bool) -> None:
    assert is_capture(name) == may


def test_a_plain_pattern_captures_nothing() -> None:
    assert read_plain_pattern("a-*") == "a-*"
    with pytest.raises(BadValue, match="only a class can capture"):
        read_plain_pattern("{a}-*")


@pytest.mark.parametrize("text", ["10.20.0.0/16", "192.0.2.7", "0.0.0.0/0", "2001:db8::/32", "::1", "::/0"])
def test_networks(text: str) -> None:
    assert read_network(text) == ip_network(text)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        *[
            (value, 'not a network; write for instance "10.20.0.0/16", "192.0.2.7" or "2001:db8::/32"')
            for value in (5, "", "10.0.0/8", "10.0.0.0/33", "localhost", "fe80::1%eth0", "1" * 65, "010.0.0.0/8")
        ],
        ("10.0.0.1/8", 'an address with a network\'s length; write "10.0.0.0/8", or the address alone'),
        ("2001:db8::1/32", 'an address with a network\'s length; write "2001:db8::/32", or the address alone'),
        (
            "::ffff:10.0.0.0/104",
            'no client comes from there: an IPv4 client has its IPv4 address; write "10.0.0.0/8"',
        ),
    ],
)
def test_what_is_no_network(value: object, told: str) -> None:
    with pytest.raises(BadValue) as raised:
        read_network(value)
    assert str(raised.value) == told


@pytest.mark.parametrize(
    "text", ["a/b", "+/+", "#", "a//b", "$SYS/#", "$share/g/a/#", "$share/+/+/a", "/".join("a" * 128)]
)
def test_topic_filters(text: str) -> None:
    assert read_filter(text) == text


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (5, "not a topic filter"),
        ("", "a topic filter is empty"),
        ("a/#/b", "# in a topic filter must be the whole of its last level"),
        ("a+", r"\+ in a topic filter must be the whole of its level"),
        ("$share/a+/a", "the share name"),
        ("$share/#/a", "the share name"),
        ("$share/+/", "a topic filter is empty"),
        ("$share/+/a/#/b", "# in a topic filter"),
        ("a\0", "no topic is like that"),
        ("é" * 32768, "no topic is like that"),
        ("/".join("a" * 129), "a topic filter of 129 levels; write at most 128"),
    ],
)
def test_what_is_no_topic_filter(value: object, told: str) -> None:
    with pytest.raises(BadValue, match=told):
        read_filter(value)
