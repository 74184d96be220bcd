"""What has been found wrong, in words: each with its place and what to do."""

from collections.abc import Iterable
from typing import get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from . import classes, limits
from .problems import BadValue, Path, Problem, UnknownKey, name
from .schema import PLANNED, Tables
from .toml import Document
from .words import instead_of_key, instead_of_value, similar


def tables() -> dict[str, type[BaseModel]]:
    """The tables of the schema by name."""
    kinds = {key: field.annotation for key, field in Tables.model_fields.items()}
    return {key: kind for key, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def explain(document: Document, error: ErrorDetails) -> Problem:
    """One error of `Tables.model_validate(document.values)`."""
    path: Path = error["loc"]
    reason = error.get("ctx", {}).get("error")
    if isinstance(reason, BadValue):
        return tell(document, path, reason)
    if error["type"] == "extra_forbidden":
        return _unknown(document, path, _known_at(path))
    if error["type"] == "literal_error":
        return document.problem(path, "unknown value", instead_of_value(document.value_of(path), _choices(path)))
    if error["type"] == "model_type":
        return document.problem(path, "not a table", f"write [{name(path)}] in a line of its own, its keys below")
    return document.problem(path, error["msg"], "see docs/configuration.md")


def tell(document: Document, path: Path, reason: BadValue) -> Problem:
    """What is wrong at one place."""
    if isinstance(reason, UnknownKey):
        return _unknown(document, path, reason.known)
    heading = _heading(path, document.value_of(path)) if len(path) <= 2 else None
    if heading is None:
        return document.problem(path, reason.text, reason.fix)
    return Problem(document.file, document.line_of(path), heading, None, reason.text, reason.fix)


def _unknown(document: Document, path: Path, known: Iterable[str]) -> Problem:
    value = document.value_of(path)
    heading = _heading(path, value)
    if path in PLANNED:
        text, fix = PLANNED[path], "remove it"
    else:
        text = "unknown key" if heading is None else "unknown table"
        fix = _instead(str(path[-1]), tuple(known))
    shown = value if heading is None else None
    return Problem(document.file, document.line_of(path), heading or name(path), shown, text, fix)


def _heading(path: Path, value: object) -> str | None:
    """How a table, or a list of tables, is headed; None for any other value."""
    if isinstance(value, dict):
        return f"[[{name(path)}]]" if isinstance(path[-1], int) else f"[{name(path)}]"
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return f"[[{name(path)}]]"
    return None


def _known_at(path: Path) -> list[str]:
    """What may stand where an unknown table or key of the settings does."""
    if len(path) > 1:
        return list(tables()[str(path[0])].model_fields)
    return [*tables(), "limit", "class", *(str(key) for key, *rest in PLANNED if not rest)]


def _instead(word: str, known: tuple[str, ...]) -> str:
    """What may have been meant by an unknown table or key."""
    if not similar(word, known):
        owners = [f"[{table}]" for table, model in tables().items() if word in model.model_fields]
        owners += ["[[limit]]"] if word in limits.FIELDS else []
        owners += ["[class.NAME]"] if word in classes.FIELDS else []
        if owners:
            return f"it belongs below {' or '.join(owners)}"
    return instead_of_key(word, known)


def _choices(path: Path) -> list[str]:
    table, key = map(str, path[:2])
    return [str(choice) for choice in get_args(tables()[table].model_fields[key].annotation)]
