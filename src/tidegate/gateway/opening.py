"""From accept to CONNACK: whether a client may come in, what it says of itself, and what the broker answers.

Whoever has to wait for its turn is not read meanwhile; what had been read is held.
"""

from collections.abc import Callable

from ..engine.counters import PACKETS_FROM_BROKER, PACKETS_FROM_CLIENT, REFUSED, Counters, Refusal
from ..mqtt.connack import Connack
from ..mqtt.connect import Connect, peek_version
from ..mqtt.errors import Fault, PacketError
from ..mqtt.properties import PropertyId
from ..mqtt.reasons import PacketType, ReasonCode
from ..mqtt.session import PINGREQ, Auth, Disconnect
from .admission import Admission, Denial, Door
from .bounds import STORED, Bounds
from .conversation import ASK, OPEN_UPSTREAM, Conversation
from .guard import Guard
from .handshake import NO_LIMIT, client_connack, is_longer, number, upstream_connect
from .last_will import LastWill
from .ordinals import (
    ARRIVED,
    AUTH,
    CLOSED,
    CONNACK,
    CONNECT,
    DELAY,
    DROP,
    GREETING,
    LIMITED,
    OPENING,
    ORPHANED,
    PASS,
    QUEUED,
    REJECT,
    TURNED_AWAY,
)
from .scratch import frame
from .states import Event, State, follow
from .waiting import ASKED, GONE, PASSED, WAITS, Lane
from .wills import LOOK, Search


class Opening(Conversation):
    """See the module's text."""

    def _begin(self, counters: Counters, bounds: Bounds, now: float) -> None:
        Conversation._begin(self, counters, bounds, now)
        self.max_packet = bounds.max_packet
        self.connect_timeout = bounds.connect_timeout
        self.has_hung_up: Callable[[], bool] | None = None
        """The driver's: whether the client's socket has closed. Of one that is not read nobody is told so."""
        self.doubt_broker = False
        """True once the broker has closed an open connection without DISCONNECT, or has not answered CONNECT."""
        self._door: Door | None = None
        self._admission: Admission | None = None
        self._address = b""
        self._connect: Connect | None = None
        self._greeting = b""
        """CONNECT for the broker, until its socket is open."""
        self._connack = b""
        """The broker's, and what it has sent behind it, while the client has to wait for its turn."""
        self._is_admitted = False
        """Its turn has come then."""
        self._will: LastWill | None = None
        """The client's, from the moment that its CONNECT goes on; None: it has none, or no limit concerns it."""
        self._search: Search | None = None
        """The client's former connections, whose end CONNECT waits for."""
        self._enhanced = False
        """CONNECT names an authentication method (section 4.12)."""
        self._client_turn = False
        """It is the client's turn to send AUTH."""
        self._last_client = now
        """When the client last gave a sign of life."""
        self._own_pings = 0
        """Pings of ours that the broker has yet to answer."""
        # What has been agreed, once it is open.
        self._guard: Guard | None = None
        self._keepalive = 0.0
        self._receive_maximum = 0
        self._broker_quota = 0
        self._broker_packet = NO_LIMIT

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
        if action == DELAY:
            if self.state == GREETING or self.state == OPENING:
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
            self._send_broker(Disconnect().write())
            if self._will is not None:
                self._will.is_settled = True
        if action == DROP:
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
        if was == ARRIVED:
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

    def serve(self, lane: Lane, now: float) -> int:
        """The turn of this client, which waits in `lane` to come in: PASSED, ASKED, WAITS or GONE."""
        self._now = now
        admission = self._admission
        if admission is None or admission.lane is not lane:
            return GONE
        outcome = self._admit()
        if outcome == PASSED:
            passed = ASKED if admission.is_asked else PASSED  # once in, it may go on to be asked who it is
            self._come_in()
            return passed
        return WAITS if admission.lane is lane else GONE

    def turn_away(self, now: float) -> None:
        """There is no room for it to wait any longer."""
        self._now = now
        if self._admit(late=True) == PASSED:
            self._come_in()
        self.flush()

    # What the client says

    def _client_opening(self, data: bytes) -> None:
        """Packets before CONNACK: CONNECT, then AUTH; all else is held, and the client no longer read."""
        at = 0
        try:
            while at < len(data):
                kind = data[at] >> 4
                if self.state == GREETING or self.state == TURNED_AWAY:
                    if kind != CONNECT:
                        raise PacketError(Fault.FIRST_PACKET, "the first packet is not a CONNECT")
                elif self.state == CLOSED:
                    return
                elif kind != AUTH or not self._enhanced or self.state == QUEUED:
                    self._held = data[at:]
                    self._set_reading()
                    return
                if not frame.read(data, at):
                    self._keep_client(data, at, len(data) - at + 1)
                    return
                body, end = frame.body, frame.end
                if end - at > min(STORED, self.bounds.max_connect, self.max_packet):
                    if kind == CONNECT:
                        self.version = peek_version(data, body, min(end, len(data)))
                    raise PacketError(Fault.TOO_LARGE, f"a {PacketType(kind).name} of more bytes than are taken")
                if end > len(data):
                    self._keep_client(data, at, end - at)
                    return
                self.counters.add(PACKETS_FROM_CLIENT + kind, 1)
                if kind == CONNECT:
                    self._greet(data, at, body, end)
                    if self.state == CLOSED:
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
        if self.state == TURNED_AWAY:
            assert admission is not None
            self._keep_out(REJECT, admission.denial)
            return
        self._keepalive = float(connect.keepalive)
        if self.version < 5 and is_longer(connect.keepalive, self.bounds.max_keepalive):
            self.counters.add(REFUSED + Refusal.KEEPALIVE, 1)
            self._refuse(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "the keepalive is too long")
            self._end(Event.LIMITED)
            return
        if self.version == 5:
            self._enhanced = connect.authentication_method is not None
        self._last_client = self._now
        self.state = follow(State(self.state), Event.CONNECT)
        self.wake_at = self._now + self.connect_timeout
        if admission is None:
            self._greeting = upstream_connect(connect, data[at:end])
        else:
            self._connect = connect
            admission.greet(connect, end - at)
            self._greeting = upstream_connect(connect, data[at:end], admission.broker_window())
            if self._admit() != PASSED:
                return
        self.commands |= OPEN_UPSTREAM

    def _check_padding(self) -> None:
        if frame.padded and self.version == 5:
            raise PacketError(Fault.LENGTH, "the remaining length has more bytes than it needs")

    # What the broker answers

    def upstream_opened(self, now: float) -> None:
        """The broker's socket is open: CONNECT goes out, once what the client had before is over."""
        self._now = now
        if self._connect is not None and self._door is not None and self._door.wills is not None:
            assert self._admission is not None
            self._will, self._search = self._door.wills.greet(
                self._connect, self._admission.subject, self, self._address, now
            )
        if self._search is None:
            self._go_up()
        else:
            self.wake_at = now + LOOK

    def _go_up(self) -> None:
        self._send_broker(self._greeting)
        self._greeting = b""
        self.wake_at = self._now + self.connect_timeout

    def former_ended(self, now: float) -> None:
        """The broker has ended the client's former connections, or has had its time to."""
        self._now = now
        self._search = None
        if self._greeting:
            self._go_up()

    def _look_for_former(self) -> None:
        """See whether they have ended."""
        assert self._search is not None
        if self._search.look(self._now):
            self._search.close()
            self.former_ended(self._now)
        else:
            self.wake_at = self._now + LOOK

    def upstream_failed(self) -> None:
        """The broker cannot be reached: the client is told so, and to come back (0x88; 3 in 3.x)."""
        if self.state == OPENING:
            self.counters.add(REFUSED + Refusal.UPSTREAM_DOWN, 1)
            self._refuse(ReasonCode.SERVER_UNAVAILABLE, "the broker is not available")
            self._end(Event.BROKER_GONE)

    def _accept(self, data: bytes, at: int, body: int, end: int) -> bytes:
        """The CONNACK that the client gets for the broker's; nothing when it has to wait, or the connection ended."""
        if self.state != OPENING and self.state != ORPHANED:
            raise PacketError(Fault.SECOND_CONNECT, "a second CONNACK")
        if self._greeting:
            raise PacketError(Fault.FIRST_PACKET, "a CONNACK before the CONNECT")
        connack = Connack.read(data, at, body, end, self.version)
        hold = 0
        admission = self._admission
        if admission is not None and connack.reason == 0:
            assert self._connect is not None
            client_id = admission.accept(self._connect, connack)
            if self._will is not None:
                self._will.accept(admission.subject, connack)
                if not self._connect.client_id and self._door is not None and self._door.wills is not None:
                    self._door.wills.assign(self._will, client_id)
            if self.state == ORPHANED:
                self._keepalive = float(number(connack.properties, PropertyId.SERVER_KEEP_ALIVE, int(self._keepalive)))
                self._end(Event.ACCEPTED)
                return b""
            outcome = PASSED if self._is_admitted else self._admit()
            if outcome == WAITS:
                self._connack = data[at:]
                self._keepalive = float(number(connack.properties, PropertyId.SERVER_KEEP_ALIVE, int(self._keepalive)))
                self._await_turn()
                self.counters.subtract(PACKETS_FROM_BROKER + CONNACK, 1)  # it will be read once more
            if outcome != PASSED:
                return b""
            self._guard = Guard(
                admission.waiting, admission.subject, client_id, self._connect, connack, self._client_packet
            )
            hold = admission.waiting.hold_messages if self._guard.delays() else 0
        elif admission is not None:
            action = admission.fail(connack, self.version, self._now)
            if self.state == ORPHANED:
                self._end(Event.REFUSED)
                return b""
            if action >= LIMITED:
                self._keep_out(DROP if action == LIMITED else action, admission.denial)
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

    def _end(self, event: Event) -> None:
        Conversation._end(self, event)
        if self._admission is not None:
            self._admission.close(self._now)
            self._admission = None
        self._greeting = self._connack = b""
        self._connect = None
        if self._search is not None:
            self._search.close()
            self._search = None

    # Of the parts above

    def make_way(self, now: float) -> None:
        """The client has come again by another connection."""
        raise NotImplementedError

    def _keep_client(self, data: bytes, at: int, need: int) -> None:
        """Keep the packet at `at`, which is not all there, until it has `need` bytes."""
        raise NotImplementedError

    def _broker_packets(self, data: bytes) -> None:
        """Read packets of the broker."""
        raise NotImplementedError

    def _go_on(self) -> None:
        """Do what packets of the broker have made possible."""
        raise NotImplementedError

    def _plan(self) -> None:
        """Set `wake_at` of an open connection."""
        raise NotImplementedError

    def holds(self) -> int:
        """Bytes that it has waiting."""
        raise NotImplementedError

    def cut(self) -> None:
        """End: the holds of the worker are full, and this one is the largest."""
        raise NotImplementedError
