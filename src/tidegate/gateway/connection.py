"""One client and its upstream, sans I/O: bytes and the time in; bytes, commands and the next wake-up out.

The driver feeds what it reads to `client_bytes` and `broker_bytes`, tells of sockets that opened or closed, and calls
`tick` at `wake_at`. After each of these it writes `to_client` and `to_broker`, empties both, and carries out
`commands`. Every packet of the client is checked whole before any of its bytes goes on; where all packets of a read
pass, the very same object is forwarded, so that a message costs no copy.

What one connection can make the gateway keep is bounded: a packet up to STORE is kept until it is whole, a larger
PUBLISH is passed on as it comes once its header is known (at most HEADER), any other packet is kept up to STORED.

A connection is one object in eight parts, each a class on top of the one before, in a module of its own:

- `conversation`: what is said to either side, and how it ends;
- `opening`: from accept to CONNACK;
- `exchange`: the client's messages, one by one: quota, aliases, refusals;
- `delaying`: those that have to wait;
- `pacing`: every packet of the client, whose turn may have yet to come;
- `timing`: the clock;
- `delivering`: the packets of the broker;
- `connection`: here, the packets of the client.

Each part begins and ends with those below it (`_begin`, `_end`). What a part calls of one above it, it declares itself.
Compiled, they are one object: a call between parts costs what it costs within one.
"""

from ..engine.counters import BYTES_FROM_CLIENT, INFLIGHT_FROM_BROKER, PACKETS_FROM_CLIENT, Counters, Outcome
from ..mqtt.ack import write_ack
from ..mqtt.errors import Fault, PacketError
from ..mqtt.reasons import PacketType, ReasonCode
from ..mqtt.session import Auth, Disconnect, check_ping
from ..mqtt.subscribe import Subscribe, Unsubscribe
from .bounds import HEADER, STORE, STORED, Bounds
from .conversation import (
    ASK,
    END,
    FREE_BROKER,
    FREE_CLIENT,
    HOLD_BROKER,
    HOLD_CLIENT,
    KEEP,
    LINGER,
    MOST_WAITING,
    OPEN_UPSTREAM,
    RESUME,
    RESUME_BROKER,
)
from .delaying import LONGEST_WAIT, MOST_AT_ONCE
from .delivering import Delivering
from .last_will import Estate
from .notices import MARK
from .ordinals import (
    ARRIVED,
    AUTH,
    CLOSED,
    CONNECT,
    DISCONNECT,
    EMPTYING,
    FORWARDED,
    GREETING,
    LEAVING,
    ON_SUBSCRIBE,
    OPEN,
    OPENING,
    PARKED,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    QUEUED,
    SUBSCRIBE,
    TURNED_AWAY,
    UNSUBSCRIBE,
)
from .requests import Requests
from .scratch import ack, frame, publish
from .states import Event, State, follow
from .subscriptions import SHARE
from .timing import PROGRESS

__all__ = [
    "ASK",
    "END",
    "FREE_BROKER",
    "FREE_CLIENT",
    "HEADER",
    "HOLD_BROKER",
    "HOLD_CLIENT",
    "KEEP",
    "LINGER",
    "LONGEST_WAIT",
    "MOST_AT_ONCE",
    "MOST_WAITING",
    "OPEN_UPSTREAM",
    "PROGRESS",
    "RESUME",
    "RESUME_BROKER",
    "STORE",
    "STORED",
    "Connection",
]

REQUEST = 128
"""Bytes of a SUBSCRIBE or UNSUBSCRIBE that are as much work as a message kept back; see MOST_AT_ONCE."""


class Connection(Delivering):
    """See the module's text. `now` is in seconds."""

    def __init__(self, counters: Counters, bounds: Bounds, now: float) -> None:
        self._begin(counters, bounds, now)
        self._estate: Estate | None = None
        """What its upstream is kept with, once KEEP was said."""

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
            if self._delivery is not None:
                self._go_on_delivering()
            if self._overflow_left:
                parked = len(self._held) - self._held_at
                self._overflow_left = max(self._overflow_left - len(data) + parked, 0)
                if len(data) < STORE:  # a read that is not full has read all
                    self._overflow_left = min(self._overflow_left, parked)
        elif self.state == GREETING or self.state == OPENING or self.state == TURNED_AWAY:
            self._client_opening(data)
        if self._packet_by and self._client_tail is None and not self._client_left:
            self._packet_by = 0.0

    def client_closed(self) -> None:
        """The client's socket has closed: the broker sees the same, and fires the will if none said DISCONNECT."""
        if self.state == EMPTYING:
            self._is_client_gone = True  # it has taken its leave: what it sent before still goes on
        elif self.state == OPENING and self._will is not None:
            # The broker has its CONNECT, or is about to, and the will of its former connection may be gone already.
            self.state = follow(State(self.state), Event.GONE_EARLY)
            self._held = b""
        elif self.state != CLOSED:
            self._end(Event.CLIENT_GONE)

    def _client_packets(self, data: bytes, start: int = 0) -> None:
        """Packets of a client that the broker has accepted, from `start` on: check each, forward what passes."""
        size = len(data)
        at = start
        run = start  # the bytes from here to `at` pass as they are
        left = MOST_AT_ONCE
        if self._guard is not None and self._guard.engine.generation != self._paced_by:
            self._find_packet_limits()
        paced = self._is_paced
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
                if paced and kind != DISCONNECT and not self._is_paid and not self._pay(data, at, end - at):
                    if run < at:
                        self._send_broker(data[run:at])
                    return
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
                        if self._delivery is not None:
                            if kind != PUBREC or ack.reason >= 0x80:
                                self._delivery.acknowledged(ack.packet_id, self._now)
                            else:
                                self._delivery.received(ack.packet_id, self._now)
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
                    if kind == SUBSCRIBE or kind == UNSUBSCRIBE:
                        left -= 1 + (end - at) // REQUEST
                    if instead is not None:
                        if run < at:
                            self._send_broker(data[run:at])
                        if instead:
                            self._send_broker(instead)
                        run = end
                self.counters.add(PACKETS_FROM_CLIENT + kind, 1)
                self._last_client = self._now
                self._is_paid = False
                at = end
                if self.state != OPEN:  # DISCONNECT: what follows it is nobody's
                    break
                if left <= 0 and at < size:
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
            if self._is_broker_unread:
                self._answer_ping()
            else:
                self._client_pings += 1
        elif kind == SUBSCRIBE:
            subscribe = Subscribe.read(data, at, body, end, self.version)
            requests = self._requests(data[at:end], True)
            if requests is not None:
                return requests.subscribe(subscribe, data[at:end], self._now)
        elif kind == UNSUBSCRIBE:
            unsubscribe = Unsubscribe.read(data, at, body, end, self.version)
            requests = self._requests(data[at:end], False)
            if requests is not None:
                return requests.unsubscribe(unsubscribe, data[at:end], self._now)
        elif kind == DISCONNECT:
            said = Disconnect.read(data, at, body, end, self.version, from_client=True)
            if self._will is not None:
                self._will.say(said)
            if self._hold is not None and self._hold.count:
                if self._guard is not None and self._guard.requests is not None:
                    self._guard.requests.discard(self._now)
                self._farewell = data[at:end]
                self._empty_by = self._now + LONGEST_WAIT
                self.state = follow(State(self.state), Event.CLIENT_LEAVES)
                self._set_reading()
                self._stop_delivering(Event.CLIENT_LEAVES)
                if self.state == EMPTYING:
                    self._plan()
                return b""
            if self._will is not None and self._will.is_asked_for:
                self._farewell = data[at:end]
                self._end(Event.WILL_ASKED_FOR)
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

    # SUBSCRIBE and UNSUBSCRIBE; see `requests.Line`

    def _requests(self, wire: bytes, subscribes: bool) -> Requests | None:
        """What looks after a request; None: the broker alone, as far as is known of this client."""
        guard = self._guard
        if guard is None:
            return None
        if guard.requests is None and (
            MARK in wire or (subscribes and (SHARE in wire or guard.engine.meets(guard.subject, ON_SUBSCRIBE)))
        ):
            guard.requests = Requests(guard, self, self._address)
            guard.subscriptions = guard.requests.subscriptions
        return guard.requests

    def send_request(self, wire: bytes, now: float) -> None:
        """Send the broker a request that has waited."""
        self._now = now
        self._send_broker(wire)

    def send_answer(self, wire: bytes) -> None:
        """Send the client a packet of ours; none when it is empty."""
        self._tell_client(wire)

    def look_at(self, due: float) -> None:
        """Have `tick` called then."""
        self._wake_by(due)

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

    # The will of a client that has gone

    def make_way(self, now: float) -> None:
        """Its client has come again, and its will is one that limits hold back: the broker is not to publish it."""
        will = self._will
        if will is None or self.state == CLOSED or self.state == LEAVING:
            return  # its end is under way
        self._now = now
        if self.state == OPEN or self.state == EMPTYING:
            self._dismiss(ReasonCode.SESSION_TAKEN_OVER, "the client has connected again")
        if not self._greeting and self._may_speak():
            self._send_broker(will.farewell())
            if will.is_accepted and self._door is not None and self._door.wills is not None:
                self._door.wills.count(Outcome.RETURNED)
        will.is_settled = True
        self._end(Event.TAKEN_OVER)

    def bequeath(self) -> Estate:
        """What its upstream is to be kept with, as KEEP has said: the driver's from now on."""
        estate = self._estate
        assert estate is not None
        self._will = self._guard = self._estate = None
        return estate

    def _may_speak(self) -> bool:
        """Whether what is written to the broker now would stand between two packets."""
        return self._skipping or not self._client_left

    def _end(self, event: Event) -> None:
        will = self._will
        is_left = event not in (Event.BROKER_GONE, Event.SHUTDOWN, Event.TAKEN_OVER)
        if will is not None and will.is_accepted and not will.is_settled and is_left:
            tail = self.broker_held if self._broker_tail is None else bytes(self._broker_tail)
            self._estate = Estate(
                will,
                self._guard,
                self._keepalive,
                self._last_upstream,
                self._may_speak(),
                self._farewell if will.is_asked_for else b"",
                self._broker_left,
                tail,
                self._client_pings + self._own_pings,
            )
            self.commands |= KEEP
        Delivering._end(self, event)

    def _release_windows(self) -> None:
        Delivering._release_windows(self)
        will = self._will
        self._will = self._estate = None
        if will is not None and self._door is not None and self._door.wills is not None:
            self._door.wills.gone(will)
