"""Raw conversations get the same answer direct and through, but for the differences that are listed and justified."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.corpus import CORPUS, Conversation, marker
from integration.differences import DIFFERENCES, expected, rendered
from support import wire
from support.broker import Broker
from support.gateway import RELAY, Middle, middle
from support.raw import CLOSED, RawClient
from support.tap import Tap
from support.wait import until

DOCUMENT = Path(__file__).parents[2] / "docs" / "differences.md"


@dataclass(frozen=True)
class Watched:
    """A broker, a tap that sees all that reaches it, one worker before both, and a client that must not care."""

    broker: Broker
    tap: Tap
    middle: Middle
    innocent: RawClient


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("corpus")
    broker = Broker(directory / "b")
    broker.start()
    tap = Tap(directory / "tap.sock", broker.socket)
    between = middle(directory / "g", tap.unix, workers=1)
    try:
        between.start()
        with RawClient(between.port) as innocent:
            innocent.connect("innocent", keepalive=0)
            innocent.exchange(wire.subscribe(wire.V311, ("innocent/t", 1)))
            yield Watched(broker, tap, between, innocent)
        between.stop()
    finally:
        between.end()
        tap.close()
        broker.stop()


def answers(conversation: Conversation, port: int) -> list[str]:
    """What the other side says to the probe, told line by line."""
    with RawClient(port, conversation.version) as client:
        for packet in conversation.setup:
            client.exchange(packet)
        client.send(conversation.probe)
        if conversation.half_close:
            client.half_close()
            return client.until_closed()
        return client.until_fence()


def assert_untouched(innocent: RawClient) -> None:
    """The other client's own message still goes to the broker and back."""
    message = wire.publish(wire.V311, "innocent/t", b"still here")
    assert innocent.exchange(message) == message


@pytest.mark.parametrize("conversation", CORPUS, ids=[conversation.name for conversation in CORPUS])
def test_same_answer_direct_and_through(watched: Watched, conversation: Conversation) -> None:
    direct = answers(conversation, watched.broker.port)
    through = answers(conversation, watched.middle.port)
    assert_untouched(watched.innocent)
    if RELAY:
        # HAProxy drops what the broker said last when the fence meets the closed socket first.
        assert through in (direct, [CLOSED])
        return
    assert (direct, through) == expected(conversation.name, direct)
    assert_broker_saw_what_it_should(watched, conversation, through)


def assert_broker_saw_what_it_should(watched: Watched, conversation: Conversation, through: list[str]) -> None:
    """Of a broken probe the broker saw nothing; of a broken CONNECT not even a connection."""
    if conversation.passes:
        return
    streams = watched.tap.of(marker(conversation.name).encode())
    if not conversation.setup:
        assert streams == []
        return
    (stream,) = streams
    assert [packet[0] for packet in wire.split(stream)] == [packet[0] for packet in conversation.setup]
    assert through[-1] == CLOSED


def test_every_difference_belongs_to_a_conversation() -> None:
    names = [conversation.name for conversation in CORPUS]
    assert len({marker(name) for name in names}) == len(names)
    assert set(DIFFERENCES) <= set(names)


def test_document_tells_the_differences() -> None:
    assert DOCUMENT.read_text() == rendered(), (
        "docs/differences.md is made by: PYTHONPATH=tests python tests/integration/differences.py > docs/differences.md"
    )


def test_everything_that_reached_the_broker_is_well_formed(watched: Watched, behind_gateway: None) -> None:
    """Whatever ran before in this process: each stream begins with CONNECT and holds whole packets of real types."""
    until(lambda: watched.tap.streams, "a connection")
    for stream in watched.tap.streams:
        packets = list(wire.split(bytes(stream)))
        assert packets[0][0] == 0x10
        assert all(wire.whole(packet) == len(packet) for packet in packets)
        assert all(packet[0] >> 4 in {3, 4, 5, 6, 7, 8, 10, 12, 14, 15} for packet in packets[1:])
