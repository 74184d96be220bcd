"""Whom a limit concerns, where, and per what it counts: each line of the language on real connections.

Every limit here lets two messages through in an hour and has a topic of its own, so that what arrives tells which
clients shared a budget.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import pytest

from support import wire
from support.broker import Broker
from support.gateway import Gateway
from support.limited import UNBOUNDED, Limited, Watcher, burst, join, told

PER = {
    "client": '"client"', "username": '"username"', "ip": '"ip"', "net": '"ip/24"', "topic": '"topic"',
    "levels": '"topic/3"', "class": '"class"', "listener": '"listener"', "all": '"all"', "tenant": '"tenant"',
    "pair": '["client", "topic"]', "office": '["tenant", "ip/24/56"]',
}  # fmt: skip
"""Topics below per/, and what the limit there counts per."""

CLASSES = """
[class.tenant]
username = "{tenant}:*"

[class.sensor]
client_id = ["sensor-*", "probe-?"]

[class.office]
cidr = ["127.1.0.0/16", "127.2.0.7"]

[class.either]
any = [{ client_id = "either-*" }, { username = "either" }]

[class.strong]
client_id = "strong-*"
username = "strong"

[class.old]
version = ["3.1", "3.1.1"]

[class.clean]
clean_start = true
client_id = "clean-*"

[class.bridge]
bridge = true

[class.socket]
listener = "unix:UNIX"

[class.staff]
username = "staff"
exempt = true

[class.pair]
client_id = ["pair-*", "sensor-both"]
"""

WHOM = {
    "sensor": 'class = "sensor"',
    "others": 'class = "!sensor"',
    "but": 'class = ["sensor", "pair", "!office"]',
    "office": 'class = "office"',
    "either": 'class = "either"',
    "strong": 'class = "strong"',
    "old": 'class = "old"',
    "clean": 'class = "clean"',
    "bridge": 'class = "bridge"',
    "socket": 'class = "socket"',
    "all": "",
    "name": 'client_id = "dash-*"',
    "user": 'username = ["ann", "b?b"]',
    "from": 'cidr = "127.3.0.0/16"',
    "at": 'listener = "unix:UNIX"',
    "both": 'username = "ann"\ncidr = "127.3.0.0/16"',
}
"""Topics below whom/, and what the limit there says."""

NUMBERS = """
[[limit]]
name = "by-class"
topic = "numbers/#"
rate = { default = "2/h burst 2", sensor = "4/h burst 4", pair = "3/h burst 3", bridge = "none" }
on_excess = "drop"

[[limit]]
name = "without-default"
topic = "named/#"
rate = { sensor = "4/h burst 4" }
on_excess = "drop"

[[limit]]
name = "sizes"
topic = "sizes/#"
size = { default = "10B", sensor = "20B", pair = "none" }
on_excess = "drop"
"""

WHERE = """
[[limit]]
name = "plus"
topic = "where/+/reading"
rate = "2/h burst 2"
on_excess = "drop"

[[limit]]
name = "except"
topic = ["except/#", "besides/one"]
except_topic = ["except/test/#", "except/+/raw"]
rate = "2/h burst 2"
on_excess = "drop"

[[limit]]
name = "qos"
topic = "qos/#"
qos = [0, 2]
rate = "2/h burst 2"
on_excess = "drop"

[[limit]]
name = "retain"
topic = "retain/#"
retain = true
rate = "2/h burst 2"
on_excess = "drop"
"""


def policy(unix: Path) -> str:
    """All of it."""

    def limit(name: str, topic: str, more: str) -> str:
        return f'[[limit]]\nname = "{name}"\ntopic = "{topic}/#"\n{more}\nrate = "2/h burst 2"\non_excess = "drop"\n\n'

    per = [limit(f"per-{name}", f"per/{name}", f"per = {keys}") for name, keys in PER.items()]
    whom = [limit(f"whom-{name}", f"whom/{name}", text) for name, text in WHOM.items()]
    return "".join([CLASSES, "\n", *per, *whom, NUMBERS, WHERE]).replace("UNIX", str(unix))


@dataclass(frozen=True)
class Listening(Limited):
    """With a second listener."""

    unix: Path


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    directory = tmp_path_factory.mktemp("m")
    unix = directory / "t.sock"
    broker = Broker(directory / "b", UNBOUNDED)
    made = Gateway(directory / "g", broker.unix, workers=1, tables=policy(unix))
    tcp = f'"tcp://127.0.0.1:{made.port}"'
    made.config.write_text(made.config.read_text().replace(tcp, f'[{tcp}, "unix:{unix}"]', 1))
    broker.start()
    try:
        made.start()
        yield Listening(broker, made, unix)
        made.stop()
    finally:
        made.end()
        broker.stop()


@dataclass(frozen=True)
class Who:
    """A client, and what it publishes."""

    client_id: str
    _: KW_ONLY
    username: str | None = None
    source: str = "127.0.0.1"
    version: int = wire.V311
    clean: bool = True
    bridge: bool = False
    unix: bool = False
    at: str = ""
    """Below the topic of the case."""
    count: int = 5
    qos: int = 0
    retain: bool = False
    payload: bytes = b""


def arrivals(gateway: Listening, topic: str, *clients: Who) -> list[int]:
    """How many messages of each of the clients, one after the other, arrive."""
    counts = []
    with Watcher(gateway.broker, f"{topic}/#") as watcher:
        for who in clients:
            place = gateway.unix if who.unix else gateway.port
            with join(
                place,
                who.client_id,
                who.version,
                username=who.username,
                source=who.source,
                clean=who.clean,
                bridge=who.bridge,
            ) as client:
                where = f"{topic}/{who.at}" if who.at else topic
                client.send(burst(who.version, where, who.count, who.qos, retain=who.retain, payload=who.payload))
                assert len(told(client)) == (who.count if who.qos else 0)
            counts.append(len(watcher.messages()))
    return counts


# per


@pytest.mark.parametrize(
    ("name", "clients", "expected"),
    [
        pytest.param(
            "client",
            [Who("a"), Who("b"), Who("a", version=wire.V5, source="127.0.0.9")],
            [2, 2, 0],
            id="client: one budget for an identifier, whatever its connection",
        ),
        pytest.param(
            "username",
            [Who("u1", username="ann"), Who("u2", username="ann"), Who("u3", username="bob")],
            [2, 0, 2],
            id="username: over all of its connections",
        ),
        pytest.param(
            "ip",
            [Who("i1", source="127.9.0.1"), Who("i2", source="127.9.0.1"),
             Who("i3", source="127.9.0.2")],
            [2, 0, 2],
            id="ip",
        ),
        pytest.param(
            "net",
            [Who("n1", source="127.9.1.1"), Who("n2", source="127.9.1.200"),
             Who("n3", source="127.9.2.1")],
            [2, 0, 2],
            id="ip/24: all addresses of a network together",
        ),
        pytest.param(
            "topic",
            [Who("t1", at="x"), Who("t2", at="x"), Who("t1", at="y")],
            [2, 0, 2],
            id="topic: whoever publishes",
        ),
        pytest.param(
            "levels",
            [Who("l", at="x/1"), Who("l", at="x/2"), Who("l", at="y/1")],
            [2, 0, 2],
            id="topic/3: by the first levels",
        ),
        pytest.param(
            "class",
            [Who("sensor-1"), Who("sensor-2"), Who("pair-1"), Who("pair-2")],
            [2, 0, 2, 0],
            id="class: all of its clients together",
        ),
        pytest.param(
            "listener",
            [Who("s1"), Who("s2"), Who("s3", unix=True), Who("s4", unix=True)],
            [2, 0, 2, 0],
            id="listener",
        ),
        pytest.param(
            "all",
            [Who("x1", source="127.9.0.1"), Who("x2", username="ann", unix=True)],
            [2, 0],
            id="all: one budget",
        ),
        pytest.param(
            "tenant",
            [Who("c1", username="acme:1"), Who("c2", username="acme:2"),
             Who("c3", username="globex:1"), Who("c4", username="acme"), Who("c5")],
            [2, 0, 2, 5, 5],
            id="a capture: who lacks it is not counted",
        ),
        pytest.param(
            "pair",
            [Who("p1", at="x"), Who("p1", at="y"), Who("p2", at="x"),
             Who("p1", at="x")],
            [2, 2, 2, 0],
            id="a list: each combination",
        ),
        pytest.param(
            "office",
            [Who("o1", username="acme:1", source="127.9.1.1"),
             Who("o2", username="acme:2", source="127.9.1.2"),
             Who("o3", username="acme:1", source="127.9.2.1"),
             Who("o4", username="globex:1", source="127.9.1.1")],
            [2, 0, 2, 2],
            id="a list with a capture",
        ),
    ],
)  # fmt: skip
def test_per(gateway: Listening, name: str, clients: list[Who], expected: list[int]) -> None:
    assert arrivals(gateway, f"per/{name}", *clients) == expected


def test_per_username_counts_all_who_have_none_together(gateway: Listening) -> None:
    nobody = [Who("nobody-1"), Who("nobody-2")]
    assert arrivals(gateway, "per/username", *nobody) == [2, 0]


def test_per_client_counts_clients_whom_the_broker_names_by_that_name(gateway: Listening) -> None:
    # Version 5: the broker assigns an identifier and tells it; 3.1.1 never learns of it, each connection is its own.
    for version in (wire.V5, wire.V311):
        nameless = Who("", version=version)
        assert arrivals(gateway, "per/client", nameless, nameless) == [2, 2]


# whom


@pytest.mark.parametrize(
    ("name", "clients", "expected"),
    [
        pytest.param(
            "sensor",
            [Who("sensor-1"), Who("probe-1"), Who("probe-12"), Who("x-sensor-1")],
            [2, 2, 5, 5],
            id="class: globs of client ids, any of them",
        ),
        pytest.param("others", [Who("sensor-1"), Who("other")], [5, 2], id="!class"),
        pytest.param(
            "but",
            [Who("sensor-1"), Who("pair-1"), Who("sensor-2", source="127.1.2.3"),
             Who("other")],
            [2, 2, 5, 5],
            id="class: in one of these and in none of those",
        ),
        pytest.param(
            "office",
            [Who("f1", source="127.1.2.3"), Who("f2", source="127.2.0.7"),
             Who("f3", source="127.2.0.8"), Who("f4", unix=True)],
            [2, 2, 5, 5],
            id="cidr",
        ),
        pytest.param(
            "either",
            [Who("either-1"), Who("e2", username="either"), Who("e3", username="neither")],
            [2, 2, 5],
            id="any",
        ),
        pytest.param(
            "strong",
            [Who("strong-1", username="strong"), Who("strong-2"),
             Who("weak", username="strong")],
            [2, 5, 5],
            id="all keys of a class",
        ),
        pytest.param(
            "old",
            [Who("v3", version=wire.V31), Who("v4"), Who("v5", version=wire.V5)],
            [2, 2, 5],
            id="version",
        ),
        pytest.param(
            "clean",
            [Who("clean-1"), Who("clean-2", clean=False)],
            [2, 5],
            id="clean_start",
        ),
        pytest.param("bridge", [Who("br", bridge=True), Who("no")], [2, 5], id="bridge"),
        pytest.param("socket", [Who("so1", unix=True), Who("so2")], [2, 5], id="listener"),
        pytest.param(
            "all",
            [Who("boss", username="staff"), Who("worker", username="ann")],
            [5, 2],
            id="exempt",
        ),
        pytest.param("name", [Who("dash-1"), Who("1-dash")], [2, 5], id="client_id in the limit"),
        pytest.param(
            "user",
            [Who("w1", username="ann"), Who("w2", username="bob"),
             Who("w3", username="bo"), Who("w4")],
            [2, 2, 5, 5],
            id="username in the limit",
        ),
        pytest.param(
            "from",
            [Who("r1", source="127.3.9.9"), Who("r2", source="127.4.0.1")],
            [2, 5],
            id="cidr in the limit",
        ),
        pytest.param("at", [Who("at1", unix=True), Who("at2")], [2, 5], id="listener in the limit"),
        pytest.param(
            "both",
            [Who("h1", username="ann", source="127.3.0.1"), Who("h2", username="ann"),
             Who("h3", source="127.3.0.1")],
            [2, 5, 5],
            id="all keys in the limit",
        ),
    ],
)  # fmt: skip
def test_whom(gateway: Listening, name: str, clients: list[Who], expected: list[int]) -> None:
    assert arrivals(gateway, f"whom/{name}", *clients) == expected


def test_exempt_clients_are_counted(gateway: Listening) -> None:
    before = gateway.metric("tidegate_passed_total", limit="whom-all")
    assert arrivals(gateway, "whom/all/counted", Who("chief", username="staff", count=7)) == [7]
    assert gateway.metric("tidegate_passed_total", limit="whom-all") == before + 7


# Numbers by class


def test_numbers_differ_by_class_and_the_strictest_counts(gateway: Listening) -> None:
    clients = [
        Who("plain", count=9),
        Who("sensor-n", count=9),
        Who("pair-n", count=9),
        Who("sensor-both", count=9),  # in both classes
        Who("bridged", bridge=True, count=9),  # "none"
        Who("sensor-bridged", bridge=True, count=9),  # "none" is no strict number
    ]
    assert arrivals(gateway, "numbers", *clients) == [2, 4, 3, 3, 9, 4]


def test_without_a_default_only_the_named_classes_are_limited(gateway: Listening) -> None:
    assert arrivals(gateway, "named", Who("plain"), Who("sensor-n")) == [5, 4]


def test_sizes_differ_by_class(gateway: Listening) -> None:
    for size, expected in ((10, [1, 1, 1]), (15, [0, 1, 1]), (25, [0, 0, 1])):
        clients = [Who(name, count=1, payload=bytes(size)) for name in ("plain", "sensor-s", "pair-s")]
        assert arrivals(gateway, "sizes", *clients) == expected


# Where


def test_topic_filters(gateway: Listening) -> None:
    for at, expected in (("1/reading", 2), ("2/reading", 0), ("1/2/reading", 5), ("1/readings", 5), ("reading", 5)):
        assert arrivals(gateway, "where", Who("where", at=at)) == [expected]


def test_except_topic(gateway: Listening) -> None:
    for at, expected in (("a", 2), ("test", 5), ("test/deep/er", 5), ("x/raw", 5), ("x/raw/more", 0), ("b", 0)):
        assert arrivals(gateway, "except", Who("except", at=at)) == [expected]


def test_several_topics_share_one_budget(gateway: Listening) -> None:
    assert arrivals(gateway, "besides", Who("besides", at="one"), Who("besides", at="two")) == [
        2,
        5,
    ]
    assert arrivals(gateway, "except", Who("besides", at="b")) == [0]


def test_qos(gateway: Listening) -> None:
    # Not counted with QoS 1, and no more than two of the others; of QoS 2 none is released here.
    clients = [Who("qos", qos=1), Who("qos"), Who("qos", qos=2)]
    assert arrivals(gateway, "qos", *clients) == [5, 2, 0]
    assert gateway.metric("tidegate_limited_total", limit="qos", action="drop") >= 8


def test_retain(gateway: Listening) -> None:
    clients = [Who("retain"), Who("retain", retain=True), Who("retain")]
    assert arrivals(gateway, "retain/t", *clients) == [5, 2, 5]
