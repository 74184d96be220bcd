import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import Sent, chunks, filters, levels, mutated, sent, topics, untimed
from support.packets import Packet, cut, read_any, read_whole, write_any
from tidegate.mqtt.errors import Fault, PacketError
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.topics import check_filter, matches, share_of


@untimed
@given(sent())
def test_what_is_written_reads_as_it_was(case: Sent) -> None:
    assert read_whole(case.wire, case.version, case.from_client) == case.packet
    assert write_any(case.packet, case.version) in (None, case.wire)


@untimed
@given(st.lists(sent(), max_size=6), st.data())
def test_any_chunking_gives_the_same_packets(cases: list[Sent], data: st.DataObject) -> None:
    wires = [case.wire for case in cases]
    stream = b"".join(wires)
    assert cut(data.draw(chunks(stream))) == wires
    assert cut([stream[i : i + 1] for i in range(len(stream))]) == wires


@untimed
@given(sent())
def test_every_truncation_is_refused_or_waited_for(case: Sent) -> None:
    frame = Frame()
    for size in range(len(case.wire)):
        framed = frame.read(case.wire[:size], 0)
        assert not framed or frame.end == len(case.wire)
    assert frame.read(case.wire, 0)
    for end in range(frame.body, frame.end):
        outcome(case.wire[:end], frame.body, end, case)


def outcome(wire: bytes, body: int, end: int, case: Sent) -> Packet | Fault | None:
    """What the packet says, or the fault of the one error that its reader may raise."""
    try:
        return read_any(wire, 0, body, end, case.version, case.from_client)
    except PacketError as error:
        return error.fault


@untimed
@given(mutated())
def test_a_mutation_parses_or_raises_its_one_error(case: Sent) -> None:
    frame = Frame()
    try:
        framed = frame.read(case.wire, 0)
    except PacketError as error:
        if error.fault is not Fault.LENGTH:
            raise
        return
    if not framed or frame.end > len(case.wire):
        return
    found = outcome(case.wire, frame.body, frame.end, case)
    assert found is not None
    if not isinstance(found, Fault):
        again = write_any(found, case.version)
        assert again is None or read_whole(again, case.version, case.from_client) == found


@untimed
@given(mutated())
def test_a_mutation_means_the_same_byte_by_byte(case: Sent) -> None:
    """A PUBLISH is read before it is all there, and never otherwise than in the end."""
    frame = Frame()
    if case.wire[:1] < b"\x30" or case.wire[:1] > b"\x3f":
        return
    try:
        if not frame.read(case.wire, 0) or frame.end > len(case.wire):
            return
    except PacketError:
        return
    whole = outcome(case.wire, frame.body, frame.end, case)
    for size in range(frame.body, frame.end + 1):
        found = outcome(case.wire[:size], frame.body, frame.end, case)
        if isinstance(found, Fault):
            assert found is whole
            return
        if found is not None and size == frame.end:
            assert found == whole


@untimed
@given(topics)
def test_a_topic_matches_itself(topic: str) -> None:
    check_filter(topic)
    assert matches(topic, topic)


@untimed
@given(topics, st.randoms(use_true_random=False))
def test_a_wildcard_matches_what_it_stands_for(topic: str, random_source: random.Random) -> None:
    parts = topic.split("/")
    wild = [part if random_source.random() < 0.5 else "+" for part in parts]
    hidden = topic.startswith("$")
    assert matches("/".join(wild), topic) == (not hidden or wild[0] != "+")
    for size in range(len(parts) + 1):
        topic_filter = "/".join([*parts[:size], "#"])
        assert matches(topic_filter, topic) == (not hidden or size > 0)
    assert not matches(topic + "/+", topic)
    assert not matches("/".join([*parts, "x", "#"]), topic)


@untimed
@given(filters())
def test_filters_and_shares(topic_filter: str) -> None:
    check_filter(topic_filter)
    group, rest = share_of(topic_filter)
    assert topic_filter == (rest if group is None else f"$share/{group}/{rest}")
    check_filter(rest)


@untimed
@given(st.lists(levels, min_size=1, max_size=4), st.integers(0, 3), st.sampled_from("+#"), levels.filter(bool))
def test_a_wildcard_inside_a_level_is_refused(parts: list[str], at: int, wildcard: str, text: str) -> None:
    parts[at % len(parts)] = text + wildcard
    with pytest.raises(PacketError) as caught:
        check_filter("/".join(parts))
    assert caught.value.fault is Fault.FILTER
