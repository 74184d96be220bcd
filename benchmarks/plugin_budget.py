"""What passes of a flood is burst + rate x time, at each QoS, in MQTT 3.1.1 and 5, and nobody else notices.

Six publishers by hand (rates.py), one for each QoS and version and all at once, publish for FLOOD_SECONDS five times as
fast as their limit allows, through one broker with the plugin; a subscriber counts what arrives. Time is each
publisher's own, from its first PUBLISH to its last. What it was told of each message must be what became of it: in
MQTT 5 the reason of docs/plugin.md where it was refused, in 3.1.1 an ordinary acknowledgement always. Its connection
must stay. What the plugin says below $SYS that it let pass and refused must be that, to the message.

Two more clients, one of each version, publish QoS 1 below the same limit meanwhile, and must lose nothing at all.
"""

import time
from collections import Counter

from .arrivals import Arrivals
from .claims import Claim, exactly, holds, none, within
from .company import Company
from .plugin_setting import Setting
from .plugin_sys import reported
from .rates import Case, Flood
from .sender import Sender
from .stage import Stage
from .wire import QUOTA_EXCEEDED

RATE, BURST = 100, 100
TIMES = 5
LEAST_TIMES = 3
"""A flood must want so many times what it may."""
FLOOD_SECONDS = 8.0
TOLERANCE = 0.02
EACH = 60.0
"""Messages per second of a client that keeps to the limit."""
SETTLE_SECONDS = 10.0
LIMIT = "each"
POLICY = f"""\
[[limit]]
name = "{LIMIT}"
per = "client"
rate = "{RATE}/s burst {BURST}"
on_excess = "reject"
"""
CASES = tuple(
    Case(f"qos{qos}-{name}", version, qos, "reject")
    for qos in (0, 1, 2)
    for name, version in (("v3.1.1", 4), ("v5", 5))
)
NOT_AUTHORISED = 0x87
QUICK_REPORTS = "plugin_opt_sys_interval 1\n"


def refusal(setting: Setting) -> int:
    """The reason that a client of MQTT 5 gets of this broker for a message over a limit."""
    return QUOTA_EXCEEDED if setting.version() >= (2, 1) else NOT_AUTHORISED


def budget(setting: Setting) -> list[Claim]:
    """The demonstration."""
    with Stage() as stage:
        broker = setting.plugged(stage, POLICY, options=QUICK_REPORTS)
        arrivals = Arrivals(broker.tcp, "#")
        others = {
            name: Company(broker.tcp, broker.tcp, clients=1, each=EACH, version=version, name=name, topic=name)
            for name, version in (("well-v3.1.1", 4), ("well-v5", 5))
        }
        floods = [
            Flood(case, [Sender(broker.tcp, case.name, case.version)], RATE * TIMES, FLOOD_SECONDS) for case in CASES
        ]
        begin = time.monotonic()
        parties: list[Company | Flood] = [*others.values(), *floods]
        for one in parties:
            one.start()
        for flood in floods:
            flood.join()
        end = time.monotonic()
        for company in others.values():
            company.stop(SETTLE_SECONDS)
        arrivals.settle()
        arrivals.close()
        came = {flood.case: list(map(int, arrivals.by_topic.get(flood.case.topic, []))) for flood in floods}
        passed = sum(map(len, arrivals.by_topic.values()))
        rejected = sum(flood.senders[0].published - len(came[flood.case]) for flood in floods)
        counts = reported(
            broker.tcp, [LIMIT], lambda so_far: all(Counter(passed=passed, rejected=rejected) <= one for one in so_far)
        )[LIMIT]
    claims = [claim for flood in floods for claim in _judge(flood, came[flood.case], refusal(setting))]
    for name, company in others.items():
        figures = company.between(begin, end)
        claims += [
            none(f"{name}: ends of its connection", company.trouble),
            exactly(f"{name}: lost or refused, of {figures.planned}", 0, figures.harm),
        ]
    return [
        *claims,
        exactly("messages that the plugin says it let pass", passed, counts["passed"]),
        exactly("that it says it refused", rejected, counts["rejected"]),
    ]


def _judge(flood: Flood, came: list[int], refused_by: int) -> list[Claim]:
    case, sender = flood.case, flood.senders[0]
    expected = BURST + RATE * flood.elapsed
    reasons = Counter(answer.reason for answer in sender.answers)
    told = ", ".join(f"{count} x 0x{reason:02x}" for reason, count in sorted(reasons.items()))
    print(
        f"  {case.name}: published {sender.published} in {flood.elapsed:.2f} s, expected {expected:.1f}, arrived"
        f" {len(came)}: {len(came) / expected - 1:+.2%}; answers: {told or 'none'}",
        flush=True,
    )
    claims = [
        holds(f"{case.name}: published far more than it may", sender.published > LEAST_TIMES * expected),
        bounded(f"{case.name}: arrived", expected, len(came)),
        none(f"{case.name}: ends of its connection", [*flood.reasons, *filter(None, [flood.trouble])]),
    ]
    if case.qos:
        promised = dict.fromkeys(range(sender.published), refused_by if case.version == 5 else 0)
        promised |= dict.fromkeys(came, 0)
        wrong = promised.items() ^ {(answer.number, answer.reason) for answer in sender.answers}
        claims.append(none(f"{case.name}: messages that were told otherwise", sorted(wrong)))
    return claims


def bounded(what: str, expected: float, measured: int) -> Claim:
    """Messages that are a budget, within the tolerance."""
    return within(what, round(expected * (1 - TOLERANCE)), round(expected * (1 + TOLERANCE)), measured, "messages")
