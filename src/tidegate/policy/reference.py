"""docs/configuration.md, made from the schema: `python -m tidegate.policy.reference > docs/configuration.md`."""

import json
import sys
from collections.abc import Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo

from .explain import tables
from .problems import SettingsError
from .settings import check
from .toml import parse

_HEAD = """\
# Configuration

<!-- Made by `python -m tidegate.policy.reference > docs/configuration.md`: change src/tidegate/policy/schema.py. -->

`tidegate serve -c tidegate.toml` reads one file of [TOML](https://toml.io). Every key has a default: an empty file,
or none, is a working gateway with a Mosquitto of its own.

Times are written with their unit (`ms`, `s`, `min`, `h`), sizes with theirs (`B`, `KiB`, `MiB`, `GiB`, `kB`, `MB`,
`GB`) or as a number of bytes. Paths are absolute.
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

[[limit]]
name = "flood"
"""


def render() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_tables(), *_example(), *_errors()])


def _tables() -> Iterator[str]:
    for table, model in tables().items():
        yield f"## `[{table}]`\n\n{model.__doc__}\n"
        yield "| key | value | default | meaning | example |\n|---|---|---|---|---|"
        for key, field in model.model_fields.items():
            cells = (f"`{key}`", _kind(field), _default(field), field.description, f"`{_toml(_sample(field))}`")
            yield f"| {' | '.join(str(cell) for cell in cells)} |"
        yield ""


def _example() -> Iterator[str]:
    yield "## All keys\n\nEach with the example from above.\n\n```toml"
    yield f"{example()}```\n"


def example() -> str:
    """A file that sets every key."""
    parts = []
    for table, model in tables().items():
        keys = [f"{key} = {_toml(_sample(field))}\n" for key, field in model.model_fields.items()]
        parts.append(f"[{table}]\n{''.join(keys)}")
    return "\n".join(parts)


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
    yield "Tables for limits, classes and alerts are errors until they are enforced.\n"


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
    """The schema's own strings, numbers and lists: here JSON writes what TOML reads."""
    return json.dumps(value)


if __name__ == "__main__":
    sys.stdout.write(render())
