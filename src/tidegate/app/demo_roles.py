"""The clients of `tidegate demo`, each role a process: twenty sensors, a control room, a device that has gone mad.

`python -m tidegate.app.demo_roles ROLE PORT ...`. A client says on standard output what it has done, a JSON object per
line, `{"ready": true}` first; sensors and device begin when a line comes on standard input. All end by SIGTERM, and by
themselves when nobody reads what they say or the broker is gone.

Messages are sent and read by blocking sockets: nothing but the broker, and what stands before it, makes them wait.
"""

import json
import math
import os
import select
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator

from ..mqtt.ack import write_ack
from ..mqtt.connack import Connack
from ..mqtt.connect import Connect
from ..mqtt.fields import write_text
from ..mqtt.framing import Frame, packet
from ..mqtt.publish import Publish
from ..mqtt.reasons import PacketType
from ..mqtt.subscribe import Subscribe, Subscription

SENSORS = 20
INTERVAL = 0.5
"""Seconds between two readings of a sensor."""
EVERYTHING = "plant/#"
"""What the control room subscribes to."""

_HOST = "127.0.0.1"
_VERSION = 4  # 3.1.1: what most devices speak
_PATIENCE = 30.0  # seconds for the broker to answer CONNECT and SUBSCRIBE
_KEEPALIVE = 60
_PUBACK_BYTES = 4  # 3.1.1 section 3.4
_READ = 1 << 18
_BATCH = 50  # messages the mad device hands to the system at a time
_SAY_EVERY = 0.1  # seconds between two lines of a client that has more to say than a person can see
_RETRY = 0.1  # seconds until the mad device tries again to connect

_MAD_TOPIC = "plant/1/pump-7/status"
_MAD_PAYLOAD = json.dumps(
    {"pump": 7, "state": "restarting", "error": "E42: no answer from the pressure sensor"}
).encode()


class Inbox:
    """Messages out of the bytes of a stream, however they are cut. PacketError for what is not MQTT."""

    def __init__(self) -> None:
        self._rest = b""
        self._frame = Frame()
        self._publish = Publish()

    def feed(self, data: bytes) -> Iterator[tuple[str, bytes, int]]:
        """Topic, payload and packet identifier (0: QoS 0) of each message that is complete now."""
        data, at = self._rest + data, 0
        frame, publish = self._frame, self._publish
        while frame.read(data, at) and frame.end <= len(data):
            start, at = at, frame.end
            if data[start] >> 4 == PacketType.PUBLISH:
                publish.read(data, start, frame.body, frame.end, _VERSION, from_client=False)
                topic = data[publish.topic : publish.topic_end].decode()
                yield topic, data[publish.payload : frame.end], publish.packet_id
        self._rest = data[at:]


class Store:
    """What the control room does with a message: it keeps the newest of each topic, durably, as it comes."""

    def __init__(self, file: str) -> None:
        self._database = sqlite3.connect(file, isolation_level=None)  # each statement is a transaction
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("CREATE TABLE newest (topic TEXT PRIMARY KEY, at REAL, message BLOB)")

    def put(self, topic: str, at: float, message: bytes) -> None:
        """Keep a message."""
        self._database.execute("INSERT OR REPLACE INTO newest VALUES (?, ?, ?)", (topic, at, message))

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def readings(seconds: float) -> int:
    """How many readings all sensors together send in so many seconds."""
    return round(seconds / INTERVAL) * SENSORS


def sensors(port: int, seconds: float) -> None:
    """Twenty sensors, a connection each. A reading carries the time at which it was to be sent.

    So what makes a sensor wait is seen, and none of them sends less because the broker is slow.
    """
    links = [_join(port, f"sensor-{number:02}", _KEEPALIVE) for number in range(SENSORS)]
    _ready()
    total, sent, received = readings(seconds), 0, 0
    start = time.monotonic()
    while True:
        due = start + sent * INTERVAL / SENSORS if sent < total else math.inf
        wait = min(max(0.0, due - time.monotonic()), _SAY_EVERY)
        for link in select.select(links, [], [], wait)[0]:  # waits to the microsecond, which epoll does not
            received += len(_some(link))
        if time.monotonic() >= due:
            number, sensor = divmod(sent, SENSORS)
            reading = {"sensor": sensor, "number": number, "planned": due, "celsius": 21.5}
            topic = f"plant/1/sensor-{sensor:02}/temperature"
            links[sensor].sendall(_publish(topic, json.dumps(reading).encode(), number % 0xFFFF + 1))
            sent += 1
        _say(sent=sent, acknowledged=received // _PUBACK_BYTES, finished=sent == total)


def mad_device(port: int) -> None:
    """One client that publishes as fast as it can, QoS 0, and connects again when it is cut off."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    link = _join(port, "pump-7", _KEEPALIVE)
    _ready()
    batch = _publish(_MAD_TOPIC, _MAD_PAYLOAD) * _BATCH
    sent, next_line = 0, 0.0
    try:
        while True:
            try:
                link.sendall(batch)
                sent += _BATCH
            except OSError:
                link.close()
                link = _join_again(port, sent)
            if time.monotonic() >= next_line:
                _say(flood_sent=sent)
                next_line = time.monotonic() + _SAY_EVERY
    finally:
        _say(flood_sent=sent)


def control_room(port: int, database: str) -> None:
    """Subscribe to everything at QoS 1; decode, store and acknowledge each message; tell how old readings are."""
    link = _join(port, "control-room", keepalive=0)
    link.sendall(Subscribe(1, [Subscription(EVERYTHING, 1)]).write(_VERSION))
    _some(link)  # SUBACK
    store, inbox = Store(database), Inbox()
    _say(ready=True)
    arrived: list[tuple[int, int, float]] = []
    others, next_line = 0, 0.0
    while True:
        came = select.select([link], [], [], _SAY_EVERY)[0]
        for topic, payload, packet_id in inbox.feed(_some(link) if came else b""):
            now = time.monotonic()
            message = json.loads(payload)
            store.put(topic, now, payload)
            if packet_id:
                link.sendall(write_ack(PacketType.PUBACK, packet_id))
            if "planned" in message:
                arrived.append((message["sensor"], message["number"], now - message["planned"]))
            else:
                others += 1
            if now >= next_line:  # also within a read, which may hold thousands
                _say(arrived=arrived, flood_arrived=others)
                arrived, next_line = [], now + _SAY_EVERY
        if not came:
            _say(arrived=arrived, flood_arrived=others)
            arrived = []


def _join(port: int, client_id: str, keepalive: int) -> socket.socket:
    """A connection that the broker has accepted. OSError when it does not."""
    link = socket.create_connection((_HOST, port), timeout=_PATIENCE)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.sendall(Connect(_VERSION, bridge=False, clean_start=True, keepalive=keepalive, client_id=client_id).write())
    data, frame = _some(link), Frame()
    frame.read(data, 0)
    if Connack.read(data, 0, frame.body, frame.end, _VERSION).reason:
        raise ConnectionError(f"the broker refuses {client_id}")
    link.settimeout(None)
    return link


def _join_again(port: int, sent: int) -> socket.socket:
    while True:
        _say(flood_sent=sent)  # to end when nobody listens any more
        try:
            return _join(port, "pump-7", _KEEPALIVE)
        except OSError:
            time.sleep(_RETRY)


def _some(link: socket.socket) -> bytes:
    data = link.recv(_READ)
    if not data:
        raise ConnectionError("the broker has closed the connection")
    return data


def _publish(topic: str, payload: bytes, packet_id: int = 0) -> bytes:
    """A PUBLISH of QoS 1 with a packet identifier, else of QoS 0."""
    identifier = packet_id.to_bytes(2, "big") if packet_id else b""
    return packet(PacketType.PUBLISH << 4 | (2 if packet_id else 0), write_text(topic) + identifier + payload)


def _ready() -> None:
    """Say so, and wait for the word to begin; end if it never comes."""
    _say(ready=True)
    if not sys.stdin.readline():
        sys.exit(0)


def _say(**what: object) -> None:
    try:
        os.write(1, json.dumps(what).encode() + b"\n")
    except BrokenPipeError:  # nobody is there to be told
        os._exit(1)


def main(role: str, port: str, *rest: str) -> None:
    """Play a role until killed; exit code 1 when the broker does not let it, told as `{"trouble": TEXT}`."""
    try:
        if role == "sensors":
            sensors(int(port), float(rest[0]))
        elif role == "mad-device":
            mad_device(int(port))
        else:
            control_room(int(port), rest[0])
    except OSError as error:
        _say(trouble=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
