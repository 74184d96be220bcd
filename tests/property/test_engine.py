"""The engine decides as the model does, message by message: two ways of saying the same rules."""

import random
from dataclasses import dataclass, replace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from policies import LARGEST_PACKET, LIMITS, Traffic, arrivals, clients, policies, subscribers, traffic
from strategies import untimed
from support import engine_model as model
from support.engine_model import Client, Decision, Message, Model, Queue
from support.segments import segment
from tidegate.engine import binding
from tidegate.engine.binding import TALLIES, Engine, Subject, Verdict
from tidegate.policy.compile import compile_policy
from tidegate.policy.model import Action, Event, Policy, Priority
from tidegate.policy.stages import Stage

WORDS = 1 << 24
"""So many that no key ever lacks a bucket of its own: what a crowd does is test_crowds.py's matter."""
START = 10**12
DOWN = (Event.SUBSCRIBE, Event.DELIVER, Event.WILL, Event.PACKET)


@dataclass(frozen=True)
class Scale:
    """A change of a factor while messages flow."""

    limit: str
    priority: Priority
    factor: float


scales = st.builds(
    Scale,
    st.sampled_from(LIMITS),
    st.sampled_from(Priority),
    st.sampled_from((1.0, 0.5, 2.0, 1 / 3, 0.01, 0.0, 100.0)),
)


class Pair:
    """An engine and its model, side by side."""

    def __init__(self, clients: list[Client]) -> None:
        self.segment = segment(slots=len(LIMITS), records=0, words=WORDS)
        self.engine = Engine(self.segment, 0)
        self.model = Model(LARGEST_PACKET)
        self.clients = clients
        self.subjects = [client.subject() for client in clients]
        self.strangers = [client.stranger.subject() for client in clients]
        """The same clients at accept."""
        self.clock = self.now = START
        self.seconds = START / 1e9
        self.policy = Policy()
        self.slots: dict[str, int] = {}
        self.keys: dict[Queue, int] = {model.ITSELF: binding.ITSELF}
        """What the engine calls each queue."""
        self.waiting: list[Queue] = []
        self.in_flight: list[tuple[list[int], tuple[Queue, ...]]] = []
        """Of each message: the places that it has taken, and the windows."""

    def load(self, policy: Policy) -> None:
        slots = {limit.name: self.slots[limit.name] for limit in policy.limits if limit.name in self.slots}
        free = (slot for slot in range(len(LIMITS)) if slot not in set(slots.values()))
        for limit in policy.limits:
            if limit.name not in slots:
                slots[limit.name] = slot = next(free)
                self.segment.forget(slot)
        self.engine.load(compile_policy(policy, slots, LARGEST_PACKET))
        self.model.load(policy, slots)
        self.policy, self.slots = policy, slots

    def scale(self, change: Scale) -> None:
        if change.limit in self.slots:
            self.segment.set_scale(self.slots[change.limit], change.priority, change.factor)
            self.model.set_scale(change.limit, change.priority, change.factor)

    def run(self, traffic: Traffic) -> None:
        choose = random.Random(traffic.seed)
        for pause, number, message in traffic.messages(len(self.clients), self.policy):
            self.clock += pause
            self.seconds = self.clock / 1e9  # as a worker has it
            self.now = int(self.seconds * 1e9)
            self.acknowledge(choose)
            client, subject = self.clients[number], self.subjects[number]
            if message.event is Event.WILL:
                self.compare_will_delay(client, subject, message)
            if message.event is Event.CONNECT and message.qos == Stage.EARLY:
                client, subject = client.stranger, self.strangers[number]
            expected = self.model.decide(client, message, self.now)
            decided = self.decide(subject, message, expected)
            assert decided == expected, (client, message, self.policy)
            event(f"{message.event.name}: {expected.action.name}, by window: {expected.by_window}")
            event(f"{message.event.name}: windows: {len(expected.taken)}")
            if expected.queue is not None:
                self.delay(expected, subject, choose)

    def ask(self, subject: Subject, message: Message) -> Verdict:
        """What the engine says, by the function for such a message."""
        if message.event is Event.CONNECT:
            late = message.qos == Stage.LATE
            turn, held = int(message.turn), message.held
            self.engine.decide_connect(subject, late, message.packet, self.seconds, turn, held, message.ask, held)
            return self.engine.last()
        if message.event is Event.AUTH_FAILURE:
            self.engine.decide_failure(subject, self.seconds)
            return self.engine.last()
        if message.event in DOWN:
            self.ask_down(subject, message)
            return self.engine.last()
        return self.engine.judge(
            subject,
            message.topic.encode(),
            message.qos,
            message.retain,
            message.packet,
            message.payload,
            message.again,
            message.event,
            now_ns=self.now,
            turn=int(message.turn),
            held=message.held,
            owed=message.owed,
            ask=message.ask,
        )

    def ask_down(self, subject: Subject, message: Message) -> None:
        """The same for what subscribers ask for and get, for wills and for any packet."""
        engine, topic, now, turn = self.engine, message.topic.encode(), self.seconds, int(message.turn)
        sizes = message.packet, message.payload
        match message.event:
            case Event.SUBSCRIBE:
                engine.decide_subscribe(subject, topic, now, turn, message.held, message.ask, message.again)
            case Event.DELIVER:
                what = (b"-" + topic + b"-", 1, 1 + len(topic), message.qos, message.retain, *sizes, now, turn)
                engine.decide_deliver(subject, *what, message.held, message.owed, message.ask, message.again)
            case Event.WILL:
                will = topic, message.qos, message.retain
                engine.decide_will(subject, *will, *sizes, now, turn, message.held, message.ask)
            case _:
                engine.decide_packet(subject, message.packet, now, turn, message.held, message.ask)

    def compare_will_delay(self, client: Client, subject: Subject, message: Message) -> None:
        """What is asked before a will is decided."""
        delay = self.engine.will_delay(subject, message.topic.encode(), message.qos, message.retain)
        assert delay == self.model.will_delay(client, message)

    def decide(self, subject: Subject, message: Message, expected: Decision) -> Decision:
        """The same as the model would say it; queues have the names that are expected, as long as they keep them."""
        verdict = self.ask(subject, message)
        assert not verdict.crowd
        if expected.conflates and not verdict.limit:  # it was only asked about
            assert self.engine.slot in self.slots.values()
        else:
            assert self.engine.slot == self.slots.get(verdict.limit, -1)
        places = places_of(self.engine.taken())
        delayed = verdict.action == "delay"
        decided = Decision(
            Action[verdict.action.upper()],
            verdict.limit,
            round(verdict.wait * 1e9),
            verdict.matched,
            verdict.by_size,
            self.engine.by_window,
            expected.queue if delayed and self.is_called(expected.queue, self.engine.queue) else None,
            round(self.engine.max_delay * 1e9) if delayed else 0,
            Action(self.engine.then) if delayed else Action.PASS,
            expected.taken if len(places) == len(expected.taken) else (),
            bool(places) and self.engine.shares,
            (delayed or verdict.action == "pass") and self.engine.conflates,
            self.engine.max_qos,
        )
        if places:
            self.in_flight.append((places, expected.taken))
        return decided

    def is_called(self, queue: Queue | None, key: int) -> bool:
        """Whether the engine calls a queue so, and no other."""
        known = {name: one for one, name in self.keys.items()}
        return queue is not None and self.keys.setdefault(queue, key) == key and known.get(key, queue) == queue

    def acknowledge(self, choose: random.Random) -> None:
        """Now and then a message leaves its windows."""
        if self.in_flight and choose.random() < 0.4:
            places, windows = self.in_flight.pop(choose.randrange(len(self.in_flight)))
            for place, window in zip(places, windows, strict=True):
                assert self.is_called(window, self.engine.free(place))
                self.model.free(window)

    def delay(self, decision: Decision, subject: Subject, choose: random.Random) -> None:
        """Now and then a message waits where it has been told to, another one waits no longer, or has for too long."""
        assert decision.queue is not None
        if choose.random() < 0.3 and decision.queue not in (*self.waiting, model.ITSELF):
            if self.engine.wait_for(self.keys[decision.queue], 1):
                self.model.wait_for(decision.queue, 1)
                self.waiting.append(decision.queue)
            else:  # rarely two keys have one place
                assert self.waiting
        if choose.random() < 0.3:
            self.engine.late(subject, decision.then, self.seconds)
            self.model.late(decision.limit, decision.then)
        if self.waiting and choose.random() < 0.4:
            queue = self.waiting.pop(choose.randrange(len(self.waiting)))
            assert self.engine.wait_for(self.keys[queue], 0)
            self.model.wait_for(queue, 0)

    def compare_tallies(self) -> None:
        for name, slot in self.slots.items():
            counted = dict(zip(TALLIES, self.segment.tallies(slot), strict=True))
            assert counted == {what: self.model.tallies[name, what] for what in TALLIES}, name


def places_of(taken: int | tuple[int, ...] | None) -> list[int]:
    return [] if taken is None else [taken] if isinstance(taken, int) else list(taken)


phases = st.tuples(st.none() | policies | arrivals | subscribers, st.lists(scales, max_size=3), traffic)
some_clients = st.lists(clients, min_size=1, max_size=5)


@settings(untimed, max_examples=100)
@given(policies, some_clients, traffic)
def test_one_policy(policy: Policy, clients: list[Client], messages: Traffic) -> None:
    pair = Pair(clients)
    pair.load(policy)
    pair.run(replace(messages, count=8 * messages.count))
    pair.compare_tallies()


@settings(untimed, max_examples=100)
@given(subscribers, some_clients, traffic)
def test_limits_on_subscribers_wills_and_packets(policy: Policy, clients: list[Client], messages: Traffic) -> None:
    pair = Pair(clients)
    pair.load(policy)
    pair.run(replace(messages, count=8 * messages.count))
    pair.compare_tallies()


@settings(untimed, max_examples=100)
@given(arrivals, some_clients, traffic)
def test_limits_on_who_comes(policy: Policy, clients: list[Client], messages: Traffic) -> None:
    pair = Pair(clients)
    pair.load(policy)
    pair.run(replace(messages, count=8 * messages.count))
    pair.compare_tallies()


@settings(untimed, max_examples=100)
@given(policies, some_clients, st.lists(phases, min_size=1, max_size=4))
def test_reloads_and_scale_factors_between_messages(
    policy: Policy, clients: list[Client], phases: list[tuple[Policy | None, list[Scale], Traffic]]
) -> None:
    pair = Pair(clients)
    pair.load(policy)
    for other, changes, messages in phases:
        if other is not None:
            pair.load(other)
        for change in changes:
            pair.scale(change)
        pair.run(messages)
        pair.compare_tallies()
