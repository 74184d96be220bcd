"""What is said to the client and to the broker, and how that ends: the ground that the parts of a connection stand on.

`to_client` and `to_broker` are bytes, `commands` is what else the driver is to do.
"""

from collections.abc import Callable

from ..engine.counters import MALFORMED, Counters
from ..mqtt.connack import Connack
from ..mqtt.errors import Fault, PacketError
from ..mqtt.properties import Properties, PropertyId
from ..mqtt.reasons import ReasonCode
from ..mqtt.session import Disconnect
from .bounds import Bounds
from .handshake import NO_LIMIT
from .ordinals import ARRIVED, EMPTYING, GREETING, LEAVING, OPEN, OPENING, QUEUED
from .states import Event, State, follow
from .waiting import NEVER

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
RESUME = 16
"""Command: call `resume` when this client's turn has come: not all that are to be read again are read at once."""
END = 8
"""Command: close both sides, each when what was written to it has left."""
ASK = 32
"""Command: have the kernel ask whether the client is there, which has promised no sign of life."""
HOLD_BROKER = 64
"""Command: stop reading from the broker."""
FREE_BROKER = 128
"""Command: read from the broker again."""
RESUME_BROKER = 256
"""Command: call `resume_broker` in another turn, and do not read from the broker before."""
KEEP = 512
"""Command, with END: the upstream is to be kept, with what `bequeath` says."""

_RETURN_CODES = {
    ReasonCode.SERVER_UNAVAILABLE: 3,
    ReasonCode.SERVER_SHUTTING_DOWN: 3,
    ReasonCode.BANNED: 5,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID: 2,
}
"""What 3.x has for a refusal (section 3.2.2.3 of MQTT 3.1.1); for others, the socket is closed."""


class Conversation:
    """See the module's text. `now` is in seconds."""

    def _begin(self, counters: Counters, bounds: Bounds, now: float) -> None:
        """Be new. Each part of the connection calls that below it, then sets what it has."""
        self.counters = counters
        self.bounds = bounds
        self.state = GREETING
        self.version = 0
        self.to_client: list[bytes] = []
        self.to_broker: list[bytes] = []
        self.commands = 0
        self.wake_at = now + bounds.connect_timeout
        """When `tick` is due; 0: never."""
        self.fault: PacketError | None = None
        """What the client did wrong, once it has."""
        self.broker_fault: PacketError | None = None
        """What the broker did wrong, once it has."""
        self.flusher: Callable[[], None] | None = None
        """The driver's: writes what `to_client` and `to_broker` hold and carries out `commands`."""
        self._now = now
        self._last_upstream = now
        """When something was last written to the broker."""
        self._client_packet = NO_LIMIT
        """The largest packet that the client takes, in bytes."""
        self._broker_left = 0
        """Bytes to come of a packet of the broker's, whose beginning the client has."""
        self._waiting: list[bytes] | None = None
        """Our own packets that wait for its end."""
        self._held = b""
        """What the client has sent and is yet to be read: before CONNACK, or because it is parked."""
        self._held_at = 0
        """Where in that it goes on: before, all has been read."""
        self._is_parked = False
        self._is_unread = False
        """HOLD_CLIENT was said last."""

    # To the broker

    def _send_broker(self, data: bytes) -> None:
        self.to_broker.append(data)
        self._last_upstream = self._now

    # To the client

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

    # To the driver

    def flush(self) -> None:
        """Have the driver write what there is."""
        if self.flusher is not None:
            self.flusher()

    def _set_reading(self) -> None:
        """Say whether the client is to be read, if that has changed: any of the reasons not to is enough."""
        stop = (
            self._is_parked
            or self.state == ARRIVED
            or self.state == QUEUED
            or self.state == EMPTYING
            or self.state == LEAVING
            or (self.state == OPENING and self._held != b"")
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

    def _wake_by(self, at: float) -> None:
        """Have `tick` called at `at`, if not before; 0 and NEVER: no need."""
        if 0.0 < at < NEVER and (self.wake_at == 0.0 or at < self.wake_at):
            self.wake_at = at

    def is_within(self) -> bool:
        """Whether one of the broker's packets is half-way through: nothing else can be written to the client then."""
        return self._broker_left > 0

    # How it ends

    def _violation(self, error: PacketError) -> None:
        """The client broke the rules: counted, told where the version can (section 4.13), and closed."""
        self.counters.add(MALFORMED + error.fault, 1)
        self.fault = error.with_traceback(None)  # whose frames would keep this connection alive
        if self.state == OPEN:
            self._dismiss(error.reason, error.text)
        elif self.version or error.fault is Fault.PROTOCOL:
            self._refuse(error.reason, error.text)
        self._end(Event.VIOLATION)

    def _broker_violation(self, error: PacketError) -> None:
        self.broker_fault = error
        if self.state == OPENING:
            self._refuse(ReasonCode.SERVER_UNAVAILABLE, "the broker's answer is not MQTT")
        elif self.state == OPEN:
            self._dismiss(ReasonCode.UNSPECIFIED_ERROR, "the broker sent what is not MQTT")
        self._end(Event.BROKER_GONE)

    def _leave(self, event: Event) -> None:
        """Wait for the broker to end it: the client has said all, or hears no more than its last bytes."""
        self._is_parked = False
        self.state = follow(State(self.state), event)
        self._set_reading()
        self.wake_at = self._now + LINGER

    def _end(self, event: Event) -> None:
        """Close both sides. Each part of the connection lets go of what it has, then calls that below it."""
        self.state = follow(State(self.state), event)
        self._is_parked = False
        self.commands |= END
        self.wake_at = 0.0
        self._held = b""
        self._held_at = 0
        self._waiting = None
