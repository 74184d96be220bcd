import itertools

import pytest

from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.reasons import ReasonCode
from tidegate.mqtt.topics import asked_by, check_filter, covers, matches, share_of


@pytest.mark.parametrize(
    "topic_filter",
    [
        "a", "/", "//", "a/b", "/a", "a/", "#", "+", "a/#", "/#", "+/#", "+/+", "/+", "a/+/b", "+/a/#", "$SYS/#",
        "$share", "$shared/a", "$share/g/a", "$share/g//", "$share/g/#", "$share/g/+/b", "$share/$share/a",
        "$share/g/$share", "$share/g/$SYS/#", "é/\U0001f600", " ", "a b/ ",
    ],
)  # fmt: skip
def test_valid_filters(topic_filter: str) -> None:
    check_filter(topic_filter)


@pytest.mark.parametrize(
    "topic_filter",
    [
        "", "#/", "#/a", "a#", "#a", "a/#/b", "a/b#", "##", "+a", "a+", "a/+b", "a+/b", "++", "+#", "#+", "a/+#",
        "$share/", "$share//", "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/#/a", "$share/g#/a",
        "$share/g/a#", "$share/g/#/a", "$share/g/+b", "$share/#", "$share/+",
    ],
)  # fmt: skip
def test_invalid_filters(topic_filter: str) -> None:
    with pytest.raises(PacketError) as caught:
        check_filter(topic_filter)
    assert caught.value.fault is Fault.FILTER
    assert caught.value.reason is ReasonCode.MALFORMED_PACKET


@pytest.mark.parametrize(
    ("topic_filter", "expected"),
    [
        ("a/b", (None, "a/b")),
        ("$share", (None, "$share")),
        ("$shared/g/a", (None, "$shared/g/a")),
        ("$SHARE/g/a", (None, "$SHARE/g/a")),
        ("$share/g/a", ("g", "a")),
        ("$share/g/a/b", ("g", "a/b")),
        ("$share/g//", ("g", "/")),
        ("$share/g/$share/h/a", ("g", "$share/h/a")),
    ],
)
def test_share_of(topic_filter: str, expected: tuple[str | None, str]) -> None:
    assert share_of(topic_filter) == expected


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        # The examples of sections 4.7.1 and 4.7.2.
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("sport/#", "sport"),
        ("#", "a"), ("#", "/"), ("#", "a/$b"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"), ("/+", "/finance"),
        ("+", "finance"),
        ("$SYS/#", "$SYS/monitor/Clients"), ("$SYS/#", "$SYS"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients"),
        ("a//b", "a//b"), ("a/+/b", "a//b"), ("/", "/"), ("+/+", "/"),
        ("a", "a"), ("é", "é"),
        ("+/a/#", "x/a"), ("+/#", "a"),
    ],
)  # fmt: skip
def test_matches(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        ("#", "$SYS/monitor/Clients"), ("#", "$SYS"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("+", "$SYS"), ("+/#", "$SYS/a"),
        ("a", "A"), ("a", "b"), ("a", "a/"), ("a/", "a"), ("/a", "a"), ("a/b", "a"), ("a", "a/b"),
        ("a/#", "ab"), ("a/#", "b/a"), ("a/b/#", "a"),
        ("e\u0301", "\u00e9"),
    ],
)  # fmt: skip
def test_does_not_match(topic_filter: str, topic: str) -> None:
    assert not matches(topic_filter, topic)


@pytest.mark.parametrize("topic_filter", ["$share/", "$share//a", "$share/g/", "$share/+/a", "$share/g"])
def test_before_version_5_share_is_a_level_like_any_other(topic_filter: str) -> None:
    check_filter(topic_filter, 4)


LEVELS = ("", "a", "b", "c")
TOPICS = [
    "/".join((first, *rest))
    for first in (*LEVELS, "$x")
    for more in range(4)
    for rest in itertools.product(LEVELS, repeat=more)
]
FILTERS = (
    "#", "+", "+/#", "a", "a/#", "a/+", "a/b", "a/+/#", "a/+/b", "+/a", "+/+", "+/+/#", "+/a/#", "$x/#", "$x/+", "$x",
    "$x/a", "/", "/#", "/+", "//", "a/", "a//", "b/+/+/+", "b/#",
)  # fmt: skip


@pytest.mark.parametrize("topic_filter", FILTERS)
def test_a_filter_covers_another_when_it_matches_all_that_the_other_does(topic_filter: str) -> None:
    for other in FILTERS:
        asked = [topic for topic in TOPICS if matches(other, topic)]
        assert asked
        assert covers(topic_filter, other) == all(matches(topic_filter, topic) for topic in asked), other


@pytest.mark.parametrize(
    ("topic_filter", "expected"),
    [
        ("a", (None, "a")),
        ("$share/g/a", ("g", "a")),
        ("$share//a", ("", "a")),
        ("$share/+/#", ("+", "#")),
        ("$share/g", (None, "$share/g")),
        ("$share/g/", (None, "$share/g/")),
        ("$share/", (None, "$share/")),
    ],
)
def test_what_a_subscription_asks_for(topic_filter: str, expected: tuple[str | None, str]) -> None:
    assert asked_by(topic_filter) == expected
