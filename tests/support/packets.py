"""Any packet by its first byte, and examples of all kinds: what unit and property tests and the fuzzer share.

The bytes of the examples are written out from the standards, not by the codec that they test.
"""

from dataclasses import dataclass

from tidegate.mqtt.ack import Ack
from tidegate.mqtt.connack import Connack
from tidegate.mqtt.connect import Connect, Will
from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.properties import PropertyId as P
from tidegate.mqtt.publish import Publish
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.session import Auth, Disconnect, check_ping
from tidegate.mqtt.subscribe import Suback, Subscribe, Subscription, Unsuback, Unsubscribe


@dataclass(frozen=True)
class Message:
    """What `Publish` says about a PUBLISH, as a value."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: bytes = b""
    """Without their length."""
    alias: int = 0


@dataclass(frozen=True)
class Acked:
    """What `Ack` says about an acknowledgement, as a value."""

    kind: int
    packet_id: int
    reason: int = 0


@dataclass(frozen=True)
class Ping:
    """A PINGREQ or PINGRESP."""

    kind: int


Packet = Message | Acked | Ping | Connect | Connack | Subscribe | Suback | Unsubscribe | Unsuback | Disconnect | Auth


def read_any(data: bytes, at: int, body: int, end: int, version: int, from_client: bool) -> Packet | None:
    """The packet at `at`; None for a PUBLISH of which too little is there. All others must be there whole."""
    kind = data[at] >> 4
    match kind:
        case PacketType.PUBLISH:
            return read_message(data, at, body, end, version, from_client)
        case PacketType.PUBACK | PacketType.PUBREC | PacketType.PUBREL | PacketType.PUBCOMP:
            ack = Ack()
            ack.read(data, at, body, end, version)
            return Acked(kind, ack.packet_id, ack.reason)
        case PacketType.PINGREQ | PacketType.PINGRESP:
            check_ping(data, at, body, end)
            return Ping(kind)
        case PacketType.CONNECT:
            return Connect.read(data, at, body, end)
        case PacketType.CONNACK:
            return Connack.read(data, at, body, end, version)
        case PacketType.SUBSCRIBE:
            return Subscribe.read(data, at, body, end, version)
        case PacketType.SUBACK:
            return Suback.read(data, at, body, end, version)
        case PacketType.UNSUBSCRIBE:
            return Unsubscribe.read(data, at, body, end, version)
        case PacketType.UNSUBACK:
            return Unsuback.read(data, at, body, end, version)
        case PacketType.DISCONNECT:
            return Disconnect.read(data, at, body, end, version, from_client)
        case PacketType.AUTH:
            return Auth.read(data, at, body, end, from_client)
    raise PacketError(Fault.DIRECTION, "there is no packet of type 0")


def read_message(data: bytes, at: int, body: int, end: int, version: int, from_client: bool) -> Message | None:
    """The PUBLISH at `at`, its payload as far as it is there; None when its head is not."""
    publish = Publish()
    if not publish.read(data, at, body, end, version, from_client):
        assert len(data) < publish.needed <= end
        return None
    properties = b""
    if version == 5:
        size, skip = _variable(data, publish.properties)
        properties = data[publish.properties + skip : publish.payload]
        assert len(properties) == size
    else:
        assert publish.properties == publish.payload
    return Message(
        data[publish.topic : publish.topic_end].decode(),
        data[publish.payload : end],
        publish.qos,
        publish.retain,
        publish.dup,
        publish.packet_id,
        properties,
        publish.alias,
    )


def _variable(data: bytes, at: int) -> tuple[int, int]:
    value = size = 0
    while True:
        byte = data[at + size]
        value |= (byte & 0x7F) << (7 * size)
        size += 1
        if byte < 0x80:
            return value, size


def read_whole(wire: bytes, version: int, from_client: bool) -> Packet:
    """The one packet that `wire` is, its frame included."""
    frame = Frame()
    assert frame.read(wire, 0)
    assert frame.end == len(wire)
    found = read_any(wire, 0, frame.body, frame.end, version, from_client)
    assert found is not None
    return found


def write_any(packet: Packet, version: int) -> bytes | None:
    """The packet's bytes by its own `write`; None for those that only pass through the gateway."""
    match packet:
        case Connect() | Disconnect() | Auth():
            return packet.write()
        case Connack() | Subscribe() | Suback() | Unsubscribe() | Unsuback():
            return packet.write(version)
    return None


def cut(chunks: list[bytes]) -> list[bytes]:
    """The packets in a stream that arrives in these chunks; the last may be incomplete."""
    frame = Frame()
    packets = []
    rest = b""
    for chunk in chunks:
        rest += chunk
        while rest and frame.read(rest, 0) and frame.end <= len(rest):
            packets.append(rest[: frame.end])
            rest = rest[frame.end :]
    return [*packets, rest] if rest else packets


@dataclass(frozen=True)
class Example:
    """One valid packet: its bytes and what they mean."""

    name: str
    version: int
    from_client: bool
    wire: bytes
    packet: Packet

    @property
    def kind(self) -> int:
        return self.wire[0] >> 4


CLIENT = True
SERVER = False

EXAMPLES = [
    # CONNECT
    Example(
        "connect 3.1", 3, CLIENT,
        b"\x10\x11\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x03abc",
        Connect(3, False, True, 60, "abc"),
    ),
    Example(
        "connect 3.1, all there is", 3, CLIENT,
        b"\x10\x21\x00\x06MQIsdp\x03\xf6\x00\x3c\x00\x03abc\x00\x03w/t\x00\x02by\x00\x01u\x00\x02\xff\x00",
        Connect(3, False, True, 60, "abc", "u", b"\xff\x00", Will("w/t", b"by", 2, True)),
    ),
    Example(
        "connect 3.1.1, no identifier", 4, CLIENT,
        b"\x10\x0c\x00\x04MQTT\x04\x02\xff\xff\x00\x00",
        Connect(4, False, True, 65535, ""),
    ),
    Example(
        "connect 3.1.1, no identifier but a session", 4, CLIENT,
        b"\x10\x0c\x00\x04MQTT\x04\x00\x00\x00\x00\x00",
        Connect(4, False, False, 0, ""),
    ),
    Example(
        "connect 3.1.1, all there is", 4, CLIENT,
        b"\x10\x1d\x00\x04MQTT\x04\xcc\x00\x0a\x00\x02\xc3\xa9\x00\x01w\x00\x00\x00\x01u\x00\x05p\x00\xff\xfe!",
        Connect(4, False, False, 10, "é", "u", b"p\x00\xff\xfe!", Will("w", b"", 1, False)),
    ),
    Example(
        "connect 3.1, a bridge", 3, CLIENT,
        b"\x10\x0f\x00\x06MQIsdp\x83\x00\x00\x3c\x00\x01b",
        Connect(3, True, False, 60, "b"),
    ),
    Example(
        "connect 3.1.1, a bridge", 4, CLIENT,
        b"\x10\x0d\x00\x04MQTT\x84\x00\x00\x3c\x00\x01b",
        Connect(4, True, False, 60, "b"),
    ),
    Example(
        "connect 5", 5, CLIENT,
        b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01c",
        Connect(5, False, True, 60, "c"),
    ),
    Example(
        "connect 5, all there is", 5, CLIENT,
        b"\x10\x56\x00\x04MQTT\x05\xf6\x00\x3c"
        b"\x2b\x11\x00\x00\x0e\x10\x21\x00\x14\x27\x00\x00\x10\x00\x22\x00\x0a\x19\x01\x17\x00"
        b"\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01v\x15\x00\x01m\x16\x00\x02\x00\xff"
        b"\x00\x01c"
        b"\x0f\x18\x00\x00\x00\x05\x01\x01\x08\x00\x01r\x09\x00\x01d"
        b"\x00\x01w\x00\x02hi\x00\x01u\x00\x01p",
        Connect(
            5, False, True, 60, "c", "u", b"p",
            Will("w", b"hi", 2, True, [
                (P.WILL_DELAY_INTERVAL, 5), (P.PAYLOAD_FORMAT_INDICATOR, 1),
                (P.RESPONSE_TOPIC, "r"), (P.CORRELATION_DATA, b"d"),
            ]),
            [
                (P.SESSION_EXPIRY_INTERVAL, 3600), (P.RECEIVE_MAXIMUM, 20), (P.MAXIMUM_PACKET_SIZE, 4096),
                (P.TOPIC_ALIAS_MAXIMUM, 10), (P.REQUEST_RESPONSE_INFORMATION, 1),
                (P.REQUEST_PROBLEM_INFORMATION, 0), (P.USER_PROPERTY, ("k", "v")),
                (P.USER_PROPERTY, ("k", "v")), (P.AUTHENTICATION_METHOD, "m"),
                (P.AUTHENTICATION_DATA, b"\x00\xff"),
            ],
        ),
    ),
    Example(
        "connect 5, a password alone", 5, CLIENT,
        b"\x10\x10\x00\x04MQTT\x05\x40\x00\x00\x00\x00\x00\x00\x01p",
        Connect(5, False, False, 0, "", None, b"p"),
    ),
    # CONNACK
    Example("connack 3.1", 3, SERVER, b"\x20\x02\x00\x00", Connack(False, 0)),
    Example("connack 3.1.1, session", 4, SERVER, b"\x20\x02\x01\x00", Connack(True, 0)),
    Example("connack 3.1.1, refused", 4, SERVER, b"\x20\x02\x00\x05", Connack(False, 5)),
    Example("connack 5, refused by a 3.x server", 5, SERVER, b"\x20\x02\x00\x01", Connack(False, 1)),
    Example("connack 5", 5, SERVER, b"\x20\x03\x00\x00\x00", Connack(False, 0)),
    Example(
        "connack 5, all there is", 5, SERVER,
        b"\x20\x3e\x01\x00\x3b"
        b"\x11\x00\x00\x00\x01\x21\x00\x14\x24\x01\x25\x00\x27\x00\x10\x00\x00\x12\x00\x02id\x22\x00\x0a"
        b"\x1f\x00\x02ok\x26\x00\x00\x00\x00\x28\x01\x29\x00\x2a\x01\x13\x00\x1e\x1a\x00\x01i\x1c\x00\x01s"
        b"\x15\x00\x01m\x16\x00\x00",
        Connack(True, 0, [
            (P.SESSION_EXPIRY_INTERVAL, 1), (P.RECEIVE_MAXIMUM, 20), (P.MAXIMUM_QOS, 1),
            (P.RETAIN_AVAILABLE, 0), (P.MAXIMUM_PACKET_SIZE, 1 << 20), (P.ASSIGNED_CLIENT_IDENTIFIER, "id"),
            (P.TOPIC_ALIAS_MAXIMUM, 10), (P.REASON_STRING, "ok"), (P.USER_PROPERTY, ("", "")),
            (P.WILDCARD_SUBSCRIPTION_AVAILABLE, 1), (P.SUBSCRIPTION_IDENTIFIER_AVAILABLE, 0),
            (P.SHARED_SUBSCRIPTION_AVAILABLE, 1), (P.SERVER_KEEP_ALIVE, 30), (P.RESPONSE_INFORMATION, "i"),
            (P.SERVER_REFERENCE, "s"), (P.AUTHENTICATION_METHOD, "m"), (P.AUTHENTICATION_DATA, b""),
        ]),
    ),
    Example(
        "connack 5, refused", 5, SERVER,
        b"\x20\x08\x00\x88\x05\x1f\x00\x02no",
        Connack(False, 0x88, [(P.REASON_STRING, "no")]),
    ),
    # PUBLISH
    Example("publish 3.1", 3, CLIENT, b"\x31\x05\x00\x01thi", Message("t", b"hi", retain=True)),
    Example("publish 3.1.1", 4, SERVER, b"\x30\x05\x00\x03a/b", Message("a/b")),
    Example(
        "publish 3.1.1, QoS 1, DUP", 4, CLIENT, b"\x3a\x06\x00\x01t\x00\x0ax",
        Message("t", b"x", qos=1, dup=True, packet_id=10),
    ),
    Example(
        "publish 3.1.1, QoS 2", 4, CLIENT, b"\x34\x06\x00\x01t\xff\xffx",
        Message("t", b"x", qos=2, packet_id=65535),
    ),
    Example("publish 5", 5, CLIENT, b"\x30\x06\x00\x01t\x00hi", Message("t", b"hi")),
    Example(
        "publish 5, all a client may say", 5, CLIENT,
        b"\x32\x2f\x00\x01t\x00\x01\x27\x01\x01\x02\x00\x00\x00\x3c\x03\x00\x0atext/plain\x08\x00\x01r"
        b"\x09\x00\x02\x00\x01\x23\x00\x07\x26\x00\x01k\x00\x01v\x00\x00",
        Message(
            "t", b"\x00\x00", qos=1, packet_id=1, alias=7,
            properties=b"\x01\x01\x02\x00\x00\x00\x3c\x03\x00\x0atext/plain\x08\x00\x01r"
            b"\x09\x00\x02\x00\x01\x23\x00\x07\x26\x00\x01k\x00\x01v",
        ),
    ),
    Example(
        "publish 5, by its alias", 5, CLIENT, b"\x30\x07\x00\x00\x03\x23\x00\x01x",
        Message("", b"x", properties=b"\x23\x00\x01", alias=1),
    ),
    Example(
        "publish 5, of two subscriptions", 5, SERVER, b"\x30\x0b\x00\x01t\x05\x0b\x01\x0b\x80\x01hi",
        Message("t", b"hi", properties=b"\x0b\x01\x0b\x80\x01"),
    ),
    # Acknowledgements
    Example("puback 3.1", 3, SERVER, b"\x40\x02\x00\x01", Acked(4, 1)),
    Example("pubrec 3.1.1", 4, SERVER, b"\x50\x02\x12\x34", Acked(5, 0x1234)),
    Example("pubrel 3.1", 3, CLIENT, b"\x62\x02\x00\x01", Acked(6, 1)),
    Example("pubrel 3.1, DUP", 3, CLIENT, b"\x6a\x02\x00\x01", Acked(6, 1)),
    Example("pubrel 3.1.1", 4, CLIENT, b"\x62\x02\x00\x01", Acked(6, 1)),
    Example("pubcomp 3.1.1", 4, SERVER, b"\x70\x02\xff\xff", Acked(7, 65535)),
    Example("puback 5", 5, SERVER, b"\x40\x02\x00\x01", Acked(4, 1)),
    Example("puback 5, a reason", 5, SERVER, b"\x40\x03\x00\x01\x10", Acked(4, 1, 0x10)),
    Example("pubrec 5, an empty length", 5, SERVER, b"\x50\x04\x00\x01\x97\x00", Acked(5, 1, 0x97)),
    Example(
        "puback 5, all there is", 5, SERVER,
        b"\x40\x10\x00\x01\x97\x0c\x1f\x00\x02no\x26\x00\x01k\x00\x01v",
        Acked(4, 1, 0x97),
    ),
    Example("pubrel 5, a reason", 5, CLIENT, b"\x62\x03\x00\x01\x92", Acked(6, 1, 0x92)),
    Example("pubcomp 5, a reason", 5, SERVER, b"\x70\x03\x00\x01\x92", Acked(7, 1, 0x92)),
    # SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK
    Example(
        "subscribe 3.1", 3, CLIENT, b"\x82\x08\x00\x01\x00\x03a/#\x02", Subscribe(1, [Subscription("a/#", 2)])
    ),
    Example(
        "subscribe 3.1.1", 4, CLIENT,
        b"\x82\x0c\x00\x0a\x00\x01+\x00\x00\x03$S/\x01",
        Subscribe(10, [Subscription("+", 0), Subscription("$S/", 1)]),
    ),
    Example(
        "subscribe 5", 5, CLIENT,
        b"\x82\x20\x00\x0a\x0b\x0b\xff\x7f\x26\x00\x01k\x00\x02vv\x00\x01#\x2d\x00\x0b$share/g//+\x1a",
        Subscribe(
            10,
            [Subscription("#", 0x2D), Subscription("$share/g//+", 0x1A)],
            [(P.SUBSCRIPTION_IDENTIFIER, 16383), (P.USER_PROPERTY, ("k", "vv"))],
        ),
    ),
    Example("suback 3.1", 3, SERVER, b"\x90\x03\x00\x01\x02", Suback(1, [2])),
    Example("suback 3.1.1", 4, SERVER, b"\x90\x06\x00\x01\x00\x01\x02\x80", Suback(1, [0, 1, 2, 0x80])),
    Example(
        "suback 5", 5, SERVER, b"\x90\x0a\x00\x01\x05\x1f\x00\x02no\x00\x97",
        Suback(1, [0, 0x97], [(P.REASON_STRING, "no")]),
    ),
    Example("unsubscribe 3.1", 3, CLIENT, b"\xa2\x05\x00\x01\x00\x01#", Unsubscribe(1, ["#"])),
    Example(
        "unsubscribe 3.1.1", 4, CLIENT, b"\xa2\x08\x00\x01\x00\x01a\x00\x01b",
        Unsubscribe(1, ["a", "b"]),
    ),
    Example(
        "unsubscribe 5", 5, CLIENT, b"\xa2\x0d\x00\x01\x07\x26\x00\x01k\x00\x01v\x00\x01a",
        Unsubscribe(1, ["a"], [(P.USER_PROPERTY, ("k", "v"))]),
    ),
    Example("unsuback 3.1", 3, SERVER, b"\xb0\x02\x00\x01", Unsuback(1)),
    Example("unsuback 3.1.1", 4, SERVER, b"\xb0\x02\xff\xff", Unsuback(65535)),
    Example("unsuback 5", 5, SERVER, b"\xb0\x05\x00\x01\x00\x00\x11", Unsuback(1, [0, 0x11])),
    # PINGREQ, PINGRESP, DISCONNECT, AUTH
    Example("pingreq", 4, CLIENT, b"\xc0\x00", Ping(12)),
    Example("pingresp", 5, SERVER, b"\xd0\x00", Ping(13)),
    Example("disconnect 3.1", 3, CLIENT, b"\xe0\x00", Disconnect()),
    Example("disconnect 3.1.1", 4, CLIENT, b"\xe0\x00", Disconnect()),
    Example("disconnect 5", 5, CLIENT, b"\xe0\x00", Disconnect()),
    Example("disconnect 5, with its will", 5, CLIENT, b"\xe0\x01\x04", Disconnect(4)),
    Example(
        "disconnect 5, another expiry", 5, CLIENT, b"\xe0\x07\x00\x05\x11\x00\x00\x00\x00",
        Disconnect(0, [(P.SESSION_EXPIRY_INTERVAL, 0)]),
    ),
    Example(
        "disconnect 5, moved", 5, SERVER, b"\xe0\x0a\x9d\x08\x1c\x00\x01s\x1f\x00\x01r",
        Disconnect(0x9D, [(P.SERVER_REFERENCE, "s"), (P.REASON_STRING, "r")]),
    ),
    Example("auth 5, done", 5, SERVER, b"\xf0\x00", Auth()),
    Example(
        "auth 5, go on", 5, CLIENT, b"\xf0\x0a\x18\x08\x15\x00\x01m\x16\x00\x01d",
        Auth(0x18, [(P.AUTHENTICATION_METHOD, "m"), (P.AUTHENTICATION_DATA, b"d")]),
    ),
    Example(
        "auth 5, again", 5, CLIENT, b"\xf0\x06\x19\x04\x15\x00\x01m",
        Auth(0x19, [(P.AUTHENTICATION_METHOD, "m")]),
    ),
]  # fmt: skip


def examples(*kinds: int) -> list[Example]:
    """The examples of these packet types."""
    return [example for example in EXAMPLES if example.kind in kinds]
