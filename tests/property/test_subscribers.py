"""One client under limits of all kinds at once, both ways, with any chunking, reloads and ends.

While it lives nothing of QoS 1 and 2 is lost, doubled or overtaken; each request and each ping is answered once; and
whatever it ends by, nothing of it stays behind: no message, no lane, no place in a window.
"""

import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import untimed
from support.held import due
from support.limits import host, rate
from support.playbook import Playbook, publish, waiting_room
from support.subscribing import parting, request
from tidegate.engine.binding import Engine
from tidegate.engine.counters import HELD_MESSAGES, HOLD_BYTES, INFLIGHT_FROM_BROKER, INFLIGHT_FROM_CLIENT
from tidegate.gateway.bounds import STORE
from tidegate.gateway.states import State
from tidegate.mqtt.ack import Ack, write_ack
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.publish import Publish
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.session import PINGREQ, PINGRESP
from tidegate.mqtt.subscribe import Suback, Subscribe, Unsuback, Unsubscribe
from tidegate.policy.events import MEANINGS
from tidegate.policy.model import Action, ByClass, Cases, Event, Key, KeyKind, Limit, Policy

T = PacketType
BUCKETS, WINDOWS = 4096, 1024
"""Windows of a segment with so many buckets."""
MESSAGES, SIZE = 6, 200_000
BROKER_WINDOW = 5
TOPICS = ("a", "b", "c")
FILTERS = ("a", "b/#", "deny/1", "c", "$share/g/a", "deny/2")
SIZES = (1, 100, 100, STORE + 100)
LEAVE = b"\xe0\x00"


@st.composite
def limits(draw: st.DrawFn, number: int) -> Limit:
    event = draw(st.sampled_from([Event.PUBLISH, Event.DELIVER, Event.DELIVER, Event.SUBSCRIBE, Event.PACKET]))
    few = draw(st.integers(1, 4))
    what = draw(st.sampled_from(["rate"] if event is Event.PACKET else ["rate", "concurrent"]))
    # A limit on packets as slow as the others would end each client that says much.
    measure = rate(few * 5, few * 5) if event is Event.PACKET else rate(few, few)
    actions = [Cases(Action.DELAY), Cases(Action.DELAY), Cases(Action.OBSERVE)]
    if event is Event.SUBSCRIBE:
        actions.append(Cases(Action.REJECT))
    if event is Event.DELIVER:
        actions.append(Cases(Action.DELAY, {0: Action.DROP}))
    # Whoever keeps a window from others is closed in the end, so none is shared here.
    per = KeyKind.CLIENT if what == "concurrent" else draw(st.sampled_from([KeyKind.CLIENT, KeyKind.ALL]))
    return Limit(
        f"limit-{number}",
        event,
        draw(st.sampled_from(actions)),
        per=(Key(per),),
        max_delay=draw(st.sampled_from([0.5, 5.0])),
        then=Cases(Action.DELAY, {0: Action.DROP}) if event is Event.DELIVER else MEANINGS[event].then,
        conflate=event is Event.DELIVER and draw(st.booleans()),
        **{what: measure if what == "rate" else ByClass(few)},  # type: ignore[arg-type]
    )


class Side:
    """What one side has written and the gateway has not read, and what it has read of the gateway's."""

    def __init__(self) -> None:
        self.out = b""
        self.reads = True
        """Whether the gateway reads it."""
        self.buffer = b""

    def hear(self, data: bytes) -> list[bytes]:
        self.buffer += data
        frame, found = Frame(), []
        while self.buffer and frame.read(self.buffer, 0) and frame.end <= len(self.buffer):
            found.append(self.buffer[: frame.end])
            self.buffer = self.buffer[frame.end :]
        return found

    def next(self, chance: random.Random) -> bytes:
        size = chance.choice([1, 5, 60, 1000, 70_000, 250_000])
        part, self.out = self.out[:size], self.out[size:]
        return part


class World:
    """A client and a broker, both of which keep to the rules, with the gateway between them."""

    def __init__(self, policy: tuple[Limit, ...], version: int, seed: int) -> None:
        self.shared = host(*policy, buckets=BUCKETS)
        os.close(self.shared.fd)
        self.engine = Engine(self.shared.segment, 0)
        self.engine.load(self.engine.segment.policy())
        self.waiting = waiting_room(self.engine, Playbook(engine=self.engine).counters, MESSAGES, SIZE)
        self.play = Playbook.opened(version, engine=self.engine, waiting=self.waiting)
        self.version = version
        self.chance = random.Random(seed)
        self.client, self.broker = Side(), Side()
        self.number = 0
        self.is_over = False
        # Down.
        self.queue: list[tuple[str, int, int]] = []
        self.down: list[tuple[str, int, int]] = []
        """Topic, QoS and number of what the broker has sent, in that order."""
        self.unacknowledged: dict[int, int] = {}
        """Of the broker's messages: number by identifier."""
        self.got: list[tuple[str, int, int]] = []
        self.owed: list[bytes] = []
        """Acknowledgements that the client has yet to send."""
        # Up.
        self.up: list[tuple[str, int, int]] = []
        self.open: dict[int, tuple[str, int, int]] = {}
        """Exchanges of the client's by identifier."""
        self.answers: Counter[int] = Counter()
        """First answers by number of the message."""
        self.refused: set[int] = set()
        self.arrived: list[tuple[str, int, int]] = []
        self.asked: dict[int, tuple[int, int]] = {}
        """Type of the answer, and filters, by identifier."""
        self.pings = 0

    def new(self) -> int:
        self.number += 1
        return self.number

    # What both sides say

    def send_down(self, topic: str, qos: int, size: int) -> None:
        self.queue.append((topic, qos, size))

    def dequeue(self) -> None:
        while self.queue and (not self.queue[0][1] or len(self.unacknowledged) < BROKER_WINDOW):
            topic, qos, size = self.queue.pop(0)
            number = self.new()
            self.down.append((topic, qos, number))
            payload = b"%08d" % number + bytes(size)
            self.broker.out += publish(topic, payload, qos, number, self.version)
            if qos:
                self.unacknowledged[number] = qos

    def send_up(self, topic: str, qos: int, size: int) -> None:
        number = self.new()
        if qos and len(self.open) >= 8:  # within any Receive Maximum
            return
        self.up.append((topic, qos, number))
        if qos:
            self.open[number] = topic, qos, number
        self.client.out += publish(topic, b"%08d" % number + bytes(size), qos, number, self.version)

    def subscribe(self, filters: list[str]) -> None:
        number = self.new()
        self.asked[number] = T.SUBACK, len(filters)
        self.client.out += request(*filters, packet_id=number, version=self.version)

    def unsubscribe(self, filters: list[str]) -> None:
        number = self.new()
        self.asked[number] = T.UNSUBACK, len(filters)
        self.client.out += parting(*filters, packet_id=number, version=self.version)

    def ping(self) -> None:
        self.pings += 1
        self.client.out += PINGREQ

    def acknowledge(self, which: int) -> None:
        if self.owed:
            self.client.out += self.owed.pop(which % len(self.owed))

    # What both sides hear

    def message(self, wire: bytes, *, is_up: bool) -> tuple[str, int, int]:
        frame, one = Frame(), Publish()
        assert frame.read(wire, 0)
        assert one.read(wire, 0, frame.body, frame.end, self.version, is_up)
        return wire[one.topic : one.topic_end].decode(), one.qos, int(wire[one.payload : one.payload + 8])

    def ack(self, wire: bytes) -> tuple[int, int]:
        frame, one = Frame(), Ack()
        assert frame.read(wire, 0)
        one.read(wire, 0, frame.body, frame.end, self.version)
        return one.packet_id, one.reason

    def client_hears(self, wire: bytes) -> None:
        kind = wire[0] >> 4
        if kind == T.PUBLISH:
            topic, qos, number = self.message(wire, is_up=False)
            self.got.append((topic, qos, number))
            if qos:
                self.owed.append(write_ack(T.PUBACK if qos == 1 else T.PUBREC, number))
        elif kind == T.PUBREL:
            self.owed.append(write_ack(T.PUBCOMP, self.ack(wire)[0]))
        elif kind in (T.PUBACK, T.PUBREC):
            number, reason = self.ack(wire)
            self.answers[number] += 1
            if reason >= 0x80:
                self.refused.add(number)
            if kind == T.PUBACK or reason >= 0x80:
                del self.open[number]
            else:
                self.client.out += write_ack(T.PUBREL, number)
        elif kind == T.PUBCOMP:
            del self.open[self.ack(wire)[0]]
        elif kind == T.PINGRESP:
            self.pings -= 1
            assert self.pings >= 0
        elif kind in (T.SUBACK, T.UNSUBACK):
            frame = Frame()
            assert frame.read(wire, 0)
            read = Suback.read if kind == T.SUBACK else Unsuback.read
            one = read(wire, 0, frame.body, frame.end, self.version)
            wanted, filters = self.asked.pop(one.packet_id)
            assert kind == wanted
            assert len(one.reasons) == filters or (kind == T.UNSUBACK and self.version < 5)
        else:
            assert kind == T.DISCONNECT, wire
            self.is_over = True

    def broker_hears(self, wire: bytes) -> None:
        kind = wire[0] >> 4
        if kind == T.PUBLISH:
            one = self.message(wire, is_up=True)
            self.arrived.append(one)
            if one[1]:
                self.broker.out += write_ack(T.PUBACK if one[1] == 1 else T.PUBREC, one[2])
        elif kind == T.PUBREL:
            self.broker.out += write_ack(T.PUBCOMP, self.ack(wire)[0])
        elif kind == T.PUBREC:
            self.broker.out += write_ack(T.PUBREL, self.ack(wire)[0])
        elif kind in (T.PUBACK, T.PUBCOMP):
            del self.unacknowledged[self.ack(wire)[0]]
        elif kind == T.PINGREQ:
            self.broker.out += PINGRESP
        elif kind in (T.SUBSCRIBE, T.UNSUBSCRIBE):
            frame = Frame()
            assert frame.read(wire, 0)
            if kind == T.SUBSCRIBE:
                asked = Subscribe.read(wire, 0, frame.body, frame.end, self.version)
                reasons = [0x80 if "deny" in one.topic_filter else 0 for one in asked.subscriptions]
                self.broker.out += Suback(asked.packet_id, reasons).write(self.version)
            else:
                gone = Unsubscribe.read(wire, 0, frame.body, frame.end, self.version)
                reasons = [0] * len(gone.topic_filters) if self.version == 5 else []
                self.broker.out += Unsuback(gone.packet_id, reasons).write(self.version)
        else:
            assert kind == T.DISCONNECT, wire

    # What flows

    def take(self) -> None:
        to_client, to_broker, commands = self.play.take()
        for side, hold, free in ((self.client, "hold", "free"), (self.broker, "hold broker", "free broker")):
            if hold in commands or free in commands:
                side.reads = free in commands
        for wire in self.client.hear(to_client):
            self.client_hears(wire)
        for wire in self.broker.hear(to_broker):
            self.broker_hears(wire)

    @property
    def lives(self) -> bool:
        return self.play.state is State.OPEN

    def move(self) -> None:
        """Let bytes flow as far as they can."""
        for _ in range(10_000):
            self.take()
            self.dequeue()
            if not self.lives:
                return
            sides = [side for side in (self.client, self.broker) if side.out and side.reads]
            if not sides:
                return
            side = self.chance.choice(sides)
            (self.play.client if side is self.client else self.play.broker)(side.next(self.chance))
        raise AssertionError("it goes on for ever")

    def wait(self, seconds: float) -> None:
        until = self.play.now + seconds
        for _ in range(5_000):
            at = due(self.play)
            if at > until or not self.lives:
                break
            self.play.at(max(at, self.play.now))
            self.move()
        else:
            raise AssertionError("the same is due for ever")
        if self.lives:
            self.play.at(until)
            self.move()

    def takes(self, takes: bool) -> None:
        self.play.connection.client_takes(takes, self.play.now)

    def reload(self, policy: tuple[Limit, ...]) -> None:
        self.shared.replace(Policy(limits=policy))
        self.engine.load(self.engine.segment.policy())
        self.waiting.reconsider(self.play.now)

    # What holds

    def check(self) -> None:
        for got, sent in ((self.got, self.down), (self.arrived, self.up)):
            by_topic: dict[str, list[int]] = defaultdict(list)
            for topic, _, number in got:
                by_topic[topic].append(number)
            for one in by_topic.values():
                assert one == sorted(set(one))
            assert set(got) <= set(sent)
        kept = [number for _, qos, number in self.got if qos]
        assert kept == sorted(kept)
        assert all(count == 1 for count in self.answers.values())

    def settle(self) -> None:
        self.takes(True)
        for _ in range(100):
            self.wait(5.0)
            while self.owed and self.lives:
                self.acknowledge(0)
                self.move()
        self.check()
        if not self.lives:
            return
        assert [one for one in self.got if one[1]] == [one for one in self.down if one[1]]
        arrived = {number for _, _, number in self.arrived}
        assert {number for _, qos, number in self.up if qos} - arrived == self.refused
        assert (self.open, self.asked, self.pings, self.unacknowledged) == ({}, {}, 0, {})

    def end(self, way: str) -> None:
        connection = self.play.connection
        if self.lives:
            match way:
                case "leave":
                    self.play.client(LEAVE)
                    self.play.at(self.play.now + 20.0)
                case "go":
                    connection.client_closed()
                case "broker":
                    connection.broker_closed(False)
                case "shutdown":
                    connection.shut_down()
                case _:
                    self.play.client(b"\xf0\x80\x80\x80\x80\x80")
        if self.play.state is not State.CLOSED:
            connection.client_closed()
        connection.broker_closed(False)
        assert self.play.state is State.CLOSED
        assert connection.broker_fault is None
        counters = self.waiting.counters, self.play.counters
        for gauge in (HELD_MESSAGES, HOLD_BYTES, INFLIGHT_FROM_CLIENT, INFLIGHT_FROM_BROKER):
            assert [one.value(gauge) for one in counters] == [0, 0]
        waiting = self.waiting
        assert (waiting.bytes, waiting.messages, waiting._held, waiting._holders, waiting._queues) == (0, 0, {}, {}, {})
        assert [place for place in range(WINDOWS) if self.engine.free(place)] == []


Step = Callable[[World], object]
traffic = st.lists(
    st.tuples(st.sampled_from(TOPICS), st.integers(0, 2), st.sampled_from(SIZES)), min_size=1, max_size=6
)
names = st.lists(st.sampled_from(FILTERS), min_size=1, max_size=3)
policies = st.integers(1, 5).flatmap(lambda count: st.tuples(*(limits(number) for number in range(count))))
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda some: lambda world: [world.send_down(*one) for one in some], traffic),
    st.builds(lambda some: lambda world: [world.send_up(*one) for one in some], traffic),
    st.builds(lambda some: lambda world: world.subscribe(some), names),
    st.builds(lambda some: lambda world: world.unsubscribe(some), names),
    st.just(lambda world: world.ping()),
    st.builds(lambda which: lambda world: world.acknowledge(which), st.integers(0, 5)),
    st.builds(lambda seconds: lambda world: world.wait(seconds), st.sampled_from([0.01, 0.3, 1.0, 6.0])),
    st.builds(lambda takes: lambda world: world.takes(takes), st.booleans()),
    st.builds(lambda policy: lambda world: world.reload(policy), policies),
)


@given(
    policies,
    st.sampled_from([4, 5]),
    st.integers(0, 1000),
    st.lists(steps, min_size=5, max_size=40),
    st.booleans(),
    st.sampled_from(["leave", "go", "broker", "shutdown", "violation"]),
)
@settings(untimed, max_examples=300)
def test_all_kinds_of_limits_at_once(
    policy: tuple[Limit, ...], version: int, seed: int, steps: list[Step], settles: bool, way: str
) -> None:
    world = World(policy, version, seed)
    for step in steps:
        if not world.lives:
            break
        step(world)
        world.move()
        world.check()
    if settles and world.lives:
        world.settle()
    world.end(way)
