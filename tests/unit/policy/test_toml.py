from pathlib import Path

import pytest

from tidegate.policy import toml
from tidegate.policy.problems import SettingsError
from tidegate.policy.toml import MAX_BYTES, parse, read

SOURCE = """\
# a comment, é
top = 1
a.b."c d" = 2
'lit\\eral' = 3
"esc\\u0061ped" = 4

[gateway]
listen = [
  # the first
  "x", "y",
  "z",
] # the end
inline = { y = 1, z.q = [[1], [
  2, { k = 3 }]] }
text = \"\"\"a
b\"\"\"
after = 1979-05-27T07:32:00Z
[t . "u.v"]
k = 1
[[limit]]
name = "x"
[[limit]]
name = "y"
[limit.sub]
q = 1
[[limit.deep]]
r = 1
[[limit.deep]]
r = 2
[later.child]
[later]
x = 1
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("a",), 3),
        (("a", "b"), 3),
        (("a", "b", "c d"), 3),
        (("lit\\eral",), 4),
        (("escaped",), 5),
        (("gateway",), 7),
        (("gateway", "listen"), 8),
        (("gateway", "listen", 0), 10),
        (("gateway", "listen", 1), 10),
        (("gateway", "listen", 2), 11),
        (("gateway", "listen", 3), 8),
        (("gateway", "inline", "z", "q", 0, 0), 13),
        (("gateway", "inline", "z", "q", 1), 13),
        (("gateway", "inline", "z", "q", 1, 1, "k"), 14),
        (("gateway", "text"), 15),
        (("gateway", "after"), 17),
        (("gateway", "absent"), 7),
        (("t", "u.v", "k"), 19),
        (("limit",), 20),
        (("limit", 0), 20),
        (("limit", 0, "name"), 21),
        (("limit", 1), 22),
        (("limit", 1, "absent"), 22),
        (("limit", 1, "sub", "q"), 25),
        (("limit", 1, "deep", 0, "r"), 27),
        (("limit", 1, "deep", 1, "r"), 29),
        (("later", "child"), 30),
        (("later",), 31),
        (("absent", "x"), 1),
        ((), 1),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines(path: tuple[str | int, ...], line: int, newline: str, mark: str) -> None:
    document = parse((mark + SOURCE.replace("\n", newline)).encode(), "t.toml")
    assert document.line_of(path) == line


def test_values() -> None:
    document = parse(SOURCE.encode(), "t.toml")
    assert document.value_of(("limit", 1, "name")) == "y"
    assert document.value_of(("gateway", "listen", 3)) is None
    assert document.value_of(("gateway", "listen", "x")) is None
    assert document.value_of(("top", "x")) is None


EQUALS = "'=' after a key in a key/value pair"
QUOTES = 'put text in quotes: key = "text"'
WRONG = [
    (b"a = tcp://x", f"t.toml:1: not TOML: invalid value in column 5; {QUOTES}"),
    (b"a = 1\nb =\n", f"t.toml:2: not TOML: invalid value in column 4; {QUOTES}"),
    (b"a = 1\nb = ", f"t.toml:2: not TOML: invalid value at the end of the file; {QUOTES}"),
    (b"\xef\xbb\xbfa", f"t.toml:1: not TOML: expected {EQUALS} at the end of the file; write: key = value"),
    (b"a = 1\nb = 'caf\xe9'", "t.toml:2: byte 0xE9 in column 9 is not UTF-8; save the file with the encoding UTF-8"),
    (b"\xff\xfea\0", "t.toml:1: byte 0xFF in column 1 is not UTF-8; save the file with the encoding UTF-8"),
    (b"a = 1\n\na = 2", "t.toml:3: a: already set in line 1; write it once"),
    (b"[g]\na = 1\n[h]\n[g]\n", "t.toml:4: g: already set in line 1; write it once"),
    (b"[g]\nx.y = 1\nx.y = '''\n'''", "t.toml:3: g.x.y: already set in line 2; write it once"),
    (b"[[l]]\na=1\n[[l]]\na=1\na=2", "t.toml:5: l.a: already set in line 4; write it once"),
    (b"[[l]]\n[l]", "t.toml:2: l: already set in line 1; write it once"),
    (b"l = [{}]\n[[l]]", "t.toml:2: l: already set in line 1; write it once"),
    (b"t = { b = 1, b = 2 }", "t.toml:1: t.b: already set in line 1; write it once"),
    (b"[b]\na.c = 1\n[b.a]", "t.toml:3: a key or table that is set already; write each key and each table once"),
    (b"a = 1\na.b = 1", "t.toml:2: a key or table that is set already; write each key and each table once"),
    (b"\na = " + b"1" * 5000, "t.toml:2: a number of thousands of digits; write a number of at most 19 digits"),
    *[
        (data, "t.toml:2: nested deeper than 32 levels; remove the surplus brackets or dots")
        for data in (
            b"\na = " + b"[" * 5000,
            b"\na = " + b"[" * 40 + b"]" * 40,
            b"\na" + b".a" * 400 + b" = 1",
            b"\n[a" + b".a" * 400 + b"]",
        )
    ],
]  # fmt: skip


@pytest.mark.parametrize(("data", "text"), WRONG)
def test_what_is_not_toml(data: bytes, text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        parse(data, "t.toml")
    assert str(raised.value) == text
    assert len(raised.value.problems) == 1


def test_every_hint_answers_a_text_of_tomllib() -> None:
    hints = []
    for data in (
        b"a = x", b"a", b"=", b"a = 1 b = 2", b"a = [1 2]", b"a = {b = 1 c = 2}", b"a = {b = 1,}", b'a = "\n"',
        b'a = """', b"[a", b'a = "\\u00"', b'a = "C:\\dir"',
    ):  # fmt: skip
        with pytest.raises(SettingsError) as raised:
            parse(data, "t.toml")
        hints.append(raised.value.problems[0].fix)
    assert set(hints) == set(toml._FIXES.values())


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_bytes(b"a = 1")
    document = read(file)
    assert (document.file, document.values) == (str(file), {"a": 1})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "absent", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: Is a directory"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("/dev/zero", "larger than 16 MiB"),
    ):
        with pytest.raises(SettingsError) as raised:
            read(path)
        (problem,) = raised.value.problems
        assert (problem.line, problem.text) == (0, reason)
        assert problem.fix


def test_the_largest_file() -> None:
    assert parse(b"#" * MAX_BYTES, "t.toml").values == {}


def test_many_tables() -> None:
    tables = 20_000
    data = b"".join(b'[[limit]]\nname = "n%d"\nrate = "20/s"\n' % number for number in range(tables))
    document = parse(data, "t.toml")
    for number in (0, tables // 2, tables - 1):
        assert document.line_of(("limit", number)) == 3 * number + 1
        assert document.line_of(("limit", number, "rate")) == 3 * number + 3
