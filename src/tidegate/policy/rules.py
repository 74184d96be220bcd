"""What must hold between the keys of one limit that are each valid alone."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .actions import Written, after_delay, reached, refused
from .events import CHANGES, EVERYWHERE, MEANINGS, MEASURES, event_name
from .fields import elements
from .model import Action, Event, Key, KeyKind, Limit
from .problems import BadValue, Finding

Rule = Callable[[Limit, Mapping[str, object], Mapping[str, Any]], Iterator[Finding]]
"""Looks at a limit, its table as written, and what was read of it; yields places below the limit's."""

_IDENTITY = (KeyKind.CLIENT, KeyKind.USERNAME, KeyKind.CAPTURE)
_SOMEBODY = (*_IDENTITY, KeyKind.IP)


def _meaningless(limit: Limit, table: Mapping[str, object], found: Mapping[str, Any]) -> Iterator[Finding]:
    mine = MEANINGS[limit.on].keys
    for key in found:
        if key not in EVERYWHERE and key not in mine:
            events = [f'"{event_name(event)}"' for event, meaning in MEANINGS.items() if key in meaning.keys]
            fix = f"remove it; it is for on = {' or '.join(events)}"
            yield (key,), BadValue(f'means nothing for on = "{event_name(limit.on)}"', fix)


def _limits_nothing(limit: Limit, table: Mapping[str, object], found: Mapping[str, Any]) -> Iterator[Finding]:
    if not any(key in table for key in MEASURES):
        own = [key for key in MEANINGS[limit.on].keys if key in MEASURES]
        yield (), BadValue("limits nothing", f"give it {' or '.join(own)}")


def _never_exceeded(limit: Limit, table: Mapping[str, object], found: Mapping[str, Any]) -> Iterator[Finding]:
    mine = [key for key in MEASURES if key in table]
    if not mine or not all(key in CHANGES for key in mine):
        return
    for key in ("per", "on_excess", "max_delay", "then", "ban"):
        if key in found:
            others = [other for other in MEANINGS[limit.on].keys if other in MEASURES and other not in CHANGES]
            fix = f"remove it, or give the limit {' or '.join(others)}"
            yield (key,), BadValue(f"means nothing here: nothing exceeds {' and '.join(mine)}", fix)


def _too_large(limit: Limit, table: Mapping[str, object], found: Mapping[str, Any]) -> Iterator[Finding]:
    """What is too large does not get smaller by waiting; where nothing else can become of it, it was no limit."""
    if "size" not in found or limit.on not in (Event.DELIVER, Event.WILL):
        return
    if limit.conflate:
        yield ("size",), BadValue("what is too large waits for ever beside conflate", "give it a limit of its own")
    elif {Action.DELAY, Action.PASS} & after_delay(limit.on_excess, limit.then, limit.qos):
        if limit.on is Event.WILL:
            yield ("size",), BadValue("a will that is too large is sent all the same", 'write on_excess = "drop"')
        else:
            text = "only QoS 0 can be dropped on its way to a client, and nothing gets smaller by waiting"
            yield ("size",), BadValue(text, "write qos = 0 in this limit")


def _conflates(limit: Limit, table: Mapping[str, object], found: Mapping[str, Any]) -> Iterator[Finding]:
    if not limit.conflate or limit.on is not Event.DELIVER:
        return
    for key in ("max_delay", "then"):
        if key in found:
            yield (key,), BadValue("means nothing beside conflate: the newest waits for its turn", "remove it")
    if 0 not in (limit.qos or (0,)) or Action.DELAY not in reached(limit.on_excess, (0,)):
        fix = 'remove it, or write on_excess = "delay", and QoS 0 among those of `qos`'
        yield ("conflate",), BadValue("no QoS 0 is delayed", fix)
    elif not {"rate", "bandwidth"} & table.keys():
        yield ("conflate",), BadValue("no QoS 0 is delayed: a window does not count it", "give it rate or bandwidth")


def _shares(limit: Limit, table: Mapping[str, object], found: Mapping[str, Any]) -> Iterator[Finding]:
    if limit.on == Event.SUBSCRIBE:
        return
    for key in ("topic", "except_topic"):
        for place, text in elements(table.get(key, ())):
            if isinstance(text, str) and text.startswith("$share/"):
                yield (
                    (key, *place),
                    BadValue("no message has a topic like that", "write the filter that stands behind $share/NAME/"),
                )


def _no_topic(limit: Limit, table: Mapping[str, object], found: Mapping[str, Any]) -> Iterator[Finding]:
    if MEANINGS[limit.on].has_topics:
        return
    for place, text in elements(table.get("per", ())):
        if isinstance(text, str) and text.partition("/")[0] == "topic":
            yield ("per", *place), BadValue(f'on = "{event_name(limit.on)}" has no topic', "count by something else")


def _actions(limit: Limit, table: Mapping[str, object], found: Mapping[str, Any]) -> Iterator[Finding]:
    for key in ("on_excess", "then"):
        written: Written | None = found.get(key)
        if written is not None:
            yield from refused(key, written, limit.on, limit.qos)


def _never_delayed(limit: Limit, table: Mapping[str, object], found: Mapping[str, Any]) -> Iterator[Finding]:
    if Action.DELAY in _actions_of(limit):
        return
    for key in ("max_delay", "then"):
        if key in found:
            yield (key,), BadValue("nothing is delayed", 'remove it, or write on_excess = "delay"')


def _bans(limit: Limit, table: Mapping[str, object], found: Mapping[str, Any]) -> Iterator[Finding]:
    bans = Action.BAN in _actions_of(limit)
    if "ban" in found and not bans:
        yield ("ban",), BadValue("nobody is banned", 'remove it, or write on_excess = "ban"')
    if bans and not any(key.kind in _SOMEBODY for key in limit.per):
        yield _blamed(found), BadValue("there is nobody to ban", 'count per "ip", or ["client", "ip"]')


def _lockout(limit: Limit, table: Mapping[str, object], found: Mapping[str, Any]) -> Iterator[Finding]:
    actions = _actions_of(limit)
    bans = Action.BAN in actions
    refuses = limit.on == Event.CONNECT and actions != {Action.OBSERVE}
    if not bans and not refuses:
        if "allow_lockout" in found:
            fix = "remove it; it is for bans, and for connect limits that refuse"
            yield ("allow_lockout",), BadValue("nobody can be locked out", fix)
        return
    names = [str(key) for key in limit.per if key.kind in _IDENTITY]
    if names and not limit.allow_lockout and all(key.kind != KeyKind.IP for key in limit.per):
        what = "a ban" if bans else "a refused connection"
        own = ", ".join(f'"{_written(key)}"' for key in limit.per)
        yield (
            _blamed(found),
            BadValue(
                f"{what} by {' and '.join(names)} alone: who claims another's name locks him out",
                f'write per = [{own}, "ip"], or allow_lockout = true',
            ),
        )


def _actions_of(limit: Limit) -> set[Action]:
    return reached(limit.on_excess, limit.qos)


def _blamed(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The key that says what is counted per, or else the one that makes this matter."""
    return next(((key,) for key in ("per", "on_excess", "on") if key in found), ())


def _written(key: Key) -> str:
    return str(key).removesuffix("/32/64")


_PER = frozenset({"on_excess", "per", "qos", "allow_lockout"})
RULES: tuple[tuple[frozenset[str], Rule], ...] = (
    (frozenset(), _meaningless),
    (frozenset(), _limits_nothing),
    (frozenset(), _never_exceeded),
    (frozenset({"qos", "on_excess", "then"}), _too_large),
    (frozenset({"qos", "on_excess"}), _conflates),
    (frozenset(), _shares),
    (frozenset(), _no_topic),
    (frozenset({"qos"}), _actions),
    (frozenset({"on_excess", "qos"}), _never_delayed),
    (_PER | {"ban"}, _bans),
    (_PER, _lockout),
)
"""The keys that a rule looks at, and the rule: it is left out when one of them is wrong by itself."""
