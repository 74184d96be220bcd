"""PUBLISH (section 3.3), read where it lies: offsets, not copies."""

from .errors import Fault, PacketError
from .framing import encode_length
from .properties import ALLOWED, check_properties, find_property, variable_end, variable_value
from .reasons import PacketType, ReasonCode
from .text import check_topic_name, field_end

_PROPERTIES = ALLOWED[PacketType.PUBLISH]
_FORMAT_BIT = 1 << 0x01
_RESPONSE_TOPIC_BIT = 1 << 0x08
_SUBSCRIPTION_BIT = 1 << 0x0B
_ALIAS_BIT = 1 << 0x23


class Publish:
    """Where the parts of one PUBLISH lie. One object is read again and again: a message allocates nothing.

    `topic` and `topic_end` enclose the topic name, `properties` is the offset of the properties' length (MQTT
    5; else equal to `payload`), `payload` that of the first payload byte. `alias` is the topic alias, 0 for
    none, and `alias_at` the offset of that property. After a `read` that found too little, `needed` is the
    offset that must have arrived before another try can get further.
    """

    def __init__(self) -> None:
        self.qos = 0
        self.dup = False
        self.retain = False
        self.topic = 0
        self.topic_end = 0
        self.packet_id = 0
        self.properties = 0
        self.payload = 0
        self.alias = 0
        self.alias_at = 0
        self.needed = 0

    def read(self, data: bytes, at: int, body: int, end: int, version: int, from_client: bool) -> bool:
        """Read the PUBLISH at `at`, whose fixed header ends at `body` and which ends at `end`.

        False when `data` ends before the payload begins: the rest of a large packet is still to come.
        PacketError for whatever sections 3.3.1 and 3.3.2 forbid to the side that sent it.
        """
        flags = data[at] & 15
        self.retain = flags & 1 != 0
        self.qos = flags >> 1 & 3
        self.dup = flags & 8 != 0
        if self.qos == 3:
            raise PacketError(Fault.QOS, "PUBLISH with QoS 3")
        if self.dup and self.qos == 0:
            raise PacketError(Fault.QOS, "PUBLISH with DUP and QoS 0")
        have = min(len(data), end)
        self.alias = 0
        self.alias_at = 0
        if body + 2 > have:
            if body + 2 > end:
                raise PacketError(Fault.TRUNCATED, "PUBLISH ends inside its topic name")
            self.needed = body + 2
            return False
        self.topic = body + 2
        self.topic_end = body + 2 + (data[body] << 8 | data[body + 1])
        place = self.topic_end
        if self.qos:
            place += 2
        if place > have:
            if place > end:
                raise PacketError(Fault.TRUNCATED, "PUBLISH ends inside its variable header")
            self.needed = place
            return False
        # An empty topic name is the mark of an alias (section 3.3.2.3.4), decided once that is known.
        if self.topic_end > self.topic:
            check_topic_name(data, self.topic, self.topic_end)
        elif version < 5:
            raise PacketError(Fault.TOPIC, "the topic name is empty")
        self.packet_id = 0
        if self.qos:
            self.packet_id = data[place - 2] << 8 | data[place - 1]
            if self.packet_id == 0:
                raise PacketError(Fault.PACKET_ID, "PUBLISH with packet identifier 0")
        self.properties = place
        self.payload = place
        if version < 5:
            return True
        if place < have and data[place] == 0:
            self.payload = place + 1
        elif not self._read_properties(data, place, have, end, from_client):
            return False
        if self.topic == self.topic_end and self.alias == 0:
            raise PacketError(Fault.TOPIC, "PUBLISH without a topic name or an alias", ReasonCode.PROTOCOL_ERROR)
        return True

    def _read_properties(self, data: bytes, at: int, have: int, end: int, from_client: bool) -> bool:
        if have < end and have - at < 4:  # the length itself may be incomplete
            self.needed = have + 1
            return False
        start = variable_end(data, at, have)
        stop = start + variable_value(data, at, start)
        if stop > end:
            raise PacketError(Fault.TRUNCATED, "the properties reach beyond the packet's end")
        if stop > have:
            self.needed = stop
            return False
        seen = check_properties(data, start, stop, _PROPERTIES)
        if seen & _FORMAT_BIT and data[find_property(data, start, stop, 0x01, _PROPERTIES) + 1] > 1:
            raise PacketError(Fault.PROPERTY, "the payload format indicator must be 0 or 1")
        if seen & _RESPONSE_TOPIC_BIT:
            place = find_property(data, start, stop, 0x08, _PROPERTIES) + 1
            check_topic_name(data, place + 2, field_end(data, place, stop))
        if from_client and seen & _SUBSCRIPTION_BIT:
            raise PacketError(Fault.PROPERTY, "a client's PUBLISH cannot carry a subscription identifier")
        if seen & _ALIAS_BIT:
            place = find_property(data, start, stop, 0x23, _PROPERTIES)
            self.alias_at = place
            self.alias = data[place + 1] << 8 | data[place + 2]
            if self.alias == 0:
                raise PacketError(Fault.ALIAS, "a topic alias of 0")
        self.payload = stop
        return True

    def without_alias(self, data: bytes, at: int, end: int, topic: bytes) -> bytes:
        """The head of this PUBLISH (all before its payload) with the full `topic` and no alias property.

        Its remaining length accounts for the payload up to `end`, whether that has arrived or not.
        """
        behind = variable_end(data, self.properties, self.payload)
        kept = data[behind : self.alias_at] + data[self.alias_at + 3 : self.payload]
        identifier = data[self.topic_end : self.properties]
        head = len(topic).to_bytes(2, "big") + topic + identifier + encode_length(len(kept)) + kept
        return data[at : at + 1] + encode_length(len(head) + end - self.payload) + head
