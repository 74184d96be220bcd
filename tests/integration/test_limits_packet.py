"""Limits on every packet: floods of pings and of all else, what their senders see, and that nobody else feels it."""

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from support import wire
from support.limited import (
    AMPLE,
    Limited,
    Watcher,
    burst,
    every_version,
    join,
    limited,
    lines,
    told,
    unique,
)
from support.raw import CLOSED, RawClient
from support.wait import until

POLICY = """
[[limit]]
name = "paced"
on = "packet"
client_id = "paced-*"
rate = "40/s burst 10"
max_delay = "2s"

[[limit]]
name = "stuck"
on = "packet"
client_id = "stuck-*"
rate = "3/h burst 3"
max_delay = "1h"

[[limit]]
name = "patient"
on = "packet"
client_id = "patient-*"
rate = "3/h burst 3"
max_delay = "300ms"

[[limit]]
name = "disconnect"
on = "packet"
client_id = "disconnect-*"
rate = "10/h burst 10"
on_excess = "disconnect"

[[limit]]
name = "ban"
on = "packet"
cidr = "127.20.0.0/16"
per = "ip"
rate = "10/h burst 10"
on_excess = "ban"

[[limit]]
name = "observe"
on = "packet"
client_id = "observe-*"
rate = "10/h burst 10"
on_excess = "observe"

[[limit]]
name = "bytes"
on = "packet"
client_id = "bytes-*"
bandwidth = "16B/s burst 10KiB"
max_delay = "1h"

[[limit]]
name = "small"
on = "packet"
client_id = "small-*"
size = "100B"

[[limit]]
name = "message"
topic = "message/#"
client_id = "both-*"
rate = "2/h burst 2"
on_excess = "drop"

[[limit]]
name = "packet"
on = "packet"
client_id = "both-*"
rate = "10/h burst 10"
max_delay = "1h"
"""
ENDED = {wire.V31: [CLOSED], wire.V311: [CLOSED], wire.V5: ["DISCONNECT 0x96", CLOSED]}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("packets"), POLICY) as made:
        yield made


def pings(client: RawClient, count: int) -> None:
    """The next so many packets are answers to pings, and are waited for."""
    assert lines(client, count) == ["PINGRESP"] * count


def delayed(gateway: Limited, limit: str) -> float:
    """Packets that have had to wait."""
    return gateway.metric("tidegate_limited_total", limit=limit, action="delay")


# delay


@every_version
def test_a_flood_of_pings_is_answered_at_the_limits_pace(gateway: Limited, version: int) -> None:
    with join(gateway.port, unique("paced"), version) as flooder, join(gateway.port, unique("paced"), version) as other:
        begun = time.monotonic()
        flooder.send(wire.PINGREQ * 5000)
        pings(flooder, 10)
        assert told(other) == []
        pings(flooder, 40)
        assert time.monotonic() - begun >= 40 / 40 * 0.97
        assert told(other) == []


@every_version
def test_the_rest_follows_in_order_when_it_may(gateway: Limited, version: int) -> None:
    with (
        Watcher(gateway.broker, "order/#") as watcher,
        join(gateway.port, unique("stuck"), version) as client,
    ):
        topic = f"order/{version}"
        wanted = [str(number).encode() for number in range(1, 21)]
        client.send(burst(version, topic, 10, 1) + wire.PINGREQ + burst(version, topic, 10, 1, first_id=11))
        assert [watcher.message()[1] for _ in range(3)] == wanted[:3]
        assert watcher.messages() == []
        with gateway.under(POLICY.replace("3/h burst 3", AMPLE), POLICY):
            assert [watcher.message()[1] for _ in range(17)] == wanted[3:]
            acknowledged = [line for line in lines(client, 21) if line != "PINGRESP"]
            assert acknowledged == [f"PUBACK id {number} 0x00" for number in range(1, 21)]


@every_version
def test_what_it_is_owed_reaches_a_client_that_is_left_unread(gateway: Limited, version: int) -> None:
    topic, before = f"owed/{version}", delayed(gateway, "stuck")
    with join(gateway.port, unique("stuck"), version) as client, join(gateway.port, unique("free")) as publisher:
        assert wire.tell(client.exchange(wire.subscribe(version, (topic, 0))), version).startswith("SUBACK")
        client.send(wire.PINGREQ * 20)
        pings(client, 2)
        until(lambda: delayed(gateway, "stuck") == before + 1, "the third ping to wait")
        publisher.send(burst(wire.V311, topic, 2))
        assert lines(client, 2) == [f"PUBLISH qos 0 {topic}"] * 2


@every_version
def test_who_leaves_goes_at_once_and_without_his_will(gateway: Limited, version: int) -> None:
    with (
        Watcher(gateway.broker, "gone/leaves", "marker") as watcher,
        join(gateway.port, unique("stuck"), version, will="gone/leaves") as client,
    ):
        client.send(wire.PINGREQ * 3 + (b"\xe0\x00"))
        assert client.until_closed() == ["PINGRESP"] * 3 + [CLOSED]
        with join(gateway.port, unique("free")) as other:
            other.send(burst(wire.V311, "marker", 1))
        assert watcher.messages_until("marker") == []


@every_version
def test_who_waits_for_too_long_is_disconnected(gateway: Limited, version: int) -> None:
    with (
        Watcher(gateway.broker, "gone/patient") as watcher,
        join(gateway.port, unique("patient"), version, will="gone/patient") as client,
    ):
        client.send(wire.PINGREQ * 3)
        pings(client, 3)
        begun = time.monotonic()
        client.send(wire.PINGREQ * 20)
        assert client.until_closed() == ENDED[version]
        assert time.monotonic() - begun >= 0.29
        assert watcher.message()[0] == "gone/patient"


@every_version
def test_no_later_than_after_half_of_his_keepalive(gateway: Limited, version: int) -> None:
    with RawClient(gateway.port, version) as client:
        client.connect(unique("stuck"), keepalive=2)
        begun = time.monotonic()
        client.send(wire.PINGREQ * 20)
        assert client.until_closed() == ["PINGRESP"] * 3 + ENDED[version]
        assert time.monotonic() - begun >= 0.97


def test_who_has_closed_his_socket_is_given_up(gateway: Limited) -> None:
    with (
        Watcher(gateway.broker, "gone/closed") as watcher,
        join(gateway.port, unique("paced"), will="gone/closed") as client,
    ):
        client.send(wire.PINGREQ * 100_000)
        client.close()
        assert watcher.message()[0] == "gone/closed"


def test_two_workers_pace_together(tmp_path_factory: pytest.TempPathFactory) -> None:
    policy = '[[limit]]\nname = "all"\non = "packet"\nper = "all"\nrate = "40/s burst 10"\nmax_delay = "1min"\n'
    with limited(tmp_path_factory.mktemp("workers"), policy, workers=2) as made:
        clients = [join(made.port, unique("c"), source=f"127.0.0.{2 + number % 2}") for number in range(4)]
        begun = time.monotonic()
        for client in clients:
            client.send(wire.PINGREQ * 1000)
        for client in clients:
            pings(client, 10)
        assert time.monotonic() - begun >= 30 / 40 * 0.97
        until(lambda: made.held == 4, "all of them to wait")
        for client in clients:
            client.close()
        until(lambda: made.held == 0, "nobody to wait")


def test_an_unread_client_cannot_make_memory_grow(gateway: Limited) -> None:
    def memory() -> float:
        return gateway.metric("tidegate_process_resident_memory_bytes", process="worker-0")

    was_delayed = delayed(gateway, "stuck")
    with join(gateway.port, unique("stuck")) as client:
        client.send(wire.PINGREQ * 4)
        pings(client, 3)
        until(lambda: delayed(gateway, "stuck") == was_delayed + 1, "the fourth ping to wait")
        before, sent = memory(), 0
        client.socket.settimeout(1.0)
        with suppress(TimeoutError):
            while sent < 1 << 27:
                sent += client.socket.send(wire.PINGREQ * 50_000)
        assert sent < 1 << 25, "the kernel's buffers"
        assert memory() - before < 2 << 20
        assert gateway.metric("tidegate_hold_bytes") < 1 << 20


# The other actions


@every_version
def test_disconnect(gateway: Limited, version: int) -> None:
    with (
        Watcher(gateway.broker, "gone/disconnect") as watcher,
        join(gateway.port, unique("disconnect"), version, will="gone/disconnect") as client,
        join(gateway.port, unique("disconnect"), version) as other,
    ):
        client.send(wire.PINGREQ * 10)
        pings(client, 10)
        client.send(wire.PINGREQ * 100)
        assert client.until_closed() == ENDED[version]
        assert watcher.message()[0] == "gone/disconnect"
        assert told(other) == []


def test_the_reason_names_the_limit(gateway: Limited) -> None:
    with join(gateway.port, unique("disconnect"), wire.V5) as client:
        client.send(wire.PINGREQ * 10)
        pings(client, 10)
        assert b"over limit disconnect: retry in 3" in client.exchange(wire.PINGREQ * 2)


@every_version
def test_ban(gateway: Limited, version: int) -> None:
    source, other = f"127.20.{version}.1", f"127.20.{version}.2"
    with join(gateway.port, unique("c"), version, source=other) as neighbour:
        with join(gateway.port, unique("c"), version, source=source) as client:
            client.send(wire.PINGREQ * 100)
            events = client.until_closed()
            assert [event for event in events if event != "PINGRESP"] == ENDED[version]

        def is_banned() -> bool:
            with RawClient(gateway.port, version, source) as again:
                again.send(wire.connect(version, unique("c")))
                return again.until_fence() != ["CONNACK 0x00", "open"]

        until(is_banned, "the ban")
        assert told(neighbour) == []
        assert gateway.metric("tidegate_bans_total", limit="ban") >= 1


@every_version
def test_observe(gateway: Limited, version: int) -> None:
    before = gateway.metric("tidegate_limited_total", limit="observe", action="observe")
    with join(gateway.port, unique("observe"), version) as client:
        client.send(wire.PINGREQ * 50)
        pings(client, 50)
    assert gateway.metric("tidegate_limited_total", limit="observe", action="observe") == before + 40


@every_version
def test_bytes_count_whatever_the_packet_is(gateway: Limited, version: int) -> None:
    before = delayed(gateway, "bytes")
    with Watcher(gateway.broker, "bytes/t") as watcher, join(gateway.port, unique("bytes"), version) as client:
        client.send(burst(version, "bytes/t", 20, payload=bytes(1000)) + wire.PINGREQ)
        assert len(watcher.at_least(10)) == 10
        until(lambda: delayed(gateway, "bytes") == before + 1, "the eleventh to wait")


@every_version
def test_size(gateway: Limited, version: int) -> None:
    with Watcher(gateway.broker, "size/t") as watcher, join(gateway.port, unique("small"), version) as client:
        client.send(burst(version, "size/t", 5, payload=bytes(50)))
        assert told(client) == []
        client.send(wire.subscribe(version, ("a" * 120, 0)) + wire.PINGREQ)
        assert client.until_closed() == ENDED[version]
        assert len(watcher.messages()) == 5


def test_a_large_message_is_refused_before_it_has_come(gateway: Limited) -> None:
    with join(gateway.port, unique("small")) as client:
        client.send(wire.publish(wire.V311, "size/t", bytes(900_000))[:100])
        assert client.until_closed() == [CLOSED]


# Beside limits on publish


@every_version
def test_a_message_pays_as_a_packet_whatever_becomes_of_it(gateway: Limited, version: int) -> None:
    topic, before = f"message/{version}", delayed(gateway, "packet")
    with Watcher(gateway.broker, topic) as watcher, join(gateway.port, unique("both"), version) as client:
        client.send(burst(version, topic, 9, 1) + wire.PINGREQ * 2)
        answers = sorted(lines(client, 10))
        assert answers == sorted([*(f"PUBACK id {number} 0x00" for number in range(1, 10)), "PINGRESP"])
        until(lambda: delayed(gateway, "packet") == before + 1, "the second ping to wait")
        assert len(watcher.messages()) == 2
