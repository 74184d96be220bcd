"""Raw conversations, valid and broken: data that is sent to the broker directly and through the gateway.

A conversation is what is sent before (`setup`, each packet answered before the next), then the `probe` that is judged:
bytes and then a PINGREQ as a fence, or bytes and then the end of the sender's side, where a fence would be swallowed by
an unfinished packet.

Each name begins with the version, and is in every conversation's client id and topics, so that what it left at the
broker, or did not, can be found.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from support.wire import (
    PINGREQ,
    V5,
    V31,
    V311,
    connect,
    field,
    length,
    packet,
    properties,
    publish,
    subscribe,
    unsubscribe,
)

LABELS = {V31: "3.1", V311: "3.1.1", V5: "5"}


@dataclass(frozen=True)
class Conversation:
    """One conversation."""

    name: str
    version: int
    probe: bytes
    setup: tuple[bytes, ...]
    half_close: bool = False
    """After the probe the sender says that nothing more will come, in place of a PINGREQ."""
    passes: bool = False
    """It is the broker's to judge, and must reach it: well-formed, and wrong, if at all, only by what the broker knows
    of the session. Any other probe must not reach the broker at all."""


def _make() -> Iterator[Conversation]:
    for version in LABELS:
        yield from _framing(version)
        yield from _connect(version)
        yield from _publish(version)
        yield from _acks(version)
        yield from _subscribe(version)
        yield from _session(version)
    yield from _properties()
    yield from _v5_session()


def marker(name: str) -> str:
    """What stands for a conversation in its client id and topics."""
    kept = "".join(letter if letter.isalnum() else "-" for letter in name)
    return f"{zlib.crc32(name.encode()):08x}-{kept}"


class _Maker:
    """Makes the conversations of one version."""

    def __init__(self, version: int) -> None:
        self.version = version

    def after_connect(
        self, name: str, probe: bytes, *setup: bytes, half_close: bool = False, passes: bool = False
    ) -> Conversation:
        """A conversation on an accepted connection."""
        full = f"{LABELS[self.version]} {name}"
        greeting = connect(self.version, marker(full))
        return Conversation(full, self.version, probe, (greeting, *setup), half_close, passes)

    def at_once(self, name: str, probe: bytes, *, half_close: bool = False, passes: bool = False) -> Conversation:
        """A conversation whose first packet is the probe."""
        return Conversation(f"{LABELS[self.version]} {name}", self.version, probe, (), half_close, passes)

    def topic(self, name: str) -> str:
        """A topic that holds the marker of conversation `name`."""
        return f"{marker(f'{LABELS[self.version]} {name}')}/t"

    def client_id(self, name: str) -> str:
        """The client id of conversation `name`."""
        return marker(f"{LABELS[self.version]} {name}")


def _framing(version: int) -> Iterator[Conversation]:
    make = _Maker(version)
    yield make.at_once("no bytes at all", b"", half_close=True)
    yield make.at_once("half a fixed header", b"\x10", half_close=True)
    yield make.at_once("half a CONNECT", connect(version, make.client_id("half a CONNECT"))[:-3], half_close=True)
    yield make.at_once("CONNECT of five length bytes", b"\x10\xff\xff\xff\xff\x01")
    yield make.at_once("garbage", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    yield make.at_once("TLS hello", bytes.fromhex("16030100a5010000a10303"), half_close=True)
    yield make.after_connect("length of five bytes", b"\x30\xff\xff\xff\xff\x01")
    yield make.after_connect("length of five bytes, all continued", b"\x82\x80\x80\x80\x80\x80")
    # Only version 5 asks for the fewest bytes (section 1.5.5).
    yield make.after_connect("PINGREQ with a padded length", b"\xc0\x80\x00", passes=version != V5)
    yield make.after_connect("packet of 256 MiB announced", b"\x82\xff\xff\xff\x7f" + bytes(10), half_close=True)
    name = "PUBLISH cut short"
    yield make.after_connect(name, publish(version, make.topic(name), b"payload")[:-4], half_close=True)
    name = "SUBSCRIBE cut short"
    yield make.after_connect(name, subscribe(version, (make.topic(name), 0))[:-4], half_close=True)
    yield make.after_connect("end without DISCONNECT", b"", half_close=True, passes=True)
    yield make.after_connect("packet type 0", b"\x00\x00")
    yield make.after_connect("CONNACK from a client", b"\x20\x02\x00\x00")
    yield make.after_connect("SUBACK from a client", packet(0x90, b"\x00\x01" + properties(version) + b"\x00"))
    yield make.after_connect("UNSUBACK from a client", packet(0xB0, b"\x00\x01" + properties(version)))
    yield make.after_connect("PINGRESP from a client", b"\xd0\x00")


def _connect(version: int) -> Iterator[Conversation]:
    make = _Maker(version)

    def hello(what: str, *, passes: bool = False, **options: object) -> Conversation:
        probe = connect(version, make.client_id(what), **options)  # type: ignore[arg-type]
        return make.at_once(what, probe, passes=passes)

    def told(what: str, flags: int, rest: bytes, *, passes: bool = False) -> Conversation:
        return hello(what, passes=passes, flags=flags, rest=rest)

    will_props = properties(version)
    yield hello("plain CONNECT", passes=True)
    yield hello("CONNECT without a keepalive", passes=True, keepalive=0)
    name = "CONNECT twice"
    yield make.after_connect(name, connect(version, make.client_id(name)))
    for first in (0x11, 0x12, 0x14, 0x18, 0x1F):
        name = f"CONNECT with reserved bits {first & 15:04b}"
        probe = connect(version, make.client_id(name))
        yield make.at_once(name, bytes([first]) + probe[1:])
    yield hello("unknown protocol name", name=b"MQTS")
    yield hello("protocol name in lower case", name=b"mqtt")
    yield hello("empty protocol name", name=b"")
    yield hello("protocol level 2", level=2)
    yield hello("protocol level 6", level=6)
    yield hello("protocol level 0x7F", level=0x7F)
    # Mosquitto's bridges set it, up to 3.1.1; version 5 has nothing of the kind.
    yield hello("bridge bit", level=0x80 | version, passes=version != V5)
    yield hello("3.1's name with another level", name=b"MQIsdp", level=4)
    yield hello("MQTT with level 3", name=b"MQTT", level=3)
    # 3.1 calls these bits unused, and lets a CONNECT end before a user name or password that it has flagged.
    yield hello("reserved connect flag", flags=0x03, passes=version == V31)
    yield hello("will QoS without a will", flags=0x0A, passes=version == V31)
    yield hello("will retain without a will", flags=0x22, passes=version == V31)
    yield told("will QoS 3", 0x1E, will_props + field("w") + field("x"))
    yield told("will without its topic", 0x06, will_props)
    yield told("will without its payload", 0x06, will_props + field("w"))
    yield told("will with a wildcard topic", 0x06, will_props + field("w/#") + field("x"))
    yield told("will with an empty topic", 0x06, will_props + field("") + field("x"))
    yield told("will topic that is not UTF-8", 0x06, will_props + field(b"\xff\xfe") + field("x"))
    yield told("will topic with U+0000", 0x06, will_props + field(b"a\x00b") + field("x"))
    yield told("will with an empty payload", 0x06, will_props + field(make.topic("will")) + field(""), passes=True)
    yield told("password without a user name", 0x42, field("secret"), passes=version == V5)
    yield told("user name flag without a user name", 0x82, b"", passes=version == V31)
    yield told("password flag without a password", 0xC2, field("user"), passes=version == V31)
    yield told("user name that is not UTF-8", 0x82, field(b"\xc0\x80"))
    yield told("user name with a surrogate", 0x82, field(b"\xed\xa0\x80"))
    yield told("user name and password", 0xC2, field("user") + field(b"\x00\xff"), passes=True)
    yield told("bytes behind the client id", 0x02, b"surplus")
    name = "client id that is not UTF-8"
    yield make.at_once(name, connect(version, "").removesuffix(field("")) + field(b"m-\xff"))
    yield make.at_once("empty client id, clean", connect(version, ""), passes=version != V31)
    yield make.at_once("empty client id, not clean", connect(version, "", flags=0), passes=True)
    name = "client id of 24 characters"
    yield make.at_once(name, connect(version, make.client_id(name)[:24].ljust(24, "x")), passes=True)
    yield make.at_once("client id with U+0000", connect(version, "m-\x00"))
    for code, what in ((0x30, "PUBLISH"), (0x82, "SUBSCRIBE"), (0xC0, "PINGREQ"), (0xE0, "DISCONNECT")):
        yield make.at_once(f"{what} before CONNECT", packet(code, b"\x00\x01a" if code < 0xC0 else b""))


ILL_FORMED = {
    "an overlong form": b"\xc0\xaf",
    "an overlong form of three bytes": b"\xe0\x80\xaf",
    "a lone continuation": b"a\x80",
    "a surrogate": b"\xed\xa0\x80",
    "U+0000": b"a\x00b",
    "a sequence cut short": b"a\xe2\x82",
    "more than U+10FFFF": b"\xf4\x90\x80\x80",
}
DISCOURAGED = {
    "a control character": b"a\x01b",
    "DEL": b"a\x7fb",
    "U+FFFF": b"\xef\xbf\xbf",
    "a byte order mark": b"\xef\xbb\xbfa",
}


def _publish(version: int) -> Iterator[Conversation]:
    make = _Maker(version)
    for qos in (0, 1, 2):
        name = f"PUBLISH at QoS {qos}"
        first, packet_id = 0x30 | qos << 1, 7 if qos else None
        yield make.after_connect(
            name, publish(version, make.topic(name), first=first, packet_id=packet_id), passes=True
        )
    name = "PUBLISH at QoS 2 to its end"
    once = publish(version, make.topic(name), b"x", first=0x34, packet_id=5)
    yield make.after_connect(name, packet(0x62, b"\x00\x05"), once, passes=True)
    name = "PUBLISH at QoS 2 sent again"
    once = publish(version, make.topic(name), b"x", first=0x34, packet_id=5)
    again = publish(version, make.topic(name), b"x", first=0x3C, packet_id=5)
    yield make.after_connect(name, again, once, passes=True)
    for flags, packet_id, what in (
        (0x36, 1, "PUBLISH at QoS 3"),
        (0x38, None, "PUBLISH with DUP at QoS 0"),
        (0x32, 0, "PUBLISH with identifier 0"),
        (0x34, 0, "PUBLISH at QoS 2 with identifier 0"),
    ):
        yield make.after_connect(what, publish(version, make.topic(what), b"x", first=flags, packet_id=packet_id))
    for what, topic in (
        ("an empty topic", b""),
        ("a topic with #", b"a/#"),
        ("a topic with +", b"+/a"),
        ("a topic of one #", b"#"),
    ):
        for qos in (0, 1):
            probe = publish(version, topic, b"x", first=0x30 | qos << 1, packet_id=3 if qos else None)
            yield make.after_connect(f"PUBLISH to {what} at QoS {qos}", probe)
    for what, topic in ILL_FORMED.items():
        yield make.after_connect(f"PUBLISH topic with {what}", publish(version, topic, b"x"))
    for what, topic in DISCOURAGED.items():
        yield make.after_connect(f"PUBLISH topic with {what}", publish(version, topic, b"x"), passes=True)
    name = "PUBLISH to $SYS"
    yield make.after_connect(name, publish(version, "$SYS/x", b"x", first=0x32, packet_id=3), passes=True)
    name = "PUBLISH to a topic of slashes"
    yield make.after_connect(name, publish(version, "/" * 150, b"x", first=0x32, packet_id=3), passes=True)
    name = "PUBLISH whose topic reaches beyond its end"
    yield make.after_connect(name, packet(0x30, b"\x00\x20abc"))
    yield make.after_connect("PUBLISH of no bytes", b"\x30\x00")
    yield make.after_connect("PUBLISH of one byte", b"\x30\x01\x00")
    yield make.after_connect("PUBLISH without its identifier", packet(0x32, field("a")))
    name = "PUBLISH with an empty payload"
    yield make.after_connect(name, publish(version, make.topic(name), first=0x32, packet_id=3), passes=True)
    name = "PUBLISH of more than 1 MiB"
    yield make.after_connect(name, publish(version, make.topic(name), bytes(1_048_576), first=0x32, packet_id=3))
    name = "PUBLISH of 100 KB"
    probe = publish(version, make.topic(name), bytes(100_000), first=0x32, packet_id=3)
    yield make.after_connect(name, probe, passes=True)


def _acks(version: int) -> Iterator[Conversation]:
    make = _Maker(version)
    for first, what in ((0x40, "PUBACK"), (0x50, "PUBREC"), (0x62, "PUBREL"), (0x70, "PUBCOMP")):
        yield make.after_connect(f"{what} of an unknown identifier", packet(first, b"\x00\x63"), passes=True)
        yield make.after_connect(f"{what} of identifier 0", packet(first, b"\x00\x00"))
        yield make.after_connect(f"{what} of one byte", packet(first, b"\x00"))
        yield make.after_connect(f"{what} of no bytes", packet(first))
        yield make.after_connect(f"{what} with wrong flags", packet(first ^ 0x02, b"\x00\x63"))
        yield make.after_connect(f"{what} with a flag more", packet(first | 0x01, b"\x00\x63"))
        if version != V5:
            yield make.after_connect(f"{what} of three bytes", packet(first, b"\x00\x63\x00"))
        else:
            yield make.after_connect(f"{what} with a code that is none", packet(first, b"\x00\x63\x55"))
            yield make.after_connect(
                f"{what} with properties of another packet", packet(first, b"\x00\x63\x00\x03\x23\x00\x01")
            )
            yield make.after_connect(
                f"{what} with a reason string", packet(first, b"\x00\x63\x00" + properties(V5, b"\x1f" + field("ok"))),
                passes=True,
            )  # fmt: skip


def _subscribe(version: int) -> Iterator[Conversation]:
    make = _Maker(version)
    name = "SUBSCRIBE to three filters"
    topic = make.topic(name)
    yield make.after_connect(
        name, subscribe(version, (topic, 0), (f"{topic}/+", 1), (f"{topic}/#", 2), packet_id=9), passes=True
    )
    for what, filter_ in (
        ("# in the middle", b"a/#/b"),
        ("# at the end of a level", b"a#"),
        ("+ inside a level", b"a/b+/c"),
        ("nothing", b""),
        ("U+0000", b"a\x00"),
        ("bytes that are not UTF-8", b"a/\xff"),
        ("a surrogate", b"\xed\xbf\xbf"),
    ):
        yield make.after_connect(f"SUBSCRIBE to {what}", subscribe(version, (filter_, 0)))
        yield make.after_connect(f"UNSUBSCRIBE from {what}", unsubscribe(version, filter_))
    for what, filter_ in (
        ("a share without a filter", b"$share/g"),
        ("a share with an empty filter", b"$share/g/"),
        ("a share without a name", b"$share//t"),
        ("a share with a wildcard in its name", b"$share/+/t"),
    ):
        # Shared subscriptions belong to version 5; before it, these are filters like any other.
        yield make.after_connect(f"SUBSCRIBE to {what}", subscribe(version, (filter_, 0)), passes=version != V5)
    yield make.after_connect("SUBSCRIBE to a share", subscribe(version, ("$share/g/m/t", 1)), passes=True)
    yield make.after_connect("SUBSCRIBE to one of each wildcard", subscribe(version, ("+/+/#", 0)), passes=True)
    yield make.after_connect("SUBSCRIBE with QoS 3", subscribe(version, ("m/t", 3)))
    yield make.after_connect("SUBSCRIBE with reserved option bits", subscribe(version, ("m/t", 0xC0)))
    yield make.after_connect("SUBSCRIBE with identifier 0", subscribe(version, ("m/t", 0), packet_id=0))
    yield make.after_connect("SUBSCRIBE with wrong flags", subscribe(version, ("m/t", 0), first=0x80))
    yield make.after_connect("SUBSCRIBE without filters", packet(0x82, b"\x00\x01" + properties(version)))
    yield make.after_connect("SUBSCRIBE of no bytes", packet(0x82))
    yield make.after_connect(
        "SUBSCRIBE without options", packet(0x82, b"\x00\x01" + properties(version) + field("m/t"))
    )
    # 3.1 has DUP on what it sends at QoS 1, and that is these too.
    yield make.after_connect("SUBSCRIBE sent again", subscribe(version, ("m/t", 0), first=0x8A), passes=version == V31)
    yield make.after_connect("UNSUBSCRIBE sent again", unsubscribe(version, "m/t", first=0xAA), passes=version == V31)
    yield make.after_connect("PUBREL sent again", packet(0x6A, b"\x00\x63"), passes=version == V31)
    yield make.after_connect("UNSUBSCRIBE", unsubscribe(version, "m/t", packet_id=9), passes=True)
    yield make.after_connect("UNSUBSCRIBE with identifier 0", unsubscribe(version, "m/t", packet_id=0))
    yield make.after_connect("UNSUBSCRIBE with wrong flags", unsubscribe(version, "m/t", first=0xA0))
    yield make.after_connect("UNSUBSCRIBE without filters", packet(0xA2, b"\x00\x01" + properties(version)))
    yield make.after_connect("UNSUBSCRIBE of no bytes", packet(0xA2))


def _session(version: int) -> Iterator[Conversation]:
    make = _Maker(version)
    yield make.after_connect("PINGREQ", PINGREQ, passes=True)
    yield make.after_connect("PINGREQ with reserved bits", b"\xc1\x00")
    yield make.after_connect("PINGREQ with a byte", b"\xc0\x01\x00")
    yield make.after_connect("DISCONNECT", b"\xe0\x00", passes=True)
    yield make.after_connect("DISCONNECT with reserved bits", b"\xe1\x00")
    if version != V5:
        yield make.after_connect("DISCONNECT with a reason", b"\xe0\x01\x00")
        yield make.after_connect("AUTH before version 5", b"\xf0\x00")


def _properties() -> Iterator[Conversation]:
    make = _Maker(V5)

    def in_publish(name: str, props: bytes, topic: str = "m/t", *, passes: bool = False) -> Conversation:
        probe = publish(V5, topic, b"x", first=0x32, packet_id=4, props=props)
        return make.after_connect(f"PUBLISH: {name}", probe, passes=passes)

    def in_connect(name: str, props: bytes, *, passes: bool = False) -> Conversation:
        full = f"CONNECT: {name}"
        return make.at_once(full, connect(V5, make.client_id(full), props=props), passes=passes)

    yield in_publish("user properties", (b"\x26" + field("k") + field("v")) * 3, passes=True)
    yield in_publish("every property", b"\x01\x01" b"\x02\x00\x00\x01\x00" b"\x03" + field("text/plain")
                     + b"\x08" + field("r") + b"\x09" + field(b"\x00") + b"\x26" + field("k") + field("v"),
                     passes=True)  # fmt: skip
    yield in_publish("an alias defined", b"\x23\x00\x01", passes=True)
    yield in_publish("an alias of 0", b"\x23\x00\x00")
    yield in_publish("an alias above the maximum", b"\x23\x00\x11")
    yield in_publish("an unknown alias", b"\x23\x00\x02", topic="")
    yield in_publish("an alias twice", b"\x23\x00\x01\x23\x00\x01")
    define = publish(V5, "m/t", b"x", first=0x32, packet_id=4, props=b"\x23\x00\x01")
    by_number = publish(V5, "", b"y", first=0x32, packet_id=5, props=b"\x23\x00\x01")
    yield make.after_connect("PUBLISH: an alias used", by_number, define, passes=True)
    yield in_publish("an unknown property", b"\x7f\x00")
    yield in_publish("property 0", b"\x00\x00")
    yield in_publish("a property of CONNECT", b"\x21\x00\x05")
    yield in_publish("a subscription identifier", b"\x0b\x01")
    yield in_publish("payload format 2", b"\x01\x02")
    yield in_publish("payload format twice", b"\x01\x00\x01\x00")
    yield in_publish("expiry cut short", b"\x02\x00\x00")
    yield in_publish("content type that is not UTF-8", b"\x03" + field(b"\xff"))
    yield in_publish("content type with U+0000", b"\x03" + field(b"a\x00"))
    yield in_publish("response topic with a wildcard", b"\x08" + field("r/#"))
    yield in_publish("response topic that is empty", b"\x08" + field(""))
    yield in_publish("user property cut short", b"\x26" + field("k"))
    yield in_publish("user property that is not UTF-8", b"\x26" + field("k") + field(b"\x80"))
    yield make.after_connect(
        "PUBLISH: properties beyond its end", packet(0x32, field("m/t") + b"\x00\x04" + length(200) + b"\x01\x01")
    )
    yield make.after_connect(
        "PUBLISH: property length of five bytes", packet(0x32, field("m/t") + b"\x00\x04\xff\xff\xff\xff\x01")
    )
    yield make.after_connect("PUBLISH: no property length", packet(0x32, field("m/t") + b"\x00\x04"))

    yield in_connect("session expiry", b"\x11\x00\x00\x00\x05", passes=True)
    yield in_connect("session expiry twice", b"\x11\x00\x00\x00\x05" * 2)
    yield in_connect("receive maximum of 0", b"\x21\x00\x00")
    yield in_connect("receive maximum", b"\x21\x00\x05", passes=True)
    yield in_connect("maximum packet size of 0", b"\x27\x00\x00\x00\x00")
    yield in_connect("maximum packet size", b"\x27\x00\x00\x04\x00", passes=True)
    yield in_connect("topic alias maximum", b"\x22\x00\x05", passes=True)
    yield in_connect("request problem information of 2", b"\x17\x02")
    yield in_connect("request response information of 2", b"\x19\x02")
    yield in_connect("requests", b"\x17\x00\x19\x01", passes=True)
    yield in_connect("user property", b"\x26" + field("k") + field("v"), passes=True)
    yield in_connect("an unknown property", b"\x7f\x00")
    yield in_connect("a property of PUBLISH", b"\x23\x00\x01")
    yield in_connect("authentication data without a method", b"\x16" + field("x"))
    yield in_connect("authentication by an unknown method", b"\x15" + field("NONE"), passes=True)
    yield in_connect("properties cut short", b"\x11\x00")
    name = "CONNECT: will properties"
    will = properties(V5, b"\x18\x00\x00\x00\x00\x01\x01\x26" + field("k") + field("v"))
    probe = connect(V5, make.client_id(name), flags=0x06, rest=will + field("m/w") + field("x"))
    yield make.at_once(name, probe, passes=True)
    for what, bad in (("alias", b"\x23\x00\x01"), ("delay twice", b"\x18\x00\x00\x00\x01" * 2), ("unknown", b"\x7f")):
        name = f"CONNECT: will property that is wrong, {what}"
        rest = properties(V5, bad) + field("m/w") + field("x")
        yield make.at_once(name, connect(V5, make.client_id(name), flags=0x06, rest=rest))

    yield make.after_connect("SUBSCRIBE: identifier", subscribe(V5, ("m/t", 0), props=b"\x0b\x07"), passes=True)
    yield make.after_connect("SUBSCRIBE: identifier of 0", subscribe(V5, ("m/t", 0), props=b"\x0b\x00"))
    yield make.after_connect("SUBSCRIBE: identifier twice", subscribe(V5, ("m/t", 0), props=b"\x0b\x07\x0b\x08"))
    yield make.after_connect("SUBSCRIBE: a property of PUBLISH", subscribe(V5, ("m/t", 0), props=b"\x01\x00"))
    yield make.after_connect("SUBSCRIBE: retain handling 3", subscribe(V5, ("m/t", 0x30)))
    yield make.after_connect("SUBSCRIBE: no local on a share", subscribe(V5, ("$share/g/m/t", 0x05)))
    yield make.after_connect("SUBSCRIBE: every option", subscribe(V5, ("m/t", 0x2E)), passes=True)
    yield make.after_connect("UNSUBSCRIBE: a property of PUBLISH", unsubscribe(V5, "m/t", props=b"\x01\x00"))


def _v5_session() -> Iterator[Conversation]:
    make = _Maker(V5)
    yield make.after_connect("DISCONNECT with a reason", b"\xe0\x01\x04", passes=True)
    yield make.after_connect("DISCONNECT with a reason that only a server may give", b"\xe0\x01\x8b")
    yield make.after_connect("DISCONNECT with a reason that is none", b"\xe0\x01\x55")
    yield make.after_connect("DISCONNECT with a property of PUBLISH", b"\xe0\x04\x00\x02\x01\x00")
    yield make.after_connect("DISCONNECT with properties cut short", b"\xe0\x03\x00\x05\x11")
    expiry = properties(V5, b"\x11\x00\x00\x00\x05")
    yield make.after_connect("DISCONNECT that asks for a session", packet(0xE0, b"\x00" + expiry), passes=True)
    yield make.after_connect("AUTH without its method", packet(0xF0, b"\x18" + properties(V5)))
    method = properties(V5, b"\x15" + field("NONE"))
    yield make.after_connect("AUTH by a method never agreed on", packet(0xF0, b"\x19" + method))
    yield make.after_connect("AUTH with reserved bits", packet(0xF1, b"\x18" + properties(V5)))
    yield make.after_connect("AUTH with a reason that is none", packet(0xF0, b"\x55" + properties(V5)))
    name = "more than the receive maximum at QoS 2"
    many = b"".join(publish(V5, make.topic(name), b"x", first=0x34, packet_id=number) for number in range(1, 22))
    yield make.after_connect(name, many[len(many) // 21 * 20 :], *_each(many, 20))


def _each(stream: bytes, number: int) -> list[bytes]:
    size = len(stream) // (number + 1)
    return [stream[at * size : (at + 1) * size] for at in range(number)]


CORPUS = tuple(_make())
"""All conversations; names are unique."""
