"""Where a packet begins and ends in a stream: the fixed header (section 2.1)."""

from .errors import Fault, PacketError

LARGEST_REMAINING = 268_435_455
"""The largest remaining length that four bytes can say (section 1.5.5)."""


class Frame:
    """The place of one packet: `body` is the offset behind its fixed header, `end` that behind its last byte.

    `padded` is true when the remaining length has more bytes than it needs, which MQTT 5 alone forbids (1.5.5).
    One frame is read again and again, so that cutting a stream allocates nothing.
    """

    def __init__(self) -> None:
        self.body = 0
        self.end = 0
        self.padded = False

    def read(self, data: bytes, at: int) -> bool:
        """Find the packet that begins at `at`; `end` may lie beyond what has arrived.

        False when its fixed header is not all there yet; PacketError when its length has a fifth byte.
        """
        size = len(data)
        length = 0
        shift = 0
        for i in range(at + 1, at + 5):
            if i >= size:
                return False
            byte = data[i]
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                self.body = i + 1
                self.end = i + 1 + length
                self.padded = byte == 0 and i > at + 1
                return True
            shift += 7
        raise PacketError(Fault.LENGTH, "the remaining length has more than four bytes")


def encode_length(length: int) -> bytes:
    """A variable byte integer (section 1.5.5); ValueError above its largest value."""
    if not 0 <= length <= LARGEST_REMAINING:
        raise ValueError(f"{length} cannot be a remaining length: it must be 0 to {LARGEST_REMAINING}")
    out = bytearray()
    while True:
        length, digit = length >> 7, length & 0x7F
        if not length:
            out.append(digit)
            return bytes(out)
        out.append(digit | 0x80)


def packet(first_byte: int, body: bytes) -> bytes:
    """A whole packet from its first byte (type and flags) and all that follows the fixed header."""
    return bytes([first_byte]) + encode_length(len(body)) + body
