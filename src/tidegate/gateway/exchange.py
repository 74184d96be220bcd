"""The client's messages, one by one: the quota that each takes, its alias, what the client gets for a refused one."""

from ..engine.counters import INFLIGHT_FROM_BROKER, INFLIGHT_FROM_CLIENT, Counters
from ..mqtt.errors import Fault, PacketError
from ..mqtt.reasons import ReasonCode
from .aliases import Aliases
from .bounds import Bounds
from .guard import identifier_in_use
from .handshake import NO_LIMIT
from .opening import Opening
from .ordinals import BAN, CLOSED, LIMITED
from .scratch import publish
from .states import Event

MOST_TOLD = 100
"""Answers to one read that give their reasons; the others are bare codes, so that no flood is answered by a larger."""


class Exchange(Opening):
    """See the module's text. "The PUBLISH just read" is what `scratch.publish` says."""

    def _begin(self, counters: Counters, bounds: Bounds, now: float) -> None:
        Opening._begin(self, counters, bounds, now)
        self._aliases: Aliases | None = None
        self._unacknowledged: set[int] | None = None
        """Packet identifiers of the client's that count against its Receive Maximum."""
        self._inflight_up = 0
        self._inflight_down = 0
        self._client_left = 0
        """Bytes to come of a large message of the client's, which is passed on or skipped as it comes."""
        self._skipping = False
        self._owed = b""
        """What the client gets once it has been skipped."""
        self.broker_held = b""
        """What the broker has sent and is yet to be read: a message for which there is no room, and all behind it."""

    # Quota

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

    def _settle(self, packet_id: int) -> None:
        """An exchange of the client's is over: its quota is its own again (section 4.9)."""
        if self._unacknowledged is not None:
            self._unacknowledged.discard(packet_id)

    def _count_sent(self) -> None:
        """The PUBLISH just read goes to the broker: count it until its exchange is over."""
        if publish.qos:
            self._inflight_up += 1
            self.counters.add(INFLIGHT_FROM_CLIENT, 1)

    # Aliases

    def _aliased(self, data: bytes) -> bytes:
        if self._aliases is None:
            self._aliases = Aliases()
        return self._aliases.resolve(publish.alias, data[publish.topic : publish.topic_end])

    def _without_alias(self, data: bytes, at: int, end: int, topic: bytes) -> bytes:
        head = b""
        if end - at + len(topic) <= NO_LIMIT:
            head = publish.without_alias(data, at, end, topic)
        if not head or len(head) + end - publish.payload > self._broker_packet:
            raise PacketError(Fault.TOO_LARGE, "with its topic in full, a PUBLISH larger than the broker takes")
        return head

    # Refusals

    def _refuse_message(self, data: bytes, end: int, topic: bytes, action: int, live: bool, again: bool) -> None:
        """Do to the PUBLISH just read, which ends at `end`, what a limit says: the client is answered, or closed."""
        if live and not publish.dup and action < LIMITED:
            # An answer of ours would settle the exchange that the broker has.
            raise identifier_in_use()
        answer = self._refusal(topic, action, again)
        if self.state != CLOSED:
            self._leave_out(data, end, answer)

    def _refusal(self, topic: bytes, action: int, again: bool) -> bytes:
        """What the client gets for the PUBLISH just read; nothing for QoS 0, and when the action ends the connection.

        The reason is that of the last verdict; where it passed, as it was over no limit itself, there is none.
        """
        guard = self._guard
        assert guard is not None
        has_reason = guard.has_reason()
        if action >= LIMITED:
            text = guard.reason("message") if has_reason else "too much waits already"
            self.overstep(action, ReasonCode.MESSAGE_RATE_TOO_HIGH, text)
            return b""
        if guard.notices is not None and not again and has_reason:
            self._tell_client(guard.notice(action, topic, self._now))
        return guard.answer(action, publish, self.is_flooded() or not has_reason)

    def is_flooded(self) -> bool:
        """Whether so many packets are on their way to the client that its answers are to be brief."""
        return len(self.to_client) + (0 if self._waiting is None else len(self._waiting)) >= MOST_TOLD

    def overstep(self, action: int, reason: ReasonCode, text: str) -> None:
        """End: the client went over a limit, the one that was asked last, which says `action`."""
        guard = self._guard
        assert guard is not None
        if action == BAN and self._door is not None:
            self._door.report(guard.engine.refused_by, guard.client_id, guard.username, self._address)
        self._dismiss(reason, text)
        self._end(Event.LIMITED)

    def _leave_out(self, data: bytes, end: int, answer: bytes) -> None:
        """The broker does not get the PUBLISH just read, the client gets `answer`."""
        guard = self._guard
        assert guard is not None
        if not guard.plays(publish.packet_id):
            self._settle(publish.packet_id)
        if end > len(data):  # answered once all of it has come and been skipped
            self._skipping = True
            self._owed = answer
        else:
            self._tell_client(answer)

    def _skipped(self) -> None:
        """The last byte of a large message that was refused has come."""
        self._skipping = False
        self._tell_client(self._owed)
        self._owed = b""

    # The broker's messages

    def deliver(self, data: bytes, qos: int) -> None:
        """Write one of the broker's messages, which has waited, to the client."""
        self.to_client.append(data)
        if qos:
            self._inflight_down += 1
            self.counters.add(INFLIGHT_FROM_BROKER, 1)

    # How it ends

    def _end(self, event: Event) -> None:
        Opening._end(self, event)
        if event is Event.BROKER_GONE:
            self._release_windows()
        self.counters.subtract(INFLIGHT_FROM_CLIENT, self._inflight_up)
        self.counters.subtract(INFLIGHT_FROM_BROKER, self._inflight_down)
        self._inflight_up = self._inflight_down = 0
        self._unacknowledged = None
        self._aliases = None
        self.broker_held = b""

    def _release_windows(self) -> None:
        """The broker knows that the connection has ended: what the client had in flight is no longer."""
        guard = self._guard
        self._guard = None
        if guard is not None:
            guard.close(self._now)

    # Of the part above

    def resume_broker(self, now: float) -> None:
        """Go on with what of the broker's was left for later."""
        raise NotImplementedError
