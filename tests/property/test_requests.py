"""Whatever a client subscribes to, and however limits and the broker answer: each filter has one reason, in its place.

The broker gets what passed in the order in which it was asked, and no place in a window stays behind.
"""

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st

from support.held import ALL
from support.limits import engine, rate
from support.playbook import Playbook
from support.subscribing import on_subscribe, sent, taken
from support.wire import split
from tidegate.gateway.states import State
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.subscribe import Suback, Subscribe, Subscription, Unsuback, Unsubscribe
from tidegate.policy.model import Action, ByClass, Conditions, Limit

HELD = 4
THROTTLE = "$tidegate/throttle"
NAMES = ["a", "b", "c", "d", "e", "deep/er", "$share/g/a", "long/" * 20, THROTTLE]

measures = st.sampled_from(
    [
        {"rate": rate(2)},
        {"rate": rate(1, 1, 3)},
        {"concurrent": ByClass(HELD - 2)},
        {"depth": ByClass(1)},
        {"max_qos": ByClass(1)},
        {"rate": rate(1, 3, 10), "topic": ("a", "b", "$share/+/a")},
    ]
)
limits = st.lists(st.tuples(measures, st.sampled_from([Action.DELAY, Action.REJECT, Action.OBSERVE])), max_size=3)
filters = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("subscribe"), filters, st.integers(0, 2)),
        st.tuples(st.just("unsubscribe"), filters, st.just(0)),
        st.tuples(st.just("broker"), st.lists(st.booleans(), min_size=5, max_size=5), st.just(0)),
        st.tuples(st.just("time"), st.sampled_from([0.1, 0.7, 3.0]), st.just(0)),
        st.tuples(st.just("stuck"), st.booleans(), st.just(0)),
    ),
    max_size=25,
)


class Scene:
    """A client, and a broker that answers what it is asked when it is told to."""

    def __init__(self, version: int, limits: list[Limit]) -> None:
        held = on_subscribe("held", concurrent=ByClass(HELD), per=ALL)
        self.play = Playbook.opened(version, engine=engine(held, *limits))
        self.version = version
        self.asked: dict[int, Subscribe | Unsubscribe] = {}
        self.answered: dict[int, list[int]] = {}
        self.at_broker: deque[Subscribe | Unsubscribe] = deque()
        self.order: list[int] = []

    def step(self, what: str, how: object, qos: int) -> None:
        play = self.play
        number = len(self.asked) + 1
        if what == "subscribe":
            assert isinstance(how, list)
            self.asked[number] = Subscribe(number, [Subscription(one, qos) for one in how])
            play.client(self.asked[number].write(self.version))
        elif what == "unsubscribe":
            assert isinstance(how, list)
            self.asked[number] = Unsubscribe(number, how)
            play.client(self.asked[number].write(self.version))
        elif what == "time":
            assert isinstance(how, float)
            play.at(play.now + how)
        elif what == "stuck":
            play.connection.upstream_takes(not how, play.now)
        elif self.at_broker:
            assert isinstance(how, list)
            play.broker(self.answer(self.at_broker.popleft(), how))
        self.take()

    def answer(self, request: Subscribe | Unsubscribe, grants: list[bool]) -> bytes:
        if isinstance(request, Unsubscribe):
            reasons = [0 if good else 0x87 for good, _ in zip(grants, request.topic_filters, strict=False)]
            return Unsuback(request.packet_id, reasons if self.version == 5 else []).write(self.version)
        refusal = 0x87 if self.version == 5 else 0x80
        kept = zip(grants, request.subscriptions, strict=False)
        return Suback(request.packet_id, [one.qos if good else refusal for good, one in kept]).write(self.version)

    def take(self) -> None:
        to_client, to_broker, _ = self.play.take()
        for got in sent(to_broker, self.version):
            assert not isinstance(got, bytes)
            self.at_broker.append(got)
            self.order.append(got.packet_id)
            self.check_request(got)
        for packet in split(to_client):
            frame = Frame()
            assert frame.read(packet, 0)
            kind = packet[0] >> 4
            if kind == PacketType.PUBLISH:  # a notice
                continue
            ack: Suback | Unsuback = (Suback if kind == PacketType.SUBACK else Unsuback).read(
                packet, 0, frame.body, frame.end, self.version
            )
            assert ack.packet_id not in self.answered, "once"
            self.answered[ack.packet_id] = list(ack.reasons)
            self.check_answer(ack)

    def check_request(self, got: Subscribe | Unsubscribe) -> None:
        """The broker is asked for some of the filters, in their order; never for notices."""
        whole = self.asked[got.packet_id]
        if isinstance(got, Subscribe):
            assert isinstance(whole, Subscribe)
            mine = iter(whole.subscriptions)
            for one in got.subscriptions:
                assert one.topic_filter != THROTTLE
                assert any(one.topic_filter == other.topic_filter and one.qos <= other.qos for other in mine)
        else:
            assert isinstance(whole, Unsubscribe)
            assert got.topic_filters == [one for one in whole.topic_filters if one != THROTTLE]

    def check_answer(self, ack: Suback | Unsuback) -> None:
        whole = self.asked[ack.packet_id]
        if isinstance(whole, Subscribe):
            assert isinstance(ack, Suback)
            assert len(ack.reasons) == len(whole.subscriptions)
            for one, reason in zip(whole.subscriptions, ack.reasons, strict=True):
                assert reason == 0 if one.topic_filter == THROTTLE else reason <= one.qos or reason >= 0x80
        else:
            assert isinstance(ack, Unsuback)
            assert len(ack.reasons) == (len(whole.topic_filters) if self.version == 5 else 0)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([4, 5]), limits, steps, st.booleans())
def test_every_filter_has_its_reason_and_no_place_is_left(
    version: int, measured: list[tuple[dict[str, object], Action]], steps: list[tuple[str, object, int]], ends: bool
) -> None:
    mine = Conditions(client_id=("c",))
    made = [on_subscribe(f"limit-{n}", action, who=mine, **measure) for n, (measure, action) in enumerate(measured)]
    scene = Scene(version, made)
    play = scene.play
    for what, how, qos in steps:
        scene.step(what, how, qos)
    assert play.state is State.OPEN
    if not ends:  # everything is answered in the end, and the client gives up all that it has
        scene.step("stuck", False, 0)
        for _ in range(200):
            scene.step("time", 3.0, 0)
            scene.step("broker", [True] * 5, 0)
            if not scene.at_broker and len(scene.answered) == len(scene.asked):
                break
        assert scene.answered.keys() == scene.asked.keys()
        assert scene.order == sorted(scene.order)
        for name in NAMES:
            scene.step("unsubscribe", [name], 0)
            scene.step("broker", [True] * 5, 0)
        assert taken(play, of=HELD) == 0
    play.connection.client_closed()
    play.connection.broker_closed(False)
    assert taken(play, of=HELD) == 0
    assert play.waiting is not None
    assert (play.waiting.messages, play.waiting.bytes) == (0, 0)
    assert play.waiting.next_at == float("inf")
