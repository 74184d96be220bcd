import pytest

from tidegate.policy.words import instead_of_key, instead_of_value, similar

KNOWN = ("rate", "bandwidth", "PLC")


@pytest.mark.parametrize(
    ("word", "found"), [("rat", "rate"), ("Bandwith", "bandwidth"), ("plc", "PLC"), ("x", None), ("rate" * 20, None)]
)
def test_the_most_similar_word(word: str, found: str | None) -> None:
    assert similar(word, KNOWN) == found


def test_what_to_do_about_a_key() -> None:
    assert instead_of_key("rat", KNOWN) == "did you mean `rate`?"
    assert instead_of_key("x", KNOWN) == "known are rate, bandwidth, PLC"


def test_what_to_do_about_a_value() -> None:
    assert instead_of_value("rat", KNOWN) == 'did you mean "rate"?'
    assert instead_of_value("x", KNOWN) == 'write "rate" or "bandwidth" or "PLC"'
    assert instead_of_value(["rate"], KNOWN) == 'write "rate" or "bandwidth" or "PLC"'


def test_not_all_of_very_many_are_listed() -> None:
    assert instead_of_key("x", [f"class{number}" for number in range(256)]).endswith("class28, class29, …")
