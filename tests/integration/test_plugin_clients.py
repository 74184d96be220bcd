"""The plugin in a real Mosquitto: connections, subscriptions, wills, failed logins, bans."""

import re
import signal
from pathlib import Path

import pytest

from support import wire
from support.limited import Watcher, burst, every_version, join, login, told, unique
from support.plugged import Plugged, is_2_1, plugged
from support.raw import CLOSED, RawClient
from support.sides import password_file
from support.wait import until

OPEN = "plugin_opt_authentication open\nplugin_opt_authorisation open"
REFUSED = {wire.V31: 5, wire.V311: 5, wire.V5: 0x9F if is_2_1() else 0x87}
"""CONNACK for whom a plugin refuses."""


def connack(
    broker: Plugged, client_id: str, version: int, user: str | None = None, password: str = "any"
) -> int | None:
    """The answer to a CONNECT; None when there is none. The connection is closed."""
    flags, rest = login(user, password)
    with RawClient(broker.port, version) as client:
        client.send(wire.connect(version, client_id, flags=0x02 | flags, rest=rest))
        data = client.read()
        return None if data is None else wire.body_of(data)[1]


@every_version
def test_connections_are_limited_by_their_rate(tmp_path: Path, version: int) -> None:
    policy = '[[limit]]\nname = "r"\non = "connect"\nper = "ip"\nrate = "3/h burst 3"\non_excess = "reject"\n'
    with plugged(tmp_path / "b", policy, options=OPEN) as broker:
        assert [connack(broker, unique("c"), version) for _ in range(5)] == [
            0,
            0,
            0,
            REFUSED[version],
            REFUSED[version],
        ]


def test_connections_are_limited_by_their_number(tmp_path: Path) -> None:
    policy = '[[limit]]\nname = "n"\non = "connect"\nper = "ip"\nconcurrent = 2\non_excess = "reject"\n'
    with plugged(tmp_path / "b", policy, options=OPEN) as broker:
        first, second = join(broker.port, unique("c")), join(broker.port, unique("c"))
        assert connack(broker, unique("c"), wire.V311) == 5
        first.close()
        until(lambda: connack(broker, unique("c"), wire.V311) == 0, "the place of the one that has gone")
        second.close()


@pytest.mark.parametrize("version", [wire.V311, wire.V5])
def test_a_session_that_stays_keeps_no_place(tmp_path: Path, version: int) -> None:
    policy = '[[limit]]\nname = "n"\non = "connect"\nper = "ip"\nconcurrent = 2\non_excess = "reject"\n'
    stays = b"\x11\xff\xff\xff\xff" if version == wire.V5 else b""  # Session Expiry Interval: never

    def enter() -> RawClient | None:
        client = RawClient(broker.port, version)
        answer = client.exchange(wire.connect(version, unique("c"), flags=0, props=stays))
        if wire.body_of(answer)[1] == 0:
            return client
        client.close()
        return None

    with plugged(tmp_path / "b", policy, options=OPEN) as broker, join(broker.port, unique("c")):
        for number in range(6):
            with until(enter, "the place of the one that has gone") as client:
                assert connack(broker, unique("c"), wire.V311) == 5
                if number % 2:
                    client.send(wire.DISCONNECT)
                    assert client.until_closed() == [CLOSED]


def test_drop_closes_without_an_answer(tmp_path: Path) -> None:
    policy = '[[limit]]\nname = "d"\non = "connect"\nper = "ip"\nrate = "1/h burst 1"\non_excess = "drop"\n'
    with plugged(tmp_path / "b", policy, options=OPEN) as broker:
        assert [connack(broker, unique("c"), wire.V5) for _ in range(2)] == [0, None]


def test_a_policy_without_connections_needs_no_word_about_who_decides(tmp_path: Path) -> None:
    with plugged(tmp_path / "b", '[[limit]]\nname = "p"\nrate = "1/h"\n') as broker:
        assert connack(broker, unique("c"), wire.V311, "anybody") == 0


@every_version
def test_subscriptions_are_refused(tmp_path: Path, version: int) -> None:
    policy = (
        '[[limit]]\nname = "s"\non = "subscribe"\nleading_wildcard = false\non_excess = "reject"\n'
        '[[limit]]\nname = "t"\non = "subscribe"\ntopic = "few/#"\nrate = "2/h burst 2"\non_excess = "reject"\n'
    )
    code = {wire.V31: "0x80", wire.V311: "0x80", wire.V5: "0x87"}[version]
    with plugged(tmp_path / "b", policy, options=OPEN) as broker, join(broker.port, unique("c"), version) as client:
        answers = []
        for number, name in enumerate(("a", "#", "+/a", "few/1", "few/2", "few/3"), 1):
            client.send(wire.subscribe(version, (name, 0), packet_id=number))
            answers += told(client)
        refused = [number for number, answer in enumerate(answers, 1) if code in answer]
        if version == wire.V31:  # it has no code for a refusal: the QoS that was asked for
            return
        assert refused == [2, 3, 6], answers


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "session stays"])
def test_wills_are_dropped(tmp_path: Path, clean: bool) -> None:
    policy = '[[limit]]\nname = "w"\non = "will"\nper = "ip"\nrate = "2/h burst 2"\non_excess = "drop"\n'
    with plugged(tmp_path / "b", policy, options=OPEN) as broker, Watcher(broker, "will/#", "end") as watcher:
        for number in range(4):
            with join(broker.port, unique("c"), will=f"will/{number}", clean=clean) as client:
                client.send(burst(wire.V311, f"will/sent/{number}", 1))
                told(client)
        ends = re.compile("closed its connection|connection closed by client")  # as 2.0 and 2.1 have it
        until(lambda: len(ends.findall(broker.log())) >= 4, "the ends")
        with join(broker.port, unique("c")) as client:
            client.send(burst(wire.V311, "end", 1))
            told(client)
        seen = [topic for topic, _ in watcher.messages_until("end")]
        assert [topic for topic in seen if topic.startswith("will/sent")] == [f"will/sent/{n}" for n in range(4)]
        assert [topic for topic in seen if not topic.startswith("will/sent")] == ["will/0", "will/1"]


def test_wills_of_whom_others_take_over_are_dropped(tmp_path: Path) -> None:
    policy = '[[limit]]\nname = "w"\non = "will"\nper = "client"\nrate = "2/h burst 2"\non_excess = "drop"\n'
    with plugged(tmp_path / "b", policy, options=OPEN) as broker, Watcher(broker, "#") as watcher:
        client_id = unique("c")
        clients = []
        for number in range(5):
            clients.append(join(broker.port, client_id, will=f"will/{number}"))
            clients[-1].send(burst(wire.V311, f"sent/{number}", 1))
            told(clients[-1])
        topics = [topic for topic, _ in watcher.messages()]
        assert [topic for topic in topics if topic.startswith("sent")] == [f"sent/{n}" for n in range(5)]
        assert [topic for topic in topics if topic.startswith("will")] == ["will/0", "will/1"]
        for client in clients:
            client.close()


def test_failed_logins_ban_the_address(tmp_path: Path) -> None:
    policy = (
        '[[limit]]\nname = "f"\non = "auth_failure"\nper = "ip"\nrate = "2/h burst 2"\non_excess = "ban"\n'
        'ban = { first = "90min", factor = 1, max = "24h" }\n'
    )
    file = password_file(tmp_path, "plant:secret")
    options = "plugin_opt_authentication others"
    with plugged(tmp_path / "b", policy, options=options, extra=f"password_file {file}", anonymous=False) as broker:
        assert connack(broker, unique("c"), wire.V311, "plant", "secret") == 0
        assert [connack(broker, unique("c"), wire.V311, "plant", "wrong") for _ in range(3)] == [5, 5, 5]
        broker.says("banned by limit f for 5400 s")
        assert connack(broker, unique("c"), wire.V311, "plant", "secret") == 5


def test_who_comes_in_and_goes_at_once_has_not_failed(tmp_path: Path) -> None:
    policy = '[[limit]]\nname = "f"\non = "auth_failure"\nper = "ip"\nrate = "1/h burst 1"\non_excess = "ban"\n'
    file = password_file(tmp_path, "plant:secret")
    options = "plugin_opt_authentication others"
    with plugged(tmp_path / "b", policy, options=options, extra=f"password_file {file}", anonymous=False) as broker:
        flags, rest = login("plant", "secret")
        for number in range(6):
            # In one piece: the broker reads it all before it waits again.
            with RawClient(broker.port) as client:
                goodbye = wire.DISCONNECT if number % 2 else b""
                client.send(wire.connect(wire.V311, unique("c"), flags=0x02 | flags, rest=rest) + goodbye)
                client.half_close()
                assert client.until_closed() == ["CONNACK 0x00", CLOSED]
        # Nor has who is taken over.
        for _ in range(3):
            with RawClient(broker.port) as first, RawClient(broker.port) as second:
                for client in (first, second):
                    client.connect("same", flags=0x02 | flags, rest=rest)
                assert first.until_closed() == [CLOSED]
        assert connack(broker, unique("c"), wire.V311, "plant", "secret") == 0


def test_a_publisher_that_is_banned_is_kicked_and_kept_out(tmp_path: Path) -> None:
    policy = '[[limit]]\nname = "b"\nper = ["client", "ip"]\nrate = "2/h burst 2"\non_excess = "ban"\n'
    with plugged(tmp_path / "b", policy, options=OPEN) as broker:
        client_id = unique("c")
        with join(broker.port, client_id) as client, join(broker.port, unique("c")) as other:
            client.send(burst(wire.V311, "t", 3))
            assert client.until_closed()[-1] == CLOSED
            assert connack(broker, client_id, wire.V311) == 5
            assert connack(broker, unique("c"), wire.V311) == 0
            assert told(other) == []


def test_who_is_kicked_keeps_his_session(tmp_path: Path) -> None:
    policy = (
        '[[limit]]\nname = "s"\non = "subscribe"\nper = "client"\nrate = "1/h burst 1"\non_excess = "reject"\n'
        '[[limit]]\nname = "p"\nper = "client"\nrate = "2/h burst 2"\non_excess = "disconnect"\n'
    )
    with plugged(tmp_path / "b", policy, options=OPEN) as broker:
        client_id = unique("c")
        with join(broker.port, client_id, clean=False) as client:
            client.send(wire.subscribe(wire.V311, ("kept", 1)))
            assert told(client) == ["SUBACK id 1 0x01"]
            client.send(burst(wire.V311, "t", 3))
            assert client.until_closed()[-1] == CLOSED
        with join(broker.port, unique("c")) as other:
            other.send(burst(wire.V311, "kept", 1, 1))
            assert told(other) == ["PUBACK id 1 0x00"]
        with RawClient(broker.port) as client:
            client.send(wire.connect(wire.V311, client_id, flags=0))
            client.read()
            assert client.until_fence()[0] == "PUBLISH qos 1 kept"


def test_a_ban_outlives_a_reload_and_its_limit(tmp_path: Path) -> None:
    policy = '[[limit]]\nname = "b"\nper = "client"\nallow_lockout = true\nrate = "2/h burst 2"\non_excess = "ban"\n'
    with plugged(tmp_path / "b", policy, options=OPEN) as broker:
        client_id = unique("c")
        with join(broker.port, client_id) as client:
            client.send(burst(wire.V311, "t", 3))
            assert client.until_closed()[-1] == CLOSED
        for number, other in enumerate((policy.replace("2/h", "3/h"), '[[limit]]\nname = "p"\nrate = "1/h"\n'), 2):
            broker.compile(other)
            broker.process.send(signal.SIGHUP)
            broker.says("1 limits of", number)
            until(lambda: connack(broker, client_id, wire.V311) == 5, "the end of the reload")
            assert connack(broker, unique("c"), wire.V311) == 0


def test_clients_of_a_gateway_are_not_limited_again(tmp_path: Path) -> None:
    policy = (
        '[[limit]]\nname = "p"\nrate = "1/h burst 1"\non_excess = "disconnect"\n'
        '[[limit]]\nname = "c"\non = "connect"\nrate = "1/h burst 1"\non_excess = "reject"\n'
    )
    directory = tmp_path / "b"
    for gateway in (f"plugin_opt_gateway {directory / 'mqtt.sock'}", "plugin_opt_gateway 127.0.0.2/31"):
        with plugged(directory, policy, options=f"{OPEN}\n{gateway}") as broker:
            place = broker.port if "/31" in gateway else broker.socket
            source = "127.0.0.2" if "/31" in gateway else "127.0.0.1"
            for _ in range(3):
                with join(place, unique("c"), source=source) as client:
                    client.send(burst(wire.V311, "t", 5))
                    assert told(client) == []
            assert [connack(broker, unique("c"), wire.V311) for _ in range(2)] == [0, 5]


def test_a_reload_asks_nothing_of_those_who_are_connected(tmp_path: Path) -> None:
    policy = '[[limit]]\nname = "r"\non = "connect"\nper = "ip"\nrate = "3/h burst 3"\non_excess = "reject"\n'
    with plugged(tmp_path / "b", policy, options=OPEN) as broker:
        kept = join(broker.port, unique("kept"), clean=False)  # its session is asked about as well
        kept.close()
        with join(broker.port, unique("c")) as client:
            client.send(wire.subscribe(wire.V311, ("t", 1)))
            told(client)
            for times in (1, 2):
                broker.process.send(signal.SIGHUP)
                broker.says("1 limits of", times + 1)
                client.send(burst(wire.V311, "t", 3, 1, first_id=10 * times))
                assert len(told(client)) == 6
            assert [connack(broker, unique("c"), wire.V311, user) for user in ("somebody", None)] == [0, 5]


def test_whoever_comes_while_a_policy_is_exchanged_is_limited(tmp_path: Path) -> None:
    policy = '[[limit]]\nname = "r"\non = "connect"\nper = "ip"\nrate = "1/h burst 1"\non_excess = "reject"\n'
    with plugged(tmp_path / "b", policy, options=OPEN) as broker, join(broker.port, unique("c"), wire.V5):
        for times in range(5):
            broker.process.send(signal.SIGHUP)
            broker.says("1 limits of", times + 2)
            assert connack(broker, unique("c"), wire.V5) == REFUSED[wire.V5]
