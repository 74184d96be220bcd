"""Strangers come and go without end: the broker's memory is flat, as it is without the plugin.

Two brokers side by side, `plugged` with the plugin and `bare` without it, get the same for --seconds: clients with ever
new identifiers come in crowds of CROWD, of both versions, half of them with a will. Each publishes three messages on
topics of its own and asks for two subscriptions, either one more than it may; then one half leaves, and the other is
lost as on a failing network, so that wills are published, which have a limit too. One in ten is banned for what it
publishes, comes again with the next crowd, and must be refused. Every RELOAD_SECONDS both get SIGHUP, and the plugin's
policy is another then.

Those who are to be banned have no will: Mosquitto 2.0.11 loses 128 bytes for each CONNECT with a will that it refuses,
also without any plugin.

Private memory of both is read once a second. After a third of the time, in which tables fill and the allocator finds
its size, it must not grow any more: compared are medians of the first readings then and of the last. What the bare one
grows by meanwhile is left out.
"""

import dataclasses
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable

from .claims import Claim, at_most, exactly, none
from .peer import Peer, heard, leave
from .plugin_budget import QUICK_REPORTS
from .plugin_cost import BARE, PLUGGED
from .plugin_setting import Setting
from .plugin_sys import reported
from .stage import Stage, memory
from .targets import Broker

CROWD = 60
BANNED_EACH = 10
"""One in so many is banned, and as many come again."""
GOOD, BAD, AGAIN = "good", "bad", "again"
MESSAGES, SUBSCRIPTIONS = 3, 2
SIZE = 40
"""Bytes of a payload."""
RELOAD_SECONDS = 2.0
READING_SECONDS = 1.0
WARM_UP = 1 / 3
READINGS = 7
"""Of which a median is taken."""
ANSWER_SECONDS = 20.0
MOST_GROWTH = 256
"""KiB, in the time that is judged: eight bytes for each of 40,000 clients are more."""
OPTIONS = f"plugin_opt_authentication open\nplugin_opt_authorisation open\n{QUICK_REPORTS}"
DOES = {"talk": "rejected", "bad": "banned", "ask": "rejected", "last-words": "dropped"}
"""What each limit must have done in the end, or nothing has been shown."""


def policies() -> tuple[str, str]:
    """Two that take turns: another number for one limit, and in the second more limits and a class."""
    first = [
        _limit("talk", "publish", f"{MESSAGES - 1}/s", "reject", "client"),
        _limit("topics", "publish", "100/s", "drop", "topic"),
        _limit("bad", "publish", "1/s", "ban", "client", "ip", more=f'client_id = "{BAD}-*"'),
        _limit("ask", "subscribe", "6/min burst 1", "reject", "client"),
        _limit("come", "connect", "1000/s", "reject", "client", "ip"),
        _limit("last-words", "will", "10/s burst 10", "drop", "all"),
    ]
    more = [_limit(f"more-{number}", "publish", "1000/s", "drop", "client", "topic/2") for number in range(10)]
    by_class = _limit("by-class", "publish", "100/s", "reject", "client", more='class = "strangers"')
    second = ['[class.strangers]\nclient_id = "*-1*"\n', *more, by_class, *first]
    return "\n".join(first), "\n".join(second).replace("10/s burst 10", "9/s burst 9")


def _limit(name: str, event: str, rate: str, action: str, *per: str, more: str = "") -> str:
    counted = ", ".join(f'"{one}"' for one in per)
    return (
        f'[[limit]]\nname = "{name}"\non = "{event}"\nper = [{counted}]\nrate = "{rate}"\n'
        f'on_excess = "{action}"\n{more}\n'
    )


@dataclasses.dataclass
class Door:
    """One of the brokers, and what was seen of it."""

    broker: Broker
    kib: list[float] = dataclasses.field(default_factory=list)
    """Its private memory, by readings."""
    came: int = 0
    refused: Counter[str] = dataclasses.field(default_factory=Counter)
    """Those who were not let in, by what they had done."""
    let_in: int = 0
    """Those who were banned and came again."""

    def crowd(self, number: int) -> None:
        """Let one come, say what it has to, and go."""
        peers = [self._peer(number, one) for one in range(CROWD)]
        _until(peers, lambda peer: peer.accepted)
        for one, peer in enumerate(peers):
            if peer.closed:
                self.refused[AGAIN if _kind(one) == AGAIN else GOOD] += 1
                continue
            self.came += 1
            self.let_in += number > 1 and _kind(one) == AGAIN
            for message in range(MESSAGES):
                peer.publish(f"{peer.client_id}/{message}", b"x" * SIZE, message % 3, message)
            for wish in range(SUBSCRIPTIONS):
                peer.subscribe(f"wish/{peer.client_id}/{wish}", 0)
        _until(peers, lambda peer: not peer.in_flight)
        leave(peers[::2])
        for peer in peers[1::2]:
            peer.drop()

    def read(self) -> None:
        """Note its memory."""
        self.kib.append(memory(self.broker.pid)["private"] / 1024)

    def growth(self) -> float:
        """KiB from the end of the warm-up to the end."""
        judged = self.kib[round(len(self.kib) * WARM_UP) :]
        return statistics.median(judged[-READINGS:]) - statistics.median(judged[:READINGS])

    def _peer(self, number: int, one: int) -> Peer:
        kind = _kind(one)
        name = f"bad-{number - 1}-{one - 1}" if kind == AGAIN else f"{kind}-{number}-{one}"
        will = f"will/{name}" if kind == GOOD and one % 2 else None
        # Many addresses, or there would soon be no ports: one that was used is not free for a minute.
        return Peer(self.broker.tcp, name, 4 + one // 2 % 2, will=will, source=f"127.1.0.{one // 2 + 1}")


def _kind(one: int) -> str:
    """Of that one of a crowd: to be banned, who was banned in the last crowd, and all others."""
    return {0: BAD, 1: AGAIN}.get(one % BANNED_EACH, GOOD)


def flat(setting: Setting) -> list[Claim]:
    """The demonstration."""
    taking_turns = policies()
    with Stage() as stage:
        broker = setting.plugged(stage, taking_turns[0], options=OPTIONS)
        doors = {PLUGGED: Door(broker), BARE: Door(setting.bare(stage))}
        begin, reloads = time.monotonic(), 0
        for number in itertools.count(1):
            passed = time.monotonic() - begin
            if passed > setting.seconds:
                break
            if passed > (reloads + 1) * RELOAD_SECONDS:
                reloads += 1
                setting.compile(stage, taking_turns[reloads % 2])
                for door in doors.values():
                    setting.reload(door.broker)
            for door in doors.values():
                door.crowd(number)
                if passed > len(door.kib) * READING_SECONDS:
                    door.read()
        counts = reported(
            broker.tcp,
            list(DOES),
            lambda so_far: all(count[word] for count, word in zip(so_far, DOES.values(), strict=True)),
        )
    for name, door in doors.items():
        readings = ", ".join(f"{door.kib[round(part * (len(door.kib) - 1))]:.0f}" for part in (0.0, WARM_UP, 1.0))
        print(
            f"  {name}: {door.came} were let in; KiB at first, after the warm-up, at the end: {readings};"
            f" grew {door.growth():.0f}",
            flush=True,
        )
    plugged, bare = doors[PLUGGED], doors[BARE]
    print(f"  {reloads} reloads; {'; '.join(f'{name}: {dict(count)}' for name, count in counts.items())}")
    grown = plugged.growth() - max(0.0, bare.growth())
    return [
        at_most("private memory grew, beyond that of the bare one", MOST_GROWTH, grown, "KiB"),
        none("limits that did nothing", [name for name, word in DOES.items() if not counts[name][word]]),
        exactly(f"banned and let in again, of {plugged.refused[AGAIN] + plugged.let_in}", 0, plugged.let_in),
        exactly("refused without a ban", 0, plugged.refused[GOOD]),
        exactly("refused by the bare one", 0, sum(bare.refused.values())),
    ]


def _until(peers: list[Peer], done: Callable[[Peer], bool]) -> None:
    """Hear what comes until all are done or closed; TimeoutError."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while waiting := [peer for peer in peers if not peer.closed and not done(peer)]:
        for _ in heard(waiting, 1.0):
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"{waiting[0].client_id} had no answer within {ANSWER_SECONDS:.0f} s")
