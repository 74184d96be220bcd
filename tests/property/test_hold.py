"""Whatever clients send and whenever brokers answer: what is delayed keeps its order, and none is lost or doubled."""

import os
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from strategies import untimed
from support.crossing import KEEPALIVE, MOST_DELAY, OBSERVE, Peer, Scene, check_end, check_pace
from support.held import DELAY
from support.limits import limit, rate
from tidegate.gateway.connection import LONGEST_WAIT, STORE
from tidegate.policy.model import Action, ByClass, Cases, Key, KeyKind, Limit

SIZES = (1, 100, 30_000, STORE, 2 * STORE)
TOPICS = ("a", "b")
POOLS = st.sampled_from([50_000, 1 << 20])
"""Bytes for all of them."""
REFUSALS = (Cases(Action.REJECT, v3=Action.DROP), Cases(Action.DROP), Cases(Action.DISCONNECT))
PER = st.sampled_from([(Key(kind),) for kind in (KeyKind.ALL, KeyKind.CLIENT, KeyKind.IP, KeyKind.TOPIC)])


@st.composite
def limits(draw: st.DrawFn, number: int) -> Limit:
    few = st.integers(1, 4)
    what = draw(st.sampled_from(["rate", "rate", "concurrent", "bandwidth"]))
    how_much: dict[str, object] = {
        "rate": rate(draw(few), draw(few), draw(st.sampled_from([1, 10, 10]))),
        "concurrent": ByClass(draw(few)),
        "bandwidth": rate(40_000, draw(st.sampled_from([10, 100_000]))),
    }
    return limit(
        f"limit-{number}",
        draw(st.sampled_from([DELAY, DELAY, DELAY, OBSERVE, *REFUSALS])),
        per=draw(PER),
        topic=draw(st.sampled_from([(), ("a",)])),
        max_delay=draw(st.sampled_from([0.5, LONGEST_WAIT, MOST_DELAY])),
        then=draw(st.sampled_from(REFUSALS)),
        **{what: how_much[what]},
    )


POLICIES = st.integers(1, 3).flatmap(lambda count: st.tuples(*(limits(number) for number in range(count))))
CLIENTS = st.lists(
    st.tuples(st.sampled_from([4, 5]), st.sampled_from([0, 0, KEEPALIVE]), st.integers(1, 2)), min_size=2, max_size=3
)
Step = Callable[[Scene, Peer], object]


def sending(messages: list[tuple[str, int, int, bool]], hesitates: int = 0) -> Step:
    """`hesitates`: bytes of the last that do not arrive at once."""

    def send(scene: Scene, peer: Peer) -> None:
        for topic, qos, size, alias in messages:
            scene.send(peer, topic, qos, size, alias)
        if hesitates:
            scene.hesitate(peer, hesitates)

    return send


SENT = st.tuples(st.sampled_from(TOPICS), st.integers(0, 2), st.sampled_from(SIZES), st.booleans())
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(sending, st.lists(SENT, min_size=1, max_size=4), st.sampled_from([0, 0, 1, STORE])),
    st.builds(sending, st.just([("b", 0, 2 * STORE, False)]), st.just(STORE)),
    st.builds(
        sending,
        st.lists(st.tuples(st.just("a"), st.integers(0, 2), st.just(1), st.just(False)), min_size=3, max_size=6),
    ),
    st.builds(lambda refuse: lambda scene, peer: scene.answer(peer, refuse), st.booleans()),
    st.just(lambda scene, peer: scene.release(peer)),
    st.just(lambda scene, peer: scene.arrive(peer)),
    st.builds(lambda is_blocked: lambda scene, peer: scene.block(peer, is_blocked), st.booleans()),
    st.builds(lambda seconds: lambda scene, _: scene.wait(seconds), st.sampled_from([0.01, 0.3, 1.0, 6.0])),
)
REPEATS: st.SearchStrategy[Step] = st.builds(
    lambda which: lambda scene, peer: scene.repeat(peer, which), st.integers(0, 9)
)
RELOADS: st.SearchStrategy[Step] = st.builds(lambda limits: lambda scene, _: scene.reload(limits), POLICIES)
ENDS: st.SearchStrategy[Step] = st.one_of(
    st.just(lambda scene, peer: scene.leave(peer)),
    st.just(lambda scene, peer: scene.leave(peer)),
    st.just(lambda scene, peer: scene.close(peer)),
    st.just(lambda scene, peer: scene.lose(peer)),
    st.just(lambda scene, peer: scene.cut_off(peer)),
)
WHO = st.integers(0, 2)


def play_through(scene: Scene, steps: list[tuple[int, Step]]) -> None:
    for who, step in steps:
        step(scene, scene.peers[who % len(scene.peers)])
        scene.cross()
    scene.finish()
    check_end(scene)
    check_pace(scene)
    os.close(scene.host.fd)


SCENES = st.builds(Scene, POLICIES, CLIENTS, POOLS)


@given(SCENES, st.lists(st.tuples(WHO, STEPS), min_size=10, max_size=30))
@untimed
def test_nothing_is_lost_or_doubled(scene: Scene, steps: list[tuple[int, Step]]) -> None:
    play_through(scene, steps)


@given(
    SCENES,
    st.lists(st.tuples(WHO, STEPS | REPEATS | RELOADS), min_size=5, max_size=20),
    st.lists(st.tuples(WHO, ENDS), min_size=1, max_size=3),
    st.lists(st.tuples(WHO, STEPS), max_size=10),
)
@untimed
def test_nor_when_some_of_them_end(
    scene: Scene, before: list[tuple[int, Step]], ends: list[tuple[int, Step]], behind: list[tuple[int, Step]]
) -> None:
    play_through(scene, before + ends + behind)
