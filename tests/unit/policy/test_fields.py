import pytest

from tidegate.policy.fields import (
    MAX_VALUES,
    Field,
    Known,
    Place,
    check_class,
    choice,
    elements,
    one_or_more,
    plain,
    read_bool,
    read_label,
    read_table,
)
from tidegate.policy.problems import BadValue, UnknownKey

FIELDS = {
    "on": Field(plain(read_bool), "", "", "", None),
    "names": Field(one_or_more(plain(read_label)), "", "", "", None),
}


def place(known: Known | None = None) -> Place:
    return Place(known or Known(), ("limit", 3))


def test_each_mistake_has_its_place_and_hides_no_other() -> None:
    here = place()
    assert read_table({"on": True, "names": ["a", "b c", 5], "of": 1}, here, FIELDS) == {"on": True}
    assert [(path, bad.text) for path, bad in here.findings] == [
        (("limit", 3, "names", 1), "not a name"),
        (("limit", 3, "names", 2), "not a name"),
        (("limit", 3, "of"), "unknown key"),
    ]
    last = here.findings[-1][1]
    assert isinstance(last, UnknownKey)
    assert last.known == ("on", "names")


def test_one_value_or_a_list_without_repetitions() -> None:
    read = one_or_more(plain(read_label))
    assert read("a", place()) == ("a",)
    assert read(["a", "b", "a"], place()) == ("a", "b")


@pytest.mark.parametrize("size", [0, MAX_VALUES + 1])
def test_lists_are_bounded(size: int) -> None:
    with pytest.raises(BadValue, match=f"{size} values; name 1 to {MAX_VALUES}"):
        one_or_more(plain(read_bool))([True] * size, place())


def test_elements_have_places() -> None:
    assert elements("a") == [((), "a")]
    assert elements(["a", 5]) == [((0,), "a"), ((1,), 5)]


@pytest.mark.parametrize("value", ["b", 1, None, ["a"]])
def test_a_choice(value: object) -> None:
    assert choice({"a": 1})("a") == 1
    with pytest.raises(BadValue, match='unknown value; write "a"'):
        choice({"a": 1})(value)


@pytest.mark.parametrize("text", ["a", "A-b_c.9", "x" * 64])
def test_labels(text: str) -> None:
    assert read_label(text) == text


@pytest.mark.parametrize("value", ["", "a b", "é", "x" * 65, "a\n", "a/b", "!a", 5, None])
def test_what_is_no_label(value: object) -> None:
    with pytest.raises(BadValue, match="not a name"):
        read_label(value)


@pytest.mark.parametrize("value", [1, "true", None])
def test_what_is_no_boolean(value: object) -> None:
    with pytest.raises(BadValue, match="neither true nor false"):
        read_bool(value)


def test_names_of_classes() -> None:
    check_class("plc", Known(classes=("plc",)))
    check_class("plc", Known(classes=None))
    with pytest.raises(BadValue, match=r"there is no \[class.plcs\]; did you mean `plc`\?"):
        check_class("plcs", Known(classes=("plc",)))
    with pytest.raises(BadValue, match=r"there is no \[class.plc\]; define it"):
        check_class("plc", Known())
