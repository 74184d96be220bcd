"""`concurrent`: how many messages are in flight, exact over connections and workers, before a broker that is late."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support import wire
from support.late_gateway import Late, late
from support.limited import (
    VERSIONS,
    acks,
    answer_of,
    answers,
    burst,
    every_version,
    join,
    lines,
    metric,
    numbers,
    pubrels,
    told,
)
from support.raw import CLOSED, RawClient
from support.wait import until

WINDOW = 5
POLICY = """
[[limit]]
name = "user"
topic = "user/#"
per = "username"
concurrent = NUMBER
max_delay = "1h"

[[limit]]
name = "own"
topic = "own/#"
per = "client"
concurrent = NUMBER
max_delay = "1h"

[[limit]]
name = "strict"
topic = "strict/#"
per = "client"
concurrent = NUMBER
on_excess = { v3 = "drop", default = "reject" }
"""


def policy(number: int = WINDOW) -> str:
    return POLICY.replace("NUMBER", str(number))


@contextmanager
def windowed(directory: Path, workers: int = 1) -> Iterator[Late]:
    """One window of WINDOW for each user."""
    with late(directory, policy(), workers=workers) as made:
        yield made


def four_on_two_workers(made: Late, stack: ExitStack, version: int) -> dict[int, list[RawClient]]:
    """Two connections of one user at each worker, by the worker's pid: the kernel spreads them by their ports."""
    found: dict[int, list[RawClient]] = {}
    for number in range(200):
        client = stack.enter_context(join(made.port, f"c{number}", version, username="plant"))
        worker = made.gateway.worker_of(client.local_port)
        assert worker is not None
        if len(found.setdefault(worker.pid, [])) < 2:
            found[worker.pid].append(client)
        else:
            client.send(wire.DISCONNECT)
        if [len(clients) for clients in found.values()] == [2, 2]:
            return found
    raise AssertionError(found)


@every_version
def test_four_connections_on_two_workers_share_one_window(tmp_path: Path, version: int) -> None:
    with windowed(tmp_path, workers=2) as made, ExitStack() as stack:
        clients = [client for pair in four_on_two_workers(made, stack, version).values() for client in pair]
        for number, client in enumerate(clients):
            client.send(burst(version, f"user/{number}", 10, 1))
        for client in clients:
            assert told(client) == []
        made.forwarded(WINDOW)
        assert (made.broker.unacknowledged, made.held) == (WINDOW, 40 - WINDOW)
        for released in range(1, 41):
            assert made.broker.release(1) == 1
            made.forwarded(min(40, WINDOW + released))
        for client in clients:
            assert lines(client, 10) == acks(1, 1, 10)
        assert made.broker.most == WINDOW
        for number in range(4):
            arrived = [one.payload for one in made.broker.received if one.topic == f"user/{number}"]
            assert arrived == numbers(1, 10)


@every_version
def test_a_message_of_qos_2_counts_until_pubcomp(tmp_path: Path, version: int) -> None:
    with windowed(tmp_path, workers=2) as made, ExitStack() as stack:
        clients = [client for pair in four_on_two_workers(made, stack, version).values() for client in pair]
        for number, client in enumerate(clients):
            client.send(burst(version, f"user/{number}", 6, 2))
            assert told(client) == []
        made.forwarded(WINDOW)
        assert made.held == 24 - WINDOW
        # The broker says PUBREC, and nobody PUBREL.
        assert made.broker.release_all() == WINDOW
        unreleased = {client: told(client) for client in clients}
        assert sum(map(len, unreleased.values())) == WINDOW
        assert (made.broker.unacknowledged, len(made.broker.received)) == (WINDOW, WINDOW)
        done = 0
        while done < 24:
            for client in clients:
                for line in unreleased.pop(client, []) + told(client):
                    if line.startswith("PUBREC"):
                        client.send(pubrels(int(line.split()[2]), 1))
                    else:
                        assert line.startswith("PUBCOMP"), line
                        done += 1
            made.broker.release_all()
        assert (made.broker.most, made.held) == (WINDOW, 0)
        for number in range(4):
            assert [one.payload for one in made.broker.received if one.topic == f"user/{number}"] == numbers(1, 6)


def test_qos_0_is_in_nobody_s_window(tmp_path: Path) -> None:
    with windowed(tmp_path) as made, join(made.port, "c", username="plant") as client:
        client.send(burst(wire.V311, "user/a", WINDOW, 1) + burst(wire.V311, "user/b", 20))
        assert told(client) == []
        made.forwarded(WINDOW + 20)
        assert made.held == 0


def test_each_user_has_his_own(tmp_path: Path) -> None:
    with windowed(tmp_path) as made, ExitStack() as stack:
        for name in ("one", "two"):
            client = stack.enter_context(join(made.port, name, username=name))
            client.send(burst(wire.V311, "user/a", WINDOW + 1, 1))
            assert told(client) == []
        made.forwarded(2 * WINDOW)
        assert (made.broker.unacknowledged, made.held) == (2 * WINDOW, 2)


@every_version
@pytest.mark.parametrize("qos", [1, 2])
def test_a_redelivery_takes_no_second_place(tmp_path: Path, version: int, qos: int) -> None:
    with windowed(tmp_path) as made, join(made.port, "c", version) as client:
        client.send(burst(version, "own/a", 1, qos) + burst(version, "own/a", 1, qos, dup=True) * 3)
        client.send(burst(version, "own/b", WINDOW, qos, first_id=11))
        assert told(client) == []
        made.forwarded(WINDOW)
        assert (made.broker.unacknowledged, made.held) == (WINDOW, 1)
        # The one that it has will do.
        assert [one.dup for one in made.broker.received] == [False] * WINDOW
        client.send(burst(version, "free", 1, qos))
        assert client.until_closed() == (["DISCONNECT 0x82", CLOSED] if version == wire.V5 else [CLOSED])


# Places that become free


@pytest.mark.parametrize("how", ["disconnect", "close"])
def test_who_leaves_makes_room(tmp_path: Path, how: str) -> None:
    with windowed(tmp_path, workers=2) as made, ExitStack() as stack:
        one, other = four_on_two_workers(made, stack, wire.V311).values()
        one[0].send(burst(wire.V311, "user/a", WINDOW, 1))
        made.forwarded(WINDOW)
        for client in (one[1], other[0]):
            client.send(burst(wire.V311, "user/b", 2, 1))
            assert told(client) == []
        assert made.held == 4
        one[0].send(wire.DISCONNECT if how == "disconnect" else b"")
        one[0].close()
        made.forwarded(WINDOW + 4)
        until(lambda: made.held == 0, "nobody to wait")
        assert (
            made.broker.most == WINDOW or how == "close"
        )  # the broker may hear of a mere close after the next message


def test_a_killed_worker_s_places_are_free_again(tmp_path: Path) -> None:
    with windowed(tmp_path, workers=2) as made, ExitStack() as stack:
        (doomed, lost), (_, kept) = four_on_two_workers(made, stack, wire.V311).items()
        lost[0].send(burst(wire.V311, "user/lost", 3, 1))
        lost[1].send(burst(wire.V311, "user/lost", 2, 1))
        made.forwarded(WINDOW)
        for client in kept:
            client.send(burst(wire.V311, "user/kept", 5, 1))
            assert told(client) == []
        assert (made.broker.unacknowledged, made.broker.most, made.held) == (WINDOW, WINDOW, 10)
        (worker,) = [child for child in made.gateway.workers() if child.pid == doomed]
        worker.send_signal(signal.SIGKILL)
        for client in lost:
            assert client.until_closed() == [CLOSED]
        made.forwarded(2 * WINDOW)
        for released in range(1, 11):
            assert made.broker.release(1) == 1
            made.forwarded(min(WINDOW + 10, 2 * WINDOW + released))
        for client in kept:
            assert lines(client, 5) == acks(1, 1, 5)
        # Theirs alone: the broker may hear of the end of the others later than the supervisor.
        names = [
            seen.connect.client_id
            for seen in made.broker.connections
            if any(one.topic == "user/kept" for one in seen.received)
        ]
        assert made.broker.most_of(*names) == WINDOW
        # Its successor knows the window too.
        until(made.gateway.ready, "the successor")
        clients = [client for pair in four_on_two_workers(made, stack, wire.V311).values() for client in pair]
        for client in clients:
            client.send(burst(wire.V311, "user/next", 5, 1))
            assert told(client) == []
        made.forwarded(WINDOW + 10 + WINDOW)
        assert (made.broker.unacknowledged, made.broker.most, made.held) == (WINDOW, WINDOW, 15)


@pytest.mark.parametrize(("number", "more"), [(8, 3), (1_000_000, 15)])
def test_a_reload_moves_the_window(tmp_path: Path, number: int, more: int) -> None:
    with windowed(tmp_path) as made, join(made.port, "c", username="plant") as client:
        client.send(burst(wire.V311, "user/a", 20, 1))
        assert told(client) == []
        assert (made.broker.unacknowledged, made.held) == (WINDOW, 15)
        made.gateway.reload(policy(number))
        made.forwarded(WINDOW + more)
        assert told(client) == []
        assert (made.broker.most, made.held) == (WINDOW + more, 15 - more)


# QoS 2


def test_one_connection_has_half_of_a_shared_window_for_qos_2_and_the_others_go_on(tmp_path: Path) -> None:
    with (
        windowed(tmp_path) as made,
        join(made.port, "hog", username="plant") as hog,
        join(made.port, "other", username="plant") as other,
    ):
        hog.send(burst(wire.V311, "user/hog", 6, 2))
        assert told(hog) == []
        assert (made.broker.unacknowledged, made.held) == (2, 4)
        assert made.broker.release_all() == 2
        assert lines(hog, 2) == acks(2, 1, 2)
        other.send(burst(wire.V311, "user/other", 10, 1))
        made.forwarded(WINDOW)
        for released in range(1, 11):
            assert made.broker.release(1) == 1
            made.forwarded(min(2 + 10, WINDOW + released))
        assert lines(other, 10) == acks(1, 1, 10)
        assert (made.broker.most, made.held) == (WINDOW, 4)
        # With its PUBRELs it goes on as well.
        hog.send(pubrels(1, 2))
        made.forwarded(2 + 10 + 2)
        assert (made.broker.unacknowledged, made.held) == (2, 2)


def test_who_shares_his_window_with_nobody_has_all_of_it(tmp_path: Path) -> None:
    with windowed(tmp_path) as made, join(made.port, "c") as client:
        client.send(burst(wire.V311, "own/t", WINDOW + 1, 2))
        assert told(client) == []
        assert (made.broker.unacknowledged, made.held) == (WINDOW, 1)


def test_who_owes_a_pubrel_for_too_long_is_closed(tmp_path: Path) -> None:
    with windowed(tmp_path) as made, ExitStack() as stack:
        hogs, others = [], []
        for name, version in VERSIONS.items():
            for number, count in enumerate((2, 2, 1)):
                hog = stack.enter_context(join(made.port, f"hog-{number}-{name}", version, username=name))
                hog.send(burst(version, "user/hog", count, 2))
                assert told(hog) == []
                hogs.append((hog, count))
        assert len(made.broker.received) == 3 * WINDOW
        assert made.broker.release_all() == 3 * WINDOW
        for hog, count in hogs:
            assert lines(hog, count) == acks(2, 1, count)
        for name, version in VERSIONS.items():
            other = stack.enter_context(join(made.port, f"other-{name}", version, username=name))
            other.send(burst(version, "user/other", 5, 1))
            assert told(other) == []
            others.append(other)
        assert made.held == 15
        for hog, _ in hogs:
            assert hog.until_closed() == (["DISCONNECT 0x97", CLOSED] if hog.version == wire.V5 else [CLOSED])
        made.forwarded(3 * WINDOW + 15)
        assert made.broker.release_all() == 15
        for other in others:
            assert lines(other, 5) == acks(1, 1, 5)
        assert metric(made.gateway, "tidegate_timeouts_total", kind="window") == 9


# What does not delay


@every_version
@pytest.mark.parametrize("qos", [1, 2])
def test_a_window_that_refuses_says_so_without_a_time(tmp_path: Path, version: int, qos: int) -> None:
    with windowed(tmp_path) as made, join(made.port, "c", version, username="plant") as client:
        client.send(burst(version, "strict/t", WINDOW + 2, qos))
        refused = answers(client)
        code = "0x97" if version == wire.V5 else "0x00"
        assert [wire.tell(data, version).split()[2:] for data in refused] == [["6", code], ["7", code]]
        if version == wire.V5:
            said = [answer_of(data) for data in refused]
            assert {one.text for one in said} == {"over limit strict: too many messages wait for their acknowledgement"}
            assert [one.user for one in said] == [{}, {}]
        assert (len(made.broker.received), made.held) == (WINDOW, 0)
        made.broker.release(1)
        assert lines(client, 1) == acks(qos, 1, 1)
        client.send(pubrels(1, 1) if qos == 2 else b"")
        assert told(client) == ["PUBCOMP id 1 0x00" for _ in range(qos - 1)]
        client.send(burst(version, "strict/t", 2, qos, first_id=8))
        assert len(told(client)) == 1
        assert len(made.broker.received) == WINDOW + 1
