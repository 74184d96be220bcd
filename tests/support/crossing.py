"""A worker with a few connections, and around each its driver, its client and its broker, which keep the rules.

What is not read waits, no quota is overrun, and whatever crosses is checked as it crosses: the order of each topic,
that nothing is lost or doubled, the bounds and the gauges.
"""

from dataclasses import dataclass, field

from support.held import LEAVE, due
from support.limits import host
from support.playbook import Playbook, connack, connect, publish, waiting_room
from support.wire import whole
from tidegate.engine.binding import Engine
from tidegate.engine.counters import (
    HELD_MESSAGES,
    HOLD_BYTES,
    HOLD_DISCARDED,
    INFLIGHT_FROM_CLIENT,
    ROW_WORDS,
    Counters,
    Discard,
)
from tidegate.gateway.connection import STORE
from tidegate.gateway.states import State
from tidegate.mqtt.ack import Ack, write_ack
from tidegate.mqtt.connack import Connack
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.properties import PropertyId, get
from tidegate.mqtt.publish import Publish
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.session import PINGREQ, PINGRESP
from tidegate.policy.model import Action, Cases, Key, KeyKind, Limit, Policy

T = PacketType
BROKER_QUOTA = 2
"""Receive Maximum of the brokers of version 5."""
MESSAGES, BYTES = 3, 100_000
"""The room that one hold has."""
MOST_DELAY = 60.0
LONG = 200.0
"""Seconds after which nothing can wait any longer."""
KEEPALIVE, PING = 20, 10.0
"""Seconds: what some clients say, and when they ping."""
A_LITTLE = 1e-3
"""Seconds, and messages: what rounding may cost."""

OBSERVE = Cases(Action.OBSERVE)


@dataclass
class Message:
    topic: str
    qos: int
    size: int
    forwarded: int = 0
    answered: int = 0
    """Times that the gateway has answered it on the broker's behalf."""


@dataclass
class Peer:
    """A client and its broker, as they know it."""

    play: Playbook
    version: int
    keepalive: int
    quota: int
    """Exchanges that the client may have open."""
    messages: list[Message] = field(default_factory=list)
    """Their packet identifiers are their numbers, from 1."""
    late: bytes = b""
    """What the client has sent and the network still has."""
    unread: bytes = b""
    """What has arrived and the driver has not read."""
    is_blocked: bool = False
    """The broker does not take what is written to it."""
    is_read: bool = True
    stopped: float | None = None
    """Since when it is not."""
    ended: bool = False
    left: bool = False
    """The client has said DISCONNECT."""
    dismissed: bool = False
    """The broker has got it."""
    repeated: bool = False
    """The client has sent something twice."""
    aliases: list[str] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    """The client's exchanges that are not over."""
    pubrels: list[int] = field(default_factory=list)
    """Those in which it has to go on."""
    inflight: set[int] = field(default_factory=set)
    """The broker's exchanges that are not over."""
    answers: list[bytes] = field(default_factory=list)
    """What the broker has still to say."""
    said: list[bytes] = field(default_factory=list)
    """What it has said and the client has not heard."""
    to_client: bytes = b""
    to_broker: bytes = b""
    began: float | None = None
    """When the first bytes of what lies there have come."""


class Scene:
    def __init__(self, limits: tuple[Limit, ...], clients: list[tuple[int, int, int]], pool: int) -> None:
        """`clients`: version, keepalive and address of each."""
        self.now = 0.0
        self.limits = limits
        self.pool = pool
        self.passed: list[float] = []
        """When messages went on."""
        self.host = host(*limits)
        self.engine = Engine(self.host.segment, 0)
        self.engine.load(self.host.segment.policy())
        self.counters = Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0)
        self.waiting = waiting_room(self.engine, self.counters, MESSAGES, BYTES, pool)
        self.peers: list[Peer] = []
        for number, (version, keepalive, address) in enumerate(clients):
            play = Playbook(engine=self.engine, waiting=self.waiting, address=bytes([192, 0, 2, address]))
            play.client(connect(version, keepalive, client_id=f"client-{number}")).upstream()
            play.broker(connack(version, 0, [(PropertyId.RECEIVE_MAXIMUM, BROKER_QUOTA)] if version == 5 else None))
            frame, wire = Frame(), play.take()[0]
            assert frame.read(wire, 0)
            offered = get(Connack.read(wire, 0, frame.body, frame.end, version).properties, PropertyId.RECEIVE_MAXIMUM)
            self.peers.append(Peer(play, version, keepalive, offered if isinstance(offered, int) else 1000))

    # What clients and brokers do; nothing, where they may not

    def send(self, peer: Peer, topic: str, qos: int, size: int, alias: bool) -> None:
        if peer.left or (qos and len(peer.open) >= peer.quota):
            return
        peer.messages.append(Message(topic, qos, size))
        if qos:
            peer.open.add(len(peer.messages))
        self._publish(peer, len(peer.messages), alias and peer.version == 5)

    def repeat(self, peer: Peer, which: int) -> None:
        """Send a message again whose answer the client lacks."""
        waits = sorted(number for number in peer.open if number not in peer.pubrels)
        if not peer.left and waits and peer.version < 5:
            peer.repeated = True
            self._publish(peer, waits[which % len(waits)], alias=False, dup=True)

    def _publish(self, peer: Peer, number: int, alias: bool, dup: bool = False) -> None:
        message = peer.messages[number - 1]
        said, properties = message.topic, []
        if alias:
            if said in peer.aliases:
                properties, said = [(PropertyId.TOPIC_ALIAS, 1 + peer.aliases.index(said))], ""
            else:
                peer.aliases.append(said)
                properties = [(PropertyId.TOPIC_ALIAS, len(peer.aliases))]
        payload = b"%d." % number + bytes(message.size)
        self.say(peer, publish(said, payload, message.qos, number, peer.version, [*properties], dup))

    def say(self, peer: Peer, wire: bytes) -> None:
        if peer.left or peer.ended:
            return
        if peer.late:
            peer.late += wire
        else:
            peer.unread += wire

    def hesitate(self, peer: Peer, size: int) -> None:
        """Of what the client has sent and nobody has read, the network keeps the last bytes for now."""
        if not peer.late:
            peer.unread, peer.late = peer.unread[:-size], peer.unread[-size:]

    def arrive(self, peer: Peer) -> None:
        peer.unread, peer.late = peer.unread + peer.late, b""

    def block(self, peer: Peer, is_blocked: bool) -> None:
        if not peer.ended:
            peer.is_blocked = is_blocked
            peer.play.connection.upstream_takes(not is_blocked, self.now)
            peer.play.flush()

    def leave(self, peer: Peer) -> None:
        self.say(peer, LEAVE)
        peer.left = True

    def release(self, peer: Peer) -> None:
        """Send all PUBRELs that are owed."""
        for number in peer.pubrels:
            self.say(peer, write_ack(T.PUBREL, number))
        peer.pubrels.clear()

    def answer(self, peer: Peer, refuse: bool = False) -> None:
        """The broker says one thing more."""
        if peer.ended or not peer.answers:
            return
        wire = peer.answers.pop(0)
        kind, number = wire[0] >> 4, int.from_bytes(wire[2:4], "big")
        if kind == T.PUBREC and refuse and peer.version == 5:
            wire = write_ack(T.PUBREC, number, 0x80)
        if kind in (T.PUBACK, T.PUBCOMP) or len(wire) > 4:
            peer.inflight.discard(number)
        peer.said.append(wire)
        peer.play.broker(wire)

    def close(self, peer: Peer) -> None:
        """The client's socket closes; while it is not read nobody notices, unless it has taken its leave."""
        if not peer.ended and ((peer.is_read and not peer.is_blocked) or peer.play.state is State.EMPTYING):
            peer.play.connection.client_closed()

    def lose(self, peer: Peer) -> None:
        """The broker's socket closes."""
        if not peer.ended:
            peer.play.connection.broker_closed(False)

    def cut_off(self, peer: Peer) -> None:
        peer.play.connection.shut_down()

    def reload(self, limits: tuple[Limit, ...]) -> None:
        """Other limits are in force; what the former promised holds no longer."""
        self.host.replace(Policy(limits=limits))
        self.engine.load(self.host.segment.policy())
        self.waiting.reconsider(self.now)
        self.limits = ()

    # The drivers

    def cross(self) -> None:
        """Carry over what there is, and check it."""
        busy = True
        while busy:  # what one has sent may have cut another
            busy = False
            for peer in self.peers:
                busy = self._carry(peer) or busy
        for peer in self.peers:
            if peer.is_read or peer.left or peer.ended or peer.is_blocked:
                peer.stopped = None
            elif peer.stopped is None:
                peer.stopped = self.now
            else:
                longest = peer.keepalive / 2 or MOST_DELAY
                assert self.now - peer.stopped <= longest + A_LITTLE, "control packets wait"
        self._check_totals()

    def _carry(self, peer: Peer) -> bool:
        """One read of the client; whether anything has happened."""
        to_client, to_broker, commands = peer.play.take()
        peer.to_client += to_client
        peer.to_broker += to_broker
        while size := whole(peer.to_broker):
            self._at_broker(peer, peer.to_broker[:size])
            peer.to_broker = peer.to_broker[size:]
            peer.began = None
        if peer.to_broker and peer.began is None:
            peer.began = self.now
        while size := whole(peer.to_client):
            self._at_client(peer, peer.to_client[:size])
            peer.to_client = peer.to_client[size:]
        if "free" in commands:
            peer.is_read = True
        if "hold" in commands:
            peer.is_read = False
        if "end" in commands:
            peer.ended = True
            peer.inflight.clear()
        if peer.ended or peer.is_blocked or not peer.is_read or not peer.unread:
            return bool(to_client or to_broker or commands)
        data, peer.unread = peer.unread[:STORE], peer.unread[STORE:]
        peer.stopped = None
        peer.play.client(data)
        return True

    def _at_broker(self, peer: Peer, wire: bytes) -> None:
        assert not peer.dismissed, "nothing follows DISCONNECT"
        kind = wire[0] >> 4
        if kind == T.PINGREQ:
            peer.play.broker(PINGRESP)
        elif kind == T.DISCONNECT:
            assert peer.left
            peer.dismissed = True
        elif kind == T.PUBREL:
            number = int.from_bytes(wire[2:4], "big")
            assert number in peer.inflight or peer.repeated
            peer.answers.append(write_ack(T.PUBCOMP, number))
        else:
            assert kind == T.PUBLISH
            self._forwarded(peer, wire)

    def _forwarded(self, peer: Peer, wire: bytes) -> None:
        frame, read = Frame(), Publish()
        assert frame.read(wire, 0)
        assert read.read(wire, 0, frame.body, frame.end, peer.version, False)
        number = int(wire[read.payload :].partition(b".")[0])
        message = peer.messages[number - 1]
        assert wire[read.topic : read.topic_end].decode() == message.topic, "an alias ends here"
        assert (read.qos, wire[read.payload :]) == (message.qos, b"%d." % number + bytes(message.size))
        if not read.dup:
            assert (message.forwarded, message.answered) == (0, 0)
            behind = peer.messages[number:]
            assert not any(one.forwarded for one in behind if one.topic == message.topic), "the order of a topic"
        message.forwarded += 1
        self.passed.append(self.now if peer.began is None else peer.began)
        if message.qos:
            peer.inflight.add(number)
            assert peer.version < 5 or len(peer.inflight) <= BROKER_QUOTA
            peer.answers.append(write_ack(T.PUBACK if message.qos == 1 else T.PUBREC, number))

    def _at_client(self, peer: Peer, wire: bytes) -> None:
        kind = wire[0] >> 4
        if kind in (T.DISCONNECT, T.PINGRESP):
            return
        frame, ack = Frame(), Ack()
        assert frame.read(wire, 0)
        ack.read(wire, 0, frame.body, frame.end, peer.version)
        number = ack.packet_id
        if wire in peer.said:
            peer.said.remove(wire)
        elif kind != T.PUBCOMP:
            message = peer.messages[number - 1]
            message.answered += 1
            assert peer.repeated or (message.forwarded, message.answered) == (0, 1)
        if kind == T.PUBREC and ack.reason < 0x80:
            peer.pubrels.append(number)
        else:
            peer.open.discard(number)

    def _check_totals(self) -> None:
        value = self.counters.value
        assert self.waiting.bytes == value(HOLD_BYTES) == sum(peer.play.connection.holds() for peer in self.peers)
        assert self.waiting.messages == value(HELD_MESSAGES)
        assert self.waiting.bytes <= self.pool
        if not any(peer.repeated for peer in self.peers):
            for peer in self.peers:
                under_way = peer.to_broker[:1] > b"\x31" and not peer.ended
                assert peer.play.counters.value(INFLIGHT_FROM_CLIENT) == len(peer.inflight) + under_way
            inflight = sum(len(peer.inflight) for peer in self.peers)
            for one in self.limits:
                if one.concurrent.default is not None and meets_all(one):
                    assert inflight <= one.concurrent.default

    # The clock

    def wait(self, seconds: float) -> None:
        """Move the clock, doing what is due when it is due; clients ping."""
        until = self.now + seconds
        self.cross()
        while self.now < until:
            self._move(min(until, self.now + PING) if any(peer.keepalive for peer in self.peers) else until)
            for peer in self.peers:
                if peer.keepalive:
                    self.say(peer, PINGREQ)
            self.cross()

    def _move(self, until: float) -> None:
        for _ in range(10_000):
            self.now = max(self.now, min(until, *(due(peer.play) for peer in self.peers)))
            for peer in self.peers:
                peer.play.connection.client_excused = bool(peer.unread)  # as the driver asks the kernel
                peer.play.at(self.now)
            self.cross()
            if self.now == until:
                return
        raise AssertionError("the same is due for ever")

    def finish(self) -> None:
        """Let everything come to its end."""
        for peer in self.peers:
            self.arrive(peer)
            self.block(peer, is_blocked=False)
        self.wait(LONG)
        for _ in range(3 * sum(len(peer.messages) for peer in self.peers)):
            for peer in self.peers:
                self.release(peer)
                self.answer(peer)
            self.wait(0.1)
        self.wait(LONG)


def meets_all(one: Limit) -> bool:
    """Whether a limit holds for all messages together."""
    return one.per == (Key(KeyKind.ALL),) and not one.topic and one.on_excess != OBSERVE


def check_end(scene: Scene) -> None:
    """What must hold when everything has come to its end."""
    assert (scene.waiting.bytes, scene.waiting.messages) == (0, 0)
    lost = 0
    for peer in scene.peers:
        if peer.ended or peer.left:
            assert peer.play.state in (State.LEAVING, State.CLOSED)
            continue
        assert peer.play.state is State.OPEN
        assert (peer.is_read, peer.unread) == (True, b"")
        for message in peer.messages:
            if message.qos:
                assert message.forwarded or message.answered
                lost += message.answered
            else:
                assert message.forwarded <= 1
                lost += not message.forwarded
        assert peer.repeated or not peer.open
    if not scene.limits or any(peer.ended or peer.left or peer.repeated for peer in scene.peers):
        return
    told = [counts.limited for counts in scene.host.counts(scene.now)]
    full = sum(peer.play.counters.value(HOLD_DISCARDED + Discard.FULL) for peer in scene.peers)
    assert lost == full + sum(one[Action.DROP] + one[Action.REJECT] for one in told)


def check_pace(scene: Scene) -> None:
    """No limit that meets every message has let too many pass."""
    for one in scene.limits:
        if one.rate.default is None or not meets_all(one):
            continue
        (most,) = one.rate.default
        passed = sorted(scene.passed)
        for first, began in enumerate(passed):
            for count, ended in enumerate(passed[first:], 1):
                assert count <= most.burst + most.amount * (ended - began) + A_LITTLE
