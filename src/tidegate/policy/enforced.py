"""What this version reads but does not enforce yet."""

from collections.abc import Iterator

from .explain import tell
from .model import Conditions, Limit, Policy
from .problems import BadValue, Finding, Path, Problem
from .toml import Document

ENFORCED = """\
What is described here is enforced, but for `shared` and conditions on certificates: these are read and checked, and
told as `not enforced yet`."""
"""For the documentation."""

_NOT_YET = "not enforced yet"


def unenforced(policy: Policy, document: Document) -> list[Problem]:
    """All that the policy of a valid document demands in vain, in the order of lines."""
    findings = [finding for one in policy.classes for finding in _certificates(("class", one.name), one.all_of)]
    for one in policy.classes:
        for number, conditions in enumerate(one.any_of):
            findings += _certificates(("class", one.name, "any", number), conditions)
    for number, limit in enumerate(policy.limits):
        findings += _limit(("limit", number), limit)
    findings.sort(key=lambda finding: document.line_of(finding[0]))
    return [tell(document, path, bad) for path, bad in findings]


def _certificates(path: Path, conditions: Conditions) -> Iterator[Finding]:
    for key in ("cn", "san"):
        if getattr(conditions, key):
            yield (*path, key), BadValue(f"{_NOT_YET}: no listener takes certificates", "remove it")


def _limit(path: Path, limit: Limit) -> Iterator[Finding]:
    if limit.shared:
        yield (*path, "shared"), BadValue(f"{_NOT_YET}: each gateway has its own budget", "remove it")
