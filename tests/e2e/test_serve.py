"""`tidegate serve` as an operator meets it: it starts, says what is wrong, survives, and leaves nothing behind."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from support import wire
from support.broker import Broker
from support.gateway import Gateway, tidegate_binary
from support.process import Process
from support.raw import CLOSED, RawClient
from support.wait import GUARD, until

MakeGateway = Callable[..., Gateway]
VERSIONS = {"3.1": wire.V31, "3.1.1": wire.V311, "5": wire.V5}
SERVER_UNAVAILABLE = {wire.V31: "CONNACK 0x03", wire.V311: "CONNACK 0x03", wire.V5: "CONNACK 0x88"}


def shared_memory() -> set[str]:
    """What lies in /dev/shm under a name of ours."""
    return {name for name in os.listdir("/dev/shm") if "tidegate" in name}


def sockets_in(directory: Path) -> list[Path]:
    """The Unix sockets below a directory."""
    return [path for path in directory.rglob("*") if path.is_socket()]


def assert_nothing_left(gateway: Gateway, processes: list[psutil.Process], shm: set[str]) -> None:
    """No process of the gateway's, no socket of its state directory, no shared memory, and its port is free."""
    _, alive = psutil.wait_procs(processes, timeout=GUARD)
    assert alive == []
    until(lambda: not sockets_in(gateway.state_dir), "the private socket to be removed")
    assert shared_memory() <= shm
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", gateway.port))


def test_embedded_broker_serves_the_command_line_tools(make_gateway: MakeGateway, tmp_path: Path) -> None:
    gateway = make_gateway(None)
    shm = shared_memory()
    gateway.start()
    place = ["-h", "127.0.0.1", "-p", str(gateway.port)]
    # Retained, so that it does not matter which of the two is faster.
    publish = ["mosquitto_pub", *place, "-t", "plant/1/t", "-m", "hi", "-r", "-q", "1"]
    subprocess.run(publish, check=True, timeout=GUARD)
    subscriber = Process(["mosquitto_sub", *place, "-v", "-t", "plant/#", "-C", "1"], tmp_path / "sub")
    subscriber.start()
    try:
        assert subscriber.wait() == 0
    finally:
        subscriber.end()
    assert subscriber.stdout() == "plant/1/t hi\n"
    children = gateway.children()
    assert "mosquitto" in {child.name() for child in children}
    gateway.stop()
    assert_nothing_left(gateway, children, shm)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_in_order_and_tells_its_clients(make_gateway: MakeGateway, broker: Broker, number: signal.Signals) -> None:
    broker.start()
    gateway = make_gateway(broker.unix)
    gateway.start()
    children = gateway.children()
    with RawClient(gateway.port, wire.V5) as v5, RawClient(gateway.port) as v3:
        v5.connect("five")
        v3.connect("three")
        gateway.process.send(number)
        assert v5.until_closed() == ["DISCONNECT 0x8B", CLOSED]
        assert v3.until_closed() == [CLOSED]
    assert gateway.process.wait() == 0
    assert "Traceback" not in gateway.process.stderr()
    assert_nothing_left(gateway, children, shared_memory())


def test_killed_supervisor_leaves_nothing_and_can_be_started_again(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(None)
    shm = shared_memory()
    gateway.start()
    children = gateway.children()
    assert len(children) >= 3  # two workers and the broker
    with RawClient(gateway.port) as client:
        client.connect("orphan")
        assert gateway.process.stop(signal.SIGKILL) == -signal.SIGKILL
        assert client.until_closed() == [CLOSED]
    assert_nothing_left(gateway, children, shm)
    gateway.start()
    with RawClient(gateway.port) as client:
        client.connect("after")
    gateway.stop()


def test_killed_worker_is_replaced_and_costs_only_its_own_clients(make_gateway: MakeGateway, broker: Broker) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, workers=2)
    gateway.start()
    clients: dict[int, RawClient] = {}
    try:
        # The kernel spreads connections over the workers: connect until each has one.
        for number in range(200):
            client = RawClient(gateway.port)
            client.connect(f"c{number}")
            worker = gateway.worker_of(client.local_port)
            assert worker is not None
            clients.setdefault(worker.pid, client)
            if clients[worker.pid] is not client:
                client.close()
            if len(clients) == 2:
                break
        (doomed, lost), (_, kept) = clients.items()
        psutil.Process(doomed).kill()
        assert lost.until_closed() == [CLOSED]
        assert kept.exchange(wire.PINGREQ) == wire.PINGRESP
        # Whoever comes back is served, also by the socket of the one that died.
        for number in range(8):
            with RawClient(gateway.port) as again:
                again.connect(f"again{number}")
        until(lambda: len(gateway.workers()) >= 2 and gateway.get("/healthz").status_code == 200, "a new worker")
        assert kept.exchange(wire.PINGREQ) == wire.PINGRESP
        assert "tidegate_worker_restarts_total 1.0" in gateway.get("/metrics").text
        until(gateway.ready, "readiness")
    finally:
        for client in clients.values():
            client.close()
    gateway.stop()


def failed_start(gateway: Gateway) -> str:
    """What a gateway that cannot start says; its exit code must be 1."""
    gateway.launch()
    assert gateway.process.wait() == 1, gateway.process.stderr()
    said = gateway.process.stderr()
    assert "Traceback" not in said
    return said


def test_second_one_on_the_same_state_names_the_first(make_gateway: MakeGateway, broker: Broker) -> None:
    broker.start()
    first = make_gateway(broker.unix, workers=1)
    second = make_gateway(broker.unix, workers=1)
    second.config.write_text(second.config.read_text().replace(str(second.state_dir), str(first.state_dir)))
    first.start()
    said = failed_start(second)
    assert str(first.state_dir) in said
    assert f"pid {first.process.pid}" in said
    assert f"127.0.0.1:{first.admin_port}" in said
    first.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_port_that_is_taken_names_its_holder(make_gateway: MakeGateway, broker: Broker, workers: int) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, workers=workers)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", gateway.port))
        holder.listen()
        said = failed_start(gateway)
    assert f"{gateway.config}:2:" in said
    assert str(gateway.port) in said
    assert str(os.getpid()) in said


def test_wrong_configuration_tells_all_errors_at_once(tmp_path: Path) -> None:
    config = tmp_path / "tidegate.toml"
    config.write_text(
        '[gateway]\nworkres = 2\nlisten = "udp://0.0.0.0:1883"\nmax_packet = "many"\nconnect_timeout = 5\n\n[admni]\n'
    )
    process = Process([tidegate_binary(), "serve", "-c", config], tmp_path / "serve")
    process.start()
    assert process.wait() == 2
    lines = process.stderr().splitlines()
    for number, key in ((2, "workres"), (3, "listen"), (4, "max_packet"), (7, "admni")):
        (line,) = [line for line in lines if line.startswith(f"{config}:{number}:")]
        assert key in line
    assert "workers" in process.stderr()
    assert "admin" in process.stderr()
    assert not any(line.startswith(f"{config}:1:") for line in lines)


def test_missing_configuration_file(tmp_path: Path) -> None:
    process = Process([tidegate_binary(), "serve", "-c", tmp_path / "none.toml"], tmp_path / "serve")
    process.start()
    assert process.wait() == 2
    assert "none.toml" in process.stderr()
    assert "Traceback" not in process.stderr()


def refused(gateway: Gateway, version: int) -> list[str]:
    """What a CONNECT is answered."""
    with RawClient(gateway.port, version) as client:
        client.send(wire.connect(version, "hopeful"))
        return client.until_fence()


def accepted(gateway: Gateway) -> bool:
    """Whether a CONNECT is accepted now."""
    return refused(gateway, wire.V311)[0] == "CONNACK 0x00"


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_broker_that_is_down_and_comes_back(make_gateway: MakeGateway, broker: Broker, kind: str) -> None:
    gateway = make_gateway(getattr(broker, kind), workers=1)
    gateway.launch()
    until(lambda: "serving" in gateway.process.stderr(), "the start without a broker")
    for version, answer in SERVER_UNAVAILABLE.items():
        assert refused(gateway, version) == [answer, CLOSED]
    assert gateway.get("/healthz").status_code == 200
    assert gateway.get("/readyz").status_code == 503
    assert "tidegate_upstream_up 0.0" in gateway.get("/metrics").text
    broker.start()
    until(lambda: accepted(gateway), "the broker to be reached")
    until(gateway.ready, "readiness")
    until(lambda: "tidegate_upstream_up 1.0" in gateway.get("/metrics").text, "the probe to see the broker")
    gateway.stop()


def test_broker_that_is_killed_under_its_clients(make_gateway: MakeGateway, broker: Broker) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, workers=1)
    gateway.start()
    with RawClient(gateway.port, wire.V5) as v5, RawClient(gateway.port) as v3:
        v5.connect("five")
        v3.connect("three")
        broker.kill()
        assert v5.until_closed() == ["DISCONNECT 0x8B", CLOSED]
        assert v3.until_closed() == [CLOSED]
    assert refused(gateway, wire.V5) == ["CONNACK 0x88", CLOSED]
    broker.start()
    until(lambda: accepted(gateway), "the broker to be reached again")
    gateway.stop()


def test_killed_embedded_broker_is_started_again(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(None, workers=1)
    gateway.start()
    (mosquitto,) = [child for child in gateway.children() if child.name() == "mosquitto"]
    mosquitto.kill()
    until(lambda: has_ended(mosquitto), "its end")
    until(lambda: accepted(gateway), "its successor")
    (successor,) = [child for child in gateway.children() if child.name() == "mosquitto"]
    assert successor.pid != mosquitto.pid
    gateway.stop()


def has_ended(process: psutil.Process) -> bool:
    """Also of one that is gone between two questions about it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def value_of(text: str, sample: str) -> float:
    """The value of one sample of /metrics, 0 where it is absent."""
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_admin_endpoint_tells_what_happened(make_gateway: MakeGateway, broker: Broker) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, workers=1)
    gateway.start()
    assert (gateway.get("/healthz").status_code, gateway.get("/readyz").status_code) == (200, 200)
    before = gateway.get("/metrics").text
    with RawClient(gateway.port) as client:
        client.connect("counted")
        client.exchange(wire.publish(wire.V311, "t", b"x", first=0x32, packet_id=1))
        during = gateway.get("/metrics").text
        client.send(wire.publish(wire.V311, "t/#"))
        assert client.until_closed() == [CLOSED]
    after = gateway.get("/metrics").text

    def gained(sample: str) -> float:
        return value_of(during, sample) - value_of(before, sample)

    # The readiness probe is a client too, so that some counts are at least what this client did.
    assert gained('tidegate_packets_total{direction="from_client",type="connect"}') >= 1
    assert gained('tidegate_packets_total{direction="from_client",type="publish"}') >= 1
    assert gained('tidegate_packets_total{direction="from_broker",type="puback"}') >= 1
    assert value_of(during, 'tidegate_connections{worker="0"}') >= 1
    assert value_of(during, "tidegate_upstream_up") == 1
    assert value_of(before, 'tidegate_malformed_total{reason="topic"}') == 0
    assert value_of(after, 'tidegate_malformed_total{reason="topic"}') == 1
    for family in ("tidegate_loop_lag_seconds_bucket", "tidegate_process_cpu_seconds_total", "tidegate_build_info"):
        assert family in after
    gateway.stop()


def test_logs_are_json_on_request(make_gateway: MakeGateway, broker: Broker) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, tables='[log]\nformat = "json"')
    gateway.start()
    gateway.stop()
    lines = [json.loads(line) for line in gateway.process.stderr().splitlines()]
    assert {"time", "level", "process", "event"} <= set.intersection(*(set(line) for line in lines))
    events = [line["event"] for line in lines]
    assert "serving" in events
    assert events[-1] == "stopped"


def test_version() -> None:
    done = subprocess.run([tidegate_binary(), "--version"], capture_output=True, text=True, check=True, timeout=GUARD)
    assert re.fullmatch(r"tidegate, version \d+\.\d+\.\d+\n", done.stdout)
