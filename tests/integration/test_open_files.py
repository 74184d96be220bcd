"""At the open-file limit a worker refuses clients and serves those that it has."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support import wire
from support.broker import Broker
from support.gateway import Gateway
from support.raw import CLOSED, OPEN, RawClient
from support.wait import until
from tidegate.gateway.room import clients_within

FILES = 200
ROOM = clients_within(FILES, listeners=1, workers=1)
REFUSED = 'tidegate_refused_total{reason="open_files"}'

pytestmark = pytest.mark.usefixtures("behind_gateway")


@contextmanager
def guarding(folder: Path) -> Iterator[Gateway]:
    broker = Broker(folder / "b")
    gateway = Gateway(folder / "g", broker.unix, workers=1, files=FILES)
    broker.start()
    try:
        gateway.start()
        (worker,) = gateway.workers()
        yield gateway
        assert gateway.workers() == [worker]
        gateway.stop()
    finally:
        gateway.end()
        broker.stop()


def test_beyond_the_limit_clients_are_refused_and_the_others_served(tmp_path: Path) -> None:
    excess = 3 * ROOM
    with guarding(tmp_path) as gateway, ExitStack() as stack:
        (worker,) = gateway.workers()
        until(lambda: gateway.metric('tidegate_connections{worker="0"}') == 0, "the probes to have gone")
        before = gateway.metric(REFUSED)
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(ROOM)]
        for number, client in enumerate(clients):
            client.connect(f"c-{number}")
        assert worker.num_fds() < FILES
        for _ in range(excess):
            with RawClient(gateway.port) as refused:
                assert refused.until_closed() == [CLOSED]
        assert gateway.metric(REFUSED) - before == excess
        assert gateway.process.stderr().count("open-file limit") < excess / 10
        for client in clients:
            ack = client.exchange(wire.publish(wire.V311, "t", first=0x32, packet_id=1))
            assert wire.tell(ack, wire.V311) == "PUBACK id 1 0x00"


def test_when_some_have_gone_others_are_admitted(tmp_path: Path) -> None:
    with guarding(tmp_path) as gateway, ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(ROOM + 20)]
        until(lambda: gateway.metric(REFUSED) > 0, "the first that is refused")
        for client in clients:
            client.close()
        for number in range(ROOM):

            def admitted(number: int = number) -> RawClient | None:
                client = stack.enter_context(RawClient(gateway.port))
                client.send(wire.connect(wire.V311, f"c-{number}"))
                return client if client.read() is not None else None

            client = until(admitted, "room for another")
            assert client.until_fence() == [OPEN]


def test_a_storm_beyond_the_limit_is_no_storm_at_the_broker(tmp_path: Path) -> None:
    """All at once, with their CONNECT: each is either served or closed, and no connection to the broker fails."""
    with guarding(tmp_path) as gateway, ExitStack() as stack:
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(3 * ROOM)]
        for number, client in enumerate(clients):
            client.send(wire.connect(wire.V311, f"c-{number}"))
        answers = [client.read() for client in clients]
        served = [client for client, answer in zip(clients, answers, strict=True) if answer is not None]
        assert all(wire.tell(answer, wire.V311) == "CONNACK 0x00" for answer in answers if answer is not None)
        assert ROOM - 5 <= len(served) <= ROOM  # a probe of the gateway's own may have had room
        assert all(client.until_fence() == [OPEN] for client in served)
        assert gateway.metric("tidegate_upstream_up") == 1


def test_files_that_run_out_all_the_same_end_nothing_that_is_open(tmp_path: Path) -> None:
    """The limit is lowered from outside: what the worker counts with is not there."""
    with guarding(tmp_path) as gateway, ExitStack() as stack:
        (worker,) = gateway.workers()
        clients = [stack.enter_context(RawClient(gateway.port)) for _ in range(10)]
        for number, client in enumerate(clients):
            client.connect(f"c-{number}")
        for fewer in (-1, 5):
            limit = worker.num_fds() - fewer
            resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (limit, FILES))
            for _ in range(10):
                with RawClient(gateway.port) as late:
                    late.send(wire.connect(wire.V311, "late"))
                    assert late.until_closed()[-1] == CLOSED
        assert [client.until_fence() for client in clients] == [[OPEN]] * len(clients)
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        for number in range(10):
            stack.enter_context(RawClient(gateway.port)).connect(f"again-{number}")
        assert gateway.metric("tidegate_upstream_up") == 1
