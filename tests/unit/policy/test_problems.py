import pytest

from tidegate.policy.problems import BadValue, Problem, SettingsError, name, printable, show


def problem(key: str = "gateway.listen", value: object = "x", line: int = 3) -> Problem:
    return Problem("t.toml", line, key, value, "wrong", "mend it")


def test_a_problem_is_one_line() -> None:
    assert str(problem()) == 't.toml:3: gateway.listen = "x": wrong; mend it'
    assert str(problem(value=None)) == "t.toml:3: gateway.listen: wrong; mend it"
    assert str(problem(key="", value=None, line=0)) == "t.toml: wrong; mend it"


@pytest.mark.parametrize(
    "key", ["admin.token", "x.password", "x.api_key", "key", "x.client-secret", "PASSWD", 'x."my token"']
)
def test_a_secret_is_never_shown(key: str) -> None:
    assert str(problem(key, "hunter2")) == f"t.toml:3: {key} = ***: wrong; mend it"
    assert "hunter2" not in repr(problem(key, "hunter2"))


@pytest.mark.parametrize("key", ["admin.token_file", "keys", "x.monkey"])
def test_other_keys_hide_nothing(key: str) -> None:
    assert '"hunter2"' in str(problem(key, "hunter2"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("tcp://user:pass@host:1", '"tcp://***@host:1"'),
        ("tcp://user:p@ss/word@host:1", '"tcp://***@host:1"'),
        ("user:pass@host:1", '"***@host:1"'),
        ("tcp://a:" + "b" * 500 + "@host", '"tcp://***@host"'),
        ("unix:/run/user@1000/x", '"unix:/run/user@1000/x"'),
        (["tcp://u:p@h:1", 2], '["tcp://***@h:1", 2]'),
        (True, "true"),
        (1.5, "1.5"),
        (1 << 70, "an integer of 71 bits"),
        ({"a": 1}, "{…}"),
        ('a"b\n\x1b', '"a\\"b\\n\\u001b"'),
        ("\u202e", '"\\u202e"'),
        ("é", '"é"'),
        ("x" * 81, '"' + "x" * 79 + '…"'),
        (["x"] * 100, "[" + '"x", ' * 15 + '"x"…'),
    ],
)
def test_values(value: object, shown: str) -> None:
    assert show(value) == shown


def test_long_digits_do_not_break_the_message() -> None:
    assert "20000 bits" in show((1 << 20000) - 1)


def test_names() -> None:
    assert name(("gateway", "listen", 1)) == "gateway.listen"
    assert name(("a b", "c")) == '"a b".c'
    assert name(("x\n",)) == '"x\\n"'
    assert printable("\udcff") == "\\udcff"


def test_an_error_tells_all_in_the_order_of_lines() -> None:
    error = SettingsError([problem(line=9), problem(line=2)], untold=3)
    assert [p.line for p in error.problems] == [2, 9]
    assert str(error).splitlines()[2] == "and 3 more: mend these first"


def test_a_bad_value_says_both() -> None:
    assert str(BadValue("wrong", "mend it")) == "wrong; mend it"
