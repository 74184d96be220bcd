import pytest

from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.fields import read_binary, read_number, read_text, write_binary, write_text


def test_numbers() -> None:
    assert read_number(b"\xff\x12\x34", 1, 3) == (0x1234, 3)
    with pytest.raises(PacketError) as caught:
        read_number(b"\x12\x34", 0, 1)
    assert caught.value.fault is Fault.TRUNCATED


@pytest.mark.parametrize("text", ["", "a", "é€\U0001f600", "x" * 65535])
def test_text(text: str) -> None:
    wire = write_text(text)
    assert read_text(b"\xff" + wire + b"\xff", 1, 1 + len(wire)) == (text, 1 + len(wire))


@pytest.mark.parametrize("value", [b"", b"\x00\xff", bytes(65535)])
def test_binary(value: bytes) -> None:
    wire = write_binary(value)
    assert wire == len(value).to_bytes(2, "big") + value
    assert read_binary(b"\xff" + wire + b"\xff", 1, 1 + len(wire)) == (value, 1 + len(wire))


def test_too_long() -> None:
    with pytest.raises(ValueError, match="65536 bytes"):
        write_binary(bytes(65536))
    with pytest.raises(ValueError, match="65536 bytes"):
        write_text("é" * 32768)


def test_wrong() -> None:
    with pytest.raises(PacketError) as caught:
        read_text(b"\x00\x01\xff", 0, 3)
    assert caught.value.fault is Fault.UTF8
    with pytest.raises(PacketError) as caught:
        read_binary(b"\x00\x02a", 0, 3)
    assert caught.value.fault is Fault.TRUNCATED
