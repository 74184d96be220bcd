"""Clients under a limit that delays, on a given clock: what goes on to the broker and when, and what they are told."""

from collections.abc import Iterator

from support.limits import engine, limit, rate
from support.playbook import Playbook, publish, waiting_room
from support.wire import split
from tidegate.engine.counters import HOLD_DISCARDED, Discard
from tidegate.gateway.waiting import NEVER
from tidegate.mqtt.ack import Ack
from tidegate.mqtt.framing import Frame
from tidegate.mqtt.session import Disconnect
from tidegate.policy.model import Action, Cases, Key, KeyKind, Limit

MOST_STEPS = 100_000
"""What is due that often comes no further."""
DELAY, DROP, REJECT = Cases(Action.DELAY), Cases(Action.DROP), Cases(Action.REJECT)
ALL = (Key(KeyKind.ALL),)
LEAVE = b"\xe0\x00"


def slow(amount: int = 1, burst: int | None = None, period: int = 1, **other: object) -> Limit:
    """A limit that delays: so many per `period` seconds for each client."""
    return limit("slow", DELAY, rate=rate(amount, burst, period), **other)


STUCK = slow(period=3600)
"""One message passes, the others wait as long as they may: five seconds."""
DEFAULT = slow().then
"""What becomes of them then, unless the limit says otherwise."""


def numbered(count: int, topic: str = "t", first: int = 0, **other: object) -> list[bytes]:
    """Messages that are told apart by what they say."""
    return [publish(topic, b"%d" % (first + number), **other) for number in range(count)]  # type: ignore[arg-type]


def opened(*limits: Limit, version: int = 4, room: dict[str, int] | None = None, **other: object) -> Playbook:
    """A client under these limits; `room`: the bounds of its hold."""
    one = engine(*limits)
    play = Playbook.opened(version, engine=one, **other)  # type: ignore[arg-type]
    if room is not None:
        waiting = waiting_room(one, play.counters, **room)
        play = Playbook.opened(version, engine=one, waiting=waiting, **other)  # type: ignore[arg-type]
    return play


def acks(wire: bytes, version: int = 5) -> list[tuple[int, int, int]]:
    """Type, identifier and reason of each acknowledgement."""
    frame, ack, found = Frame(), Ack(), []
    for packet in split(wire):
        assert frame.read(packet, 0)
        ack.read(packet, 0, frame.body, frame.end, version)
        found.append((packet[0] >> 4, ack.packet_id, ack.reason))
    return found


def dismissal(wire: bytes) -> Disconnect:
    """The one DISCONNECT in `wire`."""
    frame = Frame()
    assert frame.read(wire, 0)
    assert frame.end == len(wire)
    return Disconnect.read(wire, 0, frame.body, frame.end, 5, from_client=False)


def discarded(play: Playbook) -> dict[str, int]:
    """Held messages that were given up, by reason."""
    counts = {one.name: play.counters.value(HOLD_DISCARDED + one) for one in Discard}
    return {name: count for name, count in counts.items() if count}


def due(play: Playbook) -> float:
    """When something is to be done for a connection; NEVER."""
    waiting = NEVER if play.waiting is None else play.waiting.next_at
    return min(waiting, play.connection.wake_at or NEVER)


def steps(until: float, *plays: Playbook) -> Iterator[float]:
    """Do what is due until then, each time yielding when that was; in the end it is `until`."""
    for _ in range(MOST_STEPS):
        now = min((due(play) for play in plays), default=NEVER)
        if now > until:
            break
        for play in plays:
            play.at(max(now, play.now))
        yield now
    else:
        raise AssertionError("the same is due for ever")
    for play in plays:
        play.at(until)


def flow(until: float, *plays: Playbook) -> list[tuple[float, bytes]]:
    """The packets that brokers get until then, with the second, to a millisecond. What is due by then is done."""
    got = [(play.now, packet) for play in plays for packet in split(play.take()[1])]
    for now in steps(until, *plays):
        got += [(round(now, 3), packet) for play in plays for packet in split(play.take()[1])]
    return got
