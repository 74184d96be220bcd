"""Bans by hand in front of a gateway that runs, over its restart, and what is wrong with their file."""

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from support import wire
from support.broker import Broker
from support.gateway import Gateway, tidegate_binary
from support.raw import CLOSED, OPEN, RawClient
from support.wait import GUARD, until

MakeGateway = Callable[..., Gateway]


class Told:
    """What `tidegate ban` said for a gateway's file, and its exit code."""

    def __init__(self, gateway: Gateway, command: str, *options: str) -> None:
        done = subprocess.run(
            [tidegate_binary(), "ban", command, "-c", gateway.config, *options],
            capture_output=True,
            text=True,
            timeout=GUARD,
            check=False,
        )
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert "Traceback" not in self.err


def banned(gateway: Gateway) -> float:
    """How many the running gateway has banned by hand."""
    found = re.search(r'^tidegate_bans\{limit=""\} (\S+)$', gateway.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.fixture
def gateway(make_gateway: MakeGateway, broker: Broker) -> Gateway:
    """One that is not started yet; the broker is."""
    broker.start()
    return make_gateway(broker.unix, workers=2)


@pytest.fixture
def running(gateway: Gateway) -> Iterator[Gateway]:
    gateway.start()
    yield gateway
    gateway.stop()


def test_a_running_gateway_goes_by_it_at_once(running: Gateway) -> None:
    told = Told(running, "add", "--ip", "192.0.2.7", "--note", "scans")
    assert (told.code, told.err) == (0, "")
    assert told.out.endswith(f"in force: all workers of the gateway (pid {running.process.pid}) go by it\n")
    assert banned(running) == 1
    assert Told(running, "list").out.count("\n") == 2
    told = Told(running, "remove", "--ip", "192.0.2.7")
    assert told.code == 0
    assert told.out.startswith("lifted 1 ban\nin force: ")
    assert banned(running) == 0
    assert Told(running, "remove", "--ip", "192.0.2.7").code == 1


def test_commands_at_the_same_time_lose_nothing(running: Gateway) -> None:
    command = [str(tidegate_binary()), "ban", "add", "-c", str(running.config), "--client-id"]
    processes = [subprocess.Popen([*command, f"c{number}"], stdout=subprocess.DEVNULL) for number in range(6)]
    assert [process.wait(GUARD) for process in processes] == [0] * 6
    assert banned(running) == 6


def test_a_ban_outlives_the_gateway_and_may_come_before_it(gateway: Gateway) -> None:
    told = Told(gateway, "add", "--client-id", "early", "--forever")
    assert (told.code, told.err) == (0, "")
    assert told.out.endswith("no gateway runs: it holds from the next start on\n")
    gateway.start()
    assert banned(gateway) == 1
    assert Told(gateway, "add", "--client-id", "late").code == 0
    children = gateway.children()
    gateway.process.stop(signal.SIGKILL)
    psutil.wait_procs(children, timeout=GUARD)
    gateway.start()
    assert banned(gateway) == 2
    gateway.stop()
    assert len(json.loads(Told(gateway, "list", "--json").out)) == 2


def test_a_worker_that_replaces_a_killed_one_is_waited_for(running: Gateway) -> None:
    for worker in running.workers():
        worker.kill()
    until(lambda: "worker died" in running.process.stderr(), "the death to be noticed")
    told = Told(running, "add", "--ip", "192.0.2.7")
    assert (told.code, told.err) == (0, "")
    until(running.ready, "both successors")
    assert Told(running, "add", "--ip", "192.0.2.8").code == 0


def test_a_broken_file_is_said_and_kept_and_the_gateway_starts(gateway: Gateway) -> None:
    gateway.state_dir.mkdir()
    file = gateway.state_dir / "bans.json"
    file.write_text("nonsense\n")
    gateway.start()
    said = gateway.process.stderr()
    assert f"{file}:1: not JSON: " in said
    assert f"it is kept as {file}.broken" in said
    assert Path(f"{file}.broken").read_text() == "nonsense\n"
    assert Told(gateway, "add", "--ip", "192.0.2.7").code == 0
    assert banned(gateway) == 1
    gateway.stop()


def test_a_command_while_the_gateway_starts_does_not_end_it(gateway: Gateway) -> None:
    gateway.launch()
    until((gateway.state_dir / "lock").exists, "the lock")
    told = Told(gateway, "add", "--ip", "192.0.2.7")
    assert told.code == 0, told.err
    until(gateway.ready, "the gateway")
    assert banned(gateway) == 1
    gateway.stop()


def test_who_is_banned_by_hand_is_refused_and_let_in_again(running: Gateway) -> None:
    def refused() -> str:
        with RawClient(running.port, wire.V5) as client:
            return wire.tell(client.exchange(wire.connect(wire.V5, "eve")), wire.V5)

    with RawClient(running.port) as client:
        client.connect("eve")
    assert Told(running, "add", "--client-id", "eve").code == 0
    assert refused().startswith("CONNACK 0x8A")
    with RawClient(running.port) as client:
        client.connect("bob")
    told = Told(running, "add", "--ip", "127.0.0.1")
    assert (told.code, told.err) == (
        0,
        "note: this covers what connects from this machine itself, unless it is exempt\n",
    )
    with RawClient(running.port) as client:
        client.send(wire.connect(wire.V311, "bob"))
        assert client.until_closed() == [CLOSED]
    assert Told(running, "remove", "--all").code == 0
    with RawClient(running.port) as client:
        client.connect("eve")


def test_who_is_banned_by_hand_goes_at_once(running: Gateway) -> None:
    with RawClient(running.port, wire.V5) as evil, RawClient(running.port, wire.V5) as good:
        evil.connect("evil")
        good.connect("good")
        assert Told(running, "add", "--client-id", "evil").code == 0
        assert evil.until_closed()[-2:] == ["DISCONNECT 0x98", CLOSED]
        assert good.until_fence() == [OPEN]
