"""CONNACK (section 3.2)."""

from dataclasses import dataclass, field
from typing import Self

from .errors import Fault, PacketError
from .framing import packet
from .properties import Properties, read_properties, write_properties
from .reasons import PacketType, ReasonCode

UNACCEPTABLE_VERSION = 1
"""The return code by which a server of 3.x refuses a version that it does not speak (its table 3.1)."""

_LAST_RETURN_CODE = 5

_C = ReasonCode
_REASONS = frozenset({
    _C.SUCCESS, _C.UNSPECIFIED_ERROR, _C.MALFORMED_PACKET, _C.PROTOCOL_ERROR,
    _C.IMPLEMENTATION_SPECIFIC_ERROR, _C.UNSUPPORTED_PROTOCOL_VERSION, _C.CLIENT_IDENTIFIER_NOT_VALID,
    _C.BAD_USER_NAME_OR_PASSWORD, _C.NOT_AUTHORIZED, _C.SERVER_UNAVAILABLE, _C.SERVER_BUSY, _C.BANNED,
    _C.BAD_AUTHENTICATION_METHOD, _C.TOPIC_NAME_INVALID, _C.PACKET_TOO_LARGE, _C.QUOTA_EXCEEDED,
    _C.PAYLOAD_FORMAT_INVALID, _C.RETAIN_NOT_SUPPORTED, _C.QOS_NOT_SUPPORTED, _C.USE_ANOTHER_SERVER,
    _C.SERVER_MOVED, _C.CONNECTION_RATE_EXCEEDED,
})  # fmt: skip
"""Table 3-1."""


@dataclass(frozen=True, slots=True)
class Connack:
    """One CONNACK."""

    session_present: bool
    reason: int
    """3.x: a return code, 0 to 5. MQTT 5: a reason code, or UNACCEPTABLE_VERSION from a server of 3.x."""
    properties: Properties = field(default_factory=list)

    @classmethod
    def read(cls, data: bytes, at: int, body: int, end: int, version: int) -> Self:
        """Read the whole CONNACK at `at`, an answer to CONNECT of `version`; PacketError for a breach."""
        if data[at] & 15:
            raise PacketError(Fault.RESERVED_BITS, "CONNACK with wrong flags in its first byte")
        if body + 2 > end:
            raise PacketError(Fault.TRUNCATED, "CONNACK ends inside its variable header")
        if data[body] > 1:
            raise PacketError(Fault.RESERVED_BITS, "CONNACK with reserved acknowledge flags")
        session_present = data[body] == 1
        reason = data[body + 1]
        behind = body + 2
        properties: Properties = []
        # A server of 3.x refuses a client of MQTT 5 in its own form.
        if version == 5 and not (reason == UNACCEPTABLE_VERSION and behind == end):
            if reason not in _REASONS:
                raise PacketError(Fault.REASON_CODE, f"CONNACK with reason 0x{reason:02X}")
            properties, behind = read_properties(data, behind, end, PacketType.CONNACK)
        elif reason > _LAST_RETURN_CODE:
            raise PacketError(Fault.REASON_CODE, f"CONNACK with return code {reason}")
        if behind != end:
            raise PacketError(Fault.SURPLUS, "bytes behind the last field of CONNACK")
        if session_present and reason:
            raise PacketError(Fault.REASON_CODE, "CONNACK refuses, but with a session present")
        return cls(session_present, reason, properties)

    def write(self, version: int) -> bytes:
        """The packet that answers a CONNECT of `version`."""
        body = bytes([self.session_present, self.reason])
        if version == 5 and self.reason != UNACCEPTABLE_VERSION:
            body += write_properties(self.properties)
        return packet(PacketType.CONNACK << 4, body)
