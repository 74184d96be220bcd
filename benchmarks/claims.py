"""What is promised beside what was measured."""

from collections.abc import Sequence
from typing import NamedTuple


class Claim(NamedTuple):
    """One promise, and whether it held."""

    what: str
    promised: str
    measured: str
    holds: bool


def at_most(what: str, bound: float, value: float, unit: str) -> Claim:
    """A number that must not be larger."""
    return Claim(what, f"at most {bound:g} {unit}", f"{value:.4g} {unit}", value <= bound)


def within(what: str, least: float, most: float, value: float, unit: str) -> Claim:
    """A number that must be neither smaller nor larger."""
    return Claim(what, f"{least:g} to {most:g} {unit}", f"{value:.4g} {unit}", least <= value <= most)


def exactly(what: str, promised: object, measured: object) -> Claim:
    """Something that must be as it should."""
    return Claim(what, str(promised), str(measured), promised == measured)


def none(what: str, found: Sequence[object]) -> Claim:
    """Something of which there must be none; the first few are shown."""
    shown = ", ".join(map(str, found[:3])) + (", ..." if len(found) > 3 else "")
    return Claim(what, "none", f"{len(found)}: {shown}" if found else "none", not found)


def holds(what: str, true: bool) -> Claim:
    """Something that is so or is not."""
    return Claim(what, "yes", "yes" if true else "no", true)


def table(claims: Sequence[Claim]) -> str:
    """A line for each."""
    wide = max(len(claim.what) for claim in claims)
    said = max(len(claim.promised) for claim in claims)
    return "\n".join(
        f"  {'PASS' if claim.holds else 'FAIL'}  {claim.what:{wide}s}  {claim.promised:{said}s}  {claim.measured}"
        for claim in claims
    )
