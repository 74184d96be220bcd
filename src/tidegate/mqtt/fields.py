"""Numbers and length-prefixed fields as values (sections 1.5.2, 1.5.4 and 1.5.6), for all but messages.

Each reader returns the value and the offset behind it; PacketError for a field that does not end by `end`.
"""

from .errors import Fault, PacketError
from .text import field_end, text_end


def read_number(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A two byte integer."""
    if at + 2 > end:
        raise PacketError(Fault.TRUNCATED, "the packet ends inside a two byte integer")
    return data[at] << 8 | data[at + 1], at + 2


def read_text(data: bytes, at: int, end: int) -> tuple[str, int]:
    """A UTF-8 string."""
    stop = text_end(data, at, end)
    return data[at + 2 : stop].decode(), stop


def read_binary(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    """Binary data."""
    stop = field_end(data, at, end)
    return data[at + 2 : stop], stop


def write_text(value: str) -> bytes:
    """A UTF-8 string; ValueError when it has more than 65,535 bytes."""
    return write_binary(value.encode())


def write_binary(value: bytes) -> bytes:
    """Binary data; ValueError when it has more than 65,535 bytes."""
    if len(value) > 0xFFFF:
        raise ValueError(f"a field of {len(value)} bytes cannot be written: it must be at most 65535")
    return len(value).to_bytes(2, "big") + value
