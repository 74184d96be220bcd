"""The second library: npm's mqtt-packet in one node process, and our packets in its words.

Where it differs from us within the standard, `in_their_order`, `in_their_form` and `refused_by_them` say how; nothing
else is normalised.
"""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from tidegate.mqtt.connack import Connack
from tidegate.mqtt.connect import Connect, Will
from tidegate.mqtt.framing import Frame, packet
from tidegate.mqtt.properties import Properties, PropertyId, Value
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.session import Auth, Disconnect
from tidegate.mqtt.subscribe import Suback, Subscribe, Unsuback, Unsubscribe

from .packets import Acked, Message, Ping

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "node" / "packets.mjs"

Written = Connect | Connack | Subscribe | Suback | Unsubscribe | Unsuback | Disconnect | Auth


class MqttPacket:
    """The node process. It answers in order, one line for each line."""

    def __init__(self) -> None:
        node = shutil.which("node")
        assert node, "no node: apt-get install nodejs npm"
        assert (ROOT / "node_modules" / "mqtt-packet").is_dir(), f"no mqtt-packet: run `npm install` in {ROOT}"
        self.process = subprocess.Popen([node, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def generate(self, told: dict[str, Any], version: int) -> bytes:
        """The bytes that the library writes for a packet in its words."""
        answer = self.ask({"version": version, "generate": told})
        assert "error" not in answer, answer["error"]
        return bytes.fromhex(answer["wire"]["hex"])

    def parse(self, wire: bytes, version: int) -> dict[str, Any]:
        """What the library reads: `packets`, or an `error`."""
        return self.ask({"version": version, "parse": hexed(wire)})

    def close(self) -> None:
        """End the process and wait for it."""
        assert self.process.stdout is not None
        self.process.communicate()
        assert self.process.returncode == 0


def hexed(value: bytes) -> dict[str, str]:
    """Bytes as the script takes them."""
    return {"hex": value.hex()}


_NAMES = {
    PropertyId.SUBSCRIPTION_IDENTIFIER_AVAILABLE: "subscriptionIdentifiersAvailable",
    PropertyId.MAXIMUM_QOS: "maximumQoS",
    PropertyId.USER_PROPERTY: "userProperties",
}
_BOOLEANS = frozenset(
    {
        PropertyId.PAYLOAD_FORMAT_INDICATOR,
        PropertyId.REQUEST_PROBLEM_INFORMATION,
        PropertyId.REQUEST_RESPONSE_INFORMATION,
        PropertyId.RETAIN_AVAILABLE,
        PropertyId.WILDCARD_SUBSCRIPTION_AVAILABLE,
        PropertyId.SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        PropertyId.SHARED_SUBSCRIPTION_AVAILABLE,
    }
)


def _name(identifier: PropertyId) -> str:
    first, *words = identifier.name.lower().split("_")
    return _NAMES.get(identifier, first + "".join(map(str.capitalize, words)))


def told_properties(properties: Properties) -> dict[str, Any]:
    """Properties as an object of mqtt-packet."""
    told: dict[str, Any] = {}
    for identifier, value in properties:
        name = _name(identifier)
        if isinstance(value, tuple):
            told.setdefault(name, {}).setdefault(value[0], []).append(value[1])
        elif isinstance(value, bytes):
            told[name] = hexed(value)
        else:
            told[name] = bool(value) if identifier in _BOOLEANS else value
    return told


def told(value: object, version: int) -> dict[str, Any]:
    """A packet of ours as an object of mqtt-packet; a PUBLISH needs its `properties` added."""
    match value:
        case Connect():
            return {
                "cmd": "connect",
                "protocolId": "MQIsdp" if value.version == 3 else "MQTT",
                "protocolVersion": value.version,
                "bridgeMode": value.bridge,
                "clean": value.clean_start,
                "keepalive": value.keepalive,
                "clientId": value.client_id,
                "username": value.username,
                "password": None if value.password is None else hexed(value.password),
                "will": None if value.will is None else _told_will(value.will),
                "properties": told_properties(value.properties),
            }
        case Connack():
            return {
                "cmd": "connack",
                "sessionPresent": value.session_present,
                "reasonCode" if version == 5 else "returnCode": value.reason,
                "properties": told_properties(value.properties),
            }
        case Message():
            return {
                "cmd": "publish",
                "topic": value.topic,
                "payload": hexed(value.payload),
                "qos": value.qos,
                "retain": value.retain,
                "dup": value.dup,
                "messageId": value.packet_id,
            }
        case Acked():
            name = PacketType(value.kind).name.lower()
            return {"cmd": name, "messageId": value.packet_id, "reasonCode": value.reason}
        case Ping():
            return {"cmd": PacketType(value.kind).name.lower()}
        case Subscribe():
            wanted = [
                {
                    "topic": one.topic_filter,
                    "qos": one.qos,
                    "nl": one.no_local,
                    "rap": one.retain_as_published,
                    "rh": one.retain_handling,
                }
                for one in value.subscriptions
            ]
            return {**_told_exchange("subscribe", value.packet_id, value.properties), "subscriptions": wanted}
        case Suback():
            return {**_told_exchange("suback", value.packet_id, value.properties), "granted": value.reasons}
        case Unsubscribe():
            head = _told_exchange("unsubscribe", value.packet_id, value.properties)
            return {**head, "unsubscriptions": value.topic_filters}
        case Unsuback():
            return {**_told_exchange("unsuback", value.packet_id, value.properties), "granted": value.reasons}
        case Disconnect() | Auth():
            name = "auth" if isinstance(value, Auth) else "disconnect"
            return {"cmd": name, "reasonCode": value.reason, "properties": told_properties(value.properties)}
    raise TypeError(type(value))


def _told_will(will: Will) -> dict[str, Any]:
    return {
        "topic": will.topic,
        "payload": hexed(will.payload),
        "qos": will.qos,
        "retain": will.retain,
        "properties": told_properties(will.properties),
    }


def _told_exchange(name: str, packet_id: int, properties: Properties) -> dict[str, Any]:
    return {"cmd": name, "messageId": packet_id, "properties": told_properties(properties)}


def in_their_order(properties: Properties) -> Properties:
    """User properties are an object there: all together, by name, and names that are array indices first."""
    by_name: dict[str, list[tuple[PropertyId, Value]]] = {}
    ordered: Properties = []
    for identifier, value in properties:
        if isinstance(value, tuple):
            if not by_name:
                ordered.append((identifier, value))  # the place of them all
            by_name.setdefault(value[0], []).append((identifier, value))
        else:
            ordered.append((identifier, value))
    names = sorted(filter(_is_index, by_name), key=int) + [name for name in by_name if not _is_index(name)]
    users = [pair for name in names for pair in by_name[name]]
    return [
        pair for one in ordered for pair in (users if one[0] is PropertyId.USER_PROPERTY else [one])
    ]  # fmt: skip


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdigit() and name == str(int(name)) and int(name) < 2**32 - 1


def ordered(value: Written) -> Written:
    """The packet with its properties in their order, and those of its will."""
    if isinstance(value, Connect) and value.will is not None:
        value = replace(value, will=replace(value.will, properties=in_their_order(value.will.properties)))
    return replace(value, properties=in_their_order(value.properties))


def in_their_form(wire: bytes, version: int) -> bytes:
    """Our bytes with what MQTT 5 lets a sender leave out, where they never leave it out.

    An acknowledgement with a reason ends with the length of its properties, even when there are none; DISCONNECT
    always has its reason and that length.
    """
    frame = Frame()
    assert frame.read(wire, 0)
    kind = wire[0] >> 4
    body = wire[frame.body :]
    is_ack = PacketType.PUBACK <= kind <= PacketType.PUBCOMP
    if version == 5 and kind == PacketType.DISCONNECT and not body:
        body = b"\x00"
    if version == 5 and len(body) == (3 if is_ack else 1) and (is_ack or kind == PacketType.DISCONNECT):
        body += b"\x00"
    return packet(wire[0], body)


def refused_by_them(value: object) -> bool:
    """Clients without an identifier where they want one, and a password without a user name (MQTT 5)."""
    if not isinstance(value, Connect):
        return False
    nameless = not value.client_id and (value.version == 3 or not value.clean_start)
    return nameless or (value.password is not None and value.username is None)
