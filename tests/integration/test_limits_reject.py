"""`reject`: a client of MQTT 5 is told which message was refused, why, and when it may come again."""

from collections.abc import Iterator

import pytest

from support import wire
from support.limited import Answer, Limited, Watcher, answer_of, answers, burst, join, limited, pubrels, told, unique

QUOTA_EXCEEDED = 0x97
HOUR = 3_600_000
"""Milliseconds."""

POLICY = """
[[limit]]
name = "ten"
topic = "ten/#"
rate = "10/h burst 10"
on_excess = { v3 = "drop", default = "reject" }
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("reject"), POLICY) as made:
        yield made


KIND = {1: "PUBACK", 2: "PUBREC"}
both_qos = pytest.mark.parametrize("qos", [1, 2])


@both_qos
def test_fifty_at_once_are_ten_successes_and_forty_refusals(gateway: Limited, qos: int) -> None:
    topic = f"ten/fifty/{qos}"
    with Watcher(gateway.broker, topic, "free") as watcher, join(gateway.port, unique("c"), wire.V5) as client:
        client.send(burst(wire.V5, topic, 50, qos))
        seen = [answer_of(data) for data in answers(client)]
        assert {one.kind for one in seen} == {KIND[qos]}
        assert sorted(one.packet_id for one in seen) == list(range(1, 51))
        passed = [one for one in seen if one.reason == 0]
        refused = [one for one in seen if one.reason == QUOTA_EXCEEDED]
        assert [one.packet_id for one in passed] == list(range(1, 11))
        assert len(refused) == 40
        for one in refused:
            wait = int(one.user["retry-after-ms"])
            assert 0 < wait <= HOUR / 10 + 1  # rounded up
            assert one.text == f"over limit ten: retry in {wait} ms"
            assert list(one.user) == ["retry-after-ms"]
        if qos == 2:
            client.send(pubrels(1, 10))
            assert told(client) == [f"PUBCOMP id {number} 0x00" for number in range(1, 11)]
        assert [payload for _, payload in watcher.messages()] == [str(number).encode() for number in range(1, 11)]

        # Refused identifiers are free again, as are those that were used up: nothing of the exchange is left.
        client.send(burst(wire.V5, "free", 50, qos))
        assert told(client) == [f"{KIND[qos]} id {number} 0x00" for number in range(1, 51)]
        if qos == 2:
            client.send(pubrels(1, 50))
            assert told(client) == [f"PUBCOMP id {number} 0x00" for number in range(1, 51)]
        assert len(watcher.messages()) == 50


def test_qos_0_is_discarded_without_a_word(gateway: Limited) -> None:
    with Watcher(gateway.broker, "ten/zero") as watcher, join(gateway.port, unique("c"), wire.V5) as client:
        client.send(burst(wire.V5, "ten/zero", 50))
        assert told(client) == []
        assert len(watcher.messages()) == 10


@both_qos
def test_without_problem_information_there_is_only_the_code(gateway: Limited, qos: int) -> None:
    with join(gateway.port, unique("c"), wire.V5, props=b"\x17\x00") as client:
        client.send(burst(wire.V5, "ten/terse", 50, qos))
        refused = [data for data in answers(client) if answer_of(data).reason == QUOTA_EXCEEDED]
        first = 0x40 if qos == 1 else 0x50
        assert refused == [bytes([first, 3, 0, number, QUOTA_EXCEEDED]) for number in range(11, 51)]


@both_qos
@pytest.mark.parametrize(("largest", "has_text", "has_wait"), [(90, True, True), (50, False, True), (25, False, False)])
def test_nothing_exceeds_what_the_client_takes(
    gateway: Limited, qos: int, largest: int, has_text: bool, has_wait: bool
) -> None:
    props = b"\x27" + largest.to_bytes(4, "big")
    with join(gateway.port, unique("c"), wire.V5, props=props) as client:
        client.send(burst(wire.V5, "ten/small", 50, qos))
        seen = [answer_of(data) for data in answers(client)]
        refused = [one for one in seen if one.reason == QUOTA_EXCEEDED]
        assert len(refused) == 40
        assert all(one.size <= largest for one in seen)
        assert {(one.text is not None, "retry-after-ms" in one.user) for one in refused} == {(has_text, has_wait)}


def ids(seen: list[Answer], reason: int) -> list[int]:
    return [one.packet_id for one in seen if one.reason == reason]


@both_qos
def test_refusals_return_the_quota_of_a_broker_with_a_window(
    tmp_path_factory: pytest.TempPathFactory, qos: int
) -> None:
    # Twenty are what it may have unacknowledged (Receive Maximum): each round uses all of them, and only refusals and
    # acknowledgements give them back.
    with (
        limited(tmp_path_factory.mktemp("window"), POLICY, broker_extra="") as gateway,
        join(gateway.port, "windowed", wire.V5) as client,
        Watcher(gateway.broker, "ten/window") as watcher,
    ):
        client.send(burst(wire.V5, "ten/window", 20, qos))
        first = [answer_of(data) for data in answers(client)]
        assert ids(first, 0) == list(range(1, 11))
        assert ids(first, QUOTA_EXCEEDED) == list(range(11, 21))
        if qos == 2:
            client.send(pubrels(1, 10))
            assert len(told(client)) == 10
        for first_id in (100, 200, 300):
            client.send(burst(wire.V5, "ten/window", 20, qos, first_id=first_id))
            assert ids([answer_of(data) for data in answers(client)], QUOTA_EXCEEDED) == list(
                range(first_id, first_id + 20)
            )
        assert len(watcher.messages()) == 10
