"""What is kept of a client's subscriptions. How it is told of them is in test_connection_subscribe.py."""

import pytest

from support.limits import engine
from support.playbook import waiting_room
from tidegate.engine.counters import ROW_WORDS, Counters
from tidegate.gateway import subscriptions
from tidegate.gateway.subscriptions import LONGEST_KEY, LONGEST_KNOWN, MOST_KNOWN, MOST_SHARED, Subscriptions


def fresh() -> Subscriptions:
    counters = Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0)
    return Subscriptions(waiting_room(engine(), counters))


def asked(*filters: str) -> Subscriptions:
    """A client that has asked for these, without any limit."""
    held = fresh()
    for one in filters:
        held.ask(one, None)
    return held


class TestShared:
    def test_none_is_shared_at_first(self) -> None:
        held = asked("#", "a/b")
        assert not held.shares
        assert not held.is_shared(b"a/b")

    @pytest.mark.parametrize(
        ("topic", "shared"),
        [
            (b"a", True),
            (b"a/b", True),
            (b"b", False),
            (b"c/x/d", True),
            (b"c/d", False),
            (b"$SYS/x", False),
            (b"", False),
        ],
    )
    def test_what_a_shared_subscription_matches(self, topic: bytes, shared: bool) -> None:
        held = asked("$share/g/a/#", "b", "$share/h/c/+/d")
        assert held.shares
        assert held.is_shared(topic) is shared
        assert held.is_shared(topic) is shared, "likewise when it is known"

    def test_what_was_known_is_forgotten_when_they_change(self) -> None:
        held = asked("$share/g/a")
        assert not held.is_shared(b"b")
        other = held.ask("$share/g/b", None)
        assert other is not None
        assert held.is_shared(b"b")
        held.answered(other, False, 0.0)
        assert not held.is_shared(b"b")
        assert held.shares

    def test_it_lasts_from_the_request_to_the_end_of_the_subscription(self) -> None:
        held = fresh()
        one = held.ask("$share/g/a", None)
        assert one is not None
        assert held.is_shared(b"a")
        held.answered(one, True, 0.0)
        assert held.is_shared(b"a")
        again = held.ask("$share/g/a", None)
        assert again is one
        held.ended(one, 0.0)
        assert held.shares, "it was asked for again"
        held.answered(one, False, 0.0)
        assert not held.shares
        assert held.find("$share/g/a") is None

    def test_one_filter_in_two_groups(self) -> None:
        held = fresh()
        one, _ = held.ask("$share/g/a", None), held.ask("$share/h/a", None)
        assert one is not None
        held.answered(one, False, 0.0)
        assert held.is_shared(b"a")

    def test_with_too_many_everything_counts_as_shared_from_then_on(self) -> None:
        held = fresh()
        kept = [held.ask(f"$share/g/{number}", None) for number in range(MOST_SHARED)]
        assert not held.is_shared(b"other")
        assert held.ask("$share/g/one-more", None) is None
        assert held.is_shared(b"other")
        for one in kept:
            assert one is not None
            held.answered(one, False, 0.0)
        assert held.is_shared(b"other")

    def test_with_too_long_ones_likewise(self) -> None:
        held = asked("$share/g/" + "a" * 16_000)
        assert not held.is_shared(b"other")
        assert held.ask("$share/g/" + "b" * 1000, None) is None
        assert held.is_shared(b"other")

    def test_few_answers_are_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        held = asked("$share/g/+")
        seen: list[str] = []

        def match(_: str, topic: str) -> bool:
            seen.append(topic)
            return True

        monkeypatch.setattr(subscriptions, "matches", match)
        for number in range(MOST_KNOWN):
            held.is_shared(b"%d" % number)
        held.is_shared(b"0")
        assert len(seen) == MOST_KNOWN
        held.is_shared(b"more")
        held.is_shared(b"0")
        assert len(seen) == MOST_KNOWN + 2, "one more than is remembered, and it begins anew"
        for _ in range(2):
            held.is_shared(bytes(LONGEST_KNOWN + 1))
        assert len(seen) == MOST_KNOWN + 4


class TestKept:
    def test_nothing_where_nothing_has_to_be_known(self) -> None:
        held = asked("a", "b/#")
        assert held.find("a") is None
        assert not held.counts("a")

    def test_a_shared_one_without_places_does_not_count(self) -> None:
        held = asked("$share/g/a")
        assert held.find("$share/g/a") is not None
        assert not held.counts("$share/g/a")

    def test_long_filters_are_told_apart_by_what_takes_little(self) -> None:
        held = fresh()
        prefix = "a" * LONGEST_KEY
        one, other = held.ask("$share/g/" + prefix + "b", None), held.ask("$share/g/" + prefix + "c", None)
        assert one is not None
        assert other is not None
        assert one is not other
        assert len(one.key) == 16
        assert held.find("$share/g/" + prefix + "b") is one
