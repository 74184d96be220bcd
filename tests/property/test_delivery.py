"""Whatever a broker sends and however a client acknowledges: order is kept, and nothing of QoS 1 and 2 lost."""

from collections import defaultdict
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from strategies import untimed
from support.delivered import THEN
from support.held import DELAY, due
from support.limits import engine, rate
from support.playbook import Playbook, publish, waiting_room
from tidegate.gateway.bounds import STORE
from tidegate.gateway.hold import OVERHEAD
from tidegate.gateway.states import State
from tidegate.mqtt.ack import write_ack
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.publish import Publish
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.session import PINGREQ, PINGRESP
from tidegate.policy.model import Action, ByClass, Cases, Event, Key, KeyKind, Limit

MESSAGES, SIZE = 6, 200_000
TOPICS = ("a", "b", "c")
SIZES = (1, 1000, 1000, STORE + 100)
PER = (KeyKind.CLIENT, KeyKind.TOPIC, KeyKind.ALL)
WINDOW = 4
"""Messages that the broker sends unacknowledged."""


@st.composite
def limits(draw: st.DrawFn, number: int) -> Limit:
    few = st.integers(1, 4)
    what = draw(st.sampled_from(["rate", "rate", "concurrent", "bandwidth"]))
    how_much: dict[str, object] = {
        "rate": rate(draw(few), draw(few), draw(st.sampled_from([1, 10]))),
        "concurrent": ByClass(draw(few)),
        "bandwidth": rate(40_000, draw(st.sampled_from([10, 100_000]))),
    }
    return Limit(
        f"limit-{number}",
        Event.DELIVER,
        draw(st.sampled_from([DELAY, DELAY, DELAY, Cases(Action.OBSERVE), Cases(Action.DELAY, {0: Action.DROP})])),
        # Who keeps a window from others is closed in the end, so none is shared here.
        per=(Key(KeyKind.CLIENT if what == "concurrent" else draw(st.sampled_from(PER))),),
        topic=draw(st.sampled_from([(), ("a",)])),
        max_delay=draw(st.sampled_from([0.5, 5.0])),
        conflate=draw(st.booleans()),
        then=THEN,
        **{what: how_much[what]},  # type: ignore[arg-type]
    )


class Broker:
    """A broker with one client behind the gateway, which keeps to its window as brokers do."""

    def __init__(self, policy: tuple[Limit, ...], version: int, messages: int = MESSAGES) -> None:
        one = engine(*policy)
        first = Playbook(engine=one)
        self.waiting = waiting_room(one, first.counters, messages, SIZE, 1 << 26)
        self.most = 2 * messages + 1
        self.play = Playbook.opened(version, engine=one, waiting=self.waiting)
        self.version = version
        self.sent: list[tuple[str, int, int]] = []
        """Topic, QoS, and number of each message, in the order in which they were written."""
        self.got: list[tuple[str, int, int]] = []
        self.stream = b""
        """What the gateway has not read yet."""
        self.queue: list[tuple[str, int, int]] = []
        self.unacknowledged: set[int] = set()
        self.at_client: list[tuple[int, int]] = []
        self.reads = True
        self.buffer = b""
        self.pings = 0

    def send(self, topic: str, qos: int, size: int) -> None:
        if qos:
            self.queue.append((topic, qos, size))
            self.dequeue()
        else:
            self.write(topic, qos, size)

    def dequeue(self) -> None:
        while self.queue and len(self.unacknowledged) < WINDOW:
            self.write(*self.queue.pop(0))

    def write(self, topic: str, qos: int, size: int) -> None:
        number = len(self.sent) + 1
        self.sent.append((topic, qos, number))
        self.stream += publish(topic, b"%08d" % number + bytes(size), qos, number, self.version)
        if qos:
            self.unacknowledged.add(number)

    def move(self) -> None:
        """Let bytes flow as far as they can."""
        play = self.play
        while True:
            self.dequeue()
            if self.reads and self.stream:
                part, self.stream = self.stream[:50_000], self.stream[50_000:]
                play.connection.broker_bytes(part, play.now)
                play.flush()
            to_client, _, commands = play.take()
            if "hold broker" in commands or "free broker" in commands:
                self.reads = "free broker" in commands
            self.hear(to_client)
            if not (self.reads and self.stream):
                return

    def hear(self, data: bytes) -> None:
        self.buffer += data
        frame = Frame()
        while self.buffer and frame.read(self.buffer, 0) and frame.end <= len(self.buffer):
            wire, self.buffer = self.buffer[: frame.end], self.buffer[frame.end :]
            if wire == PINGRESP:
                self.pings -= 1
                continue
            topic, qos, number = self.read(wire)
            self.got.append((topic, qos, number))
            if qos:
                self.at_client.append((qos, number))

    def read(self, wire: bytes) -> tuple[str, int, int]:
        frame, one = Frame(), Publish()
        assert frame.read(wire, 0)
        assert one.read(wire, 0, frame.body, frame.end, self.version, False)
        topic = wire[one.topic : one.topic_end].decode()
        return topic, one.qos, int(wire[one.payload : one.payload + 8])

    def acknowledge(self, which: int) -> None:
        if self.at_client:
            qos, number = self.at_client.pop(which % len(self.at_client))
            if qos == 2:
                self.play.client(write_ack(PacketType.PUBREC, number))
            self.play.client(write_ack(PacketType.PUBACK if qos == 1 else PacketType.PUBCOMP, number))
            self.unacknowledged.discard(number)

    def ping(self) -> None:
        self.pings += 1
        self.play.client(PINGREQ)
        self.stream += PINGRESP

    def wait(self, seconds: float) -> None:
        until = self.play.now + seconds
        for _ in range(10_000):
            at = due(self.play)
            if at > until:
                break
            self.play.at(max(at, self.play.now))
            self.move()
        else:
            raise AssertionError("the same is due for ever")
        self.play.at(until)

    def take(self, takes: bool) -> None:
        self.play.connection.client_takes(takes, self.play.now)

    def finish(self) -> None:
        self.take(True)
        for _ in range(300):
            self.wait(10.0)
            self.move()
            while self.at_client:
                self.acknowledge(0)
                self.move()

    def check(self) -> None:
        assert self.waiting.messages <= self.most
        assert self.waiting.bytes <= 2 * SIZE + self.most * OVERHEAD
        numbers = [number for _, qos, number in self.got if qos]
        assert numbers == sorted(numbers)  # QoS 1 and 2: as they were sent, over all topics
        by_topic: dict[str, list[int]] = defaultdict(list)
        for topic, _, number in self.got:
            by_topic[topic].append(number)
        for one in by_topic.values():
            assert one == sorted(set(one))  # of a topic whatever its QoS, none twice

    def check_end(self) -> None:
        self.check()
        assert self.play.state is State.OPEN
        assert [one for one in self.got if one[1]] == [one for one in self.sent if one[1]]
        assert self.pings == 0
        assert (self.waiting.messages, self.waiting.bytes, self.buffer) == (0, 0, b"")


Step = Callable[[Broker], object]
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        lambda some: lambda broker: [broker.send(*one) for one in some],
        st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(0, 2), st.sampled_from(SIZES)), min_size=1, max_size=6),
    ),
    st.builds(lambda which: lambda broker: broker.acknowledge(which), st.integers(0, 5)),
    st.just(lambda broker: broker.ping()),
    st.builds(lambda seconds: lambda broker: broker.wait(seconds), st.sampled_from([0.01, 0.3, 1.0, 6.0])),
    st.builds(lambda takes: lambda broker: broker.take(takes), st.booleans()),
)
POLICIES = st.integers(1, 3).flatmap(lambda count: st.tuples(*(limits(number) for number in range(count))))


@given(POLICIES, st.sampled_from([4, 5]), st.lists(STEPS, min_size=5, max_size=30))
@untimed
def test_nothing_is_lost_doubled_or_overtaken(policy: tuple[Limit, ...], version: int, steps: list[Step]) -> None:
    broker = Broker(policy, version)
    for step in steps:
        step(broker)
        broker.move()
        broker.check()
    broker.finish()
    broker.check_end()


@given(
    st.lists(st.tuples(st.sampled_from(TOPICS), st.sampled_from([0, 0, 0, 1])), min_size=1, max_size=40),
    st.lists(st.sampled_from([0.0, 0.0, 0.4, 3.0]), min_size=40, max_size=40),
)
@untimed
def test_with_conflate_the_newest_of_each_topic_arrives_last(
    messages: list[tuple[str, int]], pauses: list[float]
) -> None:
    policy = Limit("slow", Event.DELIVER, DELAY, rate=rate(1), conflate=True, then=THEN)
    broker = Broker((policy,), 4, messages=1000)
    for (topic, qos), pause in zip(messages, pauses, strict=False):
        broker.send(topic, qos, 1)
        broker.move()
        broker.wait(pause)
        if qos:
            broker.acknowledge(0)
    broker.finish()
    broker.check_end()
    assert {topic: number for topic, _, number in broker.got} == {topic: number for topic, _, number in broker.sent}
