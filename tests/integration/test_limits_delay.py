"""`delay`: what is over a limit waits in the gateway, in order, and everything else goes on meanwhile.

The rates are by the hour, so that what must wait does. It goes on when a reload puts an ample one in their place.
"""

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from support import wire
from support.late_gateway import late
from support.limited import (
    ACK,
    AMPLE,
    Limited,
    Watcher,
    acks,
    answers,
    burst,
    every_qos,
    every_version,
    join,
    limited,
    lines,
    numbers,
    pubrels,
    told,
    unique,
)
from support.raw import CLOSED
from support.wait import until

POLICY = """
[[limit]]
name = "slow"
topic = "slow/#"
rate = "RATE"
max_delay = "1h"

[[limit]]
name = "each"
topic = "each/#"
per = ["client", "topic"]
rate = "RATE"
max_delay = "1h"

[[limit]]
name = "sure"
topic = "sure/#"
qos = [1, 2]
rate = "RATE"
max_delay = "1h"

[[limit]]
name = "bytes"
topic = "bytes/#"
bandwidth = "64KiB/h burst 64KiB"
max_delay = "1h"

[[limit]]
name = "paced"
topic = "paced/#"
rate = "20/s burst 2"
max_delay = "1h"
"""
TIGHT = "3/h burst 3"


def policy(rate: str = TIGHT) -> str:
    return POLICY.replace("RATE", rate)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("delay"), policy()) as made:
        yield made


def freed(gateway: Limited) -> AbstractContextManager[None]:
    """With limits that let go what waits."""
    return gateway.under(policy(AMPLE), policy())


# What waits, and what does not


@every_version
@every_qos
def test_what_is_over_the_limit_waits_and_arrives_in_order(gateway: Limited, version: int, qos: int) -> None:
    topic = f"slow/{version}/{qos}"
    with Watcher(gateway.broker, topic) as watcher, join(gateway.port, unique("c"), version) as client:
        client.send(burst(version, topic, 10, qos))
        assert told(client) == acks(qos, 1, 3)
        assert gateway.held == 7
        with freed(gateway):
            assert lines(client, 7 if qos else 0) == acks(qos, 4, 10)
            if qos == 2:
                client.send(pubrels(1, 10))
                assert told(client) == [f"PUBCOMP id {number} 0x00" for number in range(1, 11)]
            assert [payload for _, payload in watcher.at_least(10)] == numbers(1, 10)
        assert gateway.held == 0
        assert told(client) == []


@every_version
def test_everything_else_passes_meanwhile(gateway: Limited, version: int) -> None:
    where = ("slow/behind", "free/#")
    with join(gateway.port, unique("c"), version) as client, Watcher(gateway.broker, *where) as watcher:
        client.send(burst(version, "slow/behind", 5, 1))
        assert told(client) == acks(1, 1, 3)
        client.send(wire.subscribe(version, ("free/#", 0), packet_id=9))
        assert lines(client, 1) == ["SUBACK id 9 0x00"]
        client.send(burst(version, "free/1", 1, 1, first_id=11) + burst(version, "free/2", 1, 2, first_id=12))
        client.send(pubrels(12, 1) + burst(version, "free/0", 1))
        assert set(told(client)) >= {"PUBACK id 11 0x00", "PUBREC id 12 0x00", "PUBCOMP id 12 0x00"}
        topics = {topic for topic, _ in watcher.messages()}
        assert topics == {"slow/behind", "free/0", "free/1", "free/2"}
        client.send(wire.unsubscribe(version, "free/#", packet_id=10))
        assert lines(client, 1)[0].startswith("UNSUBACK id 10")
        assert gateway.held == 2


def test_topics_wait_for_themselves_alone(gateway: Limited) -> None:
    with join(gateway.port, unique("c")) as client, Watcher(gateway.broker, "each/#") as watcher:
        client.send(burst(wire.V311, "each/a", 5, 1))
        client.send(burst(wire.V311, "each/b", 3, 1, first_id=11))
        assert sorted(told(client)) == sorted([*acks(1, 1, 3), *acks(1, 11, 13)])
        assert len(watcher.messages()) == 6
        assert gateway.held == 2


def test_what_no_limit_delays_waits_behind_its_topic_all_the_same(gateway: Limited) -> None:
    with join(gateway.port, unique("c")) as client, Watcher(gateway.broker, "sure/#") as watcher:
        client.send(burst(wire.V311, "sure/a", 4, 1) + burst(wire.V311, "sure/a", 2, first_id=5))
        client.send(burst(wire.V311, "sure/b", 2, first_id=7))
        assert told(client) == acks(1, 1, 3)
        assert watcher.messages() == [
            *(("sure/a", payload) for payload in numbers(1, 3)),
            *(("sure/b", payload) for payload in numbers(7, 8)),
        ]
        assert gateway.held == 3
        with freed(gateway):
            assert watcher.at_least(3) == [("sure/a", payload) for payload in numbers(4, 6)]


@every_version
def test_the_order_of_a_topic_holds_over_all_qos(tmp_path: Path, version: int) -> None:
    wanted = {f"slow/{name}": numbers(first, first + 19) for name, first in (("a", 1), ("b", 101))}
    with late(tmp_path, policy(), automatic=True) as made, join(made.port, "c", version) as client:
        for number in range(20):
            for topic, first in (("slow/a", 1), ("slow/b", 101)):
                text = str(first + number).encode()
                qos = (0, 1, 2, 2, 1, 0)[number % 6]
                client.send(burst(version, topic, 1, qos, first_id=first + number, payload=text))
        assert len(told(client)) < 20
        assert made.held == 37
        made.gateway.reload(policy(AMPLE))
        made.forwarded(40)
        arrived = {topic: [one.payload for one in made.broker.received if one.topic == topic] for topic in wanted}
    assert arrived == wanted


def test_messages_pass_at_the_rate_of_their_limit(gateway: Limited) -> None:
    def delays(what: str) -> float:
        return gateway.metric(f"tidegate_delay_seconds_{what}", limit="paced")

    before = delays("count"), delays("sum")
    with join(gateway.port, unique("c")) as client:
        begun = time.monotonic()
        client.send(burst(wire.V311, "paced/t", 8, 1))
        assert lines(client, 8) == acks(1, 1, 8)
        assert time.monotonic() - begun >= 6 / 20
    assert delays("count") - before[0] == 6
    assert delays("sum") - before[1] >= sum(range(6)) / 20  # the first of them may have come when its time was near


def test_who_waits_is_counted_and_told_of(gateway: Limited) -> None:
    def counted() -> tuple[float, float]:
        return (
            gateway.metric("tidegate_limited_total", limit="slow", action="delay"),
            gateway.metric("tidegate_passed_total", limit="slow"),
        )

    before = counted()
    with join(gateway.port, unique("c"), wire.V5) as client:
        client.exchange(wire.subscribe(wire.V5, ("$tidegate/throttle", 0)))
        client.send(b"".join(burst(wire.V5, f"slow/noticed/{number}", 1) for number in range(5)))
        (notice,) = answers(client)
        text = json.loads(notice[notice.index(b"{") :])
        wait = text.pop("retry_after_ms")
        assert text == {"limit": "slow", "action": "delay", "topic": "slow/noticed/3", "messages": 1}
        assert 0 < wait <= 20 * 60 * 1000 + 1
    after = counted()
    assert (after[0] - before[0], after[1] - before[1]) == (2, 3)


def test_addresses_and_their_connections_take_turns(tmp_path: Path) -> None:
    tables = '[[limit]]\nname = "all"\ntopic = "all/#"\nper = "all"\nrate = "RATE burst 1"\nmax_delay = "1h"\n'
    with ExitStack() as stack, limited(tmp_path, tables.replace("RATE", "1/h")) as gateway:
        watcher = stack.enter_context(Watcher(gateway.broker, "all/#"))
        sources = {"one": "127.9.0.1", "two": "127.9.0.1", "light": "127.9.0.2"}
        clients = {
            name: stack.enter_context(join(gateway.port, name, source=source)) for name, source in sources.items()
        }
        clients["light"].send(burst(wire.V311, "all/spent", 1))
        assert told(clients["light"]) == []
        for name, count in (("one", 20), ("two", 20), ("light", 3)):
            clients[name].send(burst(wire.V311, f"all/{name}", count))
            assert told(clients[name]) == []
        assert gateway.held == 43
        gateway.gateway.reload(tables.replace("RATE", "200/s"))
        spent, *order = (topic.removeprefix("all/") for topic, _ in watcher.at_least(44))
    assert spent == "spent"
    # Every second turn is the light one's, as long as it has something; the others share what is left.
    assert sorted([order[:2].count("light"), order[2:4].count("light"), order[4:6].count("light")]) == [1, 1, 1]
    heavy = [name for name in order if name != "light"]
    assert all(heavy[at] != heavy[at + 1] for at in range(39)), heavy


# Identifiers


@every_version
@pytest.mark.parametrize("qos", [1, 2])
def test_a_redelivery_of_what_waits_is_no_second_message(gateway: Limited, version: int, qos: int) -> None:
    topic = f"slow/again/{version}/{qos}"
    with Watcher(gateway.broker, topic) as watcher, join(gateway.port, unique("c"), version) as client:
        client.send(burst(version, topic, 4, qos))
        client.send(burst(version, topic, 1, qos, first_id=4, dup=True))
        assert told(client) == acks(qos, 1, 3)
        assert gateway.held == 1
        with freed(gateway):
            assert lines(client, 1) == acks(qos, 4, 4)
            assert told(client) == []
            client.send(pubrels(1, 4) if qos == 2 else b"")
            assert [payload for _, payload in watcher.at_least(4)] == numbers(1, 4)


@every_version
def test_the_identifier_of_what_waits_cannot_be_used_for_another(gateway: Limited, version: int) -> None:
    with join(gateway.port, unique("c"), version) as client, Watcher(gateway.broker, "slow/used"):
        client.send(burst(version, "slow/used", 4, 1))
        assert told(client) == acks(1, 1, 3)
        client.send(burst(version, "free/1", 1, 1, first_id=4))
        assert client.until_closed() == (["DISCONNECT 0x82", CLOSED] if version == wire.V5 else [CLOSED])


# Large messages


@every_version
@every_qos
def test_a_large_message_waits_with_all_behind_it(gateway: Limited, version: int, qos: int) -> None:
    topic = f"slow/large/{version}/{qos}"
    large = bytes(range(256)) * 1_000
    before = gateway.held
    with Watcher(gateway.broker, topic, "free/large") as watcher, join(gateway.port, unique("c"), version) as client:
        client.send(burst(version, topic, 3, qos))
        assert told(client) == acks(qos, 1, 3)
        client.send(burst(version, topic, 1, qos, first_id=4, payload=large))
        client.send(burst(version, "free/large", 1, qos, first_id=5))
        until(lambda: gateway.held == before + 1, "the large message to wait")
        assert [name for name, _ in watcher.messages()] == ([topic] * 3 if qos < 2 else [])
        with freed(gateway):
            assert lines(client, 2 if qos else 0) == acks(qos, 4, 5)
            client.send(pubrels(1, 5) if qos == 2 else b"")
            arrived = watcher.at_least(5 if qos == 2 else 2)
        assert arrived[-2:] == [(topic, large), ("free/large", b"5")]


@pytest.mark.parametrize("qos", [1, 2])
def test_a_large_message_that_waited_for_too_long_is_refused_and_skipped(tmp_path: Path, qos: int) -> None:
    tables = policy().replace("1h", "200ms")
    with (
        limited(tmp_path, tables) as gateway,
        Watcher(gateway.broker, "slow/#", "free") as watcher,
        join(gateway.port, "c", wire.V5) as client,
    ):
        client.send(burst(wire.V5, "slow/t", 3) + burst(wire.V5, "slow/t", 1, qos, payload=bytes(500_000)))
        client.send(burst(wire.V5, "free", 1, qos, first_id=2))
        assert lines(client, 2) == [f"{ACK[qos]} id 1 0x97", f"{ACK[qos]} id 2 0x00"]
        client.send(pubrels(2, 1) if qos == 2 else b"")
        assert [topic for topic, _ in watcher.at_least(4)] == ["slow/t"] * 3 + ["free"]


def test_what_is_larger_than_the_burst_passes_when_nothing_was_used(gateway: Limited) -> None:
    with join(gateway.port, unique("c")) as client:
        client.send(burst(wire.V311, "bytes/t", 1, 1, payload=bytes(100_000)))
        assert lines(client, 1) == acks(1, 1, 1)
        client.send(burst(wire.V311, "bytes/t", 1, 1, first_id=2))
        assert told(client) == []
        assert gateway.held == 1
