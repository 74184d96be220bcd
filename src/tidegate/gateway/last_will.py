"""The will of one client that limits on wills concern: what of it they go by, and what the broker makes of it.

There is one from the moment that its CONNECT goes on to the end of its upstream. Who owns the upstream owns the will:
the connection, and when that has ended, `Kept`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..mqtt.connack import Connack
from ..mqtt.connect import Connect, Will
from ..mqtt.framing import encode_length
from ..mqtt.properties import Properties, PropertyId, write_properties
from ..mqtt.session import Disconnect
from .handshake import number
from .waiting import party

if TYPE_CHECKING:
    from ..engine.binding import Subject
    from .guard import Guard

_FOR_EVER = 0xFFFF_FFFF
"""A Session Expiry Interval that says so (section 3.1.2.11.2)."""


class Claim(NamedTuple):
    """Who a client says that it is, and by what it proves that; hashes with a key that only this gateway has."""

    key: bytes
    """16 bytes, of the client identifier; none where the client leaves that to the broker."""
    identity: bytes
    """32 bytes, of user name and password; none for enhanced authentication, which cannot be compared."""
    since: int
    """When it came, in nanoseconds of the monotonic clock, which all workers share."""


class Owner(Protocol):
    """Whoever has the upstream."""

    def make_way(self, now: float) -> None:
        """The client has come again: end the upstream by DISCONNECT, so that the broker publishes no will."""

    def flush(self) -> None:
        """Write what that has led to."""


class LastWill:
    """See the module's text."""

    __slots__ = (
        "_expiry",
        "_is_expiry_said",
        "claim",
        "is_accepted",
        "is_asked_for",
        "is_entered",
        "is_settled",
        "owner",
        "packet",
        "party",
        "payload",
        "qos",
        "retain",
        "subject",
        "topic",
        "version",
        "waiters",
        "will_delay",
    )

    def __init__(self, owner: Owner, claim: Claim, connect: Connect, will: Will, address: bytes) -> None:
        """`address`: 4 or 16 bytes, none for a Unix socket."""
        self.owner: Owner | None = owner
        self.claim = claim
        self.party = party(address)
        self.version = connect.version
        self.topic = will.topic.encode()
        self.qos = will.qos
        self.retain = will.retain
        self.payload = len(will.payload)
        """Bytes."""
        self.packet = size_of(will, connect.version)
        """Bytes of the PUBLISH that the broker makes of it."""
        self.will_delay = number(will.properties, PropertyId.WILL_DELAY_INTERVAL, 0)
        """Seconds that the broker itself waits (section 3.1.3.2.2), if its session lives so long."""
        self.subject: Subject | None = None
        """The client as the broker knows it, once it has accepted it."""
        self.is_accepted = False
        self.is_settled = False
        """The broker has been told, or says itself, how the connection ends: nothing is held back."""
        self.is_asked_for = False
        """The client has said DISCONNECT and wants it published (section 3.14.2.1)."""
        self.is_entered = False
        """A client that returns finds it."""
        self.waiters: list[Callable[[float], None]] = []
        """To be called when the broker has ended the upstream, with the time in seconds."""
        self._expiry = number(connect.properties, PropertyId.SESSION_EXPIRY_INTERVAL, 0)
        self._is_expiry_said = False

    def accept(self, subject: "Subject", connack: Connack) -> None:
        """The broker has accepted the client."""
        self.subject = subject
        self.is_accepted = True
        self._expiry = number(connack.properties, PropertyId.SESSION_EXPIRY_INTERVAL, self._expiry)

    def say(self, disconnect: Disconnect) -> None:
        """The client has said this."""
        self.is_asked_for = disconnect.reason != 0
        before = self._expiry
        self._expiry = number(disconnect.properties, PropertyId.SESSION_EXPIRY_INTERVAL, before)
        self._is_expiry_said = self._expiry != before

    @property
    def patience(self) -> float:
        """Seconds that the broker waits by itself once the upstream has closed (section 3.1.2.5)."""
        return float(self.will_delay if self._expiry == _FOR_EVER else min(self.will_delay, self._expiry))

    def farewell(self) -> bytes:
        """The DISCONNECT by which the broker forgets the will, and keeps the session for as long as its client said."""
        properties: Properties = []
        if self._is_expiry_said:
            properties.append((PropertyId.SESSION_EXPIRY_INTERVAL, self._expiry))
        return Disconnect(properties=properties).write()


class Estate(NamedTuple):
    """What a connection leaves behind whose upstream is kept."""

    will: LastWill
    guard: "Guard | None"
    """With what the client has in flight in windows."""
    keepalive: float
    """Seconds after which the broker takes the client for dead, at least; 0: it does not."""
    last_upstream: float
    """When something was last written to the broker."""
    may_speak: bool
    """False inside a large message that will never be whole: what is written would be taken for a part of it."""
    disconnect: bytes
    """The DISCONNECT by which the client has asked for its will; none: it has gone without a word."""
    left: int
    """Bytes to come of a packet of the broker's."""
    tail: bytes
    """What has come of another that is not whole."""
    pings: int
    """That the broker has yet to answer."""


def size_of(will: Will, version: int) -> int:
    """Bytes of the PUBLISH that a broker makes of a will."""
    body = 2 + len(will.topic.encode()) + (2 if will.qos else 0) + len(will.payload)
    if version == 5:
        kept = [one for one in will.properties if one[0] is not PropertyId.WILL_DELAY_INTERVAL]
        body += len(write_properties(kept))
    return 1 + len(encode_length(body)) + body
