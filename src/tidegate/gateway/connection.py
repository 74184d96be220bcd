"""One client and its upstream, sans I/O: bytes and the time in; bytes, commands and the next wake-up out.

The driver feeds what it reads to `client_bytes` and `broker_bytes`, tells of sockets that opened or closed, and calls
`tick` at `wake_at`. After each of these it writes `to_client` and `to_broker`, empties both, and carries out
`commands`. Every packet of the client is checked whole before any of its bytes goes on; where all packets of a read
pass, the very same object is forwarded, so that a message costs no copy.

What one connection can make the gateway hold is bounded: a packet up to STORE is kept until it is whole, a larger
PUBLISH is passed on as it comes once its header is known (at most HEADER), any other packet is kept up to STORED.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..engine.counters import (
    BROKER_LOST,
    BYTES_FROM_BROKER,
    BYTES_FROM_CLIENT,
    MALFORMED,
    PACKETS_FROM_BROKER,
    PACKETS_FROM_CLIENT,
    REFUSED_UPSTREAM_DOWN,
    TIMED_OUT_CONNECT,
    TIMED_OUT_KEEPALIVE,
    Counters,
)
from ..mqtt.ack import Ack, write_ack
from ..mqtt.connack import Connack
from ..mqtt.connect import Connect, peek_version
from ..mqtt.errors import Fault, PacketError
from ..mqtt.framing import Frame
from ..mqtt.properties import Properties, PropertyId
from ..mqtt.publish import Publish
from ..mqtt.reasons import PacketType, ReasonCode
from ..mqtt.session import PINGREQ, Auth, Disconnect, check_ping
from ..mqtt.subscribe import Subscribe, Unsubscribe
from .aliases import Aliases
from .guard import Guard
from .handshake import NO_LIMIT, client_connack, number, upstream_connect
from .notices import MARK, Notices
from .states import Event, State, follow

if TYPE_CHECKING:  # compiled code knows it by connection.pxd; interpreted code is only handed one
    from ..engine.binding import Engine

STORE = 65_536
"""Bytes: packets up to this size are forwarded whole, larger PUBLISH packets as they come."""
HEADER = 2 * 65_536 + 16
"""Bytes: the topic and properties of a larger PUBLISH; room for a topic of any size and as much again."""
STORED = 1_048_576
"""Bytes: the largest packet other than PUBLISH. `max_packet` lowers it, never raises it."""
PROGRESS = 1_000
"""Bytes still missing from a packet under way above which its arrival counts as a sign of life (as in Mosquitto)."""
MOST_TOLD = 100
"""Answers to one read that give their reasons; the others are bare codes, so that no flood is answered by a larger."""
MOST_WAITING = 1_000
"""Packets of our own that wait for the end of one of the broker's before the client is no longer read."""
LINGER = 5.0
"""Seconds that the broker has to end a connection whose client has left."""

OPEN_UPSTREAM = 1
"""Command: connect to the broker, then call `upstream_opened` or `upstream_failed`."""
HOLD_CLIENT = 2
"""Command: stop reading from the client."""
FREE_CLIENT = 4
"""Command: read from the client again."""
END = 8
"""Command: close both sides, each when what was written to it has left."""

# The states and packet types as plain numbers, for the compiled path.
_GREETING = int(State.GREETING)
_OPENING = int(State.OPENING)
_OPEN = int(State.OPEN)
_LEAVING = int(State.LEAVING)
_CLOSED = int(State.CLOSED)
_CONNECT = int(PacketType.CONNECT)
_CONNACK = int(PacketType.CONNACK)
_PUBLISH = int(PacketType.PUBLISH)
_PUBACK = int(PacketType.PUBACK)
_PUBREC = int(PacketType.PUBREC)
_PUBREL = int(PacketType.PUBREL)
_PUBCOMP = int(PacketType.PUBCOMP)
_SUBSCRIBE = int(PacketType.SUBSCRIBE)
_SUBACK = int(PacketType.SUBACK)
_UNSUBSCRIBE = int(PacketType.UNSUBSCRIBE)
_UNSUBACK = int(PacketType.UNSUBACK)
_PINGREQ = int(PacketType.PINGREQ)
_PINGRESP = int(PacketType.PINGRESP)
_DISCONNECT = int(PacketType.DISCONNECT)
_AUTH = int(PacketType.AUTH)
_LIMITED = 5
"""Of policy.model.Action: DISCONNECT, and all above it."""
_FROM_CLIENT = PACKETS_FROM_CLIENT
_FROM_BROKER = PACKETS_FROM_BROKER
_CLIENT_BYTES = BYTES_FROM_CLIENT
_BROKER_BYTES = BYTES_FROM_BROKER

# Read again and again by every connection of the process: a packet allocates no object.
_frame = Frame()
_publish = Publish()
_ack = Ack()


class Connection:
    """See the module's text. `max_packet` is in bytes, `connect_timeout` and `now` in seconds."""

    def __init__(self, counters: Counters, max_packet: int, connect_timeout: float, now: float) -> None:
        self.counters = counters
        self.max_packet = max_packet
        self.connect_timeout = connect_timeout
        self.state = _GREETING
        self.version = 0
        self.to_client: list[bytes] = []
        self.to_broker: list[bytes] = []
        self.commands = 0
        self.wake_at = now + connect_timeout
        """When `tick` is due; 0: never."""
        self.client_excused = False
        """Set by the driver before a `tick`: silence is not the client's, for what it sent has not been read."""
        self.fault: PacketError | None = None
        """What the client did wrong, once it has."""
        self.broker_fault: PacketError | None = None
        """What the broker did wrong, once it has."""
        self.doubt_broker = False
        """True once the broker has closed an open connection without DISCONNECT, or has not answered CONNECT."""
        self._engine: Engine | None = None
        self._address = b""
        self._listener = b""
        self._connect: Connect | None = None
        self._guard: Guard | None = None
        self._now = now
        self._last_client = now
        self._last_upstream = now
        self._keepalive = 0.0
        self._greeting = b""
        self._held = b""
        self._client_tail: bytearray | None = None
        self._client_need = 0
        self._client_left = 0
        self._skipping = False
        self._owed = b""
        self._waiting: list[bytes] | None = None
        self._broker_tail: bytearray | None = None
        self._broker_need = 0
        self._broker_left = 0
        self._client_packet = NO_LIMIT
        self._broker_packet = NO_LIMIT
        self._receive_maximum = 0
        self._unacknowledged: set[int] | None = None
        self._aliases: Aliases | None = None
        self._enhanced = False
        self._client_turn = False
        self._client_pings = 0
        self._own_pings = 0

    def limit(self, engine: "Engine", address: bytes, listener: bytes) -> None:
        """Hold the client's messages to the limits of `engine`; to be called before its first bytes.

        `address` (4 or 16 bytes, none for a Unix socket) and `listener` are what is known of it besides CONNECT.
        """
        self._engine = engine
        self._address = address
        self._listener = listener

    # Input: the client's side

    def client_bytes(self, data: bytes, now: float) -> None:
        """Take what was read from the client."""
        self._now = now
        self.counters.add(_CLIENT_BYTES, len(data))
        if self._client_tail is not None:
            self._client_tail += data
            missing = self._client_need - len(self._client_tail)
            if missing > 0:
                if missing > PROGRESS:
                    self._last_client = now
                return
            data = bytes(self._client_tail)
            self._client_tail = None
        if self.state == _OPEN:
            self._client_packets(data)
        elif self.state == _GREETING or self.state == _OPENING:
            self._client_opening(data)

    def client_closed(self) -> None:
        """The client's socket has closed: the broker sees the same, and fires the will if none said DISCONNECT."""
        if self.state != _CLOSED:
            self._end(Event.CLIENT_GONE)

    def _client_opening(self, data: bytes) -> None:
        """Packets before CONNACK: CONNECT, then AUTH; all else is held, and the client no longer read."""
        at = 0
        try:
            while at < len(data):
                kind = data[at] >> 4
                if self.state == _GREETING:
                    if kind != _CONNECT:
                        raise PacketError(Fault.FIRST_PACKET, "the first packet is not a CONNECT")
                elif kind != _AUTH or not self._enhanced:
                    self._held = data[at:]
                    self.commands |= HOLD_CLIENT
                    return
                if not _frame.read(data, at):
                    self._keep_client(data, at, len(data) - at + 1)
                    return
                body, end = _frame.body, _frame.end
                if end - at > min(STORED, self.max_packet):
                    if kind == _CONNECT:
                        self.version = peek_version(data, body, min(end, len(data)))
                    raise PacketError(Fault.TOO_LARGE, f"a {PacketType(kind).name} of more bytes than are taken")
                if end > len(data):
                    self._keep_client(data, at, end - at)
                    return
                self.counters.add(_FROM_CLIENT + kind, 1)
                if kind == _CONNECT:
                    self._greet(data, at, body, end)
                else:
                    self._check_padding()
                    Auth.read(data, at, body, end, from_client=True)
                    if not self._client_turn:
                        raise PacketError(Fault.DIRECTION, "AUTH that the broker has not asked for")
                    self._client_turn = False
                    self._send_broker(data[at:end])
                    self.wake_at = self._now + self.connect_timeout
                at = end
        except PacketError as error:
            self._violation(error)

    def _greet(self, data: bytes, at: int, body: int, end: int) -> None:
        self.version = peek_version(data, body, end)
        self._check_padding()
        connect = Connect.read(data, at, body, end)
        self._keepalive = float(connect.keepalive)
        if self.version == 5:
            self._client_packet = number(connect.properties, PropertyId.MAXIMUM_PACKET_SIZE, NO_LIMIT)
            self._enhanced = connect.authentication_method is not None
        if self._engine is not None:
            self._connect = connect
        self._greeting = upstream_connect(connect, data[at:end])
        self._last_client = self._now
        self.state = follow(State(self.state), Event.CONNECT)
        self.wake_at = self._now + self.connect_timeout
        self.commands |= OPEN_UPSTREAM

    def _client_packets(self, data: bytes) -> None:
        """Packets of a client that the broker has accepted: check each, forward what passes."""
        size = len(data)
        at = 0
        run = 0  # the bytes from here to `at` pass as they are
        if self._client_left:
            self._last_client = self._now
            if size < self._client_left:
                self._client_left -= size
                if not self._skipping:
                    self._send_broker(data)
                return
            at = self._client_left
            self._client_left = 0
            if self._skipping:
                run = at
                self._skipped()
            self._plan()
        try:
            while at < size:
                kind = data[at] >> 4
                if not _frame.read(data, at):
                    self._keep_client(data, at, size - at + 1)
                    break
                body = _frame.body
                end = _frame.end
                if _frame.padded:
                    self._check_padding()
                if end - at > self.max_packet or (kind != _PUBLISH and end - at > STORED):
                    raise PacketError(Fault.TOO_LARGE, "a packet of more bytes than are taken")
                if end > size and (kind != _PUBLISH or end - at <= STORE):
                    self._keep_client(data, at, end - at)
                    break
                if kind == _PUBLISH:
                    if not _publish.read(data, at, body, end, self.version, True):
                        if _publish.needed - at > HEADER:
                            raise PacketError(Fault.TOO_LARGE, "a PUBLISH whose topic and properties are too long")
                        self._keep_client(data, at, _publish.needed - at)
                        break
                    live = False
                    if _publish.qos and self._receive_maximum:
                        live = self._take_quota(_publish.packet_id)
                    # An alias is learned even from a message that is refused.
                    topic = self._aliased(data) if _publish.alias else None
                    if self._guard is not None and self._refused(data, at, end, topic, live):
                        if run < at:
                            self._send_broker(data[run:at])
                        run = min(end, size)
                    elif topic is not None:
                        head = self._without_alias(data, at, end, topic)
                        if run < at:
                            self._send_broker(data[run:at])
                        self._send_broker(head)
                        run = _publish.payload
                    if end > size:
                        self._client_left = end - size
                        end = size
                elif _PUBACK <= kind <= _PUBCOMP:
                    _ack.read(data, at, body, end, self.version)
                    if kind == _PUBREL and self._guard is not None and self._guard.release(_ack.packet_id):
                        self._settle(_ack.packet_id)
                        self._tell_client(write_ack(PacketType.PUBCOMP, _ack.packet_id))
                        if run < at:
                            self._send_broker(data[run:at])
                        run = end
                else:
                    instead = self._control(kind, data, at, body, end)
                    if instead is not None:
                        if run < at:
                            self._send_broker(data[run:at])
                        if instead:
                            self._send_broker(instead)
                        run = end
                self.counters.add(_FROM_CLIENT + kind, 1)
                self._last_client = self._now
                at = end
                if self.state != _OPEN:  # DISCONNECT: what follows it is nobody's
                    break
        except PacketError as error:
            if run < at:
                self._send_broker(data[run:at])
            self._violation(error)
            return
        if run == 0 and at == size:
            self._send_broker(data)
        elif run < at:
            self._send_broker(data[run:at])

    def _check_padding(self) -> None:
        if _frame.padded and self.version == 5:
            raise PacketError(Fault.LENGTH, "the remaining length has more bytes than it needs")

    def _refused(self, data: bytes, at: int, end: int, topic: bytes | None, live: bool) -> bool:
        """Whether a limit keeps the PUBLISH at `at` from the broker; then the client has been answered.

        `live`: an exchange with its identifier is going on already.
        """
        text = data if topic is None else topic
        start = _publish.topic if topic is None else 0
        stop = _publish.topic_end if topic is None else len(topic)
        guard = self._guard
        assert guard is not None
        again = guard.plays(_publish.packet_id)
        action = guard.judge(_publish, text, start, stop, end - at, end - _publish.payload, self._now)
        if action == 0:
            return False
        if action >= _LIMITED:
            self._dismiss(ReasonCode.MESSAGE_RATE_TOO_HIGH, guard.reason())
            self._end(Event.LIMITED)
            return True
        if live and not _publish.dup:  # an answer of ours would settle the exchange that the broker has
            raise PacketError(Fault.PACKET_ID, "a packet identifier that is still in use", ReasonCode.PROTOCOL_ERROR)
        if guard.notices is not None and not again:
            self._tell_client(guard.notice(action, text[start:stop], self._now))
        queued = len(self.to_client) + (0 if self._waiting is None else len(self._waiting))
        answer = guard.answer(action, _publish, queued >= MOST_TOLD)
        if not guard.plays(_publish.packet_id):
            self._settle(_publish.packet_id)
        if end > len(data):  # answered once all of it has come and been skipped
            self._skipping = True
            self._owed = answer
        else:
            self._tell_client(answer)
        return True

    def _skipped(self) -> None:
        """The last byte of a large message that was refused has come."""
        self._skipping = False
        self._tell_client(self._owed)
        self._owed = b""

    def _tell_client(self, wire: bytes) -> None:
        """Write a packet of our own, which must not stand inside one of the broker's."""
        if not wire:
            return
        if not self._broker_left:
            self.to_client.append(wire)
            return
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(wire)
        if len(self._waiting) == MOST_WAITING:
            self.commands |= HOLD_CLIENT

    def _tell_waiting(self) -> None:
        """One of the broker's packets has ended: what waited for it may be written."""
        waiting = self._waiting
        self._waiting = None
        if waiting is not None:
            self.to_client.extend(waiting)
            if len(waiting) >= MOST_WAITING:
                self.commands |= FREE_CLIENT

    def _settle(self, packet_id: int) -> None:
        """An exchange of the client's is over: its quota is its own again (section 4.9)."""
        if self._unacknowledged is not None:
            self._unacknowledged.discard(packet_id)

    def _control(self, kind: int, data: bytes, at: int, body: int, end: int) -> bytes | None:
        """Check a packet that is not in a message's path; what the broker gets instead of it, None: itself."""
        if kind == _PINGREQ:
            check_ping(data, at, body, end)
            self._client_pings += 1
        elif kind == _SUBSCRIBE:
            subscribe = Subscribe.read(data, at, body, end, self.version)
            if self._guard is not None and MARK in data[at:end]:
                to_broker, to_client = self._notices().subscribe(subscribe)
                self._tell_client(to_client)
                return to_broker
        elif kind == _UNSUBSCRIBE:
            unsubscribe = Unsubscribe.read(data, at, body, end, self.version)
            if self._guard is not None and MARK in data[at:end]:
                to_broker, to_client = self._notices().unsubscribe(unsubscribe)
                self._tell_client(to_client)
                return to_broker
        elif kind == _DISCONNECT:
            Disconnect.read(data, at, body, end, self.version, from_client=True)
            self._leave(Event.CLIENT_LEFT)
        elif kind == _AUTH and self.version == 5:
            Auth.read(data, at, body, end, from_client=True)
            if not self._enhanced:  # section 4.12
                raise PacketError(Fault.DIRECTION, "AUTH after a CONNECT without an authentication method")
        elif kind == _CONNECT:
            raise PacketError(Fault.SECOND_CONNECT, "a second CONNECT")
        else:
            raise PacketError(Fault.DIRECTION, "a packet that this client cannot send")
        return None

    def _notices(self) -> Notices:
        guard = self._guard
        assert guard is not None
        if guard.notices is None:
            guard.notices = Notices(self.version, self._client_packet)
        return guard.notices

    def _take_quota(self, packet_id: int) -> bool:
        """Count an exchange of the client's; whether one with this identifier is going on already."""
        if self._unacknowledged is None:
            self._unacknowledged = set()
        if packet_id in self._unacknowledged:
            return True
        self._unacknowledged.add(packet_id)
        if len(self._unacknowledged) > self._receive_maximum:
            raise PacketError(
                Fault.RECEIVE_MAXIMUM,
                f"more than Receive Maximum, {self._receive_maximum}, unacknowledged messages",
            )
        return False

    def _aliased(self, data: bytes) -> bytes:
        if self._aliases is None:
            self._aliases = Aliases()
        return self._aliases.resolve(_publish.alias, data[_publish.topic : _publish.topic_end])

    def _without_alias(self, data: bytes, at: int, end: int, topic: bytes) -> bytes:
        head = b""
        if end - at + len(topic) <= NO_LIMIT:
            head = _publish.without_alias(data, at, end, topic)
        if not head or len(head) + end - _publish.payload > self._broker_packet:
            raise PacketError(Fault.TOO_LARGE, "with its topic in full, a PUBLISH larger than the broker takes")
        return head

    # Input: the upstream

    def upstream_opened(self, now: float) -> None:
        """The broker's socket is open: CONNECT goes out."""
        self._now = now
        self._send_broker(self._greeting)
        self._greeting = b""
        self.wake_at = now + self.connect_timeout

    def upstream_failed(self) -> None:
        """The broker cannot be reached: the client is told so, and to come back (0x88; 3 in 3.x)."""
        if self.state == _OPENING:
            self.counters.add(REFUSED_UPSTREAM_DOWN, 1)
            self._refuse(ReasonCode.SERVER_UNAVAILABLE, "the broker is not available")
            self._end(Event.BROKER_GONE)

    def broker_closed(self, lost: bool) -> None:
        """The upstream has closed; `lost` when by an error rather than by the broker's own will."""
        if self.state == _CLOSED:
            return
        if self.state == _OPENING and lost:
            self.upstream_failed()
            return
        if self.state == _OPEN:
            self.doubt_broker = True
            self.counters.add(BROKER_LOST, 1)
            self._dismiss(ReasonCode.SERVER_SHUTTING_DOWN, "the broker closed the connection")
        self._end(Event.BROKER_GONE)

    def broker_bytes(self, data: bytes, now: float) -> None:
        """Take what was read from the broker."""
        self._now = now
        self.counters.add(_BROKER_BYTES, len(data))
        if self._broker_tail is not None:
            self._broker_tail += data
            if len(self._broker_tail) < self._broker_need:
                return
            data = bytes(self._broker_tail)
            self._broker_tail = None
        if self.state != _CLOSED:
            self._broker_packets(data)
        if self._held and self.state == _OPEN:
            held = self._held
            self._held = b""
            self.commands |= FREE_CLIENT
            self._client_packets(held)

    def _broker_packets(self, data: bytes) -> None:
        """Packets of the broker: follow those that say something about the connection, forward all but our pings'."""
        size = len(data)
        at = 0
        run = 0
        if self._broker_left:
            if size < self._broker_left:
                self._broker_left -= size
                self.to_client.append(data)
                return
            at = self._broker_left
            self._broker_left = 0
            if self._waiting is not None:
                self.to_client.append(data[:at])
                self._tell_waiting()
                run = at
        try:
            while at < size:
                kind = data[at] >> 4
                if self.state == _OPENING and kind not in (_CONNACK, _AUTH, _DISCONNECT):
                    raise PacketError(Fault.FIRST_PACKET, "the broker's first packet is not a CONNACK")
                if not _frame.read(data, at):
                    self._keep_broker(data, at, size - at + 1)
                    break
                body = _frame.body
                end = _frame.end
                if end > size:
                    if kind != _PUBLISH:
                        if end - at > STORED:
                            raise PacketError(Fault.TOO_LARGE, "a packet of more bytes than are taken")
                        self._keep_broker(data, at, end - at)
                        break
                    self._broker_left = end - size
                    end = size
                self.counters.add(_FROM_BROKER + kind, 1)
                if kind == _PUBLISH:
                    pass
                elif kind == _PUBACK or kind == _PUBREC or kind == _PUBCOMP:
                    if self._unacknowledged is not None:
                        _ack.read(data, at, body, end, self.version)
                        if kind != _PUBREC or _ack.reason >= 0x80:
                            self._unacknowledged.discard(_ack.packet_id)
                elif kind == _PINGRESP:
                    # A client's ping is answered first: a broker that loses an answer must not cost the client one.
                    if self._client_pings:
                        self._client_pings -= 1
                    elif self._own_pings:
                        self._own_pings -= 1
                        if run < at:
                            self.to_client.append(data[run:at])
                        run = end
                elif (kind == _SUBACK or kind == _UNSUBACK) and self._guard is not None:
                    if self._guard.notices is not None:
                        wire = self._guard.notices.acknowledge(data, at, body, end)
                        if run < at:
                            self.to_client.append(data[run:at])
                        self.to_client.append(wire)
                        run = end
                elif kind == _CONNACK:
                    wire = self._accept(data, at, body, end)
                    if run < at:
                        self.to_client.append(data[run:at])
                    self.to_client.append(wire)
                    run = end
                elif kind == _AUTH:
                    Auth.read(data, at, body, end, from_client=False)
                    if self.state == _OPENING:
                        self._client_turn = True
                        self.wake_at = self._now + self.connect_timeout
                elif kind == _DISCONNECT:
                    Disconnect.read(data, at, body, end, self.version, from_client=False)
                    self._leave(Event.BROKER_DISMISSED)
                at = end
        except PacketError as error:
            if run < at:
                self.to_client.append(data[run:at])
            self._broker_violation(error)
            return
        if run == 0 and at == size:
            self.to_client.append(data)
        elif run < at:
            self.to_client.append(data[run:at])

    def _accept(self, data: bytes, at: int, body: int, end: int) -> bytes:
        """The CONNACK that the client gets for the broker's."""
        if self.state != _OPENING:
            raise PacketError(Fault.SECOND_CONNECT, "a second CONNACK")
        connack = Connack.read(data, at, body, end, self.version)
        offer = client_connack(connack, data[at:end], self.version, self.max_packet, self._client_packet)
        if not offer.accepted:
            self._leave(Event.REFUSED)
            return offer.wire
        self._receive_maximum = offer.receive_maximum
        self._broker_packet = offer.broker_packet
        if offer.keepalive is not None:
            self._keepalive = float(offer.keepalive)
        self.state = follow(State(self.state), Event.ACCEPTED)
        self._last_client = self._now
        if self._engine is not None and self._connect is not None:
            self._guard = Guard(
                self._engine, self._connect, connack, self._address, self._listener, self._client_packet
            )
            self._connect = None
        self._plan()
        return offer.wire

    # Input: the clock

    def tick(self, now: float) -> None:
        """Do what is due at `now` and set `wake_at` anew."""
        self._now = now
        if self.state == _OPEN:
            if self._keepalive:
                self._keep_alive()
        elif self.wake_at and now >= self.wake_at:
            if self.state == _OPENING and not self._client_turn:
                self.doubt_broker = True
                self.upstream_failed()
                return
            if self.state != _LEAVING:
                self.counters.add(TIMED_OUT_CONNECT, 1)
            self._end(Event.TIMEOUT)

    def shut_down(self) -> None:
        """The gateway is ending: the client is told, and may go elsewhere."""
        if self.state == _CLOSED:
            return
        if self.state == _OPENING:
            self._refuse(ReasonCode.SERVER_SHUTTING_DOWN, "the gateway is shutting down")
        elif self.state == _OPEN:
            self._dismiss(ReasonCode.SERVER_SHUTTING_DOWN, "the gateway is shutting down")
        self._end(Event.SHUTDOWN)

    def _keep_alive(self) -> None:
        """Section 3.1.2.10: one and a half times the keepalive towards the client, a ping of ours towards the broker.

        The broker must not end a connection whose client is alive, whatever of it has been forwarded.
        """
        if self.client_excused:
            self._last_client = self._now
        if self._now >= self._last_client + 1.5 * self._keepalive:
            self.counters.add(TIMED_OUT_KEEPALIVE, 1)
            self._dismiss(ReasonCode.KEEP_ALIVE_TIMEOUT, "nothing came for one and a half times the keepalive")
            self._end(Event.TIMEOUT)
            return
        if (self._skipping or not self._client_left) and self._now >= self._last_upstream + 0.75 * self._keepalive:
            self._own_pings += 1
            self._send_broker(PINGREQ)
        self._plan()

    def _plan(self) -> None:
        """Set `wake_at` of an open connection."""
        if not self._keepalive:
            self.wake_at = 0.0
            return
        self.wake_at = self._last_client + 1.5 * self._keepalive
        if self._skipping or not self._client_left:  # nothing of ours may stand inside a packet under way
            self.wake_at = min(self.wake_at, self._last_upstream + 0.75 * self._keepalive)

    # Output

    def _send_broker(self, data: bytes) -> None:
        self.to_broker.append(data)
        self._last_upstream = self._now

    def _keep_client(self, data: bytes, at: int, need: int) -> None:
        self._client_tail = bytearray(data[at:])
        self._client_need = need
        if need - len(self._client_tail) > PROGRESS:
            self._last_client = self._now

    def _keep_broker(self, data: bytes, at: int, need: int) -> None:
        self._broker_tail = bytearray(data[at:])
        self._broker_need = need

    def _leave(self, event: Event) -> None:
        self.state = follow(State(self.state), event)
        self.commands |= HOLD_CLIENT
        self.wake_at = self._now + LINGER

    def _end(self, event: Event) -> None:
        self.state = follow(State(self.state), event)
        self.commands |= END
        self.wake_at = 0.0
        self._held = self._greeting = b""
        self._client_tail = self._broker_tail = None
        self._unacknowledged = None
        self._aliases = None
        self._connect = None
        self._guard = None
        self._waiting = None

    def _violation(self, error: PacketError) -> None:
        """The client broke the rules: counted, told where the version can (section 4.13), and closed."""
        self.counters.add(MALFORMED + error.fault, 1)
        self.fault = error
        if self.state == _OPEN:
            self._dismiss(error.reason, error.text)
        elif self.version or error.fault is Fault.PROTOCOL:
            self._refuse(error.reason, error.text)
        self._end(Event.VIOLATION)

    def _broker_violation(self, error: PacketError) -> None:
        self.broker_fault = error
        if self.state == _OPENING:
            self._refuse(ReasonCode.SERVER_UNAVAILABLE, "the broker's answer is not MQTT")
        elif self.state == _OPEN:
            self._dismiss(ReasonCode.UNSPECIFIED_ERROR, "the broker sent what is not MQTT")
        self._end(Event.BROKER_GONE)

    def _refuse(self, reason: ReasonCode, text: str) -> None:
        """CONNACK with a refusal. 3.x knows five codes; an unknown version is answered like 3.1.1 (section 3.1.2.2)."""
        if self.version == 5:
            self._tell(lambda properties: Connack(False, reason, properties).write(5), text)
        elif reason is ReasonCode.UNSUPPORTED_PROTOCOL_VERSION:
            self.to_client.append(Connack(False, 1, []).write(4))
        elif reason in (ReasonCode.SERVER_UNAVAILABLE, ReasonCode.SERVER_SHUTTING_DOWN):
            self.to_client.append(Connack(False, 3, []).write(4))

    def _dismiss(self, reason: ReasonCode, text: str) -> None:
        """DISCONNECT to a client of MQTT 5, unless one of the broker's packets is half-way through."""
        if self.version == 5 and not self._broker_left:
            self._tell(lambda properties: Disconnect(reason, properties).write(), text)

    def _tell(self, write: Callable[[Properties], bytes], text: str) -> None:
        """Write a packet with its reason string, or without, or not at all, as the client's largest packet allows."""
        forms: tuple[Properties, Properties] = ([(PropertyId.REASON_STRING, text)], [])
        for properties in forms:
            wire = write(properties)
            if len(wire) <= self._client_packet:
                self.to_client.append(wire)
                return
