import sqlite3
from pathlib import Path

import pytest

from support import wire
from tidegate.app.demo_roles import Inbox, Store, readings

STREAM = (
    wire.publish(wire.V311, "plant/1/pump-7/status", b"x" * 200)
    + wire.packet(0x40, b"\x00\x01")
    + wire.publish(wire.V311, "plant/1/sensor-03/temperature", b"{}", first=0x32, packet_id=513)
)
MESSAGES = [("plant/1/pump-7/status", b"x" * 200, 0), ("plant/1/sensor-03/temperature", b"{}", 513)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, len(STREAM)])
def test_messages_come_out_however_the_stream_is_cut(size: int) -> None:
    inbox = Inbox()
    found = [one for at in range(0, len(STREAM), size) for one in inbox.feed(STREAM[at : at + size])]
    assert found == MESSAGES


def test_nothing_comes_of_nothing() -> None:
    inbox = Inbox()
    assert list(inbox.feed(b"")) == []
    assert list(inbox.feed(STREAM[:-1])) == MESSAGES[:1]
    assert list(inbox.feed(b"")) == []
    assert list(inbox.feed(STREAM[-1:])) == MESSAGES[1:]


def test_the_store_has_the_newest_of_each_topic_at_once(tmp_path: Path) -> None:
    file = str(tmp_path / "control-room.db")
    store = Store(file)
    for topic, at, message in (("a", 1.0, b"old"), ("b", 2.0, b"b"), ("a", 3.0, b"new")):
        store.put(topic, at, message)
    other = sqlite3.connect(file)
    assert sorted(other.execute("SELECT topic, at, message FROM newest")) == [("a", 3.0, b"new"), ("b", 2.0, b"b")]
    other.close()
    store.close()


@pytest.mark.parametrize(("seconds", "expected"), [(1, 40), (20, 800), (0.5, 20)])
def test_twenty_sensors_send_two_readings_a_second_each(seconds: float, expected: int) -> None:
    assert readings(seconds) == expected
