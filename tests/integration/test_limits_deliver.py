"""Limits on `deliver`, live: what real brokers send to real subscribers, and what waits, is replaced or dropped."""

import subprocess
from collections import defaultdict
from collections.abc import Iterator

import pytest

from support import wire
from support.limited import (
    AMPLE,
    Limited,
    answers,
    burst,
    every_qos,
    every_version,
    join,
    limited,
    numbers,
    pubrels,
    told,
)
from support.raw import RawClient
from support.wait import GUARD, until

WINDOW = 20
POLICY = f"""
[[limit]]
name = "window"
on = "deliver"
topic = "window/#"
concurrent = {WINDOW}

[[limit]]
name = "newest"
on = "deliver"
topic = ["newest/#", "mixed/#"]
rate = "RATE"
conflate = true

[[limit]]
name = "slow"
on = "deliver"
topic = "slow/#"
rate = "RATE"
max_delay = "1h"

[[limit]]
name = "late"
on = "deliver"
topic = "late/#"
rate = "1/h burst 1"
max_delay = "1ms"

[[limit]]
name = "drop"
on = "deliver"
topic = "drop/#"
rate = "1/h burst 1"
on_excess = {{ qos0 = "drop", default = "delay" }}

[[limit]]
name = "dry"
on = "deliver"
topic = "dry/#"
rate = "1/h burst 1"
on_excess = "observe"
"""
TIGHT = "1/h burst 1"
LARGEST_WINDOW = b"\x21\xff\xff"
"""Receive Maximum 65535."""


def policy(rate: str = TIGHT) -> str:
    return POLICY.replace("RATE", rate)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("deliver"), policy()) as made:
        yield made


def subscriber(gate: Limited, name: str, version: int, topic_filter: str, qos: int) -> RawClient:
    """One that takes 65,535 messages unacknowledged, if asked."""
    client = join(gate.port, name, version, props=LARGEST_WINDOW if version == wire.V5 else b"")
    suback = client.exchange(wire.subscribe(version, (topic_filter, qos)))
    assert wire.tell(suback, version).startswith("SUBACK"), suback.hex()
    return client


def publishes(gate: Limited, *packets: bytes) -> None:
    """Publish directly at the broker, and wait until it has them."""
    with join(gate.broker.port, "publisher") as client:
        client.send(b"".join(packets))
        answers(client)


def payload_of(data: bytes, version: int) -> tuple[str, bytes]:
    """Topic and payload of a PUBLISH without properties."""
    body = wire.body_of(data)
    end = 2 + int.from_bytes(body[:2], "big")
    behind = end + (2 if data[0] & 6 else 0) + (1 if version == wire.V5 else 0)
    return body[2:end].decode(), body[behind:]


def identifier_of(data: bytes) -> int:
    body = wire.body_of(data)
    end = 2 + int.from_bytes(body[:2], "big")
    return int.from_bytes(body[end : end + 2], "big")


def acknowledgements(ids: list[int], qos: int) -> bytes:
    return b"".join((b"\x40\x02" if qos == 1 else b"\x50\x02") + number.to_bytes(2, "big") for number in ids)


@every_version
@pytest.mark.parametrize("qos", [1, 2])
def test_never_more_than_the_window_is_unacknowledged(gate: Limited, version: int, qos: int) -> None:
    topic = f"window/{version}/{qos}"
    with subscriber(gate, f"w{version}{qos}", version, topic, qos) as client:
        publishes(gate, burst(4, topic, 60, qos), pubrels(1, 60) if qos == 2 else b"")
        seen: list[bytes] = []
        unacknowledged: list[bytes] = []
        while len(seen) < 60:
            # The broker's answer to a ping comes behind all that it has sent: so much, and no more, is on the wire.
            unacknowledged += [one for one in answers(client) if one[0] >> 4 == 3]
            assert 0 < len(unacknowledged) <= WINDOW
            assert len(unacknowledged) == min(WINDOW, 60 - len(seen))
            assert wire.tell(client.exchange(wire.subscribe(version, ("other", 0))), version).startswith("SUBACK")
            few = [unacknowledged.pop(0) for _ in range(min(7, len(unacknowledged)))]
            seen += few
            client.send(acknowledgements([identifier_of(one) for one in few], qos))
            if qos == 2:
                for _ in few:
                    pubrel = client.read()
                    while pubrel is not None and pubrel[0] >> 4 == 3:
                        unacknowledged.append(pubrel)
                        pubrel = client.read()
                    assert pubrel is not None
                    assert pubrel[0] >> 4 == 6
                client.send(b"".join(b"\x70\x02" + identifier_of(one).to_bytes(2, "big") for one in few))
            want = min(WINDOW, 60 - len(seen))
            while len(unacknowledged) < want:
                message = client.read()
                assert message is not None
                unacknowledged.append(message)
        assert [payload_of(one, version)[1] for one in seen] == [str(number).encode() for number in range(1, 61)]


@every_version
def test_of_messages_that_wait_the_newest_of_each_topic_arrives(gate: Limited, version: int) -> None:
    with subscriber(gate, f"n{version}", version, "newest/#", 0) as client:
        rounds = b"".join(wire.publish(4, f"newest/{topic}", b"%d" % n) for n in range(50) for topic in "abc")
        publishes(gate, rounds)
        assert [payload_of(one, version) for one in answers(client)] == [("newest/a", b"0")]
        until(lambda: gate.held == 3, "one of each topic to wait")
        with gate.under(policy(AMPLE), policy()):
            got = [payload_of(client.read() or b"", version) for _ in range(3)]
        assert got == [("newest/b", b"49"), ("newest/c", b"49"), ("newest/a", b"49")]
        assert gate.held == 0


@every_version
def test_retained_messages_of_all_qos_survive_at_a_subscription(gate: Limited, version: int) -> None:
    count = 120
    old = b"".join(
        wire.publish(
            4, f"slow/{version}/{n}", b"old %d" % n, first=0x31 | n % 3 << 1, packet_id=n + 1 if n % 3 else None
        )
        for n in range(count)
    )
    publishes(gate, old, b"".join(b"\x62\x02" + (n + 1).to_bytes(2, "big") for n in range(count) if n % 3 == 2))
    with subscriber(gate, f"s{version}", version, f"slow/{version}/#", 2) as client:
        first = answers(client)
        new = b"".join(wire.publish(4, f"slow/{version}/{n}", b"new %d" % n) for n in range(count))
        publishes(gate, new)
        first += answers(client)
        with gate.under(policy(AMPLE), policy()):
            got: dict[str, list[bytes]] = defaultdict(list)
            for data in first:
                take(client, got, data, version)
            while sum(map(len, got.values())) < 2 * count:
                message = client.read()
                assert message is not None
                take(client, got, message, version)
        assert got == {f"slow/{version}/{n}": [b"old %d" % n, b"new %d" % n] for n in range(count)}


def take(client: RawClient, got: dict[str, list[bytes]], data: bytes, version: int) -> None:
    """Acknowledge a packet of the broker's; a message goes into `got`."""
    if data[0] >> 4 == 6:
        client.send(b"\x70\x02" + wire.body_of(data)[:2])
        return
    topic, payload = payload_of(data, version)
    got[topic].append(payload)
    if qos := data[0] >> 1 & 3:
        client.send(acknowledgements([identifier_of(data)], qos))


@every_qos
def test_what_is_late(gate: Limited, qos: int) -> None:
    topic = f"late/{qos}"
    before = gate.metric("tidegate_limited_total", limit="late", action="drop")
    with subscriber(gate, f"l{qos}", 4, topic, qos) as client:
        publishes(gate, burst(4, topic, 5, qos), pubrels(1, 5) if qos == 2 else b"")
        if qos == 0:
            until(lambda: gate.metric("tidegate_limited_total", limit="late", action="drop") == before + 4, "drops")
        else:
            until(lambda: gate.held == 4, "four to wait")  # what the broker must know to have arrived is never dropped
        assert len(answers(client)) == 1


@every_version
@pytest.mark.parametrize("topic_filter", ["late/shared/V", "$share/group/late/shared/V"])
def test_what_may_have_come_by_a_shared_subscription_is_not_dropped(
    gate: Limited, version: int, topic_filter: str
) -> None:
    topic = f"late/shared/{version}"
    before = gate.metric("tidegate_limited_total", limit="late", action="drop")
    name = f"sh{version}{len(topic_filter)}"
    with subscriber(gate, name, version, topic_filter.replace("V", str(version)), 0) as client:
        publishes(gate, burst(4, topic, 5))
        if topic_filter.startswith("$share"):
            until(lambda: gate.held == 4, "four to wait")
            with gate.under(policy(AMPLE).replace("1/h burst 1", AMPLE), policy()):
                assert [payload_of(client.read() or b"", version)[1] for _ in range(5)] == numbers(1, 5)
            assert gate.metric("tidegate_limited_total", limit="late", action="drop") == before
        else:
            dropped = before + 4
            until(lambda: gate.metric("tidegate_limited_total", limit="late", action="drop") == dropped, "drops")
            assert len(answers(client)) == 1


def test_qos_0_is_dropped_at_once_where_the_limit_says_so(gate: Limited) -> None:
    before = gate.metric("tidegate_limited_total", limit="drop", action="drop")
    with subscriber(gate, "drops", 4, "drop/#", 1) as client:
        publishes(gate, burst(4, "drop/a", 4), burst(4, "drop/b", 2, 1))
        until(lambda: gate.held == 2, "two to wait")
        assert [payload_of(one, 4) for one in answers(client)] == [("drop/a", b"1")]
        assert gate.metric("tidegate_limited_total", limit="drop", action="drop") == before + 3


def test_observed(gate: Limited) -> None:
    before = gate.metric("tidegate_limited_total", limit="dry", action="observe")
    with subscriber(gate, "d", 4, "dry/#", 0) as client:
        publishes(gate, burst(4, "dry/x", 5))
        assert [client.read() is not None for _ in range(5)] == [True] * 5
    assert gate.metric("tidegate_limited_total", limit="dry", action="observe") == before + 4


def test_a_client_that_reads_nothing_loses_no_answer(gate: Limited) -> None:
    with subscriber(gate, "deaf", 4, "newest/#", 0) as client:
        payload = bytes(1000)
        for part in range(40):  # 16 MB: more than all buffers between here and there hold
            publishes(
                gate, b"".join(wire.publish(4, f"newest/{n}", payload) for n in range(part * 400, part * 400 + 400))
            )
        with gate.under(policy(AMPLE), policy()):
            assert told(client)[-1:] != []
            assert "SUBACK" in wire.tell(client.exchange(wire.subscribe(4, ("other", 0))), 4)


def test_mosquitto_sub_gets_it_in_order(gate: Limited) -> None:
    command = ["mosquitto_sub", "-V", "5", "-p", str(gate.port), "-q", "1", "-t", "window/sub", "-C", "60", "-W", "60"]
    before = gate.metric("tidegate_packets_total", type="suback")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            until(lambda: gate.metric("tidegate_packets_total", type="suback") > before, "its subscription")
            publishes(gate, burst(4, "window/sub", 60, 1))
            out, _ = process.communicate(timeout=GUARD)
        finally:
            process.kill()
    assert out.split() == [str(number) for number in range(1, 61)]
