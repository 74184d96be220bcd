"""MQTT packets, written and told, by nothing but the specification.

The suites that judge the gateway may not lean on its own codec: a fault in it would hide itself.
"""

from collections.abc import Iterator

V31, V311, V5 = 3, 4, 5

NAMES = (
    "RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
    "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
)  # fmt: skip

PINGREQ = b"\xc0\x00"
PINGRESP = b"\xd0\x00"
DISCONNECT = b"\xe0\x00"


def length(number: int) -> bytes:
    """A variable byte integer (section 1.5.5)."""
    out = bytearray()
    while True:
        number, digit = divmod(number, 128)
        out.append(digit | (128 if number else 0))
        if not number:
            return bytes(out)


def packet(first: int, body: bytes = b"") -> bytes:
    """A packet from its first byte and all that follows the remaining length."""
    return bytes([first]) + length(len(body)) + body


def field(value: bytes | str) -> bytes:
    """A string or binary field: its length in two bytes, then itself."""
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2, "big") + data


def properties(version: int, encoded: bytes = b"") -> bytes:
    """Properties with their length: what version 5 has and the others lack."""
    return length(len(encoded)) + encoded if version == V5 else b""


def connect(
    version: int,
    client_id: str,
    *,
    flags: int = 0x02,
    keepalive: int = 60,
    props: bytes = b"",
    rest: bytes = b"",
    name: bytes | None = None,
    level: int | None = None,
) -> bytes:
    """A CONNECT; `rest` is the payload behind the client id, `name` and `level` break the protocol's own."""
    if name is None:
        name = b"MQIsdp" if version == V31 else b"MQTT"
    body = field(name) + bytes([version if level is None else level, flags]) + keepalive.to_bytes(2, "big")
    return packet(0x10, body + properties(version, props) + field(client_id) + rest)


def publish(
    version: int,
    topic: bytes | str,
    payload: bytes = b"",
    *,
    first: int = 0x30,
    packet_id: int | None = None,
    props: bytes = b"",
) -> bytes:
    """A PUBLISH with the flags of `first`, and a packet identifier only if one is given."""
    identifier = b"" if packet_id is None else packet_id.to_bytes(2, "big")
    return packet(first, field(topic) + identifier + properties(version, props) + payload)


def subscribe(
    version: int, *filters: tuple[bytes | str, int], packet_id: int = 1, first: int = 0x82, props: bytes = b""
) -> bytes:
    """A SUBSCRIBE for pairs of filter and options."""
    body = b"".join(field(name) + bytes([options]) for name, options in filters)
    return packet(first, packet_id.to_bytes(2, "big") + properties(version, props) + body)


def unsubscribe(
    version: int, *filters: bytes | str, packet_id: int = 1, first: int = 0xA2, props: bytes = b""
) -> bytes:
    """An UNSUBSCRIBE."""
    body = b"".join(field(name) for name in filters)
    return packet(first, packet_id.to_bytes(2, "big") + properties(version, props) + body)


def split(stream: bytes) -> Iterator[bytes]:
    """The whole packets of a stream, each as it lies there; what is left of an unfinished one comes last."""
    at = 0
    while at < len(stream):
        size, shift, i = 0, 0, at + 1
        while i < len(stream):
            size |= (stream[i] & 127) << shift
            shift += 7
            i += 1
            if stream[i - 1] < 128:
                break
        else:
            yield stream[at:]
            return
        yield stream[at : i + size]
        at = i + size


def whole(stream: bytes) -> int:
    """The length of the first packet if it is all there, else 0."""
    if len(stream) < 2:
        return 0
    size, shift = 0, 0
    for i in range(1, min(len(stream), 5)):
        size |= (stream[i] & 127) << shift
        shift += 7
        if stream[i] < 128:
            return i + 1 + size if len(stream) >= i + 1 + size else 0
    return 0


def body_of(data: bytes) -> bytes:
    """What follows the fixed header."""
    i = 1
    while data[i] >= 128:
        i += 1
    return data[i + 1 :]


def tell(data: bytes, version: int) -> str:
    """One line that says what a packet from a server is: type, identifier, reasons. Properties are left out."""
    kind, body = data[0] >> 4, body_of(data)
    name = NAMES[kind]
    if kind == 2:
        return f"{name} {'session ' if body[0] & 1 else ''}0x{body[1]:02X}"
    if kind == 3:
        size = int.from_bytes(body[:2], "big")
        return f"{name} qos {data[0] >> 1 & 3} {body[2 : 2 + size].decode(errors='replace')}"
    if kind in {4, 5, 6, 7}:
        reason = body[2] if len(body) > 2 else 0
        return f"{name} id {int.from_bytes(body[:2], 'big')} 0x{reason:02X}"
    if kind in {9, 11}:
        skip = 2
        if version == V5:
            skip += 1 + body[2]  # no server here writes 128 bytes of properties into a SUBACK
        codes = " ".join(f"0x{code:02X}" for code in body[skip:])
        return f"{name} id {int.from_bytes(body[:2], 'big')} {codes}".rstrip()
    if kind in {14, 15}:
        return f"{name} 0x{body[0] if body else 0:02X}"
    return name
