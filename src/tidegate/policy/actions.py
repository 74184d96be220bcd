"""What happens on excess: `on_excess`, `then`, `ban`, completed with what the language says by default.

MQTT 3 has no way to refuse a message: for its clients `reject` is a delay, and behind a delay the end of the
connection, unless something else is written. QoS 0 has no answer in any version: it is discarded.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .events import MEANINGS, action_name, event_name
from .fields import Field, Place, choice, plain, read_table
from .model import Action, BanTimes, Cases, Event
from .problems import BadValue, Finding
from .units import Duration

_ACTIONS = {action_name(action): action for action in Action if action != Action.PASS}
_THEN = (Action.DROP, Action.REJECT, Action.DISCONNECT)
_read_action = choice(_ACTIONS)


@dataclass(frozen=True, slots=True)
class Written:
    """Actions as the file writes them: one, or some by case."""

    by_case: Mapping[str, Action]
    is_table: bool


def read_actions(value: object, place: Place) -> Written:
    """An action, or a table of them by case."""
    if not isinstance(value, dict):
        return Written({"default": _read_action(value)}, is_table=False)
    if not value:
        raise BadValue("an empty table", 'write for instance { qos0 = "drop", default = "reject" }')
    return Written(read_table(value, place, CASES), is_table=True)


def read_ban(value: object, place: Place) -> BanTimes:
    """How long bans last."""
    if not isinstance(value, dict):
        raise BadValue("not a table", 'write { first = "30s", factor = 4, max = "1h" }')
    found = read_table(value, place, BAN)
    ban = BanTimes()
    ban = BanTimes(found.get("first", ban.first), found.get("factor", ban.factor), found.get("max", ban.longest))
    if ban.first > ban.longest and set(value) <= set(found):
        raise BadValue("the first ban is longer than the longest", "write a longer `max`, or a shorter `first`")
    return ban


def complete_on_excess(event: Event, written: Written | None) -> Cases:
    """What the limit does to messages that exceed it."""
    default = Cases(MEANINGS[event].on_excess)
    return default if written is None else _complete(written, event, default, v3_reject=Action.DELAY)


def complete_then(event: Event, written: Written | None) -> Cases:
    """What becomes of messages that were delayed for too long."""
    default = MEANINGS[event].then
    return default if written is None else _complete(written, event, default, v3_reject=Action.DISCONNECT)


def reached(cases: Cases, qos: tuple[int, ...] = ()) -> set[Action]:
    """The actions that can happen to messages of these QoS, all when empty."""
    return {cases.of(version, level) for version in (4, 5) for level in qos or (0, 1, 2)}


def after_delay(on_excess: Cases, then: Cases, qos: tuple[int, ...] = ()) -> set[Action]:
    """The actions that can follow a delay likewise; empty when nothing is delayed."""
    cases = [(version, level) for version in (4, 5) for level in qos or (0, 1, 2)]
    return {then.of(*case) for case in cases if on_excess.of(*case) == Action.DELAY}


def _complete(written: Written, event: Event, absent: Cases, v3_reject: Action) -> Cases:
    actions = written.by_case
    if event == Event.CONNECT:  # there is nothing to disconnect yet
        actions = {case: Action.REJECT if action == Action.DISCONNECT else action for case, action in actions.items()}
    default = actions.get("default", absent.default)
    v3 = actions.get("v3")
    qos = {level: actions[f"qos{level}"] for level in (0, 1, 2) if f"qos{level}" in actions}
    if v3 is None and event == Event.PUBLISH and default == Action.REJECT:
        v3 = v3_reject
        qos.setdefault(0, actions.get("v5", Action.REJECT))  # nobody is told of it in any version: it is discarded
    return Cases(default, qos, v3, actions.get("v5"))


def refused(key: str, written: Written, event: Event, qos: tuple[int, ...]) -> Iterator[Finding]:
    """What cannot happen to this event, or to messages of these QoS (all when empty); places below the limit's."""
    meaning = MEANINGS[event]
    is_then = key == "then"
    allowed = [action for action in meaning.actions if not is_then or action in _THEN]
    for case, action in written.by_case.items():
        path = (key, case) if written.is_table else (key,)
        if case.startswith("qos") and not meaning.has_qos:
            yield path, BadValue(f'on = "{event_name(event)}" has no QoS', "write cases default, v3 and v5 only")
        elif action not in allowed:
            names = " or ".join(f'"{action_name(one)}"' for one in allowed)
            what = "after a delay" if is_then else f'for on = "{event_name(event)}"'
            yield path, BadValue(f"not possible {what}", f"write {names}")
        elif qos != (0,) and (bad := _unspeakable(case, action, event, is_then=is_then)):
            yield path, bad


def _unspeakable(case: str, action: Action, event: Event, *, is_then: bool) -> BadValue | None:
    """What the protocol has no way to do to a message of QoS 1 or 2."""
    if event == Event.PUBLISH and action == Action.REJECT and case == "v3":
        return BadValue(
            "a client of MQTT 3 cannot be told of a refusal",
            f'write {"" if is_then else """"delay", """}"drop" or "disconnect"',
        )
    if event == Event.PUBLISH and action == Action.REJECT and case in ("qos1", "qos2"):
        return BadValue(
            "a client of MQTT 3 cannot be told of a refusal, and the QoS decides before the version",
            f'leave {case} out and write default = "reject", with a v3 case',
        )
    if event == Event.DELIVER and action == Action.DROP and case != "qos0":
        fix = '{ qos0 = "drop" }' if is_then else '{ qos0 = "drop", default = "delay" }'
        return BadValue("only QoS 0 can be dropped on its way to a client", f"write {fix}")
    return None


_CASE = {
    "default": ("`delay`; `ban` on `auth_failure`", "All other cases.", "reject"),
    "v3": ("the default case", "Clients of MQTT 3.1 and 3.1.1.", "drop"),
    "v5": ("the default case", "Clients of MQTT 5.", "reject"),
    "qos0": ("as the version says", "Messages of QoS 0. The QoS decides before the version.", "drop"),
    "qos1": ("as the version says", "Messages of QoS 1.", "delay"),
    "qos2": ("as the version says", "Messages of QoS 2.", "delay"),
}
CASES = {
    case: Field(plain(_read_action), "action", absent, description, example)
    for case, (absent, description, example) in _CASE.items()
}


def _factor(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 100:
        raise BadValue("not a number from 1 to 100", "write for instance 4; 1 keeps all bans equally long")
    return float(value)


def _field(read: Any, kind: str, absent: str, description: str, example: object) -> Field:
    return Field(plain(read), kind, absent, description, example)


_TIME = Duration("1s", "8760h")
BAN = {
    "first": _field(_TIME, _TIME.kind, '`"30s"`', "How long the first ban lasts.", "30s"),
    "factor": _field(_factor, "number, 1 to 100", "`4`", "Each next one lasts so many times as long.", 4),
    "max": _field(_TIME, _TIME.kind, '`"1h"`', "The longest.", "1h"),
}
