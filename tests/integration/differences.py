"""The differences between the gateway's answers and Mosquitto's, each with its reason: data, and docs/differences.md.

`python tests/integration/differences.py`, with tests/ on PYTHONPATH, prints that document. "Direct" is what Mosquitto
2.0 answers; a broker of another version may need rows of its own.
"""

from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True)
class Row:
    """What a conversation of the corpus is answered, for each of `versions`: events in order, joined by commas."""

    versions: str
    name: str
    direct: str
    through: str


@dataclass(frozen=True)
class Group:
    """Differences with one reason."""

    title: str
    why: str
    rows: tuple[Row, ...]


GROUPS = (
    Group(
        "A CONNECT that breaks the standard is told why",
        "Mosquitto closes the connection without an answer. MQTT 5 lets a server send a CONNACK with a "
        "reason code of 0x80 or more first (section 3.1.4), and whoever has to find out why a device does "
        "not connect needs that. No broken CONNECT opens a connection to the broker.",
        (
            Row("5", "CONNECT with reserved bits 0001", "closed", "CONNACK 0x81, closed"),
            Row("5", "CONNECT with reserved bits 0010", "closed", "CONNACK 0x81, closed"),
            Row("5", "CONNECT with reserved bits 0100", "closed", "CONNACK 0x81, closed"),
            Row("5", "CONNECT with reserved bits 1000", "closed", "CONNACK 0x81, closed"),
            Row("5", "CONNECT with reserved bits 1111", "closed", "CONNACK 0x81, closed"),
            Row("5", "reserved connect flag", "closed", "CONNACK 0x81, closed"),
            Row("5", "will QoS without a will", "closed", "CONNACK 0x81, closed"),
            Row("5", "will retain without a will", "closed", "CONNACK 0x81, closed"),
            Row("5", "will QoS 3", "closed", "CONNACK 0x81, closed"),
            Row("5", "will without its topic", "closed", "CONNACK 0x81, closed"),
            Row("5", "will without its payload", "closed", "CONNACK 0x81, closed"),
            Row("5", "will with a wildcard topic", "closed", "CONNACK 0x82, closed"),
            Row("5", "will with an empty topic", "closed", "CONNACK 0x82, closed"),
            Row("5", "will topic that is not UTF-8", "closed", "CONNACK 0x81, closed"),
            Row("5", "will topic with U+0000", "closed", "CONNACK 0x81, closed"),
            Row("5", "user name flag without a user name", "closed", "CONNACK 0x81, closed"),
            Row("5", "password flag without a password", "closed", "CONNACK 0x81, closed"),
            Row("5", "user name that is not UTF-8", "closed", "CONNACK 0x81, closed"),
            Row("5", "user name with a surrogate", "closed", "CONNACK 0x81, closed"),
            Row("5", "bytes behind the client id", "closed", "CONNACK 0x81, closed"),
            Row("5", "client id that is not UTF-8", "closed", "CONNACK 0x81, closed"),
            Row("5", "client id with U+0000", "closed", "CONNACK 0x81, closed"),
            Row("5", "CONNECT: session expiry twice", "closed", "CONNACK 0x82, closed"),
            Row("5", "CONNECT: receive maximum of 0", "closed", "CONNACK 0x82, closed"),
            Row("5", "CONNECT: maximum packet size of 0", "closed", "CONNACK 0x82, closed"),
            Row("5", "CONNECT: request problem information of 2", "closed", "CONNACK 0x82, closed"),
            Row("5", "CONNECT: request response information of 2", "closed", "CONNACK 0x82, closed"),
            Row("5", "CONNECT: an unknown property", "closed", "CONNACK 0x81, closed"),
            Row("5", "CONNECT: a property of PUBLISH", "closed", "CONNACK 0x81, closed"),
            Row("5", "CONNECT: properties cut short", "closed", "CONNACK 0x81, closed"),
            Row("5", "CONNECT: will property that is wrong, alias", "closed", "CONNACK 0x81, closed"),
            Row("5", "CONNECT: will property that is wrong, delay twice", "closed", "CONNACK 0x82, closed"),
            Row("5", "CONNECT: will property that is wrong, unknown", "closed", "CONNACK 0x81, closed"),
        ),
    ),
    Group(
        "An unknown protocol name is answered",
        "Mosquitto closes at once. The gateway answers with the refusal that every version understands, "
        "CONNACK 0x01, as both do for an unknown level (3.1.1 section 3.1.2.2, 5.0 section 3.1.2.1: "
        "either is allowed).",
        (
            Row("3.1 3.1.1 5", "unknown protocol name", "closed", "CONNACK 0x01, closed"),
            Row("3.1 3.1.1 5", "protocol name in lower case", "closed", "CONNACK 0x01, closed"),
            Row("3.1 3.1.1 5", "empty protocol name", "closed", "CONNACK 0x01, closed"),
            Row("5", "bridge bit", "closed", "CONNACK 0x01, closed"),
        ),
    ),
    Group(
        "MQTT 5: a broken packet is told why before the close",
        "Mosquitto closes without a word in these cases; the standard asks for a DISCONNECT with the "
        "reason code first (section 4.13.1). The end is the same.",
        (
            Row("5", "length of five bytes", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "length of five bytes, all continued", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "CONNACK from a client", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "CONNECT twice", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "PUBACK of identifier 0", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "PUBACK of one byte", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBACK of no bytes", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBACK with properties of another packet", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBREC of identifier 0", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "PUBREC of one byte", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBREC of no bytes", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBREC with properties of another packet", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBREL of identifier 0", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "PUBREL of one byte", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBREL of no bytes", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBREL with wrong flags", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBREL with a flag more", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBREL with properties of another packet", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBCOMP of identifier 0", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "PUBCOMP of one byte", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBCOMP of no bytes", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBCOMP with properties of another packet", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBREL sent again", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "DISCONNECT with reserved bits", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBLISH: an alias twice", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "PUBLISH: payload format twice", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "PUBLISH: content type that is not UTF-8", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBLISH: content type with U+0000", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "PUBLISH: user property that is not UTF-8", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "SUBSCRIBE: identifier twice", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "DISCONNECT with a reason that only a server may give", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "DISCONNECT with a reason that is none", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "DISCONNECT with a property of PUBLISH", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "DISCONNECT with properties cut short", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "AUTH without its method", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "AUTH by a method never agreed on", "closed", "DISCONNECT 0x82, closed"),
            Row("5", "AUTH with reserved bits", "closed", "DISCONNECT 0x81, closed"),
            Row("5", "AUTH with a reason that is none", "closed", "DISCONNECT 0x82, closed"),
        ),
    ),
    Group(
        "MQTT 5: the reason code that the standard names",
        "Both tell and close; Mosquitto says Malformed Packet. The standard says Protocol Error where a "
        "SUBSCRIBE or UNSUBSCRIBE has no filter (sections 3.8.3, 3.10.3), a subscription identifier is 0 "
        "(3.8.2.1.2) or retain handling is 3 (3.8.3.1); Topic Alias Invalid for alias 0 (3.3.2.3.4). A "
        "packet identifier of 0 (2.2.1) is in one class with these: it can be read, and must not be sent.",
        (
            Row("5", "SUBSCRIBE with identifier 0", "DISCONNECT 0x81, closed", "DISCONNECT 0x82, closed"),
            Row("5", "SUBSCRIBE without filters", "DISCONNECT 0x81, closed", "DISCONNECT 0x82, closed"),
            Row("5", "UNSUBSCRIBE with identifier 0", "DISCONNECT 0x81, closed", "DISCONNECT 0x82, closed"),
            Row("5", "UNSUBSCRIBE without filters", "DISCONNECT 0x81, closed", "DISCONNECT 0x82, closed"),
            Row("5", "PUBLISH: an alias of 0", "DISCONNECT 0x81, closed", "DISCONNECT 0x94, closed"),
            Row("5", "SUBSCRIBE: identifier of 0", "DISCONNECT 0x81, closed", "DISCONNECT 0x82, closed"),
            Row("5", "SUBSCRIBE: retain handling 3", "DISCONNECT 0x81, closed", "DISCONNECT 0x82, closed"),
        ),
    ),
    Group(
        "MQTT 5: more unacknowledged messages than Receive Maximum",
        "Mosquitto answers the excess message with 0x97 and miscounts from then on, so that every other "
        "one passes. The standard calls it a protocol error with a code of its own, 0x93 (section 3.3.4).",
        (Row("5", "more than the receive maximum at QoS 2", "PUBREC id 21 0x97, open", "DISCONNECT 0x93, closed"),),
    ),
    Group(
        "A packet larger than `max_packet`",
        "The gateway takes packets up to `max_packet`, 1 MiB unless configured; Mosquitto 2.0 has no "
        "limit unless configured. MQTT 5 clients are told the limit in CONNACK, and 0x95 when they exceed "
        "it; others are closed. Where a broker has the smaller limit, that one is told.",
        (
            Row("3.1 3.1.1", "PUBLISH of more than 1 MiB", "PUBACK id 3 0x00, open", "closed"),
            Row("5", "packet of 256 MiB announced", "closed", "DISCONNECT 0x95, closed"),
            Row("5", "PUBLISH of more than 1 MiB", "PUBACK id 3 0x10, open", "DISCONNECT 0x95, closed"),
        ),
    ),
    Group(
        "What Mosquitto lets pass although it is broken",
        "Nothing that breaks the standard reaches the broker: what one broker shrugs off may be what "
        "brings down another. So the client is closed, in MQTT 5 after a DISCONNECT with the reason. "
        "Clients of the known libraries send none of these.",
        (
            Row("3.1 3.1.1", "SUBACK from a client", "open", "closed"),
            Row("3.1 3.1.1", "UNSUBACK from a client", "open", "closed"),
            Row("3.1 3.1.1", "PINGRESP from a client", "open", "closed"),
            Row("3.1", "CONNECT with reserved bits 0001", "CONNACK 0x00, open", "closed"),
            Row("3.1", "CONNECT with reserved bits 0010", "CONNACK 0x00, open", "closed"),
            Row("3.1", "CONNECT with reserved bits 0100", "CONNACK 0x00, open", "closed"),
            Row("3.1", "CONNECT with reserved bits 1000", "CONNACK 0x00, open", "closed"),
            Row("3.1", "CONNECT with reserved bits 1111", "CONNACK 0x00, open", "closed"),
            Row("3.1", "user name that is not UTF-8", "CONNACK 0x00, open", "closed"),
            Row("3.1", "user name with a surrogate", "CONNACK 0x00, open", "closed"),
            Row("3.1 3.1.1", "PUBLISH with DUP at QoS 0", "open", "closed"),
            Row("3.1 3.1.1", "PUBACK with wrong flags", "open", "closed"),
            Row("3.1 3.1.1", "PUBACK with a flag more", "open", "closed"),
            Row("3.1 3.1.1", "PUBACK of three bytes", "open", "closed"),
            Row("3.1 3.1.1", "PUBREC with wrong flags", "PUBREL id 99 0x00, open", "closed"),
            Row("3.1 3.1.1", "PUBREC with a flag more", "PUBREL id 99 0x00, open", "closed"),
            Row("3.1 3.1.1", "PUBREC of three bytes", "PUBREL id 99 0x00, open", "closed"),
            Row("3.1", "PUBREL with wrong flags", "PUBCOMP id 99 0x00, open", "closed"),
            Row("3.1", "PUBREL with a flag more", "PUBCOMP id 99 0x00, open", "closed"),
            Row("3.1 3.1.1", "PUBREL of three bytes", "PUBCOMP id 99 0x00, open", "closed"),
            Row("3.1 3.1.1", "PUBCOMP with wrong flags", "open", "closed"),
            Row("3.1 3.1.1", "PUBCOMP with a flag more", "open", "closed"),
            Row("3.1 3.1.1", "PUBCOMP of three bytes", "open", "closed"),
            Row("3.1", "SUBSCRIBE with wrong flags", "SUBACK id 1 0x00, open", "closed"),
            Row("3.1", "SUBSCRIBE without filters", "SUBACK id 1, open", "closed"),
            Row("3.1", "UNSUBSCRIBE with wrong flags", "UNSUBACK id 1, open", "closed"),
            Row("3.1", "UNSUBSCRIBE without filters", "UNSUBACK id 1, open", "closed"),
            Row("3.1 3.1.1", "PINGREQ with reserved bits", "open", "closed"),
            Row("3.1 3.1.1", "PINGREQ with a byte", "open", "closed"),
            Row("5", "PINGREQ with a padded length", "open", "DISCONNECT 0x81, closed"),
            Row("5", "SUBACK from a client", "open", "DISCONNECT 0x82, closed"),
            Row("5", "UNSUBACK from a client", "open", "DISCONNECT 0x82, closed"),
            Row("5", "PINGRESP from a client", "open", "DISCONNECT 0x82, closed"),
            Row("5", "PUBLISH with DUP at QoS 0", "open", "DISCONNECT 0x81, closed"),
            Row("5", "PUBACK with wrong flags", "open", "DISCONNECT 0x81, closed"),
            Row("5", "PUBACK with a flag more", "open", "DISCONNECT 0x81, closed"),
            Row("5", "PUBACK with a code that is none", "open", "DISCONNECT 0x82, closed"),
            Row("5", "PUBREC with wrong flags", "PUBREL id 99 0x00, open", "DISCONNECT 0x81, closed"),
            Row("5", "PUBREC with a flag more", "PUBREL id 99 0x00, open", "DISCONNECT 0x81, closed"),
            Row("5", "PUBREC with a code that is none", "PUBREL id 99 0x00, open", "DISCONNECT 0x82, closed"),
            Row("5", "PUBREL with a code that is none", "PUBCOMP id 99 0x00, open", "DISCONNECT 0x82, closed"),
            Row("5", "PUBCOMP with wrong flags", "open", "DISCONNECT 0x81, closed"),
            Row("5", "PUBCOMP with a flag more", "open", "DISCONNECT 0x81, closed"),
            Row("5", "PUBCOMP with a code that is none", "open", "DISCONNECT 0x82, closed"),
            Row("5", "SUBSCRIBE to a share without a filter", "SUBACK id 1 0x00, open", "DISCONNECT 0x81, closed"),
            Row("5", "SUBSCRIBE to a share with an empty filter", "SUBACK id 1 0x00, open", "DISCONNECT 0x81, closed"),
            Row("5", "SUBSCRIBE to a share without a name", "SUBACK id 1 0x00, open", "DISCONNECT 0x81, closed"),
            Row(
                "5",
                "SUBSCRIBE to a share with a wildcard in its name",
                "SUBACK id 1 0x00, open",
                "DISCONNECT 0x81, closed",
            ),
            Row("5", "PINGREQ with reserved bits", "open", "DISCONNECT 0x81, closed"),
            Row("5", "PINGREQ with a byte", "open", "DISCONNECT 0x81, closed"),
            Row("5", "PUBLISH: a subscription identifier", "PUBACK id 4 0x10, open", "DISCONNECT 0x82, closed"),
            Row("5", "PUBLISH: payload format 2", "PUBACK id 4 0x10, open", "DISCONNECT 0x82, closed"),
            Row("5", "PUBLISH: response topic with a wildcard", "PUBACK id 4 0x10, open", "DISCONNECT 0x82, closed"),
            Row("5", "PUBLISH: response topic that is empty", "PUBACK id 4 0x10, open", "DISCONNECT 0x82, closed"),
            Row("5", "CONNECT: authentication data without a method", "CONNACK 0x00, open", "CONNACK 0x82, closed"),
            Row("5", "SUBSCRIBE: no local on a share", "SUBACK id 1 0x01, open", "DISCONNECT 0x82, closed"),
        ),
    ),
    Group(
        "MQTT 5: the broker closes without a word",
        "See above: what Mosquitto judges itself and ends by a mere close, the gateway ends with 0x8B.",
        (Row("5", "AUTH by a method never agreed on", "closed", "DISCONNECT 0x82, closed"),),
    ),
)

DIFFERENCES = {
    f"{version} {row.name}": row
    for row in chain.from_iterable(group.rows for group in GROUPS)
    for version in row.versions.split()
}
"""By the name of the conversation."""


def expected(name: str, direct: list[str]) -> tuple[list[str], list[str]]:
    """What conversation `name` is answered direct and through; without a listed difference both are `direct`."""
    row = DIFFERENCES.get(name)
    if row is None:
        return direct, direct
    return row.direct.split(", "), row.through.split(", ")


INTRODUCTION = """\
# What a client can tell

A client that keeps to the standard sees through Tidegate what it sees without it. This page lists every exception, and
why it is one. The tables are checked: `tests/integration/test_corpus.py` sends some hundred valid and broken
conversations to Mosquitto 2.0 directly and through the gateway, and fails for any difference that is not here, and for
any that is here and no longer exists. `tests/integration/test_clients_*.py` do the same with real clients.

## CONNACK of MQTT 5

- **Topic Alias Maximum** is the gateway's own, 16: aliases end at the gateway, and the broker always gets the topic in
  full. A client's own Topic Alias Maximum is not passed on, so messages come to it with their topics in full.
- **Maximum Packet Size** is the smaller of the broker's and `max_packet`.
- **Receive Maximum** is the broker's. Only who may come under a limit that delays is offered `hold_messages` more, up
  to 65,535: what waits in the gateway must not use it up. The broker never has more unacknowledged than it takes.

## The broker closes without a word

The gateway tells an MQTT 5 client DISCONNECT 0x8B before it closes; direct, there is just the close. Mosquitto 2.0
does so when another client takes a session over, when an administrator or a plugin removes a client, and when it dies:
from outside, these cannot be told apart. Whatever DISCONNECT the broker does send is passed on as it is.

## The broker cannot be reached

Direct, the connection is refused or times out. The gateway accepts it, and answers CONNECT with CONNACK 0x88 and a
reason string (MQTT 5) or 3 (3.1, 3.1.1).

## A silent client

The gateway closes one and a half keepalives after the last packet, and tells an MQTT 5 client 0x8D. Mosquitto 2.0
looks every few seconds, and closes without a word. A connection whose CONNECT is not complete after `connect_timeout`,
5 s unless configured, is closed; Mosquitto waits a minute and a half. One that has begun a later packet and sends less
than 1,000 bytes of it, and not the rest, within `packet_timeout`, 30 s unless configured, is told 0x97 and closed;
Mosquitto waits as long as the keepalive says, and for ever without one.

## A client that asks for too much

A CONNECT larger than `max_connect`, 64 KiB unless configured, is refused with 0x95, one with more than 100 user
properties with 0x97. Mosquitto 2.0 takes both; 2.1 takes 100 kB. With `max_keepalive`, which is not set unless
configured, MQTT 5 clients may be told a Server Keep Alive, and others are refused with 2.

A SUBSCRIBE or UNSUBSCRIBE with more than 8,192 topic filters, or 1,000 user properties, closes the connection (MQTT 5:
0x97).

## Limits

What a configured limit refuses or delays is described in [limits.md](limits.md). Acknowledgements of what it refuses
may overtake the broker's; what it delays is overtaken by messages of other topics, and acknowledged when it went on.
`$tidegate/throttle` is the gateway's own topic: a subscription to it does not reach the broker.

# The differences on the wire

What is sent is named as in `tests/integration/corpus.py`. *open* means that the connection lives on.
"""


def rendered() -> str:
    """The text of docs/differences.md."""
    parts = [INTRODUCTION]
    for group in GROUPS:
        parts.append(f"\n## {group.title}\n\n{group.why}\n")
        parts.append("\n| sent | version | direct | through |\n|---|---|---|---|\n")
        parts += [
            f"| {row.name} | {', '.join(row.versions.split())} | {row.direct} | {row.through} |\n" for row in group.rows
        ]
    return "".join(parts)


if __name__ == "__main__":
    print(rendered(), end="")
