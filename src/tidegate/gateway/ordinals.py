"""States, packet types and the like as plain numbers: compiled modules take them over as C integers, and compare those.

So a module's `.pxd` declares which of them it uses; one that it does not declare would be compared as an object.
"""

from ..mqtt.reasons import PacketType
from ..policy.model import Action, Event
from .states import State

GREETING = int(State.GREETING)
ARRIVED = int(State.ARRIVED)
TURNED_AWAY = int(State.TURNED_AWAY)
QUEUED = int(State.QUEUED)
OPENING = int(State.OPENING)
OPEN = int(State.OPEN)
EMPTYING = int(State.EMPTYING)
LEAVING = int(State.LEAVING)
CLOSED = int(State.CLOSED)
ORPHANED = int(State.ORPHANED)

CONNECT = int(PacketType.CONNECT)
CONNACK = int(PacketType.CONNACK)
PUBLISH = int(PacketType.PUBLISH)
PUBACK = int(PacketType.PUBACK)
PUBREC = int(PacketType.PUBREC)
PUBREL = int(PacketType.PUBREL)
PUBCOMP = int(PacketType.PUBCOMP)
SUBSCRIBE = int(PacketType.SUBSCRIBE)
SUBACK = int(PacketType.SUBACK)
UNSUBSCRIBE = int(PacketType.UNSUBSCRIBE)
UNSUBACK = int(PacketType.UNSUBACK)
PINGREQ = int(PacketType.PINGREQ)
PINGRESP = int(PacketType.PINGRESP)
DISCONNECT = int(PacketType.DISCONNECT)
AUTH = int(PacketType.AUTH)

PASS = int(Action.PASS)
DELAY = int(Action.DELAY)
DROP = int(Action.DROP)
REJECT = int(Action.REJECT)
LIMITED = int(Action.DISCONNECT)
"""This action, and all above it, end the connection."""
BAN = int(Action.BAN)

ON_SUBSCRIBE = int(Event.SUBSCRIBE)
ON_DELIVER = int(Event.DELIVER)
ON_WILL = int(Event.WILL)
ON_PACKET = int(Event.PACKET)

FORWARDED = 0
"""What becomes of a PUBLISH that has arrived: it goes on as it came."""
KEPT = 1
"""It is held, or refused and answered: cut out of what was read."""
PARKED = 2
"""It waits unread, and all behind it."""
INCOMPLETE = 3
"""More of it must come before that can be said."""

ITSELF = 1
"""Of engine.binding, which there is only compiled."""
