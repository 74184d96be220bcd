"""The engine decides as the model does, message by message: two ways of saying the same rules."""

from dataclasses import dataclass, replace

from hypothesis import event, given, settings
from hypothesis import strategies as st

from policies import LARGEST_PACKET, LIMITS, Traffic, clients, policies, traffic
from strategies import untimed
from support.engine_model import Client, Decision, Model
from support.segments import segment
from tidegate.engine.binding import TALLIES, Engine
from tidegate.policy.compile import compile_policy
from tidegate.policy.model import Action, Policy, Priority

WORDS = 1 << 24
"""So many that no key ever lacks a bucket of its own: what a crowd does is test_crowds.py's matter."""
START = 10**12


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
        self.now = START
        self.policy = Policy()
        self.slots: dict[str, int] = {}

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
        for pause, number, message in traffic.messages(len(self.clients), self.policy):
            self.now += pause
            expected = self.model.decide(self.clients[number], message, self.now)
            verdict = self.engine.judge(
                self.subjects[number],
                message.topic.encode(),
                message.qos,
                message.retain,
                message.packet,
                message.payload,
                message.again,
                message.event,
                now_ns=self.now,
            )
            decided = Decision(
                Action[verdict.action.upper()],
                verdict.limit,
                round(verdict.wait * 1e9),
                verdict.matched,
                verdict.by_size,
            )
            assert not verdict.crowd
            assert decided == expected, (self.clients[number], message, self.policy)
            event(expected.action.name)

    def compare_tallies(self) -> None:
        for name, slot in self.slots.items():
            counted = dict(zip(TALLIES, self.segment.tallies(slot), strict=True))
            assert counted == {what: self.model.tallies[name, what] for what in TALLIES}, name


phases = st.tuples(st.none() | policies, st.lists(scales, max_size=3), traffic)
some_clients = st.lists(clients, min_size=1, max_size=5)


@settings(untimed, max_examples=100)
@given(policies, some_clients, traffic)
def test_one_policy(policy: Policy, clients: list[Client], messages: Traffic) -> None:
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
