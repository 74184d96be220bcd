"""`then`: what becomes of a message that was delayed for too long, for each action, version and QoS."""

import time
from collections.abc import Iterator

import pytest

from support import wire
from support.limited import (
    ACK,
    Limited,
    Watcher,
    acks,
    answer_of,
    answers,
    burst,
    join,
    limited,
    lines,
    pubrels,
    told,
    unique,
)
from support.raw import CLOSED
from support.wait import until

MAX_DELAY = 0.2
"""Seconds."""
V3, V5 = "3", "5"
DISCARDED = "discarded"
"""Without a word; the connection lives on."""
TAKEN = "taken"
"""Discarded, and acknowledged as if it had arrived."""
REFUSED = "refused"
"""Answered with 0x97, and why."""
CLOSED_ON = "closed"
"""The connection ends, in MQTT 5 with 0x96, and the will is sent."""

# `then` as written, the version, and what happens with QoS 0, 1 and 2.
TABLE = [
    ("", V3, (DISCARDED, CLOSED_ON, CLOSED_ON)),
    ("", V5, (DISCARDED, REFUSED, REFUSED)),
    ('"drop"', V3, (DISCARDED, TAKEN, TAKEN)),
    ('"drop"', V5, (DISCARDED, TAKEN, TAKEN)),
    ('"reject"', V3, (DISCARDED, CLOSED_ON, CLOSED_ON)),
    ('"reject"', V5, (DISCARDED, REFUSED, REFUSED)),
    ('"disconnect"', V3, (CLOSED_ON, CLOSED_ON, CLOSED_ON)),
    ('"disconnect"', V5, (CLOSED_ON, CLOSED_ON, CLOSED_ON)),
    ('{ v3 = "drop", default = "reject" }', V3, (DISCARDED, TAKEN, TAKEN)),
    ('{ v3 = "drop", default = "reject" }', V5, (DISCARDED, REFUSED, REFUSED)),
    ('{ v3 = "disconnect", default = "reject" }', V3, (CLOSED_ON, CLOSED_ON, CLOSED_ON)),
    ('{ v3 = "disconnect", default = "reject" }', V5, (DISCARDED, REFUSED, REFUSED)),
    ('{ v5 = "disconnect", default = "drop" }', V3, (DISCARDED, TAKEN, TAKEN)),
    ('{ v5 = "disconnect", default = "drop" }', V5, (CLOSED_ON, CLOSED_ON, CLOSED_ON)),
    ('{ qos0 = "disconnect", qos1 = "drop", default = "reject" }', V3, (CLOSED_ON, TAKEN, CLOSED_ON)),
    ('{ qos0 = "disconnect", qos1 = "drop", default = "reject" }', V5, (CLOSED_ON, TAKEN, REFUSED)),
    ('{ qos0 = "drop", qos2 = "disconnect", v5 = "reject", default = "drop" }', V3, (DISCARDED, TAKEN, CLOSED_ON)),
    ('{ qos0 = "drop", qos2 = "disconnect", v5 = "reject", default = "drop" }', V5, (DISCARDED, REFUSED, CLOSED_ON)),
]
NAMES = {then: f"then-{number}" for number, then in enumerate(dict.fromkeys(then for then, _, _ in TABLE))}
"""The limit with each `then`, and where it counts."""


def cases() -> Iterator[object]:
    """Each line for each of its versions and each QoS."""
    versions = {V3: {"3.1": wire.V31, "3.1.1": wire.V311}, V5: {"5": wire.V5}}
    for then, family, outcomes in TABLE:
        for name, version in versions[family].items():
            for qos, outcome in enumerate(outcomes):
                yield pytest.param(then, version, qos, outcome, id=f"{then or 'absent'}, {name}, QoS {qos}")


def policy() -> str:
    return (
        "".join(
            f'[[limit]]\nname = "{name}"\ntopic = "{name}/#"\nrate = "3/h burst 3"\nmax_delay = "{MAX_DELAY}s"\n'
            + (f"then = {then}\n" if then else "")
            for then, name in NAMES.items()
        )
        + '[[limit]]\nname = "sized"\ntopic = "sized/#"\nsize = "100B"\nmax_delay = "1h"\n'
    )


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Limited]:
    with limited(tmp_path_factory.mktemp("then"), policy()) as made:
        yield made


@pytest.mark.parametrize(("then", "version", "qos", "outcome"), list(cases()))
def test_what_waited_for_too_long(gateway: Limited, then: str, version: int, qos: int, outcome: str) -> None:
    limit = NAMES[then]
    topic = f"{limit}/{version}/{qos}"
    will = f"gone/{limit}/{version}/{qos}"

    def over() -> float:
        return sum(
            gateway.metric("tidegate_limited_total", limit=limit, action=action)
            for action in ("drop", "reject", "disconnect")
        )

    before = over()
    with (
        Watcher(gateway.broker, topic, will) as watcher,
        join(gateway.port, unique("c"), version, will=will) as client,
    ):
        begun = time.monotonic()
        client.send(burst(version, topic, 5, qos))
        assert lines(client, 3 if qos else 0) == acks(qos, 1, 3)
        if outcome == CLOSED_ON:
            ends = []
            while (data := client.read()) is not None:
                ends.append(data)
            assert [wire.tell(data, version) for data in ends] == (["DISCONNECT 0x96"] if version == wire.V5 else [])
            assert all(f"over limit {limit}: retry in ".encode() in data for data in ends)
            # Of QoS 2 the broker has three that nobody has released.
            assert len(watcher.messages_until(will)) == (3 if qos < 2 else 0)
        else:
            if outcome == DISCARDED:
                until(lambda: over() == before + 2, "both to be given up")
            for number in (4, 5) if outcome != DISCARDED else ():
                data = client.read()
                assert data is not None
                code = "0x97" if outcome == REFUSED else "0x00"
                assert wire.tell(data, version) == f"{ACK[qos]} id {number} {code}"
                if outcome == REFUSED:
                    answer = answer_of(data)
                    assert answer.text == f"over limit {limit}: retry in {answer.user['retry-after-ms']} ms"
            assert told(client) == []
            if qos == 2:
                taken = range(1, 6 if outcome == TAKEN else 4)
                client.send(pubrels(1, len(taken)))
                assert sorted(told(client)) == [f"PUBCOMP id {number} 0x00" for number in taken]
            assert len(watcher.messages()) == 3
        assert time.monotonic() - begun >= MAX_DELAY
    assert over() == before + (1 if outcome == CLOSED_ON else 2)
    until(lambda: gateway.held == 0, "nothing to wait any more")


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("size", [101, 100_000], ids=["kept", "streamed"])
def test_what_is_too_large_by_itself_does_not_wait(gateway: Limited, qos: int, size: int) -> None:
    topic = f"sized/{qos}/{size}"
    with Watcher(gateway.broker, topic) as watcher:
        for version in (wire.V311, wire.V5):
            with join(gateway.port, unique("c"), version) as client:
                client.send(burst(version, topic, 1, qos, payload=bytes(size)))
                if version < wire.V5 and qos:
                    assert client.until_closed() == [CLOSED]
                    continue
                seen = answers(client)
                assert [wire.tell(data, version) for data in seen] == [f"{ACK[qos]} id 1 0x97"] * (qos > 0)
                assert [answer_of(data).text for data in seen] == ["over limit sized: the message is too large"] * (
                    qos > 0
                )
        assert watcher.messages() == []
