"""Limits on subscribing, with real clients and a real broker: each action, measure and version."""

import contextlib
import itertools
import json
import subprocess
import time
from collections.abc import Iterator

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.reasoncodes import ReasonCode

from support import wire
from support.limited import Limited, Watcher, answers, burst, every_version, join, limited, lines, told, unique
from support.raw import CLOSED, OPEN, RawClient
from support.wait import GUARD, until

V31, V311, V5 = wire.V31, wire.V311, wire.V5
REFUSED = {V311: "0x80", V5: "0x97"}
has_answer = pytest.mark.parametrize("version", REFUSED, ids=["3.1.1", "5"])
THROTTLE = "$tidegate/throttle"

POLICY = """
[[limit]]
name = "reject"
on = "subscribe"
topic = "reject/#"
rate = "3/h burst 3"
on_excess = "reject"

[[limit]]
name = "paced"
on = "subscribe"
topic = "paced/#"
rate = "20/s burst 1"
max_delay = "1h"

[[limit]]
name = "late"
on = "subscribe"
topic = "late/#"
rate = "2/h burst 2"
max_delay = "200ms"

[[limit]]
name = "end"
on = "subscribe"
topic = "end/#"
rate = "1/h burst 1"
on_excess = "disconnect"

[[limit]]
name = "ban"
on = "subscribe"
topic = "ban/#"
per = ["client", "ip"]
rate = "1/h burst 1"
on_excess = "ban"

[[limit]]
name = "watched"
on = "subscribe"
topic = "watched/#"
rate = "1/h burst 1"
on_excess = "observe"

[[limit]]
name = "deep"
on = "subscribe"
topic = "deep/#"
depth = 3
on_excess = "reject"

[[limit]]
name = "wild"
on = "subscribe"
leading_wildcard = false
on_excess = "reject"

[[limit]]
name = "low"
on = "subscribe"
topic = "low/#"
max_qos = 1

[[limit]]
name = "held"
on = "subscribe"
topic = "held/#"
per = "all"
concurrent = 5
on_excess = "reject"

[[limit]]
name = "turn"
on = "subscribe"
topic = "turn/#"
per = "all"
concurrent = 1
max_delay = "1h"

[[limit]]
name = "shared"
on = "subscribe"
topic = "$share/+/pool/#"
rate = "1/h burst 1"
on_excess = "reject"
"""

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("subscribe"), POLICY, workers=2) as made:
        yield made


def ask(version: int, *filters: str, packet_id: int = 7, qos: int = 0) -> bytes:
    return wire.subscribe(version, *((one, qos) for one in filters), packet_id=packet_id)


def subscribe(client: RawClient, *filters: str, qos: int = 0) -> list[str]:
    """The codes of the SUBACK."""
    line = wire.tell(client.exchange(ask(client.version, *filters, qos=qos)), client.version)
    assert line.startswith("SUBACK id 7 "), line
    return line.split()[3:]


def under(prefix: str, *rest: str) -> list[str]:
    """Filters below one that no other test uses."""
    number = next(_numbers)
    return [f"{prefix}/{number}/{one}" for one in rest]


def reaches(gateway: Limited, client: RawClient, *topics: str) -> list[str]:
    """Which of these topics the client gets a message of, that another publishes."""
    with join(gateway.port, unique("publisher")) as other:
        other.send(b"".join(burst(V311, topic, 1, 1, first_id=1 + n) for n, topic in enumerate(topics)))
        lines(other, len(topics))
    return [line.removeprefix("PUBLISH qos 0 ") for line in told(client)]


# What is refused


@has_answer
def test_each_filter_has_its_code_and_the_others_are_subscribed(gateway: Limited, version: int) -> None:
    mine = under("reject", *"abcde")
    with join(gateway.port, unique("c"), version) as client:
        filters = [mine[0], "free/1", mine[1], mine[2], mine[3], "free/2", mine[4]]
        no = REFUSED[version]
        assert subscribe(client, *filters) == ["0x00", "0x00", "0x00", "0x00", no, "0x00", no]
        assert subscribe(client, *under("reject", "f")) == [no], "the broker does not hear of it"
        assert reaches(gateway, client, *filters) == [*mine[:1], "free/1", *mine[1:3], "free/2"]


def test_version_5_is_told_which_limit_and_when_to_come_back(gateway: Limited) -> None:
    with join(gateway.port, unique("c"), V5) as client:
        data = client.exchange(ask(V5, *under("reject", *"abcd")))
        assert b"over limit reject: retry in " in data
        at = data.index(b"retry-after-ms") + len("retry-after-ms")
        size = int.from_bytes(data[at : at + 2], "big")
        assert 1_000_000 < int(data[at + 2 : at + 2 + size]) <= 1_200_001


def test_who_asked_for_no_reasons_has_none(gateway: Limited) -> None:
    with join(gateway.port, unique("c"), V5, props=b"\x17\x00") as client:
        data = client.exchange(ask(V5, *under("reject", *"abcd")))
        assert data == wire.packet(0x90, b"\0\x07\0" + b"\0\0\0\x97")


def test_nothing_exceeds_what_the_client_takes(gateway: Limited) -> None:
    with join(gateway.port, unique("c"), V5, props=b"\x27" + (50).to_bytes(4, "big")) as client:
        data = client.exchange(ask(V5, *under("reject", *"abcd")))
        assert len(data) <= 50
        assert b"retry-after-ms" in data
        assert wire.tell(data, V5) == "SUBACK id 7 0x00 0x00 0x00 0x97"


def test_3_1_has_no_such_answer_and_is_closed(gateway: Limited) -> None:
    with join(gateway.port, unique("c"), V31) as client:
        assert subscribe(client, *under("reject", *"abc")) == ["0x00"] * 3
        client.send(ask(V31, *under("reject", "d")))
        assert client.until_closed() == [CLOSED]


@has_answer
@pytest.mark.parametrize(
    ("filters", "good"),
    [
        (["deep/a/b", "deep/a/b/c", "deep/#", "deep/a/b/#", "$share/g/deep/a/b"], [1, 0, 1, 0, 1]),
        (["#", "+/a", "free/#", "$share/g/#", "$share/g/free/+", "+"], [0, 0, 1, 0, 1, 0]),
        (["$share/g/pool/1", "$share/h/pool/2", "pool/3", "$share/g/other"], [1, 0, 1, 1]),
    ],
    ids=["depth", "leading_wildcard", "shared"],
)
def test_what_filters_may_be(gateway: Limited, version: int, filters: list[str], good: list[int]) -> None:
    with join(gateway.port, unique("c"), version) as client:
        assert subscribe(client, *filters) == ["0x00" if one else REFUSED[version] for one in good]


@every_version
def test_the_qos_is_lowered(gateway: Limited, version: int) -> None:
    with join(gateway.port, unique("c"), version) as client, join(gateway.port, unique("p")) as other:
        low, free = *under("low", "a"), *under("free", "a")
        assert subscribe(client, low, free, qos=2) == ["0x01", "0x02"]
        other.send(burst(V311, low, 1, 2) + burst(V311, free, 1, 2, first_id=2))
        lines(other, 2)
        other.send(b"\x62\x02\x00\x01\x62\x02\x00\x02")
        assert sorted(lines(client, 2)) == sorted([f"PUBLISH qos 1 {low}", f"PUBLISH qos 2 {free}"])


@every_version
def test_one_that_observes_refuses_nothing_and_counts(gateway: Limited, version: int) -> None:
    before = gateway.metric("tidegate_limited_total", limit="watched", action="observe")
    with join(gateway.port, unique("c"), version) as client:
        assert subscribe(client, *under("watched", *"abc")) == ["0x00"] * 3
    assert gateway.metric("tidegate_limited_total", limit="watched", action="observe") == before + 2


def test_it_is_counted_by_limit_and_action(gateway: Limited) -> None:
    def counts() -> list[float]:
        limited = gateway.metric("tidegate_limited_total", limit="reject", action="reject")
        return [limited, gateway.metric("tidegate_passed_total", limit="reject")]

    before = counts()
    with join(gateway.port, unique("c")) as client:
        subscribe(client, *under("reject", *"abcde"))
    assert [after - one for after, one in zip(counts(), before, strict=True)] == [2, 3]


@has_answer
def test_notices_name_the_filter(gateway: Limited, version: int) -> None:
    mine = under("reject", *"abcd")
    with join(gateway.port, unique("c"), version) as client:
        subscribe(client, THROTTLE)
        client.send(ask(version, *mine))
        notice, _ = sorted(answers(client), key=lambda data: data[0] >> 4)
        told = json.loads(notice[notice.index(b"{") :])
        assert (told["limit"], told["action"], told["topic"]) == ("reject", "reject", mine[3])


# What ends the connection


@every_version
def test_who_is_disconnected_is_told_why_and_the_will_is_sent(gateway: Limited, version: int) -> None:
    (will,) = under("will", "w")
    with (
        Watcher(gateway.broker, will) as watcher,
        join(gateway.port, unique("c"), version, will=will) as client,
    ):
        assert subscribe(client, *under("end", "a")) == ["0x00"]
        client.send(ask(version, "free/a", *under("end", "b")) + wire.PINGREQ)
        assert client.until_closed() == [*(["DISCONNECT 0x96"] if version == V5 else []), CLOSED]
        assert watcher.message() == (will, b"")


@every_version
def test_a_ban_keeps_it_out(gateway: Limited, version: int) -> None:
    name = unique("banned")
    with join(gateway.port, name, version) as client:
        client.send(ask(version, *under("ban", *"ab")))
        client.until_closed()
    code = "0x8A" if version == V5 else "0x05"
    until(lambda: greeting(gateway, version, name) == f"CONNACK {code}", "the ban, which every worker is told of")
    with join(gateway.port, unique("other"), version):
        pass


def greeting(gateway: Limited, version: int, name: str) -> str:
    """What a client of this name is answered."""
    with RawClient(gateway.port, version) as client:
        return wire.tell(client.exchange(wire.connect(version, name)), version)


# What waits


@every_version
def test_what_is_delayed_goes_on_later_and_nothing_else_waits(gateway: Limited, version: int) -> None:
    mine = under("paced", *(str(number) for number in range(10)))
    with join(gateway.port, unique("c"), version) as client:
        began = time.monotonic()
        requests = [ask(version, *mine[n : n + 5], packet_id=1 + n) for n in (0, 5)]
        client.send(requests[0] + requests[1] + burst(version, "free/x", 1, 1, first_id=9) + wire.PINGREQ)
        first, second = sorted(lines(client, 2))
        assert first == "PINGRESP", "before any of the subscriptions"
        assert second.startswith("PUBACK id 9")
        assert lines(client, 2) == [f"SUBACK id {n} 0x00 0x00 0x00 0x00 0x00" for n in (1, 6)]
        assert time.monotonic() - began >= 9 / 20, "one at once, and one each twentieth of a second"
        assert reaches(gateway, client, *mine) == mine


@every_version
def test_what_has_waited_for_too_long_is_refused(gateway: Limited, version: int) -> None:
    mine = under("late", *"abcd")
    with join(gateway.port, unique("c"), version) as client:
        client.send(ask(version, mine[0], "free/1", *mine[1:], "free/2"))
        if version == V31:
            assert client.until_closed() == [CLOSED]
        else:
            no = REFUSED[version]
            assert lines(client, 1) == [f"SUBACK id 7 0x00 0x00 0x00 {no} {no} 0x00"]
            assert reaches(gateway, client, *mine) == mine[:2]


@every_version
def test_who_leaves_while_it_waits_leaves_nothing_behind(gateway: Limited, version: int) -> None:
    (one,) = under("turn", "a")
    with join(gateway.port, unique("c"), version) as holder:
        assert subscribe(holder, one) == ["0x00"]
        with join(gateway.port, unique("c"), version) as client:
            client.send(ask(version, one))
            until(lambda: gateway.held == 1, "it waits")
            client.send(wire.DISCONNECT if version < V5 else b"\xe0\x00")
            assert client.until_closed() == [CLOSED]
        until(lambda: gateway.held == 0, "it has gone")
    with join(gateway.port, unique("c"), version) as client:
        assert subscribe(client, one) == ["0x00"]


# What they have


def test_no_more_are_held_than_that_by_all_workers_together(gateway: Limited) -> None:
    clients = [join(gateway.port, unique("c"), V5) for _ in range(12)]
    try:
        for client in clients:
            client.send(ask(V5, *under("held", "a", "b")))
        got = [code for client in clients for code in lines(client, 1)[0].split()[3:]]
        assert (got.count("0x00"), got.count("0x97")) == (5, 19)
    finally:
        for client in clients:
            client.close()
    until(lambda: free_again(gateway), "their places are free again")


def free_again(gateway: Limited) -> bool:
    """Whether all five are free: who tries that takes and gives back what there is."""
    with join(gateway.port, unique("c"), V5) as client:
        mine = under("held", *"abcde")
        codes = subscribe(client, *mine)
        client.exchange(wire.unsubscribe(V5, *mine))
        return codes == ["0x00"] * 5


@has_answer
def test_what_is_given_up_makes_room(gateway: Limited, version: int) -> None:
    until(lambda: free_again(gateway), "all are free")
    mine = under("held", *"abcdefg")
    with join(gateway.port, unique("c"), version) as client:
        assert subscribe(client, *mine) == ["0x00"] * 5 + [REFUSED[version]] * 2
        assert subscribe(client, *mine[:5]) == ["0x00"] * 5, "a repeated one is none more"
        client.exchange(wire.unsubscribe(version, mine[0], mine[6]))
        assert subscribe(client, *mine[5:]) == ["0x00", REFUSED[version]]
    until(lambda: free_again(gateway), "its end makes room, too")


@every_version
def test_who_waits_for_a_place_has_it_once_it_is_free_in_whatever_worker(gateway: Limited, version: int) -> None:
    clients = [join(gateway.port, unique("c"), version) for _ in range(6)]
    try:
        first = clients[0]
        (mine,) = under("turn", "a")
        until(lambda: subscribe(first, mine) == ["0x00"], "the place")
        for client in clients[1:]:
            client.send(ask(version, mine))
        until(lambda: gateway.held == 5, "all others wait")
        first.exchange(wire.unsubscribe(version, mine))
        left = clients[1:]
        while left:
            for client in left:
                client.socket.settimeout(0.01)
            winner = until(lambda: next((one for one in left if has_answer_now(one)), None), "one has the place")
            assert gateway.held == len(left) - 1
            left.remove(winner)
            winner.close()
    finally:
        for client in clients:
            client.close()


def has_answer_now(client: RawClient) -> bool:
    try:
        return wire.tell(client.read() or b"\0\0", client.version) == "SUBACK id 7 0x00"
    except TimeoutError:
        return False


# A reload


@has_answer
def test_a_reload_holds_for_who_is_there_already(gateway: Limited, version: int) -> None:
    late = '[[limit]]\nname = "late-comer"\non = "subscribe"\ntopic = "new/#"\nconcurrent = 1\non_excess = "reject"\n'
    mine = under("new", *"abc")
    with join(gateway.port, unique("c"), version) as client:
        assert subscribe(client, *mine[:2]) == ["0x00"] * 2
        with gateway.under(POLICY + late, POLICY):
            assert subscribe(client, mine[2], mine[1]) == ["0x00", REFUSED[version]]
        assert subscribe(client, *mine) == ["0x00"] * 3
        assert reaches(gateway, client, *mine) == mine


@has_answer
def test_what_waits_goes_on_when_its_limit_is_gone(gateway: Limited, version: int) -> None:
    without = POLICY.replace('topic = "turn/#"', 'topic = "elsewhere/#"')
    mine = under("turn", *"ab")
    with join(gateway.port, unique("c"), version) as client:
        client.send(ask(version, *mine))
        until(lambda: gateway.held == 1, "the second waits")
        with gateway.under(without, POLICY):
            assert lines(client, 1) == ["SUBACK id 7 0x00 0x00"]
    until(lambda: gateway.held == 0, "none waits")


# Many


def test_churn_is_answered_one_by_one_and_costs_others_nothing(gateway: Limited) -> None:
    rounds = 1000
    mine = under("reject", "a", "free")
    with join(gateway.port, unique("flooder"), V5) as flooder, join(gateway.port, unique("victim")) as victim:
        (own,) = under("free", "victim")
        assert subscribe(victim, own) == ["0x00"]
        flood = b"".join(
            ask(V5, *mine, "free/churn", packet_id=1 + n) + wire.unsubscribe(V5, mine[0], packet_id=1 + n)
            for n in range(rounds)
        )
        flooder.socket.setblocking(False)
        sent, answered = 0, 0
        while answered < 2 * rounds:
            with contextlib.suppress(BlockingIOError):
                sent += flooder.socket.send(flood[sent : sent + 20_000])
            answered += count_now(flooder)
            if answered % 1000 < 50:
                victim.send(burst(V311, own, 1))
                assert lines(victim, 1) == [f"PUBLISH qos 0 {own}"]
        flooder.socket.settimeout(GUARD)
        assert flooder.until_fence() == [OPEN]
    assert gateway.held == 0


def count_now(client: RawClient) -> int:
    """How many packets are there now."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            assert client.read() is not None, "closed"
            count += 1
    return count


# Clients as they are


@pytest.mark.parametrize("version", [V311, V5], ids=["3.1.1", "5"])
def test_paho_is_told_filter_by_filter(gateway: Limited, version: int) -> None:
    mine = under("reject", *"abcd")
    codes: list[int] = []

    def on_subscribe(_c: object, _u: object, _m: int, reasons: list[ReasonCode], _p: object) -> None:
        codes.extend(one.value for one in reasons)

    protocol = MQTTProtocolVersion(version)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=unique("paho"), protocol=protocol)
    client.on_subscribe = on_subscribe
    client.connect("127.0.0.1", gateway.port)
    client.loop_start()
    try:
        until(client.is_connected, "paho's CONNACK")
        client.subscribe([(one, 1) for one in mine])
        until(lambda: codes, "paho's SUBACK")
        assert codes == [1, 1, 1, 0x97 if version == V5 else 0x80]
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])
def test_mosquitto_sub_goes_on_with_what_it_has(gateway: Limited, version: int | str) -> None:
    mine = under("reject", *"abcd")
    command = ["mosquitto_sub", "-V", str(version), "-p", str(gateway.port), "-i", unique("sub"), "-v", "-C", "1"]
    filters = [word for one in mine for word in ("-t", one)]
    listener = subprocess.Popen(
        [*command, "-W", str(int(GUARD)), *filters], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with listener, join(gateway.port, unique("p")) as publisher:
        while listener.poll() is None:
            publisher.send(burst(V311, mine[3], 1) + burst(V311, mine[0], 1, payload=b"hello"))
            time.sleep(0.05)
        assert listener.stdout is not None
        assert f"{mine[0]} hello" in listener.stdout.read()
    assert listener.returncode == 0


def test_mosquitto_sub_says_that_all_is_denied(gateway: Limited) -> None:
    done = subprocess.run(
        ["mosquitto_sub", "-V", "mqttv5", "-p", str(gateway.port), "-i", unique("sub"), "-t", "deep/a/b/c/d"],
        capture_output=True,
        text=True,
        timeout=GUARD,
        check=False,
    )
    assert "denied" in done.stderr
