"""Our bytes and those of mqtt-packet are the same, and each reads what the other wrote."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strategies import (
    ACK_REASONS,
    Sent,
    auths,
    connacks,
    connects,
    disconnects,
    messages,
    packet_ids,
    properties,
    sent,
    subacks,
    subscribes,
    topics,
    unsubacks,
    unsubscribes,
    untimed,
    versions,
)
from support.malformed import MALFORMED, Malformed
from support.mqtt_packet import (
    MqttPacket,
    Written,
    in_their_form,
    in_their_order,
    ordered,
    refused_by_them,
    told,
    told_properties,
)
from support.packets import CLIENT, SERVER, Acked, read_any, read_whole, write_any
from tidegate.mqtt.ack import write_ack
from tidegate.mqtt.connect import Connect
from tidegate.mqtt.errors import PacketError
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.properties import Properties, PropertyId
from tidegate.mqtt.publish import Publish
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.session import PINGREQ, PINGRESP, Auth


@pytest.fixture(scope="module")
def library() -> Iterator[MqttPacket]:
    found = MqttPacket()
    yield found
    found.close()


def agree(library: MqttPacket, value: Written, version: int, from_client: bool) -> None:
    """Both write the same bytes, and we read theirs as what they mean."""
    assume(not refused_by_them(value))
    value = ordered(value)
    ours = write_any(value, version)
    assert ours is not None
    theirs = library.generate(told(value, version), version)
    assert theirs == in_their_form(ours, version)
    assert read_whole(theirs, version, from_client) == value


@untimed
@given(connects())
def test_connect(library: MqttPacket, value: Connect) -> None:
    agree(library, value, value.version, CLIENT)


@untimed
@given(st.data(), versions)
def test_connack(library: MqttPacket, data: st.DataObject, version: int) -> None:
    agree(library, data.draw(connacks(version)), version, SERVER)


@untimed
@given(st.data(), versions)
def test_subscribe(library: MqttPacket, data: st.DataObject, version: int) -> None:
    agree(library, data.draw(subscribes(version)), version, CLIENT)


@untimed
@given(st.data(), versions)
def test_suback(library: MqttPacket, data: st.DataObject, version: int) -> None:
    agree(library, data.draw(subacks(version)), version, SERVER)


@untimed
@given(st.data(), versions)
def test_unsubscribe(library: MqttPacket, data: st.DataObject, version: int) -> None:
    agree(library, data.draw(unsubscribes(version)), version, CLIENT)


@untimed
@given(st.data(), versions)
def test_unsuback(library: MqttPacket, data: st.DataObject, version: int) -> None:
    agree(library, data.draw(unsubacks(version)), version, SERVER)


@untimed
@given(st.data(), versions)
def test_disconnect(library: MqttPacket, data: st.DataObject, version: int) -> None:
    agree(library, data.draw(disconnects(version)), version, CLIENT)


@untimed
@given(auths())
def test_auth(library: MqttPacket, value: Auth) -> None:
    agree(library, value, 5, SERVER)


@pytest.mark.parametrize("version", [3, 4, 5])
def test_pings(library: MqttPacket, version: int) -> None:
    assert library.generate({"cmd": "pingreq"}, version) == PINGREQ
    assert library.generate({"cmd": "pingresp"}, version) == PINGRESP


_kinds = st.sampled_from((PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBREL, PacketType.PUBCOMP))


@untimed
@given(_kinds, packet_ids, st.data(), versions)
def test_acknowledgements(
    library: MqttPacket, kind: PacketType, packet_id: int, data: st.DataObject, version: int
) -> None:
    reason = 0
    found: Properties = []
    if version == 5:
        reason = data.draw(st.sampled_from(ACK_REASONS if kind <= PacketType.PUBREC else (0, 0x92)))
        found = in_their_order(data.draw(properties(PacketType.PUBACK)))
    value = Acked(kind, packet_id, reason)
    request = told(value, version)
    if found:
        request["properties"] = told_properties(found)
    theirs = library.generate(request, version)
    assert theirs == in_their_form(write_ack(kind, packet_id, reason, found), version)
    assert read_whole(theirs, version, CLIENT) == value


@untimed
@given(st.data(), versions, topics)
def test_publish(library: MqttPacket, data: st.DataObject, version: int, topic: str) -> None:
    """We read theirs, and the head that we write in place of an alias is theirs without one."""
    message, found = data.draw(messages(version))
    found = in_their_order(found)
    theirs = library.generate({**told(message, version), "properties": told_properties(found)}, version)
    frame = Frame()
    assert frame.read(theirs, 0)
    publish = Publish()
    assert publish.read(theirs, 0, frame.body, frame.end, version, CLIENT)
    assert theirs[publish.topic : publish.topic_end].decode() == message.topic
    assert theirs[publish.payload :] == message.payload
    assert (publish.qos, publish.retain, publish.dup) == (message.qos, message.retain, message.dup)
    assert (publish.packet_id, publish.alias) == (message.packet_id, message.alias)
    if publish.alias:
        head = publish.without_alias(theirs, 0, frame.end, topic.encode())
        kept = told_properties([pair for pair in found if pair[0] is not PropertyId.TOPIC_ALIAS])
        request = {**told(message, version), "topic": topic, "properties": kept}
        assert head + message.payload == library.generate(request, version)


@untimed
@given(sent())
def test_they_read_what_we_write(library: MqttPacket, case: Sent) -> None:
    wire = write_any(case.packet, case.version)
    # An empty AUTH says success (section 3.15.2.1), but not to them.
    assume(wire is not None and wire != b"\xf0\x00")
    assert wire is not None
    answer = library.parse(wire, case.version)
    assert [found["cmd"] for found in answer["packets"]] == [PacketType(wire[0] >> 4).name.lower()]


@pytest.mark.parametrize("case", MALFORMED, ids=lambda c: f"{c.name} {c.version}")
def test_malformed_packets(
    library: MqttPacket, case: Malformed, record_property: Callable[[str, object], None]
) -> None:
    """We refuse all of them. What they say is noted in the report, and is theirs to say."""
    frame = Frame()
    assert frame.read(case.wire, 0)
    with pytest.raises(PacketError):
        read_any(case.wire, 0, frame.body, frame.end, case.version, case.from_client)
    record_property("mqtt-packet", str(library.parse(case.wire, case.version).get("error", "accepted")))
