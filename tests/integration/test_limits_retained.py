"""Retained messages as a budget: `retain = true` with rate and bandwidth, for each action and key."""

from collections.abc import Iterator

import pytest

from support import wire
from support.limited import (
    ACK,
    AMPLE,
    Limited,
    Watcher,
    acks,
    burst,
    every_qos,
    every_version,
    join,
    limited,
    lines,
    pubrels,
    told,
    unique,
)
from support.raw import CLOSED
from support.wait import until

ACTIONS = ("delay", "drop", "reject", "disconnect", "ban", "observe")


def budget(name: str, per: str, on_excess: str, how_much: str) -> str:
    return (
        f'[[limit]]\nname = "{name}"\ntopic = "{name}/#"\nretain = true\nper = {per}\n{how_much}\n'
        f"on_excess = {on_excess}\n" + ('max_delay = "1h"\n' if "delay" in on_excess else "")
    )


def excess(action: str) -> str:
    return '{ v3 = "drop", default = "reject" }' if action == "reject" else f'"{action}"'


COUNT = 'rate = "3/h burst 3"'
BYTES = 'bandwidth = "16B/s burst 3KiB"'
"""Three messages with a payload of 1,000 bytes."""
POLICY = (
    "".join(budget(action, '["ip", "client"]', excess(action), COUNT) for action in ACTIONS)
    + "".join(budget(f"bytes-{action}", '["ip", "client"]', excess(action), BYTES) for action in ACTIONS)
    + budget("per-topic", '"topic"', '"drop"', COUNT)
    + budget("per-all", '"all"', '"drop"', COUNT)
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("retained"), POLICY) as made:
        yield made


def kept(gateway: Limited, topic_filter: str) -> dict[str, bytes]:
    """What the broker has retained there, topics with their payloads."""
    with Watcher(gateway.broker, topic_filter) as watcher:
        return dict(watcher.messages())


def expected(action: str, version: int, qos: int) -> list[str]:
    """What becomes of five messages of which three may pass: what their sender is told."""
    taken = acks(qos, 1, 5)
    if action == "delay":
        return taken[:3]
    if action == "reject" and version == wire.V5 and qos:
        return [*taken[:3], f"{ACK[qos]} id 4 0x97", f"{ACK[qos]} id 5 0x97"]
    return taken


@every_version
@every_qos
@pytest.mark.parametrize("action", ["delay", "drop", "reject", "observe"])
@pytest.mark.parametrize("what", ["", "bytes-"])
def test_three_are_retained_and_others_are_not_counted(
    gateway: Limited, what: str, action: str, version: int, qos: int
) -> None:
    where = f"{what}{action}/{version}/{qos}"
    payload = bytes(990) if what else b"x"
    with Watcher(gateway.broker, where + "/#") as watcher, join(gateway.port, unique("c"), version) as client:
        client.send(burst(version, f"{where}/plain", 5, payload=payload))
        for number in range(1, 6):
            client.send(burst(version, f"{where}/{number}", 1, qos, first_id=number, retain=True, payload=payload))
        assert sorted(told(client)) == expected(action, version, qos)
        if qos == 2:
            client.send(pubrels(1, 5 if action == "observe" else 3))
            told(client)
        assert len(watcher.messages()) == (10 if action == "observe" else 8)
    assert len(kept(gateway, where + "/#")) == (5 if action == "observe" else 3)


@every_version
@pytest.mark.parametrize("action", ["disconnect", "ban"])
@pytest.mark.parametrize("what", ["", "bytes-"])
def test_who_retains_more_is_thrown_out(gateway: Limited, what: str, action: str, version: int) -> None:
    where = f"{what}{action}/{version}"
    payload = bytes(990) if what else b"x"
    source = f"127.{30 + version}.{len(what)}.{len(action)}"
    with join(gateway.port, unique("c"), version, source=source) as client:
        for number in range(1, 6):
            client.send(burst(version, f"{where}/{number}", 1, retain=True, payload=payload))
        assert client.until_closed() == (["DISCONNECT 0x96", CLOSED] if version == wire.V5 else [CLOSED])
    until(lambda: len(kept(gateway, where + "/#")) == 3, "what was retained before")


@every_version
def test_what_is_delayed_is_retained_when_it_may(gateway: Limited, version: int) -> None:
    where = f"delay/later/{version}"
    with Watcher(gateway.broker, where + "/#"), join(gateway.port, unique("c"), version) as client:
        for number in range(1, 6):
            client.send(burst(version, f"{where}/{number}", 1, 1, first_id=number, retain=True))
        assert lines(client, 3) == acks(1, 1, 3)
        with gateway.under(POLICY.replace("3/h burst 3", AMPLE), POLICY):
            assert lines(client, 2) == acks(1, 4, 5)
    assert len(kept(gateway, where + "/#")) == 5


@every_version
def test_each_topic_has_its_own(gateway: Limited, version: int) -> None:
    where = f"per-topic/{version}"
    with join(gateway.port, unique("c"), version) as one, join(gateway.port, unique("c"), version) as other:
        for client, first in ((one, 1), (other, 4)):
            for topic in ("a", "b"):
                client.send(burst(version, f"{where}/{topic}", 3, first_id=first, retain=True))
            assert told(client) == []
    assert kept(gateway, where + "/#") == {f"{where}/a": b"3", f"{where}/b": b"3"}


def test_all_clients_share_one(gateway: Limited) -> None:
    with join(gateway.port, unique("c")) as one, join(gateway.port, unique("c"), wire.V5) as other:
        for number, client in enumerate((one, other, one, other)):
            client.send(burst(client.version, f"per-all/{number}", 1, retain=True))
            assert told(client) == []
    assert sorted(kept(gateway, "per-all/#")) == ["per-all/0", "per-all/1", "per-all/2"]


@every_version
def test_a_message_that_clears_counts_as_any_other(gateway: Limited, version: int) -> None:
    where = f"drop/clear/{version}"

    def clear(number: int) -> bytes:
        return wire.publish(version, f"{where}/{number}", b"", first=0x31)

    with Watcher(gateway.broker, where + "/#") as watcher, join(gateway.port, unique("c"), version) as client:
        client.send(burst(version, f"{where}/1", 1, retain=True) + burst(version, f"{where}/2", 1, retain=True))
        client.send(clear(1) + clear(2))
        assert told(client) == []
        assert [topic for topic, _ in watcher.messages()] == [f"{where}/1", f"{where}/2", f"{where}/1"]
    assert kept(gateway, where + "/#") == {f"{where}/2": b"1"}
