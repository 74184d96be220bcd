"""Reads `[[limit]]`: one table of the file as one `model.Limit`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .actions import complete_on_excess, complete_then, read_actions, read_ban
from .classes import read_conditions, read_listener_name
from .events import BY_CLASS, CHANGES, MEANINGS, MEASURES, event_name
from .fields import Field, Place, check_class, choice, one_or_more, plain, read_bool, read_label, read_table
from .keys import MAX_KEYS, read_per
from .model import Action, ByClass, Cases, Event, Limit
from .patterns import MAX_LEVELS, read_filter, read_network, read_plain_pattern
from .problems import BadValue
from .rates import MAX_RATES, by_class, read_bandwidth, read_rate, several
from .rules import RULES
from .units import Duration, Size

MAX_CONCURRENT = 1_000_000
"""In flight or open at once: more than one gateway is meant to serve."""

_EVENTS = {event_name(event): event for event in Event}
_SIZE = Size("1B", "256MiB")
_DELAY = Duration("1ms", "1h")
_WILL = Duration("1ms", "24h")
_BOOL = "`true` or `false`"


def _read_class(value: object, place: Place) -> str:
    if not isinstance(value, str):
        raise BadValue("not the name of a class", 'write "NAME" of a [class.NAME], or "!NAME"')
    check_class(value.removeprefix("!"), place.known)
    return value


def _read_qos(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 2:
        raise BadValue("not a QoS", "write 0, 1 or 2, without quotes")
    return value


def _read_retain(value: object) -> bool:
    if value is not True:
        raise BadValue("only true means something", "remove it: messages count whether retained or not")
    return True


def _read_leading(value: object) -> bool:
    if value is not False:
        raise BadValue("only false means something", "remove it: filters may begin with + and #")
    return False


def _read_depth(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_LEVELS:
        raise BadValue("not a number of levels", f"write a whole number from 1 to {MAX_LEVELS}")
    return value


def _read_max_qos(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1:
        raise BadValue("not a QoS below 2", "write 0 or 1, without quotes")
    return value


def _read_count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_CONCURRENT:
        raise BadValue("not a number of them", f"write a whole number from 1 to {MAX_CONCURRENT}")
    return value


FIELDS = {
    "name": Field(
        plain(read_label),
        "up to 64 letters, digits, `_`, `.`, `-`",
        "required",
        "What metrics, events and answers call the limit; no two have the same.",
        "telemetry",
    ),
    "on": Field(
        plain(choice(_EVENTS)),
        ", ".join(f'`"{word}"`' for word in _EVENTS),
        '`"publish"`',
        "What is counted, see below.",
        "publish",
    ),
    "class": Field(
        one_or_more(_read_class),
        'name of a `[class.NAME]`, or list; `"!NAME"`: not in it',
        "everybody",
        "Whom the limit concerns: who is in one of these classes, and in none of those with `!`.",
        ["sensor", "!oncall"],
    ),
    "listener": Field(
        one_or_more(read_listener_name),
        "address, or list",
        "any",
        "As in a class.",
        "unix:/run/tidegate/mqtt.sock",
    ),
    "cidr": Field(
        one_or_more(plain(read_network)), "address or network, or list", "any", "As in a class.", "10.20.0.0/16"
    ),
    "username": Field(
        one_or_more(plain(read_plain_pattern)), "glob, or list", "any, or none", "As in a class, without captures.", "*"
    ),
    "client_id": Field(
        one_or_more(plain(read_plain_pattern)), "glob, or list", "any", "As in a class, without captures.", "sensor-*"
    ),
    "topic": Field(
        one_or_more(plain(read_filter)),
        "topic filter, or list",
        "any",
        "Where: at least one filter matches. On `subscribe`, one that covers all that the subscription asks for; also "
        "`$share/NAME/FILTER`, for shared subscriptions alone, of any name with `$share/+/FILTER`.",
        "plant/+/telemetry/#",
    ),
    "except_topic": Field(
        one_or_more(plain(read_filter)), "likewise", "none", "Not where one of these matches.", "plant/+/telemetry/test"
    ),
    "qos": Field(one_or_more(plain(_read_qos)), "0, 1 or 2, or list", "any", "Only messages of this QoS.", [0, 1]),
    "retain": Field(plain(_read_retain), "`true`", "all messages", "Only retained messages.", True),
    "per": Field(
        read_per,
        '`"client"`, `"username"`, `"ip"`, `"ip/24"`, `"ip/24/56"`, `"topic"`, `"topic/2"`, `"class"`, `"listener"`, '
        f'`"all"`, a capture, or list of up to {MAX_KEYS}',
        '`"client"`; `"ip"` on `connect` and `auth_failure`',
        "Whose budget is charged; a list has one for each combination. `ip/24/56` counts IPv4 addresses by their first "
        "24 bits and IPv6 addresses by 56 (`ip`: 32 and 64), `topic/2` topics by their first two levels. Who lacks "
        "the capture is not counted; all who have no user name share one budget.",
        ["client", "topic/2"],
    ),
    "rate": Field(
        by_class(several(read_rate)),
        f"`N/UNIT burst N`, list of up to {MAX_RATES}, or table by class",
        "not limited",
        "So many per `ms`, `s`, `min`, `h`, `d`, or a number of them (`5/10s`), and so many at once: without `burst`, "
        "the number itself. All of a list must hold.",
        {"default": ["20/s burst 40", "600/min"], "sensor": "5/10s", "oncall": "none"},
    ),
    "bandwidth": Field(
        by_class(several(read_bandwidth)),
        f"`SIZE/UNIT burst SIZE`, list of up to {MAX_RATES}, or table by class",
        "not limited",
        "The same for bytes of whole packets, up to `10GiB/s`. A packet larger than the burst passes when nothing has "
        "been used, and what follows waits for it.",
        "64KiB/s burst 1MiB",
    ),
    "concurrent": Field(
        by_class(plain(_read_count)),
        f"1 to {MAX_CONCURRENT}, or table by class",
        "not limited",
        "`publish`, `deliver`: messages of QoS 1 and 2 in flight; `connect`: open connections; `subscribe`: "
        "subscriptions held.",
        50,
    ),
    "size": Field(
        by_class(plain(_SIZE)),
        f"{_SIZE.kind}, or table by class",
        "not limited",
        "The largest payload (`publish`, `deliver`, `will`), else packet.",
        "64KiB",
    ),
    "depth": Field(
        by_class(plain(_read_depth)),
        f"1 to {MAX_LEVELS}, or table by class",
        "not limited",
        "The most levels of a subscription's filter, without `$share/NAME/`.",
        6,
    ),
    "leading_wildcard": Field(
        plain(_read_leading),
        "`false`",
        "allowed",
        "No filter of a subscription that begins with `+` or `#`, behind `$share/NAME/` neither.",
        False,
    ),
    "max_qos": Field(
        by_class(plain(_read_max_qos)),
        "0 or 1, or table by class",
        "not limited",
        "Subscriptions get this QoS at most: a larger one is made smaller, never refused.",
        1,
    ),
    "will_delay": Field(
        by_class(plain(_WILL)),
        f"{_WILL.kind}, or table by class",
        "none",
        "So long a will is held back; the delay that the client asks for counts. Who is back by then was never gone.",
        "20s",
    ),
    "on_excess": Field(
        read_actions,
        "action, or table by case",
        '`"delay"`; `"ban"` on `auth_failure`',
        "What happens to what exceeds the limit, see below.",
        {"qos0": "drop", "v3": "delay", "default": "reject"},
    ),
    "max_delay": Field(plain(_DELAY), _DELAY.kind, '`"5s"`', "How long a `delay` may take; then comes `then`.", "2s"),
    "then": Field(
        read_actions,
        "`drop`, `reject` or `disconnect`, or table by case",
        "as `on_excess` allows, see below",
        "What happens to what has been delayed for too long.",
        "drop",
    ),
    "ban": Field(
        read_ban,
        "table of `first`, `factor` and `max`",
        '`{ first = "30s", factor = 4, max = "1h" }`',
        "How long a `ban` lasts, see below.",
        {"first": "1min", "factor": 2, "max": "24h"},
    ),
    "conflate": Field(
        plain(read_bool),
        _BOOL,
        "`false`",
        "Of delayed messages of QoS 0, keep the newest of each topic, until its turn comes however long that takes.",
        True,
    ),
    "shared": Field(plain(read_bool), _BOOL, "`false`", "One budget over all gateways of a cluster.", False),
    "allow_lockout": Field(
        plain(read_bool),
        _BOOL,
        "`false`",
        "Allow a `ban`, or a `connect` limit that refuses, without `ip` in `per`: who claims another's name can then "
        "lock him out.",
        True,
    ),
}


_AS_READ = (
    "topic", "except_topic", "qos", "retain", *MEASURES, "max_delay", "ban", "conflate", "shared", "allow_lockout",
)  # fmt: skip
"""Keys that `Limit` has under the same name."""


def read_limit(value: object, place: Place) -> Limit | None:
    """The limit whose table this is; None when something is wrong with it, which is noted."""
    before = len(place.findings)
    if not isinstance(value, dict):
        place.wrong("not a table", "write [[limit]] in a line of its own, its keys below")
        return None
    found = read_table(value, place, FIELDS)
    if "name" not in value:
        place.wrong("no name", 'give it one that no other has: name = "…"')
    if "on" in value and "on" not in found:  # nothing else can be judged
        return None
    event = found.get("on", Event.PUBLISH)
    limit = _limit(found, event)
    for keys, rule in RULES:
        if not any(key in value and key not in found for key in keys):
            for path, bad in rule(limit, value, found):
                place.findings.append(((*place.path, *path), bad))
    return limit if len(place.findings) == before else None


def _limit(found: Mapping[str, Any], event: Event) -> Limit:
    meaning = MEANINGS[event]
    names: tuple[str, ...] = found.get("class", ())
    return replace(
        Limit(found.get("name", ""), event, complete_on_excess(event, found.get("on_excess"))),
        then=Cases(Action.DELAY) if found.get("conflate") else complete_then(event, found.get("then")),
        per=found.get("per", (meaning.per,)),
        classes=tuple(name for name in names if not name.startswith("!")),
        not_classes=tuple(name[1:] for name in names if name.startswith("!")),
        who=read_conditions({key: found[key] for key in ("listener", "cidr", "username", "client_id") if key in found}),
        **{key: found[key] for key in _AS_READ if key in found},
    )


def can_be_exceeded(limit: Limit) -> bool:
    """Whether it does more than change what it meets."""
    return not limit.leading_wildcard or any(key not in CHANGES for key in measures(limit))


def measures(limit: Limit) -> dict[str, ByClass[Any]]:
    """The numbers that it has, by key."""
    kinds: dict[str, ByClass[Any]] = {key: getattr(limit, key) for key in BY_CLASS}
    return {key: numbers for key, numbers in kinds.items() if numbers != ByClass()}
