import pytest

from tidegate.policy.fields import Known, Place
from tidegate.policy.keys import read_per
from tidegate.policy.model import Key, KeyKind


def read(value: object, captures: tuple[str, ...] | None = ("tenant",)) -> tuple[object, list[str]]:
    place = Place(Known(captures=captures), ("per",))
    keys = place.read(read_per, value)
    return keys, [f"{path[1:]} {bad}" for path, bad in place.findings]


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ("client", [Key(KeyKind.CLIENT)]),
        ("ip", [Key(KeyKind.IP, 32, 64)]),
        ("ip/24", [Key(KeyKind.IP, 24, 64)]),
        ("ip/24/56", [Key(KeyKind.IP, 24, 56)]),
        ("topic", [Key(KeyKind.TOPIC)]),
        ("topic/2", [Key(KeyKind.TOPIC, levels=2)]),
        ("tenant", [Key(KeyKind.CAPTURE, capture="tenant")]),
        ("all", [Key(KeyKind.ALL)]),
        (["class", "listener", "username"], [Key(KeyKind.CLASS), Key(KeyKind.LISTENER), Key(KeyKind.USERNAME)]),
        (["all"], [Key(KeyKind.ALL)]),
    ],
)
def test_keys(value: object, keys: list[Key]) -> None:
    assert read(value) == (tuple(keys), [])


def test_a_capture_of_a_class_that_is_wrong_itself_may_be_meant() -> None:
    assert read("anything", captures=None)[1] == []


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("tenat", ['() unknown value; did you mean "tenant"?']),
        ("clients", ['() unknown value; did you mean "client"?']),
        ("ip/33", ['() out of range; write "ip/BITS4/BITS6", up to 32 and 128, for instance "ip/24/56"']),
        ("ip/0", ['() out of range; write "ip/BITS4/BITS6", up to 32 and 128, for instance "ip/24/56"']),
        ("ip/24/129", ['() out of range; write "ip/BITS4/BITS6", up to 32 and 128, for instance "ip/24/56"']),
        ("topic/0", ['() out of range; write "topic/1" to "topic/128", or "topic" for all levels']),
        ([], ["() 0 keys; name 1 to 8"]),
        (["client"] * 9, ["() 9 keys; name 1 to 8"]),
        (["ip", "ip/32/64"], ["(1,) listed twice; remove one of the two"]),
        (["client", "all"], ['(1,) one budget for all, beside others; write "all" alone, or leave it out']),
    ],
)
def test_what_is_no_key(value: object, told: list[str]) -> None:
    assert read(value)[1] == told


@pytest.mark.parametrize("value", [5, None, "", "ip/", "ip/24/56/7", "topic/x", "class/2", "IP"])
def test_other_words(value: object) -> None:
    (told,) = read(value)[1]
    assert told.startswith("() unknown value; ")
