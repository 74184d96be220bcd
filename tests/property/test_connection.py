"""However a stream is cut into reads, the same bytes go on."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from support.playbook import Playbook, publish
from tidegate.gateway.connection import STORE
from tidegate.gateway.states import State
from tidegate.mqtt.ack import write_ack
from tidegate.mqtt.properties import PropertyId
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.session import PINGREQ, PINGRESP

SIZES = st.sampled_from([0, 1, 100, 127, 128, 16_383, STORE - 20, STORE, STORE + 1, 3 * STORE])
TOPICS = st.sampled_from(["t", "plant/1/temperature", "ä/😀"])


@st.composite
def client_packets(draw: st.DrawFn) -> list[tuple[bytes, bytes]]:
    """Packets of a client of MQTT 5, each with what the broker gets for it."""
    pairs: list[tuple[bytes, bytes]] = []
    known: dict[int, str] = {}
    for number in range(1, draw(st.integers(1, 8)) + 1):
        kind = draw(st.sampled_from(["publish", "alias", "ping", "ack"]))
        if kind == "ping":
            pairs.append((PINGREQ, PINGREQ))
        elif kind == "ack":
            wire = write_ack(PacketType.PUBACK, number)
            pairs.append((wire, wire))
        else:
            topic, payload, qos = draw(TOPICS), b"x" * draw(SIZES), draw(st.integers(0, 2))
            plain = publish(topic, payload, qos, number, 5)
            if kind == "publish":
                pairs.append((plain, plain))
                continue
            alias = draw(st.integers(1, 3))
            said = "" if known.get(alias) == topic and draw(st.booleans()) else topic
            known[alias] = topic
            pairs.append((publish(said, payload, qos, number, 5, [(PropertyId.TOPIC_ALIAS, alias)]), plain))
    return pairs


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


PLACES = st.lists(st.integers(0, 1 << 20), max_size=12)


@given(client_packets(), PLACES)
@settings(deadline=None)
def test_towards_the_broker(packets: list[tuple[bytes, bytes]], places: list[int]) -> None:
    play = Playbook.opened(5)
    play.client(*cut(b"".join(sent for sent, _ in packets), places))
    to_client, to_broker, commands = play.take()
    assert to_broker == b"".join(wanted for _, wanted in packets)
    assert (to_client, commands, play.state) == (b"", [], State.OPEN)


@given(st.lists(st.tuples(TOPICS, SIZES), max_size=6), PLACES)
@settings(deadline=None)
def test_towards_the_client(messages: list[tuple[str, int]], places: list[int]) -> None:
    play = Playbook.opened(4)
    play.client(PINGREQ)
    play.take()
    data = b"".join(publish(topic, b"x" * size) for topic, size in messages) + PINGRESP
    play.broker(*cut(data, places))
    assert play.take() == (data, b"", [])


@given(client_packets(), PLACES)
@settings(deadline=None)
def test_what_is_malformed_ends_it_and_does_not_go_on(packets: list[tuple[bytes, bytes]], places: list[int]) -> None:
    play = Playbook.opened(5)
    play.client(*cut(b"".join(sent for sent, _ in packets) + b"\xc1\x00" + PINGREQ, places))
    to_client, to_broker, commands = play.take()
    assert to_broker == b"".join(wanted for _, wanted in packets)
    assert (to_client[:1], commands) == (b"\xe0", ["end"])
