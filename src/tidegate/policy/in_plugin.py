"""What becomes of each limit in the plugin for Mosquitto, which cannot make anybody wait and sees less than a gateway.

plugin/loading.c and deciding.c do it; tests/property/test_plugin.py holds them to what is said here.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from .actions import reached
from .events import action_name
from .explain import tell
from .limits import measures
from .model import Action, ClientClass, Conditions, Event, KeyKind, Limit, Policy
from .problems import BadValue, Finding, Path, Problem
from .toml import Document

NEVER = frozenset((Event.DELIVER, Event.PACKET))
"""Events that no plugin is told of in a way that lets it refuse."""
_KICKED = "the connection is closed within a tenth of a second (MQTT 5: 0x98)"
_REFUSED = "refused; MQTT 5 is told 0x97 (by Mosquitto 2.0: 0x87), 3.x gets an ordinary acknowledgement"
_NO_ENTRY = "refused; MQTT 5 is told 0x9F (by Mosquitto 2.0: 0x87), 3.x 5"
_NOT_SUBSCRIBED = "not subscribed; MQTT 5 is told 0x87, 3.1.1 0x80"
_COUNTED = "counted, nothing else"
_SEEN = {
    Event.PUBLISH: {
        Action.DROP: _REFUSED,
        Action.REJECT: _REFUSED,
        Action.DISCONNECT: f"refused, and {_KICKED}",
        Action.BAN: f"refused and banned, and {_KICKED}",
    },
    Event.CONNECT: {
        Action.DROP: "closed without an answer",
        Action.REJECT: _NO_ENTRY,
        Action.DISCONNECT: _NO_ENTRY,
        Action.BAN: "refused and banned; MQTT 5 is told 0x8A (by Mosquitto 2.0: 0x87), 3.x 5",
    },
    Event.SUBSCRIBE: {
        Action.REJECT: _NOT_SUBSCRIBED,
        Action.DISCONNECT: f"not subscribed, and {_KICKED}",
        Action.BAN: f"not subscribed and banned, and {_KICKED}",
    },
    Event.WILL: {Action.DROP: "not published"},
    Event.AUTH_FAILURE: {
        Action.DISCONNECT: "nothing: the broker has closed it already",
        Action.BAN: "banned",
    },
}
_WITHOUT_EFFECT = {
    Event.PUBLISH: {"concurrent": "the broker tells no plugin of acknowledgements"},
    Event.CONNECT: {"size": "no plugin sees the packet"},
    Event.SUBSCRIBE: {
        "concurrent": "no plugin sees all subscriptions end",
        "max_qos": "no plugin can lower what is asked for",
    },
    Event.WILL: {"will_delay": "no plugin can hold a will back"},
}
_UNSEEN = {
    "listener": "by which listener somebody came",
    "san": "subject alternative names",
    "bridge": "who is a bridge",
}
_GATEWAY = "use a gateway"


@dataclass(frozen=True, slots=True)
class InPlugin:
    """One limit, as the plugin has it."""

    name: str
    line: int
    event: Event
    enforced: bool
    excess: tuple[str, ...]
    """What happens to what is over it, the mildest first; empty when it is not enforced."""
    changes: tuple[Problem, ...]
    """What is otherwise than in a gateway."""


def action_in_plugin(event: Event, action: Action) -> Action:
    """What the plugin does where the policy says `action`."""
    if action != Action.DELAY:
        return action
    return Action.DROP if event in (Event.WILL, Event.DELIVER) else Action.REJECT


def in_plugin(policy: Policy, document: Document) -> list[InPlugin]:
    """All limits of a valid document, in its order."""
    classes = {one.name: one for one in policy.classes}
    found = []
    for number, limit in enumerate(policy.limits):
        changes = list(_changes(("limit", number), limit, classes))
        enforced = _is_enforced(limit, classes)
        actions = sorted({action_in_plugin(limit.on, action) for action in reached(limit.on_excess, limit.qos)})
        seen = _SEEN.get(limit.on, {})
        excess = tuple(dict.fromkeys(seen.get(action, _COUNTED) for action in actions)) if enforced else ()
        problems = tuple(tell(document, path, bad) for path, bad in changes)
        found.append(InPlugin(limit.name, limit.line, limit.on, enforced, excess, problems))
    return found


def _is_enforced(limit: Limit, classes: dict[str, ClientClass]) -> bool:
    without = _WITHOUT_EFFECT.get(limit.on, {})
    has_measure = not limit.leading_wildcard or any(key not in without for key in measures(limit))
    return limit.on not in NEVER and has_measure and not _meets_nobody(limit, classes)


def _meets_nobody(limit: Limit, classes: dict[str, ClientClass]) -> bool:
    never = [name for name in limit.classes if not _can_fit(classes[name])]
    return any(_hidden(limit.who)) or (limit.classes != () and len(never) == len(limit.classes))


def _can_fit(one: ClientClass) -> bool:
    return not any(_hidden(one.all_of)) and (not one.any_of or any(not any(_hidden(any_of)) for any_of in one.any_of))


def _hidden(conditions: Conditions) -> Iterator[str]:
    """Conditions that nobody fulfils in a plugin. (That somebody is no bridge is true of all.)"""
    for key in _UNSEEN:
        if getattr(conditions, key):
            yield key


def _changes(path: Path, limit: Limit, classes: dict[str, ClientClass]) -> Iterator[Finding]:
    if limit.on in NEVER:
        yield (*path, "on"), BadValue(f"not enforced: no plugin can limit {limit.on.name.lower()}", _GATEWAY)
        return
    for key, why in _WITHOUT_EFFECT.get(limit.on, {}).items():
        if key in measures(limit):
            yield (*path, key), BadValue(f"has no effect: {why}", _GATEWAY)
    for key in _hidden(limit.who):
        yield (*path, key), BadValue(f"never met: no plugin sees {_UNSEEN[key]}", _GATEWAY)
    for name in limit.classes:
        if not _can_fit(classes[name]):
            hidden = next(_all_hidden(classes[name]))
            text = f"class {name} has nobody: no plugin sees {_UNSEEN[hidden]}"
            yield (*path, "class"), BadValue(text, _GATEWAY)
    if any(key.kind is KeyKind.LISTENER for key in limit.per):
        yield (*path, "per"), BadValue("all listeners count together: no plugin sees them", _GATEWAY)
    if _is_enforced(limit, classes) and Action.DELAY in reached(limit.on_excess, limit.qos):
        yield (*path, "on_excess"), _not_delayed(limit)


def _not_delayed(limit: Limit) -> BadValue:
    why = "nobody can be made to wait inside the broker"
    if all(limit.on_excess.of(5, level) is not Action.DELAY for level in limit.qos or (0, 1, 2)):
        # Also where nobody has written it: of `reject` the language makes a delay for those who cannot be told.
        text = f"refuses clients of MQTT 3 as well, whom a gateway would delay: {why}"
        return BadValue(text, f'write {{ default = "{action_name(limit.on_excess.default)}", v3 = "drop" }} to say so')
    instead = "drops" if limit.on is Event.WILL else "refuses"
    text = f"{instead} what a gateway would delay: {why}"
    return BadValue(text, f'write "{action_name(action_in_plugin(limit.on, Action.DELAY))}" to say so')


def _all_hidden(one: ClientClass) -> Iterator[str]:
    yield from _hidden(one.all_of)
    for conditions in one.any_of:
        yield from _hidden(conditions)
