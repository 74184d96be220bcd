"""What is seen of a limit that is exceeded, in words."""

from collections.abc import Collection
from dataclasses import dataclass

from ..policy.events import CHANGES, action_name
from ..policy.model import Action, BanTimes, Event, Limit
from ..policy.stages import Stage
from ..policy.units import duration_text

_ACKS = {1: "PUBACK", 2: "PUBREC"}
_MQTT_3_1 = 3


@dataclass(frozen=True, slots=True)
class Excess:
    """What was too much for a limit."""

    limit: Limit
    budgets: Collection[str]
    """What the client has of rate, bandwidth, concurrent and so on there."""
    version: int
    """The client's."""
    qos: int = 0
    stage: Stage | None = None
    """Of a limit on connect."""

    @property
    def known(self) -> int:
        """The version by which the action is chosen."""
        return 0 if self.stage is Stage.EARLY else self.version

    @property
    def action(self) -> Action:
        """What happens."""
        return self.limit.on_excess.of(self.known, self.qos)

    @property
    def then(self) -> Action:
        """What happens when it has been delayed for too long."""
        return self.limit.then.of(self.known, self.qos)

    @property
    def counts(self) -> bool:
        """Whether a window is a reason to wait."""
        counted = self.qos > 0 or self.stage is not None or self.limit.on is Event.SUBSCRIBE
        return "concurrent" in self.budgets and counted

    @property
    def refills(self) -> bool:
        """Whether it is known when the next would pass."""
        return bool({"rate", "bandwidth"} & set(self.budgets))


def outcome(excess: Excess) -> str:
    """All that the client sees."""
    limit = excess.limit
    acknowledged = limit.on in (Event.PUBLISH, Event.DELIVER)
    if acknowledged and excess.qos == 0 and list(excess.budgets) == ["concurrent"]:
        return "never happens: QoS 0 is not acknowledged, so a window does not count it"
    if set(excess.budgets) <= set(CHANGES):
        return f"never happens: nothing exceeds {' and '.join(excess.budgets)}"
    if excess.action is not Action.DELAY:
        return _wire(excess, excess.action)
    until = [f"one {_ENDS.get(limit.on, 'in flight is acknowledged')}"] if excess.counts else []
    until += ["its budget allows it"] if excess.refills else []
    told = f"{action_name(excess.then)}: {_wire(excess, excess.then)}"
    if not until:
        return f"as waiting makes nothing smaller, at once {told}"
    held = f"{_HELD.get(limit.on, 'held back')} until {' and '.join(until)}"
    if limit.on is Event.WILL:
        held += ", unless its client comes back before"
    if excess.then is Action.DELAY:
        kept = "; of each topic, only the newest is kept" if limit.conflate and excess.qos == 0 else ""
        return f"{held}, however long that takes{kept}"
    return f"{held}, at most {duration_text(limit.max_delay)}; then {told}"


_ENDS = {Event.CONNECT: "connection ends", Event.SUBSCRIBE: "subscription ends"}
"""What makes room in a window."""
_HELD = {
    Event.CONNECT: "has to wait, and is not read,",
    Event.PACKET: "has to wait, and its client is not read,",
}


def _wire(excess: Excess, action: Action) -> str:
    """What is seen of an action but `delay`."""
    limit = excess.limit
    if action is Action.PASS:
        return "it is sent all the same"
    if action is Action.OBSERVE:
        return f"{'gets its answer' if limit.on is Event.AUTH_FAILURE else 'passes'}, and is counted"
    seen = {
        Event.CONNECT: _refused,
        Event.AUTH_FAILURE: _guessed,
        Event.SUBSCRIBE: _unsubscribed,
        Event.DELIVER: _lost,
        Event.WILL: _lost,
    }.get(limit.on, _discarded)(excess, action)
    return seen if action is not Action.BAN else f"{seen}; {_banned(limit)} is banned {_times(limit.ban)}"


def _discarded(excess: Excess, action: Action) -> str:
    """Of a message."""
    match action:
        case Action.DROP if excess.qos:
            return f"discarded, and acknowledged ({_ACKS[excess.qos]}) as if it had arrived"
        case Action.REJECT if excess.qos:
            reason = f"with the reason{' and retry-after-ms' if excess.refills else ''}"
            return f"{_ACKS[excess.qos]} 0x97 (quota exceeded), {reason}"
        case Action.DROP | Action.REJECT:
            return "discarded, and nothing is said: QoS 0 is never answered"
    if excess.version == 5:
        return "DISCONNECT 0x96 (message rate too high) with the reason, and the connection is closed"
    return "the connection is closed without a word: MQTT 3 has none for it"


def _unsubscribed(excess: Excess, action: Action) -> str:
    """Of one filter of a SUBSCRIBE."""
    if action is not Action.REJECT:
        if excess.version == 5 and not excess.refills:
            return "DISCONNECT 0x97 (quota exceeded) with the reason, and the connection is closed"
        return _discarded(excess, action)
    if excess.version == _MQTT_3_1:
        return "the connection is closed: MQTT 3.1 cannot refuse a subscription"
    if excess.version < 5:
        return "SUBACK 0x80 (failure) for this filter; the others of its packet are not concerned"
    reason = f"with the reason{' and retry-after-ms' if excess.refills else ''}"
    return f"SUBACK 0x97 (quota exceeded) for this filter, {reason}; the others of its packet are not concerned"


def _lost(excess: Excess, _: Action) -> str:
    """Of a message on its way to a client, or a will."""
    if excess.limit.on is Event.DELIVER:
        return "discarded: this client does not get it"
    return "never sent: the broker is told that the client has gone on purpose"


def _refused(excess: Excess, action: Action) -> str:
    """Of a client that connects."""
    if action is Action.DROP:
        return "the connection is closed without an answer"
    answer = "its CONNECT is answered by" if excess.stage is Stage.EARLY else "it is answered by"
    return f"{answer} {_connack(excess, action)}"


def _connack(excess: Excess, action: Action) -> str:
    if excess.version < 5:
        return "CONNACK 5 (not authorized)" if action is Action.BAN else "CONNACK 3 (server unavailable)"
    if action is Action.BAN:
        return "CONNACK 0x8A (banned)"
    codes = [
        ("CONNACK 0x9F (connection rate exceeded) with the reason and retry-after-ms", excess.refills),
        ("CONNACK 0x97 (quota exceeded) with the reason", "concurrent" in excess.budgets),
        ("CONNACK 0x95 (packet too large) with the reason", "size" in excess.budgets),
    ]
    return " or ".join(code for code, is_possible in codes if is_possible)


def _guessed(excess: Excess, action: Action) -> str:
    """Of a client that the broker has refused."""
    if action is Action.BAN:
        return f"in place of the broker's answer it gets {_connack(excess, action)}"
    return "the connection is closed without the broker's answer"


def _times(ban: BanTimes) -> str:
    first = duration_text(ban.first)
    if ban.factor == 1 or ban.first == ban.longest:
        return f"for {first}"
    return f"for {first}, {ban.factor:g} times as long each next time, at most {duration_text(ban.longest)}"


def _banned(limit: Limit) -> str:
    return "whoever has the same " + " and ".join(str(key).removesuffix("/32/64") for key in limit.per)
