import pytest

from tidegate.gateway.aliases import ALIAS_BYTES, ALIAS_MAXIMUM, Aliases
from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.reasons import ReasonCode


def refused(aliases: Aliases, alias: int, topic: bytes) -> PacketError:
    with pytest.raises(PacketError) as caught:
        aliases.resolve(alias, topic)
    assert caught.value.fault is Fault.ALIAS
    return caught.value


@pytest.mark.parametrize("alias", [1, ALIAS_MAXIMUM])
def test_an_alias_stands_for_the_topic_that_came_with_it(alias: int) -> None:
    aliases = Aliases()
    assert aliases.resolve(alias, b"a/b") == b"a/b"
    assert aliases.resolve(alias, b"") == b"a/b"


def test_aliases_are_apart_from_one_another_and_from_other_clients() -> None:
    one, other = Aliases(), Aliases()
    one.resolve(1, b"a")
    one.resolve(2, b"b")
    other.resolve(1, b"c")
    assert [one.resolve(1, b""), one.resolve(2, b""), other.resolve(1, b"")] == [b"a", b"b", b"c"]


def test_a_new_topic_takes_the_old_ones_place() -> None:
    aliases = Aliases()
    aliases.resolve(1, b"x" * (ALIAS_BYTES - 1))
    aliases.resolve(1, b"new")
    assert aliases.resolve(1, b"") == b"new"
    aliases.resolve(2, b"y" * (ALIAS_BYTES - len(b"new")))  # the old one's bytes are free again


@pytest.mark.parametrize("topic", [b"", b"t"])
def test_an_alias_above_the_maximum(topic: bytes) -> None:
    aliases = Aliases()
    error = refused(aliases, ALIAS_MAXIMUM + 1, topic)
    assert error.reason == ReasonCode.TOPIC_ALIAS_INVALID
    assert str(ALIAS_MAXIMUM) in error.text


def test_an_alias_that_was_never_defined() -> None:
    aliases = Aliases()
    aliases.resolve(1, b"t")
    assert refused(aliases, 2, b"").reason == ReasonCode.PROTOCOL_ERROR


def test_the_bytes_of_all_topics_together_are_bounded() -> None:
    aliases = Aliases()
    aliases.resolve(1, b"x" * (ALIAS_BYTES - 1))
    aliases.resolve(2, b"y")
    assert refused(aliases, 3, b"z").reason == ReasonCode.QUOTA_EXCEEDED


def test_one_topic_of_the_largest_size_can_be_defined_again_and_again() -> None:
    aliases = Aliases()
    for letter in (b"a", b"b", b"c"):
        assert aliases.resolve(1, letter * 65_535) == letter * 65_535


def test_a_definition_in_place_of_another_counts_only_the_difference() -> None:
    aliases = Aliases()
    for alias in range(1, ALIAS_MAXIMUM + 1):
        aliases.resolve(alias, bytes(ALIAS_BYTES // ALIAS_MAXIMUM))
    aliases.resolve(1, bytes(ALIAS_BYTES // ALIAS_MAXIMUM))
    refused(aliases, 1, bytes(ALIAS_BYTES // ALIAS_MAXIMUM + 1))
