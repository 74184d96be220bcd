"""What a policy may say, but its author hardly meant: warnings, for `policy check` and the start."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

from ..mqtt.topics import share_of
from .actions import after_delay, reached
from .events import BY_CLASS, CHANGES
from .explain import tell
from .fields import elements
from .limits import measures
from .model import Action, ByClass, ClientClass, Conditions, Event, KeyKind, Limit, Policy, Priority
from .problems import BadValue, Finding, Path, Problem
from .stages import Stage, decided_at_accept, is_placed, stage_of
from .toml import Document
from .units import duration_text, size_text

_PROOFS = ("username", "cidr", "listener", "cn", "san")
"""Conditions that a client cannot simply claim to fulfil."""
_REFUSALS = {Action.DROP, Action.REJECT, Action.DISCONNECT}
_LARGEST_WILL = 1 << 17
"""Bytes of a will as a packet: its topic and its payload have a length of two bytes each."""
_MOST_PAYLOAD_OF_WILL = 65535
_MOST_NAMES = 3
"""Limits that one warning names."""
_NAMES = (KeyKind.CLIENT, KeyKind.USERNAME, KeyKind.CAPTURE)


@dataclass(frozen=True, slots=True)
class _Written:
    """A limit, its table as written, and where that stands."""

    limit: Limit
    table: dict[str, Any]
    path: Path
    classes: Mapping[str, ClientClass]
    """All of the policy, by name."""
    max_packet: int

    def entries(self, key: str) -> Iterator[tuple[Path, str, Any]]:
        """Place, class (or "default") and value of each number of a measure."""
        numbers: ByClass[Any] = measures(self.limit).get(key, ByClass())
        path = (*self.path, key)
        if not isinstance(raw := self.table.get(key), dict):
            yield path, "default", numbers.default
            return
        for name in raw:
            yield (*path, name), name, numbers.default if name == "default" else numbers.classes.get(name)


def warnings(policy: Policy, document: Document, max_packet: int) -> list[Problem]:
    """All warnings about the policy of a document that is valid. `max_packet`: bytes."""
    findings = [*_claimed(policy), *_same_conditions(policy), *_exempt_too_late(policy), *_new_names(policy)]
    classes = {one.name: one for one in policy.classes}
    tables = document.values.get("limit", [])
    for number, (limit, table) in enumerate(
        zip(policy.limits, tables if isinstance(tables, list) else [], strict=True)
    ):
        written = _Written(limit, table, ("limit", number), classes, max_packet)
        for look in _CAUTIONS:
            findings += look(written)
    findings.sort(key=lambda finding: document.line_of(finding[0]))
    return [tell(document, path, bad) for path, bad in findings]


def _claimed(policy: Policy) -> Iterator[Finding]:
    for one in policy.classes:
        if (one.exempt or one.priority == Priority.CRITICAL) and not _is_proven(one):
            what = "exempt" if one.exempt else "critical"
            yield (
                ("class", one.name),
                BadValue(
                    f"{what}, though any client can claim to be in it",
                    "add a condition that is proven: username, cidr, listener or cn",
                ),
            )


def _exempt_too_late(policy: Policy) -> Iterator[Finding]:
    """What holds for whom the broker has not accepted yet cannot go by the name that he claims."""
    earlier = {limit.name for limit in decided_at_accept(policy)}
    names = [
        limit.name
        for limit in policy.limits
        if (limit.name in earlier or limit.on is Event.AUTH_FAILURE) and reached(limit.on_excess) != {Action.OBSERVE}
    ]
    for one in policy.classes:
        if names and one.exempt and not is_placed(one):
            yield (
                ("class", one.name),
                BadValue(
                    f"exempt, but not from {_list(names)}, until the broker has accepted a client",
                    "for these, exempt a class that has only cidr or listener",
                ),
            )


def _list(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return f"{', '.join(names[:_MOST_NAMES])}{f' and {more} more' if more > 0 else ''}"


def _new_names(policy: Policy) -> Iterator[Finding]:
    """Whoever guesses invents names as well."""
    limits = [(number, limit) for number, limit in enumerate(policy.limits) if limit.on is Event.AUTH_FAILURE]
    by_name = [any(key.kind in _NAMES for key in limit.per) for _, limit in limits]
    if limits and all(by_name):
        for number, _ in limits:
            yield (
                ("limit", number, "per"),
                BadValue("who guesses with ever new names is never over it", 'add a limit on auth_failure per "ip"'),
            )


def _is_proven(one: ClientClass) -> bool:
    if _proves(one.all_of):
        return True
    return bool(one.any_of) and all(_proves(conditions) for conditions in one.any_of)


def _proves(conditions: Conditions) -> bool:
    return any(pattern != "*" for key in _PROOFS for pattern in getattr(conditions, key))


def _same_conditions(policy: Policy) -> Iterator[Finding]:
    first: dict[object, ClientClass] = {}
    for one in policy.classes:
        same = first.setdefault((_normal(one.all_of), frozenset(map(_normal, one.any_of))), one)
        if same is not one:
            fix = "merge the two, or tell them apart"
            yield ("class", one.name), BadValue(f"the same clients as [class.{same.name}] in line {same.line}", fix)


def _normal(conditions: Conditions) -> tuple[object, ...]:
    values = (getattr(conditions, one.name) for one in fields(conditions))
    return tuple(frozenset(value) if isinstance(value, tuple) else value for value in values)


def _debt(written: _Written) -> Iterator[Finding]:
    sizes = [size for _, _, size in written.entries("size")]
    largest = min(written.max_packet, _LARGEST_WILL) if written.limit.on is Event.WILL else written.max_packet
    if written.limit.size.default is not None and None not in sizes:
        largest = min(largest, max(sizes))
    for path, _, rates in written.entries("bandwidth"):
        for rate in rates or ():
            if rate.burst < largest:
                yield (
                    path,
                    BadValue(
                        f"after a packet of {size_text(largest)}, larger than the burst, everything waits for its debt",
                        f'write "… burst {size_text(largest)}", or limit the `size`',
                    ),
                )
                break


def _size_is_no_limit(written: _Written) -> Iterator[Finding]:
    if written.limit.on == Event.DELIVER:  # the broker may send what no client could
        return
    for path, _, size in written.entries("size"):
        if size is not None and written.limit.on is Event.WILL and size >= _MOST_PAYLOAD_OF_WILL:
            yield path, BadValue(f"no will has more than {_MOST_PAYLOAD_OF_WILL} bytes", "write a smaller one")
        elif size is not None and size >= written.max_packet:
            yield (
                path,
                BadValue(f"gateway.max_packet is {size_text(written.max_packet)} already", "write a smaller one"),
            )


def _all_none(written: _Written) -> Iterator[Finding]:
    for key in BY_CLASS:
        if key in written.table and all(value is None for _, _, value in written.entries(key)):
            yield (*written.path, key), BadValue("limits nobody", "remove it, or give it a number")


def _contradiction(written: _Written) -> Iterator[Finding]:
    limit = written.limit
    for place, name in elements(written.table.get("class", [])):
        if name in limit.classes and name in limit.not_classes:
            yield (*written.path, "class", *place), BadValue("excluded as well", f'remove "{name}" or "!{name}"')


def _all_exempt(written: _Written) -> Iterator[Finding]:
    names = written.limit.classes
    if names and all(written.classes[name].exempt for name in names):
        yield (*written.path, "class"), BadValue("whoever is in it is exempt", "remove the limit, or the exemption")


def _no_effect(written: _Written) -> Iterator[Finding]:
    limit = written.limit
    for key in BY_CLASS:
        if not isinstance(table := written.table.get(key), dict):
            continue
        for path, name, _ in written.entries(key):
            if name in limit.not_classes:
                yield path, BadValue(f'no effect: `class` has "!{name}"', "remove it")
            elif name != "default" and written.classes[name].exempt:
                yield path, BadValue(f"no effect: [class.{name}] is exempt", "remove it")
            elif name == "default" and limit.classes and set(limit.classes) <= set(table):
                yield path, BadValue("no effect: each class of the limit has its own", "remove it")


def _excepted(written: _Written) -> Iterator[Finding]:
    limit = written.limit
    everything = "#" in limit.except_topic
    if everything and not limit.topic:
        yield (*written.path, "except_topic"), BadValue("excepts every topic", "remove the limit, or name topics")
    for place, text in elements(written.table.get("topic", [])):
        if everything or text in limit.except_topic:
            yield (*written.path, "topic", *place), BadValue("excepted by except_topic", "remove one of the two")


def _window_of_nothing(written: _Written) -> Iterator[Finding]:
    limit = written.limit
    if limit.on in (Event.PUBLISH, Event.DELIVER) and limit.qos == (0,) and "concurrent" in written.table:
        yield (
            (*written.path, "concurrent"),
            BadValue(
                "only QoS 1 and 2 are acknowledged: a window never holds QoS 0",
                "remove it, or write qos = [1, 2]",
            ),
        )


def _waits_in_vain(written: _Written) -> Iterator[Finding]:
    limit = written.limit
    if not after_delay(limit.on_excess, limit.then, limit.qos) & _REFUSALS:
        return
    for path, _, rates in written.entries("rate"):
        pause = max((rate.period / rate.amount for rate in rates or ()), default=Fraction())
        if float(pause) > limit.max_delay:
            yield (
                path,
                BadValue(
                    f"what is over it waits up to {duration_text(pause)} for its turn, but no longer than max_delay, "
                    f"{duration_text(limit.max_delay)}: most of it gets `then`",
                    "write a longer max_delay or a faster rate, or another action than delay",
                ),
            )


def _never_told(written: _Written) -> Iterator[Finding]:
    limit = written.limit
    if limit.on is not Event.WILL or not {"rate", "bandwidth"} & measures(limit).keys():
        return
    if Action.DROP in after_delay(limit.on_excess, limit.then, limit.qos):
        yield (
            (*written.path, "then"),
            BadValue(
                "of many who go at once, only those are told of whose turn comes within max_delay, "
                f"{duration_text(limit.max_delay)}",
                "remove it: then they are told of all the same; or write a longer max_delay",
            ),
        )


def _only_watched(written: _Written) -> Iterator[Finding]:
    """A limit that observes changes nothing, also where nothing exceeds it."""
    if reached(written.limit.on_excess, written.limit.qos) == {Action.OBSERVE}:
        for key in CHANGES:
            if key in written.table:
                yield (
                    (*written.path, key),
                    BadValue("no effect: a limit that observes changes nothing", "give it a limit of its own"),
                )


def _never_leads(written: _Written) -> Iterator[Finding]:
    limit = written.limit
    filters = [share_of(text)[1] for text in limit.topic]
    if not limit.leading_wildcard and filters and not any(text[0] in "+#" for text in filters):
        yield (
            (*written.path, "leading_wildcard"),
            BadValue("no filter that begins with a wildcard is within these topics", "remove it, or `topic`"),
        )


def _size_is_read(written: _Written) -> Iterator[Finding]:
    """A limit that could be decided at accept, but for the size that is in it too."""
    limit = written.limit
    if limit.on is not Event.CONNECT or limit.size == ByClass() or not {"rate", "concurrent"} & measures(limit).keys():
        return
    sizeless = replace(limit, size=ByClass())
    if stage_of(sizeless, written.classes) is Stage.EARLY:
        yield (
            (*written.path, "size"),
            BadValue("makes all of the limit wait for CONNECT, to know its size", "give it a limit of its own"),
        )


def _one_connection(written: _Written) -> Iterator[Finding]:
    limit = written.limit
    if limit.on is not Event.CONNECT or reached(limit.on_excess) == {Action.OBSERVE}:
        return
    for path, _, number in written.entries("concurrent"):
        if number == 1:
            yield (
                path,
                BadValue(
                    "who comes back is kept out until his former connection is known to be dead",
                    "write at least 2",
                ),
            )


_CAUTIONS: tuple[Callable[[_Written], Iterator[Finding]], ...] = (
    _debt, _size_is_no_limit, _all_none, _contradiction, _all_exempt, _no_effect, _excepted, _window_of_nothing,
    _waits_in_vain, _never_told, _only_watched, _never_leads, _size_is_read, _one_connection,
)  # fmt: skip
