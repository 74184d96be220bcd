"""Play a scenario direct and through, and compare what was seen."""

from collections.abc import Callable

from support.cast import Cast
from support.client import Library, Record
from support.owned import without_owned
from support.sides import Sides


def records_of(play: Callable[[Cast], None], library: Library, version: int, port: int) -> list[Record]:
    """What the scenario's clients saw at one port."""
    cast = Cast(library, version, port)
    try:
        play(cast)
    finally:
        cast.end()
    assert cast.records, "a scenario that saw nothing compares nothing"
    return cast.records


def same_both_ways(play: Callable[[Cast], None], library: Library, version: int, sides: Sides) -> list[Record]:
    """Assert that both runs saw the same; what they saw."""
    direct = records_of(play, library, version, sides.direct)
    through = records_of(play, library, version, sides.through)
    assert without_owned(through) == without_owned(direct)
    return direct
