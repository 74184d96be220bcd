"""A subscriber that acknowledges by hand, and counts what is unacknowledged on its connection."""

import time

from tidegate.mqtt.properties import Properties, PropertyId

from .peer import MOST_IN_FLIGHT, Arrived, Peer, Released, Signal, Subscribed, heard, join, subscribe

QUIET_SECONDS = 0.3
"""Nothing has come for so long: nothing more will, unless something is done."""


class Taker:
    """One client, which in MQTT 5 asks for the largest Receive Maximum that there is."""

    def __init__(self, port: int, name: str, version: int, qos: int, topic_filter: str) -> None:
        """Return once it is subscribed; wire.Refused."""
        offer: Properties | None = [(PropertyId.RECEIVE_MAXIMUM, MOST_IN_FLIGHT)] if version == 5 else None
        self.peer = Peer(port, name, version, acknowledges=False, properties=offer)
        self.arrived: list[Arrived] = []
        """In the order of their coming, each once for each time that it came."""
        self.most = 0
        """The most that were unacknowledged at a time."""
        self._received: dict[int, Arrived] = {}
        """Messages whose PUBACK or PUBREC has not been sent, by identifier, the oldest first."""
        self._owed: set[int] = set()
        """Of QoS 2, those whose PUBCOMP has not been sent since."""
        self._pongs = self._subscribed = 0
        join([self.peer])
        subscribe(self.peer, topic_filter, qos)

    @property
    def in_flight(self) -> int:
        """Messages that are unacknowledged now; of QoS 2 until PUBCOMP."""
        return len(self._received) + len(self._owed)

    @property
    def came(self) -> int:
        """Messages that have come so far."""
        return len(self.arrived)

    def hear(self, seconds: float) -> None:
        """Take what comes, until nothing has for so many seconds."""
        while self._take(timeout=seconds):
            pass

    def wait_for(self, in_flight: int, seconds: float) -> float:
        """Take what comes until so many are in flight; how long that took, at most `seconds`."""
        begin = time.monotonic()
        while self.in_flight != in_flight and (passed := time.monotonic() - begin) < seconds:
            self._take(timeout=seconds - passed)
        return time.monotonic() - begin

    def acknowledge(self, count: int = 1) -> None:
        """Acknowledge the oldest so many, of QoS 2 by PUBREC, and take what comes until each exchange is over."""
        for packet_id, message in list(self._received.items())[:count]:
            del self._received[packet_id]
            if message.qos == 2:
                self._owed.add(packet_id)
            self.peer.acknowledge(message)
        while self._owed and self._take(timeout=QUIET_SECONDS):
            pass

    def asks(self, topic_filter: str, seconds: float) -> tuple[float, float]:
        """Send a PINGREQ and a SUBSCRIBE; when each was answered, in seconds, at most `seconds`."""
        begin = time.monotonic()
        pongs, subscribed = self._pongs, self._subscribed
        self.peer.ping()
        self.peer.subscribe(topic_filter, 0)
        pong = answered = seconds
        while seconds in (pong, answered) and time.monotonic() - begin < seconds:
            self._take(timeout=seconds)
            after = time.monotonic() - begin
            if self._pongs > pongs:
                pong = min(pong, after)
            if self._subscribed > subscribed:
                answered = min(answered, after)
        return pong, answered

    def _take(self, timeout: float) -> bool:
        """Take one read; whether there was one in time."""
        for _, events in heard([self.peer], timeout):
            for event in events:
                if isinstance(event, Arrived):
                    self.arrived.append(event)
                    if event.qos:
                        self._received[event.packet_id] = event
                    self.most = max(self.most, self.in_flight)
                elif isinstance(event, Released):
                    self._owed.discard(event.packet_id)
                elif isinstance(event, Subscribed):
                    self._subscribed += 1
                elif event is Signal.PONG:
                    self._pongs += 1
            return not self.peer.closed
        return False
