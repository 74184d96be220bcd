"""One client and its upstream, sans I/O: bytes and the time in; bytes, commands and the next wake-up out.

The driver feeds what it reads to `client_bytes` and `broker_bytes`, tells of sockets that opened or closed, and calls
`tick` at `wake_at`. After each of these it writes `to_client` and `to_broker`, empties both, and carries out
`commands`. Every packet of the client is checked whole before any of its bytes goes on; where all packets of a read
pass, the very same object is forwarded, so that a message costs no copy.

What one connection can make the gateway keep is bounded: a packet up to STORE is kept until it is whole, a larger
PUBLISH is passed on as it comes once its header is known (at most HEADER), any other packet is kept up to STORED.
Messages that a limit delays wait in a hold of bounded size (`hold.py`); one that finds no room there, or is larger than
STORE, is parked: it and all behind it waits, and the client is not read.
"""

from collections.abc import Callable
from heapq import nsmallest

from ..engine.counters import (
    BROKER_LOST,
    BYTES_FROM_BROKER,
    BYTES_FROM_CLIENT,
    HOLD_DISCARDED,
    INFLIGHT_FROM_BROKER,
    INFLIGHT_FROM_CLIENT,
    MALFORMED,
    PACKETS_FROM_BROKER,
    PACKETS_FROM_CLIENT,
    REFUSED,
    TIMED_OUT_CONNECT,
    TIMED_OUT_KEEPALIVE,
    TIMED_OUT_PACKET,
    TIMED_OUT_WINDOW,
    Counters,
    Discard,
    Refusal,
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
from .admission import PASS, Admission, Denial, Door
from .aliases import Aliases
from .bounds import Bounds
from .guard import OWED_TIME, Guard, identifier_in_use
from .handshake import NO_LIMIT, client_connack, is_longer, number, upstream_connect
from .hold import Held, Hold
from .notices import MARK, Notices
from .states import Event, State, follow
from .waiting import ASKED, GONE, NEVER, PASSED, WAITS, Lane

STORE = 65_536
"""Bytes: packets up to this size are forwarded whole, larger PUBLISH packets as they come."""
HEADER = 2 * 65_536 + 16
"""Bytes: the topic and properties of a larger PUBLISH; room for a topic of any size and as much again."""
STORED = 1_048_576
"""Bytes: the largest packet other than PUBLISH. `max_packet` lowers it, never raises it."""
PROGRESS = 1_000
"""Bytes still missing from a packet under way above which its arrival counts as a sign of life (as in Mosquitto); and
what must come of it within each `packet_timeout`, if not the rest. At the default 30 s that is a line of 300 bit/s."""
MOST_TOLD = 100
"""Answers to one read that give their reasons; the others are bare codes, so that no flood is answered by a larger."""
MOST_WAITING = 1_000
"""Packets of our own that wait for the end of one of the broker's before the client is no longer read."""
OVERFLOW = 8 << 20
"""Bytes that are read of a client which was left unread for as long as may be, unless it has sent less: what the kernel
may have kept of it meanwhile, its pings among it. Then it may be left again, or a flood would be read at full speed."""
MOST_AT_ONCE = 64
"""Messages of one read that are kept back or refused before others have their turn: about a millisecond's work."""
MOST_OWN = 8
"""Messages in a connection's own lane that are tried at a time."""
LONGEST_WAIT = 5.0
"""Seconds that a message may find no room, or no quota of the broker's left, where no limit says how long."""
LINGER = 5.0
"""Seconds that the broker has to end a connection whose client has left."""

OPEN_UPSTREAM = 1
"""Command: connect to the broker, then call `upstream_opened` or `upstream_failed`."""
HOLD_CLIENT = 2
"""Command: stop reading from the client."""
FREE_CLIENT = 4
"""Command: read from the client again."""
RESUME = 16
"""Command: call `resume` when this client's turn has come: not all that are to be read again are read at once."""
END = 8
"""Command: close both sides, each when what was written to it has left."""
ASK = 32
"""Command: have the kernel ask whether the client is there, which has promised no sign of life."""

# The states and packet types as plain numbers, for the compiled path.
_GREETING = int(State.GREETING)
_ARRIVED = int(State.ARRIVED)
_TURNED_AWAY = int(State.TURNED_AWAY)
_QUEUED = int(State.QUEUED)
_OPENING = int(State.OPENING)
_OPEN = int(State.OPEN)
_EMPTYING = int(State.EMPTYING)
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
_ITSELF = 1
"""Of engine.binding."""
# Of policy.model.Action.
_DELAY = 2
_DROP = 3
_REJECT = 4
_LIMITED = 5
"""DISCONNECT, and all above it."""
_BAN = 6
# What becomes of a PUBLISH that has arrived.
_FORWARDED = 0
_KEPT = 1
_PARKED = 2
_DISCARDS = {
    Event.CLIENT_GONE: Discard.CLIENT_GONE,
    Event.BROKER_GONE: Discard.BROKER_GONE,
    Event.BROKER_DISMISSED: Discard.BROKER_GONE,
    Event.SHUTDOWN: Discard.SHUTDOWN,
}
_RETURN_CODES = {
    ReasonCode.SERVER_UNAVAILABLE: 3,
    ReasonCode.SERVER_SHUTTING_DOWN: 3,
    ReasonCode.BANNED: 5,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: 2,
}
"""What 3.x has for a refusal (section 3.2.2.3 of MQTT 3.1.1); for others, the socket is closed."""
_INFLIGHT_UP = INFLIGHT_FROM_CLIENT
_INFLIGHT_DOWN = INFLIGHT_FROM_BROKER
_FROM_CLIENT = PACKETS_FROM_CLIENT
_FROM_BROKER = PACKETS_FROM_BROKER
_CLIENT_BYTES = BYTES_FROM_CLIENT
_BROKER_BYTES = BYTES_FROM_BROKER

# Read again and again by every connection of the process: a packet allocates no object.
_frame = Frame()
_publish = Publish()
_ack = Ack()


class Connection:
    """See the module's text. `now` is in seconds."""

    def __init__(self, counters: Counters, bounds: Bounds, now: float) -> None:
        self.counters = counters
        self.bounds = bounds
        self.max_packet = bounds.max_packet
        self.connect_timeout = bounds.connect_timeout
        self.packet_timeout = bounds.packet_timeout
        self.state = _GREETING
        self.version = 0
        self.to_client: list[bytes] = []
        self.to_broker: list[bytes] = []
        self.commands = 0
        self.wake_at = now + bounds.connect_timeout
        """When `tick` is due; 0: never."""
        self.client_excused = False
        """Set by the driver before a `tick`: silence is not the client's, for what it sent has not been read."""
        self.client_unread = False
        """Set likewise: the client is not read now, whatever the reason."""
        self.fault: PacketError | None = None
        """What the client did wrong, once it has."""
        self.broker_fault: PacketError | None = None
        """What the broker did wrong, once it has."""
        self.doubt_broker = False
        """True once the broker has closed an open connection without DISCONNECT, or has not answered CONNECT."""
        self.flusher: Callable[[], None] | None = None
        """The driver's: writes what `to_client` and `to_broker` hold and carries out `commands`."""
        self.has_hung_up: Callable[[], bool] | None = None
        """The driver's: whether the client's socket has closed. Of one that is not read nobody is told so."""
        self._door: Door | None = None
        self._admission: Admission | None = None
        self._address = b""
        self._connect: Connect | None = None
        self._connack = b""
        """The broker's, and what it has sent behind it, while the client has to wait for its turn."""
        self._is_admitted = False
        """Its turn has come then."""
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
        self._packet_by = 0.0
        """By when more must have come of the client's packet under way; 0: none is."""
        self._packet_bytes = 0
        """What has come of it since that was last set."""
        self._skipping = False
        self._owed = b""
        self._waiting: list[bytes] | None = None
        self._broker_tail: bytearray | None = None
        self._broker_need = 0
        self._broker_left = 0
        self._client_packet = NO_LIMIT
        self._broker_packet = NO_LIMIT
        self._receive_maximum = 0
        self._broker_quota = 0
        self._unacknowledged: set[int] | None = None
        self._hold: Hold | None = None
        self._is_parked = False
        self._will_resume = False
        """RESUME was said."""
        self._was_counted = False
        """The first message that is parked was counted as delayed."""
        self._large = b""
        """The topic of the large message that is parked; empty: what is parked found no room."""
        self._stop_until = 0.0
        """When a client that is not read because of what is parked has to be read again."""
        self._overflow_left = 0
        """Bytes in which nothing is parked, as it has come to that; 0: it has not."""
        self._overflow_until = 0.0
        self._is_unread = False
        """HOLD_CLIENT was said last."""
        self._is_upstream_full = False
        self._unread_since = 0.0
        """When the client ceased to take what is written to it; 0: it takes it."""
        self._own_may_go = False
        """The client has sent what messages in its own lane wait for: PUBREL, or the end of a large message."""
        self._forgotten: list[bytes] = []
        """Topics whose first message was taken out: those behind it are to be decided."""
        self._decided = -1
        """The action for the large message that was parked until now; -1: none was."""
        self._answer = b""
        """What the client gets for it, if it is refused."""
        self._farewell = b""
        self._empty_by = 0.0
        """When what waits for the broker's quota is given up, as the client has said DISCONNECT."""
        self._is_client_gone = False
        self.cut_client = ""
        """The client identifier, once its hold was the largest of a worker whose holds were full."""
        self._inflight_up = 0
        self._inflight_down = 0
        self._aliases: Aliases | None = None
        self._enhanced = False
        self._client_turn = False
        self._client_pings = 0
        self._own_pings = 0

    def enter(self, door: Door, address: bytes, listener: bytes) -> None:
        """Hold the client to a worker's limits and bans; to be called before its first bytes.

        `address` (4 or 16 bytes, none for a Unix socket) and `listener` are what is known of it besides CONNECT.
        """
        self._door = door
        self._address = address
        self._admission = Admission(door, self, address, listener)
        self._admit()

    # Whether it may come in

    def _admit(self, late: bool = False) -> int:
        """Ask for admission at the present stage: PASSED, WAITS, or GONE when it is refused.

        `late`: it has waited for as long as it may.
        """
        admission = self._admission
        assert admission is not None
        if admission.lane is not None and self.has_hung_up is not None and self.has_hung_up():
            self._end(Event.CLIENT_GONE)  # it has waited in vain, and is not charged
            return GONE
        action = admission.look(self._now, late)
        if action == PASS:
            return PASSED
        if action == _DELAY:
            if self.state == _GREETING or self.state == _OPENING:
                self.state = follow(State(self.state), Event.DELAYED)
                self._set_reading()
            self._await_turn()
            return WAITS
        self._keep_out(action, admission.denial)
        return GONE

    def _await_turn(self) -> None:
        """Set `wake_at` of a connection that waits. Its upstream, if it has one, must not end it as idle meanwhile."""
        assert self._admission is not None
        self.wake_at = self._admission.deadline
        if self._connack and self._keepalive:
            if self._now >= self._last_upstream + 0.75 * self._keepalive:
                self._own_pings += 1
                self._send_broker(PINGREQ)
            self._wake_by(self._last_upstream + 0.75 * self._keepalive)

    def _keep_out(self, action: int, denial: Denial) -> None:
        """Refuse the client, and tell it, unless it is to be dropped or has not said how."""
        assert self._admission is not None
        if self._admission.is_accepted:  # by the broker, which is to see a client that leaves, and fires no will
            self._send_broker(Disconnect(ReasonCode.SUCCESS, []).write() if self.version == 5 else b"\xe0\x00")
        if action == _DROP:
            self._end(Event.LIMITED)
        elif self.version:
            reason = denial.reason
            if self.version < 5 and reason is not ReasonCode.BANNED:
                reason = ReasonCode.SERVER_UNAVAILABLE  # whatever a limit has against it, 3.x has but one code
            self._refuse(reason, denial.text, denial.properties)
            self._end(Event.LIMITED)
        elif self._admission.tells():
            self.state = follow(State(self.state), Event.SHUT_OUT)
            self.wake_at = self._now + self.connect_timeout
            self._set_reading()
            self._read_held()
        else:
            self._end(Event.LIMITED)

    def _come_in(self) -> None:
        """The turn of this client has come."""
        was = self.state
        self.state = follow(State(was), Event.ADMITTED)
        self._set_reading()
        self.wake_at = self._now + self.connect_timeout
        if was == _ARRIVED:
            self._read_held()
        elif self._connack:
            data = self._connack
            self._connack = b""
            self._is_admitted = True
            self._broker_packets(data)
            self._go_on()
        else:
            self.commands |= OPEN_UPSTREAM

    def _read_held(self) -> None:
        """Go on with what was read before the driver could stop."""
        held = self._held
        self._held = b""
        if held:
            self._client_opening(held)

    def turn_away(self, now: float) -> None:
        """There is no room for it to wait any longer."""
        self._now = now
        if self._admit(late=True) == PASSED:
            self._come_in()
        self.flush()

    # Input: the client's side

    def client_bytes(self, data: bytes, now: float) -> None:
        """Take what was read from the client."""
        self._now = now
        self.counters.add(_CLIENT_BYTES, len(data))
        if self._is_parked or self.state == _ARRIVED or self.state == _QUEUED:  # read before the driver could stop
            self._held += data
            if len(self._held) > STORED and not self._is_parked:
                self._violation(PacketError(Fault.TOO_LARGE, "more than is taken of a client that has to wait"))
            return
        if self._packet_by:
            self._packet_bytes += len(data)
            if self._packet_bytes >= PROGRESS:
                self._expect_more()
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
            if self._overflow_left and now > self._overflow_until:
                self._overflow_left = 0
            self._client_packets(data)
            if self._own_may_go:
                self._serve_own()
            if self._overflow_left:
                self._overflow_left = max(self._overflow_left - len(data) + len(self._held), 0)
                if len(data) < STORE:  # a read that is not full has read all
                    self._overflow_left = min(self._overflow_left, len(self._held))
        elif self.state == _GREETING or self.state == _OPENING or self.state == _TURNED_AWAY:
            self._client_opening(data)
        if self._packet_by and self._client_tail is None and not self._client_left:
            self._packet_by = 0.0

    def client_read_again(self, now: float) -> None:
        """The client was not read for a while: it has all of `packet_timeout` for its packet from here."""
        self._now = now
        if self._packet_by:
            self._expect_more()

    def client_closed(self) -> None:
        """The client's socket has closed: the broker sees the same, and fires the will if none said DISCONNECT."""
        if self.state == _EMPTYING:
            self._is_client_gone = True  # it has taken its leave: what it sent before still goes on
        elif self.state != _CLOSED:
            self._end(Event.CLIENT_GONE)

    def _client_opening(self, data: bytes) -> None:
        """Packets before CONNACK: CONNECT, then AUTH; all else is held, and the client no longer read."""
        at = 0
        try:
            while at < len(data):
                kind = data[at] >> 4
                if self.state == _GREETING or self.state == _TURNED_AWAY:
                    if kind != _CONNECT:
                        raise PacketError(Fault.FIRST_PACKET, "the first packet is not a CONNECT")
                elif self.state == _CLOSED:
                    return
                elif kind != _AUTH or not self._enhanced or self.state == _QUEUED:
                    self._held = data[at:]
                    self._set_reading()
                    return
                if not _frame.read(data, at):
                    self._keep_client(data, at, len(data) - at + 1)
                    return
                body, end = _frame.body, _frame.end
                if end - at > min(STORED, self.bounds.max_connect, self.max_packet):
                    if kind == _CONNECT:
                        self.version = peek_version(data, body, min(end, len(data)))
                    raise PacketError(Fault.TOO_LARGE, f"a {PacketType(kind).name} of more bytes than are taken")
                if end > len(data):
                    self._keep_client(data, at, end - at)
                    return
                self.counters.add(_FROM_CLIENT + kind, 1)
                if kind == _CONNECT:
                    self._greet(data, at, body, end)
                    if self.state == _CLOSED:
                        return
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
        admission = self._admission
        if self.version == 5:
            self._client_packet = number(connect.properties, PropertyId.MAXIMUM_PACKET_SIZE, NO_LIMIT)
        if self.state == _TURNED_AWAY:
            assert admission is not None
            self._keep_out(_REJECT, admission.denial)
            return
        self._keepalive = float(connect.keepalive)
        if self.version < 5 and is_longer(connect.keepalive, self.bounds.max_keepalive):
            self.counters.add(REFUSED + Refusal.KEEPALIVE, 1)
            self._refuse(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "the keepalive is too long")
            self._end(Event.LIMITED)
            return
        if self.version == 5:
            self._enhanced = connect.authentication_method is not None
        self._greeting = upstream_connect(connect, data[at:end])
        self._last_client = self._now
        self.state = follow(State(self.state), Event.CONNECT)
        self.wake_at = self._now + self.connect_timeout
        if admission is not None:
            self._connect = connect
            admission.greet(connect, end - at)
            if self._admit() != PASSED:
                return
        self.commands |= OPEN_UPSTREAM

    def _client_packets(self, data: bytes) -> None:
        """Packets of a client that the broker has accepted: check each, forward what passes."""
        size = len(data)
        at = 0
        run = 0  # the bytes from here to `at` pass as they are
        left = MOST_AT_ONCE
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
                self._skipped()
            else:
                self._send_broker(data[:at])
            run = at
            self._serve_own()  # between two packets, before another large one begins
            if self.state != _OPEN:
                return
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
                    kept = _FORWARDED if self._guard is None else self._keep_back(data, at, end, topic, live)
                    if kept:
                        if run < at:
                            self._send_broker(data[run:at])
                        run = min(end, size)
                        if kept == _PARKED:
                            return
                        left -= 1
                    else:
                        if topic is not None:
                            head = self._without_alias(data, at, end, topic)
                            if run < at:
                                self._send_broker(data[run:at])
                            self._send_broker(head)
                            run = _publish.payload
                        self._count_sent()
                    if end > size:
                        self._client_left = end - size
                        self._begin_packet(at)
                        end = size
                elif _PUBACK <= kind <= _PUBCOMP:
                    _ack.read(data, at, body, end, self.version)
                    if kind != _PUBREL:
                        if self._inflight_down and (kind != _PUBREC or _ack.reason >= 0x80):
                            self._inflight_down -= 1
                            self.counters.subtract(_INFLIGHT_DOWN, 1)
                    elif self._guard is not None:
                        if self._guard.release(_ack.packet_id):
                            self._settle(_ack.packet_id)
                            self._tell_client(write_ack(PacketType.PUBCOMP, _ack.packet_id))
                            if run < at:
                                self._send_broker(data[run:at])
                            run = end
                        else:
                            self._own_may_go = self._guard.released(_ack.packet_id) or self._own_may_go
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
                if left == 0 and at < size:
                    if run < at:
                        self._send_broker(data[run:at])
                    self._yield_turn(data, at)
                    return
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

    def _keep_back(self, data: bytes, at: int, end: int, topic: bytes | None, live: bool) -> int:
        """What becomes of the PUBLISH at `at`: _FORWARDED, _KEPT (held, or refused and answered), or _PARKED.

        `live`: an exchange with its identifier is going on already.
        """
        text = data if topic is None else topic
        start = _publish.topic if topic is None else 0
        stop = _publish.topic_end if topic is None else len(topic)
        guard = self._guard
        assert guard is not None
        hold = self._hold
        again = guard.plays(_publish.packet_id)
        if self._decided >= 0:
            action = self._decided
            self._decided = -1
            if action:
                self._leave_out(data, end, self._answer)
                self._answer = b""
                return _KEPT
        elif again and _publish.qos == 2:  # answered or refused at once: the broker has no part in it
            action = guard.judge(_publish, text, start, stop, end - at, end - _publish.payload, self._now)
        elif _publish.qos and (
            (hold is not None and hold.count and _publish.packet_id in hold.ids)
            or (guard.windows is not None and _publish.packet_id in guard.windows)
        ):
            if _publish.dup:  # the one that is held, or in flight on this very connection, will do
                self._skipping = end > len(data)
                return _KEPT
            raise identifier_in_use()
        elif (hold is not None and hold.count and text[start:stop] in hold.topics) or (
            self._receive_maximum > self._broker_quota and _publish.qos and not live and self._is_quota_used(1)
        ):
            return self._hold_back(data, at, end, topic, text[start:stop], live, decided=False)
        else:
            counted = self._was_counted
            self._was_counted = False
            size, payload = end - at, end - _publish.payload
            action = guard.judge(_publish, text, start, stop, size, payload, self._now, 0, counted)
            if action == 0:
                return _FORWARDED
            guard.waiting.wake_others()
            if action == _DELAY:
                return self._hold_back(data, at, end, topic, text[start:stop], live, decided=True)
        if action == 0:
            return _FORWARDED
        self._refuse_message(data, end, text[start:stop], action, live, again)
        return _KEPT

    def _refuse_message(self, data: bytes, end: int, topic: bytes, action: int, live: bool, again: bool) -> None:
        """Do to the PUBLISH just read, which ends at `end`, what a limit says: the client is answered, or closed."""
        if live and not _publish.dup and action < _LIMITED:
            # An answer of ours would settle the exchange that the broker has.
            raise identifier_in_use()
        answer = self._refusal(topic, action, again)
        if self.state != _CLOSED:
            self._leave_out(data, end, answer)

    def _refusal(self, topic: bytes, action: int, again: bool) -> bytes:
        """What the client gets for the PUBLISH just read; nothing for QoS 0, and when the action ends the connection.

        The reason is that of the last verdict; where it passed, as it was over no limit itself, there is none.
        """
        guard = self._guard
        assert guard is not None
        has_reason = guard.has_reason()
        if action >= _LIMITED:
            if action == _BAN and self._door is not None:
                self._door.report(guard.engine.refused_by, guard.client_id, guard.username, self._address)
            self._dismiss(ReasonCode.MESSAGE_RATE_TOO_HIGH, guard.reason() if has_reason else "too much waits already")
            self._end(Event.LIMITED)
            return b""
        if guard.notices is not None and not again and has_reason:
            self._tell_client(guard.notice(action, topic, self._now))
        queued = len(self.to_client) + (0 if self._waiting is None else len(self._waiting))
        return guard.answer(action, _publish, queued >= MOST_TOLD or not has_reason)

    def _leave_out(self, data: bytes, end: int, answer: bytes) -> None:
        """The broker does not get the PUBLISH just read, the client gets `answer`."""
        guard = self._guard
        assert guard is not None
        if not guard.plays(_publish.packet_id):
            self._settle(_publish.packet_id)
        if end > len(data):  # answered once all of it has come and been skipped
            self._skipping = True
            self._owed = answer
        else:
            self._tell_client(answer)

    # Messages that a limit delays

    def _hold_back(
        self, data: bytes, at: int, end: int, topic: bytes | None, name: bytes, live: bool, decided: bool
    ) -> int:
        """Keep the PUBLISH at `at`, to the topic `name`, until it may go on: _KEPT or _PARKED.

        `decided`: a limit has just said so; else it has to wait behind others of its topic, or for the broker's quota.
        """
        if live and not _publish.dup:
            raise identifier_in_use()
        guard = self._guard
        assert guard is not None
        if self._hold is None:
            self._hold = Hold(guard.waiting, self, self._address)
        hold = self._hold
        is_large = end - at > STORE
        longest = guard.engine.max_delay if decided else LONGEST_WAIT
        if not is_large and not hold.has_room(end - at) and not self._overflow_left:
            self._was_counted = decided
            self._park(data, at, live, longest)
            return _PARKED
        if self._overflow_left and (is_large or not hold.has_room(end - at)):
            action = self._no_room(name, end - at, end - _publish.payload, decided)
            self._refuse_message(data, end, name, action, live, again=False)
            return _KEPT
        if decided and guard.notices is not None:
            self._tell_client(guard.notice(_DELAY, name, self._now))
        packet = None
        if not is_large:
            packet = data[at:end]
            if topic is not None:
                packet = self._without_alias(data, at, end, topic) + data[_publish.payload : end]
        if is_large:
            self._park(data, at, live, longest)
            self._large = name
        held = hold.add(name, packet, 0 if is_large else _publish.packet_id, self._now)
        if self.state == _OPEN and hold.topics[name][0] is held:  # adding it may have cost us the connection
            if decided:
                self._wait_for_limit(name, held)
            else:
                hold.wait(name, held, 0, 0.0, self._now)
            self._wake_by(hold.next_deadline)
        return _PARKED if is_large else _KEPT

    def _no_room(self, topic: bytes, size: int, payload: int, decided: bool) -> int:
        """Count the message just read, for which there has been no room for as long as may be; its action."""
        guard = self._guard
        assert guard is not None
        action = _DELAY
        if not decided:
            action = guard.judge(_publish, topic, 0, len(topic), size, payload, self._now, 0, False, True)
        if action == _DELAY:
            action = guard.engine.then if _publish.qos else _DROP
            guard.late(action, self._now)
        if action:
            return action
        # It is over no limit itself, so none says what then: as they all do by default.
        self.counters.add(HOLD_DISCARDED + Discard.FULL, 1)
        if not _publish.qos:
            return _DROP
        return _REJECT if self.version == 5 and not guard.may_be_there(_publish) else _LIMITED

    def _wait_for_limit(self, topic: bytes, held: Held) -> None:
        """The first of a topic waits for what the limit lacks that has just been asked."""
        hold = self._hold
        assert self._guard is not None
        assert hold is not None
        engine = self._guard.engine
        held.counted = True
        held.slot = engine.slot
        if held.deadline == NEVER:
            hold.expires(topic, held, held.arrived + engine.max_delay)
        key = 0 if engine.queue == _ITSELF else engine.queue
        hold.wait(topic, held, key, 0.0 if engine.by_window else engine.wait, self._now)

    def _park(self, data: bytes, at: int, live: bool, longest: float) -> None:
        """Leave the PUBLISH at `at` and all behind it for later, at most `longest` seconds; the client is not read.

        Nor are its pings: so that never takes longer than half of its keepalive, however often this is called.
        """
        if not live:
            self._settle(_publish.packet_id)  # it will be read once more
        self._held = data[at:]
        self._is_parked = True
        self._will_resume = False
        if self._stop_until == 0.0:
            self._stop_until = self._now + (min(longest, self._keepalive / 2) if self._keepalive else longest)
        self._set_reading()
        self._wake_by(self._stop_until)

    def _yield_turn(self, data: bytes, at: int) -> None:
        """Leave the packets from `at` on for another turn of the driver: keeping messages back is work."""
        self._held = data[at:]
        self._is_parked = True
        self._set_reading()
        self._ask_to_resume()

    def _ask_to_resume(self) -> None:
        self._will_resume = True
        self._large = b""
        self.commands |= RESUME

    def resume(self, now: float) -> None:
        """Go on with what was parked."""
        self._now = now
        if self._will_resume:
            self._will_resume = False
            self._resume()

    def _resume(self) -> None:
        """Go on with what was parked, or waited for CONNACK."""
        held = self._held
        self._held = b""
        self._is_parked = False
        if self.state == _OPEN:
            self._set_reading()
            self._client_packets(held)
            self._overflow_left = max(self._overflow_left - len(held) + len(self._held), 0)
        if not self._is_parked or self._will_resume:
            self._stop_until = 0.0

    def _stop_no_longer(self) -> None:
        """A client was left unread for as long as may be: read on, whatever becomes of what is parked."""
        hold = self._hold
        topic = self._large
        self._overflow_left = OVERFLOW
        self._overflow_until = self._now + LONGEST_WAIT
        if topic and hold is not None:
            if hold.topics[topic][0].packet is None and self._try(topic, 1, late=True) != WAITS:
                return
            self._read_again(self._held)
            action = self._no_room(topic, _frame.end, _frame.end - _publish.payload, decided=False)
            hold.remove_last(topic, self._now)
            self._decide_large(topic, action)
        else:
            self._ask_to_resume()

    def _decide_large(self, topic: bytes, action: int) -> None:
        """The large message that is parked, and just read, goes on or is refused when the client's turn has come."""
        if action:
            self._answer = self._refusal(topic, action, again=False)
            if self.state == _CLOSED:
                return
        elif _publish.qos and self._unacknowledged is not None:
            self._unacknowledged.add(_publish.packet_id)
        self._decided = action
        self._ask_to_resume()

    def _is_quota_used(self, own: int) -> bool:
        """Whether the broker has as many unacknowledged messages as it takes; `own` are counted but not sent."""
        guard = self._guard
        if self._unacknowledged is None or guard is None:
            return False
        count = len(self._unacknowledged) - own
        if count < self._broker_quota:
            return False
        here = guard.playing() + (0 if self._hold is None else len(self._hold.ids))
        return count - here >= self._broker_quota

    def serve(self, lane: Lane, now: float) -> int:
        """Try the first message of a lane, whose turn it is: PASSED, WAITS or GONE."""
        self._now = now
        admission = self._admission
        if admission is not None and admission.lane is lane:
            outcome = self._admit()
            if outcome == PASSED:
                passed = ASKED if admission.is_asked else PASSED  # once in, it may go on to be asked who it is
                self._come_in()
                return passed
            return WAITS if admission.lane is lane else GONE
        hold = self._hold
        if hold is None or not lane.heads:
            return GONE
        topic = lane.heads[0][1]
        try:
            outcome = self._try(topic, lane.key)
            if outcome != WAITS:
                self._follow(topic)
                self._after_hold()
            elif hold.topics[topic][0].lane is not lane:
                return GONE  # it waits for something else now
        except PacketError as error:
            self._violation(error)
            return GONE
        return outcome

    def flush(self) -> None:
        """Have the driver write what there is."""
        if self.flusher is not None:
            self.flusher()

    def holds(self) -> int:
        """Bytes that it has waiting."""
        return 0 if self._hold is None else self._hold.bytes

    def cut(self) -> None:
        """End: the holds of the worker are full, and this one is the largest."""
        if self._guard is not None:
            self.cut_client = self._guard.client_id or "(empty client id)"
        self._dismiss(ReasonCode.QUOTA_EXCEEDED, "the gateway is full of waiting messages, most of them of this client")
        self._end(Event.LIMITED)

    def _try(self, topic: bytes, turn: int, late: bool = False) -> int:
        """Decide the first of a topic anew: PASSED, WAITS or GONE. `turn`: what it has waited for, 0: nothing yet.

        `late`: it has waited for as long as it may.
        """
        hold = self._hold
        guard = self._guard
        assert hold is not None
        assert guard is not None
        engine = guard.engine
        held: Held = hold.topics[topic][0]
        data = self._held if held.packet is None else held.packet
        self._read_again(data)
        end = _frame.end
        payload = end - _publish.payload
        # Nothing is written inside a large message of its own that is on its way, nor what the broker does not take.
        is_stuck = (
            self._is_upstream_full
            or (self._client_left > 0 and not self._skipping)
            or (self._receive_maximum > self._broker_quota and _publish.qos > 0 and self._is_quota_used(0))
        )
        if is_stuck and not late:
            if held.lane is None or held.lane.key:
                hold.wait(topic, held, 0, 0.0, self._now)
            return WAITS
        action = guard.judge(_publish, topic, 0, len(topic), end, payload, self._now, turn, held.counted, is_stuck)
        if is_stuck and action == 0:
            hold.expires(topic, held, NEVER)
            hold.wait(topic, held, 0, 0.0, self._now)
            return WAITS
        if action == _DELAY and not late:
            if held.lane is None or held.lane.key != engine.queue:  # that of its own lane is never a queue
                self._wait_for_limit(topic, held)
                self._wake_by(hold.next_deadline)
            return WAITS
        if action == _DELAY:
            action = engine.then
            guard.late(action, self._now)
        hold.remove(topic, self._now)
        if held.slot >= 0:
            self.counters.delayed(held.slot, guard.subject.first_class, self._now - held.arrived)
        if self.state == _EMPTYING and action:
            self._settle(_publish.packet_id)
            self.counters.add(HOLD_DISCARDED + Discard.LATE, 1)
        elif held.packet is None:
            self._decide_large(topic, action)
        elif action:
            self._refuse_message(data, end, topic, action, live=False, again=False)
        else:
            self._send_broker(data)
            self._count_sent()
        return GONE if action else PASSED

    def _read_again(self, data: bytes) -> None:
        """Find the parts of the PUBLISH that `data` begins with; it was checked when it came."""
        _frame.read(data, 0)
        _publish.read(data, 0, _frame.body, _frame.end, self.version, True)

    def _count_sent(self) -> None:
        """The PUBLISH just read goes to the broker: count it until its exchange is over."""
        if _publish.qos:
            self._inflight_up += 1
            self.counters.add(_INFLIGHT_UP, 1)

    def _follow(self, topic: bytes) -> None:
        """The first of a topic has left: decide those behind it, up to one that must wait."""
        hold = self._hold
        while hold is not None and topic in hold.topics and hold.topics[topic][0].lane is None:
            if self._try(topic, 0) == WAITS:
                return
            hold = self._hold

    def _expire(self) -> None:
        """Do what the limits say to messages that have waited too long; with many of them, the next `tick` goes on."""
        for _ in range(MOST_AT_ONCE):
            topic = None if self._hold is None else self._hold.expired(self._now)
            if topic is None:
                break
            self._try(topic, 1, late=True)  # 1: nobody waits for that, so nobody is before it
            self._follow(topic)
        self._after_hold()

    def _serve_own(self) -> None:
        """Try what waits for this connection itself."""
        self._own_may_go = False
        hold = self._hold
        if hold is None:
            return
        try:
            while self._forgotten:
                self._follow(self._forgotten.pop())
            has_moved = True
            while has_moved:  # of those that still wait, a few are enough: the others wait for the same
                has_moved = False
                lane = hold.own_lane()
                for _, topic in [] if lane is None else nsmallest(MOST_OWN, lane.heads):
                    if hold.waits_itself(topic):
                        hold.unlane(topic, self._now)
                        self._follow(topic)
                        has_moved = has_moved or not hold.waits_itself(topic)
            self._after_hold()
        except PacketError as error:
            self._violation(error)

    def _forget_duplicate(self, packet_id: int) -> None:
        """The broker has answered a message: a redelivery of it that is held must not go on."""
        hold = self._hold
        if hold is not None and hold.count and packet_id in hold.ids:
            topic = hold.forget_duplicate(packet_id, self._now)
            if topic is not None:
                self._forgotten.append(topic)
                self._own_may_go = True

    def _after_hold(self) -> None:
        """Some may have left the hold: go on with what waited for that."""
        hold = self._hold
        if hold is None:
            return
        if self.state == _EMPTYING:
            if not hold.count:
                self._send_broker(self._farewell)
                self._leave(Event.EMPTIED)
                if self._is_client_gone:
                    self._end(Event.CLIENT_GONE)
        elif self._is_parked and not self._large and not self._will_resume and hold.is_roomy:
            self._ask_to_resume()

    def _discard(self, event: Event) -> None:
        """Give up what is held: its client still has the messages of QoS 1 and 2, or hears that they are gone."""
        hold = self._hold
        self._hold = None
        if hold is not None and hold.count:
            reason = Discard.POOL if self.cut_client else _DISCARDS.get(event, Discard.ENDED)
            self.counters.add(HOLD_DISCARDED + reason, hold.discard(self._now))

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
            self._set_reading()

    def _tell_waiting(self) -> None:
        """One of the broker's packets has ended: what waited for it may be written."""
        waiting = self._waiting
        self._waiting = None
        if waiting is not None:
            self.to_client.extend(waiting)
            if len(waiting) >= MOST_WAITING:
                self._set_reading()

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
            if self._hold is not None and self._hold.count:
                self._farewell = data[at:end]
                self._empty_by = self._now + LONGEST_WAIT
                self.state = follow(State(self.state), Event.CLIENT_LEAVES)
                self._set_reading()
                self._plan()
                return b""
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

    def client_takes(self, takes: bool, now: float) -> None:
        """Whether the client takes what is written to it: while it does not, its messages stay in flight."""
        self._unread_since = 0.0 if takes else now
        if not takes:
            self._wake_by(now + OWED_TIME)

    def upstream_takes(self, takes: bool, now: float) -> None:
        """Whether the broker takes what is written to it: while it does not, what is held stays held."""
        self._now = now
        self._is_upstream_full = not takes
        if takes and self._guard is not None:
            self._serve_own()

    def upstream_failed(self) -> None:
        """The broker cannot be reached: the client is told so, and to come back (0x88; 3 in 3.x)."""
        if self.state == _OPENING:
            self.counters.add(REFUSED + Refusal.UPSTREAM_DOWN, 1)
            self._refuse(ReasonCode.SERVER_UNAVAILABLE, "the broker is not available")
            self._end(Event.BROKER_GONE)

    def broker_closed(self, lost: bool) -> None:
        """The upstream has closed; `lost` when by an error rather than by the broker's own will."""
        if self.state == _CLOSED:
            self._release_windows()
            return
        if self.state == _OPENING and lost:
            self.upstream_failed()
            return
        if self.state == _OPEN or self.state == _EMPTYING:
            self.doubt_broker = True
            self.counters.add(BROKER_LOST, 1)
            self._dismiss(ReasonCode.SERVER_SHUTTING_DOWN, "the broker closed the connection")
        self._end(Event.BROKER_GONE)

    def broker_bytes(self, data: bytes, now: float) -> None:
        """Take what was read from the broker."""
        self._now = now
        self.counters.add(_BROKER_BYTES, len(data))
        if self.state == _QUEUED:
            self._connack += data
            # A broker may have much for a client; that one cannot wait any longer then.
            if len(self._connack) > STORED and self._admit(late=True) == PASSED:
                self._come_in()
            return
        if self._broker_tail is not None:
            self._broker_tail += data
            if len(self._broker_tail) < self._broker_need:
                return
            data = bytes(self._broker_tail)
            self._broker_tail = None
        if self.state != _CLOSED:
            self._broker_packets(data)
            self._go_on()

    def _go_on(self) -> None:
        """Do what packets of the broker have made possible."""
        if self._held and self.state == _OPEN and not self._is_parked:
            self._resume()
        if self._guard is not None:
            if self._guard.windows is not None:
                self._guard.waiting.wake_others()
            if self._own_may_go or self._receive_maximum > self._broker_quota:
                self._serve_own()

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
                    if data[at] & 6:
                        self._inflight_down += 1
                        self.counters.add(_INFLIGHT_DOWN, 1)
                elif kind == _PUBACK or kind == _PUBREC or kind == _PUBCOMP:
                    _ack.read(data, at, body, end, self.version)
                    if kind != _PUBREC or _ack.reason >= 0x80:
                        if self._inflight_up:
                            self._inflight_up -= 1
                            self.counters.subtract(_INFLIGHT_UP, 1)
                        if self._unacknowledged is not None:
                            self._unacknowledged.discard(_ack.packet_id)
                        if self._guard is not None and self._guard.windows is not None:
                            self._guard.acknowledged(_ack.packet_id, self._now)
                        self._forget_duplicate(_ack.packet_id)
                    elif self._guard is not None and self._guard.windows is not None:
                        self._guard.received(_ack.packet_id, self._now)
                        self._wake_by(self._guard.patience_until)
                        self._forget_duplicate(_ack.packet_id)
                    else:
                        self._forget_duplicate(_ack.packet_id)
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
                    if run < at:
                        self.to_client.append(data[run:at])
                        run = at
                    wire = self._accept(data, at, body, end)
                    if not wire:  # it has to wait for its turn, or has been refused
                        return
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
        """The CONNACK that the client gets for the broker's; nothing when it has to wait, or the connection ended."""
        if self.state != _OPENING:
            raise PacketError(Fault.SECOND_CONNECT, "a second CONNACK")
        connack = Connack.read(data, at, body, end, self.version)
        hold = 0
        admission = self._admission
        if admission is not None and connack.reason == 0:
            assert self._connect is not None
            client_id = admission.accept(self._connect, connack)
            outcome = PASSED if self._is_admitted else self._admit()
            if outcome == WAITS:
                self._connack = data[at:]
                self._keepalive = float(number(connack.properties, PropertyId.SERVER_KEEP_ALIVE, int(self._keepalive)))
                self._await_turn()
                self.counters.subtract(_FROM_BROKER + _CONNACK, 1)  # it will be read once more
            if outcome != PASSED:
                return b""
            self._guard = Guard(
                admission.waiting, admission.subject, client_id, self._connect, connack, self._client_packet
            )
            hold = admission.waiting.hold_messages if self._guard.delays() else 0
        elif admission is not None:
            action = admission.fail(connack, self.version, self._now)
            if action >= _LIMITED:
                self._keep_out(_DROP if action == _LIMITED else action, admission.denial)
                return b""
        offer = client_connack(
            connack,
            data[at:end],
            self.version,
            self.max_packet,
            self._client_packet,
            hold,
            int(self._keepalive),
            self.bounds.max_keepalive,
        )
        if not offer.accepted:
            self._leave(Event.REFUSED)
            return offer.wire
        self._connect = None
        self.has_hung_up = None
        if admission is not None and not admission.has_places:
            self._admission = None
        self._receive_maximum = offer.receive_maximum
        self._broker_quota = offer.broker_quota
        self._broker_packet = offer.broker_packet
        self._keepalive = float(offer.keepalive)
        if not offer.keepalive:
            self.commands |= ASK
        self.state = follow(State(self.state), Event.ACCEPTED)
        self._last_client = self._now
        self._plan()
        return offer.wire

    # Input: the clock

    def tick(self, now: float) -> None:
        """Do what is due at `now` and set `wake_at` anew."""
        self._now = now
        if self.state == _OPEN or self.state == _EMPTYING:
            self._look_after_held()
            if 0.0 < self._packet_by <= now and self.state == _OPEN:
                self._look_after_packet()
            if self.state == _OPEN or self.state == _EMPTYING:
                if self._keepalive:
                    self._keep_alive()
                else:
                    self._plan()
        elif self.wake_at and now >= self.wake_at:
            if self.state == _ARRIVED or self.state == _QUEUED:
                if self._admission is not None and now < self._admission.deadline:
                    self._await_turn()
                elif self._admit(late=True) == PASSED:
                    self._come_in()
                return
            if self.state == _OPENING and not self._client_turn:
                self.doubt_broker = True
                self.upstream_failed()
                return
            if self.state != _LEAVING and self.state != _TURNED_AWAY:
                self.counters.add(TIMED_OUT_CONNECT, 1)
            self._end(Event.TIMEOUT)

    def shut_down(self) -> None:
        """The gateway is ending: the client is told, and may go elsewhere."""
        if self.state == _CLOSED:
            return
        if self.state == _OPENING or self.state == _QUEUED:
            self._refuse(ReasonCode.SERVER_SHUTTING_DOWN, "the gateway is shutting down")
        elif self.state == _OPEN or self.state == _EMPTYING:
            self._dismiss(ReasonCode.SERVER_SHUTTING_DOWN, "the gateway is shutting down")
        self._end(Event.SHUTDOWN)

    def _look_after_held(self) -> None:
        try:
            if self._hold is not None and self._hold.next_deadline <= self._now:
                self._expire()
            if self._is_parked and not self._will_resume and self._stop_until <= self._now:
                self._stop_no_longer()
        except PacketError as error:
            self._violation(error)
        if 0.0 < self._empty_by <= self._now and self._hold is not None and self._hold.own_lane() is not None:
            # What a client that has left has yet to do will never be done.
            given = self._hold.give_up_own(self._now)
            for packet_id in given:
                self._settle(packet_id)
            self.counters.add(HOLD_DISCARDED + Discard.LATE, len(given))
            self._after_hold()
        guard = self._guard
        if guard is not None and guard.patience_until <= self._now:
            if self.state == _EMPTYING and self._hold is not None:  # it has left, and sends no PUBREL any more
                self.counters.add(HOLD_DISCARDED + Discard.LATE, self._hold.discard(self._now))
                self._after_hold()
            elif (self._is_unread or self.client_excused) and guard.excuse(self._now):
                if self._is_parked and not self._will_resume:  # its PUBREL may be behind that
                    self._stop_no_longer()
            elif self.state == _OPEN:
                self._end_keeper("a PUBREL is owed for too long, and others wait for its place")
        elif (
            guard is not None
            and self.state == _OPEN
            and 0.0 < self._unread_since <= self._now - OWED_TIME
            and guard.is_sharing()
        ):
            self._end_keeper("nothing is read, and others wait for what is in flight")

    def _end_keeper(self, text: str) -> None:
        """The client keeps places in windows that others share, and does nothing to free them."""
        self.counters.add(TIMED_OUT_WINDOW, 1)
        self._dismiss(ReasonCode.QUOTA_EXCEEDED, text)
        self._end(Event.TIMEOUT)

    def _look_after_packet(self) -> None:
        """A packet under way has not come on as it must: the client has had its time, if it was read meanwhile."""
        if self.client_unread:
            self._expect_more()  # and anew when it is read again
            return
        self.counters.add(TIMED_OUT_PACKET, 1)
        self._dismiss(ReasonCode.QUOTA_EXCEEDED, "the packet that was begun does not go on")
        self._end(Event.TIMEOUT)

    def _keep_alive(self) -> None:
        """Section 3.1.2.10: one and a half times the keepalive towards the client, a ping of ours towards the broker.

        The broker must not end a connection whose client is alive, whatever of it has been forwarded.
        """
        if self.client_excused:
            self._last_client = self._now
        if self.state == _OPEN and self._now >= self._last_client + 1.5 * self._keepalive:
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
        self.wake_at = 0.0
        self._wake_by(self._packet_by)
        if self._keepalive:
            if self.state == _OPEN:
                self._wake_by(self._last_client + 1.5 * self._keepalive)
            if self._skipping or not self._client_left:  # nothing of ours may stand inside a packet under way
                self._wake_by(self._last_upstream + 0.75 * self._keepalive)
        if self._hold is not None:
            self._wake_by(self._hold.next_deadline)
            if not self._will_resume:
                self._wake_by(self._stop_until)
            if self._hold.own_lane() is not None:
                self._wake_by(self._empty_by)
        if self._guard is not None and self._guard.windows is not None:
            self._wake_by(self._guard.patience_until)
            if self._unread_since:
                self._wake_by(max(self._unread_since + OWED_TIME, self._now + 1.0))

    def _wake_by(self, at: float) -> None:
        """Have `tick` called at `at`, if not before; 0 and NEVER: no need."""
        if 0.0 < at < NEVER and (self.wake_at == 0.0 or at < self.wake_at):
            self.wake_at = at

    # Output

    def _set_reading(self) -> None:
        """Say whether the client is to be read, if that has changed: any of the reasons not to is enough."""
        stop = (
            self._is_parked
            or self.state == _ARRIVED
            or self.state == _QUEUED
            or self.state == _EMPTYING
            or self.state == _LEAVING
            or (self.state == _OPENING and self._held != b"")
            or (self._waiting is not None and len(self._waiting) >= MOST_WAITING)
        )
        if stop == self._is_unread:
            return
        self._is_unread = stop
        pending = self.commands & (HOLD_CLIENT | FREE_CLIENT)
        if pending:  # the driver has not heard the opposite yet
            self.commands &= ~pending
        else:
            self.commands |= HOLD_CLIENT if stop else FREE_CLIENT

    def _send_broker(self, data: bytes) -> None:
        self.to_broker.append(data)
        self._last_upstream = self._now

    def _keep_client(self, data: bytes, at: int, need: int) -> None:
        self._client_tail = bytearray(data[at:])
        self._client_need = need
        self._begin_packet(at)
        if need - len(self._client_tail) > PROGRESS:
            self._last_client = self._now

    def _begin_packet(self, at: int) -> None:
        """The packet at `at` of what was read is not all there; at 0 it may be the one that was under way before."""
        if at or not self._packet_by:
            self._expect_more()

    def _expect_more(self) -> None:
        """Give the client `packet_timeout` for more of its packet under way."""
        self._packet_by = self._now + self.packet_timeout
        self._packet_bytes = 0
        if self.state == _OPEN:
            self._wake_by(self._packet_by)

    def _keep_broker(self, data: bytes, at: int, need: int) -> None:
        self._broker_tail = bytearray(data[at:])
        self._broker_need = need

    def _leave(self, event: Event) -> None:
        self._discard(event)
        self._is_parked = False
        self._will_resume = False
        self.state = follow(State(self.state), event)
        self._set_reading()
        self.wake_at = self._now + LINGER

    def _end(self, event: Event) -> None:
        self.state = follow(State(self.state), event)
        self._discard(event)
        if self._admission is not None:
            self._admission.close(self._now)
            self._admission = None
        self._is_parked = False
        self._will_resume = False
        if event is Event.BROKER_GONE:
            self._release_windows()
        self.counters.subtract(_INFLIGHT_UP, self._inflight_up)
        self.counters.subtract(_INFLIGHT_DOWN, self._inflight_down)
        self._inflight_up = self._inflight_down = 0
        self.commands |= END
        self.wake_at = 0.0
        self._held = self._greeting = self._connack = b""
        self._client_tail = self._broker_tail = None
        self._packet_by = 0.0
        self._unacknowledged = None
        self._aliases = None
        self._connect = None
        self._waiting = None

    def _release_windows(self) -> None:
        """The broker knows that the connection has ended: what the client had in flight is no longer."""
        guard = self._guard
        self._guard = None
        if guard is not None:
            guard.close(self._now)

    def _violation(self, error: PacketError) -> None:
        """The client broke the rules: counted, told where the version can (section 4.13), and closed."""
        self.counters.add(MALFORMED + error.fault, 1)
        self.fault = error.with_traceback(None)  # whose frames would keep this connection alive
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

    def _refuse(self, reason: ReasonCode, text: str, besides: Properties | None = None) -> None:
        """CONNACK with a refusal, and `besides` to MQTT 5.

        3.x knows five codes; an unknown version is answered like 3.1.1 (section 3.1.2.2).
        """
        if self.version == 5:
            self._tell(lambda properties: Connack(False, reason, properties).write(5), text, besides)
        elif reason is ReasonCode.UNSUPPORTED_PROTOCOL_VERSION:
            self.to_client.append(Connack(False, 1, []).write(4))
        elif reason in _RETURN_CODES:
            self.to_client.append(Connack(False, _RETURN_CODES[reason], []).write(4))

    def _dismiss(self, reason: ReasonCode, text: str) -> None:
        """DISCONNECT to a client of MQTT 5, unless one of the broker's packets is half-way through."""
        if self.version == 5 and not self._broker_left:
            self._tell(lambda properties: Disconnect(reason, properties).write(), text)

    def _tell(self, write: Callable[[Properties], bytes], text: str, besides: Properties | None = None) -> None:
        """Write a packet with its reason string, or without, or not at all, as the client's largest packet allows."""
        forms: list[Properties] = [[(PropertyId.REASON_STRING, text)], []]
        if besides:
            forms = [[*forms[0], *besides], besides, []]
        for properties in forms:
            wire = write(properties)
            if len(wire) <= self._client_packet:
                self.to_client.append(wire)
                return
