"""When a limit on `connect` is decided: at accept, or when the client has said who it is.

At accept a refusal costs next to nothing, and nobody has claimed anything yet. So every limit that can be decided there
is: one for which the address and the listener say all that it asks. All others wait for CONNECT. They are asked before
the broker sees it, and charged when the broker has accepted it, as until then a name is only claimed.
"""

from collections.abc import Iterator, KeysView, Mapping
from enum import IntEnum

from .model import ByClass, ClientClass, Conditions, Event, KeyKind, Limit, Policy


class Stage(IntEnum):
    """In a compiled limit on `connect`, the bit of `qos` that is set (native/engine.h)."""

    EARLY = 0
    """At accept, before a byte is read."""
    LATE = 1
    """When CONNECT has been read."""


_PLACES = (KeyKind.ALL, KeyKind.IP, KeyKind.LISTENER)
"""What the address and the listener say by themselves."""


def stage_of(limit: Limit, classes: Mapping[str, ClientClass]) -> Stage:
    """Of a limit on `connect`; `classes` by name, those that the limit names at least."""
    return Stage.LATE if [*awaited(limit, classes)] else Stage.EARLY


def awaited(limit: Limit, classes: Mapping[str, ClientClass]) -> Iterator[str]:
    """What the limit asks that only CONNECT says, in words; nothing where it is decided at accept."""
    yield from (f'per "{key}"' for key in limit.per if key.kind not in _PLACES)
    if not is_of_place(limit.who):
        yield "client_id or username"
    yield from (f"class {name}" for name in named(limit) if not is_placed(classes[name]))
    if limit.size != ByClass():
        yield "the size of its packet"


def named(limit: Limit) -> KeysView[str]:
    """The classes on which it depends whether or how much it limits, each once."""
    by_class = (limit.rate.classes, limit.bandwidth.classes, limit.concurrent.classes, limit.size.classes)
    return dict.fromkeys((*limit.classes, *limit.not_classes, *(name for one in by_class for name in one))).keys()


def decided_at_accept(policy: Policy) -> list[Limit]:
    """The limits on `connect` that are, in the file's order."""
    classes = {one.name: one for one in policy.classes}
    return [limit for limit in policy.limits if limit.on is Event.CONNECT and stage_of(limit, classes) is Stage.EARLY]


def is_of_place(conditions: Conditions) -> bool:
    """Whether the address and the listener say if a client fits."""
    return conditions == Conditions(cidr=conditions.cidr, listener=conditions.listener)


def is_placed(one: ClientClass) -> bool:
    """Whether they say if a client is in a class."""
    return all(map(is_of_place, (one.all_of, *one.any_of)))
