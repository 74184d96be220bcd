"""A policy as values: classes, limits, what happens on excess. `language` reads it, `compile` packs it.

Nothing here knows TOML or bytes. Every value is checked before it stands here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from ipaddress import IPv4Network, IPv6Network
from typing import Generic, TypeVar

T = TypeVar("T")


class Event(IntEnum):
    """What a limit counts: `on`."""

    PUBLISH = 0
    CONNECT = 1
    SUBSCRIBE = 2
    DELIVER = 3
    WILL = 4
    PACKET = 5
    AUTH_FAILURE = 6


class Action(IntEnum):
    """What happens to what is over a limit, from the mildest to the strictest: of several verdicts the highest wins."""

    PASS = 0
    """No limit is exceeded. Nobody writes it."""
    OBSERVE = 1
    DELAY = 2
    DROP = 3
    REJECT = 4
    DISCONNECT = 5
    BAN = 6


class Priority(IntEnum):
    """How much a class matters when load must be shed."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


class KeyKind(IntEnum):
    """What a budget is counted per."""

    ALL = 0
    CLIENT = 1
    USERNAME = 2
    IP = 3
    LISTENER = 4
    CLASS = 5
    CAPTURE = 6
    TOPIC = 7


@dataclass(frozen=True, slots=True)
class Key:
    """One element of `per`."""

    kind: KeyKind
    v4: int = 32
    """IP: bits of an IPv4 address that count."""
    v6: int = 64
    """IP: bits of an IPv6 address that count."""
    levels: int = 0
    """TOPIC: how many of the first levels count; 0: all."""
    capture: str = ""
    """CAPTURE: its name."""

    def __str__(self) -> str:
        """In one spelling: what is written "ip" is "ip/32/64", so that equal keys are equal text."""
        match self.kind:
            case KeyKind.IP:
                return f"ip/{self.v4}/{self.v6}"
            case KeyKind.TOPIC:
                return f"topic/{self.levels}" if self.levels else "topic"
            case KeyKind.CAPTURE:
                return self.capture
        return self.kind.name.lower()


@dataclass(frozen=True, slots=True)
class Rate:
    """So many per period, and so many at once. Of messages, or of bytes in `bandwidth`."""

    amount: int
    period: Fraction
    """Seconds."""
    burst: int

    @property
    def per_second(self) -> Fraction:
        """The sustained rate."""
        return self.amount / self.period


@dataclass(frozen=True, slots=True)
class ByClass(Generic[T]):
    """A number that may differ by class. None is "none": not limited."""

    default: T | None = None
    classes: Mapping[str, T | None] = field(default_factory=dict)
    """By name of a class; a client in several of them gets the strictest."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a client must be: all keys that are given, any value of each. The empty condition fits every client."""

    client_id: tuple[str, ...] = ()
    """Globs: `*` is any run of characters, `?` any one, `{name}` a run of at least one that is remembered."""
    username: tuple[str, ...] = ()
    """Globs likewise. A client without a user name fits none."""
    cidr: tuple[IPv4Network | IPv6Network, ...] = ()
    listener: tuple[str, ...] = ()
    """Addresses as `gateway.listen` names them."""
    cn: tuple[str, ...] = ()
    """Globs for the common name of the client's certificate."""
    san: tuple[str, ...] = ()
    """Globs for its subject alternative names."""
    version: tuple[int, ...] = ()
    """3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0."""
    clean_start: bool | None = None
    bridge: bool | None = None


@dataclass(frozen=True, slots=True)
class ClientClass:
    """One `[class.NAME]`: fits a client that fits `all_of`, and one of `any_of` unless that is empty."""

    name: str
    all_of: Conditions
    any_of: tuple[Conditions, ...] = ()
    priority: Priority = Priority.NORMAL
    exempt: bool = False
    line: int = 0


@dataclass(frozen=True, slots=True)
class Cases:
    """An action by case. The QoS decides before the version, the version before the default."""

    default: Action
    qos: Mapping[int, Action] = field(default_factory=dict)
    v3: Action | None = None
    v5: Action | None = None

    def of(self, version: int, qos: int = 0) -> Action:
        """The action for a client of this version (3, 4 or 5; 0: not known yet) and a message of this QoS."""
        by_version = {0: None, 5: self.v5}.get(version, self.v3)
        return self.qos.get(qos, self.default if by_version is None else by_version)


@dataclass(frozen=True, slots=True)
class BanTimes:
    """How long a ban lasts: seconds of the first, the factor of each next one, seconds of the longest."""

    first: float = 30.0
    factor: float = 4.0
    longest: float = 3600.0


@dataclass(frozen=True, slots=True)
class Limit:
    """One `[[limit]]`."""

    name: str
    on: Event
    on_excess: Cases
    """With everything that the language says by default filled in: the v3 case of `reject` is there."""
    per: tuple[Key, ...] = (Key(KeyKind.CLIENT),)
    """Without repetitions; never empty."""
    classes: tuple[str, ...] = ()
    """The client must be in one of these; empty: any client."""
    not_classes: tuple[str, ...] = ()
    """The client must be in none of these."""
    who: Conditions = Conditions()
    """`listener`, `cidr`, `username` and `client_id` that stand in the limit itself."""
    topic: tuple[str, ...] = ()
    """Filters of which one must match; empty: any topic."""
    except_topic: tuple[str, ...] = ()
    qos: tuple[int, ...] = ()
    """Empty: any."""
    retain: bool = False
    """Only retained messages."""
    rate: ByClass[tuple[Rate, ...]] = ByClass()
    bandwidth: ByClass[tuple[Rate, ...]] = ByClass()
    concurrent: ByClass[int] = ByClass()
    size: ByClass[int] = ByClass()
    depth: ByClass[int] = ByClass()
    """Levels of a subscription's filter."""
    leading_wildcard: bool = True
    """Whether a subscription's filter may begin with one."""
    max_qos: ByClass[int] = ByClass()
    """The largest QoS that a subscription gets."""
    will_delay: ByClass[float] = ByClass()
    """Seconds that a will is held back before it counts."""
    max_delay: float = 5.0
    """Seconds."""
    then: Cases = Cases(Action.REJECT, {0: Action.REJECT}, v3=Action.DISCONNECT)
    ban: BanTimes = BanTimes()
    conflate: bool = False
    shared: bool = False
    allow_lockout: bool = False
    line: int = 0
    """Where the table begins in the file."""


@dataclass(frozen=True, slots=True)
class Policy:
    """All classes and limits, in the file's order."""

    classes: tuple[ClientClass, ...] = ()
    limits: tuple[Limit, ...] = ()
