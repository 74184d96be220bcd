"""The one error that every parser raises, and what it is counted as."""

from enum import IntEnum

from .reasons import ReasonCode


class Fault(IntEnum):
    """What is wrong with a packet: the `reason` label of `tidegate_malformed_total`, a closed set."""

    LENGTH = 0
    """A length, or another variable byte integer, does not end after four bytes or has more than it needs."""
    TRUNCATED = 1
    """A field reaches beyond the packet's end."""
    SURPLUS = 2
    """Bytes are left behind the packet's last field."""
    RESERVED_BITS = 3
    """Flags of the fixed header, or other reserved bits, are not what the specification fixes."""
    UTF8 = 4
    """A string is not well-formed UTF-8 or holds U+0000."""
    TOPIC = 5
    """A topic name is empty or holds a wildcard."""
    FILTER = 6
    """A topic filter is empty, or a wildcard or `$share` stands where it may not."""
    PACKET_ID = 7
    """A packet identifier of 0, or one that is in use."""
    QOS = 8
    """A QoS of 3, or DUP without QoS."""
    PROPERTY = 9
    """A property that is repeated or out of range."""
    REASON_CODE = 10
    """A reason code that this packet cannot carry."""
    PROTOCOL = 11
    """A protocol name or version that is not MQTT 3.1, 3.1.1 or 5."""
    CONNECT_FLAGS = 12
    """CONNECT flags that contradict one another."""
    FIRST_PACKET = 13
    """The first packet is not a CONNECT."""
    SECOND_CONNECT = 14
    """A CONNECT on a connection that already had one."""
    DIRECTION = 15
    """A packet that only the other side may send, or that this version does not have."""
    TOO_LARGE = 16
    """A packet larger than its receiver takes."""
    ALIAS = 17
    """A topic alias of 0, above the maximum, or never defined."""
    RECEIVE_MAXIMUM = 18
    """More unacknowledged messages than the receiver offered to hold."""
    EMPTY = 19
    """SUBSCRIBE or UNSUBSCRIBE without a topic filter."""
    FOREIGN_PROPERTY = 20
    """A property that this packet does not have (section 2.2.2.2)."""
    USER_PROPERTIES = 21
    """More user properties than the receiver takes."""


_MALFORMED = ReasonCode.MALFORMED_PACKET
_PROTOCOL = ReasonCode.PROTOCOL_ERROR

# 0x8F and 0x90 are for topics that are well-formed and still not wanted (table 2-6): not these.
REASON_OF_FAULT = {
    Fault.LENGTH: _MALFORMED,
    Fault.TRUNCATED: _MALFORMED,
    Fault.SURPLUS: _MALFORMED,
    Fault.RESERVED_BITS: _MALFORMED,
    Fault.UTF8: _MALFORMED,
    Fault.TOPIC: _PROTOCOL,
    Fault.FILTER: _MALFORMED,
    Fault.PACKET_ID: _PROTOCOL,
    Fault.QOS: _MALFORMED,
    Fault.PROPERTY: _PROTOCOL,
    Fault.REASON_CODE: _PROTOCOL,
    Fault.PROTOCOL: ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
    Fault.CONNECT_FLAGS: _MALFORMED,
    Fault.FIRST_PACKET: _PROTOCOL,
    Fault.SECOND_CONNECT: _PROTOCOL,
    Fault.DIRECTION: _PROTOCOL,
    Fault.TOO_LARGE: ReasonCode.PACKET_TOO_LARGE,
    Fault.ALIAS: ReasonCode.TOPIC_ALIAS_INVALID,
    Fault.RECEIVE_MAXIMUM: ReasonCode.RECEIVE_MAXIMUM_EXCEEDED,
    Fault.EMPTY: _PROTOCOL,
    Fault.FOREIGN_PROPERTY: _MALFORMED,
    Fault.USER_PROPERTIES: ReasonCode.QUOTA_EXCEEDED,
}


class PacketError(Exception):
    """A packet that breaks the specification, or is more than is taken.

    `fault` is what it is counted as, `reason` the MQTT 5 code that DISCONNECT or CONNACK tells (section
    4.13), `text` one sentence for the reason string and the log. It never quotes bytes of the packet.
    """

    def __init__(self, fault: Fault, text: str, reason: ReasonCode | None = None) -> None:
        super().__init__(text)
        self.fault = fault
        self.text = text
        self.reason = REASON_OF_FAULT[fault] if reason is None else reason
