"""PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7): one shape, read where it lies."""

from .errors import Fault, PacketError
from .framing import packet
from .properties import ALLOWED, Properties, check_properties, variable_end, variable_value, write_properties
from .reasons import PacketType, ReasonCode

_C = ReasonCode
_RECEIVED = (
    _C.SUCCESS, _C.NO_MATCHING_SUBSCRIBERS, _C.UNSPECIFIED_ERROR, _C.IMPLEMENTATION_SPECIFIC_ERROR,
    _C.NOT_AUTHORIZED, _C.TOPIC_NAME_INVALID, _C.PACKET_IDENTIFIER_IN_USE, _C.QUOTA_EXCEEDED,
    _C.PAYLOAD_FORMAT_INVALID,
)  # fmt: skip
_RELEASED = (_C.SUCCESS, _C.PACKET_IDENTIFIER_NOT_FOUND)


def _codes(*codes: int) -> bytes:
    return bytes(code in codes for code in range(256))


# By packet type: 1 at each reason code that it may carry (tables 3-4 to 3-7).
_CODES = (b"",) * 4 + (_codes(*_RECEIVED), _codes(*_RECEIVED), _codes(*_RELEASED), _codes(*_RELEASED))


class Ack:
    """The packet identifier and reason of one acknowledgement. One object is read again and again."""

    def __init__(self) -> None:
        self.packet_id = 0
        self.reason = 0

    def read(self, data: bytes, at: int, body: int, end: int, version: int) -> None:
        """Read the whole acknowledgement at `at`; PacketError for whatever its section forbids."""
        kind = data[at] >> 4
        wrong = data[at] & 15
        if kind == 6:  # PUBREL has flags 2 (section 3.6.1), which 3.1 repeats with DUP (its section 3.6)
            wrong = (wrong & 7 if version == 3 else wrong) ^ 2
        if wrong:
            raise PacketError(Fault.RESERVED_BITS, "an acknowledgement with wrong flags")
        size = end - body
        if size < 2:
            raise PacketError(Fault.TRUNCATED, "an acknowledgement without its packet identifier")
        self.packet_id = data[body] << 8 | data[body + 1]
        if self.packet_id == 0:
            raise PacketError(Fault.PACKET_ID, "an acknowledgement of packet identifier 0")
        self.reason = 0
        if size == 2:
            return
        if version < 5:
            raise PacketError(Fault.SURPLUS, "an acknowledgement of more than two bytes")
        self.reason = data[body + 2]
        codes: bytes = _CODES[kind]
        if codes[self.reason] == 0:
            raise PacketError(Fault.REASON_CODE, f"an acknowledgement with reason 0x{self.reason:02X}")
        if size == 3:
            return
        start = variable_end(data, body + 3, end)
        stop = start + variable_value(data, body + 3, start)
        if stop > end:
            raise PacketError(Fault.TRUNCATED, "the properties reach beyond the packet's end")
        if stop < end:
            raise PacketError(Fault.SURPLUS, "bytes behind an acknowledgement's properties")
        check_properties(data, start, stop, ALLOWED[kind])


def write_ack(kind: PacketType, packet_id: int, reason: int = 0, properties: Properties | None = None) -> bytes:
    """An acknowledgement in the shortest form that says it all (section 3.4.2.1); 3.x: leave `reason` 0."""
    body = packet_id.to_bytes(2, "big")
    if reason or properties:
        body += bytes([reason])
    if properties:
        body += write_properties(properties)
    return packet(kind << 4 | (2 if kind is PacketType.PUBREL else 0), body)
