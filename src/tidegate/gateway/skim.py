"""What is left of the broker's answers when nobody is there any more to read them: how many pings it has answered."""

from .ordinals import PINGRESP
from .scratch import frame


class Skim:
    """Follows the packets of one upstream and looks at nothing but where they begin."""

    def __init__(self, left: int, tail: bytes, pings: int) -> None:
        """`left`: bytes to come of a packet under way, or else `tail`: what has come of it.

        `pings`: that are to be answered.
        """
        self.pings = pings
        self._left = left
        self._tail = b""
        if tail:
            self.feed(tail)

    def feed(self, data: bytes) -> bool:
        """Take what the broker has sent; whether it has answered all pings. PacketError for what is not MQTT."""
        at = 0
        if self._left:
            if len(data) < self._left:
                self._left -= len(data)
                return self.pings <= 0
            at = self._left
            self._left = 0
        data = self._tail + data
        self._tail = b""
        while at < len(data):
            if not frame.read(data, at):
                self._tail = data[at:]
                return self.pings <= 0
            if data[at] >> 4 == PINGRESP:
                self.pings -= 1
            at = frame.end
        self._left = at - len(data)
        return self.pings <= 0
