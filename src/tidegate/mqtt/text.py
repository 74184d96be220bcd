"""UTF-8 strings (section 1.5.4) and topic names (section 4.7), checked where they lie in a packet."""

from .errors import Fault, PacketError


def sequence_end(data: bytes, at: int, end: int) -> int:
    """The end of the UTF-8 sequence of two to four bytes at `at`; 0 when it is ill-formed (RFC 3629)."""
    first = data[at]
    if 0xC2 <= first <= 0xDF:
        size = 2
    elif 0xE0 <= first <= 0xEF:
        size = 3
    elif 0xF0 <= first <= 0xF4:
        size = 4
    else:
        return 0
    if at + size > end:
        return 0
    # The second byte's range rules out overlong forms, the surrogates U+D800..DFFF and all above U+10FFFF.
    second = data[at + 1]
    low = 0xA0 if first == 0xE0 else 0x90 if first == 0xF0 else 0x80
    high = 0x9F if first == 0xED else 0x8F if first == 0xF4 else 0xBF
    if second < low or second > high:
        return 0
    for i in range(at + 2, at + size):
        if data[i] & 0xC0 != 0x80:
            return 0
    return at + size


def check_text(data: bytes, at: int, end: int) -> None:
    """Raise PacketError unless bytes `at` to `end` are well-formed UTF-8 without U+0000 (section 1.5.4)."""
    while at < end:
        byte = data[at]
        if byte == 0:
            raise PacketError(Fault.UTF8, "a string holds U+0000")
        if byte < 0x80:
            at += 1
            continue
        at = sequence_end(data, at, end)
        if at == 0:
            raise PacketError(Fault.UTF8, "a string is not well-formed UTF-8")


def check_topic_name(data: bytes, at: int, end: int) -> None:
    """Raise PacketError unless bytes `at` to `end` are a topic name: not empty, no wildcard (section 4.7)."""
    if at == end:
        raise PacketError(Fault.TOPIC, "the topic name is empty")
    while at < end:
        byte = data[at]
        if byte == 0:
            raise PacketError(Fault.UTF8, "the topic name holds U+0000")
        if byte == 0x2B or byte == 0x23:
            raise PacketError(Fault.TOPIC, "the topic name holds a wildcard, + or #")
        if byte < 0x80:
            at += 1
            continue
        at = sequence_end(data, at, end)
        if at == 0:
            raise PacketError(Fault.UTF8, "the topic name is not well-formed UTF-8")


def field_end(data: bytes, at: int, end: int) -> int:
    """The end of the field at `at` that begins with its length in two bytes; PacketError beyond `end`."""
    if at + 2 > end:
        raise PacketError(Fault.TRUNCATED, "the packet ends inside a field's length")
    stop = at + 2 + (data[at] << 8 | data[at + 1])
    if stop > end:
        raise PacketError(Fault.TRUNCATED, "a field reaches beyond the packet's end")
    return stop


def text_end(data: bytes, at: int, end: int) -> int:
    """The end of the UTF-8 string (length and bytes) at `at`; PacketError unless whole and well-formed."""
    stop = field_end(data, at, end)
    check_text(data, at + 2, stop)
    return stop
