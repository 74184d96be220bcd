"""Who a client is, the broker decides: nothing is charged to a name before it has, and nothing to who is refused."""

from collections.abc import Iterator

import pytest

from support import wire
from support.gateway import Gateway
from support.limited import (
    UNBOUNDED,
    Limited,
    Watcher,
    burst,
    every_version,
    limited,
    login,
    metric,
    told,
    unique,
)
from support.mute_broker import MuteBroker
from support.raw import CLOSED, RawClient
from support.sides import password_file
from support.wait import until

POLICY = """
[class.plc]
client_id = "plc-*"
username = "plc"

[[limit]]
name = "client"
topic = "client/#"
per = ["client", "topic"]
rate = "10/h burst 10"
on_excess = { v3 = "drop", default = "reject" }

[[limit]]
name = "user"
topic = "user/#"
per = ["username", "topic"]
rate = "10/h burst 10"
on_excess = { v3 = "drop", default = "reject" }

[[limit]]
name = "address"
topic = "address/#"
per = ["ip", "topic"]
rate = "10/h burst 10"
on_excess = { v3 = "drop", default = "reject" }

[[limit]]
name = "class"
topic = "class/#"
per = ["class", "topic"]
rate = "10/h burst 10"
on_excess = { v3 = "drop", default = "reject" }
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    """The broker knows `plc` with the password `right`, and nobody else."""
    directory = tmp_path_factory.mktemp("identity")
    file = password_file(directory, "plc:right")
    extra = f"password_file {file}\n{UNBOUNDED}"
    with limited(directory, POLICY, broker_extra=extra, anonymous=False) as made:
        yield made


def connect(version: int, client_id: str, username: str | None, password: str) -> bytes:
    flags, rest = login(username, password)
    return wire.connect(version, client_id, flags=0x02 | flags, rest=rest)


@every_version
@pytest.mark.parametrize("topic", ["client", "user", "address", "class"])
@pytest.mark.parametrize(("username", "password"), [("plc", "wrong"), ("nobody", "right"), (None, "")])
def test_who_claims_a_name_takes_nothing_from_its_owner(
    guarded: Limited, version: int, topic: str, username: str | None, password: str
) -> None:
    name = unique("plc")
    where = f"{topic}/{name}"
    with Watcher(guarded.broker, where, username="plc", password="right") as watcher:
        for _ in range(3):
            with RawClient(guarded.port, version) as thief:
                thief.send(connect(version, name, username, password) + burst(version, where, 50, 1))
                refusal, end = thief.until_closed()
                assert (refusal.startswith("CONNACK"), refusal != "CONNACK 0x00", end) == (True, True, CLOSED)
        assert watcher.messages() == []
        with RawClient(guarded.port, version) as owner:
            flags, rest = login("plc", "right")
            owner.connect(name, flags=0x02 | flags, rest=rest)
            owner.send(burst(version, where, 50, 1))
            assert len(told(owner)) == 50
        assert len(watcher.messages()) == 10


@every_version
def test_what_is_pipelined_behind_connect_is_decided_once_the_broker_has_accepted(
    guarded: Limited, version: int
) -> None:
    where = f"class/{unique('t')}"
    with Watcher(guarded.broker, where, username="plc", password="right") as watcher:
        with RawClient(guarded.port, version) as client:
            client.send(connect(version, unique("plc"), "plc", "right") + burst(version, where, 50, 1))
            connack, *seen = told(client)
            assert connack == "CONNACK 0x00"
            refused = sum(line.endswith("0x97") for line in seen)
            assert (len(seen), refused) == (50, 40 if version == wire.V5 else 0)
        assert len(watcher.messages()) == 10


def test_nothing_is_decided_while_the_broker_is_silent(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("mute")
    broker = MuteBroker(directory / "mute.sock")
    gateway = Gateway(directory / "g", broker.unix, workers=1, extra='connect_timeout = "10min"', tables=POLICY)
    gateway.launch()
    try:
        until(gateway.ready, "/readyz")
        before = metric(gateway, "tidegate_bytes_total", direction="from_client")
        with RawClient(gateway.port, wire.V5) as client:
            greeting = wire.connect(wire.V5, "eager")
            stream = burst(wire.V5, "address/eager", 50, 1)
            client.send(greeting + stream)
            until(
                lambda: (
                    metric(gateway, "tidegate_bytes_total", direction="from_client") >= before + len(greeting + stream)
                ),
                "the gateway to have read it",
            )
            until(lambda: any(b"eager" in heard for heard in broker.heard()), "CONNECT at the broker")
            for name in ("tidegate_passed_total", "tidegate_limited_total"):
                assert metric(gateway, name) == 0
            assert all(b"address" not in heard for heard in broker.heard())
    finally:
        gateway.end()
        broker.close()
