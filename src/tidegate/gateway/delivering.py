"""The broker's side of a connection: its packets, one by one, on their way to the client.

Messages that limits on `deliver` meet go by way of `delivery.py`. Control packets pass whatever waits, as the broker is
read on; only when something must wait for which there is no room it is not, and then its pings are answered here.
"""

from ..engine.counters import (
    BROKER_LOST,
    BYTES_FROM_BROKER,
    HOLD_DISCARDED,
    INFLIGHT_FROM_BROKER,
    INFLIGHT_FROM_CLIENT,
    PACKETS_FROM_BROKER,
    Counters,
    Discard,
)
from ..mqtt.errors import Fault, PacketError
from ..mqtt.reasons import ReasonCode
from ..mqtt.session import PINGRESP as PINGRESP_PACKET
from ..mqtt.session import Auth, Disconnect
from .bounds import HEADER, STORE, STORED, Bounds
from .conversation import FREE_BROKER, HOLD_BROKER, RESUME_BROKER
from .delaying import DISCARDS, MOST_AT_ONCE
from .delivery import Delivery
from .ordinals import (
    AUTH,
    CLOSED,
    CONNACK,
    DISCONNECT,
    EMPTYING,
    FORWARDED,
    INCOMPLETE,
    KEPT,
    ON_DELIVER,
    OPEN,
    OPENING,
    PARKED,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    QUEUED,
    SUBACK,
    UNSUBACK,
)
from .scratch import ack, frame, publish
from .states import Event
from .timing import Timing
from .waiting import PASSED


class Delivering(Timing):
    """See the module's text."""

    def _begin(self, counters: Counters, bounds: Bounds, now: float) -> None:
        Timing._begin(self, counters, bounds, now)
        self._broker_tail: bytearray | None = None
        """What has come of the broker's packet under way, if it is kept until it is whole."""
        self._broker_need = 0
        """Bytes that it must have before it is read again."""
        self._client_pings = 0
        """The client's pings that the broker has yet to answer."""
        self._delivery: Delivery | None = None
        """For a client that limits on `deliver` meet."""
        self._delivery_generation = 0
        """The engine's generation by which that was settled."""
        self._skipping_broker = False
        """The broker's message under way is not for the client."""
        self._will_resume_broker = False
        """RESUME_BROKER was said."""
        self._is_broker_unread = False
        """HOLD_BROKER was said last."""
        self._is_client_full = False
        """The client does not take what is written to it."""

    def broker_bytes(self, data: bytes, now: float) -> None:
        """Take what was read from the broker."""
        self._now = now
        self.counters.add(BYTES_FROM_BROKER, len(data))
        if self.broker_held:  # read before the driver could stop
            self.broker_held += data
            return
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
            if self._is_client_full:
                self._set_reading_broker()

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
        if self._delivery is not None:
            self._go_on_delivering()

    def _broker_packets(self, data: bytes) -> None:
        """Packets of the broker: follow those that say something about the connection, forward all but our pings'."""
        size = len(data)
        at = 0
        run = 0
        left = MOST_AT_ONCE
        if self._broker_left:
            if size < self._broker_left:
                self._broker_left -= size
                if not self._skipping_broker:
                    self.to_client.append(data)
                return
            at = self._broker_left
            self._broker_left = 0
            if self._waiting is not None or self._delivery is not None or self._skipping_broker:
                if not self._skipping_broker:
                    self.to_client.append(data[:at])
                self._skipping_broker = False
                self._tell_waiting()
                run = at
                if self._delivery is not None:
                    self._delivery.go_on(self._now)
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
                if kind == PUBLISH:
                    kept = FORWARDED
                    if (
                        self.state == OPEN
                        and self._guard is not None
                        and self._guard.engine.generation != self._delivery_generation
                    ):
                        self._review_delivery()
                    if self._delivery is not None:
                        kept = self._deliver(data, at, body, end)
                        if kept == INCOMPLETE:
                            break
                        if kept:
                            if self.state == CLOSED:  # keeping it has cost the client its connection
                                return
                            if run < at:
                                self.to_client.append(data[run:at])
                            run = min(end, size)
                            left -= 1
                            if kept == PARKED or (left == 0 and run < size):
                                self._park_broker(data[at if kept == PARKED else run :], kept == PARKED)
                                return
                    if end > size:
                        self._broker_left = end - size
                        self._skipping_broker = kept == KEPT
                        end = size
                    if kept == FORWARDED and data[at] & 6:
                        self._inflight_down += 1
                        self.counters.add(INFLIGHT_FROM_BROKER, 1)
                elif end > size:
                    if end - at > STORED:
                        raise PacketError(Fault.TOO_LARGE, "a packet of more bytes than are taken")
                    self._keep_broker(data, at, end - at)
                    break
                self.counters.add(PACKETS_FROM_BROKER + kind, 1)
                if kind == PUBACK or kind == PUBREC or kind == PUBCOMP:
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
                    if self._guard.requests is not None:
                        wire = self._guard.requests.acknowledge(data, at, body, end, self._now)
                        self._own_may_go = self._own_may_go or self._guard.requests.may_go
                        if wire is not None:
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

    # Messages under limits

    def _review_delivery(self) -> None:
        """There is another policy, or none was looked at yet: whether limits on `deliver` meet the client."""
        guard = self._guard
        assert guard is not None
        self._delivery_generation = guard.engine.generation
        if self._delivery is not None:
            self._delivery.review()
        elif guard.engine.meets(guard.subject, ON_DELIVER):
            self._delivery = Delivery(guard.waiting, guard.subject, self, self._address)
            if self._is_client_full:
                self._delivery.takes(False, self._now)

    def _deliver(self, data: bytes, at: int, body: int, end: int) -> int:
        """What becomes of the PUBLISH at `at`: FORWARDED, KEPT, PARKED, or INCOMPLETE: more of it must come first."""
        if end > len(data) and end - at <= STORE:
            self._keep_broker(data, at, end - at)
            return INCOMPLETE
        if not publish.read(data, at, body, end, self.version, False):
            if publish.needed - at > HEADER:
                raise PacketError(Fault.TOO_LARGE, "a PUBLISH whose topic and properties are too long")
            self._keep_broker(data, at, publish.needed - at)
            return INCOMPLETE
        delivery = self._delivery
        guard = self._guard
        assert delivery is not None
        assert guard is not None
        is_shared = False
        if publish.qos == 0 and guard.subscriptions is not None and guard.subscriptions.shares:
            is_shared = guard.subscriptions.is_shared(data[publish.topic : publish.topic_end])
        kept = delivery.take(data, at, end, is_shared, self._now)
        if kept == KEPT:
            self._wake_by(delivery.next_deadline)
        else:
            self._wake_by(delivery.patience_until)
        return kept

    def _park_broker(self, data: bytes, waits: bool) -> None:
        """Leave what the broker has sent for later: until there is room for what `waits`, else for another turn."""
        self.broker_held = data
        if not waits:
            self._will_resume_broker = True
            self.commands |= RESUME_BROKER
            return
        assert self._delivery is not None
        self._wake_by(self._delivery.next_deadline)
        self._read_broker(False)
        self._delivery.parked(self._now)
        for _ in range(self._client_pings):
            self._answer_ping()
        self._client_pings = 0

    def _set_reading_broker(self) -> None:
        """Have the broker read unless something is parked, or the client takes nothing and nothing is kept for it."""
        is_parked = self.broker_held != b"" and not self._will_resume_broker
        self._read_broker(not is_parked and (not self._is_client_full or self.spares_broker()))

    def _read_broker(self, reads: bool) -> None:
        """Say whether the broker is to be read, if that has changed."""
        if self._is_broker_unread != reads:
            return
        self._is_broker_unread = not reads
        pending = self.commands & (HOLD_BROKER | FREE_BROKER)
        if pending:  # the driver has not heard the opposite yet
            self.commands &= ~pending
        else:
            self.commands |= FREE_BROKER if reads else HOLD_BROKER

    def _answer_ping(self) -> None:
        """Answer the client's ping, as the broker's answer is behind what is not read; that one is ours then."""
        self._tell_client(PINGRESP_PACKET)
        self._own_pings += 1

    def resume_broker(self, now: float) -> None:
        """Go on with what of the broker's was left for later, if its time has come."""
        self._now = now
        delivery = self._delivery
        if not self.broker_held or not (self._will_resume_broker or (delivery is not None and delivery.may_resume)):
            return
        self._will_resume_broker = False
        if delivery is not None:
            delivery.may_resume = False
        data = self.broker_held
        self.broker_held = b""
        self._broker_packets(data)
        self._set_reading_broker()
        self._go_on()

    def _go_on_delivering(self) -> None:
        """Do what the client's acknowledgements, or the clock, have made possible."""
        delivery = self._delivery
        if delivery is None:
            return
        if delivery.has_freed:
            delivery.go_on(self._now)
        if delivery.may_resume:
            self.resume_broker(self._now)

    def client_takes(self, takes: bool, now: float) -> None:
        """Whether the client takes what is written to it: while it does not, its messages stay in flight, or held."""
        Timing.client_takes(self, takes, now)
        self._now = now
        self._is_client_full = not takes
        if self._delivery is not None:
            self._delivery.takes(takes, now)
        if takes:  # not so while the driver writes what there is
            self._go_on_delivering()
            self._set_reading_broker()

    def spares_broker(self) -> bool:
        """Whether the broker may be read also while the client takes nothing."""
        return self._delivery is not None and self._delivery.spares_broker and not self._broker_left

    def _look_after_held(self) -> None:
        Timing._look_after_held(self)
        delivery = self._delivery
        if delivery is None:
            return
        delivery.expire(self._now)
        self._go_on_delivering()
        is_late = delivery.patience_until <= self._now and self.state == OPEN
        if is_late and not ((self._is_unread or self.client_excused) and delivery.excuse(self._now)):
            self._end_keeper("messages are not acknowledged, and others wait for their place")

    def _plan(self) -> None:
        Timing._plan(self)
        if self._delivery is not None:
            self._wake_by(self._delivery.next_deadline)
            self._wake_by(self._delivery.patience_until)

    def _end_delivery(self, event: Event) -> None:
        """Give up what waits for the client: of QoS 1 and 2 the broker still has it."""
        delivery = self._delivery
        self._delivery = None
        self.broker_held = b""
        if delivery is not None and (count := delivery.close(self._now)):
            self.counters.add(HOLD_DISCARDED + DISCARDS.get(event, Discard.ENDED), count)

    def _stop_delivering(self, event: Event) -> None:
        """The client has said its last, or the broker has: what still comes passes, read on from where it was left."""
        held = self.broker_held
        self._end_delivery(event)
        self._will_resume_broker = False
        if held:
            self._broker_packets(held)
        self._set_reading_broker()

    def _leave(self, event: Event) -> None:
        Timing._leave(self, event)
        self._stop_delivering(event)

    def _keep_broker(self, data: bytes, at: int, need: int) -> None:
        self._broker_tail = bytearray(data[at:])
        self._broker_need = need

    def _end(self, event: Event) -> None:
        self._end_delivery(event)
        Timing._end(self, event)
        self._broker_tail = None
