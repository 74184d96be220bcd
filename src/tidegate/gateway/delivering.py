"""The broker's side of a connection: its packets, one by one, on their way to the client."""

from ..engine.counters import (
    BROKER_LOST,
    BYTES_FROM_BROKER,
    INFLIGHT_FROM_BROKER,
    INFLIGHT_FROM_CLIENT,
    PACKETS_FROM_BROKER,
    Counters,
)
from ..mqtt.errors import Fault, PacketError
from ..mqtt.reasons import ReasonCode
from ..mqtt.session import Auth, Disconnect
from .bounds import STORED, Bounds
from .ordinals import (
    AUTH,
    CLOSED,
    CONNACK,
    DISCONNECT,
    EMPTYING,
    OPEN,
    OPENING,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    QUEUED,
    SUBACK,
    UNSUBACK,
)
from .scratch import ack, frame
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

    def _end(self, event: Event) -> None:
        Timing._end(self, event)
        self._broker_tail = None
