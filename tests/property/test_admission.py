"""Many clients at one worker's door, in any order of events: nobody waits for ever, and every place is given back."""

import os
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from ipaddress import IPv4Address

from hypothesis import event, given, settings
from hypothesis import strategies as st

from strategies import untimed
from support.engine_model import Client
from support.limits import host
from support.playbook import Playbook, connack, connect, door_of, waiting_room
from tidegate.engine.binding import Engine
from tidegate.engine.counters import ROW_WORDS, WAITING_CONNECTIONS, Counters
from tidegate.gateway.states import State
from tidegate.gateway.waiting import NEVER
from tidegate.policy.compile import assign_slots, compile_policy
from tidegate.policy.model import Action, ByClass, Cases, Event, Key, KeyKind, Limit, Policy, Rate

ADDRESSES = tuple(IPv4Address(f"192.0.2.{number}") for number in range(1, 4))
NAMES = ("a", "b")
LISTENER = "tcp://127.0.0.1:1883"  # that of `Playbook`
ROOM = 3
MOST_ROUNDS = 10_000
"""In which all that is due at one time is done, or it never is."""
BY_ALL = (Key(KeyKind.ALL),)
BY_CLIENT = (Key(KeyKind.CLIENT), Key(KeyKind.IP))
WAITS = (State.ARRIVED, State.QUEUED)
OUTSIDE = (State.ARRIVED, State.TURNED_AWAY, State.CLOSED)

NONE: ByClass[tuple[Rate, ...]] = ByClass()
paces = [Rate(number, Fraction(1), 2) for number in (1, 3)]
rates: st.SearchStrategy[ByClass[tuple[Rate, ...]]] = st.sampled_from([NONE, *(ByClass((pace,)) for pace in paces)])
refusing = st.sampled_from((*(Action.DELAY,) * 5, Action.REJECT, Action.DROP, Action.BAN))
thens = st.sampled_from((Action.REJECT, Action.DROP)).map(Cases)
LONGEST = 20.0
delays = st.sampled_from((0.0, 0.5, 3.0, LONGEST))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """The two limits on open connections are in all of them, so whoever came in under one counts in the others."""
    per = draw(st.sampled_from(((Key(KeyKind.IP),), BY_ALL, BY_CLIENT)))
    pace = Limit("pace", Event.CONNECT, Cases(draw(refusing | st.just(Action.OBSERVE))), per=per, rate=draw(rates))
    places, names = (
        Limit(
            name,
            Event.CONNECT,
            Cases(draw(refusing)),
            per=by,
            rate=draw(rates),
            concurrent=ByClass(draw(st.integers(1, most))),
            max_delay=draw(delays),
            then=draw(thens),
        )
        for name, by, most in (("places", BY_ALL, 6), ("names", BY_CLIENT, 2))
    )
    return Policy(limits=(places, names, pace) if pace.rate.default else (places, names))


class World:
    """A worker, its clients, and what is known of them without it."""

    def __init__(self, policy: Policy) -> None:
        self.host = host(*policy.limits, workers=2)
        os.close(self.host.fd)  # its memory stays mapped
        self.engine = Engine(self.host.segment, 0)
        self.probe = Engine(self.host.segment, 1)
        """Another process, that asks for places and nothing else."""
        self.counters = Counters(memoryview(bytearray(ROW_WORDS * 8)).cast("Q"), 0)
        self.waiting = waiting_room(self.engine, self.counters)
        self.door = door_of(self.waiting, ROOM)
        self.now = 1000.0
        self.plays: list[Playbook] = []
        self.whose: dict[Playbook, Client] = {}
        self.asked: set[Playbook] = set()
        """Whose upstream is to be opened."""
        self.upstreams: set[Playbook] = set()
        self.inside: set[Playbook] = set()
        """Who has ever come in."""
        self.accepted: set[Playbook] = set()
        self.waited: dict[Playbook, float] = {}
        """Seconds."""
        self.seen: set[State] = set()
        self.lag = 0.0
        """Seconds in which the worker was late."""
        self.reload(policy)

    # Steps

    def step(self, what: str, who: int, number: int, policies: list[Policy]) -> None:
        if what in ("come", "enter"):
            address = ADDRESSES[number // 2 % 2]
            self.come(Client(NAMES[number % 2], address=address, listener=LISTENER, version=4 + who % 2))
            for more in ("greet", "opened", "accept") if what == "enter" else ():
                self.act(more, self.plays[-1], 0)
                self.look()
        elif what == "wait":
            self.wait(self.now + number / 10)
        elif what == "lag":
            self.lag += number / 10
            self.set_clock(self.now + number / 10)
        elif what == "reload":
            self.reload(policies[number % len(policies)])
        elif self.plays:
            self.act(what, self.plays[who % len(self.plays)], number)
        self.look()

    def come(self, client: Client) -> None:
        assert client.address is not None
        packed = client.address.packed
        play = Playbook(engine=self.engine, waiting=self.waiting, door=self.door, address=packed, now=self.now)
        self.plays.append(play)
        self.whose[play] = client

    def act(self, what: str, play: Playbook, number: int) -> None:
        connection, client = play.connection, self.whose[play]
        if what == "greet":
            play.client(connect(client.version, number, client_id=client.client_id))
        elif what == "go":
            connection.client_closed()
        elif what == "shut":
            connection.shut_down()
        elif what == "opened" and play in self.asked:
            self.asked.remove(play)
            self.upstreams.add(play)
            play.upstream()
        elif what == "failed" and play in self.asked:
            self.asked.remove(play)
            connection.upstream_failed()
        elif what in ("accept", "refuse") and play in self.upstreams and play.state is State.OPENING:
            play.broker(connack(client.version, 0 if what == "accept" else 5 if client.version == 4 else 0x87))
        elif what == "lost" and play in self.upstreams:
            self.upstreams.remove(play)
            connection.broker_closed(bool(number % 2))

    def reload(self, policy: Policy) -> None:
        self.host.replace(policy)
        self.policy = policy
        self.engine.load(self.host.segment.policy())
        windows = Policy(limits=only_places(policy))
        self.probe.load(compile_policy(windows, assign_slots(windows), 1 << 20))
        self.waiting.reconsider(self.now)

    def set_clock(self, now: float) -> None:
        for play in self.plays:
            if play.state in WAITS:
                self.waited[play] = self.waited.get(play, 0.0) + now - self.now
        self.now = now
        for play in self.plays:
            play.now = now

    def wait(self, until: float) -> None:
        """Do all that is due, when it is."""
        for _ in range(MOST_ROUNDS):
            due = min([self.waiting.next_at, *(play.connection.wake_at or NEVER for play in self.plays)])
            if due > until:
                break
            self.set_clock(max(due, self.now))
            if self.waiting.next_at <= self.now:
                self.waiting.run(self.now)
            for play in self.plays:
                if 0.0 < play.connection.wake_at <= self.now:
                    play.connection.tick(self.now)
            self.look()
        else:
            raise AssertionError("it never ends")
        self.set_clock(until)
        assert all(seconds <= LONGEST + self.lag + 1e-6 for seconds in self.waited.values())

    # What must hold

    def look(self) -> None:
        for play in self.plays:
            commands = play.take()[2]
            assert ("end" not in commands) or play.state is State.CLOSED
            if play.state is State.CLOSED:
                self.asked.discard(play)
            elif "open" in commands:
                assert play not in self.asked | self.upstreams, "opened twice"
                self.asked.add(play)
            if play.state not in OUTSIDE:
                self.inside.add(play)
            if play.state is State.OPEN:
                self.accepted.add(play)
                assert play.connection.wake_at >= 0.0
            elif play.state is not State.CLOSED:
                assert play.connection.wake_at > 0.0, "nothing would ever end it"
        states = Counter(play.state for play in self.plays)
        self.seen |= set(states)
        waiting = sum(states[state] for state in WAITS)
        assert self.door.room.count == self.counters.value(WAITING_CONNECTIONS) == waiting <= ROOM
        assert self.door.telling == states[State.TURNED_AWAY]
        if not waiting:
            assert self.waiting.next_at == NEVER
        self.compare_windows()

    def compare_windows(self) -> None:
        """There is no place for one more exactly when as many are open as may be."""
        inside = 0
        names = Counter[Client]()
        for play in self.plays:
            inside += play.state not in OUTSIDE
            names[replace(self.whose[play], version=4)] += play in self.accepted and play.state is not State.CLOSED
        assert self.is_full("places", Client("", None, ADDRESSES[0], LISTENER, 0)) == (inside >= self.number("places"))
        for client, count in names.items():
            assert self.is_full("names", client) == (count >= self.number("names"))

    def number(self, name: str) -> int:
        found = next(limit.concurrent.default for limit in self.policy.limits if limit.name == name)
        assert found is not None
        return found

    def is_full(self, name: str, client: Client) -> bool:
        action = self.probe.decide_connect(client.subject(), name == "names", 0, self.now, ask=True)
        return action != Action.PASS

    def count(self) -> None:
        """Nobody is counted more than once by a limit."""
        for slot, least in (0, len(self.inside)), (1, len(self.accepted)):
            passed, _, delayed, *_ = self.host.segment.tallies(slot)
            assert least <= passed <= len(self.plays)
            assert delayed <= len(self.plays)

    def end(self) -> None:
        for play in self.plays:
            play.connection.shut_down()
        self.wait(self.now + 1.0)
        assert (self.door.room.count, self.door.telling, self.waiting.next_at) == (0, 0, NEVER)
        self.reload(Policy(limits=only_places(self.policy, 2)))
        for address in ADDRESSES:
            self.come(Client("new", address=address))
        states = [play.state for play in self.plays[-3:]]
        assert states == [State.GREETING, State.GREETING, State.TURNED_AWAY], "as if nobody had ever been here"


def only_places(policy: Policy, number: int | None = None) -> tuple[Limit, ...]:
    """Its limits on open connections, which refuse, and nothing else."""
    return tuple(
        replace(
            limit,
            rate=NONE,
            on_excess=Cases(Action.REJECT),
            concurrent=limit.concurrent if number is None else ByClass(number),
        )
        for limit in policy.limits[:2]
    )


STEPS = (
    *("enter",) * 6,
    *("come", "come", "greet", "greet", "opened", "opened", "accept", "accept", "refuse", "failed"),
    *("go", "lost", "shut", "wait", "wait", "lag", "reload"),
)
steps = st.tuples(st.sampled_from(STEPS), st.integers(0, 9), st.integers(0, 60))


@settings(untimed, max_examples=200)
@given(st.lists(policies(), min_size=1, max_size=3), st.lists(steps, min_size=25, max_size=80))
def test_every_client_comes_in_or_is_refused_and_leaves_nothing(
    policies: list[Policy], many: list[tuple[str, int, int]]
) -> None:
    world = World(policies[0])
    for what, who, number in many:
        world.step(what, who, number, policies)
    for state in world.seen:
        event(f"seen: {state.name}")
    world.count()
    world.end()
