"""What this version reads but does not enforce yet."""

from collections.abc import Iterator

from .actions import reached
from .events import action_name
from .explain import tell
from .model import Action, Conditions, Event, Limit, Policy
from .problems import BadValue, Finding, Path, Problem
from .toml import Document

ENFORCED = """\
Enforced are limits on `publish` by `rate`, `bandwidth` and `size`, with the actions `drop`, `reject`, `disconnect` and
`observe`. What else is described here is read and checked, and told as `not enforced yet`."""
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
    if document.value_of((*path, "concurrent")) is not None:
        yield (*path, "concurrent"), BadValue(_NOT_YET, "remove it, or limit the rate")
    if limit.shared:
        yield (*path, "shared"), BadValue(f"{_NOT_YET}: each gateway has its own budget", "remove it")
    for action in (Action.DELAY, Action.BAN):
        if action in reached(limit.on_excess, limit.qos):
            yield _action(path, action, limit, document)


def _action(path: Path, action: Action, limit: Limit, document: Document) -> Finding:
    written = document.value_of((*path, "on_excess"))
    name = action_name(action)
    if written is None:
        return path, BadValue(f'on_excess is "{name}" by default, which is {_NOT_YET}', _WHOLE)
    path = (*path, "on_excess")
    if not isinstance(written, dict):
        if written == name:
            return path, BadValue(_NOT_YET, _WHOLE)
        return path, BadValue(f'the v3 case is "{name}" by default, which is {_NOT_YET}', _WHOLE)
    case = next((case for case, word in written.items() if word == name), None)
    if case is None:
        case = "v3" if limit.on_excess.v3 == action else "default"
        return path, BadValue(f'the {case} case is "{name}" by default, which is {_NOT_YET}', _FIX[case])
    return (*path, case), BadValue(_NOT_YET, _FIX[case])


_WHOLE = 'write on_excess = { v3 = "drop", default = "reject" }, or v3 = "disconnect"'
_FIX = {
    "default": 'write default = "drop", or default = "reject" with v3 = "drop" or "disconnect"',
    "v3": 'write v3 = "drop" or "disconnect"',
    "v5": 'write v5 = "drop", "reject" or "disconnect"',
    "qos0": 'write qos0 = "drop", "reject" or "disconnect"',
    "qos1": 'write qos1 = "drop" or "disconnect"',
    "qos2": 'write qos2 = "drop" or "disconnect"',
}
