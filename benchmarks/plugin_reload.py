"""Policies are exchanged again and again under load: nothing is lost, nobody is dropped, budgets go on.

The two policies of reload.py take turns in the policy file of one broker with the plugin, which is told by SIGHUP and
whose log says when each is in force. One limit is the same in both, others change their numbers, come and go, some with
their class. Twelve clients, three of each version and QoS 1 or 2, publish numbered messages through limits that none of
them exceeds. Another is over the limit that stays all the time: what arrives of it must be burst + rate x time, as if
nothing had been reloaded. After every tenth reload the file is cut short, and the broker told: nothing may change.

At the end comes a policy with a limit that was not there before, and six floods, one of each QoS and version, that have
it from then on.
"""

import time

from .arrivals import Arrivals
from .claims import Claim, none
from .plugin_budget import BURST, CASES, RATE, TIMES, bounded
from .plugin_setting import ROOMY, Setting
from .rates import Flood
from .reload import BROKEN_EVERY, FIRST_SECONDS, PACE, STAYS, Stream, policies
from .sender import REFUSED, Sender
from .stage import Stage
from .targets import Broker

RELOADS = 50
EACH = 3
KINDS = tuple((version, qos) for version in (4, 5) for qos in (1, 2))
LAST_SECONDS = 8.0
LAST = f"""
[[limit]]
name = "last"
per = "client"
topic = "rates/#"
rate = "{RATE}/s burst {BURST}"
on_excess = "reject"
"""
IN_FORCE, STAY = "are in force", "that were in force stay so"
SAYS_SECONDS = 15.0
"""In which a broker must have said what it made of a policy."""
LOG = "log_type notice\nlog_type warning\n"


class Reloading:
    """Puts policies before the broker, and waits until its log says what it made of them."""

    def __init__(self, setting: Setting, stage: Stage, broker: Broker) -> None:
        self.longest = 0.0
        """Seconds from the signal to the line, at most."""
        self._setting = setting
        self._broker = broker
        self._stage = stage

    def good(self, policy: str) -> None:
        """Put it in force."""
        self._setting.compile(self._stage, policy)
        self._tell(IN_FORCE)

    def broken(self) -> None:
        """A file that cannot be used."""
        self._setting.damage(self._stage)
        self._tell(STAY)

    def _tell(self, text: str) -> None:
        """TimeoutError when the broker does not say that, once more than before."""
        log = self._stage.folder / "plugged.log"
        before = log.read_text().count(text)
        begin = time.monotonic()
        self._setting.reload(self._broker)
        while log.read_text().count(text) == before:
            if time.monotonic() > begin + SAYS_SECONDS:
                raise TimeoutError(f"no {text!r}: {self._stage.log_tail(self._broker.pid)}")
            time.sleep(0.002)
        self.longest = max(self.longest, time.monotonic() - begin)


def reload(setting: Setting) -> list[Claim]:
    """The demonstration."""
    taking_turns = policies(RATE, BURST)
    with Stage() as stage:
        broker = setting.plugged(stage, taking_turns[0], extra=f"{ROOMY}{LOG}")
        arrivals = Arrivals(broker.tcp, "#")
        streams = [
            Stream(broker.tcp, f"stream-{number}", f"reload/stream/{number}", PACE, qos=qos, version=version)
            for number, (version, qos) in enumerate(KINDS * EACH)
        ]
        over = Stream(broker.tcp, "over", "reload/over", RATE * TIMES)
        for stream in (*streams, over):
            stream.start()
        time.sleep(FIRST_SECONDS)
        reloading = Reloading(setting, stage, broker)
        for number in range(1, RELOADS + 1):
            reloading.good(taking_turns[number % 2])
            if number % BROKEN_EVERY == 0:
                reloading.broken()
        reloading.good(taking_turns[1] + LAST)
        floods = [
            Flood(case, [Sender(broker.tcp, case.name, case.version)], RATE * TIMES, LAST_SECONDS) for case in CASES
        ]
        for flood in floods:
            flood.start()
        for flood in floods:
            flood.join()
        for stream in (*streams, over):
            stream.stop()
        for stream in (*streams, over):
            stream.join()
        arrivals.settle()
        arrivals.close()
    print(
        f"  {RELOADS + 1} reloads and {RELOADS // BROKEN_EVERY} broken files in {over.elapsed:.1f} s, in force within"
        f" {reloading.longest * 1e3:.0f} ms of the signal",
        flush=True,
    )
    return [*_lost(streams, over, arrivals), *_limited(over, floods, arrivals)]


def _lost(streams: list[Stream], over: Stream, arrivals: Arrivals) -> list[Claim]:
    everyone = [*streams, over]
    published = sum(stream.sender.published for stream in streams)
    wrong = []
    for stream in streams:
        came = sorted(map(int, arrivals.by_topic.get(stream.topic, [])))
        if came != list(range(stream.sender.published)):
            wrong.append(f"{stream.topic}: {stream.sender.published} published, {len(came)} arrived")
    ended = [f"{one.topic}: {one.trouble}" for one in everyone if one.trouble or one.sender.connects != 1]
    silent = [one.topic for one in everyone if len(one.sender.answers) != one.sender.published]
    untrue = [answer for stream in streams for answer in stream.sender.answers if answer.reason >= REFUSED]
    return [
        none(f"streams of which any of {published} messages was lost or came twice", wrong),
        none("clients that were disconnected", ended),
        none("messages refused that keep to their limits", untrue),
        none("clients that had no answer to a message", silent),
    ]


def _limited(over: Stream, floods: list[Flood], arrivals: Arrivals) -> list[Claim]:
    expected = BURST + RATE * over.elapsed
    claims = [bounded(f"arrived of the limit `{STAYS}`, in {over.elapsed:.0f} s", expected, arrivals.count(over.topic))]
    for flood in floods:
        came = arrivals.count(flood.case.topic)
        claims.append(bounded(f"of the last policy, {flood.case.name}", BURST + RATE * flood.elapsed, came))
    return claims
