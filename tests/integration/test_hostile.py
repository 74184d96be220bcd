"""Clients that mean harm, against one worker: what they make it hold is bounded, and nobody else pays.

Memory is the worker's peak (VmHWM) above what it had when the clients were connected; the bounds are those of
docs/guarantees.md, times the number of clients, and a share for the allocator.
"""

import re
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support import wire
from support.broker import Broker
from support.gateway import Gateway
from support.mute_broker import MuteBroker
from support.raw import CLOSED, OPEN, RawClient
from support.tap import Tap
from support.wait import until

KIB, MIB = 1024, 1 << 20
WAITING = 340 * KIB
"""Bytes that wait for one side to take them, as measured for docs/guarantees.md: a read and the high-water mark."""
ALLOCATOR = 8 * MIB
"""Bytes that the worker's heap grows by whoever its clients are: arenas, the event loop's buffer of a read."""

pytestmark = pytest.mark.usefixtures("behind_gateway")


@contextmanager
def guarding(folder: Path, upstream: str, extra: str = "") -> Iterator[Gateway]:
    """A gateway with one worker, which must end well."""
    gateway = Gateway(folder / "g", upstream, workers=1, extra=extra)
    try:
        gateway.start()
        yield gateway
        gateway.stop()
    finally:
        gateway.end()


@contextmanager
def brokers(folder: Path, extra: str = "") -> Iterator[Broker]:
    broker = Broker(folder / "b", extra)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


class Memory:
    """What the worker's memory has grown by at the highest since this was made."""

    def __init__(self, gateway: Gateway) -> None:
        (self.worker,) = gateway.workers()
        Path(f"/proc/{self.worker.pid}/clear_refs").write_text("5")  # the peak begins anew (proc(5))
        self.before = self._peak()

    def grown(self) -> int:
        """Bytes."""
        return self._peak() - self.before

    def _peak(self) -> int:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{self.worker.pid}/status").read_text(), re.MULTILINE)
        assert found
        return int(found[1]) * KIB


def metric(gateway: Gateway, sample: str) -> float:
    """A sample of /metrics; 0 where it is absent."""
    found = re.search(rf"^{re.escape(sample)} (\S+)$", gateway.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_subscribers_that_never_read(tmp_path: Path) -> None:
    clients, messages, payload = 50, 1000, bytes(50_000)
    # Without a bound on its queues it is the broker that would hold 50 MB for each of them.
    with (
        brokers(tmp_path, "max_queued_messages 5") as broker,
        guarding(tmp_path, broker.unix) as gateway,
        ExitStack() as stack,
    ):
        for number in range(clients):
            deaf = stack.enter_context(RawClient(gateway.port))
            deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(f"deaf-{number}")
            deaf.exchange(wire.subscribe(wire.V311, ("flood", 0)))
        publisher = stack.enter_context(RawClient(gateway.port))
        publisher.connect("publisher")
        innocent = stack.enter_context(RawClient(gateway.port))
        innocent.connect("innocent")
        innocent.exchange(wire.subscribe(wire.V311, ("quiet", 1)))
        memory = Memory(gateway)
        for number in range(1, messages + 1):
            told = publisher.exchange(wire.publish(wire.V311, "flood", payload, first=0x32, packet_id=number))
            assert wire.tell(told, wire.V311) == f"PUBACK id {number} 0x00"
            if number % 100 == 0:
                innocent.send(wire.publish(wire.V311, "quiet", b"still here"))
                answer = innocent.read()
                assert answer is not None
                assert wire.tell(answer, wire.V311) == "PUBLISH qos 0 quiet"
        assert innocent.until_fence() == [OPEN]
        assert memory.grown() <= clients * WAITING + ALLOCATOR


def test_packets_that_come_a_few_bytes_at_a_time(tmp_path: Path) -> None:
    clients, size = 200, 60_000
    marker = b"slow/"
    with brokers(tmp_path) as broker, ExitStack() as stack:
        tap = Tap(tmp_path / "tap", broker.socket)
        stack.callback(tap.close)
        gateway = stack.enter_context(guarding(tmp_path, tap.unix))
        slow = [stack.enter_context(RawClient(gateway.port)) for _ in range(clients)]
        for number, client in enumerate(slow):
            client.connect(f"c-{number}")
        memory = Memory(gateway)
        came = metric(gateway, 'tidegate_bytes_total{direction="from_client"}')
        packets = [
            wire.publish(wire.V311, marker + str(number).encode(), bytes(size), first=0x32, packet_id=1)
            for number in range(clients)
        ]
        # The header byte by byte, then pieces in turn: no client's packet is whole before the last round.
        pieces = [*range(20), *range(20, size, 2003)]
        for begin, end in zip(pieces, [*pieces[1:], -1], strict=True):
            for client, packet in zip(slow, packets, strict=True):
                client.send(packet[begin:end])
        sent = sum(len(packet) - 1 for packet in packets)
        until(
            lambda: metric(gateway, 'tidegate_bytes_total{direction="from_client"}') - came >= sent,
            "the gateway to have read them",
        )
        assert tap.of(marker) == []
        assert memory.grown() <= clients * size * 9 // 8 + ALLOCATOR  # a buffer that grows has an eighth to spare
        for client, packet in zip(slow, packets, strict=True):
            assert wire.tell(client.exchange(packet[-1:]), wire.V311) == "PUBACK id 1 0x00"
        streams = tap.of(marker)
        assert len(streams) == clients
        assert all(any(stream.endswith(packet) for stream in streams) for packet in packets)


@pytest.mark.parametrize("begun", [b"", wire.connect(wire.V311, "half-open")[:-3]], ids=["silent", "half a CONNECT"])
def test_clients_that_never_finish_their_connect(tmp_path: Path, begun: bytes) -> None:
    clients = 500

    with brokers(tmp_path) as broker, guarding(tmp_path, broker.tcp, 'connect_timeout = "1s"') as gateway:

        def strangers() -> int:
            """Connections that the broker has ever had, other than the gateway's own probes."""
            log = broker.log()
            return log.count(": New connection from ") - log.count(" as tidegate-probe-")

        before = strangers()
        timed_out = metric(gateway, 'tidegate_timeouts_total{kind="connect"}')
        with ExitStack() as stack:
            attackers = [stack.enter_context(RawClient(gateway.port)) for _ in range(clients)]
            for attacker in attackers:
                attacker.send(begun)
            for attacker in attackers:
                assert attacker.until_closed() == [CLOSED]
        until(lambda: strangers() <= before, "no connection at the broker that is not a probe's")
        with RawClient(gateway.port) as innocent:
            innocent.connect("innocent")
        assert metric(gateway, 'tidegate_timeouts_total{kind="connect"}') - timed_out == clients


def test_what_is_pipelined_behind_connect_is_not_read_without_bound(tmp_path: Path) -> None:
    clients, most = 20, 64 * MIB
    read_once = 256 * KIB
    broker = MuteBroker(tmp_path / "mute")
    with ExitStack() as stack:
        stack.callback(broker.close)
        gateway = stack.enter_context(guarding(tmp_path, broker.unix, 'connect_timeout = "1min"'))
        memory = Memory(gateway)
        came = metric(gateway, 'tidegate_bytes_total{direction="from_client"}')
        run = wire.publish(wire.V311, "early", bytes(10_000)) * 100
        for number in range(clients):
            eager = stack.enter_context(RawClient(gateway.port))
            eager.send(wire.connect(wire.V311, f"eager-{number}"))
            eager.socket.setblocking(False)
            sent = 0
            while sent < most and select.select([], [eager.socket], [], 0.1)[1]:
                sent += eager.socket.send(run)
            assert sent < most, "somebody reads it"
            assert sent > read_once, "there was more than it takes"
        connects = [wire.connect(wire.V311, f"eager-{number}") for number in range(clients)]
        until(lambda: sorted(broker.heard()) == sorted(connects), "the broker to have every CONNECT and nothing else")
        read = metric(gateway, 'tidegate_bytes_total{direction="from_client"}') - came
        assert read <= clients * (read_once + len(connects[-1]))
        assert memory.grown() <= clients * read_once + ALLOCATOR
