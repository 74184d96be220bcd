"""What the gateway changes on purpose, taken out of records before "through" is compared with "direct"."""

from .client import Record

OWNED_PROPERTIES = ("TopicAliasMaximum", "MaximumPacketSize")
"""The properties of a CONNACK that are the gateway's own (docs/differences.md, "CONNACK of MQTT 5").

Topic Alias Maximum: topic aliases end at the gateway, which offers 16, whatever the broker offers.
Maximum Packet Size: the smaller of the broker's and `max_packet`; a broker without a limit says nothing here.
"""

BROKER_GONE = 0x8B
"""What the gateway tells an MQTT 5 client whose broker closed without a word; direct, the client sees just the close.

Mosquitto 2.0 takes a session over in this way (docs/differences.md, "The broker closes without a word").
"""


def without_owned(records: list[Record]) -> list[Record]:
    """`records`, each (name, kind, ...), without those properties and that reason. Nothing else is excused."""
    return [_without(record) for record in records]


def _without(record: Record) -> Record:
    if record[1] == "connack":
        return (*record[:4], tuple(pair for pair in record[4] if pair[0] not in OWNED_PROPERTIES))
    if record[1:] == ("closed", BROKER_GONE):
        return (record[0], "closed", None)
    return record
