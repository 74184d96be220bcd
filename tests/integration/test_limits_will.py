"""Wills: held back, paced, dropped, and never published for a client that returns, over two workers."""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack

import psutil
import pytest

from support import wire
from support.limited import AMPLE, Limited, Watcher, burst, limited, login, unique
from support.raw import CLOSED, OPEN, RawClient
from support.sides import password_file
from support.wait import until

V5 = wire.V5
USER, PASSWORD = "plant", "secret"
EXPIRY = b"\x11"
WILL_DELAY = b"\x18"

POLICY = """
[[limit]]
name = "flap"
on = "will"
topic = "status/#"
will_delay = "WAIT"

[[limit]]
name = "pace"
on = "will"
topic = "storm/#"
per = "all"
rate = "RATE"
max_delay = "1h"

[[limit]]
name = "soon"
on = "will"
topic = "soon/#"
will_delay = "500ms"

[[limit]]
name = "small"
on = "will"
topic = "small/#"
size = 100
on_excess = "drop"

[[limit]]
name = "dry"
on = "will"
topic = "dry/#"
rate = "1/h burst 1"
on_excess = "observe"

[[limit]]
name = "end"
topic = "end/#"
rate = "1/h burst 1"
on_excess = "disconnect"
"""
TIGHT = "5/h burst 5"
versions = pytest.mark.parametrize("version", [wire.V311, V5], ids=["3.1.1", "5"])


def policy(wait: str = "1h", rate: str = TIGHT) -> str:
    return POLICY.replace("WAIT", wait).replace("RATE", rate)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    directory = tmp_path_factory.mktemp("wills")
    file = password_file(directory, f"{USER}:{PASSWORD}")
    extra = f"max_queued_messages 0\npassword_file {file}"
    with limited(directory, policy(), workers=2, broker_extra=extra, anonymous=False) as made:
        yield made


def due(gateway: Limited) -> AbstractContextManager[None]:
    """With limits by which everything that is held back is due, and passes."""
    return gateway.under(policy("1ms", AMPLE), policy())


def connect(
    version: int,
    name: str,
    topic: str | None,
    *,
    password: str = PASSWORD,
    payload: str = "offline",
    clean: bool = True,
    keepalive: int = 60,
    expiry: int = 0,
    delay: int = 0,
) -> bytes:
    """CONNECT with a retained will, as Zigbee2MQTT and Home Assistant's devices have it."""
    flags, rest = login(USER, password)
    if topic is not None:
        flags |= 0x04 | 0x20
        properties = wire.properties(version, WILL_DELAY + delay.to_bytes(4) if delay else b"")
        rest = properties + wire.field(topic) + wire.field(payload) + rest
    props = EXPIRY + expiry.to_bytes(4) if expiry else b""
    return wire.connect(
        version, name, flags=flags | (0x02 if clean else 0), keepalive=keepalive, props=props, rest=rest
    )


def arrive(place: int, version: int, name: str, topic: str | None, **other: object) -> RawClient:
    """A client that the broker has accepted."""
    client = RawClient(place, version)
    connack = client.exchange(connect(version, name, topic, **other))  # type: ignore[arg-type]
    assert wire.tell(connack, version).endswith("0x00"), connack.hex()
    return client


def watch(gateway: Limited, *topics: str) -> Watcher:
    return Watcher(gateway.broker, *topics, username=USER, password=PASSWORD)


def retained(gateway: Limited, topic: str) -> list[bytes]:
    """What the broker has retained there."""
    with watch(gateway, topic) as watcher:
        return [payload for _, payload in watcher.messages()]


def outcome(gateway: Limited, name: str) -> float:
    return gateway.metric("tidegate_wills_total", outcome=name)


def held(gateway: Limited) -> float:
    return gateway.metric("tidegate_wills_held")


def until_held(gateway: Limited, count: int) -> None:
    until(lambda: held(gateway) == count, f"{count} wills that are held back")


# Flaps


@versions
@pytest.mark.parametrize("clean", [True, False], ids=["clean", "lasting"])
def test_one_that_flaps_never_goes_offline(gateway: Limited, version: int, clean: bool) -> None:
    name, topic = unique("flapper"), f"status/{unique('flaps')}"
    flaps = 20
    with watch(gateway, topic) as watcher:
        for number in range(flaps):
            client = arrive(gateway.port, version, name, topic, clean=clean, expiry=0 if clean else 3600)
            client.send(wire.publish(version, topic, b"online %d" % number, first=0x31))
            assert watcher.message() == (topic, b"online %d" % number)
            client.close()
        until_held(gateway, 1)
        assert watcher.messages() == []
        with due(gateway):
            assert watcher.message() == (topic, b"offline")
    assert retained(gateway, topic) == [b"offline"]
    until_held(gateway, 0)


@versions
def test_one_that_stays_away_does(gateway: Limited, version: int) -> None:
    topic = f"soon/{unique('away')}"
    with watch(gateway, topic) as watcher:
        arrive(gateway.port, version, unique("away"), topic).close()
        assert watcher.message() == (topic, b"offline")
    assert retained(gateway, topic) == [b"offline"]


@versions
def test_who_comes_before_the_end_was_seen_was_never_gone_either(gateway: Limited, version: int) -> None:
    name, topic = unique("twin"), f"status/{unique('twin')}"
    before = outcome(gateway, "returned")
    with watch(gateway, topic) as watcher, ExitStack() as stack:
        twins = [stack.enter_context(arrive(gateway.port, version, name, topic))]
        for _ in range(8):  # by chance over both workers
            twins.append(stack.enter_context(arrive(gateway.port, version, name, topic)))
            assert twins[-2].until_closed() == (["DISCONNECT 0x8E", CLOSED] if version == V5 else [CLOSED])
        assert twins[-1].until_fence() == [OPEN]
        assert watcher.messages() == []
        twins[-1].send(wire.DISCONNECT)
        assert twins[-1].until_closed() == [CLOSED]
    assert outcome(gateway, "returned") == before + 8


@versions
def test_none_of_those_who_leave_without_hearing_an_answer_gets_past(gateway: Limited, version: int) -> None:
    """Some of them the broker never saw, the wills of the others are held back."""
    kind = unique("hasty")
    with watch(gateway, f"status/{kind}/#") as watcher:
        for number in range(50):
            with RawClient(gateway.port, version) as client:
                client.send(connect(version, f"{kind}-{number}", f"status/{kind}/{number}"))
        until(lambda: gateway.metric("tidegate_connections") == 0, "the end of their connections")
        assert watcher.messages() == []
        with due(gateway):
            until_held(gateway, 0)


@versions
def test_a_wrong_password_is_nobodys_return(gateway: Limited, version: int) -> None:
    name, topic = unique("victim"), f"status/{unique('victim')}"
    with watch(gateway, topic) as watcher:
        arrive(gateway.port, version, name, topic).close()
        until_held(gateway, 1)
        for _ in range(6):
            with RawClient(gateway.port, version) as guess:
                answer = wire.tell(guess.exchange(connect(version, name, topic, password="guess")), version)
                assert answer == ("CONNACK 0x87" if version == V5 else "CONNACK 0x05")
        assert held(gateway) == 1
        assert watcher.messages() == []
        with due(gateway):
            assert watcher.message() == (topic, b"offline")


@versions
def test_a_session_is_as_its_client_left_it(gateway: Limited, version: int) -> None:
    """What the broker has sent meanwhile was acknowledged by nobody, so it comes again."""
    name, topic = unique("lasting"), f"status/{unique('lasting')}"
    data = f"data/{name}"
    lasting = {"clean": False, "expiry": 3600 if version == V5 else 0}
    client = arrive(gateway.port, version, name, topic, **lasting)
    client.exchange(wire.subscribe(version, (data, 1)))
    client.close()
    until_held(gateway, 1)
    with watch(gateway, topic) as watcher, arrive(gateway.port, wire.V311, unique("other"), None) as other:
        for number in (1, 2, 3):
            other.exchange(wire.publish(wire.V311, data, b"%d" % number, first=0x32, packet_id=number))
        with RawClient(gateway.port, version) as again:
            connack = again.exchange(connect(version, name, topic, **lasting))  # type: ignore[arg-type]
            assert wire.tell(connack, version) == "CONNACK session 0x00"
            seen = [again.read() for _ in range(3)]
            assert [packet is not None and packet[-1:] for packet in seen] == [b"1", b"2", b"3"]
            assert watcher.messages() == []
            again.send(wire.DISCONNECT)


def test_the_broker_does_not_end_what_is_kept(gateway: Limited) -> None:
    name, topic = unique("quiet"), f"status/{unique('quiet')}"
    arrive(gateway.port, wire.V311, name, topic, keepalive=1).close()
    until_held(gateway, 1)
    pings = f"Received PINGREQ from {name}"
    until(lambda: gateway.broker.log().count(pings) >= 3, "pings for longer than the broker's patience, 1.5 s")
    assert held(gateway) == 1
    with due(gateway):
        until_held(gateway, 0)


# Other ends


def test_a_disconnect_that_asks_for_the_will_is_held_back(gateway: Limited) -> None:
    topic = f"status/{unique('asks')}"
    with watch(gateway, topic) as watcher, arrive(gateway.port, V5, unique("asks"), topic) as client:
        client.send(b"\xe0\x01\x04")
        assert client.until_closed() == [CLOSED]
        until_held(gateway, 1)
        assert watcher.messages() == []
        with due(gateway):
            assert watcher.message() == (topic, b"offline")


@versions
def test_a_plain_disconnect_leaves_no_will(gateway: Limited, version: int) -> None:
    topic = f"status/{unique('leaves')}"
    with watch(gateway, topic) as watcher, arrive(gateway.port, version, unique("leaves"), topic) as client:
        client.send(wire.DISCONNECT)
        assert client.until_closed() == [CLOSED]
        assert held(gateway) == 0
        assert watcher.messages() == []


def test_nor_does_a_limit_that_disconnects_publish_it_at_once(gateway: Limited) -> None:
    name, topic = unique("over"), f"status/{unique('over')}"
    with watch(gateway, topic) as watcher, arrive(gateway.port, wire.V311, name, topic) as client:
        client.send(burst(wire.V311, "end/x", 2))
        assert client.until_closed() == [CLOSED]
        until_held(gateway, 1)
        assert watcher.messages() == []
        with due(gateway):
            assert watcher.message() == (topic, b"offline")


# What limits do to a will that is due


@versions
def test_a_storm_of_wills_is_paced(gateway: Limited, version: int) -> None:
    with ExitStack() as stack:
        watcher = stack.enter_context(watch(gateway, f"storm/{version}/#"))
        clients = [
            stack.enter_context(arrive(gateway.port, version, unique("storm"), f"storm/{version}/{number}"))
            for number in range(40)
        ]
        with gateway.under(policy(rate=f"5/h burst {5 + version}"), policy()):  # a budget that no test before has used
            for client in clients:
                client.close()
            until(lambda: held(gateway) >= 25, "wills that wait")
            seen = watcher.at_least(1)

            def is_all() -> bool:
                seen.extend(watcher.messages())
                return len(seen) + held(gateway) == len(clients)

            until(is_all, "the others")
            assert len(seen) < 15
        with due(gateway):
            seen += [watcher.message() for _ in range(40 - len(seen))]
        assert sorted(topic for topic, _ in seen) == sorted(f"storm/{version}/{number}" for number in range(40))


@versions
def test_a_large_will_is_dropped(gateway: Limited, version: int) -> None:
    before = outcome(gateway, "dropped")
    topic = f"small/{unique('large')}"
    with watch(gateway, topic) as watcher:
        arrive(gateway.port, version, unique("large"), topic, payload="x" * 200).close()
        until(lambda: outcome(gateway, "dropped") == before + 1, "the will to be dropped")
        arrive(gateway.port, version, unique("small"), topic, payload="small").close()
        assert watcher.message() == (topic, b"small")
    assert gateway.metric("tidegate_limited_total", limit="small", action="drop") >= 1


def test_a_dry_run_changes_nothing(gateway: Limited) -> None:
    name = unique("dry")
    with watch(gateway, "dry/#") as watcher:
        for number in range(3):
            arrive(gateway.port, wire.V311, name, f"dry/{number}").close()
            assert watcher.message() == (f"dry/{number}", b"offline")
    assert gateway.metric("tidegate_limited_total", limit="dry", action="observe") == 2


def test_the_brokers_own_delay_counts(gateway: Limited) -> None:
    """Will Delay Interval is longer than the limit's: the broker waits, and nothing is kept."""
    before = outcome(gateway, "published")
    topic = f"soon/{unique('v5')}"
    with watch(gateway, topic) as watcher:
        client = arrive(gateway.port, V5, unique("v5"), topic, clean=False, expiry=60, delay=2)
        client.close()
        until(lambda: outcome(gateway, "published") == before + 1, "its upstream to be closed")
        assert watcher.messages() == []
        assert watcher.message() == (topic, b"offline")


# Ends of the gateway


def serving(gateway: Limited, client: RawClient) -> psutil.Process:
    return until(lambda: gateway.gateway.worker_of(client.local_port), "the worker of a client")


def test_a_killed_workers_wills_are_published_and_its_clients_welcome(gateway: Limited) -> None:
    name, topic = unique("orphan"), f"status/{unique('orphan')}"
    with watch(gateway, topic) as watcher:
        client = arrive(gateway.port, wire.V311, name, topic)
        worker = serving(gateway, client)
        client.close()
        until_held(gateway, 1)
        os.kill(worker.pid, signal.SIGKILL)
        assert watcher.message() == (topic, b"offline")
        until(lambda: len(gateway.gateway.workers()) == 2 and gateway.gateway.ready(), "a new worker")
        until_held(gateway, 0)
        again = arrive(gateway.port, wire.V311, name, topic)
        again.close()
        until_held(gateway, 1)
        with arrive(gateway.port, wire.V311, name, topic) as last:
            last.send(wire.DISCONNECT)
            assert last.until_closed() == [CLOSED]
        until_held(gateway, 0)
        assert watcher.messages() == []
