"""What means something for which event: keys, actions, and what is assumed when nothing is written."""

from dataclasses import dataclass

from .model import Action, Cases, Event, Key, KeyKind

_A = Action

_REFUSED = Cases(Action.REJECT)
_BY_CLIENT = Key(KeyKind.CLIENT)
_BY_IP = Key(KeyKind.IP)

EVERYWHERE = frozenset((
    "name", "on", "class", "listener", "cidr", "username", "client_id", "per", "on_excess", "max_delay", "then", "ban",
    "shared", "allow_lockout",
))  # fmt: skip
"""Keys that have a meaning for every event."""
BY_CLASS = ("rate", "bandwidth", "concurrent", "size", "depth", "max_qos", "will_delay")
"""Numbers that may differ by class."""
MEASURES = (*BY_CLASS, "leading_wildcard")
"""Of which a limit must have one."""
CHANGES = ("max_qos", "will_delay")
"""Those that nothing exceeds: they change what they meet."""

_TOPICS = ("topic", "except_topic")
_MESSAGES = (*_TOPICS, "qos", "retain")
_PUBLISHED = ("rate", "bandwidth", "concurrent", "size")


@dataclass(frozen=True, slots=True)
class Meaning:
    """One event, as the language sees it."""

    keys: tuple[str, ...]
    """Beyond those that mean something everywhere."""
    actions: tuple[Action, ...]
    on_excess: Action = Action.DELAY
    then: Cases = _REFUSED
    """What becomes of what was delayed for too long."""
    per: Key = _BY_CLIENT

    @property
    def has_topics(self) -> bool:
        """Whether there is a topic to be counted per."""
        return "topic" in self.keys

    @property
    def has_qos(self) -> bool:
        """Whether there are cases by QoS."""
        return "qos" in self.keys


MEANINGS = {
    Event.PUBLISH: Meaning(
        (*_MESSAGES, *_PUBLISHED),
        (_A.DELAY, _A.DROP, _A.REJECT, _A.DISCONNECT, _A.BAN, _A.OBSERVE),
        # A client of 3.x cannot be told of a refusal, and what it was promised to wait must end.
        then=Cases(_A.REJECT, {0: _A.REJECT}, v3=_A.DISCONNECT),
    ),
    Event.CONNECT: Meaning(
        ("rate", "concurrent", "size"),
        (_A.DELAY, _A.DROP, _A.REJECT, _A.DISCONNECT, _A.BAN, _A.OBSERVE),
        per=_BY_IP,
    ),
    Event.SUBSCRIBE: Meaning(
        (*_TOPICS, "rate", "concurrent", "depth", "leading_wildcard", "max_qos"),
        (_A.DELAY, _A.REJECT, _A.DISCONNECT, _A.BAN, _A.OBSERVE),
    ),
    Event.DELIVER: Meaning(
        (*_MESSAGES, *_PUBLISHED, "conflate"),
        (_A.DELAY, _A.DROP, _A.OBSERVE),
        # The broker has promised the others: they wait for as long as it takes.
        then=Cases(_A.DELAY, qos={0: _A.DROP}),
    ),
    Event.WILL: Meaning(
        (*_MESSAGES, "rate", "bandwidth", "size", "will_delay"),
        (_A.DELAY, _A.DROP, _A.OBSERVE),
        # Who has not come back by then is gone.
        then=Cases(_A.PASS),
    ),
    Event.PACKET: Meaning(
        ("rate", "bandwidth", "size"),
        (_A.DELAY, _A.DISCONNECT, _A.BAN, _A.OBSERVE),
        then=Cases(_A.DISCONNECT),
    ),
    Event.AUTH_FAILURE: Meaning(
        ("rate",), (_A.BAN, _A.DISCONNECT, _A.OBSERVE), on_excess=_A.BAN, per=_BY_IP
    ),
}  # fmt: skip


def event_name(event: Event) -> str:
    """As `on` writes it."""
    return event.name.lower()


def action_name(action: Action) -> str:
    """As `on_excess` writes it."""
    return action.name.lower()
