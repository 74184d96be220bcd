"""The validator's errors in words, each with its place and what to do."""

from difflib import get_close_matches
from typing import get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from .problems import BadValue, Path, Problem, name
from .schema import PLANNED, Tables
from .toml import Document

_LONGEST_GUESS = 64
"""Characters of a word for which a similar one is looked for; the search is quadratic."""


def tables() -> dict[str, type[BaseModel]]:
    """The tables of the schema by name."""
    kinds = {key: field.annotation for key, field in Tables.model_fields.items()}
    return {key: kind for key, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def explain(document: Document, error: ErrorDetails) -> Problem:
    """One error of `Tables.model_validate(document.values)`."""
    path: Path = error["loc"]
    reason = error.get("ctx", {}).get("error")
    if isinstance(reason, BadValue):
        return document.problem(path, reason.text, reason.fix)
    if error["type"] == "extra_forbidden":
        return _unknown(document, path)
    if error["type"] == "literal_error":
        known = _choices(path)
        similar = _similar(str(document.value_of(path)), known)
        quoted = [f'"{choice}"' for choice in ([similar] if similar else known)]
        fix = f"did you mean {quoted[0]}?" if similar else f"write {' or '.join(quoted)}"
        return document.problem(path, "unknown value", fix)
    if error["type"] == "model_type":
        return document.problem(path, "not a table", f"write [{name(path)}] in a line of its own, its keys below")
    return document.problem(path, error["msg"], "see docs/configuration.md")


def _unknown(document: Document, path: Path) -> Problem:
    value = document.value_of(path)
    key = name(path)
    shown: object | None = value
    word = "key"
    if isinstance(value, dict):
        key, shown, word = f"[{key}]", None, "table"
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        key, shown, word = f"[[{key}]]", None, "table"
    if path in PLANNED:
        text, fix = PLANNED[path], "remove it"
    else:
        text, fix = f"unknown {word}", _instead(path)
    return Problem(document.file, document.line_of(path), key, shown, text, fix)


def _instead(path: Path) -> str:
    """What may have been meant by an unknown table or key."""
    *parents, last = map(str, path)
    known = tables()
    here = (
        list(known[parents[0]].model_fields) if parents else [*known, *(str(key) for key, *rest in PLANNED if not rest)]
    )
    owners = [f"[{table}]" for table, model in known.items() if last in model.model_fields]
    if owners and not _similar(last, here):
        return f"it belongs below {' or '.join(owners)}"
    return _guess(last, here)


def _guess(word: str, known: list[str]) -> str:
    similar = _similar(word, known)
    return f"did you mean `{similar}`?" if similar else f"known are {', '.join(known)}"


def _similar(word: str, known: list[str]) -> str | None:
    if len(word) > _LONGEST_GUESS:
        return None
    return next(iter(get_close_matches(word.lower(), known, n=1)), None)


def _choices(path: Path) -> list[str]:
    table, key = map(str, path[:2])
    return [str(choice) for choice in get_args(tables()[table].model_fields[key].annotation)]
