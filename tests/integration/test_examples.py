"""Every policy of examples/: good, explained limit by limit, and biting on a live gateway where its text says so.

Floods come at once and are far above what a limit lets through at once; what refills meanwhile is allowed for by the
time that was measured, so that no test depends on how fast it runs. What a limit delays comes to two seconds at most.
"""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import wire
from support.broker import Broker
from support.gateway import Gateway
from support.limited import UNBOUNDED, Limited, Watcher, answer_of, burst, join, login, unique
from support.raw import RawClient
from tidegate.app.policy_check import check
from tidegate.policy.settings import load

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.toml"))
WILL = "gone"
OVERRIDDEN = ("listen", "broker", "state_dir")
"""Keys that a copy has of its own, to run here."""


@dataclass(frozen=True, kw_only=True)
class Flood:
    """Messages at once, and what a limit makes of them."""

    limit: str
    topic: str
    """`{}`: another one for each forty messages."""
    count: int
    passes: int
    """How many it lets through at once."""
    refill: float = 0.0
    """And in each second after that; 0 for a window too, where it depends on the broker."""
    refused: str = ""
    """What those above it are answered: the code of an acknowledgement, "closed", or nothing."""
    delayed: bool = False
    """Those above it wait their turn, and all arrive and are acknowledged."""
    client_id: str = ""
    username: str | None = None
    version: int = wire.V311
    bridge: bool = False
    qos: int = 0
    retain: bool = False
    size: int = 0
    """Bytes of each payload; 0: a few."""


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Clients that come at once, and what a limit on connecting makes of them."""

    limit: str
    count: int
    passes: int
    """How many it lets in at once."""
    refill: float
    """And in each second after that."""
    refused: str = ""
    """What those above it are answered; nothing: they wait, and come in."""
    client_id: str = "crowd-{}"
    username: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sent:
    """Messages that are published at once at the broker, and what a limit makes of them on their way to a client."""

    limit: str
    topic: str
    count: int
    passes: int
    """How many come at once."""
    refill: float = 0.0
    """And in each second after that; 0: one for each that is acknowledged."""
    qos: int = 0
    newest: bool = False
    """Of what comes later, the last is enough."""
    client_id: str = "subscriber"
    username: str | None = None


V5 = wire.V5
ASKED: dict[str, dict[str, str]] = {
    "public-broker": {"try/#": "0x01", "#": "0x97", "$share/g/+/x": "0x97", "a/b/c/d/e/f/g/h/i": "0x97"},
}
"""Filters that are asked for with QoS 2, and what is answered."""
SENT: dict[str, Sent] = {
    "dashboards": Sent(
        limit="screen",
        topic="plant/1/speed",
        count=700,
        passes=500,
        refill=50,
        newest=True,
        client_id="wall",
        username="dash-1",
    ),
    "factory-plcs": Sent(limit="in-flight-down", topic="plant/1/tags", count=50, passes=20, qos=1),
    "home-assistant": Sent(limit="to-a-device", topic="house/all", count=110, passes=100, refill=20, qos=1),
}
PATIENT: dict[str, str | None] = {"home-assistant": None, "zigbee2mqtt-home": "zigbee2mqtt"}
"""The user name of a client whose will is held back."""
TOLD_AT_ONCE: dict[str, str] = {"home-assistant": "hub-1", "zigbee2mqtt-home": "app"}
"""That of one whose will is not."""
CROWDS: dict[str, Crowd] = {
    "factory-plcs": Crowd(limit="twins", count=13, passes=10, refill=0.1, refused="CONNACK 0x9F", client_id="twin"),
    "public-broker": Crowd(limit="arrivals", count=60, passes=50, refill=5),
    "test-stand": Crowd(limit="reconnects", count=40, passes=30, refill=1, refused="CONNACK 0x9F", username="dev-bob"),
}
SCENARIOS: dict[str, list[Flood]] = {
    "bridge": [
        Flood(limit="loop", topic="site-7/meter/1", count=300, passes=50, refill=5, refused="0x00", qos=1,
              client_id="site-7", username="site-7", bridge=True),
        Flood(limit="payload", topic="site-7/report", count=3, passes=0, refused="0x00", qos=1, size=70_000,
              client_id="site-7", username="site-7", bridge=True),
        Flood(limit="in-flight", topic="site-9/meter/{}", count=400, passes=200, delayed=True, qos=1,
              client_id="site-9", username="site-9", bridge=True),
        Flood(limit="applications", topic="ack/1", count=22, passes=20, refill=2, delayed=True, qos=1, version=V5,
              client_id="app", username="app-1"),
        Flood(limit="foreign-bridge", topic="x", count=9, passes=5, refused="closed",
              client_id="elsewhere", username="elsewhere", bridge=True),
    ],
    "dashboards": [
        Flood(limit="refresh", topic="plant/1/speed", count=200, passes=10, refill=1, client_id="plc"),
        Flood(limit="buttons", topic="lamp/set", count=100, passes=20, refill=2, refused="closed", version=V5,
              client_id="wall", username="dash-1"),
        Flood(limit="retained", topic="plant/1/state", count=200, passes=120, refill=0.1, refused="0x97", qos=1,
              version=V5, client_id="keeper", retain=True),
        Flood(limit="fan-out", topic="plant/1/report", count=1800, passes=1500, refill=400, delayed=True, qos=1,
              client_id="reporter"),
    ],
    "factory-plcs": [
        Flood(limit="readings", topic="plant/1/readings/t", count=30, passes=20, refill=10, delayed=True, qos=1,
              version=V5, client_id="sensor-1"),
        Flood(limit="in-flight", topic="plant/1/tags", count=300, passes=20, delayed=True, qos=1, client_id="gateway"),
        Flood(limit="one-tag", topic="plant/1/readings/door", count=500, passes=100, refill=50, refused="0x00", qos=1,
              client_id="press", username="plc-1"),
        Flood(limit="set-points", topic="plant/1/set/speed", count=60, passes=10, refill=1, refused="closed",
              version=V5, client_id="laptop", username="engineer"),
        Flood(limit="alarm-flood", topic="plant/1/alarm/door", count=50, passes=50, client_id="press",
              username="plc-1"),
    ],
    "firmware-updates": [
        Flood(limit="images", topic="firmware/m1/image", count=6, passes=3, refused="0x97", qos=1, version=V5,
              client_id="build", username="firmware", retain=True, size=200_000),
        Flood(limit="image-size", topic="firmware/m2/image", count=1, passes=0, refused="0x97", qos=1, version=V5,
              client_id="build", username="firmware", size=2_100_000),
        Flood(limit="device", topic="device/7/dump", count=2, passes=0, refused="0x00", qos=1, size=20_000,
              client_id="device-7"),
        Flood(limit="device", topic="device/8/log", count=328, passes=319, refill=10, delayed=True, qos=1, version=V5,
              size=185, client_id="device-8"),
        Flood(limit="progress", topic="firmware/m1/progress/9", count=100, passes=5, refill=1, refused="0x00", qos=1,
              client_id="device-9"),
    ],
    "home-assistant": [
        Flood(limit="discovery", topic="homeassistant/sensor/kitchen/t/config", count=300, passes=60, refill=1,
              refused="0x97", qos=1, version=V5, client_id="kitchen", retain=True),
        Flood(limit="discovery-storm", topic="homeassistant/light/1/config", count=640, passes=500, refill=200,
              delayed=True, qos=1, client_id="hub", username="hub-1"),
        Flood(limit="birth", topic="homeassistant/status", count=30, passes=6, client_id="loop"),
        Flood(limit="states", topic="cellar/temperature", count=500, passes=100, refill=5, refused="0x00", qos=1,
              client_id="cellar"),
        Flood(limit="entity", topic="zigbee2mqtt/plug", count=300, passes=20, refill=2, client_id="z2m",
              username="zigbee2mqtt"),
        Flood(limit="payload", topic="camera/picture", count=1, passes=0, refused="0x97", qos=1, version=V5,
              size=300_000, client_id="camera", username="homeassistant"),
    ],
    "public-broker": [
        Flood(limit="client", topic="try/me", count=300, passes=50, refill=10, refused="0x97", qos=1, version=V5),
        Flood(limit="client", topic="try/me", count=300, passes=50, refill=10, refused="0x00", qos=1),
        Flood(limit="retained-size", topic="try/large", count=1, passes=0, refused="0x97", qos=1, version=V5,
              retain=True, size=2000),
        Flood(limit="retained", topic="try/kept", count=45, passes=30, refused="0x97", qos=1, version=V5,
              retain=True),
    ],
    "sparkplug-b": [
        Flood(limit="commands", topic="spBv1.0/g/NCMD/n", count=100, passes=5, refill=0.5, client_id="scada",
              username="scada"),
        Flood(limit="data", topic="spBv1.0/g/NDATA/o", count=2040, passes=2000, refill=50, delayed=True, qos=1,
              client_id="o", username="edge"),
        Flood(limit="device-births", topic="spBv1.0/g/DBIRTH/n/d", count=900, passes=500, refill=2, refused="closed",
              client_id="n", username="edge"),
        Flood(limit="not-a-host", topic="spBv1.0/g/NCMD/n", count=3, passes=1, refused="closed", version=V5,
              client_id="m", username="edge"),
        Flood(limit="host-state", topic="spBv1.0/STATE/scada", count=20, passes=4, refused="0x00", qos=1,
              client_id="scada", username="scada", retain=True),
        Flood(limit="births", topic="spBv1.0/g/NBIRTH/n", count=20, passes=20, client_id="n", username="edge"),
    ],
    "tenants": [
        Flood(limit="device", topic="acme/1", count=300, passes=50, refill=5, refused="0x97", qos=1, version=V5,
              client_id="a1", username="acme:1"),
        Flood(limit="tenant-messages", topic="initech/all", count=1110, passes=1000, refill=100, delayed=True,
              username="initech:{}"),
        Flood(limit="no-tenant", topic="lost", count=500, passes=100, refill=10, refused="0x00", qos=1,
              username="monitor"),
        Flood(limit="retained", topic="umbrella/kept", count=49, passes=40, refill=1 / 3, refused="0x97", qos=1,
              version=V5, retain=True, client_id="u", username="umbrella:1"),
    ],
    "test-stand": [
        Flood(limit="samples", topic="stand/1/samples/7", count=6000, passes=1600, refill=1600, client_id="daq",
              username="daq-1"),
        Flood(limit="scripts", topic="scratch", count=500, passes=200, refill=20, refused="closed", version=V5,
              client_id="laptop", username="dev-ann"),
        Flood(limit="set-values", topic="stand/1/set/idle", count=21, passes=20, refill=2, delayed=True, qos=1,
              version=V5, client_id="plan", username="plan"),
        Flood(limit="set-values", topic="stand/1/set/idle", count=3000, passes=3000, client_id="plc",
              username="controller"),
    ],
    "zigbee2mqtt-home": [
        Flood(limit="device", topic="zigbee2mqtt/plug", count=300, passes=20, refill=2, client_id="z2m",
              username="zigbee2mqtt"),
        Flood(limit="commands", topic="zigbee2mqtt/lamp/get", count=50, passes=40, refill=10, delayed=True, qos=1,
              client_id="scene"),
        Flood(limit="one-lamp", topic="zigbee2mqtt/lamp/set", count=100, passes=15, refill=2, refused="0x97", qos=1,
              version=V5, client_id="ha", username="homeassistant"),
        Flood(limit="bridge-requests", topic="zigbee2mqtt/bridge/request/networkmap", count=60, passes=10, refill=0.2,
              refused="0x00", qos=1, client_id="script"),
        Flood(limit="log", topic="zigbee2mqtt/bridge/logging", count=600, passes=100, refill=5, client_id="z2m",
              username="zigbee2mqtt"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_is_good_and_can_be_served(file: Path) -> None:
    result = check(file)
    assert (result.problems, result.warnings, result.unenforced) == ([], [], [])
    assert result.limits >= 3


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_situation_and_every_limit_are_explained(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert all(line.startswith("#") for line in lines[:4])
    assert any("Without limits" in line for line in lines)
    for number, line in enumerate(lines):
        if line == "[[limit]]":
            assert lines[number - 1].startswith("# "), f"{file.name}:{number + 1}: no comment above the limit"


def test_the_readme_lists_them_all() -> None:
    listed = re.findall(r"^\| \[(.+?)\]\(\1\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == [file.name for file in FILES]
    assert set(SCENARIOS) == {file.stem for file in FILES}


def copy_of(file: Path, gateway: Gateway, broker: Broker) -> None:
    """Write the example where the gateway reads it, with places that are free here."""
    ours = {
        "listen": f'"tcp://127.0.0.1:{gateway.port}"',
        "broker": f'"{broker.unix}"',
        "state_dir": f'"{gateway.state_dir}"',
    }
    text = file.read_text()
    for key in OVERRIDDEN:
        text, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {ours[key]}", text)
        assert found == 1, f"{file.name} sets {key} {found} times"
    gateway.config.write_text(f'{text}\n[admin]\nlisten = "127.0.0.1:{gateway.admin_port}"\n')


@pytest.fixture
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Limited]:
    broker = Broker(tmp_path / "b", f"{UNBOUNDED}\nmax_packet_size 4000000\n")
    made = Gateway(tmp_path / "g", broker.unix)
    copy_of(request.param, made, broker)
    broker.start()
    try:
        made.start()
        yield Limited(broker, made)
        made.stop()
    finally:
        made.end()
        broker.stop()


@pytest.mark.parametrize("gateway", FILES, ids=lambda file: file.stem, indirect=True)
def test_its_limits_bite(gateway: Limited, request: pytest.FixtureRequest) -> None:
    stem = request.node.callspec.id
    policy = load(EXAMPLES / f"{stem}.toml").policy
    if stem in CROWDS:
        come(gateway, CROWDS[stem])
        assert gateway.metric("tidegate_limited_total", limit=CROWDS[stem].limit) > 0
    if stem in ASKED:
        ask(gateway, ASKED[stem])
    if stem in SENT:
        receive(gateway, SENT[stem])
        assert gateway.metric("tidegate_limited_total", limit=SENT[stem].limit) > 0
    if stem in PATIENT:
        come_back(gateway, PATIENT[stem], TOLD_AT_ONCE[stem])
    for flood in SCENARIOS[stem]:
        assert flood.limit in {limit.name for limit in policy.limits}
        told_off = gateway.metric("tidegate_limited_total", limit=flood.limit)
        play(gateway, flood)
        if flood.passes < flood.count:
            assert gateway.metric("tidegate_limited_total", limit=flood.limit) > told_off, flood


def come(gateway: Limited, crowd: Crowd) -> None:
    """Connect, and compare what is answered."""
    flags, rest = login(crowd.username)
    begun = time.monotonic()
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port, V5)) for _ in range(crowd.count)]
        for number, client in enumerate(clients):
            client.send(wire.connect(V5, crowd.client_id.format(number), flags=0x02 | flags, rest=rest))
        answers = [wire.tell(client.read() or b"", V5) for client in clients]
    accepted = answers.count("CONNACK 0x00")
    assert accepted <= crowd.passes + int(crowd.refill * (time.monotonic() - begun)) + 1, crowd
    if crowd.refused:
        assert set(answers) == {"CONNACK 0x00", crowd.refused}, (crowd, answers)
        assert accepted >= crowd.passes
    else:
        assert accepted == crowd.count, (crowd, answers)


def ask(gateway: Limited, asked: dict[str, str]) -> None:
    """Subscribe to all in one packet."""
    with join(gateway.port, "asks", V5) as client:
        suback = wire.body_of(client.exchange(wire.subscribe(V5, *((one, 2) for one in asked))))
        assert [f"0x{reason:02X}" for reason in suback[-len(asked) :]] == [*asked.values()]


def come_back(gateway: Limited, patient: str | None, told: str) -> None:
    """Lose a client's connection, and have it back; nobody hears its will."""
    with Watcher(gateway.broker, "back", "other") as watcher:
        join(gateway.port, "flaps", username=patient, will="back").close()
        with join(gateway.port, "flaps", username=patient, will="back") as client:
            client.send(wire.DISCONNECT)
            assert client.read() is None
        join(gateway.port, "goes", username=told, will="other").close()
        assert watcher.messages_until("other") == []
    assert gateway.metric("tidegate_wills_total", outcome="returned") == 1


def receive(gateway: Limited, sent: Sent) -> None:
    """Subscribe, have it published, and compare what comes until the last."""
    with join(gateway.port, sent.client_id, username=sent.username) as client, RawClient(gateway.broker.port) as source:
        client.exchange(wire.subscribe(client.version, (sent.topic, sent.qos)))
        source.connect(unique("source"))
        begun = time.monotonic()
        source.send(burst(source.version, sent.topic, sent.count, sent.qos))
        came: list[int] = []
        at_once = 0
        if not sent.refill:  # what is in flight at most; an answer to a ping does not wait behind it
            for line in until_ping(client, source, sent.passes):
                assert line[0] >> 4 == 3, line.hex()
                at_once += 1
                came.append(number_of(line, sent))
            acknowledge(client, came)
        while sent.count not in came:
            data = client.read()
            assert data is not None
            came.append(number_of(data, sent))
            if sent.qos:
                acknowledge(client, came[-1:])
        elapsed = time.monotonic() - begun
    assert at_once == (0 if sent.refill else sent.passes), sent
    assert came == sorted(came), sent
    if sent.newest:
        assert sent.passes <= len(came) < sent.count, (sent, len(came))
    else:
        assert len(came) == sent.count, sent
    if sent.refill:
        assert len(came) <= sent.passes + int(sent.refill * elapsed) + 1, (sent, len(came), elapsed)


def until_ping(client: RawClient, source: RawClient, count: int) -> Iterator[bytes]:
    """So many packets, which are waited for, and what else comes until a ping is answered after all was published."""
    assert source.exchange(wire.PINGREQ)
    for _ in range(count):
        data = client.read()
        assert data is not None
        yield data
    client.send(wire.PINGREQ)
    while (data := client.read()) != wire.PINGRESP:
        assert data is not None
        yield data


def number_of(data: bytes, sent: Sent) -> int:
    """The payload of a message of version 3.1.1, which is its number."""
    return int(wire.body_of(data)[2 + len(sent.topic) + (2 if sent.qos else 0) :])


def acknowledge(client: RawClient, packet_ids: list[int]) -> None:
    """The broker numbers what it sends a new client from 1, as the messages are numbered."""
    client.send(b"".join(b"\x40\x02" + one.to_bytes(2, "big") for one in packet_ids))


def play(gateway: Limited, flood: Flood) -> None:
    """Flood, and compare what arrives and what is answered."""
    with Watcher(gateway.broker, flood.topic.format("+"), WILL) as watcher, clients_of(gateway, flood) as clients:
        begun = time.monotonic()
        closed, codes = sent(clients, flood)
        # Who is thrown out has left messages on their way to the broker: the will comes behind them.
        messages = watcher.messages_until(WILL) if closed else watcher.at_least(flood.count if flood.delayed else 0)
        elapsed = time.monotonic() - begun
        if not closed:
            for client in clients:
                client.send(wire.DISCONNECT)
    arrived = len(messages)
    assert closed == (flood.refused == "closed"), flood
    most = flood.passes + int(flood.refill * elapsed) + 1
    if flood.delayed:
        assert (arrived, codes) == (flood.count, ["0x00"] * (flood.count if flood.qos else 0)), flood
        assert arrived <= most or not flood.refill, (flood, elapsed)
        return
    assert flood.passes <= arrived <= min(most, flood.count), (flood, arrived, elapsed)
    if flood.refused.startswith("0x") and flood.qos:
        assert len(codes) == flood.count, flood
        assert set(codes) == ({"0x00", flood.refused} if arrived else {flood.refused}), (flood, codes)
        if flood.refused != "0x00":
            assert codes.count("0x00") == arrived, flood


@contextmanager
def clients_of(gateway: Limited, flood: Flood) -> Iterator[list[RawClient]]:
    """Who floods: one client, or thirty where the user name has `{}`."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                join(
                    gateway.port,
                    flood.client_id or unique("flood"),
                    flood.version,
                    username=flood.username and flood.username.format(number),
                    bridge=flood.bridge,
                    will=WILL,
                )
            )
            for number in range(30 if "{}" in (flood.username or "") else 1)
        ]


def sent(clients: list[RawClient], flood: Flood) -> tuple[bool, list[str]]:
    """Whether a connection was closed, and the codes of acknowledgements."""
    count = flood.count // len(clients)
    codes: list[str] = []
    for client in clients:
        client.send(packets(flood, count))
    return not all(acknowledged(client, flood, count, codes) for client in clients), codes


def packets(flood: Flood, count: int) -> bytes:
    """The whole flood of one client."""
    return b"".join(
        burst(
            flood.version,
            flood.topic.format(first // 40),
            min(40, count + 1 - first),
            flood.qos,
            first_id=first,
            retain=flood.retain,
            payload=bytes(flood.size),
        )
        for first in range(1, count + 1, 40)
    )


def acknowledged(client: RawClient, flood: Flood, count: int, codes: list[str]) -> bool:
    """Note the codes of all acknowledgements; False when the connection ended before."""
    wanted = len(codes) + count if flood.delayed and flood.qos else 0
    client.send(wire.PINGREQ)
    pinged = False
    # An answer to a ping overtakes what is delayed.
    while not pinged or len(codes) < wanted:
        data = client.read()
        if data is None:
            return False
        pinged |= data == wire.PINGRESP
        if data[0] >> 4 == 4:
            codes.append(f"0x{answer_of(data).reason:02X}" if flood.version == V5 else "0x00")
    return True
