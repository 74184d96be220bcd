"""docs/configuration.md, made from the schema: `python -m tidegate.policy.reference > docs/configuration.md`."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic.fields import FieldInfo

from . import classes, limits
from .actions import BAN, CASES
from .enforced import ENFORCED
from .events import MEANINGS, action_name, event_name
from .explain import tables
from .fields import Field
from .model import Action, Cases
from .problems import SettingsError
from .settings import check
from .toml import parse

_HEAD = """\
# Configuration

<!-- Made by `python -m tidegate.policy.reference > docs/configuration.md` from schema.py, classes.py, limits.py,
actions.py and events.py in src/tidegate/policy: change those. -->

`tidegate serve -c tidegate.toml` reads one file of [TOML](https://toml.io). Every key has a default: an empty file,
or none, is a working gateway with a Mosquitto of its own.

Times are written with their unit (`ms`, `s`, `min`, `h`), sizes with theirs (`B`, `KiB`, `MiB`, `GiB`, `kB`, `MB`,
`GB`) or as a number of bytes. Paths are absolute.
"""

_CLASS = """\
A class names clients. A client is in it that fits all keys which are given, and any value of each. It may be in several
classes, or in none.
"""

_LIMIT = """\
A limit says what is counted (`on`), whose (`class`), where (`topic`), counted per what (`per`), how much (`rate`,
`bandwidth`, `concurrent` and so on: at least one) and what happens then (`on_excess`). All limits that match a message
apply, and the strictest outcome wins; either all of their budgets are charged, or none.

A table by class has a number for some classes: `rate = { default = "100/s", plc = "1000/s", bridge = "none" }`. Who is
in several of them gets the strictest, who is in none gets `default`; `"none"` is no limit.
"""

_ACTIONS = """\
### Actions

From the mildest to the strictest: `observe` only counts; `delay` holds a message back until the limit lets it pass, at
most for `max_delay`, after which it gets `then`; `drop` discards it, and acknowledges it if that was asked; `reject`
refuses it and says why; `disconnect` ends the connection; `ban` keeps the client out for a time as well.

MQTT 3 has no way to refuse a message. So where `reject` is written for `publish`, its clients get a `delay` instead,
or, as `then`, a `disconnect` (QoS 0 is discarded in both cases); a `v3` case says otherwise:
`{ v3 = "drop", default = "reject" }`. On `connect`, where there is nothing to end yet, `disconnect` is the same as
`reject`, and `drop` closes the connection without an answer. A message of QoS 1 or 2 on its way to a client is never
dropped.

A limit on `connect` is decided when a client is accepted, before a byte of it is read, if it goes by the address and
the listener alone: `per` `ip`, `listener` or `all`, and classes with no other condition than `cidr` and `listener`. No
version is known then, so it has one action for all. Any other is decided by CONNECT.

A ban, or a `connect` limit that refuses, must count `per` `ip` too, unless `allow_lockout = true`: until the broker has
accepted a client, its identifier and user name are only claims.

By case, `on_excess` and `then` are tables:
"""

_WRONG = """\
[gateway]
lisen = "tcp://127.0.0.1:1884"
listen = [
    "tcp://127.0.0.1:1883",
    "tls://0.0.0.0:8883",
]
broker = "tcp://user:secret@192.0.2.7:1883"
connect_timeout = 5
state_dir = "/var/lib/tidegate"

[admin]
listen = "127.0.0.1:1883"

[class.sensor]
client_id = "sensor-*"

[[limit]]
name = "flood"
class = "sensors"
topik = "plant/#"
rate = "600/m"

[[limit]]
name = "flood"
on = "connect"
rate = "10/s"
on_excess = "observ"
"""

_NOT_TOGETHER = ("ban", "conflate", "allow_lockout", "depth", "leading_wildcard", "max_qos", "will_delay")
"""Keys of a limit that mean nothing beside the others of the example."""


def render() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_settings(), *_language(), *_example(), *_errors()])


def _settings() -> Iterator[str]:
    for table, model in tables().items():
        yield f"## `[{table}]`\n\n{model.__doc__}\n"
        yield from _table(_row(key, field) for key, field in model.model_fields.items())


def _language() -> Iterator[str]:
    yield f"## `[class.NAME]`\n\n{_CLASS}"
    yield from _keys(classes.FIELDS)
    yield f"## `[[limit]]`\n\n{_LIMIT}\n{ENFORCED}\n"
    yield from _keys(limits.FIELDS)
    yield "### Events\n"
    yield "| `on` | keys beyond those that every event has | actions | `on_excess` | `then` | `per` |"
    yield "|---|---|---|---|---|---|"
    for event, meaning in MEANINGS.items():
        delays = Action.DELAY in meaning.actions
        cells = (
            _words([event_name(event)]),
            _words(meaning.keys),
            _words(map(action_name, meaning.actions)),
            _words([action_name(meaning.on_excess)]),
            _cases(meaning.then) if delays else "-",
            _words([str(meaning.per).partition("/")[0]]),
        )
        yield f"| {' | '.join(cells)} |"
    yield f"\n{_ACTIONS}"
    yield from _keys(CASES)
    yield "Bans:\n"
    yield from _keys(BAN)


def _words(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _cases(cases: Cases) -> str:
    """What is done by default with what was delayed too long."""
    parts = [f"{_doing(action)} (QoS {qos})" for qos, action in cases.qos.items() if action != cases.default]
    if cases.v3 is not None:
        parts.append(f"{_doing(cases.v3)} (MQTT 3{', QoS 1 and 2' if 0 in cases.qos else ''})")
    return ", ".join([_doing(cases.default), *parts])


def _doing(action: Action) -> str:
    return {Action.PASS: "it passes", Action.DELAY: "it waits on"}.get(action, f"`{action_name(action)}`")


def _keys(fields: Mapping[str, Field]) -> Iterator[str]:
    return _table((key, f.kind, f.absent, f.description, f.example) for key, f in fields.items())


def _row(key: str, field: FieldInfo) -> tuple[object, ...]:
    return key, _kind(field), _default(field), field.description, _sample(field)


def _table(rows: Iterable[tuple[object, ...]]) -> Iterator[str]:
    yield "| key | value | default | meaning | example |\n|---|---|---|---|---|"
    for key, kind, absent, description, sample in rows:
        yield f"| `{key}` | {kind} | {absent} | {description} | `{_toml(sample)}` |"
    yield ""


def _example() -> Iterator[str]:
    yield "## All keys\n\nEach with the example from above.\n\n```toml"
    yield f"{example()}```\n"


def example() -> str:
    """A file that sets every key but those that exclude others."""
    parts = []
    for table, model in tables().items():
        parts.append(_lines(f"[{table}]", {key: _sample(field) for key, field in model.model_fields.items()}))
    parts.append(_lines("[class.sensor]", {key: field.example for key, field in classes.FIELDS.items()}))
    parts.append(_lines("[class.oncall]", {"username": "oncall", "exempt": True}))
    together = {key: field.example for key, field in limits.FIELDS.items() if key not in _NOT_TOGETHER}
    parts.append(_lines("[[limit]]", together))
    return "\n".join(parts)


def _lines(heading: str, values: Mapping[str, object]) -> str:
    return "".join([f"{heading}\n", *(f"{key} = {_toml(value)}\n" for key, value in values.items())])


def _errors() -> Iterator[str]:
    yield "## Errors\n"
    yield "All that is wrong is told at once: file and line, key and value, what is wrong, and what to do about it."
    yield "Nothing starts until all of it is mended, and no key is ignored; the exit code is 2. Of this file\n"
    yield f"```toml\n{_WRONG}```\n\n`tidegate serve` says\n\n```text"
    try:
        check(parse(_WRONG.encode(), "tidegate.toml"))
    except SettingsError as error:
        yield f"{error}\n```\n"
    yield "Values of keys that hold a secret, and user and password in an address, are shown as `***`."
    yield "Tables for alerts and for listeners with options are errors until they are supported.\n"


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _kind(field: FieldInfo) -> str:
    """What may be written: as the schema says, else by the unit's reader, else the choices."""
    if kind := _extra(field)["kind"]:
        return str(kind)
    for item in field.metadata:
        if kind := getattr(getattr(item, "func", None), "kind", None):
            return str(kind)
    return " or ".join(f"`{_toml(choice)}`" for choice in get_args(field.annotation))


def _default(field: FieldInfo) -> str:
    return str(_extra(field)["absent"]) if field.default is None else f"`{_toml(field.default)}`"


def _sample(field: FieldInfo) -> object:
    return (field.examples or [None])[0]


def _toml(value: object) -> str:
    """The schema's own values: JSON writes strings, numbers and booleans as TOML reads them."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(item)}' for key, item in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


if __name__ == "__main__":
    sys.stdout.write(render())
