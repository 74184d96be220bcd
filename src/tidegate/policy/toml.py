"""A TOML file as values, and where each of them stands.

The standard library's tomllib gives the values and decides what is TOML; it tells no positions. Those come from a
second, cheap look at the same text by tree-sitter's grammar, which takes whatever tomllib takes. Where it should
ever not (a newer tomllib), lines become those of the nearest ancestor; values never depend on it.
Time and memory are linear in the file: 100,000 tables of three keys take about five seconds of CPU here.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

from .problems import Path, Problem, SettingsError, name

MAX_BYTES = 16 << 20
"""The largest file that is read: three times one with 100,000 limits. Reading takes a hundred times its size."""
MAX_DEPTH = 32
"""The deepest nesting; the schema needs five."""

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_FIXES = {
    "Invalid value": 'put text in quotes: key = "text"',
    "Expected '=' after a key": "write: key = value",
    "Invalid statement": "write: key = value, or [table]",
    "Expected newline or end of document": "put each key on a line of its own, and text in quotes",
    "Unclosed array": "separate elements by commas and end the list with ]",
    "Unclosed inline table": "separate keys by commas and end the table with } on the same line",
    "Invalid initial character for a key part": "name the key with letters, digits, _ and -, or put it in quotes",
    "Illegal character '\\n'": "end the text with its quote on the same line",
    "Unterminated string": "end the text with the quotes that it begins with",
    "Expected ']": "close the table's name with ], an element of a list of tables with ]]",
    "Invalid hex value": r"write \\ for a backslash, or put the text in single quotes",
    "Unescaped '\\' in a string": r"write \\ for a backslash, or put the text in single quotes",
}
"""What to do, by the beginning of tomllib's text."""
_DEFAULT_FIX = "see https://toml.io for how it is written"


@dataclass(frozen=True, slots=True)
class Document:
    """One file's values and their places."""

    file: str
    """Its name, as the operator gave it."""
    values: dict[str, object]
    lines: Mapping[Path, int]

    def line_of(self, path: Path) -> int:
        """The line, from 1, on which the value at `path` is set, or else its nearest ancestor; 1 without any.

        A table stands at its header, else at the first key that implies it. An element of a list stands where it
        begins; in a path it is a number.
        """
        for size in range(len(path), 0, -1):
            if (line := self.lines.get(path[:size])) is not None:
                return line
        return 1

    def value_of(self, path: Path) -> object | None:
        """The value at `path`, None when there is none. A string is also its own element 0: a list of one."""
        value: object = self.values
        for part in path:
            if isinstance(value, dict) and part in value:  # noqa: SIM114  the same words, two meanings
                value = value[part]
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            elif not (isinstance(value, str) and part == 0):
                return None
        return value

    def problem(self, path: Path, text: str, fix: str) -> Problem:
        """What is wrong with the value at `path`."""
        return Problem(self.file, self.line_of(path) if self.lines else 0, name(path), self.value_of(path), text, fix)


def read(path: str | os.PathLike[str]) -> Document:
    """The document in the file; SettingsError with one problem when it cannot be read or is not TOML."""
    file = os.fspath(path)
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        fix = "give the path of a configuration that is there; tidegate init FILE writes a first one"
        if isinstance(error, PermissionError):
            fix = f"let this user read it: chmod or chown {file}"
        raise SettingsError([Problem(file, 0, "", None, f"cannot be read: {reason}", fix)]) from error
    return parse(data, file)


def parse(data: bytes, file: str) -> Document:
    """The document that `data` writes, a byte order mark before it ignored; SettingsError as `read`."""
    if len(data) > MAX_BYTES:
        _fail(file, 0, f"larger than {MAX_BYTES >> 20} MiB", "give the path of a configuration with -c")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        _fail(
            file,
            line,
            f"byte 0x{data[error.start]:02X} in column {column} is not UTF-8",
            "save the file with the encoding UTF-8",
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        _fail_at_syntax(file, data, error)
    except RecursionError:
        _fail_too_deep(file, _most_nested_line(text))
    except ValueError:  # Python's own limit of 4300 digits
        line = 1 + next((text.count("\n", 0, at.start()) for at in re.finditer(r"[0-9][0-9_]{4299}", text)), 0)
        _fail(file, line, "a number of thousands of digits", "write a number of at most 19 digits")
    lines: dict[Path, int] = {}
    for path, line, explicit in _places(data):
        if len(path) > MAX_DEPTH:
            _fail_too_deep(file, line)
        if explicit or path not in lines:
            lines[path] = line
    return Document(file, values, lines)


def _fail(file: str, line: int, text: str, fix: str, key: str = "") -> NoReturn:
    raise SettingsError([Problem(file, line, key, None, text, fix)]) from None


def _fail_too_deep(file: str, line: int) -> NoReturn:
    _fail(file, line, f"nested deeper than {MAX_DEPTH} levels", "remove the surplus brackets or dots")


def _most_nested_line(text: str) -> int:
    """Where so many brackets stand that tomllib gave up."""
    counts = [line.count("[") + line.count("{") for line in text.split("\n")]
    return counts.index(max(counts)) + 1


def _fail_at_syntax(file: str, data: bytes, error: tomllib.TOMLDecodeError) -> NoReturn:
    text = str(error)
    place = _PLACE.search(text)
    column = ""
    line = data.rstrip(b"\n").count(b"\n") + 1
    if place is not None:
        text = text[: place.start()]
        column = " at the end of the file"
    if place is not None and place[1]:
        line = int(place[1])
        column = f" in column {place[2]}"
    if text.startswith(("Cannot", "Duplicate")):
        # All text up to here is well-formed, so its keys can be told.
        _fail_at_repetition(file, b"\n".join(data.split(b"\n")[:line]))
        _fail(file, line, "a key or table that is set already", "write each key and each table once")
    fix = next((fix for start, fix in _FIXES.items() if text.startswith(start)), _DEFAULT_FIX)
    _fail(file, line, f"not TOML: {text[:1].lower()}{text[1:]}{column}", fix)


def _fail_at_repetition(file: str, data: bytes) -> None:
    """Tell the first key or table that is written twice; return if the trouble is another one."""
    seen: dict[Path, int] = {}
    for path, line, explicit in _places(data):
        if explicit and path in seen:
            _fail(file, line, f"already set in line {seen[path]}", "write it once", name(path))
        if explicit:
            seen[path] = line


def _places(data: bytes) -> Iterator[tuple[Path, int, bool]]:
    """Path and line of everything that is set; False with tables that a longer name only implies."""
    counts: dict[Path, int] = {}  # the lists of tables, and how many have begun
    table: Path = ()
    # Node.children makes all nodes at once; next_sibling would look for its place from the start each time.
    for node in Parser(Language(tree_sitter_toml.language())).parse(data).root_node.children:
        line = node.start_point.row + 1
        if node.type == "pair":
            yield from _pair(node, table, data)
        elif node.type in ("table", "table_array_element"):
            *parents, last = _key(node.children[1], data)
            table = ()
            for part in parents:
                table += (part,)
                yield table, line, False
                if table in counts:
                    table += (counts[table] - 1,)
            table += (last,)
            if node.type == "table":
                yield table, line, True
            else:
                number = counts.get(table, 0)
                counts[table] = number + 1
                yield table, line, number == 0
                table += (number,)
                yield table, line, True
            for child in node.children:
                if child.type == "pair":
                    yield from _pair(child, table, data)


def _pair(node: Node, table: Path, data: bytes) -> Iterator[tuple[Path, int, bool]]:
    line = node.start_point.row + 1
    path = table
    *parents, last = _key(node.children[0], data)
    for part in parents:
        path += (part,)
        yield path, line, False
    # A comment behind the value is a child as well.
    yield from _value(node.children[2], (*path, last), line, data)


def _value(node: Node, path: Path, line: int, data: bytes) -> Iterator[tuple[Path, int, bool]]:
    yield path, line, True
    if len(path) > MAX_DEPTH:
        return
    if node.type == "array":
        elements = [child for child in node.children if child.is_named and child.type != "comment"]
        for number, element in enumerate(elements):
            yield from _value(element, (*path, number), element.start_point.row + 1, data)
    elif node.type == "inline_table":
        for child in node.children:
            if child.type == "pair":
                yield from _pair(child, path, data)


def _key(node: Node, data: bytes) -> list[str]:
    """The parts of a key. The grammar nests `a.b.c` to the left."""
    parts = []
    while node.type == "dotted_key":
        parts.append(_part(node.children[2], data))
        node = node.children[0]
    parts.append(_part(node, data))
    return parts[::-1]


def _part(node: Node, data: bytes) -> str:
    text = data[node.start_byte : node.end_byte].decode()
    if node.type != "quoted_key":
        return text
    if text.startswith("'") or "\\" not in text:
        return text[1:-1]
    return next(iter(tomllib.loads(f"{text} = 0")))
