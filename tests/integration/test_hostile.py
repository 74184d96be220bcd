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
from support.wait import GUARD, until

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
        came = gateway.metric('tidegate_bytes_total{direction="from_client"}')
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
            lambda: gateway.metric('tidegate_bytes_total{direction="from_client"}') - came >= sent,
            "the gateway to have read them",
        )
        assert tap.of(marker) == []
        assert memory.grown() <= clients * size * 9 // 8 + ALLOCATOR  # a buffer that grows has an eighth to spare
        for client, packet in zip(slow, packets, strict=True):
            assert wire.tell(client.exchange(packet[-1:]), wire.V311) == "PUBACK id 1 0x00"
        streams = tap.of(marker)
        assert len(streams) == clients
        assert all(any(stream.endswith(packet) for stream in streams) for packet in packets)


def strangers(broker: Broker) -> int:
    """Connections that the broker has ever had, other than the gateway's own probes."""
    log = broker.log()
    return log.count(": New connection from ") - log.count(" as tidegate-probe-")


@pytest.mark.parametrize("begun", [b"", wire.connect(wire.V311, "half-open")[:-3]], ids=["silent", "half a CONNECT"])
def test_clients_that_never_finish_their_connect(tmp_path: Path, begun: bytes) -> None:
    clients = 500

    with brokers(tmp_path) as broker, guarding(tmp_path, broker.tcp, 'connect_timeout = "1s"') as gateway:
        before = strangers(broker)
        timed_out = gateway.metric('tidegate_timeouts_total{kind="connect"}')
        with ExitStack() as stack:
            attackers = [stack.enter_context(RawClient(gateway.port)) for _ in range(clients)]
            for attacker in attackers:
                attacker.send(begun)
            for attacker in attackers:
                assert attacker.until_closed() == [CLOSED]
        until(lambda: strangers(broker) <= before, "no connection at the broker that is not a probe's")
        with RawClient(gateway.port) as innocent:
            innocent.connect("innocent")
        assert gateway.metric('tidegate_timeouts_total{kind="connect"}') - timed_out == clients


def test_what_is_pipelined_behind_connect_is_not_read_without_bound(tmp_path: Path) -> None:
    clients, most = 20, 64 * MIB
    read_once = 256 * KIB
    broker = MuteBroker(tmp_path / "mute")
    with ExitStack() as stack:
        stack.callback(broker.close)
        gateway = stack.enter_context(guarding(tmp_path, broker.unix, 'connect_timeout = "1min"'))
        memory = Memory(gateway)
        came = gateway.metric('tidegate_bytes_total{direction="from_client"}')
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
        read = gateway.metric('tidegate_bytes_total{direction="from_client"}') - came
        assert read <= clients * (read_once + len(connects[-1]))
        assert memory.grown() <= clients * read_once + ALLOCATOR


@pytest.mark.parametrize("connected", [False, True], ids=["a CONNECT", "a later packet"])
@pytest.mark.parametrize("version", [wire.V311, wire.V5])
def test_packets_that_come_byte_by_byte_for_ever(tmp_path: Path, version: int, connected: bool) -> None:
    clients = 100
    kind, told = ("packet", "DISCONNECT 0x97") if connected else ("connect", "")
    sample = f'tidegate_timeouts_total{{kind="{kind}"}}'
    timeouts = 'connect_timeout = "1s"\npacket_timeout = "1s"'
    with brokers(tmp_path) as broker, guarding(tmp_path, broker.unix, timeouts) as gateway, ExitStack() as stack:
        innocent = stack.enter_context(RawClient(gateway.port))
        innocent.connect("innocent")
        before = gateway.metric(sample)
        slow = [stack.enter_context(RawClient(gateway.port, version)) for _ in range(clients)]
        if connected:
            for number, client in enumerate(slow):
                client.connect(f"slow-{number}")
        packet = wire.publish(version, "t", bytes(50_000)) if connected else wire.connect(version, "x" * 50_000)
        pieces = iter(range(len(packet)))

        def all_are_closed() -> bool:
            at = next(pieces)
            for client in slow:
                client.send(packet[at : at + 1])
            return gateway.metric(sample) - before == clients

        until(all_are_closed, "all of them to be closed")
        expected = [told, CLOSED] if told and version == wire.V5 else [CLOSED]
        # A byte that was sent behind the close may have cost the client what it was told.
        assert all(client.until_closed() in (expected, [CLOSED]) for client in slow)
        assert innocent.until_fence() == [OPEN]


@pytest.mark.parametrize(
    ("version", "begin", "answer"),
    [
        (wire.V311, b"\x10\xff\xff\x3f", []),
        (wire.V5, b"\x10\xff\xff\x3f", ["CONNACK 0x95"]),
        (wire.V5, b"\x10\x80\x80\x04", ["CONNACK 0x95"]),
    ],
    ids=["v3 1 MiB", "v5 1 MiB", "v5 64 KiB"],
)
def test_large_connects_are_refused_before_they_have_come(
    tmp_path: Path, version: int, begin: bytes, answer: list[str]
) -> None:
    clients = 200
    with brokers(tmp_path) as broker, guarding(tmp_path, broker.unix) as gateway, ExitStack() as stack:
        before = strangers(broker)
        sent = begin + wire.connect(version, "c")[2:]
        for _ in range(clients):
            client = stack.enter_context(RawClient(gateway.port, version))
            client.send(sent)
            assert client.until_closed() == [*answer, CLOSED]
        assert gateway.metric('tidegate_malformed_total{reason="too_large"}') == clients
        assert strangers(broker) <= before


def test_large_connects_that_come_all_the_same_take_no_memory(tmp_path: Path) -> None:
    clients = 50
    with brokers(tmp_path) as broker, guarding(tmp_path, broker.unix) as gateway, ExitStack() as stack:
        memory = Memory(gateway)
        packet = b"\x10\xff\xff\x3f" + wire.connect(wire.V5, "c")[2:] + bytes(MIB)
        for _ in range(clients):
            client = stack.enter_context(RawClient(gateway.port, wire.V5))
            client.send(packet)
            assert client.until_closed()[-1] == CLOSED
        assert gateway.metric('tidegate_malformed_total{reason="too_large"}') == clients
        assert memory.grown() <= ALLOCATOR


@pytest.mark.parametrize("count", [101, 10_000])
@pytest.mark.parametrize("of_will", [False, True])
def test_connects_of_many_user_properties(tmp_path: Path, count: int, of_will: bool) -> None:
    clients = 20
    properties = b"\x26\x00\x00\x00\x00" * count
    if of_will:
        will = wire.properties(wire.V5, properties) + wire.field("t") + wire.field(b"")
        packet = wire.connect(wire.V5, "c", flags=0x06, rest=will)
    else:
        packet = wire.connect(wire.V5, "c", props=properties)
    with brokers(tmp_path) as broker, guarding(tmp_path, broker.unix) as gateway, ExitStack() as stack:
        before = strangers(broker)
        for _ in range(clients):
            client = stack.enter_context(RawClient(gateway.port, wire.V5))
            client.send(packet)
            assert client.until_closed() == ["CONNACK 0x97", CLOSED]
        assert gateway.metric('tidegate_malformed_total{reason="user_properties"}') == clients
        assert strangers(broker) <= before


def test_an_upstream_whose_client_has_gone_ends_also_when_the_broker_does_nothing(tmp_path: Path) -> None:
    clients = 50
    broker = MuteBroker(tmp_path / "mute")
    with ExitStack() as stack:
        stack.callback(broker.close)
        gateway = stack.enter_context(guarding(tmp_path, broker.unix, 'connect_timeout = "10min"'))
        (worker,) = gateway.workers()
        before = worker.num_fds()
        with ExitStack() as leaving:
            for number in range(clients):
                client = leaving.enter_context(RawClient(gateway.port))
                client.send(wire.connect(wire.V311, f"c-{number}"))
            until(lambda: len(broker.heard()) == clients, "every CONNECT")
            assert worker.num_fds() >= before + 2 * clients
        until(lambda: worker.num_fds() <= before, "the end of both sockets of each")


def test_clients_that_take_nothing_for_too_long_are_gone(tmp_path: Path) -> None:
    """Their hosts acknowledge what TCP asks, and have no room for more: nothing else would ever end that."""
    with (
        brokers(tmp_path, "max_queued_messages 5") as broker,
        guarding(tmp_path, broker.unix, 'peer_timeout = "5s"') as gateway,
        RawClient(gateway.port) as publisher,
        RawClient(gateway.port) as deaf,
    ):
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect("deaf", keepalive=0)
        deaf.exchange(wire.subscribe(wire.V311, ("flood", 0)))
        publisher.connect("publisher")
        flood = wire.publish(wire.V311, "flood", bytes(50_000))

        def is_gone() -> bool:
            publisher.send(flood)
            return gateway.metric('tidegate_connections{worker="0"}') == 1

        until(is_gone, "the end of its connection", 2 * GUARD)
        assert publisher.until_fence() == [OPEN]


@pytest.mark.parametrize(("keepalive", "timer"), [(0, "02"), (60, "00")])
def test_the_kernel_asks_after_clients_without_a_keepalive(tmp_path: Path, keepalive: int, timer: str) -> None:
    with brokers(tmp_path) as broker, guarding(tmp_path, broker.unix) as gateway, RawClient(gateway.port) as client:
        client.connect("c", keepalive=keepalive)
        ends = f":{gateway.port:04X} 0100007F:{client.local_port:04X} "

        def pending() -> str:
            """Which of its timers TCP waits for when all is acknowledged (proc(5)): 02 is that of SO_KEEPALIVE."""
            (row,) = [row for row in Path("/proc/net/tcp").read_text().splitlines() if ends in row]
            return row.split()[5].partition(":")[0]

        until(lambda: pending() == timer, f"timer {timer}")
