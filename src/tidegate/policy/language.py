"""Reads the language of limits: `[class.NAME]` and `[[limit]]` of a document, as a `model.Policy`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from ..engine.format import MAX_CAPTURES, MAX_CLASSES, MAX_COMPONENTS, MAX_LIMITS
from .classes import captures, read_class
from .fields import Known, Place
from .limits import read_limit
from .model import ClientClass, Event, Key, Limit, Policy
from .problems import Finding
from .stages import Stage, named, stage_of
from .toml import Document

TABLES = ("limit", "class")
"""Tables of the file that this module reads."""


def read_policy(document: Document, listeners: Sequence[str] | None) -> tuple[Policy, list[Finding]]:
    """The policy of all that is right, and all that is wrong.

    `listeners`: gateway.listen as text; None when that is wrong itself.
    """
    findings: list[Finding] = []
    known = Known(None if listeners is None else tuple(listeners))
    classes, known = _read_classes(document, Place(known, ("class",), findings))
    limits = _read_limits(document, Place(known, ("limit",), findings), {one.name: one for one in classes})
    return Policy(classes, limits), findings


def _read_classes(document: Document, place: Place) -> tuple[tuple[ClientClass, ...], Known]:
    tables = document.values.get("class", {})
    if not isinstance(tables, dict):
        place.wrong("not a table", "write [class.NAME] in a line of its own, its keys below")
        return (), replace(place.known, classes=None, captures=None)
    if len(tables) > MAX_CLASSES:
        place.wrong(f"{len(tables)} classes", f"write at most {MAX_CLASSES}")
    classes: list[ClientClass] = []
    names: set[str] = set()
    for name, table in islice(tables.items(), MAX_CLASSES):
        here = place.at(name)
        one = read_class(table, here)
        if one is None:
            continue
        classes.append(replace(one, line=document.line_of(here.path)))
        fitting = len(names) <= MAX_CAPTURES
        names.update(captures(one))
        if fitting and len(names) > MAX_CAPTURES:
            here.wrong(f"{len(names)} names of captures up to here", f"use at most {MAX_CAPTURES} in all classes")
    complete = len(classes) == len(tables)
    known = replace(place.known, classes=tuple(tables), captures=tuple(sorted(names)) if complete else None)
    return tuple(classes), known


def _read_limits(document: Document, place: Place, classes: Mapping[str, ClientClass]) -> tuple[Limit, ...]:
    tables = document.values.get("limit", [])
    if not isinstance(tables, list):
        place.wrong("not a list of tables", "write [[limit]] in a line of its own, its keys below")
        return ()
    if len(tables) > MAX_LIMITS:
        place.wrong(f"{len(tables)} limits", f"write at most {MAX_LIMITS}")
    limits: list[Limit] = []
    keys: set[Key] = set()
    for number, table in enumerate(tables[:MAX_LIMITS]):
        here = place.at(number)
        limit = read_limit(table, here)
        if limit is None:
            continue
        limits.append(replace(limit, line=document.line_of(here.path)))
        _cases_at_accept(limit, table, here, classes)
        fitting = len(keys) <= MAX_COMPONENTS
        keys.update(limit.per)
        if fitting and len(keys) > MAX_COMPONENTS:
            here.at("per").wrong(
                f"{len(keys)} different keys up to here", f"use at most {MAX_COMPONENTS} in all limits together"
            )
    _same_names(document, place, tables[:MAX_LIMITS])
    return tuple(limits)


def _cases_at_accept(
    limit: Limit, table: Mapping[str, object], place: Place, classes: Mapping[str, ClientClass]
) -> None:
    """Note each case by version of a limit that is decided before a client has said its version."""
    if limit.on is not Event.CONNECT or not classes.keys() >= named(limit) or stage_of(limit, classes) is Stage.LATE:
        return
    for key in ("on_excess", "then"):
        cases = table.get(key)
        for case in ("v3", "v5"):
            if isinstance(cases, dict) and case in cases:
                place.at(key, case).wrong(
                    "the limit is decided when a client is accepted, before its version is known",
                    "write one action for all versions",
                )


def _same_names(document: Document, place: Place, tables: Sequence[object]) -> None:
    """Note each limit whose name another has, with the line of the other."""
    by_name: dict[str, list[int]] = {}
    for number, table in enumerate(tables):
        if isinstance(table, dict) and isinstance(name := table.get("name"), str):
            by_name.setdefault(name, []).append(number)
    for numbers in by_name.values():
        first, *others = [place.at(number, "name") for number in numbers]
        if others:
            first.wrong(f"used again in line {document.line_of(others[0].path)}", "give each limit its own name")
        for other in others:
            other.wrong(f"already used in line {document.line_of(first.path)}", "give each limit its own name")
