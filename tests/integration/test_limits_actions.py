"""`drop`, `disconnect`, `observe`, and actions by case: what the client sees and what the broker gets."""

from collections.abc import Iterator

import pytest

from support import wire
from support.limited import (
    Limited,
    Watcher,
    answer_of,
    answers,
    burst,
    every_version,
    join,
    limited,
    pubrels,
    told,
    unique,
)
from support.raw import CLOSED
from support.wait import until

POLICY = """
[[limit]]
name = "drop"
topic = "drop/#"
rate = "10/h burst 10"
on_excess = "drop"

[[limit]]
name = "disconnect"
topic = "disconnect/#"
rate = "10/h burst 10"
on_excess = "disconnect"

[[limit]]
name = "observe"
topic = "observe/#"
rate = "10/h burst 10"
on_excess = "observe"

[[limit]]
name = "cases"
topic = "cases/#"
rate = "10/h burst 10"
on_excess = { qos0 = "observe", qos2 = "disconnect", v3 = "drop", default = "reject" }

[[limit]]
name = "mild"
topic = "both/#"
rate = "5/h burst 5"
on_excess = "drop"

[[limit]]
name = "strict"
topic = "both/strict"
rate = "5/h burst 5"
on_excess = { v3 = "disconnect", default = "reject" }
"""
TEN = [str(number).encode() for number in range(1, 11)]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("actions"), POLICY) as made:
        yield made


# drop


@every_version
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_drop_acknowledges_all_and_lets_the_burst_through(gateway: Limited, version: int, qos: int) -> None:
    topic = f"drop/{version}/{qos}"
    with Watcher(gateway.broker, topic) as watcher, join(gateway.port, unique("c"), version) as client:
        client.send(burst(version, topic, 50, qos))
        seen = told(client)
        kind = {0: "", 1: "PUBACK", 2: "PUBREC"}[qos]
        assert sorted(seen) == sorted(f"{kind} id {number} 0x00" for number in range(1, 51) if qos)
        if qos == 2:
            client.send(pubrels(1, 50))
            assert sorted(told(client)) == sorted(f"PUBCOMP id {number} 0x00" for number in range(1, 51))
        assert [payload for _, payload in watcher.messages()] == TEN


@every_version
def test_a_played_exchange_of_qos_2_is_played_to_its_end(gateway: Limited, version: int) -> None:
    topic = f"drop/played/{version}"
    with Watcher(gateway.broker, topic, "free") as watcher, join(gateway.port, unique("c"), version) as client:
        client.send(burst(version, topic, 10) + burst(version, topic, 1, 2, first_id=7))
        assert told(client) == ["PUBREC id 7 0x00"]
        # It has not seen the PUBREC: the same again, and no second message.
        client.send(burst(version, topic, 1, 2, first_id=7, dup=True))
        assert told(client) == ["PUBREC id 7 0x00"]
        client.send(pubrels(7, 1))
        assert told(client) == ["PUBCOMP id 7 0x00"]
        # From here on the identifier is as good as new, and the broker's.
        client.send(burst(version, "free", 1, 2, first_id=7))
        assert told(client) == ["PUBREC id 7 0x00"]
        client.send(pubrels(7, 1))
        assert told(client) == ["PUBCOMP id 7 0x00"]
        assert [topic for topic, _ in watcher.messages()].count("free") == 1


@every_version
def test_an_identifier_that_is_still_played_cannot_be_used_for_another_message(gateway: Limited, version: int) -> None:
    topic = f"drop/reused/{version}"
    with join(gateway.port, unique("c"), version) as client:
        client.send(burst(version, topic, 10) + burst(version, topic, 1, 2, first_id=7))
        assert told(client) == ["PUBREC id 7 0x00"]
        client.send(burst(version, "free", 1, 2, first_id=7))
        assert client.until_closed() == (["DISCONNECT 0x82", CLOSED] if version == wire.V5 else [CLOSED])


def test_pubrel_of_the_brokers_exchanges_is_the_brokers(gateway: Limited) -> None:
    topic = "drop/mixed"
    with Watcher(gateway.broker, topic) as watcher, join(gateway.port, unique("c")) as client:
        client.send(burst(wire.V311, topic, 20, 2))
        assert len(told(client)) == 20
        client.send(pubrels(15, 1))
        assert told(client) == ["PUBCOMP id 15 0x00"]
        assert watcher.messages() == []  # those of the broker wait for theirs
        client.send(pubrels(1, 20))
        assert len(told(client)) == 20
        assert [payload for _, payload in watcher.messages()] == TEN


# disconnect


@every_version
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_disconnect_ends_the_connection_and_the_will_fires(gateway: Limited, version: int, qos: int) -> None:
    topic = f"disconnect/{version}/{qos}"
    will = f"gone/{version}/{qos}"
    with (
        Watcher(gateway.broker, topic, will) as watcher,
        join(gateway.port, unique("c"), version, will=will) as client,
    ):
        client.send(burst(version, topic, 50, qos))
        ends = []
        while (data := client.read()) is not None:
            ends.append(data)
        arrived = watcher.messages_until(will)
        acknowledged = sum(data[0] >> 4 == 4 for data in ends)
        # Of QoS 1, Mosquitto leaves unread what it can no longer acknowledge: the client has it still. Of QoS 2 it has
        # ten that nobody has released.
        least = {0: 10, 1: max(1, acknowledged), 2: 0}[qos]
        assert least <= len(arrived) <= (0 if qos == 2 else 10)
        assert arrived == [(topic, payload) for payload in TEN[: len(arrived)]]
        assert [wire.tell(data, version) for data in ends if data[0] >> 4 == 14] == (
            ["DISCONNECT 0x96"] if version == wire.V5 else []
        )
        if version == wire.V5:
            text = wire.body_of(ends[-1])[5:].decode()
            assert text.startswith("over limit disconnect: retry in ")


def test_disconnect_is_one_connection_s_end_and_not_a_ban(gateway: Limited) -> None:
    name = unique("c")
    with join(gateway.port, name) as client:
        client.send(burst(wire.V311, "disconnect/again", 11))
        assert client.until_closed() == [CLOSED]
    with join(gateway.port, name) as client:
        client.send(burst(wire.V311, "free", 3, 1))
        assert len(told(client)) == 3


# observe


@every_version
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_observe_lets_everything_through_and_counts(gateway: Limited, version: int, qos: int) -> None:
    topic = f"observe/{version}/{qos}"

    def counted() -> tuple[float, float]:
        return (
            gateway.metric("tidegate_limited_total", limit="observe", action="observe"),
            gateway.metric("tidegate_passed_total", limit="observe"),
        )

    before = counted()
    with Watcher(gateway.broker, topic) as watcher, join(gateway.port, unique("c"), version) as client:
        client.send(burst(version, topic, 50, qos))
        assert len(told(client)) == (50 if qos else 0)
        if qos == 2:
            client.send(pubrels(1, 50))
            assert len(told(client)) == 50
        assert len(watcher.messages()) == 50
    after = counted()
    assert (after[0] - before[0], after[1] - before[1]) == (40, 10)


# By case


def by_case(gateway: Limited, version: int, qos: int) -> tuple[list[str], int]:
    """What 50 messages at once are answered, in the order of identifiers, and how many of them arrive."""
    topic = f"cases/{version}/{qos}"
    with Watcher(gateway.broker, topic) as watcher, join(gateway.port, unique("c"), version) as client:
        client.send(burst(version, topic, 50, qos))
        seen = sorted(told(client), key=lambda line: int(line.split()[2]))
        return [line.split()[-1] for line in seen], len(watcher.messages())


@every_version
def test_the_case_of_the_qos_decides_before_all_others(gateway: Limited, version: int) -> None:
    assert by_case(gateway, version, 0) == ([], 50)
    with join(gateway.port, unique("c"), version) as client:
        client.send(burst(version, "cases/2", 50, 2))
        assert client.until_closed()[-1] == CLOSED


@pytest.mark.parametrize(("version", "code"), [(wire.V31, "0x00"), (wire.V311, "0x00"), (wire.V5, "0x97")])
def test_the_case_of_the_version_decides_before_the_default(gateway: Limited, version: int, code: str) -> None:
    assert by_case(gateway, version, 1) == (["0x00"] * 10 + [code] * 40, 10)


def test_of_two_limits_the_strictest_verdict_counts(gateway: Limited) -> None:
    with Watcher(gateway.broker, "both/#"), join(gateway.port, unique("c"), wire.V5) as client:
        client.send(burst(wire.V5, "both/strict", 8, 1))
        seen = [answer_of(data) for data in answers(client)]
    assert [one.reason for one in sorted(seen, key=lambda one: one.packet_id)] == [0] * 5 + [0x97] * 3
    refused = [one for one in seen if one.reason]
    assert {one.text.split(":")[0] for one in refused if one.text} == {"over limit strict"}


def test_what_one_limit_refuses_costs_the_other_nothing(gateway: Limited) -> None:
    name = unique("c")
    with join(gateway.port, name, wire.V5) as client, Watcher(gateway.broker, "both/#") as watcher:
        client.send(burst(wire.V5, "both/mild", 3))
        # Two of the milder limit's five are left: the third of these is refused by it, and costs the stricter nothing.
        client.send(burst(wire.V5, "both/strict", 4, 1))
        assert len(told(client)) == 4
        assert len(watcher.messages()) == 5


def test_a_refused_client_has_no_fewer_rights_elsewhere(gateway: Limited) -> None:
    with Watcher(gateway.broker, "drop/elsewhere", "free") as watcher, join(gateway.port, unique("c")) as client:
        pair = burst(wire.V311, "drop/elsewhere", 1) + burst(wire.V311, "free", 1)
        client.send(pair * 50)
        assert told(client) == []
        topics = [topic for topic, _ in watcher.messages()]
    assert (topics.count("drop/elsewhere"), topics.count("free")) == (10, 50)


def test_a_client_that_hurries_on_after_its_end_changes_nothing(gateway: Limited) -> None:
    limit = {"limit": "disconnect", "action": "disconnect"}
    before = gateway.metric("tidegate_limited_total", **limit)
    with join(gateway.port, unique("c"), wire.V5) as client:
        client.send(burst(wire.V5, "disconnect/hurry", 200, 1))
        assert client.until_closed()[-2:] == ["DISCONNECT 0x96", CLOSED]
    until(lambda: gateway.metric("tidegate_limited_total", **limit) == before + 1, "one disconnection")
