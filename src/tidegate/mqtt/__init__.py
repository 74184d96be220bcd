"""MQTT 3.1, 3.1.1 and 5: bytes to packets and back, without clock or I/O.

In reading order:

- `errors`: `PacketError`, the one error of every parser here, and `Fault`, what it counts as;
- `reasons`: packet types and reason codes;
- `text`: UTF-8 strings and topic names as the specification restricts them;
- `framing`: where a packet begins and ends in a stream;
- `fields`: numbers and length-prefixed fields as values;
- `properties`: the properties of MQTT 5;
- `publish`, `ack`: the packets in a message's path, read in place, nothing copied;
- `connect`, `connack`, `subscribe`, `session`: all others, as values that can be read and written;
- `topics`: topic filters and matching.

`framing`, `text`, `properties`, `publish` and `ack` are compiled: a sibling `.pxd` gives them C types, the
`.py` alone runs just the same. Section numbers are those of the MQTT 5.0 standard (OASIS, 7 March 2019);
"3.1.1" before one names the older standard.
"""
