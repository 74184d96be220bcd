"""PINGREQ, PINGRESP, DISCONNECT and AUTH (sections 3.12 to 3.15)."""

from dataclasses import dataclass, field
from typing import Self

from .errors import Fault, PacketError
from .framing import packet
from .properties import Properties, PropertyId, get, read_properties, write_properties
from .reasons import PacketType, ReasonCode

PINGREQ = packet(PacketType.PINGREQ << 4, b"")
PINGRESP = packet(PacketType.PINGRESP << 4, b"")

_C = ReasonCode
_EITHER_DISCONNECTS = (
    _C.SUCCESS, _C.UNSPECIFIED_ERROR, _C.MALFORMED_PACKET, _C.PROTOCOL_ERROR,
    _C.IMPLEMENTATION_SPECIFIC_ERROR, _C.TOPIC_NAME_INVALID, _C.RECEIVE_MAXIMUM_EXCEEDED,
    _C.TOPIC_ALIAS_INVALID, _C.PACKET_TOO_LARGE, _C.MESSAGE_RATE_TOO_HIGH, _C.QUOTA_EXCEEDED,
    _C.ADMINISTRATIVE_ACTION, _C.PAYLOAD_FORMAT_INVALID,
)  # fmt: skip
_CLIENT_DISCONNECTS = frozenset({*_EITHER_DISCONNECTS, _C.DISCONNECT_WITH_WILL})
_SERVER_DISCONNECTS = frozenset({
    *_EITHER_DISCONNECTS, _C.NOT_AUTHORIZED, _C.SERVER_BUSY, _C.SERVER_SHUTTING_DOWN,
    _C.BAD_AUTHENTICATION_METHOD, _C.KEEP_ALIVE_TIMEOUT, _C.SESSION_TAKEN_OVER, _C.TOPIC_FILTER_INVALID,
    _C.RETAIN_NOT_SUPPORTED, _C.QOS_NOT_SUPPORTED, _C.USE_ANOTHER_SERVER, _C.SERVER_MOVED,
    _C.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, _C.CONNECTION_RATE_EXCEEDED, _C.MAXIMUM_CONNECT_TIME,
    _C.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, _C.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED,
})  # fmt: skip
"""Table 3-10, and BAD_AUTHENTICATION_METHOD, which table 2-6 gives to DISCONNECT."""
_CLIENT_AUTHS = frozenset({_C.CONTINUE_AUTHENTICATION, _C.REAUTHENTICATE})
_SERVER_AUTHS = frozenset({_C.SUCCESS, _C.CONTINUE_AUTHENTICATION})
"""Table 3-11."""


def check_ping(data: bytes, at: int, body: int, end: int) -> None:
    """Raise PacketError unless the PINGREQ or PINGRESP at `at` is what sections 3.12 and 3.13 fix."""
    if data[at] & 15:
        raise PacketError(Fault.RESERVED_BITS, "PINGREQ or PINGRESP with wrong flags in its first byte")
    if body != end:
        raise PacketError(Fault.SURPLUS, "PINGREQ or PINGRESP with a body")


@dataclass(frozen=True, slots=True)
class Disconnect:
    """One DISCONNECT; in 3.x, only a client sends it, and it says nothing."""

    reason: int = ReasonCode.SUCCESS
    properties: Properties = field(default_factory=list)

    @classmethod
    def read(cls, data: bytes, at: int, body: int, end: int, version: int, from_client: bool) -> Self:
        """Read the whole DISCONNECT at `at`; PacketError for whatever section 3.14 forbids to its sender."""
        if data[at] & 15:
            raise PacketError(Fault.RESERVED_BITS, "DISCONNECT with wrong flags in its first byte")
        if version < 5:
            if not from_client:
                raise PacketError(Fault.DIRECTION, "DISCONNECT from a server before MQTT 5")
            if body != end:
                raise PacketError(Fault.SURPLUS, "DISCONNECT with a body before MQTT 5")
        if body == end:
            return cls()
        reason = data[body]
        if reason not in (_CLIENT_DISCONNECTS if from_client else _SERVER_DISCONNECTS):
            raise PacketError(Fault.REASON_CODE, f"DISCONNECT with reason 0x{reason:02X}")
        if body + 1 == end:  # section 3.14.2.2.1: no properties need no length
            return cls(reason)
        properties, behind = read_properties(data, body + 1, end, PacketType.DISCONNECT)
        if behind != end:
            raise PacketError(Fault.SURPLUS, "bytes behind the properties of DISCONNECT")
        if not from_client and get(properties, PropertyId.SESSION_EXPIRY_INTERVAL) is not None:
            raise PacketError(Fault.PROPERTY, "DISCONNECT from a server with a session expiry interval")
        return cls(reason, properties)

    def write(self) -> bytes:
        """The shortest packet that says all of it: for 3.x, leave the fields as they are by default."""
        body = b""
        if self.reason or self.properties:
            body = bytes([self.reason])
        if self.properties:
            body += write_properties(self.properties)
        return packet(PacketType.DISCONNECT << 4, body)


@dataclass(frozen=True, slots=True)
class Auth:
    """One AUTH, of MQTT 5 alone."""

    reason: int = ReasonCode.SUCCESS
    properties: Properties = field(default_factory=list)

    @classmethod
    def read(cls, data: bytes, at: int, body: int, end: int, from_client: bool) -> Self:
        """Read the whole AUTH at `at`; PacketError for whatever section 3.15 forbids to its sender."""
        if data[at] & 15:
            raise PacketError(Fault.RESERVED_BITS, "AUTH with wrong flags in its first byte")
        reason = data[body] if body < end else ReasonCode.SUCCESS
        if reason not in (_CLIENT_AUTHS if from_client else _SERVER_AUTHS):
            raise PacketError(Fault.REASON_CODE, f"AUTH with reason 0x{reason:02X}")
        if body == end:
            return cls()
        properties, behind = read_properties(data, body + 1, end, PacketType.AUTH)
        if behind != end:
            raise PacketError(Fault.SURPLUS, "bytes behind the properties of AUTH")
        if get(properties, PropertyId.AUTHENTICATION_METHOD) is None:
            raise PacketError(Fault.PROPERTY, "AUTH without its authentication method")
        return cls(reason, properties)

    def write(self) -> bytes:
        """The packet; without a body where it says success alone (section 3.15.2.1)."""
        body = b""
        if self.reason or self.properties:
            body = bytes([self.reason]) + write_properties(self.properties)
        return packet(PacketType.AUTH << 4, body)
