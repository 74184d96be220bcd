"""Whatever a client sends and however it is cut: under a limit on packets that passes which a bucket says, once."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from strategies import untimed
from support.held import due, flow, opened, slow
from support.paced import paced
from support.playbook import Playbook, publish
from tidegate.engine.binding import TALLIES
from tidegate.engine.counters import HELD_MESSAGES, HOLD_BYTES
from tidegate.gateway.connection import STORE
from tidegate.gateway.states import State
from tidegate.mqtt.ack import write_ack
from tidegate.mqtt.reasons import PacketType
from tidegate.mqtt.session import PINGREQ
from tidegate.mqtt.subscribe import Subscribe, Subscription, Unsubscribe
from tidegate.policy.model import Limit

EIGHTH = 0.125
"""Seconds: all times are multiples of it, so that the bucket here counts without an error."""
LONG = 1e6
"""Seconds: nothing waits for so long."""
LEAVE = b"\xe0\x00"


@st.composite
def packets(draw: st.DrawFn, number: int, large: bool = False) -> bytes:
    """A packet that can be told from all others, but for pings."""
    kind = draw(st.sampled_from(["publish", "publish", "ping", "ack", "release", "subscribe", "unsubscribe"]))
    if kind == "publish":
        size = draw(st.sampled_from([0, 1, 130, *([STORE - 20, STORE + 1, 3 * STORE] if large else [])]))
        return publish(draw(st.sampled_from("ab")), b"%d" % number + bytes(size), draw(st.integers(0, 1)), number)
    if kind == "ack":
        return write_ack(draw(st.sampled_from([PacketType.PUBACK, PacketType.PUBREC, PacketType.PUBCOMP])), number)
    if kind == "release":
        return write_ack(PacketType.PUBREL, number)
    if kind == "subscribe":
        return Subscribe(number, [Subscription("a/#", 1)]).write(4)
    return Unsubscribe(number, ["a/#"]).write(4) if kind == "unsubscribe" else PINGREQ


@dataclass
class Bucket:
    """As `paced` writes it: one packet per `pause`, `burst` at once. Times are eighths of a second."""

    pause: int
    burst: int
    full_at: int = 0

    def take(self, now: int) -> int:
        """When a packet passes that is the next from `now` on."""
        now = max(now, self.full_at - (self.burst - 1) * self.pause)
        self.full_at = max(self.full_at, now) + self.pause
        return now

    def limit(self) -> Limit:
        return paced(8, self.burst, self.pause, max_delay=LONG)


BUCKETS = st.builds(Bucket, st.integers(1, 12), st.integers(1, 5))


def passed(play: Playbook) -> int:
    """How many packets the first limit has let pass."""
    assert play.waiting is not None
    return play.waiting.engine.segment.tallies(0)[TALLIES.index("passed")]


def sent(data: st.DataObject, wire: bytes, longest: int) -> list[tuple[int, bytes]]:
    """Cut into reads, each with the eighth of a second at which it comes."""
    places = data.draw(st.lists(st.integers(0, 1 << 20), max_size=9))
    now, reads = 0, []
    for at, end in pairwise(sorted({0, len(wire), *(place % len(wire) for place in places)})):
        now += data.draw(st.integers(0, longest))
        reads.append((now, wire[at:end]))
    return reads


@given(BUCKETS, st.data())
@untimed
def test_what_passes_and_when(bucket: Bucket, data: st.DataObject) -> None:
    wanted = [data.draw(packets(number)) for number in range(1, data.draw(st.integers(1, 12)) + 1)]
    limit = bucket.limit()
    leaves = data.draw(st.booleans())
    reads = sent(data, b"".join(wanted) + (LEAVE if leaves else b""), 12)
    expected, end, before = [], 0, 0
    for packet in wanted:
        end += len(packet)
        sizes = accumulate(len(read) for _, read in reads)
        come = next(now for (now, _), size in zip(reads, sizes, strict=True) if size >= end)
        before = bucket.take(max(come, before))
        expected.append((before * EIGHTH, packet))
    if leaves:
        expected.append((max(reads[-1][0], before) * EIGHTH, LEAVE))
    play = opened(limit)
    got: list[tuple[float, bytes]] = []
    for now, read in reads:
        got += flow(now * EIGHTH, play)
        play.client(read)
    got += flow(max(expected)[0] + EIGHTH, play)
    assert got == expected
    assert passed(play) == len(wanted)
    assert (play.counters.value(HELD_MESSAGES), play.counters.value(HOLD_BYTES)) == (0, 0)
    assert play.state is (State.LEAVING if leaves else State.OPEN)


@given(BUCKETS, st.integers(1, 3), st.data())
@untimed
def test_none_is_lost_or_charged_twice_whatever_limits_on_publish_say(
    bucket: Bucket, messages: int, data: st.DataObject
) -> None:
    wanted = [data.draw(packets(number, large=True)) for number in range(1, data.draw(st.integers(1, 12)) + 1)]
    play = opened(bucket.limit(), slow(2, 1, max_delay=LONG), room={"messages": messages})
    got = b""
    for now, read in sent(data, b"".join(wanted), 4):
        got += b"".join(packet for _, packet in flow(now * EIGHTH, play))
        play.client(read)
    got += b"".join(packet for _, packet in flow(LONG / 2, play))
    assert sorted(got) == sorted(b"".join(wanted))
    assert all(got.count(packet) == wanted.count(packet) for packet in wanted if packet != PINGREQ)
    assert passed(play) == len(wanted)
    assert (play.counters.value(HELD_MESSAGES), play.counters.value(HOLD_BYTES)) == (0, 0)
    assert due(play) > LONG / 2
