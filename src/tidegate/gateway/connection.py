"""One client and its upstream, sans I/O: bytes and the time in; bytes, commands and the next wake-up out.

The driver feeds what it reads to `client_bytes` and `broker_bytes`, tells of sockets that opened or closed, and calls
`tick` at `wake_at`. After each of these it writes `to_client` and `to_broker`, empties both, and carries out
`commands`. Every packet of the client is checked whole before any of its bytes goes on; where all packets of a read
pass, the very same object is forwarded, so that a message costs no copy.

What one connection can make the gateway keep is bounded: a packet up to STORE is kept until it is whole, a larger
PUBLISH is passed on as it comes once its header is known (at most HEADER), any other packet is kept up to STORED.

A connection is one object in six parts, each a class on top of the one before, in a module of its own:

- `conversation`: what is said to either side, and how it ends;
- `opening`: from accept to CONNACK;
- `exchange`: the client's messages, one by one: quota, aliases, refusals;
- `delaying`: those that have to wait;
- `timing`: the clock;
- `connection`: here, the packets of both sides.

Each part begins and ends with those below it (`_begin`, `_end`). What a part calls of one above it, it declares itself.
Compiled, they are one object: a call between parts costs what it costs within one.
"""

from ..engine.counters import (
    BROKER_LOST,
    BYTES_FROM_BROKER,
    BYTES_FROM_CLIENT,
    INFLIGHT_FROM_BROKER,
    INFLIGHT_FROM_CLIENT,
    PACKETS_FROM_BROKER,
    PACKETS_FROM_CLIENT,
    Counters,
)
from ..mqtt.ack import write_ack
from ..mqtt.errors import Fault, PacketError
from ..mqtt.reasons import PacketType, ReasonCode
from ..mqtt.session import Auth, Disconnect, check_ping
from ..mqtt.subscribe import Subscribe, Unsubscribe
from .bounds import HEADER, STORE, STORED, Bounds
from .conversation import ASK, END, FREE_CLIENT, HOLD_CLIENT, LINGER, MOST_WAITING, OPEN_UPSTREAM, RESUME
from .delaying import LONGEST_WAIT, MOST_AT_ONCE
from .notices import MARK, Notices
from .ordinals import (
    ARRIVED,
    AUTH,
    CLOSED,
    CONNACK,
    CONNECT,
    DISCONNECT,
    EMPTYING,
    FORWARDED,
    GREETING,
    OPEN,
    OPENING,
    PARKED,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    QUEUED,
    SUBACK,
    SUBSCRIBE,
    TURNED_AWAY,
    UNSUBACK,
    UNSUBSCRIBE,
)
from .scratch import ack, frame, publish
from .states import Event, State, follow
from .timing import PROGRESS, Timing
from .waiting import PASSED

__all__ = [
    "ASK",
    "END",
    "FREE_CLIENT",
    "HEADER",
    "HOLD_CLIENT",
    "LINGER",
    "LONGEST_WAIT",
    "MOST_AT_ONCE",
    "MOST_WAITING",
    "OPEN_UPSTREAM",
    "PROGRESS",
    "RESUME",
    "STORE",
    "STORED",
    "Connection",
]


class Connection(Timing):
    """See the module's text. `now` is in seconds."""

    def __init__(self, counters: Counters, bounds: Bounds, now: float) -> None:
        self._begin(counters, bounds, now)

    def _begin(self, counters: Counters, bounds: Bounds, now: float) -> None:
        Timing._begin(self, counters, bounds, now)
        self._broker_tail: bytearray | None = None
        """What has come of the broker's packet under way, if it is kept until it is whole."""
        self._broker_need = 0
        """Bytes that it must have before it is read again."""
        self._client_pings = 0
        """The client's pings that the broker has yet to answer."""

    def expel(self) -> None:
        """End it if its client is banned by hand. One that is not in yet is asked on its way."""
        guard = self._guard
        if guard is None or self._door is None or (self.state != OPEN and self.state != EMPTYING):
            return
        if self._door.expels(guard.subject, guard.client_id, guard.username, self._address):
            self._dismiss(ReasonCode.ADMINISTRATIVE_ACTION, "banned")
            self._end(Event.LIMITED)

    # Input: the client's side

    def client_bytes(self, data: bytes, now: float) -> None:
        """Take what was read from the client."""
        self._now = now
        self.counters.add(BYTES_FROM_CLIENT, len(data))
        if self._is_parked or self.state == ARRIVED or self.state == QUEUED:  # read before the driver could stop
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
        if self.state == OPEN:
            if self._overflow_left and now > self._overflow_until:
                self._overflow_left = 0
            self._client_packets(data)
            if self._own_may_go:
                self._serve_own()
            if self._overflow_left:
                self._overflow_left = max(self._overflow_left - len(data) + len(self._held), 0)
                if len(data) < STORE:  # a read that is not full has read all
                    self._overflow_left = min(self._overflow_left, len(self._held))
        elif self.state == GREETING or self.state == OPENING or self.state == TURNED_AWAY:
            self._client_opening(data)
        if self._packet_by and self._client_tail is None and not self._client_left:
            self._packet_by = 0.0

    def client_closed(self) -> None:
        """The client's socket has closed: the broker sees the same, and fires the will if none said DISCONNECT."""
        if self.state == EMPTYING:
            self._is_client_gone = True  # it has taken its leave: what it sent before still goes on
        elif self.state != CLOSED:
            self._end(Event.CLIENT_GONE)

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
            if self.state != OPEN:
                return
            self._plan()
        try:
            while at < size:
                kind = data[at] >> 4
                if not frame.read(data, at):
                    self._keep_client(data, at, size - at + 1)
                    break
                body = frame.body
                end = frame.end
                if frame.padded:
                    self._check_padding()
                if end - at > self.max_packet or (kind != PUBLISH and end - at > STORED):
                    raise PacketError(Fault.TOO_LARGE, "a packet of more bytes than are taken")
                if end > size and (kind != PUBLISH or end - at <= STORE):
                    self._keep_client(data, at, end - at)
                    break
                if kind == PUBLISH:
                    if not publish.read(data, at, body, end, self.version, True):
                        if publish.needed - at > HEADER:
                            raise PacketError(Fault.TOO_LARGE, "a PUBLISH whose topic and properties are too long")
                        self._keep_client(data, at, publish.needed - at)
                        break
                    live = False
                    if publish.qos and self._receive_maximum:
                        live = self._take_quota(publish.packet_id)
                    # An alias is learned even from a message that is refused.
                    topic = self._aliased(data) if publish.alias else None
                    kept = FORWARDED if self._guard is None else self._keep_back(data, at, end, topic, live)
                    if kept:
                        if run < at:
                            self._send_broker(data[run:at])
                        run = min(end, size)
                        if kept == PARKED:
                            return
                        left -= 1
                    else:
                        if topic is not None:
                            head = self._without_alias(data, at, end, topic)
                            if run < at:
                                self._send_broker(data[run:at])
                            self._send_broker(head)
                            run = publish.payload
                        self._count_sent()
                    if end > size:
                        self._client_left = end - size
                        self._begin_packet(at)
                        end = size
                elif PUBACK <= kind <= PUBCOMP:
                    ack.read(data, at, body, end, self.version)
                    if kind != PUBREL:
                        if self._inflight_down and (kind != PUBREC or ack.reason >= 0x80):
                            self._inflight_down -= 1
                            self.counters.subtract(INFLIGHT_FROM_BROKER, 1)
                    elif self._guard is not None:
                        if self._guard.release(ack.packet_id):
                            self._settle(ack.packet_id)
                            self._tell_client(write_ack(PacketType.PUBCOMP, ack.packet_id))
                            if run < at:
                                self._send_broker(data[run:at])
                            run = end
                        else:
                            self._own_may_go = self._guard.released(ack.packet_id) or self._own_may_go
                else:
                    instead = self._control(kind, data, at, body, end)
                    if instead is not None:
                        if run < at:
                            self._send_broker(data[run:at])
                        if instead:
                            self._send_broker(instead)
                        run = end
                self.counters.add(PACKETS_FROM_CLIENT + kind, 1)
                self._last_client = self._now
                at = end
                if self.state != OPEN:  # DISCONNECT: what follows it is nobody's
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

    def _control(self, kind: int, data: bytes, at: int, body: int, end: int) -> bytes | None:
        """Check a packet that is not in a message's path; what the broker gets instead of it, None: itself."""
        if kind == PINGREQ:
            check_ping(data, at, body, end)
            self._client_pings += 1
        elif kind == SUBSCRIBE:
            subscribe = Subscribe.read(data, at, body, end, self.version)
            if self._guard is not None and MARK in data[at:end]:
                to_broker, to_client = self._notices().subscribe(subscribe)
                self._tell_client(to_client)
                return to_broker
        elif kind == UNSUBSCRIBE:
            unsubscribe = Unsubscribe.read(data, at, body, end, self.version)
            if self._guard is not None and MARK in data[at:end]:
                to_broker, to_client = self._notices().unsubscribe(unsubscribe)
                self._tell_client(to_client)
                return to_broker
        elif kind == DISCONNECT:
            Disconnect.read(data, at, body, end, self.version, from_client=True)
            if self._hold is not None and self._hold.count:
                self._farewell = data[at:end]
                self._empty_by = self._now + LONGEST_WAIT
                self.state = follow(State(self.state), Event.CLIENT_LEAVES)
                self._set_reading()
                self._plan()
                return b""
            self._leave(Event.CLIENT_LEFT)
        elif kind == AUTH and self.version == 5:
            Auth.read(data, at, body, end, from_client=True)
            if not self._enhanced:  # section 4.12
                raise PacketError(Fault.DIRECTION, "AUTH after a CONNECT without an authentication method")
        elif kind == CONNECT:
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

    # Input: the upstream

    def broker_bytes(self, data: bytes, now: float) -> None:
        """Take what was read from the broker."""
        self._now = now
        self.counters.add(BYTES_FROM_BROKER, len(data))
        if self.state == QUEUED:
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
        if self.state != CLOSED:
            self._broker_packets(data)
            self._go_on()

    def broker_closed(self, lost: bool) -> None:
        """The upstream has closed; `lost` when by an error rather than by the broker's own will."""
        if self.state == CLOSED:
            self._release_windows()
            return
        if self.state == OPENING and lost:
            self.upstream_failed()
            return
        if self.state == OPEN or self.state == EMPTYING:
            self.doubt_broker = True
            self.counters.add(BROKER_LOST, 1)
            self._dismiss(ReasonCode.SERVER_SHUTTING_DOWN, "the broker closed the connection")
        self._end(Event.BROKER_GONE)

    def _go_on(self) -> None:
        """Do what packets of the broker have made possible."""
        if self._held and self.state == OPEN and not self._is_parked:
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
                if self.state == OPENING and kind not in (CONNACK, AUTH, DISCONNECT):
                    raise PacketError(Fault.FIRST_PACKET, "the broker's first packet is not a CONNACK")
                if not frame.read(data, at):
                    self._keep_broker(data, at, size - at + 1)
                    break
                body = frame.body
                end = frame.end
                if end > size:
                    if kind != PUBLISH:
                        if end - at > STORED:
                            raise PacketError(Fault.TOO_LARGE, "a packet of more bytes than are taken")
                        self._keep_broker(data, at, end - at)
                        break
                    self._broker_left = end - size
                    end = size
                self.counters.add(PACKETS_FROM_BROKER + kind, 1)
                if kind == PUBLISH:
                    if data[at] & 6:
                        self._inflight_down += 1
                        self.counters.add(INFLIGHT_FROM_BROKER, 1)
                elif kind == PUBACK or kind == PUBREC or kind == PUBCOMP:
                    ack.read(data, at, body, end, self.version)
                    if kind != PUBREC or ack.reason >= 0x80:
                        if self._inflight_up:
                            self._inflight_up -= 1
                            self.counters.subtract(INFLIGHT_FROM_CLIENT, 1)
                        if self._unacknowledged is not None:
                            self._unacknowledged.discard(ack.packet_id)
                        if self._guard is not None and self._guard.windows is not None:
                            self._guard.acknowledged(ack.packet_id, self._now)
                        self._forget_duplicate(ack.packet_id)
                    elif self._guard is not None and self._guard.windows is not None:
                        self._guard.received(ack.packet_id, self._now)
                        self._wake_by(self._guard.patience_until)
                        self._forget_duplicate(ack.packet_id)
                    else:
                        self._forget_duplicate(ack.packet_id)
                elif kind == PINGRESP:
                    # A client's ping is answered first: a broker that loses an answer must not cost the client one.
                    if self._client_pings:
                        self._client_pings -= 1
                    elif self._own_pings:
                        self._own_pings -= 1
                        if run < at:
                            self.to_client.append(data[run:at])
                        run = end
                elif (kind == SUBACK or kind == UNSUBACK) and self._guard is not None:
                    if self._guard.notices is not None:
                        wire = self._guard.notices.acknowledge(data, at, body, end)
                        if run < at:
                            self.to_client.append(data[run:at])
                        self.to_client.append(wire)
                        run = end
                elif kind == CONNACK:
                    if run < at:
                        self.to_client.append(data[run:at])
                        run = at
                    wire = self._accept(data, at, body, end)
                    if not wire:  # it has to wait for its turn, or has been refused
                        return
                    self.to_client.append(wire)
                    run = end
                elif kind == AUTH:
                    Auth.read(data, at, body, end, from_client=False)
                    if self.state == OPENING:
                        self._client_turn = True
                        self.wake_at = self._now + self.connect_timeout
                elif kind == DISCONNECT:
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

    def _keep_broker(self, data: bytes, at: int, need: int) -> None:
        self._broker_tail = bytearray(data[at:])
        self._broker_need = need

    # The end

    def shut_down(self) -> None:
        """The gateway is ending: the client is told, and may go elsewhere."""
        if self.state == CLOSED:
            return
        if self.state == OPENING or self.state == QUEUED:
            self._refuse(ReasonCode.SERVER_SHUTTING_DOWN, "the gateway is shutting down")
        elif self.state == OPEN or self.state == EMPTYING:
            self._dismiss(ReasonCode.SERVER_SHUTTING_DOWN, "the gateway is shutting down")
        self._end(Event.SHUTDOWN)

    def _end(self, event: Event) -> None:
        Timing._end(self, event)
        self._broker_tail = None
