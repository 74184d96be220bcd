"""Settings that are generated: any bytes, any valid settings, any layout of keys, any limits."""

import json
import tomllib
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import assume, example, given
from hypothesis import strategies as st

from strategies import untimed
from tidegate.policy import classes, limits
from tidegate.policy.address import Address
from tidegate.policy.cautions import warnings
from tidegate.policy.compile import assign_slots, compile_policy
from tidegate.policy.enforced import unenforced
from tidegate.policy.fields import Field
from tidegate.policy.model import ByClass, Rate
from tidegate.policy.problems import SettingsError
from tidegate.policy.settings import check
from tidegate.policy.toml import parse

# fmt: off
FRAGMENTS = st.sampled_from([
    "[gateway]", "[admin]", "[log]", "[[limit]]", "[class.x]", "[a.b]", "[", "]", "{", "}", "=", ".", ",", "#",
    "\n", "\r\n", " ", '"', "'", '"""', "listen", "broker", "workers", "max_packet", "connect_timeout", "state_dir",
    "token_file", "level", "token", '"tcp://127.0.0.1:1883"', '"tcp://u:p@h:1"', '"unix:/x"', "tcp://", "::1", "5",
    '"5s"', "-1", "0x" + "f" * 9000, "9" * 5000, "nan", "true", "1979-05-27", "07:32:00", "\\u0000", "\\ud800",
    "\x00", "\u202e", "é", "\ufeff", "[" * 400, "a." * 100,
])
KNOWN_KEYS = st.sampled_from([
    "listen", "workers", "broker", "state_dir", "connect_timeout", "max_packet", "drain_timeout", "token_file",
    "hold_messages", "hold_bytes", "hold_pool", "format", "level", "x",
])
TABLES = st.sampled_from(["gateway", "admin", "log", "limit", "class", "gatway"])
# fmt: on


def error_in(data: bytes) -> SettingsError | None:
    try:
        settings = check(parse(data, "t.toml"))
    except SettingsError as error:
        return error
    # What is valid can be compiled, and what else is told of it has its place.
    policy, document = settings.policy, settings.document
    assert compile_policy(policy, assign_slots(policy), settings.gateway.max_packet)
    for problem in (*warnings(policy, document, settings.gateway.max_packet), *unenforced(policy, document)):
        assert problem.line
        assert str(problem).isprintable()
    return None


def only_settings_error(data: bytes) -> None:
    error = error_in(data)
    if error is None:
        return
    assert error.problems
    lines = str(error).split("\n")
    assert len(lines) == len(error.problems) + (error.untold > 0)
    last = data.count(b"\n") + 1
    for problem, line in zip(error.problems, lines, strict=False):
        assert 0 <= problem.line <= last
        assert line.startswith(f"t.toml:{problem.line}: " if problem.line else "t.toml: ")
        assert line.isprintable()
        assert problem.text
        assert problem.fix


@untimed
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    only_settings_error(data)


@untimed
@given(st.lists(FRAGMENTS, max_size=30))
def test_any_text(fragments: list[str]) -> None:
    only_settings_error("".join(fragments).encode())


LEAVES: st.SearchStrategy[Any] = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(["tcp://127.0.0.1:1883", "unix:/x", "5s", "1MiB", "auto", "json", "tls://h:1", "/dev/null"])
    | st.dates()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3),
    max_leaves=8,
)


def toml(value: Any) -> str:
    if isinstance(value, bool | int):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f") if value.isascii() else quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{toml(key)} = {toml(item)}' for key, item in value.items())} }}"
    return str(value.isoformat())


def quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" for c in text) + '"'


@untimed
@given(st.dictionaries(TABLES, VALUES | st.dictionaries(KNOWN_KEYS, VALUES, max_size=6), max_size=4))
def test_any_values_below_known_keys(values: dict[str, Any]) -> None:
    text = "".join(f"{key} = {toml(value)}\n" for key, value in values.items())
    tomllib.loads(text)
    only_settings_error(text.encode())


WORDS = st.sampled_from([
    "a", "!a", "b", "none", "client", "ip/24/56", "topic/2", "tenant", "{tenant}:*", "a/#", "+", "$share/g/a", "high",
    "10.0.0.0/8", "20/s burst 40", "1/365d", "1000000000/s", "600/min", "64KiB/s", "10GiB/s burst 1024GiB", "16B/s",
    "1MiB", "5s", "publish", "connect", "deliver", "will", "auth_failure", "delay", "drop", "reject", "disconnect",
    "ban", "observe", "3.1", "tcp://127.0.0.1:1883",
])  # fmt: skip
LANGUAGE = st.recursive(
    WORDS | st.integers(0, 5) | st.booleans() | st.sampled_from([limits.FIELDS["rate"].example]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["default", "a", "b", "v3", "v5", "qos0", "qos1", "first", "max", "client_id", "bridge"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=4,
)


def tables_of(fields: dict[str, Field]) -> st.SearchStrategy[dict[str, Any]]:
    """Tables with known keys, whose values are mostly of the right kind."""
    examples = {key: st.just(field.example) | LANGUAGE for key, field in fields.items()}
    return st.sets(st.sampled_from(list(fields)), max_size=6).flatmap(
        lambda keys: st.fixed_dictionaries({key: examples[key] for key in sorted(keys)})
    )


@untimed
@given(
    st.dictionaries(st.sampled_from(["a", "b", "sensor", "oncall"]), tables_of(classes.FIELDS), max_size=3),
    st.lists(tables_of(limits.FIELDS), max_size=3),
)
def test_any_classes_and_limits(class_tables: dict[str, Any], limit_tables: list[dict[str, Any]]) -> None:
    text = "".join(f"class.{name} = {toml(keys)}\n" for name, keys in class_tables.items())
    for number, keys in enumerate(limit_tables):
        named = {"name": f"n{number}", "rate": "1/s", **keys}
        text += "[[limit]]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in named.items())
    only_settings_error(text.encode())


RATES = st.tuples(
    st.integers(1, 10**6), st.integers(1, 999), st.sampled_from(["ms", "s", "min", "h"]), st.integers(1, 10**6)
)


@untimed
@given(st.lists(RATES, min_size=1, max_size=4), st.booleans())
def test_rates_are_read_as_they_were_written(rates: list[tuple[int, int, str, int]], of_bytes: bool) -> None:
    seconds = {"ms": Fraction(1, 1000), "s": Fraction(1), "min": Fraction(60), "h": Fraction(3600)}
    wanted = tuple(Rate(amount, number * seconds[unit], burst) for amount, number, unit, burst in rates)
    least, most, unit = (16, 10 << 30, "B") if of_bytes else (Fraction(0), 10**9, "")
    assume(all(least <= rate.per_second <= most and rate.burst / rate.per_second <= 365 * 86400 for rate in wanted))
    texts = [f"{amount}{unit}/{number}{period} burst {burst}{unit}" for amount, number, period, burst in rates]
    key = "bandwidth" if of_bytes else "rate"
    (limit,) = check(parse(f'[[limit]]\nname = "x"\n{key} = {toml(texts)}'.encode(), "t.toml")).policy.limits
    assert getattr(limit, key) == ByClass(wanted)


ports = st.integers(1, 65535)
loopbacks = st.sampled_from(["127.0.0.1", "127.9.9.9", "localhost", "::1"])
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?\.[a-z][a-z0-9]{0,5}", fullmatch=True)
paths = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"], max_codepoint=0x3000), max_size=30
).map(lambda text: f"/run/x{text}y")
unix = paths.map(lambda path: Address("unix", path=path))
listeners = st.builds(lambda host, port: Address("tcp", host, port), loopbacks, ports) | unix
brokers = (
    st.builds(lambda host, port: Address("tcp", host, port), names | st.ip_addresses(v=4).map(str), ports)
    | st.builds(lambda ip, port: Address("tcp", str(ip), port), st.ip_addresses(v=6), ports)
    | unix
)


@st.composite
def addresses(draw: st.DrawFn) -> tuple[list[Address], Address | None, Address]:
    """Listeners, broker and admin address, of which no two clash."""
    listen = draw(st.lists(listeners, min_size=1, max_size=4))
    broker = draw(st.none() | brokers)
    admin = draw(st.builds(lambda host, port: Address("tcp", host, port), loopbacks, ports))
    kept: list[Address] = []
    for address in listen:
        others = [*kept, admin, *([broker] if broker else [])]
        if not any(address.clashes(other) for other in others):
            kept.append(address)
    return kept or [Address("tcp", "127.0.0.1", 0)], broker, admin


@untimed
@given(
    addresses(),
    st.integers(1, 64),
    st.tuples(st.integers(100, 600_000), st.integers(0, 3_600_000)),
    st.integers(1024, 256 << 20),
    st.tuples(st.integers(1, 10_000), st.integers(1 << 16, 1 << 20), st.integers(1 << 20, 16 << 30)),
    paths,
    st.sampled_from(["text", "json"]),
    st.sampled_from(["debug", "info", "warning", "error"]),
)
def test_valid_settings_are_read_as_they_were_written(
    places: tuple[list[Address], Address | None, Address],
    workers: int,
    times: tuple[int, int],
    max_packet: int,
    hold: tuple[int, int, int],
    state_dir: str,
    log_format: str,
    level: str,
) -> None:
    listen, broker, admin = places
    written: dict[str, dict[str, object]] = {
        "gateway": {
            "listen": [str(address) for address in listen] if len(listen) > 1 else str(listen[0]),
            **({"broker": str(broker)} if broker else {}),
            "workers": workers,
            "connect_timeout": f"{times[0]}ms",
            "drain_timeout": f"{times[1]}ms",
            "max_packet": max_packet,
            "hold_messages": hold[0],
            "hold_bytes": hold[1],
            "hold_pool": hold[2],
            "state_dir": state_dir,
        },
        "admin": {"listen": admin.place},
        "log": {"format": log_format, "level": level},
    }
    text = ""
    for table, keys in written.items():
        text += f"[{table}]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in keys.items())
    settings = check(parse(text.encode(), "t.toml"))
    gateway = settings.gateway
    assert (list(gateway.listen), gateway.broker, settings.admin.listen) == (listen, broker, admin)
    assert (gateway.workers, gateway.max_packet, gateway.state_dir) == (workers, max_packet, Path(state_dir))
    assert (gateway.hold_messages, gateway.hold_bytes, gateway.hold_pool) == hold
    assert (gateway.connect_timeout, gateway.drain_timeout) == (times[0] / 1000, times[1] / 1000)
    assert (settings.log.format, settings.log.level) == (log_format, level)


@dataclass
class Writer:
    """Writes TOML, and notes the line of all that it sets."""

    draw: st.DrawFn
    text: str = ""
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)

    def line(self) -> int:
        return self.text.count("\n") + 1

    def noise(self) -> None:
        self.text += self.draw(st.sampled_from(["", "", "\n", "# [x]\n", "\r\n", " \n\t", '# """é\n']))

    def key(self, name: str) -> None:
        bare = [name] if name and all(c.isascii() and (c.isalnum() or c in "_-") for c in name) else []
        self.text += self.draw(st.sampled_from([*bare, quoted(name), json.dumps(name, ensure_ascii=False)]))

    def set_keys(self, path: tuple[str | int, ...], names: list[str]) -> None:
        for name in names:
            self.noise()
            if self.draw(st.booleans()):  # dotted
                self.lines[*path, name] = self.line()
                self.key(name)
                self.text += self.draw(st.sampled_from([".", " . "]))
                self.lines[*path, name, "d"] = self.line()
                self.text += "d = "
                self.value((*path, name, "d"), 2)
            else:
                self.lines[*path, name] = self.line()
                self.key(name)
                self.text += self.draw(st.sampled_from([" = ", "=", "\t= "]))
                self.value((*path, name), 2)
            self.text += self.draw(st.sampled_from(["\n", " # comment\n", "\r\n"]))

    def value(self, path: tuple[str | int, ...], depth: int) -> None:
        kind = self.draw(st.integers(0, 5 if depth else 3))
        if kind == 4:
            self.text += "["
            for number in range(self.draw(st.integers(0, 3))):
                self.noise()
                self.lines[*path, number] = self.line()
                self.value((*path, number), depth - 1)
                self.text += ", "
            self.noise()
            self.text += "]"
        elif kind == 5:
            self.text += "{ "
            for number, name in enumerate(self.draw(st.lists(NAMES, max_size=2, unique=True))):
                self.text += ", " if number else ""
                self.lines[*path, name] = self.line()
                self.key(name)
                self.text += " = "
                self.value((*path, name), depth - 1)
            self.text += " }"
        else:
            self.text += ("1", '"é#["', '"""\n[x]\n\ny = 1\\\n"""', "'''\r\na'\n'''")[kind]

    def tables(self) -> None:
        self.set_keys((), self.draw(st.lists(NAMES, max_size=3, unique=True)))
        for name in self.draw(st.lists(st.sampled_from(["t", "u v", "wé"]), unique=True)):
            elements = self.draw(st.integers(0, 3))
            for number in range(max(1, elements)):
                path: tuple[str | int, ...] = (name, number) if elements else (name,)
                self.noise()
                self.lines[path] = self.line()
                self.lines.setdefault((name,), self.line())
                self.text += "[[" if elements else "["
                self.key(name)
                self.text += "]]\n" if elements else "]\n"
                self.set_keys(path, self.draw(st.lists(NAMES, max_size=3, unique=True)))
                if self.draw(st.booleans()):
                    self.lines[*path, "sub"] = self.line()
                    self.text += "[ "
                    self.key(name)
                    self.text += ' . "sub" ]\n'
                    self.set_keys((*path, "sub"), self.draw(st.lists(NAMES, max_size=2, unique=True)))


NAMES = st.sampled_from(["a", "b-c", "1", "", "x y", "é", 'q"', "back\\slash", "a.b", "true"])


@st.composite
def written(draw: st.DrawFn) -> tuple[str, dict[tuple[str | int, ...], int]]:
    writer = Writer(draw)
    writer.tables()
    return writer.text, writer.lines


@untimed
@given(written())
@example(("", {}))
def test_lines_are_where_they_were_written(document: tuple[str, dict[tuple[str | int, ...], int]]) -> None:
    text, lines = document
    read = parse(text.encode(), "t.toml")
    assert dict(read.lines) == lines
    for path, line in lines.items():
        assert read.line_of((*path, "absent", 0)) == line
        assert read.value_of(path) is not None
