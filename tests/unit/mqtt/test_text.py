import itertools

import pytest

from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.text import check_text, check_topic_name, field_end, sequence_end, text_end


def well_formed(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def accepted(data: bytes) -> bool:
    try:
        check_text(data, 0, len(data))
    except PacketError as error:
        return error.fault is not Fault.UTF8
    return True


def test_every_pair_of_bytes() -> None:
    for pair in itertools.product(range(256), repeat=2):
        assert accepted(bytes(pair)) == well_formed(bytes(pair))


# At each border of the table of RFC 3629, section 4.
EDGES = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xFF)


@pytest.mark.parametrize("first", [*range(0xDF, 0xF6), 0xFF])
def test_longer_sequences(first: int) -> None:
    for behind in itertools.product(EDGES, repeat=3):
        data = bytes([first, *behind])
        for size in (3, 4):
            assert accepted(data[:size]) == well_formed(data[:size])


@pytest.mark.parametrize("text", ["é", "€", "\U0001f600", "\ud7ff", "\ue000", "\U0010ffff", "\ufeff", "\uffff"])
def test_sequence_end(text: str) -> None:
    data = text.encode()
    assert sequence_end(b"x" + data + b"x", 1, 2 + len(data)) == 1 + len(data)
    for end in range(1, len(data)):
        assert sequence_end(data + b"\x80\x80", 0, end) == 0


def test_only_what_lies_between_is_checked() -> None:
    check_text(b"\x00\xffab\x00\xff", 2, 4)
    check_text(b"\x00", 1, 1)
    check_topic_name(b"+a/b#", 1, 4)


@pytest.mark.parametrize("name", ["a", "/", "a/b", " ", "$SYS/x", "é/€", "\U0001f600", "\u0001", "\ufeffa"])
def test_topic_names(name: str) -> None:
    data = name.encode()
    check_topic_name(data, 0, len(data))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        (b"", Fault.TOPIC), (b"+", Fault.TOPIC), (b"#", Fault.TOPIC), (b"a/+/b", Fault.TOPIC), (b"a#", Fault.TOPIC),
        (b"\xc3\xa9+", Fault.TOPIC), (b"\x00", Fault.UTF8), (b"a\x00b", Fault.UTF8), (b"\xff", Fault.UTF8),
        (b"\xc0\x80", Fault.UTF8), (b"a\xed\xa0\x80", Fault.UTF8), (b"\xf4\x90\x80\x80", Fault.UTF8),
        (b"\xe2\x82", Fault.UTF8),
    ],
)  # fmt: skip
def test_wrong_topic_names(name: bytes, fault: Fault) -> None:
    with pytest.raises(PacketError) as caught:
        check_topic_name(name, 0, len(name))
    assert caught.value.fault is fault


def test_fields() -> None:
    data = b"\x00\x03abc\xff"
    assert field_end(data, 0, 5) == text_end(data, 0, 5) == 5
    assert field_end(b"\x00\x00", 0, 2) == 2
    assert field_end(b"\xff\xff" + bytes(65535), 0, 65537) == 65537
    for end in range(5):
        with pytest.raises(PacketError) as caught:
            field_end(data, 0, end)
        assert caught.value.fault is Fault.TRUNCATED
    with pytest.raises(PacketError) as caught:
        text_end(b"\x00\x01\xff", 0, 3)
    assert caught.value.fault is Fault.UTF8
