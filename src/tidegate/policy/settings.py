"""The configuration that the rest of Tidegate works with."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .checks import CHECKS
from .explain import explain
from .problems import MAX_PROBLEMS, Problem, SettingsError
from .schema import AdminTable, GatewayTable, LogTable, Tables
from .toml import Document, read

_HARMLESS = "tcp://127.0.0.1:0"
"""Stands for a wrong address while the others are checked: it clashes with none."""


@dataclass(frozen=True)
class Settings:
    """A checked configuration. Times are seconds, sizes bytes."""

    gateway: GatewayTable
    admin: AdminTable
    log: LogTable
    document: Document = field(repr=False, compare=False)
    """What the file says, with places."""

    def place(self, key: str) -> str | None:
        """FILE:LINE of a key such as `gateway.listen`; None when the file does not set it."""
        if not self.is_set(key):
            return None
        return f"{self.document.file}:{self.document.line_of(tuple(key.split('.')))}"

    def is_set(self, key: str) -> bool:
        """Whether the file sets a key such as `gateway.listen`."""
        return self.document.value_of(tuple(key.split("."))) is not None

    def with_log_format(self, log_format: str) -> "Settings":
        """These settings with another `log.format`, one that the schema knows."""
        return replace(self, log=LogTable.model_validate({"format": log_format, "level": self.log.level}))


def load(path: Path | None) -> Settings:
    """The settings in the file; None: every setting has its default. SettingsError tells all that is wrong."""
    return check(Document("defaults", {}, {}) if path is None else read(path))


def check(document: Document) -> Settings:
    """The settings that a document writes; SettingsError tells all that is wrong."""
    # A table that is left out still has its defaults to be checked.
    values: dict[str, object] = {**{table: {} for table in Tables.model_fields}, **document.values}
    try:
        tables = Tables.model_validate(values)
        errors: list[ErrorDetails] = []
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        tables = Tables.model_validate(_without(values, errors))
    # Words are sought only for those that are told: a file may hold a hundred thousand.
    errors.sort(key=lambda error: document.line_of(error["loc"]))
    problems = [explain(document, error) for error in errors[:MAX_PROBLEMS]]
    problems += _findings(document, tables, {error["loc"] for error in errors})
    if problems:
        raise SettingsError(problems, max(0, len(errors) - MAX_PROBLEMS))
    return Settings(tables.gateway, tables.admin, tables.log, document)


def _without(values: dict[str, object], errors: list[ErrorDetails]) -> dict[str, dict[str, object]]:
    """The values without those that are wrong, so that what holds between the others can be checked all the same."""
    good: dict[str, dict[str, object]] = {}
    wrong = {error["loc"] for error in errors}
    for table in Tables.model_fields:
        content = values[table]
        keys = content if isinstance(content, dict) else {}
        good[table] = {key: value for key, value in keys.items() if (table, key) not in wrong}
    if isinstance(listen := good["gateway"].get("listen"), str | list):
        elements = [listen] if isinstance(listen, str) else listen
        good["gateway"]["listen"] = [
            _HARMLESS if ("gateway", "listen", number) in wrong else element for number, element in enumerate(elements)
        ]
    if ("gateway", "state_dir") in wrong:  # its default may be what is wrong
        good["gateway"]["state_dir"] = "/"
    return good


def _findings(document: Document, tables: Tables, wrong: set[tuple[str | int, ...]]) -> Iterator[Problem]:
    for keys, look in CHECKS:
        if not any(key in wrong or key[:1] in wrong for key in keys):
            for path, found in look(tables):
                yield document.problem(path, found.text, found.fix)
