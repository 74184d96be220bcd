"""A broker that is none: it answers CONNECT and throws all else away.

A real Mosquitto would allocate every big packet whole, and hide what the gateway holds. Started by
`big_packets` as a process of its own.
"""

import ctypes
import multiprocessing
import pathlib
import selectors
import socket
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue

from .stage import free_ports
from .targets import Broker
from .wire import first_packet

READ_BYTES = 1 << 20
"""Bytes per read: the sink must not be what a stream waits for."""
BACKLOG = 4096


class SinkConnection:
    """One connection: until CONNECT is whole its bytes are kept, afterwards they are only counted."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._connect: bytearray | None = bytearray()
        self.discarded = 0

    def take(self, data: memoryview) -> int:
        """Answer CONNECT, count the rest: how many bytes of these were discarded."""
        if self._connect is None:
            self.discarded += len(data)
            return len(data)
        self._connect += data
        packet = first_packet(bytes(self._connect))
        if packet is None:
            return 0
        level = packet[packet.index(b"MQTT") + 4]
        self.socket.sendall(b"\x20\x03\x00\x00\x00" if level & 127 == 5 else b"\x20\x02\x00\x00")
        rest = len(self._connect) - len(packet)
        self._connect = None
        self.discarded += rest
        return rest


def serve(listeners: list[socket.socket], stall_after: int | None, total: ctypes.c_uint64) -> None:
    """Serve until terminated; of each connection at most `stall_after` bytes behind CONNECT are read."""
    selector = selectors.DefaultSelector()
    buffer = bytearray(READ_BYTES)
    view = memoryview(buffer)
    for listener in listeners:
        selector.register(listener, selectors.EVENT_READ, None)
    stalled = []  # keeps them open
    while True:
        for key, _ in selector.select():
            connection: SinkConnection | None = key.data
            if connection is None:
                assert isinstance(key.fileobj, socket.socket)
                accepted, _ = key.fileobj.accept()
                selector.register(accepted, selectors.EVENT_READ, SinkConnection(accepted))
                continue
            # What a stalled one sends behind CONNECT is never read beyond its limit.
            room = READ_BYTES if stall_after is None else max(1, stall_after - connection.discarded)
            got = _read(connection.socket, view[: min(room, READ_BYTES)])
            total.value += connection.take(view[:got])
            if got == 0:
                selector.unregister(connection.socket)
                connection.socket.close()
            elif stall_after is not None and connection.discarded >= stall_after:
                selector.unregister(connection.socket)
                stalled.append(connection)


def _read(connection: socket.socket, view: memoryview) -> int:
    try:
        return connection.recv_into(view)
    except ConnectionError:
        return 0


class Sink:
    """The process, its address, and how much it has thrown away."""

    def __init__(self, folder: pathlib.Path, stall_after: int | None) -> None:
        (port,) = free_ports(1)
        path = folder / "sink.sock"
        by_tcp = socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
        by_unix = socket.socket(socket.AF_UNIX)
        by_unix.bind(str(path))
        by_unix.listen(BACKLOG)
        self._total = RawValue(ctypes.c_uint64, 0)
        self._process: BaseProcess = multiprocessing.get_context("fork").Process(
            target=serve, args=([by_tcp, by_unix], stall_after, self._total), daemon=True
        )
        self._process.start()
        by_tcp.close()
        by_unix.close()
        assert self._process.pid is not None
        self.address = Broker(port, path, self._process.pid)

    def discarded(self) -> int:
        """Bytes behind all CONNECTs so far."""
        return int(self._total.value)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()
