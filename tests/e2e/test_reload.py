"""New limits for a gateway that runs: by SIGHUP and by `tidegate reload`, while clients stay connected."""

import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from support import wire
from support.broker import Broker
from support.gateway import Gateway, tidegate_binary
from support.limited import join
from support.raw import OPEN, RawClient
from support.wait import GUARD, until

MakeGateway = Callable[..., Gateway]
PASSED, QUOTA_EXCEEDED = 0x10, 0x97
"""Nobody subscribes: the broker says so of what it got."""

# By the hour: however slow the machine, no budget grows while a test runs.
LIMIT = """\
[[limit]]
name = "{name}"
topic = "{topic}"
rate = "{rate}/h"
on_excess = {{ v3 = "drop", default = "reject" }}
"""
NOT_YET = '[[limit]]\nname = "later"\nrate = "1/s"\nshared = true\n'
DOUBTFUL = '[class.guest]\nclient_id = "guest-*"\nexempt = true\n'


def limit(name: str, rate: int, topic: str = "#") -> str:
    """So many messages an hour for each client."""
    return LIMIT.format(name=name, rate=rate, topic=topic)


class Tables:
    """The file of a gateway, whose limits can be written anew."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._text = gateway.config.read_text()

    def write(self, policy: str) -> int:
        """Replace all limits; the line at which they begin."""
        self._gateway.config.write_text(self._text + policy)
        return self._text.count("\n") + 1


class Told:
    """What a command said, and its exit code."""

    def __init__(self, *arguments: str | Path) -> None:
        done = subprocess.run(
            [tidegate_binary(), *arguments], capture_output=True, text=True, timeout=GUARD, check=False
        )
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr
        assert "Traceback" not in self.err


def reload(gateway: Gateway) -> Told:
    """`tidegate reload` for its file."""
    return Told("reload", "-c", gateway.config)


def publish(client: RawClient, topic: str, count: int) -> list[int]:
    """The reasons with which so many messages of QoS 1 are acknowledged."""
    reasons = []
    for _ in range(count):
        puback = client.exchange(wire.publish(wire.V5, topic, b"x", first=0x32, packet_id=1))
        reasons.append(int(wire.tell(puback, wire.V5).removeprefix("PUBACK id 1 "), 16))
    return reasons


def metric(gateway: Gateway, sample: str) -> float:
    """The value of one sample of /metrics; 0 where it is absent."""
    found = re.search(rf"^{re.escape(sample)} (\S+)$", gateway.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@pytest.fixture
def gateway(make_gateway: MakeGateway, broker: Broker) -> Gateway:
    """One without limits, not started yet; the broker is."""
    broker.start()
    return make_gateway(broker.unix, workers=1)


@pytest.fixture
def tables(gateway: Gateway) -> Tables:
    """Its file, which has a single limit of two an hour."""
    made = Tables(gateway)
    made.write(limit("two", 2))
    return made


@pytest.fixture
def client(gateway: Gateway, tables: Tables) -> Iterator[RawClient]:
    """Connected before anything is changed, and for as long as the test lasts."""
    gateway.start()
    with join(gateway.port, "steady", wire.V5) as made:
        yield made
        assert made.until_fence() == [OPEN]
    gateway.stop()


def test_the_command_puts_the_file_in_force_for_who_is_connected(
    gateway: Gateway, tables: Tables, client: RawClient
) -> None:
    assert publish(client, "a", 3) == [PASSED, PASSED, QUOTA_EXCEEDED]
    tables.write(limit("three", 3, "b") + limit("one", 1, "c"))
    told = reload(gateway)
    assert (told.code, told.err) == (0, "")
    assert told.out == "reloaded: 2 limits in force, generation 2 of the policy\n"
    until(lambda: publish(client, "a", 1) == [PASSED], "the worker to follow")
    assert publish(client, "b", 4) == [PASSED] * 3 + [QUOTA_EXCEEDED]
    assert publish(client, "c", 2) == [PASSED, QUOTA_EXCEEDED]
    assert metric(gateway, "tidegate_policy_generation") == 2


def test_a_hangup_does_the_same(gateway: Gateway, tables: Tables, client: RawClient) -> None:
    assert publish(client, "a", 3)[-1] == QUOTA_EXCEEDED
    tables.write(limit("other", 1, "b"))
    gateway.process.send(signal.SIGHUP)
    until(lambda: publish(client, "a", 1) == [PASSED], "the new policy")
    assert publish(client, "b", 2) == [PASSED, QUOTA_EXCEEDED]
    assert "policy reloaded" in gateway.process.stderr()


def test_a_limit_that_stays_keeps_its_budget_and_its_counts(
    gateway: Gateway, tables: Tables, client: RawClient
) -> None:
    assert publish(client, "a", 3) == [PASSED, PASSED, QUOTA_EXCEEDED]
    for generation in range(2, 5):
        tables.write(limit("before", 100, f"x{generation}") + limit("two", 2) + limit(f"new{generation}", 1, "y"))
        assert reload(gateway).code == 0
        assert publish(client, "a", 1) == [QUOTA_EXCEEDED]
    assert metric(gateway, 'tidegate_limited_total{action="reject",limit="two"}') == 4
    assert metric(gateway, 'tidegate_passed_total{limit="two"}') == 2


def test_a_wrong_file_changes_nothing_and_the_command_says_what_is_wrong(
    gateway: Gateway, tables: Tables, client: RawClient
) -> None:
    first = tables.write('[[limit]]\nname = "none"\nrate = 5\ntopik = "a"\n')
    told = reload(gateway)
    assert told.code == 2
    assert told.out == ""
    assert [line.split(": ")[0] for line in told.err.splitlines()] == [
        f"{gateway.config}:{first + 2}",
        f"{gateway.config}:{first + 3}",
    ]
    assert publish(client, "a", 3) == [PASSED, PASSED, QUOTA_EXCEEDED]
    assert metric(gateway, "tidegate_policy_generation") == 1


def test_a_hangup_with_a_wrong_file_changes_nothing_and_the_log_says_what_is_wrong(
    gateway: Gateway, tables: Tables, client: RawClient
) -> None:
    first = tables.write("[[limt]]\n")
    gateway.process.send(signal.SIGHUP)
    until(lambda: metric(gateway, "tidegate_reloads_failed_total") == 1, "the failure to be counted")
    assert f"{gateway.config}:{first}: [[limt]]: unknown table" in gateway.process.stderr()
    assert publish(client, "a", 3) == [PASSED, PASSED, QUOTA_EXCEEDED]
    tables.write(limit("mended", 1, "b"))
    assert reload(gateway).code == 0
    until(lambda: publish(client, "a", 1) == [PASSED], "the mended policy")


def test_a_limit_that_would_not_hold_is_refused(gateway: Gateway, tables: Tables, client: RawClient) -> None:
    first = tables.write(limit("other", 100) + NOT_YET)
    told = reload(gateway)
    assert told.code == 2
    assert told.err.startswith(f"{gateway.config}:{first + 8}: limit.shared = true: not enforced yet: ")
    assert publish(client, "a", 3) == [PASSED, PASSED, QUOTA_EXCEEDED]


def test_what_takes_a_restart_is_said(gateway: Gateway, tables: Tables, client: RawClient) -> None:
    gateway.config.write_text(gateway.config.read_text().replace("workers = 1", "workers = 2") + DOUBTFUL)
    told = reload(gateway)
    assert told.code == 0
    doubt, later = told.err.splitlines()
    assert "[class.guest]: exempt, though any client can claim to be in it" in doubt
    assert later.startswith(f"{gateway.config}:4: gateway.workers: takes effect at the next start")
    assert len(gateway.workers()) == 1
    assert publish(client, "a", 3) == [PASSED, PASSED, QUOTA_EXCEEDED]


def test_a_worker_that_replaces_a_killed_one_has_the_newest_policy(make_gateway: MakeGateway, broker: Broker) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, workers=2)
    tables = Tables(gateway)
    tables.write(limit("two", 2))
    gateway.start()
    with join(gateway.port, "steady", wire.V5) as client:
        assert publish(client, "a", 3) == [PASSED, PASSED, QUOTA_EXCEEDED]
    tables.write(limit("two", 2) + limit("one", 1, "b"))
    assert reload(gateway).code == 0
    workers = gateway.workers()
    assert len(workers) == 2
    for worker in workers:
        worker.kill()
    _, alive = psutil.wait_procs(workers, timeout=GUARD)
    assert alive == []
    until(lambda: metric(gateway, "tidegate_worker_restarts_total") == 2 and gateway.ready(), "both successors")
    with join(gateway.port, "new", wire.V5) as client:
        assert publish(client, "b", 2) == [PASSED, QUOTA_EXCEEDED]
    with join(gateway.port, "steady", wire.V5) as client:
        assert publish(client, "a", 1) == [QUOTA_EXCEEDED]  # what was spent with the dead worker is spent
    gateway.stop()


def test_a_policy_that_came_while_a_worker_was_away_is_in_force(make_gateway: MakeGateway, broker: Broker) -> None:
    broker.start()
    gateway = make_gateway(broker.unix, workers=1)
    tables = Tables(gateway)
    tables.write(limit("two", 2))
    gateway.start()
    (worker,) = gateway.workers()
    worker.suspend()  # it cannot hear of a reload any more
    tables.write(limit("one", 1))
    assert reload(gateway).code == 0
    worker.kill()
    until(lambda: metric(gateway, "tidegate_worker_restarts_total") == 1 and gateway.ready(), "its successor")
    with join(gateway.port, "new", wire.V5) as client:
        assert publish(client, "a", 2) == [PASSED, QUOTA_EXCEEDED]
    gateway.stop()


def test_limits_that_would_not_hold_keep_the_gateway_from_starting(gateway: Gateway) -> None:
    first = Tables(gateway).write(NOT_YET)
    gateway.launch()
    assert gateway.process.wait() == 2
    said = gateway.process.stderr()
    assert said.startswith(f"{gateway.config}:{first + 3}: limit.shared = true: not enforced yet: ")
    assert "Traceback" not in said
    with pytest.raises(httpx.TransportError):
        gateway.get("/healthz")


def test_doubts_are_logged_at_the_start(gateway: Gateway) -> None:
    first = Tables(gateway).write(DOUBTFUL)
    gateway.start()
    assert f"{gateway.config}:{first}: [class.guest]: exempt, though any client can claim" in gateway.process.stderr()
    gateway.stop()


def test_who_comes_under_a_limit_is_logged_once(gateway: Gateway, client: RawClient) -> None:
    publish(client, "a", 12)
    until(lambda: "over a limit" in gateway.process.stderr(), "the line")
    (line,) = [line for line in gateway.process.stderr().splitlines() if "over a limit" in line]
    for part in ("limit=two", "action=reject", "client=steady", "address=127.0.0.1", "topic=a"):
        assert part in line


class TestNobodyToAsk:
    def test_no_gateway_runs(self, gateway: Gateway, tables: Tables) -> None:
        told = reload(gateway)
        assert told.code == 1
        assert f"no gateway runs with gateway.state_dir = '{gateway.state_dir}'" in told.err

    def test_one_that_was_killed_does_not_run(self, gateway: Gateway, tables: Tables) -> None:
        gateway.start()
        children = gateway.children()
        gateway.process.stop(signal.SIGKILL)
        psutil.wait_procs(children, timeout=GUARD)
        told = reload(gateway)
        assert told.code == 1
        assert "no gateway runs" in told.err

    def test_one_with_another_file(self, gateway: Gateway, client: RawClient, tmp_path: Path) -> None:
        other = tmp_path / "other.toml"
        other.write_text(gateway.config.read_text())
        told = Told("reload", "-c", other)
        assert told.code == 1
        assert f"tidegate reload -c {gateway.config}" in told.err
