"""CONNECT (section 3.1), with its will and the bridge bit."""

from dataclasses import dataclass, field
from typing import Self

from .errors import Fault, PacketError
from .fields import read_binary, read_number, read_text, write_binary, write_text
from .framing import packet
from .properties import WILL, Properties, PropertyId, get, read_properties, user_properties, write_properties
from .reasons import PacketType
from .text import check_topic_name, field_end

_NAMES = {3: write_text("MQIsdp"), 4: write_text("MQTT"), 5: write_text("MQTT")}
_BRIDGE = 0x80
"""Set in the protocol level by the bridges of Mosquitto, in 3.x only; no standard has it."""

MOST_USER_PROPERTIES = 100
"""User properties of a CONNECT and its will together. They are for whoever reads the broker's log, so a handful is
usual; the specification has no bound but the packet's size, which is room for thousands."""

_USERNAME = 0x80
_PASSWORD = 0x40
_WILL_RETAIN = 0x20
_WILL_QOS_SHIFT = 3
_WILL = 0x04
_CLEAN_START = 0x02


@dataclass(frozen=True, slots=True)
class Will:
    """The message that the server publishes when a connection ends without DISCONNECT (section 3.1.2.5)."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Connect:
    """One CONNECT. What the standards leave to the server (an empty client identifier, ...) is accepted."""

    version: int
    """3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0."""
    bridge: bool
    clean_start: bool
    keepalive: int
    """Seconds; 0: none."""
    client_id: str
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = field(default_factory=list)

    @classmethod
    def read(cls, data: bytes, at: int, body: int, end: int) -> Self:
        """Read the whole CONNECT at `at`; PacketError for whatever its version forbids, and MOST_USER_PROPERTIES."""
        if data[at] & 15:
            raise PacketError(Fault.RESERVED_BITS, "CONNECT with wrong flags in its first byte")
        place = field_end(data, body, end)
        if place + 4 > end:
            raise PacketError(Fault.TRUNCATED, "CONNECT ends inside its variable header")
        version = peek_version(data, body, end)
        if version == 0:
            raise PacketError(Fault.PROTOCOL, "the protocol is not MQTT 3.1, 3.1.1 or 5")
        flags = data[place + 1]
        _check_flags(flags, version)
        keepalive, behind = read_number(data, place + 2, end)
        properties: Properties = []
        if version == 5:
            properties, behind = read_properties(data, behind, end, PacketType.CONNECT, MOST_USER_PROPERTIES)
            _check_authentication(properties)
        client_id, behind = read_text(data, behind, end)
        will = username = password = None
        if flags & _WILL:
            room = MOST_USER_PROPERTIES - user_properties(properties)
            will, behind = _read_will(data, behind, end, flags, version, room)
        # 3.1 lets the remaining length overrule these two flags (its section 3.1): the fields may be missing.
        if flags & _USERNAME and not (version == 3 and behind == end):
            username, behind = read_text(data, behind, end)
        if flags & _PASSWORD and not (version == 3 and behind == end):
            password, behind = read_binary(data, behind, end)
        if behind != end:
            raise PacketError(Fault.SURPLUS, "bytes behind the last field of CONNECT")
        return cls(
            version,
            data[place] & _BRIDGE != 0,
            flags & _CLEAN_START != 0,
            keepalive,
            client_id,
            username,
            password,
            will,
            properties,
        )

    def write(self) -> bytes:
        """The packet; in 3.x, leave both `properties` empty. ValueError for a field that is too long."""
        flags = _CLEAN_START if self.clean_start else 0
        payload = write_text(self.client_id)
        if self.will is not None:
            flags |= _WILL | self.will.qos << _WILL_QOS_SHIFT | (_WILL_RETAIN if self.will.retain else 0)
            if self.version == 5:
                payload += write_properties(self.will.properties)
            payload += write_text(self.will.topic) + write_binary(self.will.payload)
        if self.username is not None:
            flags |= _USERNAME
            payload += write_text(self.username)
        if self.password is not None:
            flags |= _PASSWORD
            payload += write_binary(self.password)
        level = self.version | (_BRIDGE if self.bridge else 0)
        head = _NAMES[self.version] + bytes([level, flags]) + self.keepalive.to_bytes(2, "big")
        if self.version == 5:
            head += write_properties(self.properties)
        return packet(PacketType.CONNECT << 4, head + payload)

    @property
    def receive_maximum(self) -> int:
        """Unacknowledged QoS 1 and 2 messages that the client takes (section 3.1.2.11.3)."""
        return self._number(PropertyId.RECEIVE_MAXIMUM, 65535)

    @property
    def maximum_packet_size(self) -> int:
        """The largest packet that the client takes, in bytes (section 3.1.2.11.4); 0: any."""
        return self._number(PropertyId.MAXIMUM_PACKET_SIZE, 0)

    @property
    def request_problem_information(self) -> bool:
        """Whether reason strings and user properties may be sent with any packet (section 3.1.2.11.7)."""
        return self._number(PropertyId.REQUEST_PROBLEM_INFORMATION, 1) == 1

    @property
    def authentication_method(self) -> str | None:
        """The method of enhanced authentication (section 3.1.2.11.9); None: user name and password alone."""
        value = get(self.properties, PropertyId.AUTHENTICATION_METHOD)
        return value if isinstance(value, str) else None

    def _number(self, identifier: PropertyId, default: int) -> int:
        value = get(self.properties, identifier)
        return value if isinstance(value, int) else default


def peek_version(data: bytes, body: int, end: int) -> int:
    """The version of the CONNECT whose body begins at `body`: 3, 4 or 5; 0 when it is none of these.

    It needs no more of the packet than the protocol's name and level, so that even a CONNECT that `read`
    refuses, or that is not all there, can be answered in its own version.
    """
    size = min(end, len(data))
    for version, name in _NAMES.items():
        place = body + len(name)
        if place < size and data[body:place] == name:
            level = data[place] & ~_BRIDGE if version < 5 else data[place]
            if level == version:
                return version
    return 0


def _check_flags(flags: int, version: int) -> None:
    # 3.1 leaves bit 0 unused, and without a will it disregards its QoS and retain flag (its section 3.1).
    if version > 3 and flags & 1:
        raise PacketError(Fault.RESERVED_BITS, "CONNECT with the reserved connect flag")
    if flags & _WILL:
        if flags >> _WILL_QOS_SHIFT & 3 == 3:
            raise PacketError(Fault.QOS, "CONNECT with a will of QoS 3")
    elif version > 3 and flags & (_WILL_RETAIN | 3 << _WILL_QOS_SHIFT):
        raise PacketError(Fault.CONNECT_FLAGS, "CONNECT with a will's QoS or retain flag, but without a will")
    if version < 5 and flags & _PASSWORD and not flags & _USERNAME:
        raise PacketError(Fault.CONNECT_FLAGS, "CONNECT with a password, but without a user name")


def _check_authentication(properties: Properties) -> None:
    has_data = get(properties, PropertyId.AUTHENTICATION_DATA) is not None
    if has_data and get(properties, PropertyId.AUTHENTICATION_METHOD) is None:
        raise PacketError(Fault.PROPERTY, "CONNECT with authentication data, but without a method")


def _read_will(data: bytes, at: int, end: int, flags: int, version: int, most_user_properties: int) -> tuple[Will, int]:
    properties: Properties = []
    if version == 5:
        properties, at = read_properties(data, at, end, WILL, most_user_properties)
    topic_end = field_end(data, at, end)
    check_topic_name(data, at + 2, topic_end)
    payload, behind = read_binary(data, topic_end, end)
    will = Will(
        data[at + 2 : topic_end].decode(),
        payload,
        flags >> _WILL_QOS_SHIFT & 3,
        flags & _WILL_RETAIN != 0,
        properties,
    )
    return will, behind
