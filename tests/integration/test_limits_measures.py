"""`rate`, `bandwidth`, `size`: what is measured, of large messages too, and of those that use a topic alias."""

import re
import select
from collections.abc import Iterator

import pytest

from support import wire
from support.limited import Limited, Watcher, answer_of, answers, burst, join, limited, pubrels, told, unique
from support.raw import OPEN, RawClient
from support.wait import until

POLICY = """
[[limit]]
name = "ten"
topic = "ten/#"
rate = "10/h burst 10"
on_excess = { v3 = "drop", default = "reject" }

[[limit]]
name = "several"
topic = "several/#"
rate = ["8/h burst 8", "6/d burst 6"]
on_excess = { v3 = "drop", default = "reject" }

[[limit]]
name = "size"
topic = "size/#"
size = "100B"
on_excess = { v3 = "drop", default = "reject" }

[[limit]]
name = "bytes"
topic = "bytes/#"
bandwidth = "16B/s burst 4000B"
on_excess = { v3 = "drop", default = "reject" }

[[limit]]
name = "large"
topic = "large/#"
size = "64KiB"
on_excess = { v3 = "drop", default = "reject" }

[[limit]]
name = "acknowledged"
topic = "alias/#"
qos = 1
rate = "1/d burst 1"
on_excess = { v3 = "drop", default = "reject" }
"""
LARGE = 200 * 1024


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("measures"), POLICY) as made:
        yield made


def sent(gateway: Limited, topic: str, *payloads: int, version: int = wire.V5) -> tuple[list[str], list[int]]:
    """Publish payloads of these sizes with QoS 1, each by itself: the answers' codes, and the sizes that arrived."""
    codes = []
    with Watcher(gateway.broker, topic) as watcher, join(gateway.port, unique("c"), version) as client:
        for number, size in enumerate(payloads, 1):
            client.send(wire.publish(version, topic, bytes(size), first=0x32, packet_id=number))
            codes += [line.split()[-1] for line in told(client)]
        return codes, [len(payload) for _, payload in watcher.messages()]


def test_of_several_rates_all_must_hold(gateway: Limited) -> None:
    codes, arrived = sent(gateway, "several/t", *[1] * 12)
    assert codes == ["0x00"] * 6 + ["0x97"] * 6
    assert len(arrived) == 6


# size


def test_size_is_of_the_payload_and_its_limit_still_fits(gateway: Limited) -> None:
    assert sent(gateway, "size/t", 0, 100, 101, 99) == (["0x00", "0x00", "0x97", "0x00"], [0, 100, 99])
    assert sent(gateway, "size/t", 100, 101, 5000, version=wire.V311) == (["0x00"] * 3, [100])


def test_a_message_that_will_never_fit_has_no_time_to_wait(gateway: Limited) -> None:
    with join(gateway.port, unique("c"), wire.V5) as client:
        client.send(burst(wire.V5, "size/t", 1, 1, payload=bytes(101)))
        (answer,) = [answer_of(data) for data in answers(client)]
    assert answer.text == "over limit size: the message is too large"
    assert answer.user == {}


# bandwidth


def test_bandwidth_is_of_whole_packets(gateway: Limited) -> None:
    # 1000 bytes each: topic, identifier, header and properties count. Four fit; the fifth would have to wait a minute.
    head = len(wire.publish(wire.V5, "bytes/t", bytes(900), first=0x32, packet_id=1)) - 900
    codes, arrived = sent(gateway, "bytes/t", *[1000 - head] * 6)
    assert codes == ["0x00"] * 4 + ["0x97"] * 2
    assert len(arrived) == 4


def test_what_is_too_much_may_be_followed_by_something_smaller(gateway: Limited) -> None:
    codes, arrived = sent(gateway, "bytes/t", 3000, 3000, 500)
    assert (codes, arrived) == (["0x00", "0x97", "0x00"], [3000, 500])


def test_a_packet_above_the_burst_passes_on_a_full_budget_and_leaves_debt(gateway: Limited) -> None:
    with Watcher(gateway.broker, "bytes/debt") as watcher, join(gateway.port, unique("c"), wire.V5) as client:
        client.send(burst(wire.V5, "bytes/debt", 1, 1, payload=bytes(50_000)))
        assert told(client) == ["PUBACK id 1 0x00"]
        client.send(burst(wire.V5, "bytes/debt", 1, 1, first_id=2))
        (answer,) = [answer_of(data) for data in answers(client)]
        assert answer.reason == 0x97
        # 46,000 bytes of debt at 16 a second; what a slow test takes is taken off.
        debt = (50_000 - 4_000) / 16 * 1000
        assert debt - 120_000 < int(answer.user["retry-after-ms"]) < debt + 5_000
        assert [len(payload) for _, payload in watcher.messages()] == [50_000]


# Large messages: decided when the header is there, passed on or skipped as they come.


@pytest.mark.parametrize("version", [wire.V311, wire.V5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_large_message_that_is_refused_is_skipped_and_the_connection_goes_on(
    gateway: Limited, version: int, qos: int
) -> None:
    with Watcher(gateway.broker, "large/t", "free") as watcher, join(gateway.port, unique("c"), version) as client:
        client.send(
            burst(version, "free", 1)
            + burst(version, "large/t", 1, qos, first_id=7, payload=bytes(LARGE))
            + burst(version, "free", 1, 1, first_id=8)
        )
        refusal = "0x97" if version == wire.V5 else "0x00"
        own = {0: [], 1: [f"PUBACK id 7 {refusal}"], 2: [f"PUBREC id 7 {refusal}"]}[qos]
        assert sorted(told(client)) == sorted([*own, "PUBACK id 8 0x00"])
        if qos == 2 and version == wire.V311:
            client.send(pubrels(7, 1))
            assert told(client) == ["PUBCOMP id 7 0x00"]
        assert watcher.messages() == [("free", b"1"), ("free", b"8")]


def test_a_large_message_is_answered_after_its_last_byte(gateway: Limited) -> None:
    with join(gateway.port, unique("c"), wire.V5) as client:
        message = burst(wire.V5, "large/slow", 1, 1, payload=bytes(LARGE))
        before = gateway.metric("tidegate_bytes_total", direction="from_client")
        client.send(message[:-1])
        until(
            lambda: gateway.metric("tidegate_bytes_total", direction="from_client") >= before + len(message) - 1,
            "the gateway to have read all but a byte",
        )
        assert select.select([client.socket], [], [], 0)[0] == []
        client.send(message[-1:])
        assert told(client) == ["PUBACK id 1 0x97"]


def test_many_large_messages_are_refused_one_after_the_other_in_any_pieces(gateway: Limited) -> None:
    with Watcher(gateway.broker, "large/#", "free") as watcher, join(gateway.port, unique("c"), wire.V5) as client:
        stream = b"".join(
            burst(wire.V5, "large/t", 1, 1, first_id=number, payload=bytes(LARGE + number))
            + burst(wire.V5, "free", 1, 1, first_id=number + 100)
            for number in range(1, 6)
        )
        step = 30_011  # ends of pieces fall anywhere in headers and payloads
        for at in range(0, len(stream), step):
            client.send(stream[at : at + step])
        seen = {line.split()[2]: line.split()[3] for line in told(client)}
        assert seen == {str(n): "0x97" for n in range(1, 6)} | {str(n + 100): "0x00" for n in range(1, 6)}
        assert [topic for topic, _ in watcher.messages()] == ["free"] * 5


@pytest.mark.parametrize("version", [wire.V311, wire.V5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_large_message_that_passes_arrives_whole(gateway: Limited, version: int, qos: int) -> None:
    payload = bytes(range(256)) * (LARGE // 256)
    topic = f"ten/large/{version}/{qos}"
    with Watcher(gateway.broker, topic) as watcher, join(gateway.port, unique("c"), version) as client:
        client.send(burst(version, topic, 12, qos, payload=payload))
        seen = told(client)
        assert len(seen) == (12 if qos else 0)
        if qos == 2:
            refused = sum(line.endswith("0x97") for line in seen)
            assert refused == (2 if version == wire.V5 else 0)
            client.send(pubrels(1, 10))
            assert len(told(client)) == 10
        assert watcher.messages() == [(topic, payload)] * 10


# Topic aliases


def with_alias(topic: str, alias: int, payload: bytes, packet_id: int | None = None) -> bytes:
    props = b"\x23" + alias.to_bytes(2, "big")
    first = 0x30 if packet_id is None else 0x32
    return wire.publish(wire.V5, topic, payload, first=first, packet_id=packet_id, props=props)


def test_an_alias_is_learned_from_a_message_that_is_refused(gateway: Limited) -> None:
    with Watcher(gateway.broker, "alias/#") as watcher, join(gateway.port, unique("c"), wire.V5) as client:
        client.send(
            with_alias("alias/first", 1, b"passes", 1)
            + with_alias("alias/second", 2, b"refused", 2)
            + with_alias("", 2, b"refused too", 3)
            + with_alias("", 2, b"by its alias")
            + with_alias("", 1, b"by the other")
            + with_alias("alias/third", 2, b"anew")
            + with_alias("", 2, b"again")
        )
        seen = sorted(told(client))
        assert [line.split()[-1] for line in seen] == ["0x00", "0x97", "0x97"]
        assert watcher.messages() == [
            ("alias/first", b"passes"),
            ("alias/second", b"by its alias"),
            ("alias/first", b"by the other"),
            ("alias/third", b"anew"),
            ("alias/third", b"again"),
        ]


def test_a_limit_is_found_by_the_topic_behind_the_alias(gateway: Limited) -> None:
    with Watcher(gateway.broker, "ten/alias") as watcher, join(gateway.port, unique("c"), wire.V5) as client:
        client.send(with_alias("ten/alias", 3, b"x") + with_alias("", 3, b"x") * 49)
        assert told(client) == []
        assert len(watcher.messages()) == 10


def test_a_large_message_by_its_alias_is_refused_and_passed_alike(gateway: Limited) -> None:
    with (
        Watcher(gateway.broker, "large/alias", "ten/big") as watcher,
        join(gateway.port, unique("c"), wire.V5) as client,
    ):
        client.send(with_alias("large/alias", 1, b"x") + with_alias("ten/big", 2, b"x"))
        client.send(with_alias("", 1, bytes(LARGE), 5) + with_alias("", 2, bytes(LARGE), 6))
        assert sorted(told(client)) == ["PUBACK id 5 0x97", "PUBACK id 6 0x00"]
        assert [(topic, len(payload)) for topic, payload in watcher.messages()] == [
            ("large/alias", 1),
            ("ten/big", 1),
            ("ten/big", LARGE),
        ]


# Any chunking


def test_refusals_do_not_depend_on_how_the_bytes_arrive(gateway: Limited) -> None:
    with Watcher(gateway.broker, "ten/chunks") as watcher, RawClient(gateway.port, wire.V5) as client:
        client.connect(unique("c"))
        stream = burst(wire.V5, "ten/chunks", 20, 1)
        for at in range(len(stream)):
            client.send(stream[at : at + 1])
        events = client.until_fence()
        assert events.pop() == OPEN
        codes = {int(found[1]): found[2] for line in events if (found := re.match(r"PUBACK id (\d+) (\S+)", line))}
        assert [codes[number] for number in range(1, 21)] == ["0x00"] * 10 + ["0x97"] * 10
        assert len(watcher.messages()) == 10
