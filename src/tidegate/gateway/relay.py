"""The driver of a connection: two transports of the event loop, backpressure both ways, one timer.

What is read goes into `Connection`, what it says goes out. A side that does not take what is written to it stops the
other side from being read, so neither can make the gateway's memory grow: at most one read of the loop (256 KiB) and
the transport's high-water mark (64 KiB) wait in each direction. The loop writes, and so learns that a side does not
take, only after it has read all there is, up to 32 times 256 KiB: after a large read a side is left alone for a turn.
Of the clients that have sent so much only a few are read in one turn, so that many of them are not felt by the others.
"""

import asyncio
import fcntl
import os
import select
import socket
import termios
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ..engine.counters import CONNECTIONS, CONNECTIONS_TOTAL, Counters
from .bounds import Bounds
from .connection import (
    ASK,
    END,
    FREE_BROKER,
    FREE_CLIENT,
    HOLD_BROKER,
    HOLD_CLIENT,
    KEEP,
    LINGER,
    OPEN_UPSTREAM,
    RESUME,
    RESUME_BROKER,
    Connection,
)
from .last_will import Estate
from .states import State

if TYPE_CHECKING:
    from .admission import Door

_OPEN_UPSTREAM = OPEN_UPSTREAM
_HOLD_CLIENT = HOLD_CLIENT
_FREE_CLIENT = FREE_CLIENT
_HOLD_BROKER = HOLD_BROKER
_FREE_BROKER = FREE_BROKER
_RESUME_BROKER = RESUME_BROKER
_RESUME = RESUME
_END = END
_ASK = ASK
_KEEP = KEEP
_OPEN = int(State.OPEN)
_CLOSED = int(State.CLOSED)

LARGE_READ = 65_536
"""Bytes: after a read of this size or more, the side that it came from is not read again in the same turn."""
_LARGE_READ = LARGE_READ

# Why a side is not read: each reason goes its own way, reading resumes when none is left.
_BY_CONNECTION = 1
_BY_BROKER = 2
_BY_CLIENT = 4
_BY_TURN = 8

_MAPPED = bytes(10) + b"\xff\xff"
"""Of an IPv6 address that stands for one of IPv4."""


def last_words(transport: asyncio.Transport | None) -> bytes:
    """What a peer had sent before a write to it failed, at most one read: its DISCONNECT, if it said one.

    On a failed write the loop closes a transport without another look at it; its descriptor is still open here.
    """
    if transport is None:
        return b""
    try:
        return os.read(transport.get_extra_info("socket").fileno(), LARGE_READ)
    except OSError:
        return b""


def bytes_waiting(transport: asyncio.Transport | None) -> bool:
    """Whether a peer has sent what has not been read yet."""
    if transport is None:
        return False
    waiting = bytearray(4)
    try:
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, waiting)
    except OSError:
        return False
    return any(waiting)


def has_hung_up(transport: asyncio.Transport | None) -> bool:
    """Whether a peer has closed its socket, or its half: the loop does not notice while it does not read."""
    if transport is None:
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


def address_of(peer: object) -> bytes:
    """A peer's address, 4 or 16 bytes; none for a Unix socket. IPv4 that came by an IPv6 socket is IPv4."""
    if not isinstance(peer, tuple):
        return b""
    host: str = peer[0]
    if ":" not in host:
        return socket.inet_aton(host)
    address = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return address[len(_MAPPED) :] if address.startswith(_MAPPED) else address


class Host(Protocol):
    """What a relay needs of the worker that it lives in."""

    counters: Counters
    bounds: Bounds
    door: "Door | None"
    relays: set["Relay"]

    def take_room(self) -> bool:
        """Whether a client that was just accepted may stay: there are descriptors for it and its upstream."""

    def leave_room(self) -> None:
        """Both of its sockets are closed."""

    def take_turn(self, relay: "Relay") -> None:
        """Call `relay.turn` in one of the next turns of the event loop, after those who asked before."""

    def open_upstream(self, relay: "Relay") -> None:
        """Connect to the broker and give its transport to `relay.upstream`; else call `relay.upstream_failed`."""

    def keep_upstream(self, estate: Estate, transport: asyncio.Transport) -> None:
        """A client has gone and left its upstream, until it is known what becomes of its will."""

    def connection_ended(self, relay: "Relay", connection: Connection) -> None:
        """The connection has reached its last state; it still says what went wrong."""


class Relay:
    """The client's side, and the owner of the connection: an asyncio.Protocol in all but its base class.

    (A compiled class cannot inherit from one that is not.)
    """

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop, listener: bytes = b"") -> None:
        self.host = host
        self.loop = loop
        self.clock: Callable[[], float] = time.monotonic  # the loop's own, but to the nanosecond
        self.listener = listener
        self.connection = Connection(host.counters, host.bounds, self.clock())
        self.client: asyncio.Transport | None = None
        self.broker: asyncio.Transport | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.timer_at = 0.0
        self.client_stopped = 0
        self.broker_stopped = 0
        self.ended = False
        """Nothing is wanted of the broker any more."""
        self._has_room = False
        self._is_opening = False
        """The host was asked for an upstream, and has not answered yet."""

    # The client's transport

    def arrive(self, address: bytes) -> bool:
        """A client was accepted, from `address` (`address_of`): whether it gets a transport, else it is closed."""
        if not self.host.take_room():
            return False
        self._has_room = True
        self.host.counters.add(CONNECTIONS_TOTAL, 1)
        if self.host.door is not None:
            self.connection.enter(self.host.door, address, self.listener)
            if self.connection.state == _CLOSED:
                self._release()
                return False
        self.host.relays.add(self)
        self.host.counters.put(CONNECTIONS, len(self.host.relays))
        return True

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The client has its transport."""
        if self.ended:  # the gateway is ending, and was faster
            transport.abort()
            return
        self.client = transport
        self.connection.flusher = self.act
        self.connection.has_hung_up = partial(has_hung_up, transport)
        self.act()
        if self.client_stopped:
            self.loop.call_soon(self._stop_again)

    def _stop_again(self) -> None:
        """The loop begins to read once a connection is made, whatever was said meanwhile."""
        if self.client_stopped and self.client is not None:
            self.client.pause_reading()

    def data_received(self, data: bytes) -> None:
        """The client has sent bytes."""
        self.connection.client_bytes(data, self.clock())
        if len(data) >= _LARGE_READ:
            self._stop_client(_BY_TURN)
            self.host.take_turn(self)
        self.act()

    def eof_received(self) -> bool:
        """The client has closed its half: the loop closes the other."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client's socket is closed."""
        if exc is not None and (said := last_words(self.client)):
            self.data_received(said)
        self.client = None
        self._free_broker(_BY_CLIENT)  # what it has not taken is nobody's now
        self.connection.client_closed()
        self.act()
        self._release()

    def pause_writing(self) -> None:
        """The client does not take what is written to it: neither side is read until it does.

        But for a broker's whose messages are paced anyway: what comes is kept within bounds, or dropped.
        """
        if not self.connection.spares_broker():
            self._stop_broker(_BY_CLIENT)
        self._stop_client(_BY_CLIENT)
        self.connection.client_takes(False, self.clock())

    def resume_writing(self) -> None:
        """The client takes bytes again."""
        self._free_broker(_BY_CLIENT)
        self._free_client(_BY_CLIENT)
        self.connection.client_takes(True, self.clock())
        self.act()

    # The broker's transport, by way of Upstream

    def broker_made(self, transport: asyncio.Transport) -> None:
        """The upstream is open."""
        self.broker = transport
        self._is_opening = False
        if self.ended:  # the client was faster to leave than the broker to accept
            transport.abort()
            return
        self.connection.upstream_opened(self.clock())
        self.act()

    def broker_failed(self) -> None:
        """The upstream could not be opened."""
        self._is_opening = False
        self.connection.upstream_failed()
        self.act()
        self._release()

    def broker_received(self, data: bytes) -> None:
        """The broker has sent bytes."""
        self.connection.broker_bytes(data, self.clock())
        if len(data) >= _LARGE_READ:
            self._stop_broker(_BY_TURN)
            self.loop.call_soon(self._turn_broker)
        self.act()

    def broker_lost(self, lost: bool) -> None:
        """The upstream is closed; `lost` when by an error."""
        if lost and (said := last_words(self.broker)):
            self.broker_received(said)
        self.broker = None
        self.connection.broker_closed(lost)
        self.act()
        self._release()

    def stop_for_broker(self) -> None:
        """The broker does not take what is written to it: the client is not read."""
        self._stop_client(_BY_BROKER)
        self.connection.upstream_takes(False, self.clock())

    def free_for_broker(self) -> None:
        """The broker takes bytes again."""
        self._free_client(_BY_BROKER)
        self.connection.upstream_takes(True, self.clock())
        self.act()

    def expel(self) -> None:
        """End this connection if its client is banned by hand."""
        self.connection.expel()
        self.act()

    def shut_down(self) -> None:
        """End this connection because the gateway is ending."""
        self.connection.shut_down()
        self.act()

    # What the connection says

    def act(self) -> None:
        """Write and do what the connection says."""
        connection = self.connection
        out = connection.to_broker
        if out:
            if self.broker is not None:
                if len(out) == 1:
                    self.broker.write(out[0])
                else:
                    self.broker.write(b"".join(out))
            out.clear()
        out = connection.to_client
        if out:
            if self.client is not None:
                if len(out) == 1:
                    self.client.write(out[0])
                else:
                    self.client.write(b"".join(out))
            out.clear()
        if connection.commands:
            self._command()
        if connection.wake_at != 0.0 and (self.timer_at == 0.0 or connection.wake_at < self.timer_at):
            self._plan()

    def _command(self) -> None:
        commands = self.connection.commands
        self.connection.commands = 0
        if commands & _OPEN_UPSTREAM:
            self._is_opening = True
            self.host.open_upstream(self)
        if commands & _ASK and self.client is not None and not self.client.is_closing():
            self.client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if commands & _RESUME:
            self._stop_client(_BY_TURN)
            self.host.take_turn(self)
        if commands & _FREE_CLIENT:
            self._free_client(_BY_CONNECTION)
        elif commands & _HOLD_CLIENT:
            self._stop_client(_BY_CONNECTION)
        if commands & _RESUME_BROKER:
            self._stop_broker(_BY_TURN)
            self.loop.call_soon(self._turn_broker)
        if commands & _FREE_BROKER:
            self._free_broker(_BY_CONNECTION)
        elif commands & _HOLD_BROKER:
            self._stop_broker(_BY_CONNECTION)
        if commands & _END and not self.ended:
            self._end(commands & _KEEP != 0)

    def _end(self, keeps: bool) -> None:
        """Close both sides once they have what was written; after LINGER whatever is left is cut off.

        `keeps`: the upstream is left to others, if it is still there.
        """
        self.ended = True
        self.host.connection_ended(self, self.connection)
        if keeps and self.broker is not None and not self.broker.is_closing():
            self._free_broker(self.broker_stopped)
            broker = self.broker
            self.broker = None
            self.host.keep_upstream(self.connection.bequeath(), broker)
        self._release()
        if self.client is not None:
            self.client.close()
        if self.broker is not None and not self.broker.is_closing():
            # Half-closed: the broker reads all that has passed, and then the end. Were it closed whole, the broker's
            # first answer would fail, and Mosquitto then leaves the rest unread.
            self._free_broker(self.broker_stopped)
            self.broker.write_eof()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.client is not None or self.broker is not None:
            self.timer = self.loop.call_later(LINGER, self._cut)

    def _release(self) -> None:
        """Let go of what is over: of a connection that has ended, and of the timer once both sides are closed."""
        if self.client is not None:
            return
        # A client that has left may have messages that are held; its connection ends when they have gone.
        if self.connection.state == _CLOSED and self in self.host.relays:
            self.connection.flusher = self.connection.has_hung_up = None
            self.host.relays.discard(self)
            self.host.counters.put(CONNECTIONS, len(self.host.relays))
        if self.broker is not None:
            return
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self._has_room and not self._is_opening:
            self._has_room = False
            self.host.leave_room()

    def _cut(self) -> None:
        self.timer = None
        for transport in (self.broker, self.client):
            if transport is not None:
                transport.abort()

    # Who is read

    def _stop_client(self, reason: int) -> None:
        if not self.client_stopped and self.client is not None and not self.client.is_closing():
            self.client.pause_reading()
        self.client_stopped |= reason

    def _free_client(self, reason: int) -> None:
        was = self.client_stopped
        self.client_stopped &= ~reason
        if was and not self.client_stopped and self.client is not None and not self.client.is_closing():
            self.client.resume_reading()
            self.connection.client_read_again(self.clock())

    def _stop_broker(self, reason: int) -> None:
        if self.ended:  # its end is waited for
            return
        if not self.broker_stopped and self.broker is not None and not self.broker.is_closing():
            self.broker.pause_reading()
        self.broker_stopped |= reason

    def _free_broker(self, reason: int) -> None:
        was = self.broker_stopped
        self.broker_stopped &= ~reason
        if was and not self.broker_stopped and self.broker is not None and not self.broker.is_closing():
            self.broker.resume_reading()

    def turn(self) -> None:
        """It is this client's turn to be read."""
        self._free_client(_BY_TURN)
        self.connection.resume(self.clock())
        self.act()

    def _turn_broker(self) -> None:
        self._free_broker(_BY_TURN)
        self.connection.resume_broker(self.clock())
        self.act()

    # The timer

    def _plan(self) -> None:
        """Arm the timer for the connection's next wake-up.

        A wake-up that moves later (every packet moves it) leaves the timer as it is: it looks again when it fires.
        """
        if self.timer is not None:
            self.timer.cancel()
        self.timer_at = self.connection.wake_at
        self.timer = self.loop.call_at(self.timer_at, self._wake)

    def _wake(self) -> None:
        self.timer = None
        self.timer_at = 0.0
        # Not reading hides whether a client lives. One that has sent what is not read yet does; one that neither reads
        # nor sends is as silent as any other. Nor does the loop notice that it has closed.
        connection = self.connection
        is_open = connection.state == _OPEN
        connection.client_unread = self.client_stopped != 0
        connection.client_excused = self.client_stopped & ~_BY_TURN != 0 and is_open and bytes_waiting(self.client)
        connection.client_gone = self.client_stopped & _BY_CONNECTION != 0 and is_open and has_hung_up(self.client)
        connection.tick(self.clock())
        self.act()


class Upstream:
    """The broker's side of a relay: likewise an asyncio.Protocol."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay

    def connection_made(self, transport: asyncio.Transport) -> None:
        """The broker has accepted."""
        self.relay.broker_made(transport)

    def data_received(self, data: bytes) -> None:
        """The broker has sent bytes."""
        self.relay.broker_received(data)

    def eof_received(self) -> bool:
        """The broker has closed its half: the loop closes the other."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The broker's socket is closed."""
        self.relay.broker_lost(exc is not None)

    def pause_writing(self) -> None:
        """The broker does not take what is written to it."""
        self.relay.stop_for_broker()

    def resume_writing(self) -> None:
        """The broker takes bytes again."""
        self.relay.free_for_broker()
