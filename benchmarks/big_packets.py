"""What a gateway holds while a thousand clients are each half-way through a huge PUBLISH.

    python -m benchmarks.big_packets [--stalled] [--clients 1000] [--packet-mb 200] [--half-mb 100]
                                     [--target tidegate-unix]

Tidegate runs with one worker and `max_packet = "256MiB"`; behind it stands a sink that answers CONNECT and
discards (a Mosquitto would allocate every packet itself), reached by its Unix socket. All clients announce a
QoS 0 PUBLISH of --packet-mb megabytes and send --half-mb of it, side by side; there they stop, and the memory
of the gateway's process tree is read. With --stalled the sink reads no more than 64 KiB of each client: the
clients push until nothing moves any more, so what is read is the memory behind a broker that hangs. Prints
JSON: bytes moved, PSS and private memory per connection against the moment before the clients came, and the
peak resident memory.

Exit status: 0 measured, 1 a client was cut off or the gateway could not be started.
"""

import argparse
import json
import select
import socket
import sys
import time

from .memory import SPARE_FILES, check_open, close_all, open_clients
from .options import parser, positive
from .sink_broker import Sink
from .stage import Stage, end_on_sigterm, memory, peak_memory, require_files
from .targets import TARGETS, Options, start_target
from .wire import publish_head

MB = 1_000_000
CHUNK = bytes(256 * 1024)
SEND_BUFFER = 256 * 1024
"""Bytes of a client's own socket, bounded: a thousand of them are in the kernel's memory too."""
STALL_AFTER = 64 * 1024
"""Bytes of each connection that a stalled sink reads."""
QUIET_SECONDS = 5.0
"""Nothing has moved for so long: all is full, or all is done."""
SAMPLE_SECONDS = 1.0


class Load:
    """Clients in the middle of a PUBLISH: `left` is what each has still to send."""

    def __init__(self, clients: list[socket.socket], packet: int, half: int) -> None:
        self._poll = select.epoll()
        self._by_fd = {client.fileno(): client for client in clients}
        self._left: dict[int, int] = {}
        self._head: dict[int, bytes] = {}
        self.sent = 0
        for number, client in enumerate(clients):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            client.setblocking(False)
            fd = client.fileno()
            self._head[fd] = publish_head(f"big/{number:04d}", packet)
            self._left[fd] = half
            self._poll.register(fd, select.EPOLLOUT)

    def push(self, timeout: float) -> None:
        """Send once on every client that takes more; ConnectionError when one was cut off."""
        for fd, _ in self._poll.poll(timeout):
            part = self._head.pop(fd, b"") or memoryview(CHUNK)[: self._left[fd]]
            taken = self._by_fd[fd].send(part)
            self.sent += taken
            if isinstance(part, bytes):
                self._head.update({fd: part[taken:]} if taken < len(part) else {})
                continue
            self._left[fd] -= taken
            if self._left[fd] == 0:
                self._poll.unregister(fd)
                del self._left[fd]

    def done(self) -> bool:
        """Has every client sent its half?"""
        return not self._left


def drive(load: Load, sink: Sink, pid: int) -> int:
    """Push until nothing moves; the highest PSS of the tree that was seen, in bytes."""
    highest = 0
    moved = (0, 0)
    last_move = sample_at = time.monotonic()
    while (now := time.monotonic()) - last_move < QUIET_SECONDS:
        if load.done():
            time.sleep(0.05)
        else:
            load.push(0.05)
        if (load.sent, sink.discarded()) != moved:
            moved = (load.sent, sink.discarded())
            last_move = now
        if now >= sample_at:
            highest = max(highest, memory(pid)["pss"])
            sample_at = now + SAMPLE_SECONDS
    return highest


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    count = arguments.clients
    options = Options(
        tidegate=arguments.tidegate_command,
        connections=count + SPARE_FILES,
        gateway_keys='max_packet = "256MiB"\n',
    )
    with Stage() as stage:
        sink = Sink(stage.folder, STALL_AFTER if arguments.stalled else None)
        try:
            target = start_target(stage, arguments.target, sink.address, options)
            before, peak_before = memory(target.pid), peak_memory(target.pid)
            clients = open_clients(target.port, "big", count)
            load = Load(clients, arguments.packet_mb * MB, arguments.half_mb * MB)
            begin = time.monotonic()
            highest = drive(load, sink, target.pid)
            seconds = time.monotonic() - begin - QUIET_SECONDS
            check_open(clients)
            half_way, peak = memory(target.pid), peak_memory(target.pid)
            close_all(clients)
        except ConnectionError as error:
            sys.exit(f"{arguments.target}: {error}\n{stage.log_tail(target.pid)}")
        finally:
            sink.close()
    kib = 1024 * count
    return {
        "target": arguments.target,
        "sink": "stalled" if arguments.stalled else "draining",
        "clients": count,
        "packet_mb": arguments.packet_mb,
        "sent_mb": round(load.sent / MB, 1),
        "through_mb": round(sink.discarded() / MB, 1),
        "seconds": round(seconds, 1),
        "pss_kib_per_connection": round((half_way["pss"] - before["pss"]) / kib, 2),
        "private_kib_per_connection": round((half_way["private"] - before["private"]) / kib, 2),
        "highest_pss_kib_per_connection": round((highest - before["pss"]) / kib, 2),
        "peak_resident_kib_per_connection": round((peak - peak_before) / kib, 2),
        "peak_resident_mb": round(peak / MB, 1),
    }


def main() -> None:
    line = parser("big_packets", __doc__)
    line.add_argument("--stalled", action="store_true", help="the sink stops reading")
    line.add_argument("--clients", type=positive, default=1000)
    line.add_argument("--packet-mb", type=positive, default=200, help="size that each PUBLISH announces")
    line.add_argument("--half-mb", type=positive, default=100, help="how much of it each client sends")
    between = [name for name in TARGETS if name != "direct"]
    line.add_argument("--target", choices=between, default="tidegate-unix")
    arguments = line.parse_args()
    if arguments.half_mb > arguments.packet_mb or arguments.packet_mb * MB > 256 * 2**20 - STALL_AFTER:
        line.error("--half-mb is at most --packet-mb, and that is at most 268: max_packet is 256MiB")
    end_on_sigterm()
    require_files(2 * arguments.clients + SPARE_FILES)
    print(json.dumps(measure(arguments), indent=1))


if __name__ == "__main__":
    main()
