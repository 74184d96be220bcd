"""`tidegate policy check`: what is wrong with a file, what is doubtful, and what this version does not enforce."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ..policy.cautions import warnings
from ..policy.enforced import unenforced
from ..policy.in_plugin import InPlugin, in_plugin
from ..policy.problems import Problem, SettingsError, printable
from ..policy.settings import load
from .policy_compile import compiled


@dataclass(frozen=True)
class Checked:
    """What is wrong, doubtful, or not enforced yet in a file."""

    problems: list[Problem]
    warnings: list[Problem]
    unenforced: list[Problem]
    limits: int
    classes: int
    untold: int = 0
    """Problems left out: more than anybody reads."""
    in_plugin: list[InPlugin] | None = None
    """How the plugin enforces each limit; None: nobody asked."""


def check(file: Path, *, for_plugin: bool = False) -> Checked:
    """Read and compile the file."""
    try:
        settings = load(file)
        compiled(settings)
    except SettingsError as error:
        return Checked(list(error.problems), [], [], 0, 0, error.untold)
    policy = settings.policy
    doubts = list(warnings(policy, settings.document, settings.gateway.max_packet))
    if for_plugin:
        found = in_plugin(policy, settings.document)
        return Checked([], doubts, [], len(policy.limits), len(policy.classes), 0, found)
    return Checked([], doubts, list(unenforced(policy, settings.document)), len(policy.limits), len(policy.classes))


def exit_code(result: Checked) -> int:
    """2: wrong; 1: right, but some of it would not be enforced."""
    if result.problems:
        return 2
    return int(bool(result.unenforced) or any(not limit.enforced for limit in result.in_plugin or ()))


def check_json(result: Checked) -> str:
    """The same for machines."""
    return json.dumps(
        {
            "problems": [_as_object(problem) for problem in result.problems],
            "untold": result.untold,
            "warnings": [_as_object(problem) for problem in result.warnings],
            "unenforced": [_as_object(problem) for problem in result.unenforced],
            "limits": result.limits,
            "classes": result.classes,
            **({} if result.in_plugin is None else {"in_plugin": list(map(_limit_as_object, result.in_plugin))}),
        },
        indent=2,
    )


def show_check(result: Checked, out: Console, err: Console) -> None:
    """Errors to `err`, as `serve` would tell them; the rest to `out`."""
    if result.problems:
        text = str(SettingsError(result.problems, result.untold))
        err.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    for line in (*lines(result), *_excess(result)):
        out.print(line, highlight=False, soft_wrap=True)
    verdict = "well-formed, but serve refuses it" if result.unenforced else "good"
    if missing := sum(not limit.enforced for limit in result.in_plugin or ()):
        verdict = f"well-formed, but the plugin does not enforce {missing} of them"
    limits = f"{result.limits} limit{'' if result.limits == 1 else 's'}"
    classes = f"{result.classes} class{'' if result.classes == 1 else 'es'}"
    out.print(f"{verdict}: {limits}, {classes}", highlight=False, soft_wrap=True)


def lines(result: Checked) -> Iterator[str]:
    """What is doubtful or not enforced, in the file's order, as markup; FILE:LINE first, where editors look for it."""
    told = [(problem, "warning: ") for problem in result.warnings] + [(problem, "") for problem in result.unenforced]
    for limit in result.in_plugin or ():
        told += [(problem, "warning: ") for problem in limit.changes]
    for problem, kind in sorted(told, key=lambda item: item[0].line):
        place = f"{printable(problem.file)}:{problem.line}"
        yield f"{escape(place)}: [yellow]{kind}[/]{escape(str(problem).removeprefix(f'{place}: '))}"


def _excess(result: Checked) -> Iterator[str]:
    for limit in result.in_plugin or ():
        how = "; or ".join(limit.excess) if limit.enforced else "[yellow]not enforced[/]"
        yield f"{escape(limit.name)}: {limit.event.name.lower()}: {how}"


def _limit_as_object(limit: InPlugin) -> dict[str, object]:
    return {
        "name": limit.name,
        "line": limit.line,
        "on": limit.event.name.lower(),
        "enforced": limit.enforced,
        "excess": list(limit.excess),
        "changes": [_as_object(problem) for problem in limit.changes],
    }


def _as_object(problem: Problem) -> dict[str, object]:
    return {
        "file": problem.file,
        "line": problem.line,
        "key": problem.key,
        "text": problem.text,
        "fix": problem.fix,
    }
