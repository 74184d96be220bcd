"""SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (sections 3.8 to 3.11)."""

from dataclasses import dataclass, field
from typing import Self

from .errors import Fault, PacketError
from .fields import read_number, read_text, write_text
from .framing import LARGEST_REMAINING, packet
from .properties import Properties, read_properties, write_properties
from .reasons import PacketType, ReasonCode
from .topics import check_filter, share_of

_REQUEST = 2
"""The fixed flags of SUBSCRIBE and UNSUBSCRIBE (section 2.1.3)."""
_DUP = 8

MOST_FILTERS = 8_192
"""Topic filters of one SUBSCRIBE or UNSUBSCRIBE. The standard has no bound, but a megabyte would hold a quarter of a
million, and to read those takes a second in which nobody else is served; so many take a thirtieth."""
MOST_USER_PROPERTIES = 1_000
"""Of one such packet, likewise."""

_C = ReasonCode
_GRANTED = (_C.SUCCESS, _C.GRANTED_QOS_1, _C.GRANTED_QOS_2)
_FAILURES = (
    _C.UNSPECIFIED_ERROR, _C.IMPLEMENTATION_SPECIFIC_ERROR, _C.NOT_AUTHORIZED, _C.TOPIC_FILTER_INVALID,
    _C.PACKET_IDENTIFIER_IN_USE,
)  # fmt: skip
_SUBACK_REASONS = frozenset({
    *_GRANTED, *_FAILURES, _C.QUOTA_EXCEEDED, _C.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
    _C.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, _C.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
})  # fmt: skip
"""Table 3-8."""
_SUBACK_RETURN_CODES = frozenset({*_GRANTED, 0x80})
"""3.1.1 section 3.9.3. 3.1 has no failure, but brokers say it there too."""
_UNSUBACK_REASONS = frozenset({_C.SUCCESS, _C.NO_SUBSCRIPTION_EXISTED, *_FAILURES})
"""Table 3-9."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """One topic filter and the options byte that stands behind it (section 3.8.3.1)."""

    topic_filter: str
    options: int

    @property
    def qos(self) -> int:
        """The largest QoS that the client wants."""
        return self.options & 3

    @property
    def no_local(self) -> bool:
        """Whether the client's own messages are kept from it."""
        return self.options & 4 != 0

    @property
    def retain_as_published(self) -> bool:
        """Whether messages keep the retain flag that they were published with."""
        return self.options & 8 != 0

    @property
    def retain_handling(self) -> int:
        """Retained messages are sent: 0 on every subscribe, 1 on a new subscription only, 2 never."""
        return self.options >> 4 & 3


@dataclass(frozen=True, slots=True)
class Subscribe:
    """One SUBSCRIBE: at least one subscription."""

    packet_id: int
    subscriptions: list[Subscription]
    properties: Properties = field(default_factory=list)

    @classmethod
    def read(cls, data: bytes, at: int, body: int, end: int, version: int) -> Self:
        """Read the whole SUBSCRIBE at `at`; PacketError for whatever section 3.8 forbids, and MOST_FILTERS."""
        packet_id, properties, behind = _read_head(data, at, body, end, version)
        subscriptions: list[Subscription] = []
        while behind < end:
            topic_filter, behind = read_text(data, behind, end)
            check_filter(topic_filter, version)
            if behind == end:
                raise PacketError(Fault.TRUNCATED, "SUBSCRIBE ends between a topic filter and its options")
            if len(subscriptions) == MOST_FILTERS:
                raise _too_many()
            subscription = Subscription(topic_filter, data[behind])
            _check_options(subscription, version)
            subscriptions.append(subscription)
            behind += 1
        if not subscriptions:
            raise PacketError(Fault.EMPTY, "SUBSCRIBE without a topic filter")
        return cls(packet_id, subscriptions, properties)

    def write(self, version: int) -> bytes:
        """The packet in this version's form."""
        payload = b"".join(write_text(s.topic_filter) + bytes([s.options]) for s in self.subscriptions)
        return _write(PacketType.SUBSCRIBE, self.packet_id, self.properties, payload, version)


@dataclass(frozen=True, slots=True)
class Suback:
    """One SUBACK: a reason for each subscription of its SUBSCRIBE, in the same order."""

    packet_id: int
    reasons: list[int]
    properties: Properties = field(default_factory=list)

    @classmethod
    def read(cls, data: bytes, at: int, body: int, end: int, version: int) -> Self:
        """Read the whole SUBACK at `at`; PacketError for whatever section 3.9 forbids."""
        packet_id, properties, behind = _read_head(data, at, body, end, version)
        allowed = _SUBACK_REASONS if version == 5 else _SUBACK_RETURN_CODES
        return cls(packet_id, _read_reasons(data, behind, end, allowed), properties)

    def write(self, version: int) -> bytes:
        """The packet in this version's form."""
        return _write(PacketType.SUBACK, self.packet_id, self.properties, bytes(self.reasons), version)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """One UNSUBSCRIBE: at least one topic filter."""

    packet_id: int
    topic_filters: list[str]
    properties: Properties = field(default_factory=list)

    @classmethod
    def read(cls, data: bytes, at: int, body: int, end: int, version: int) -> Self:
        """Read the whole UNSUBSCRIBE at `at`; PacketError for whatever section 3.10 forbids, and MOST_FILTERS."""
        packet_id, properties, behind = _read_head(data, at, body, end, version)
        topic_filters: list[str] = []
        while behind < end:
            topic_filter, behind = read_text(data, behind, end)
            check_filter(topic_filter, version)
            if len(topic_filters) == MOST_FILTERS:
                raise _too_many()
            topic_filters.append(topic_filter)
        if not topic_filters:
            raise PacketError(Fault.EMPTY, "UNSUBSCRIBE without a topic filter")
        return cls(packet_id, topic_filters, properties)

    def write(self, version: int) -> bytes:
        """The packet in this version's form."""
        payload = b"".join(map(write_text, self.topic_filters))
        return _write(PacketType.UNSUBSCRIBE, self.packet_id, self.properties, payload, version)


@dataclass(frozen=True, slots=True)
class Unsuback:
    """One UNSUBACK: a reason for each filter of its UNSUBSCRIBE, in the same order; in 3.x none at all."""

    packet_id: int
    reasons: list[int] = field(default_factory=list)
    properties: Properties = field(default_factory=list)

    @classmethod
    def read(cls, data: bytes, at: int, body: int, end: int, version: int) -> Self:
        """Read the whole UNSUBACK at `at`; PacketError for whatever section 3.11 forbids."""
        packet_id, properties, behind = _read_head(data, at, body, end, version)
        if version == 5:
            return cls(packet_id, _read_reasons(data, behind, end, _UNSUBACK_REASONS), properties)
        if behind != end:
            raise PacketError(Fault.SURPLUS, "UNSUBACK of more than two bytes")
        return cls(packet_id)

    def write(self, version: int) -> bytes:
        """The packet in this version's form; 3.x: leave `reasons` empty."""
        return _write(PacketType.UNSUBACK, self.packet_id, self.properties, bytes(self.reasons), version)


def _too_many() -> PacketError:
    text = f"more than {MOST_FILTERS} topic filters in one packet"
    return PacketError(Fault.TOO_LARGE, text, ReasonCode.QUOTA_EXCEEDED)


def _read_head(data: bytes, at: int, body: int, end: int, version: int) -> tuple[int, Properties, int]:
    """The packet identifier and the properties that all four begin with, and the offset behind them."""
    kind = PacketType(data[at] >> 4)
    flags = data[at] & 15
    is_request = kind in (PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE)
    if is_request:
        if version == 3:
            flags &= ~_DUP  # 3.1 lets a client repeat its request with DUP (its sections 3.8 and 3.10)
        flags ^= _REQUEST
    if flags:
        raise PacketError(Fault.RESERVED_BITS, f"{kind.name} with wrong flags in its first byte")
    packet_id, behind = read_number(data, body, end)
    if packet_id == 0:
        raise PacketError(Fault.PACKET_ID, f"{kind.name} with packet identifier 0")
    if version < 5:
        return packet_id, [], behind
    most = MOST_USER_PROPERTIES if is_request else LARGEST_REMAINING  # what the broker says is the broker's
    properties, behind = read_properties(data, behind, end, kind, most)
    return packet_id, properties, behind


def _read_reasons(data: bytes, at: int, end: int, allowed: frozenset[int]) -> list[int]:
    reasons = list(data[at:end])
    if not reasons:
        raise PacketError(Fault.TRUNCATED, "SUBACK or UNSUBACK without a reason code")
    for reason in reasons:
        if reason not in allowed:
            raise PacketError(Fault.REASON_CODE, f"SUBACK or UNSUBACK with reason 0x{reason:02X}")
    return reasons


def _check_options(subscription: Subscription, version: int) -> None:
    if subscription.options & (0xC0 if version == 5 else 0xFC):
        raise PacketError(Fault.RESERVED_BITS, "SUBSCRIBE with reserved option bits")
    if subscription.qos == 3:
        raise PacketError(Fault.QOS, "SUBSCRIBE with QoS 3")
    # Sections 3.8.3.1 and 4.13 make these two protocol errors, not malformed packets.
    if subscription.retain_handling == 3:
        raise PacketError(Fault.RESERVED_BITS, "SUBSCRIBE with retain handling 3", ReasonCode.PROTOCOL_ERROR)
    if subscription.no_local and share_of(subscription.topic_filter)[0] is not None:
        raise PacketError(Fault.FILTER, "a shared subscription with No Local", ReasonCode.PROTOCOL_ERROR)


def _write(kind: PacketType, packet_id: int, properties: Properties, payload: bytes, version: int) -> bytes:
    flags = _REQUEST if kind in (PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE) else 0
    head = packet_id.to_bytes(2, "big")
    if version == 5:
        head += write_properties(properties)
    return packet(kind << 4 | flags, head + payload)
