"""Topic aliases of one client (section 3.3.2.3.4). They end at the gateway: the broker gets every topic in full."""

from ..mqtt.errors import Fault, PacketError
from ..mqtt.reasons import ReasonCode

ALIAS_MAXIMUM = 16
"""What every client is offered: enough for a device's few topics, and a bound on what it can make us keep."""
ALIAS_BYTES = 65_536
"""The topics behind a client's aliases together hold at most so many bytes: one topic of the largest size."""


class Aliases:
    """The topics that one client has given numbers. Costs nothing before the first."""

    def __init__(self) -> None:
        self.topics: dict[int, bytes] = {}
        self.size = 0

    def resolve(self, alias: int, topic: bytes) -> bytes:
        """The topic that a PUBLISH with `alias` means; a `topic` that is not empty becomes the alias's new one.

        PacketError for an alias above the maximum or never defined, and for more bytes than ALIAS_BYTES.
        """
        if alias > ALIAS_MAXIMUM:
            raise PacketError(Fault.ALIAS, f"a topic alias above the maximum of {ALIAS_MAXIMUM}")
        known = self.topics.get(alias)
        if topic:
            if known is not None:
                self.size -= len(known)
            self.size += len(topic)
            if self.size > ALIAS_BYTES:
                raise PacketError(
                    Fault.ALIAS,
                    f"the topics behind this connection's aliases hold more than {ALIAS_BYTES} bytes",
                    ReasonCode.QUOTA_EXCEEDED,
                )
            self.topics[alias] = topic
            return topic
        if known is None:
            raise PacketError(Fault.ALIAS, "a topic alias that was never defined", ReasonCode.PROTOCOL_ERROR)
        return known
