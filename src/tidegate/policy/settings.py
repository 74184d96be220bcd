"""The configuration that the rest of Tidegate works with."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path as FilePath

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .checks import CHECKS
from .explain import explain, tell
from .language import TABLES, read_policy
from .model import Policy
from .problems import MAX_PROBLEMS, Finding, Path, SettingsError
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
    policy: Policy
    """Classes and limits."""
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


def load(path: FilePath | None) -> Settings:
    """The settings in the file; None: every setting has its default. SettingsError tells all that is wrong."""
    return check(Document("defaults", {}, {}) if path is None else read(path))


def check(document: Document) -> Settings:
    """The settings that a document writes; SettingsError tells all that is wrong."""
    # A table that is left out still has its defaults to be checked.
    written = {key: value for key, value in document.values.items() if key not in TABLES}
    values: dict[str, object] = {**{table: {} for table in Tables.model_fields}, **written}
    try:
        tables = Tables.model_validate(values)
        errors: list[ErrorDetails] = []
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        tables = Tables.model_validate(_without(values, errors))
    wrong = {error["loc"] for error in errors}
    listeners = None if any(("gateway", "listen")[: len(path)] == path[:2] for path in wrong) else tables.gateway.listen
    policy, findings = read_policy(document, None if listeners is None else [str(address) for address in listeners])
    findings += _findings(tables, wrong)
    _raise_if_any(document, errors, findings)
    return Settings(tables.gateway, tables.admin, tables.log, policy, document)


def _raise_if_any(document: Document, errors: list[ErrorDetails], findings: list[Finding]) -> None:
    """Raise SettingsError with the first problems."""
    if not errors and not findings:
        return
    # Words are sought only for those that are told: a file may hold a hundred thousand.
    told = [(error["loc"], partial(explain, document, error)) for error in errors]
    told += [(path, partial(tell, document, path, bad)) for path, bad in findings]
    told.sort(key=lambda item: document.line_of(item[0]))
    raise SettingsError([make() for _, make in told[:MAX_PROBLEMS]], max(0, len(told) - MAX_PROBLEMS))


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


def _findings(tables: Tables, wrong: set[Path]) -> Iterator[Finding]:
    for keys, look in CHECKS:
        if not any(key in wrong or key[:1] in wrong for key in keys):
            yield from look(tables)
