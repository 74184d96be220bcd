"""The packets that are being read: one object of a kind for all connections of the process, so none is allocated.

What they say holds until the next packet is read.
"""

from ..mqtt.ack import Ack
from ..mqtt.framing import Frame
from ..mqtt.publish import Publish

frame = Frame()
publish = Publish()
ack = Ack()
