"""Limits on connecting and on guessing, before a real Mosquitto: who gets in, what others hear, what the broker sees.

Every test comes from addresses of its own (127.0.0.0/8), so that no budget is shared.
"""

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack

import pytest

from support import wire
from support.limited import AMPLE, UNBOUNDED, Limited, Watcher, burst, every_version, limited, login, unique
from support.raw import CLOSED, OPEN, RawClient
from support.sides import password_file
from support.wait import until

POLICY = """
[class.dropped]
cidr = "127.1.0.0/16"
[class.refused]
cidr = "127.2.0.0/16"
[class.paced]
cidr = "127.3.0.0/16"
[class.counted]
cidr = "127.4.0.0/16"
[class.named]
cidr = "127.5.0.0/16"
[class.named-paced]
cidr = "127.6.0.0/16"
[class.friend]
cidr = "127.7.0.0/16"
exempt = true
[class.late]
cidr = "127.8.0.0/16"

[[limit]]
name = "drop"
on = "connect"
class = "dropped"
rate = "3/h burst 3"
on_excess = "drop"

[[limit]]
name = "reject"
on = "connect"
class = "refused"
rate = "3/h burst 3"
on_excess = "reject"

[[limit]]
name = "delay"
on = "connect"
class = "paced"
rate = "RATE"
max_delay = "1h"

[[limit]]
name = "concurrent"
on = "connect"
class = "counted"
concurrent = 2
on_excess = "reject"

[[limit]]
name = "by-name"
on = "connect"
class = "named"
per = ["client", "ip"]
rate = "2/h burst 2"
on_excess = "reject"

[[limit]]
name = "by-name-paced"
on = "connect"
class = "named-paced"
per = ["client", "ip"]
rate = "RATE"
max_delay = "1h"

[[limit]]
name = "all-but-friends"
on = "connect"
class = "friend"
rate = "1/h burst 1"
on_excess = "drop"

[[limit]]
name = "too-late"
on = "connect"
class = "late"
rate = "1/h burst 1"
max_delay = "10ms"
then = "reject"
"""
TIGHT = "2/h burst 2"

_hosts = itertools.count(1)


def policy(rate: str = TIGHT) -> str:
    return POLICY.replace("RATE", rate)


def address(network: int) -> str:
    """Of one of the classes; nobody else has it."""
    return f"127.{network}.0.{next(_hosts)}"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("connect"), policy()) as made:
        yield made


def relaxed(gateway: Limited) -> AbstractContextManager[None]:
    """With limits that let in who waits."""
    return gateway.under(policy(AMPLE), policy())


def come(gateway: Limited, source: str, version: int = wire.V311) -> RawClient:
    return RawClient(gateway.port, version, source)


def greet(gateway: Limited, source: str, version: int = wire.V311, client_id: str | None = None) -> RawClient:
    client = come(gateway, source, version)
    client.send(wire.connect(version, client_id or unique("c"), flags=0x02))
    return client


def told(client: RawClient) -> str:
    """The next packet; CLOSED without one."""
    data = client.read()
    return CLOSED if data is None else wire.tell(data, client.version)


def refusal(version: int, reason: int) -> str:
    """How `wire.tell` begins a refusal; version 3 has the code 3 for all of these."""
    return f"CONNACK 0x{reason if version == wire.V5 else 3:02X}"


@every_version
def test_drop_closes_without_an_answer(gateway: Limited, version: int) -> None:
    source = address(1)
    for _ in range(3):
        with greet(gateway, source, version) as client:
            assert told(client) == "CONNACK 0x00"
    with come(gateway, source, version) as client:
        assert client.until_closed() == [CLOSED], "it has not even said CONNECT"


@every_version
def test_reject_says_so(gateway: Limited, version: int) -> None:
    source = address(2)
    for _ in range(3):
        with greet(gateway, source, version) as client:
            assert told(client) == "CONNACK 0x00"
    with greet(gateway, source, version) as client:
        (answer, end) = client.until_closed()
        assert answer.startswith(refusal(version, 0x9F))
        assert end == CLOSED
    before = gateway.metric("tidegate_limited_total", limit="reject", action="reject")
    with greet(gateway, source, version) as client:
        client.until_closed()
    until(
        lambda: gateway.metric("tidegate_limited_total", limit="reject", action="reject") == before + 1,
        "the refusal's count",
    )


@every_version
def test_delayed_connections_come_in_when_they_may(gateway: Limited, version: int) -> None:
    source = address(3)
    for _ in range(2):
        with greet(gateway, source, version) as client:
            assert told(client) == "CONNACK 0x00"
    with ExitStack() as stack:
        clients = [stack.enter_context(greet(gateway, source, version)) for _ in range(3)]
        until(lambda: gateway.metric("tidegate_waiting_connections") == 3, "three connections that wait")
        with relaxed(gateway):
            for client in clients:
                assert told(client) == "CONNACK 0x00"
            assert gateway.metric("tidegate_waiting_connections") == 0


def test_who_goes_while_it_waits_is_forgotten_when_its_turn_comes(gateway: Limited) -> None:
    source = address(3)
    for _ in range(2):
        with greet(gateway, source) as client:
            assert told(client) == "CONNACK 0x00"
    with greet(gateway, source):
        until(lambda: gateway.metric("tidegate_waiting_connections") == 1, "one that waits")
    with relaxed(gateway):
        until(lambda: gateway.metric("tidegate_connections") == 0, "the end of all connections")
        assert gateway.metric("tidegate_waiting_connections") == 0


def test_who_hangs_up_while_it_waits_takes_nothing(gateway: Limited) -> None:
    source = address(3)
    for _ in range(2):
        with greet(gateway, source) as client:
            assert told(client) == "CONNACK 0x00"
    with greet(gateway, source):
        until(lambda: gateway.metric("tidegate_waiting_connections") == 1, "one that waits")
    passed = gateway.metric("tidegate_passed_total", limit="delay")
    with relaxed(gateway):
        until(lambda: gateway.metric("tidegate_waiting_connections") == 0, "the end of its wait")
    assert gateway.metric("tidegate_passed_total", limit="delay") == passed


@every_version
def test_who_has_waited_for_too_long_is_refused(gateway: Limited, version: int) -> None:
    source = address(8)
    with greet(gateway, source, version) as client:
        assert told(client) == "CONNACK 0x00"
    with greet(gateway, source, version) as client:
        assert told(client).startswith(refusal(version, 0x9F))


@every_version
def test_open_connections_are_counted_until_they_end(gateway: Limited, version: int) -> None:
    source = address(4)
    with greet(gateway, source, version) as first, come(gateway, source, version):
        assert told(first) == "CONNACK 0x00"
        with greet(gateway, source, version) as third:
            assert told(third).startswith(refusal(version, 0x97))
        with greet(gateway, address(4), version) as other:
            assert told(other) == "CONNACK 0x00"
    until(lambda: gateway.metric("tidegate_connections") == 0, "the end of all connections")
    with greet(gateway, source, version) as client:
        assert told(client) == "CONNACK 0x00"


@every_version
def test_by_name_the_broker_does_not_hear_of_who_is_refused(gateway: Limited, version: int) -> None:
    source, name = address(5), unique("name")
    for _ in range(2):
        with greet(gateway, source, version, name) as client:
            assert told(client) == "CONNACK 0x00"
    with greet(gateway, source, version, name) as client:
        assert told(client).startswith(refusal(version, 0x9F))
    log = gateway.broker.process.stderr()
    assert log.count(f"as {name} ") == 2
    with greet(gateway, source, version) as other:
        assert told(other) == "CONNACK 0x00"


@every_version
def test_by_name_a_delayed_connect_goes_on_later(gateway: Limited, version: int) -> None:
    source, name = address(6), unique("name")
    for _ in range(2):
        with greet(gateway, source, version, name) as client:
            assert told(client) == "CONNACK 0x00"
    with greet(gateway, source, version, name) as client:
        client.send(wire.PINGREQ)
        until(lambda: gateway.metric("tidegate_waiting_connections") == 1, "one that waits")
        with relaxed(gateway):
            assert told(client) == "CONNACK 0x00"
            assert client.read() == wire.PINGRESP


def test_an_exempt_address_is_never_refused(gateway: Limited) -> None:
    source = address(7)
    for _ in range(5):
        with greet(gateway, source) as client:
            assert told(client) == "CONNACK 0x00"


def test_a_connection_that_waits_ends_with_the_gateway(tmp_path_factory: pytest.TempPathFactory) -> None:
    with limited(tmp_path_factory.mktemp("ends"), policy()) as made:
        source = address(3)
        for _ in range(2):
            with greet(made, source) as client:
                assert told(client) == "CONNACK 0x00"
        with greet(made, source) as client:
            until(lambda: made.metric("tidegate_waiting_connections") == 1, "one that waits")
            made.gateway.stop()
            assert client.until_closed() == [CLOSED]


def test_who_is_refused_at_connack_was_never_there(gateway: Limited) -> None:
    """The broker has accepted it: its will is not fired."""
    source, name = address(5), unique("willed")
    will = wire.field("gone/" + name) + wire.field("")
    connect = wire.connect(wire.V311, name, flags=0x06, rest=will)
    with Watcher(gateway.broker, "gone/#") as watcher:
        for _ in range(2):
            with come(gateway, source) as client:
                client.send(connect)
                assert told(client) == "CONNACK 0x00"
                client.send(b"\xe0\x00")
                client.until_closed()
        clients = [come(gateway, source) for _ in range(3)]
        for client in clients:
            client.send(connect)
        for client in clients:
            with client:
                assert told(client) == refusal(wire.V311, 0)
        assert watcher.messages() == []


GUESSING = """
[[limit]]
name = "guessing"
on = "auth_failure"
per = ["ip", "username"]
rate = "3/h burst 3"
on_excess = "ACTION"
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    """The broker knows `plc` with the password `right`, and nobody else."""
    directory = tmp_path_factory.mktemp("guessing")
    file = password_file(directory, "plc:right")
    extra = f"password_file {file}\n{UNBOUNDED}"
    policy = GUESSING.replace("ACTION", "disconnect")
    with limited(directory, policy, broker_extra=extra, anonymous=False) as made:
        yield made


BANS = """
[class.friend]
cidr = "127.11.0.0/16"
exempt = true

[[limit]]
name = "guessing"
on = "auth_failure"
per = ["ip", "username"]
rate = "3/h burst 3"
ban = { first = "1h", factor = 4, max = "24h" }

[[limit]]
name = "flood"
topic = "flood/#"
per = ["ip", "username"]
rate = "3/h burst 3"
on_excess = "ban"

[[limit]]
name = "connects"
on = "connect"
cidr = "127.12.0.0/16"
rate = "3/h burst 3"
on_excess = "ban"
"""


@pytest.fixture(scope="module")
def banning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    """The same broker, behind limits that ban."""
    directory = tmp_path_factory.mktemp("banning")
    file = password_file(directory, "plc:right")
    with limited(directory, BANS, broker_extra=f"password_file {file}\n{UNBOUNDED}", anonymous=False) as made:
        yield made


def banned(version: int) -> str:
    return f"CONNACK 0x{0x8A if version == wire.V5 else 5:02X}"


def is_banned(gateway: Limited, source: str, version: int) -> bool:
    """It takes the supervisor some milliseconds to tell its workers."""
    with guess(gateway, source, version, "right") as client:
        return told(client).startswith(banned(version))


@every_version
def test_who_guesses_is_banned_and_the_user_notices_nothing(banning: Limited, version: int) -> None:
    source, home = address(10), address(10)
    with guess(banning, home, version, "right") as owner:
        assert told(owner) == "CONNACK 0x00"
        for _ in range(3):
            with guess(banning, source, version, "wrong") as client:
                client.until_closed()
        with guess(banning, source, version, "wrong") as client:
            assert told(client).startswith(banned(version))
        until(lambda: is_banned(banning, source, version), "the ban; a right password helps no more")
        log = banning.broker.process.stderr().count("New client connected")
        with guess(banning, source, version, "right") as client:
            assert told(client).startswith(banned(version))
        assert banning.broker.process.stderr().count("New client connected") == log
        with guess(banning, source, version, "wrong", "other") as client:
            assert not told(client).startswith("CONNACK 0x8A"), "another name from there"
        assert owner.until_fence() == [OPEN]
    with guess(banning, home, version, "right") as owner:
        assert owner.until_fence() == ["CONNACK 0x00", OPEN]


def test_an_exempt_address_is_not_banned(banning: Limited) -> None:
    source = address(11)
    for _ in range(6):
        with guess(banning, source, wire.V5, "wrong") as client:
            assert told(client).startswith("CONNACK 0x87")
    with guess(banning, source, wire.V5, "right") as client:
        assert client.until_fence() == ["CONNACK 0x00", OPEN]


@every_version
def test_a_flood_may_cost_the_connection_and_the_next(banning: Limited, version: int) -> None:
    source = address(10)
    with guess(banning, source, version, "right") as client:
        assert told(client) == "CONNACK 0x00"
        client.send(burst(version, f"flood/{source}", 4))
        assert client.until_closed()[-1] == CLOSED

    until(lambda: is_banned(banning, source, version), "the ban")


def test_an_address_that_connects_too_often_is_banned(banning: Limited) -> None:
    source = address(12)
    for _ in range(3):
        with guess(banning, source, wire.V5, "right") as client:
            assert told(client) == "CONNACK 0x00"
    with guess(banning, source, wire.V5, "right") as client:
        assert told(client).startswith(banned(wire.V5))

    def shut_out() -> bool:
        with come(banning, source) as client:
            client.send(wire.connect(wire.V5, "late"))
            return client.until_closed() == [CLOSED]

    until(shut_out, "the ban of the address, which is closed at accept")


def guess(gateway: Limited, source: str, version: int, password: str, username: str = "plc") -> RawClient:
    flags, rest = login(username, password)
    client = come(gateway, source, version)
    client.send(wire.connect(version, unique("g"), flags=0x02 | flags, rest=rest))
    return client


@every_version
def test_guesses_over_the_limit_are_not_answered(guarded: Limited, version: int) -> None:
    source = address(9)
    wrong = "CONNACK 0x87" if version == wire.V5 else "CONNACK 0x05"
    for _ in range(3):
        with guess(guarded, source, version, "wrong") as client:
            assert told(client).startswith(wrong)
    with guess(guarded, source, version, "wrong") as client:
        assert client.until_closed() == [CLOSED]
    with guess(guarded, source, version, "wrong", "other") as client:
        assert told(client).startswith(wrong), "the budget of another name"
    with guess(guarded, address(9), version, "right") as client:
        assert client.until_fence() == ["CONNACK 0x00", OPEN]
