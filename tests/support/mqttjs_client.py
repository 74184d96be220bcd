"""MQTT.js as the scenarios drive it: one node process, JSON lines both ways, any number of clients."""

import base64
import itertools
import json
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

from .client import Client, Options, Properties, Record, message_record, told_properties
from .wait import GUARD

SCRIPT = Path(__file__).parents[1] / "node" / "client.mjs"
ROOT = Path(__file__).parents[2]

_BINARY = "CorrelationData"


def to_js(properties: Properties) -> dict[str, Any]:
    """Properties by the names of MQTT.js; bytes as {"base64": …}."""
    made: dict[str, Any] = {}
    for name, value in properties.items():
        if name == "UserProperty":
            made["userProperties"] = {}
            for key, text in value:
                made["userProperties"].setdefault(key, []).append(text)
        elif name == _BINARY:
            made["correlationData"] = {"base64": base64.b64encode(value).decode()}
        elif name in {"PayloadFormatIndicator", "RequestProblemInformation", "RequestResponseInformation"}:
            made[name[0].lower() + name[1:]] = bool(value)
        else:
            made[name[0].lower() + name[1:]] = value
    return made


class MqttJs:
    """The node process, and a thread that files what it prints under the client that it concerns."""

    def __init__(self) -> None:
        node = shutil.which("node")
        assert node, "no node: apt-get install nodejs npm"
        assert (ROOT / "node_modules" / "mqtt").is_dir(), f"no MQTT.js: run `npm install` in {ROOT}"
        self.process = subprocess.Popen([node, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.clients: dict[int, dict[str, queue.Queue[Any]]] = {}
        self.numbers = itertools.count(1)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            self.clients[event["client"]][event["kind"]].put(event)

    def tell(self, **command: Any) -> None:
        """Send one command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def client(self, options: Options) -> Client:
        """See Library."""
        number = next(self.numbers)
        kinds = ("connack", "suback", "unsuback", "sent", "message", "pingresp", "closed", "ended")
        self.clients[number] = {kind: queue.Queue() for kind in kinds}
        return MqttJsClient(self, number, options)

    def end(self) -> None:
        """See Library."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(GUARD)
        self.reader.join(GUARD)
        self.process.stdout.close()


class MqttJsClient:
    """One client in the node process."""

    def __init__(self, library: MqttJs, number: int, options: Options) -> None:
        self.library = library
        self.number = number
        self.options = options
        self.used = False

    def _next(self, kind: str) -> Any:
        try:
            return self.library.clients[self.number][kind].get(timeout=GUARD)
        except queue.Empty:
            raise TimeoutError(f"MQTT.js client {self.options.client_id} saw no {kind}") from None

    def _tell(self, op: str, **command: Any) -> None:
        self.library.tell(op=op, client=self.number, **command)

    def connect(self) -> Record:
        """See Client."""
        options = self.options
        self.used = True
        connect: dict[str, Any] = {
            "port": options.port,
            "protocolVersion": options.version,
            "protocolId": "MQIsdp" if options.version == 3 else "MQTT",
            "clientId": options.client_id,
            "clean": options.clean,
            "keepalive": options.keepalive,
            "username": options.username,
            "password": options.password,
            "properties": to_js(options.properties),
        }
        if options.will is not None:
            will = options.will
            connect["will"] = {
                "topic": will.topic,
                "payload": will.payload,
                "qos": will.qos,
                "retain": will.retain,
                "properties": to_js(will.properties),
            }
        self._tell("connect", options=connect)
        event = self._next("connack")
        return ("connack", event["reason"], event["sessionPresent"], told_properties(event["properties"]))

    def subscribe(self, topic: str, qos: int, options: Properties, properties: Properties) -> Record:
        """See Client."""
        names = {"noLocal": "nl", "retainAsPublished": "rap", "retainHandling": "rh"}
        short = {names[name]: value for name, value in options.items()}
        self._tell("subscribe", topic=topic, options={"qos": qos, **short, "properties": to_js(properties)})
        return ("suback", tuple(self._next("suback")["codes"]))

    def unsubscribe(self, topic: str) -> Record:
        """See Client."""
        self._tell("unsubscribe", topic=topic)
        return ("unsuback", tuple(self._next("unsuback")["codes"]))

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool, properties: Properties) -> Record:
        """See Client."""
        self._tell(
            "publish",
            topic=topic,
            payload=base64.b64encode(payload).decode(),
            options={"qos": qos, "retain": retain, "properties": to_js(properties)},
        )
        return ("sent", self._next("sent")["reason"])

    def message(self) -> Record:
        """See Client."""
        event = self._next("message")
        payload = base64.b64decode(event["payload"])
        return message_record(event["topic"], payload, event["qos"], event["retain"], event["properties"])

    def ping(self) -> Record:
        """See Client."""
        self._next("pingresp")
        return ("pingresp",)

    def disconnect(self, reason: int = 0) -> None:
        """See Client."""
        self._tell("end", reason=reason)
        self._next("ended")
        self._next("closed")

    def cut(self) -> None:
        """See Client."""
        self._tell("cut")
        self._next("closed")

    def closed(self) -> Record:
        """See Client."""
        return ("closed", self._next("closed")["reason"])

    def end(self) -> None:
        """See Client."""
        if self.used:
            self._tell("forget")
            self._next("ended")
