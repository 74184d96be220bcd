"""Several workers, one budget; and what /metrics tells of limits."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from support import wire
from support.limited import Limited, Watcher, burst, join, limited, told, unique
from support.raw import CLOSED, RawClient
from support.wait import until

POLICY = """
[[limit]]
name = "address"
topic = "address/#"
per = "ip"
rate = "100/h burst 100"
on_excess = { v3 = "drop", default = "reject" }

[[limit]]
name = "pair"
topic = "pair/#"
per = "all"
rate = ["60/h burst 60", "1000/h burst 1000"]
on_excess = "drop"

[[limit]]
name = "metered"
topic = "metered/#"
rate = "10/h burst 10"
on_excess = { qos0 = "drop", v3 = "disconnect", default = "reject" }

[[limit]]
name = "watched"
topic = "metered/#"
rate = "5/h burst 5"
on_excess = "observe"

[[limit]]
name = "sessions"
topic = "sessions/#"
per = ["client", "topic"]
rate = "1/h burst 1"
on_excess = "drop"
"""
CLIENTS = 16


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    extra = "buckets = 4096"
    with limited(tmp_path_factory.mktemp("workers"), POLICY, workers=2, extra=extra) as made:
        yield made


def on_both_workers(gateway: Limited, stack: ExitStack, version: int, source: str) -> list[RawClient]:
    """CLIENTS connections, of which each worker has at least two: the kernel spreads them by their ports."""
    while True:
        clients = [stack.enter_context(join(gateway.port, unique("w"), version, source=source)) for _ in range(CLIENTS)]
        if all(gateway.metric("tidegate_connections", worker=str(row)) >= 2 for row in range(2)):
            return clients
        for client in clients:
            client.close()
        until(lambda: gateway.metric("tidegate_connections") == 0, "the end of connections on one worker only")


@pytest.mark.parametrize(
    ("topic", "version", "budget"), [("address", wire.V311, 100), ("address", wire.V5, 100), ("pair", wire.V5, 60)]
)
def test_all_workers_charge_one_budget(gateway: Limited, topic: str, version: int, budget: int) -> None:
    where = f"{topic}/{version}"
    with ExitStack() as stack, Watcher(gateway.broker, where) as watcher:
        clients = on_both_workers(gateway, stack, version, f"127.5.0.{version}")
        for part in range(0, 20, 5):  # all of them at work at the same time
            for client in clients:
                client.send(burst(version, where, 5, 1, first_id=part + 1))
        for client in clients:
            assert len(told(client)) == 20
        assert len(watcher.messages()) == budget


def test_what_became_of_messages_is_counted_by_limit_and_action(gateway: Limited) -> None:
    def limited_by(limit: str, action: str) -> float:
        return gateway.metric("tidegate_limited_total", limit=limit, action=action)

    with join(gateway.port, unique("m"), wire.V5) as client:
        client.send(burst(wire.V5, "metered/t", 30, 1))
        assert len(told(client)) == 30
        client.send(burst(wire.V5, "metered/t", 7))
        assert told(client) == []
    with join(gateway.port, unique("m")) as client:
        client.send(burst(wire.V311, "metered/t", 11, 1))
        assert client.until_closed()[-1] == CLOSED
    assert gateway.metric("tidegate_passed_total", limit="metered") == 20
    assert limited_by("metered", "reject") == 20
    assert limited_by("metered", "drop") == 7
    assert limited_by("metered", "disconnect") == 1
    # Five of each client are within the other limit; what it sees above that is counted, whatever became of it.
    assert gateway.metric("tidegate_passed_total", limit="watched") == 10
    assert limited_by("watched", "observe") == 25 + 7 + 6
    assert gateway.metric("tidegate_events_lost_total") == 0
    assert gateway.metric("tidegate_policy_generation") == 1


def test_each_limit_has_samples_for_what_it_can_do(gateway: Limited) -> None:
    text = gateway.gateway.get("/metrics").text
    for limit, actions in (("metered", {"drop", "reject", "disconnect"}), ("watched", {"observe"}), ("pair", {"drop"})):
        lines = [line for line in text.splitlines() if line.startswith("tidegate_limited_total{")]
        assert sum(f'limit="{limit}"' in line for line in lines) == len(actions)
        for action in actions:
            assert any(f'limit="{limit}"' in line and f'action="{action}"' in line for line in lines)
    assert "tidegate_events_lost_total 0.0" in text


def test_budgets_in_use_are_counted(gateway: Limited) -> None:
    def buckets(state: str) -> float:
        return gateway.metric("tidegate_buckets", limit="sessions", state=state)

    before = buckets("live"), buckets("full")
    with join(gateway.port, unique("m")) as client:
        client.send(b"".join(burst(wire.V311, f"sessions/{number}", 2) for number in range(5)))
        assert told(client) == []
    assert (buckets("live") - before[0], buckets("full") - before[1]) == (5, 5)


def test_keys_beyond_the_limit_s_share_count_as_a_crowd(gateway: Limited) -> None:
    with join(gateway.port, unique("m")) as client, Watcher(gateway.broker, "sessions/#") as watcher:
        for part in range(20):
            client.send(b"".join(burst(wire.V311, f"sessions/crowd/{part}/{number}", 1) for number in range(500)))
        assert told(client) == []
        arrived = len(watcher.messages())
    crowded = gateway.metric("tidegate_crowded_total", limit="sessions")
    dropped = gateway.metric("tidegate_limited_total", limit="sessions", action="drop")
    live = gateway.metric("tidegate_buckets", limit="sessions", state="live")
    assert crowded > 5000
    assert dropped > 5000
    assert arrived < 5000
    assert live <= 4096
