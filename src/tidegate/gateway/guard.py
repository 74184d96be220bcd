"""What limits do to one client's messages: the verdict for each PUBLISH, and what the client is told of a refusal.

A refused message never reaches the broker, so the gateway plays the broker's part for it: it acknowledges what it
drops, and of QoS 2 it plays the whole exchange. Which identifiers it plays is known here and nowhere else.
"""

import secrets
from typing import TYPE_CHECKING

from ..mqtt.ack import write_ack
from ..mqtt.connack import Connack
from ..mqtt.connect import Connect
from ..mqtt.errors import Fault, PacketError
from ..mqtt.properties import Properties, PropertyId, get
from ..mqtt.publish import Publish
from ..mqtt.reasons import PacketType, ReasonCode
from .notices import Notices

if TYPE_CHECKING:  # compiled code knows it by guard.pxd; interpreted code is only handed one
    from ..engine.binding import Engine

MOST_PLAYED = 1_000
"""QoS 2 exchanges that one client may leave open here: it owes their PUBRELs. MQTT 5 clients are held to far fewer."""

_DROP = 3
_REJECT = 4
"""Of policy.model.Action; what the gateway does not do yet never gets here, as `serve` refuses it."""


class Guard:
    """The limits of one client that the broker has accepted. Costs little before its first message."""

    def __init__(
        self, engine: "Engine", connect: Connect, connack: Connack, address: bytes, listener: bytes, client_packet: int
    ) -> None:
        """`address`: 4 or 16 bytes, none for a Unix socket; `client_packet`: the largest that the client takes."""
        self.engine = engine
        self.version = connect.version
        self.client_packet = client_packet
        self.told = connect.request_problem_information
        # Section 3.2.2.3.7: the identifier is the broker's where the client leaves it to the broker.
        assigned = get(connack.properties, PropertyId.ASSIGNED_CLIENT_IDENTIFIER)
        client_id = connect.client_id or (assigned if isinstance(assigned, str) else "")
        self.subject = engine.subject(
            client_id.encode(),
            None if connect.username is None else connect.username.encode(),
            address,
            listener,
            connect.version,
            connect.clean_start,
            connect.bridge,
            0 if client_id else secrets.randbits(64),
        )
        self.notices: Notices | None = None
        # MQTT 3.1 does not tell of a session: one may be there where the client has not asked for a clean one.
        self._broker_may_hold = connack.session_present or (connect.version == 3 and not connect.clean_start)
        self._played: set[int] | None = None

    def judge(self, publish: Publish, text: bytes, at: int, end: int, packet: int, payload: int, now: float) -> int:
        """What becomes of a PUBLISH whose topic is `text[at:end]`: 0 when it passes, else a policy.model.Action.

        `packet` and `payload` are sizes in bytes, `now` in seconds. PacketError when the client uses an identifier
        again that is still in an exchange (section 4.3.3).
        """
        if publish.qos == 2 and self._played is not None and publish.packet_id in self._played:
            if publish.dup:
                return _DROP  # it has not seen our PUBREC
            raise PacketError(Fault.PACKET_ID, "a packet identifier that is still in use", ReasonCode.PROTOCOL_ERROR)
        # To drop or to reject what the broker may hold already would leave it there as an orphan, without its PUBREL.
        again = publish.dup and publish.qos == 2 and self._broker_may_hold
        action = self.engine.decide(
            self.subject, text, at, end, publish.qos, publish.retain, packet, payload, again, now
        )
        if action == 0 and publish.qos == 2:
            self._broker_may_hold = True
        return action

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

    def plays(self, packet_id: int) -> bool:
        """Whether an exchange with this identifier is played here and still going on."""
        return self._played is not None and packet_id in self._played

    def release(self, packet_id: int) -> bool:
        """Whether a PUBREL is for an exchange that was played here; it is over then. All others are the broker's."""
        if self._played is None or packet_id not in self._played:
            return False
        self._played.remove(packet_id)
        return True

    def reason(self) -> str:
        """Why the last message was refused, in words for the client."""
        name = self.engine.refused_by
        if self.engine.by_size:
            return f"over limit {name}: the message is too large"
        return f"over limit {name}: retry in {self._wait()} ms"

    def notice(self, action: int, topic: bytes, now: float) -> bytes:
        """The notice of a refusal for a client that has asked for them; often nothing, as they are few."""
        if self.notices is None:
            return b""
        engine = self.engine
        wait = None if engine.by_size else self._wait()
        return self.notices.write(engine.refused_by, action, topic, wait, now)

    def _wait(self) -> int:
        """Milliseconds, rounded up."""
        return int(self.engine.wait * 1000) + 1

    def _rejection(self, kind: PacketType, packet_id: int, brief: bool) -> bytes:
        """Quota exceeded, with the reason and when to come back, as far as the client wants it and takes it."""
        forms: list[Properties] = [[]]
        if self.told and not brief:
            retry: Properties = []
            if not self.engine.by_size:
                retry = [(PropertyId.USER_PROPERTY, ("retry-after-ms", str(self._wait())))]
                forms.insert(0, retry)
            forms.insert(0, [(PropertyId.REASON_STRING, self.reason()), *retry])
        wire = b""
        for properties in forms:
            wire = write_ack(kind, packet_id, ReasonCode.QUOTA_EXCEEDED, properties)
            if len(wire) <= self.client_packet:
                break
        return wire
