"""What this version reads but does not enforce yet."""

from collections.abc import Iterator

from .actions import reached
from .events import action_name
from .explain import tell
from .model import Action, Conditions, Event, Limit, Policy
from .problems import BadValue, Finding, Path, Problem
from .toml import Document

ENFORCED = """\
Enforced are limits on `publish`, with every action but `ban`. What else is described here (the other events, `ban`,
`shared`, certificates) is read and checked, and told as `not enforced yet`."""
"""For the documentation."""

_NOT_YET = "not enforced yet"


def unenforced(policy: Policy, document: Document) -> list[Problem]:
    """All that the policy of a valid document demands in vain, in the order of lines."""
    findings = [finding for one in policy.classes for finding in _certificates(("class", one.name), one.all_of)]
    for one in policy.classes:
        for number, conditions in enumerate(one.any_of):
            findings += _certificates(("class", one.name, "any", number), conditions)
    for number, limit in enumerate(policy.limits):
        findings += _limit(("limit", number), limit, document)
    findings.sort(key=lambda finding: document.line_of(finding[0]))
    return [tell(document, path, bad) for path, bad in findings]


def _certificates(path: Path, conditions: Conditions) -> Iterator[Finding]:
    for key in ("cn", "san"):
        if getattr(conditions, key):
            yield (*path, key), BadValue(f"{_NOT_YET}: no listener takes certificates", "remove it")


def _limit(path: Path, limit: Limit, document: Document) -> Iterator[Finding]:
    if limit.on != Event.PUBLISH:
        yield (*path, "on"), BadValue(_NOT_YET, 'remove the limit; on = "publish" is enforced')
        return
    if limit.shared:
        yield (*path, "shared"), BadValue(f"{_NOT_YET}: each gateway has its own budget", "remove it")
    if Action.BAN in reached(limit.on_excess, limit.qos):
        yield from _bans((*path, "on_excess"), document)


def _bans(path: Path, document: Document) -> Iterator[Finding]:
    """Where a limit on publish says `ban`, which it never does by default."""
    word = action_name(Action.BAN)
    written = document.value_of(path)
    places = (
        [(*path, case) for case, action in written.items() if action == word] if isinstance(written, dict) else [path]
    )
    for place in places:
        yield place, BadValue(_NOT_YET, 'write "disconnect"')
