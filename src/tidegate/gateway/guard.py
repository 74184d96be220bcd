"""What limits do to one client's messages: the verdict for each PUBLISH, and what the client is told of a refusal.

A refused message never reaches the broker, so the gateway plays the broker's part for it: it acknowledges what it
drops, and of QoS 2 it plays the whole exchange. Which identifiers it plays is known here and nowhere else.
"""

from typing import TYPE_CHECKING

from ..mqtt.ack import write_ack
from ..mqtt.connack import Connack
from ..mqtt.connect import Connect
from ..mqtt.errors import Fault, PacketError
from ..mqtt.properties import Properties, PropertyId
from ..mqtt.publish import Publish
from ..mqtt.reasons import PacketType, ReasonCode
from .notices import Notices, retry_after, whole_ms
from .waiting import NEVER, Waiting

if TYPE_CHECKING:  # compiled code knows it by guard.pxd; interpreted code is only handed one
    from ..engine.binding import Subject
    from .requests import Requests
    from .subscriptions import Subscriptions

MOST_PLAYED = 1_000
"""QoS 2 exchanges that one client may leave open here: it owes their PUBRELs. MQTT 5 clients are held to far fewer."""

OWED_TIME = 10.0
"""Seconds that a client may keep a place in a window by not sending PUBREL: far above any network's round trip."""

# Of policy.model.Action; what the gateway does not do yet never gets here, as `serve` refuses it.
_DROP = 3
_REJECT = 4


def identifier_in_use() -> PacketError:
    """A client begins an exchange with an identifier of which one is still going on (section 4.3.3)."""
    return PacketError(Fault.PACKET_ID, "a packet identifier that is still in use", ReasonCode.PROTOCOL_ERROR)


class Guard:
    """The limits of one client that the broker has accepted. Costs little before its first message."""

    def __init__(
        self,
        waiting: Waiting,
        subject: "Subject",
        client_id: str,
        connect: Connect,
        connack: Connack,
        client_packet: int,
    ) -> None:
        """`subject` is the client as the engine knows it; `client_packet`: bytes of the largest that it takes."""
        self.engine = waiting.engine
        self.waiting = waiting
        self.version = connect.version
        self.client_packet = client_packet
        self.told = connect.request_problem_information
        self.client_id = client_id
        self.username = connect.username
        self.subject = subject
        self.notices: Notices | None = None
        self.requests: Requests | None = None
        """Its SUBSCRIBEs and UNSUBSCRIBEs, once one of them concerned the gateway, until the connection ends."""
        self.subscriptions: Subscriptions | None = None
        """What is known of its subscriptions, from then on until the broker has seen the connection end."""
        # MQTT 3.1 does not tell of a session: one may be there where the client has not asked for a clean one.
        self._broker_may_hold = connack.session_present or (connect.version == 3 and not connect.clean_start)
        self._played: set[int] | None = None
        self.windows: dict[int, object] | None = None
        """What messages in flight have taken of windows, by packet identifier; see `Engine.taken`."""
        self._is_sharing = False
        self._is_excused = False
        self._owed: dict[int, float] | None = None
        """QoS 2 exchanges in windows that others share, until their PUBREL: when it was asked for, NEVER: not yet."""

    def judge(
        self,
        publish: Publish,
        text: bytes,
        at: int,
        end: int,
        packet: int,
        payload: int,
        now: float,
        turn: int = 0,
        held: bool = False,
        ask: bool = False,
    ) -> int:
        """What becomes of a PUBLISH whose topic is `text[at:end]`: 0 when it passes, else a policy.model.Action.

        `packet` and `payload` are sizes in bytes, `now` in seconds; for the others see `Engine.decide`. PacketError
        when the client uses an identifier again that is still in an exchange (section 4.3.3).
        """
        if publish.qos == 2 and self._played is not None and publish.packet_id in self._played:
            if publish.dup:
                return _DROP  # it has not seen our PUBREC
            raise identifier_in_use()
        again = self.may_be_there(publish)
        owed = 0 if self._owed is None else len(self._owed)
        action = self.engine.decide(
            self.subject, text, at, end, publish.qos, publish.retain, packet, payload, again, now, turn, held, owed, ask
        )
        if action == 0 and publish.qos and not ask:
            if publish.qos == 2:
                self._broker_may_hold = True
            taken = self.engine.taken()
            if taken is not None:
                if self.windows is None:
                    self.windows = {}
                self.windows[publish.packet_id] = taken
                self._is_sharing = self._is_sharing or self.engine.shares
                if publish.qos == 2 and self.engine.shares:
                    if self._owed is None:
                        self._owed = {}
                    self._owed[publish.packet_id] = NEVER
        return action

    def may_be_there(self, publish: Publish) -> bool:
        """Whether the broker may hold it already: to drop or reject it would leave it there without its PUBREL."""
        return publish.dup and publish.qos == 2 and self._broker_may_hold

    def delays(self) -> bool:
        """Whether a limit may delay messages of this client."""
        return self.engine.delays(self.subject)

    def late(self, action: int, now: float) -> None:
        """Count what becomes of the message just judged, which was delayed for too long."""
        self.engine.late(self.subject, action, now)

    # Messages in flight

    def acknowledged(self, packet_id: int, now: float) -> None:
        """The exchange of a message is over: its places in windows are free."""
        if self.windows is not None:
            taken = self.windows.pop(packet_id, None)
            if taken is not None:
                self.waiting.give_back(taken, now)
                if self._owed is not None:
                    self._owed.pop(packet_id, None)

    def received(self, packet_id: int, now: float) -> None:
        """The broker has sent PUBREC: the client owes PUBREL."""
        if self._owed is not None and self._owed.get(packet_id) == NEVER:
            self._owed[packet_id] = now

    def released(self, packet_id: int) -> bool:
        """The client has sent PUBREL: whether it was owed to a window that others share."""
        if self._owed is None or self._owed.pop(packet_id, None) is None:
            return False
        self._is_excused = False
        return True

    @property
    def patience_until(self) -> float:
        """Seconds of the clock at which the client has owed a PUBREL for too long; NEVER: it owes none."""
        return min(self._owed.values()) + OWED_TIME if self._owed else NEVER

    def excuse(self, now: float) -> bool:
        """Whether PUBRELs are owed from now on only, as the client is not read: once, until it has sent another."""
        if self._owed is None or self._is_excused:
            return False
        self._is_excused = True
        self._owed = {packet_id: max(since, now) for packet_id, since in self._owed.items()}
        return True

    def is_sharing(self) -> bool:
        """Whether it has messages in flight, and has had some in windows that others share."""
        return self._is_sharing and bool(self.windows)

    def close(self, now: float) -> None:
        """The connection has ended: all its places are free."""
        if self.subscriptions is not None:
            self.subscriptions.close(now)
        if self.windows is not None:
            for taken in self.windows.values():
                self.waiting.give_back(taken, now)
            self.windows = None
            self._owed = None
            self.waiting.wake_others()

    def answer(self, action: int, publish: Publish, brief: bool) -> bytes:
        """What the client gets for a message that was dropped or rejected; nothing for QoS 0. `brief`: without reasons.

        PacketError when it leaves more than MOST_PLAYED exchanges open.
        """
        if publish.qos == 0:
            return b""
        kind = PacketType.PUBACK if publish.qos == 1 else PacketType.PUBREC
        if action == _REJECT and self.version == 5:
            return self._rejection(kind, publish.packet_id, brief)
        if publish.qos == 2:
            if self._played is None:
                self._played = set()
            self._played.add(publish.packet_id)
            if len(self._played) > MOST_PLAYED:
                raise PacketError(Fault.RECEIVE_MAXIMUM, f"more than {MOST_PLAYED} QoS 2 messages without a PUBREL")
        return write_ack(kind, publish.packet_id)

    def playing(self) -> int:
        """How many exchanges are played here."""
        return 0 if self._played is None else len(self._played)

    def plays(self, packet_id: int) -> bool:
        """Whether an exchange with this identifier is played here and still going on."""
        return self._played is not None and packet_id in self._played

    def release(self, packet_id: int) -> bool:
        """Whether a PUBREL is for an exchange that was played here; it is over then. All others are the broker's."""
        if self._played is None or packet_id not in self._played:
            return False
        self._played.remove(packet_id)
        return True

    def has_reason(self) -> bool:
        """Whether a limit was exceeded by the last message."""
        return self.engine.refused_by != ""

    def reason(self, what: str) -> str:
        """Why the last message or packet, as `what` calls it, was refused, in words for the client."""
        name = self.engine.refused_by
        if self.engine.by_size:
            return f"over limit {name}: the {what} is too large"
        if self.engine.by_window:
            return f"over limit {name}: too many messages wait for their acknowledgement"
        return f"over limit {name}: retry in {self._wait()} ms"

    def notice(self, action: int, topic: bytes, now: float) -> bytes:
        """The notice of a refusal for a client that has asked for them; often nothing, as they are few."""
        if self.notices is None:
            return b""
        engine = self.engine
        wait = None if engine.by_size or engine.by_window else self._wait()
        return self.notices.write(engine.refused_by, action, topic, wait, now)

    def _wait(self) -> int:
        """Milliseconds, rounded up."""
        return whole_ms(self.engine.wait)

    def _rejection(self, kind: PacketType, packet_id: int, brief: bool) -> bytes:
        """Quota exceeded, with the reason and when to come back, as far as the client wants it and takes it."""
        forms: list[Properties] = [[]]
        if self.told and not brief:
            retry: Properties = []
            if not self.engine.by_size and not self.engine.by_window:
                retry = retry_after(self._wait())
                forms.insert(0, retry)
            forms.insert(0, [(PropertyId.REASON_STRING, self.reason("message")), *retry])
        wire = b""
        for properties in forms:
            wire = write_ack(kind, packet_id, ReasonCode.QUOTA_EXCEEDED, properties)
            if len(wire) <= self.client_packet:
                break
        return wire
