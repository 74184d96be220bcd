"""Packets that break the specification, each in one way, and what that must be counted and answered as."""

from dataclasses import dataclass

from support.packets import CLIENT, SERVER
from tidegate.mqtt.errors import REASON_OF_FAULT, Fault
from tidegate.mqtt.framing import packet
from tidegate.mqtt.reasons import ReasonCode

F = Fault
PROTOCOL_ERROR = ReasonCode.PROTOCOL_ERROR


@dataclass(frozen=True)
class Malformed:
    """One packet that its reader must refuse."""

    name: str
    version: int
    from_client: bool
    wire: bytes
    fault: Fault
    reason: ReasonCode

    @property
    def kind(self) -> int:
        return self.wire[0] >> 4


def _refused(
    name: str,
    version: int,
    from_client: bool,
    first: int,
    body: bytes,
    fault: Fault,
    reason: ReasonCode | None = None,
) -> Malformed:
    return Malformed(
        name, version, from_client, packet(first, body), fault,
        REASON_OF_FAULT[fault] if reason is None else reason,
    )  # fmt: skip


_31 = b"\x00\x06MQIsdp\x03"
_311 = b"\x00\x04MQTT\x04"
_5 = b"\x00\x04MQTT\x05"


def _connect(name: str, body: bytes, fault: Fault) -> Malformed:
    version = 3 if body.startswith(_31) else 4 if body.startswith(_311) else 5
    return _refused(f"connect: {name}", version, CLIENT, 0x10, body, fault)


def _will(name: str, properties: bytes, fault: Fault, reason: ReasonCode | None = None) -> Malformed:
    body = _5 + b"\x06\x00\x00\x00\x00\x00" + properties + b"\x00\x01w\x00\x00"
    return _refused(f"connect: will: {name}", 5, CLIENT, 0x10, body, fault, reason)


def _connect_property(name: str, properties: bytes, fault: Fault) -> Malformed:
    body = _5 + b"\x02\x00\x00" + properties + b"\x00\x01c"
    return _refused(f"connect: {name}", 5, CLIENT, 0x10, body, fault)


CONNECTS = [
    _refused("connect: retain flag", 4, CLIENT, 0x11, _311 + b"\x02\x00\x00\x00\x00", F.RESERVED_BITS),
    _refused("connect: QoS flag", 5, CLIENT, 0x12, _5 + b"\x02\x00\x00\x00\x00\x00", F.RESERVED_BITS),
    _refused("connect: DUP flag", 3, CLIENT, 0x18, _31 + b"\x02\x00\x00\x00\x00", F.RESERVED_BITS),
    _connect("nothing", b"", F.TRUNCATED),
    _connect("half a length", b"\x00", F.TRUNCATED),
    _connect("half a name", b"\x00\x04MQ", F.TRUNCATED),
    _connect("no level", b"\x00\x04MQTT", F.TRUNCATED),
    _connect("a name of HTTP", b"\x00\x04HTTP\x04\x02\x00\x00\x00\x00", F.PROTOCOL),
    _connect("a name in lower case", b"\x00\x04mqtt\x04\x02\x00\x00\x00\x00", F.PROTOCOL),
    _connect("an empty name", b"\x00\x00\x04\x02\x00\x00\x00\x00", F.PROTOCOL),
    _connect("a name that is too long", b"\x00\x05MQTTT\x04\x02\x00\x00\x00\x00", F.PROTOCOL),
    _connect("MQIsdp 4", b"\x00\x06MQIsdp\x04\x02\x00\x00\x00\x00", F.PROTOCOL),
    _connect("MQTT 3", b"\x00\x04MQTT\x03\x02\x00\x00\x00\x00", F.PROTOCOL),
    _connect("MQTT 6", b"\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x00", F.PROTOCOL),
    _connect("MQTT 0", b"\x00\x04MQTT\x00\x02\x00\x00\x00\x00\x00", F.PROTOCOL),
    _connect("a bridge of MQTT 5", b"\x00\x04MQTT\x85\x02\x00\x00\x00\x00\x00", F.PROTOCOL),
    _connect("reserved flag", _311 + b"\x03\x00\x00\x00\x00", F.RESERVED_BITS),
    _connect("reserved flag, 5", _5 + b"\x03\x00\x00\x00\x00\x00", F.RESERVED_BITS),
    _connect("no flags", _311, F.TRUNCATED),
    _connect("half a keepalive", _311 + b"\x02\x00", F.TRUNCATED),
    _connect("no identifier", _311 + b"\x02\x00\x00", F.TRUNCATED),
    _connect("half an identifier", _311 + b"\x02\x00\x00\x00\x02c", F.TRUNCATED),
    _connect("no properties", _5 + b"\x02\x00\x00", F.TRUNCATED),
    _connect("a will's QoS without it", _311 + b"\x0a\x00\x00\x00\x00", F.CONNECT_FLAGS),
    _connect("a will's retain without it", _5 + b"\x22\x00\x00\x00\x00\x00", F.CONNECT_FLAGS),
    _connect("a will of QoS 3", _311 + b"\x1e\x00\x00\x00\x00\x00\x01w\x00\x00", F.QOS),
    _connect("a will of QoS 3, 3.1", _31 + b"\x1e\x00\x00\x00\x00\x00\x01w\x00\x00", F.QOS),
    _connect("a password alone", _311 + b"\x42\x00\x00\x00\x00\x00\x01p", F.CONNECT_FLAGS),
    _connect("a password alone, 3.1", _31 + b"\x42\x00\x00\x00\x00\x00\x01p", F.CONNECT_FLAGS),
    _connect("user name missing", _311 + b"\x82\x00\x00\x00\x00", F.TRUNCATED),
    _connect("user name cut, 3.1", _31 + b"\x82\x00\x00\x00\x00\x00", F.TRUNCATED),
    _connect("password missing", _311 + b"\xc2\x00\x00\x00\x00\x00\x01u", F.TRUNCATED),
    _connect("will missing", _31 + b"\x06\x00\x00\x00\x00", F.TRUNCATED),
    _connect("will's payload missing", _311 + b"\x06\x00\x00\x00\x00\x00\x01w", F.TRUNCATED),
    _connect("will's topic empty", _311 + b"\x06\x00\x00\x00\x00\x00\x00\x00\x00", F.TOPIC),
    _connect("will's topic with #", _311 + b"\x06\x00\x00\x00\x00\x00\x03a/#\x00\x00", F.TOPIC),
    _connect("will's topic with +", _31 + b"\x06\x00\x00\x00\x00\x00\x03a/+\x00\x00", F.TOPIC),
    _connect("will's topic with NUL", _311 + b"\x06\x00\x00\x00\x00\x00\x02a\x00\x00\x00", F.UTF8),
    _connect("identifier with NUL", _311 + b"\x02\x00\x00\x00\x01\x00", F.UTF8),
    _connect("identifier in Latin-1", _5 + b"\x02\x00\x00\x00\x00\x01\xe9", F.UTF8),
    _connect("identifier with a surrogate", _31 + b"\x02\x00\x00\x00\x03\xed\xa0\x80", F.UTF8),
    _connect("user name not UTF-8", _311 + b"\x82\x00\x00\x00\x00\x00\x01\xff", F.UTF8),
    _connect("a byte too many", _311 + b"\x02\x00\x00\x00\x00\x00", F.SURPLUS),
    _connect("a user name without its flag", _5 + b"\x02\x00\x00\x00\x00\x00\x00\x01u", F.SURPLUS),
    _connect("a user name without its flag, 3.1", _31 + b"\x02\x00\x00\x00\x00\x00\x01u", F.SURPLUS),
    _connect_property("unknown property", b"\x02\x04\x00", F.FOREIGN_PROPERTY),
    _connect_property("property 0", b"\x02\x00\x00", F.FOREIGN_PROPERTY),
    _connect_property("property 255", b"\x02\xff\x00", F.FOREIGN_PROPERTY),
    _connect_property("a topic alias", b"\x03\x23\x00\x01", F.FOREIGN_PROPERTY),
    _connect_property("a will's delay", b"\x05\x18\x00\x00\x00\x01", F.FOREIGN_PROPERTY),
    _connect_property("receive maximum 0", b"\x03\x21\x00\x00", F.PROPERTY),
    _connect_property("receive maximum twice", b"\x06\x21\x00\x01\x21\x00\x01", F.PROPERTY),
    _connect_property("maximum packet size 0", b"\x05\x27\x00\x00\x00\x00", F.PROPERTY),
    _connect_property("problem information 2", b"\x02\x17\x02", F.PROPERTY),
    _connect_property("response information 2", b"\x02\x19\x02", F.PROPERTY),
    _connect_property("authentication data alone", b"\x04\x16\x00\x01d", F.PROPERTY),
    _connect_property("properties too long", b"\x04\x21\x00\x01", F.FOREIGN_PROPERTY),
    _connect_property("properties too short", b"\x02\x21\x00\x01", F.TRUNCATED),
    _connect_property("properties beyond the end", b"\x7f\x21\x00\x01", F.TRUNCATED),
    _connect_property("a length of five bytes", b"\x80\x80\x80\x80\x00", F.LENGTH),
    _connect_property("a length of two bytes for 0", b"\x80\x00", F.LENGTH),
    _connect_property("user property not UTF-8", b"\x07\x26\x00\x01\xff\x00\x01v", F.UTF8),
    _connect_property("user property without a value", b"\x04\x26\x00\x01k", F.TRUNCATED),
    _will("an expiry of the session", b"\x05\x11\x00\x00\x00\x01", F.FOREIGN_PROPERTY),
    _will("payload format 2", b"\x02\x01\x02", F.PROPERTY),
    _will("response topic with a wildcard", b"\x04\x08\x00\x01#", F.TOPIC),
    _will("response topic empty", b"\x03\x08\x00\x00", F.TOPIC),
    _will("content type twice", b"\x08\x03\x00\x01c\x03\x00\x01c", F.PROPERTY),
]


def _connack(name: str, version: int, body: bytes, fault: Fault, first: int = 0x20) -> Malformed:
    return _refused(f"connack: {name}", version, SERVER, first, body, fault)


CONNACKS = [
    _connack("flags", 4, b"\x00\x00", F.RESERVED_BITS, 0x21),
    _connack("nothing", 4, b"", F.TRUNCATED),
    _connack("one byte", 5, b"\x00", F.TRUNCATED),
    _connack("acknowledge flags", 4, b"\x02\x00", F.RESERVED_BITS),
    _connack("return code 6", 4, b"\x00\x06", F.REASON_CODE),
    _connack("a reason of MQTT 5 in 3.1.1", 4, b"\x00\x88", F.REASON_CODE),
    _connack("surplus", 4, b"\x00\x00\x00", F.SURPLUS),
    _connack("refused with a session", 4, b"\x01\x05", F.REASON_CODE),
    _connack("refused with a session, 5", 5, b"\x01\x88\x00", F.REASON_CODE),
    _connack("no properties", 5, b"\x00\x00", F.TRUNCATED),
    _connack("return code 1 with properties", 5, b"\x00\x01\x00", F.REASON_CODE),
    _connack("unknown reason", 5, b"\x00\x8d\x00", F.REASON_CODE),
    _connack("surplus, 5", 5, b"\x00\x00\x00\x00", F.SURPLUS),
    _connack("maximum QoS 2", 5, b"\x00\x00\x02\x24\x02", F.PROPERTY),
    _connack("receive maximum 0", 5, b"\x00\x00\x03\x21\x00\x00", F.PROPERTY),
    _connack("will delay", 5, b"\x00\x00\x05\x18\x00\x00\x00\x00", F.FOREIGN_PROPERTY),
]


def _publish(
    name: str, version: int, first: int, body: bytes, fault: Fault, reason: ReasonCode | None = None
) -> Malformed:
    return _refused(f"publish: {name}", version, CLIENT, first, body, fault, reason)


PUBLISHES = [
    _publish("QoS 3", 4, 0x36, b"\x00\x01t\x00\x01", F.QOS),
    _publish("DUP with QoS 0", 4, 0x38, b"\x00\x01t", F.QOS),
    _publish("nothing", 4, 0x30, b"", F.TRUNCATED),
    _publish("half a length", 4, 0x30, b"\x00", F.TRUNCATED),
    _publish("half a topic", 5, 0x30, b"\x00\x03ab", F.TRUNCATED),
    _publish("half an identifier", 4, 0x32, b"\x00\x01t\x00", F.TRUNCATED),
    _publish("identifier 0", 4, 0x32, b"\x00\x01t\x00\x00", F.PACKET_ID),
    _publish("identifier 0, 5", 5, 0x34, b"\x00\x01t\x00\x00\x00", F.PACKET_ID),
    _publish("empty topic", 4, 0x30, b"\x00\x00hi", F.TOPIC),
    _publish("empty topic, 3.1", 3, 0x30, b"\x00\x00hi", F.TOPIC),
    _publish("empty topic without an alias", 5, 0x30, b"\x00\x00\x00hi", F.TOPIC, PROTOCOL_ERROR),
    _publish("topic with +", 4, 0x30, b"\x00\x01+", F.TOPIC),
    _publish("topic with #", 5, 0x30, b"\x00\x03a/#\x00", F.TOPIC),
    _publish("topic with NUL", 4, 0x30, b"\x00\x01\x00", F.UTF8),
    _publish("topic not UTF-8", 4, 0x30, b"\x00\x02\xc3\x28", F.UTF8),
    _publish("topic overlong", 4, 0x30, b"\x00\x02\xc0\x80", F.UTF8),
    _publish("topic with a surrogate", 4, 0x30, b"\x00\x03\xed\xa0\x80", F.UTF8),
    _publish("topic above U+10FFFF", 4, 0x30, b"\x00\x04\xf4\x90\x80\x80", F.UTF8),
    _publish("topic cut inside a character", 4, 0x30, b"\x00\x02\xe2\x82\xac", F.UTF8),
    _publish("no properties", 5, 0x30, b"\x00\x01t", F.TRUNCATED),
    _publish("properties beyond the end", 5, 0x30, b"\x00\x01t\x05\x23\x00", F.TRUNCATED),
    _publish("a length of five bytes", 5, 0x30, b"\x00\x01t\xff\xff\xff\xff\x01", F.LENGTH),
    _publish("a length of two bytes for 0", 5, 0x30, b"\x00\x01t\x80\x00", F.LENGTH),
    _publish("unknown property", 5, 0x30, b"\x00\x01t\x02\x7f\x00", F.FOREIGN_PROPERTY),
    _publish("reason string", 5, 0x30, b"\x00\x01t\x03\x1f\x00\x00", F.FOREIGN_PROPERTY),
    _publish("payload format 2", 5, 0x30, b"\x00\x01t\x02\x01\x02", F.PROPERTY),
    _publish("content type twice", 5, 0x30, b"\x00\x01t\x06\x03\x00\x00\x03\x00\x00", F.PROPERTY),
    _publish("alias twice", 5, 0x30, b"\x00\x01t\x06\x23\x00\x01\x23\x00\x01", F.PROPERTY),
    _publish("alias 0", 5, 0x30, b"\x00\x01t\x03\x23\x00\x00", F.ALIAS),
    _publish("alias cut", 5, 0x30, b"\x00\x01t\x02\x23\x00", F.TRUNCATED),
    _publish("subscription identifier of a client", 5, 0x30, b"\x00\x01t\x02\x0b\x01", F.PROPERTY),
    _publish("response topic with a wildcard", 5, 0x30, b"\x00\x01t\x04\x08\x00\x01+", F.TOPIC),
    _publish("response topic empty", 5, 0x30, b"\x00\x01t\x03\x08\x00\x00", F.TOPIC),
    _publish("content type not UTF-8", 5, 0x30, b"\x00\x01t\x04\x03\x00\x01\xff", F.UTF8),
    _refused("publish: subscription identifier 0", 5, SERVER, 0x30, b"\x00\x01t\x04\x0b\x01\x0b\x00", F.PROPERTY),
    _refused("publish: alias 0, of a server", 5, SERVER, 0x30, b"\x00\x01t\x03\x23\x00\x00", F.ALIAS),
]


def _ack(name: str, version: int, first: int, body: bytes, fault: Fault) -> Malformed:
    return _refused(f"ack: {name}", version, CLIENT, first, body, fault)


ACKS = [
    _ack("puback with flags", 4, 0x41, b"\x00\x01", F.RESERVED_BITS),
    _ack("pubrec with flags", 5, 0x52, b"\x00\x01", F.RESERVED_BITS),
    _ack("pubrel without flags", 4, 0x60, b"\x00\x01", F.RESERVED_BITS),
    _ack("pubrel with DUP", 4, 0x6A, b"\x00\x01", F.RESERVED_BITS),
    _ack("pubrel with DUP, 5", 5, 0x6A, b"\x00\x01", F.RESERVED_BITS),
    _ack("pubrel with DUP alone, 3.1", 3, 0x68, b"\x00\x01", F.RESERVED_BITS),
    _ack("pubrel with retain, 3.1", 3, 0x63, b"\x00\x01", F.RESERVED_BITS),
    _ack("pubcomp with DUP, 3.1", 3, 0x78, b"\x00\x01", F.RESERVED_BITS),
    _ack("nothing", 4, 0x40, b"", F.TRUNCATED),
    _ack("half an identifier", 5, 0x50, b"\x00", F.TRUNCATED),
    _ack("identifier 0", 4, 0x62, b"\x00\x00", F.PACKET_ID),
    _ack("identifier 0, 5", 5, 0x70, b"\x00\x00\x00", F.PACKET_ID),
    _ack("a reason in 3.1.1", 4, 0x40, b"\x00\x01\x00", F.SURPLUS),
    _ack("a reason in 3.1", 3, 0x70, b"\x00\x01\x00", F.SURPLUS),
    _ack("puback with a reason of pubrel", 5, 0x40, b"\x00\x01\x92", F.REASON_CODE),
    _ack("pubrec with an unknown reason", 5, 0x50, b"\x00\x01\x01", F.REASON_CODE),
    _ack("pubrel with a reason of puback", 5, 0x62, b"\x00\x01\x97", F.REASON_CODE),
    _ack("pubcomp with an unknown reason", 5, 0x70, b"\x00\x01\xff", F.REASON_CODE),
    _ack("properties beyond the end", 5, 0x40, b"\x00\x01\x00\x05\x1f\x00", F.TRUNCATED),
    _ack("bytes behind the properties", 5, 0x40, b"\x00\x01\x00\x00\x00", F.SURPLUS),
    _ack("a property of publish", 5, 0x40, b"\x00\x01\x00\x03\x23\x00\x01", F.FOREIGN_PROPERTY),
    _ack("reason string twice", 5, 0x62, b"\x00\x01\x00\x06\x1f\x00\x00\x1f\x00\x00", F.PROPERTY),
    _ack("reason string with NUL", 5, 0x70, b"\x00\x01\x00\x04\x1f\x00\x01\x00", F.UTF8),
    _ack("half a length of properties", 5, 0x40, b"\x00\x01\x00\x80", F.TRUNCATED),
]


def _subscribe(
    name: str, version: int, body: bytes, fault: Fault, reason: ReasonCode | None = None, first: int = 0x82
) -> Malformed:
    return _refused(f"subscribe: {name}", version, CLIENT, first, body, fault, reason)


SUBSCRIBES = [
    _subscribe("flags 0", 4, b"\x00\x01\x00\x01t\x00", F.RESERVED_BITS, first=0x80),
    _subscribe("flags 3", 5, b"\x00\x01\x00\x00\x01t\x00", F.RESERVED_BITS, first=0x83),
    _subscribe("DUP", 4, b"\x00\x01\x00\x01t\x00", F.RESERVED_BITS, first=0x8A),
    _subscribe("DUP alone, 3.1", 3, b"\x00\x01\x00\x01t\x00", F.RESERVED_BITS, first=0x88),
    _subscribe("nothing", 4, b"", F.TRUNCATED),
    _subscribe("half an identifier", 4, b"\x00", F.TRUNCATED),
    _subscribe("identifier 0", 4, b"\x00\x00\x00\x01t\x00", F.PACKET_ID),
    _subscribe("no properties", 5, b"\x00\x01", F.TRUNCATED),
    _subscribe("no filter", 4, b"\x00\x01", F.EMPTY),
    _subscribe("no filter, 5", 5, b"\x00\x01\x00", F.EMPTY),
    _subscribe("half a filter", 4, b"\x00\x01\x00\x02t", F.TRUNCATED),
    _subscribe("no options", 4, b"\x00\x01\x00\x01t", F.TRUNCATED),
    _subscribe("a second filter without options", 4, b"\x00\x01\x00\x01t\x00\x00\x01u", F.TRUNCATED),
    _subscribe("QoS 3", 4, b"\x00\x01\x00\x01t\x03", F.QOS),
    _subscribe("QoS 3, 5", 5, b"\x00\x01\x00\x00\x01t\x03", F.QOS),
    _subscribe("options of MQTT 5", 4, b"\x00\x01\x00\x01t\x04", F.RESERVED_BITS),
    _subscribe("options of MQTT 5, 3.1", 3, b"\x00\x01\x00\x01t\x09", F.RESERVED_BITS),
    _subscribe("reserved bit 6", 5, b"\x00\x01\x00\x00\x01t\x40", F.RESERVED_BITS),
    _subscribe("reserved bit 7", 5, b"\x00\x01\x00\x00\x01t\x80", F.RESERVED_BITS),
    _subscribe("retain handling 3", 5, b"\x00\x01\x00\x00\x01t\x30", F.RESERVED_BITS, PROTOCOL_ERROR),
    _subscribe("shared with No Local", 5, b"\x00\x01\x00\x00\x0a$share/g/t\x04", F.FILTER, PROTOCOL_ERROR),
    _subscribe("an empty filter", 4, b"\x00\x01\x00\x00\x00", F.FILTER),
    _subscribe("# not last", 4, b"\x00\x01\x00\x03#/a\x00", F.FILTER),
    _subscribe("# in a level", 5, b"\x00\x01\x00\x00\x02a#\x00", F.FILTER),
    _subscribe("+ in a level", 3, b"\x00\x01\x00\x04a/+b\x00", F.FILTER),
    _subscribe("$share without a filter", 5, b"\x00\x01\x00\x00\x08$share/g\x00", F.FILTER),
    _subscribe("$share with an empty filter", 5, b"\x00\x01\x00\x00\x09$share/g/\x00", F.FILTER),
    _subscribe("$share without a name", 5, b"\x00\x01\x00\x00\x09$share//t\x00", F.FILTER),
    _subscribe("$share with a wildcard name", 5, b"\x00\x01\x00\x00\x0b$share/g+/t\x00", F.FILTER),
    _subscribe("filter with NUL", 4, b"\x00\x01\x00\x01\x00\x00", F.UTF8),
    _subscribe("filter not UTF-8", 4, b"\x00\x01\x00\x01\xfe\x00", F.UTF8),
    _subscribe("subscription identifier 0", 5, b"\x00\x01\x02\x0b\x00\x00\x01t\x00", F.PROPERTY),
    _subscribe("subscription identifier twice", 5, b"\x00\x01\x04\x0b\x01\x0b\x01\x00\x01t\x00", F.PROPERTY),
    _subscribe("subscription identifier overlong", 5, b"\x00\x01\x03\x0b\x81\x00\x00\x01t\x00", F.LENGTH),
    _subscribe("a reason string", 5, b"\x00\x01\x03\x1f\x00\x00\x00\x01t\x00", F.FOREIGN_PROPERTY),
]


def _suback(name: str, version: int, body: bytes, fault: Fault, first: int = 0x90) -> Malformed:
    return _refused(f"suback: {name}", version, SERVER, first, body, fault)


SUBACKS = [
    _suback("flags", 4, b"\x00\x01\x00", F.RESERVED_BITS, 0x92),
    _suback("flags, 3.1", 3, b"\x00\x01\x00", F.RESERVED_BITS, 0x98),
    _suback("half an identifier", 4, b"\x00", F.TRUNCATED),
    _suback("identifier 0", 4, b"\x00\x00\x00", F.PACKET_ID),
    _suback("no reason", 4, b"\x00\x01", F.TRUNCATED),
    _suback("no reason, 5", 5, b"\x00\x01\x00", F.TRUNCATED),
    _suback("QoS 3", 4, b"\x00\x01\x03", F.REASON_CODE),
    _suback("a reason of MQTT 5 in 3.1.1", 4, b"\x00\x01\x97", F.REASON_CODE),
    _suback("a reason of unsuback", 5, b"\x00\x01\x00\x11", F.REASON_CODE),
    _suback("a subscription identifier", 5, b"\x00\x01\x02\x0b\x01\x00", F.FOREIGN_PROPERTY),
]  # fmt: skip


def _unsubscribe(name: str, version: int, body: bytes, fault: Fault, first: int = 0xA2) -> Malformed:
    return _refused(f"unsubscribe: {name}", version, CLIENT, first, body, fault)


UNSUBSCRIBES = [
    _unsubscribe("flags", 4, b"\x00\x01\x00\x01t", F.RESERVED_BITS, 0xA0),
    _unsubscribe("DUP", 5, b"\x00\x01\x00\x00\x01t", F.RESERVED_BITS, 0xAA),
    _unsubscribe("nothing", 5, b"", F.TRUNCATED),
    _unsubscribe("identifier 0", 4, b"\x00\x00\x00\x01t", F.PACKET_ID),
    _unsubscribe("no filter", 3, b"\x00\x01", F.EMPTY),
    _unsubscribe("no filter, 5", 5, b"\x00\x01\x00", F.EMPTY),
    _unsubscribe("half a filter", 4, b"\x00\x01\x00\x02t", F.TRUNCATED),
    _unsubscribe("half a length", 4, b"\x00\x01\x00\x01t\x00", F.TRUNCATED),
    _unsubscribe("an empty filter", 4, b"\x00\x01\x00\x00", F.FILTER),
    _unsubscribe("# not last", 4, b"\x00\x01\x00\x03#/a", F.FILTER),
    _unsubscribe("filter not UTF-8", 4, b"\x00\x01\x00\x01\x80", F.UTF8),
    _unsubscribe("a subscription identifier", 5, b"\x00\x01\x02\x0b\x01\x00\x01t", F.FOREIGN_PROPERTY),
]


def _unsuback(name: str, version: int, body: bytes, fault: Fault, first: int = 0xB0) -> Malformed:
    return _refused(f"unsuback: {name}", version, SERVER, first, body, fault)


UNSUBACKS = [
    _unsuback("flags", 4, b"\x00\x01", F.RESERVED_BITS, 0xB2),
    _unsuback("half an identifier", 4, b"\x00", F.TRUNCATED),
    _unsuback("identifier 0", 5, b"\x00\x00\x00\x00", F.PACKET_ID),
    _unsuback("a reason in 3.1.1", 4, b"\x00\x01\x00", F.SURPLUS),
    _unsuback("no reason", 5, b"\x00\x01\x00", F.TRUNCATED),
    _unsuback("a reason of suback", 5, b"\x00\x01\x00\x01", F.REASON_CODE),
]

SESSIONS = [
    _refused("pingreq: flags", 4, CLIENT, 0xC1, b"", F.RESERVED_BITS),
    _refused("pingreq: a body", 4, CLIENT, 0xC0, b"\x00", F.SURPLUS),
    _refused("pingresp: flags", 5, SERVER, 0xD8, b"", F.RESERVED_BITS),
    _refused("pingresp: a body", 5, SERVER, 0xD0, b"\x00", F.SURPLUS),
    _refused("disconnect: flags", 4, CLIENT, 0xE2, b"", F.RESERVED_BITS),
    _refused("disconnect: a body in 3.1.1", 4, CLIENT, 0xE0, b"\x00", F.SURPLUS),
    _refused("disconnect: a body in 3.1", 3, CLIENT, 0xE0, b"\x00", F.SURPLUS),
    _refused("disconnect: of a 3.1.1 server", 4, SERVER, 0xE0, b"", F.DIRECTION),
    _refused("disconnect: unknown reason", 5, CLIENT, 0xE0, b"\x01", F.REASON_CODE),
    _refused("disconnect: a server's reason", 5, CLIENT, 0xE0, b"\x8b", F.REASON_CODE),
    _refused("disconnect: a client's reason", 5, SERVER, 0xE0, b"\x04", F.REASON_CODE),
    _refused("disconnect: properties cut", 5, CLIENT, 0xE0, b"\x00\x05\x11\x00", F.TRUNCATED),
    _refused("disconnect: surplus", 5, CLIENT, 0xE0, b"\x00\x00\x00", F.SURPLUS),
    _refused("disconnect: a topic alias", 5, CLIENT, 0xE0, b"\x00\x03\x23\x00\x01", F.FOREIGN_PROPERTY),
    _refused("disconnect: a server's expiry", 5, SERVER, 0xE0, b"\x8b\x05\x11\x00\x00\x00\x00", F.PROPERTY),
    _refused("auth: flags", 5, CLIENT, 0xF1, b"\x18\x04\x15\x00\x01m", F.RESERVED_BITS),
    _refused("auth: unknown reason", 5, CLIENT, 0xF0, b"\x01\x00", F.REASON_CODE),
    _refused("auth: success of a client", 5, CLIENT, 0xF0, b"", F.REASON_CODE),
    _refused("auth: again, of a server", 5, SERVER, 0xF0, b"\x19\x04\x15\x00\x01m", F.REASON_CODE),
    _refused("auth: no properties", 5, CLIENT, 0xF0, b"\x18", F.TRUNCATED),
    _refused("auth: no method", 5, CLIENT, 0xF0, b"\x18\x00", F.PROPERTY),
    _refused("auth: surplus", 5, SERVER, 0xF0, b"\x00\x04\x15\x00\x01m\x00", F.SURPLUS),
    _refused("auth: an expiry", 5, CLIENT, 0xF0, b"\x18\x05\x11\x00\x00\x00\x00", F.FOREIGN_PROPERTY),
]

MALFORMED = [
    *CONNECTS, *CONNACKS, *PUBLISHES, *ACKS, *SUBSCRIBES, *SUBACKS, *UNSUBSCRIBES, *UNSUBACKS, *SESSIONS,
]  # fmt: skip
