"""Which known word may have been meant by one that is not known."""

from collections.abc import Collection
from difflib import get_close_matches

from .problems import show

_LONGEST_GUESS = 64
"""Characters of a word for which a similar one is looked for; the search is quadratic."""
_MOST_LISTED = 30
"""Known words that are listed: all keys of a limit, but not 256 classes."""


def similar(word: str, known: Collection[str]) -> str | None:
    """The known word that is most like this one, whatever its case; None when none is."""
    if len(word) > _LONGEST_GUESS:
        return None
    by_lower = {one.lower(): one for one in known}
    return next((by_lower[found] for found in get_close_matches(word.lower(), by_lower, n=1)), None)


def instead_of_key(word: str, known: Collection[str]) -> str:
    """What to do about an unknown key or table."""
    found = similar(word, known)
    return f"did you mean `{found}`?" if found else f"known are {_listed(known, ', ')}"


def instead_of_value(value: object, known: Collection[str]) -> str:
    """What to do about a value that is none of the known words."""
    found = similar(value, known) if isinstance(value, str) else None
    return f"did you mean {show(found)}?" if found else f"write {_listed([show(one) for one in known], ' or ')}"


def _listed(known: Collection[str], separator: str) -> str:
    return separator.join([*list(known)[:_MOST_LISTED], *(["…"] if len(known) > _MOST_LISTED else [])])
