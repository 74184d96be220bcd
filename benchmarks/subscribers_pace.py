"""A dashboard that subscribes to `#` and may have 64 KiB a second, behind a feed of five megabytes a second.

feed.py publishes 5,000 messages of 1 KiB a second at QoS 0, to 200 topics in turn, through the gateway, which has one
worker. A viewer (viewer.py) that no limit meets takes all of it, twenty well-behaved clients publish QoS 1 messages
(company.py); all of them are measured before the dashboard comes and with it. The dashboard sends a PINGREQ ten times
a second. Once with `conflate = true`, where each topic has one place and its newest value gets the turn, and once
with `max_delay`, where what waits too long or finds no room is dropped.

As each of T topics has its turn once in T x bytes / rate, no value that the dashboard shows may become older than that.

Beside it, not judged, bare Mosquitto with a dashboard that reads no faster than that from its socket.
"""

import dataclasses
import time

from .claims import Claim, at_most, exactly, holds, none, within
from .company import PAYLOAD, Company, bearable, quantiles, undisturbed
from .feed import SIZE, TOPICS, Feed
from .feed import Counts as Fed
from .metrics import Metrics
from .stage import Stage, memory, resident, tree
from .subscribers_setting import DEFAULTS, Setting, limit
from .targets import start_mosquitto
from .viewer import Seen, Viewer
from .wire import publish_head

KIB, MIB = 1 << 10, 1 << 20
PACE = 64 * KIB
"""Bytes per second; the burst is as much."""
TOLERANCE = 0.03
PING_SECONDS = 0.1
PONG_SECONDS = 0.100
"""The 99th percentile that is promised."""
CLIENTS, EACH = 20, 10.0
REST_SECONDS = 8.0
BURST_SECONDS = 3.0
"""After which the dashboard has had its burst, and its hold is full."""
MOST_DELAY = 5.0
LATE = 0.25
"""Seconds by which anything may come after its time, on a machine that does other things as well."""
DRAIN_SECONDS = 8.0
"""In which all that waits comes, once the feed has ended: longer than a turn of all topics, and than MOST_DELAY."""
SETTLE_SECONDS = 10.0
READY_SECONDS = 30.0
HOLD = MIB
"""gateway.hold_bytes by default: what may wait for one subscriber."""
MOST_MEMORY = 4 * MIB
"""Bytes that the worker may grow by: the hold, twice what a connection buffers, and the allocator's share. The feed
brings more than that each second."""
TURN = (
    TOPICS * (len(publish_head("feed/100", SIZE)) + SIZE) + CLIENTS * (len(publish_head("well/10", PAYLOAD)) + PAYLOAD)
) / PACE
"""Seconds in which every topic has had its turn."""


@dataclasses.dataclass(frozen=True)
class Times:
    """When what happened, in seconds of the monotonic clock."""

    rest: float
    """All is there but the dashboard."""
    come: float
    """It is about to come."""
    begin: float
    """It has had its burst."""
    end: float
    """The feed is about to end."""


@dataclasses.dataclass
class Usage:
    """Bytes of the worker while the dashboard is paced."""

    private: int = 0
    """By which its private memory grew."""
    highest: int = 0
    """By which its resident memory grew at the most."""
    held: int = 0
    """What waited at the most, by its own account."""


def pace(setting: Setting) -> list[Claim]:
    """The demonstration."""
    _bare(setting)
    return [
        claim._replace(what=f"{name}: {claim.what}")
        for name, keys in (("conflate", "conflate = true"), ("drop", f'max_delay = "{MOST_DELAY:g}s"'))
        for claim in _measure(setting, name, keys)
    ]


def _bare(setting: Setting) -> None:
    with Stage() as stage:
        broker = start_mosquitto(stage, DEFAULTS)
        feed = Feed(stage, broker.tcp)
        feed.wait_ready(READY_SECONDS)
        slow = Viewer(stage, "slow", broker.tcp, ping=PING_SECONDS, reads=PACE)
        slow.wait_ready(READY_SECONDS)
        begin = time.monotonic()
        time.sleep(setting.seconds)
        end = time.monotonic()
        feed.stop()
        seen = slow.stop()
    print(
        f"  mosquitto alone, a dashboard that reads {PACE / KIB:.0f} KiB/s: it got"
        f" {seen.rate(begin, end) / KIB:.1f} KiB/s, values up to {max(seen.ages(begin, end), default=0.0):.1f} s old,"
        f" and answers to {sum(pong < end for pong in seen.pongs)} of {len(seen.pings)} PINGREQs, to"
        f" {len(seen.pongs)} once it had read all that was on its way",
        flush=True,
    )


def _measure(setting: Setting, name: str, keys: str) -> list[Claim]:
    policy = limit("pace", "deliver", 'client_id = "paced"', f'bandwidth = "{PACE // KIB}KiB/s"', keys)
    with Stage() as stage:
        broker = start_mosquitto(stage, DEFAULTS)
        target = setting.gateway(stage, broker, policy)
        company = Company(target.port, target.port, clients=CLIENTS, each=EACH)
        company.start()
        free = Viewer(stage, "free", target.port, filter="feed/#")
        free.wait_ready(READY_SECONDS)
        feed = Feed(stage, target.port)
        feed.wait_ready(READY_SECONDS)
        rest = time.monotonic()
        time.sleep(REST_SECONDS)
        worker = tree(target.pid)[1].pid
        private, base = memory(worker)["private"], resident(worker)
        come = time.monotonic()
        viewer = Viewer(stage, "paced", target.port, ping=PING_SECONDS)
        viewer.wait_ready(READY_SECONDS)
        time.sleep(BURST_SECONDS)
        begin = time.monotonic()
        usage = Usage()
        for _ in range(setting.seconds):
            time.sleep(1.0)
            usage.highest = max(usage.highest, resident(worker) - base)
            usage.held = max(usage.held, Metrics(target.admin).sum("tidegate_hold_bytes"))
        usage.private = memory(worker)["private"] - private
        times = Times(rest, come, begin, time.monotonic())
        fed = feed.stop()
        time.sleep(DRAIN_SECONDS)
        paced, others = viewer.stop(), free.stop()
        company.stop(SETTLE_SECONDS)
        account = Metrics(target.admin)
    before, during = company.between(times.rest, times.come), company.between(times.come, times.end)
    ages = quantiles(paced.ages(times.begin, times.end))
    left_out = len(paced.missing(min(number for number in paced.number if number >= 0), fed.published))
    dropped = account.sum("tidegate_limited_total", limit="pace", action="drop")
    of_others = CLIENTS * EACH * (time.monotonic() - times.come)
    print(
        f"  {name}: feed of {fed.published / fed.seconds:.0f}/s, never more than {fed.late * 1e3:.0f} ms late; the"
        f" dashboard's values when they come: p50 {ages[0] * 1e3:.0f} ms old, p99 {ages[1] * 1e3:.0f} ms;"
        f" {left_out} of the feed left out",
        flush=True,
    )
    return [
        *_paced(paced, times),
        *(_newest(paced, fed, times) if name == "conflate" else _in_time(paced, times)),
        *undisturbed("publishers", before, during, company.trouble),
        *_undelayed(others, fed, times),
        exactly(
            "messages that passed, by its own account",
            len(paced.at),
            account.sum("tidegate_passed_total", limit="pace"),
        ),
        within("messages dropped, likewise", left_out, round(left_out + of_others), dropped, ""),
        at_most("private memory of the worker grew by", MOST_MEMORY / MIB, usage.private / MIB, "MiB"),
        at_most("its resident memory, at the highest", MOST_MEMORY / MIB, usage.highest / MIB, "MiB"),
        at_most("messages that wait take, by its own account", HOLD / MIB, usage.held / MIB, "MiB"),
    ]


def _paced(paced: Seen, times: Times) -> list[Claim]:
    answers = paced.answers()
    low, high = (round(PACE / KIB * (1 + sign * TOLERANCE), 2) for sign in (-1, 1))
    return [
        within("the dashboard gets, after the burst", low, high, paced.rate(times.begin, times.end) / KIB, "KiB/s"),
        exactly(f"PINGREQs unanswered, of {len(paced.pings)}", 0, len(paced.pings) - len(paced.pongs)),
        at_most("99th percentile of the time to PINGRESP", PONG_SECONDS * 1e3, quantiles(answers)[1] * 1e3, "ms"),
        none("messages that came after a newer one of their topic", paced.backwards(TOPICS)),
        holds("the dashboard is still connected", not paced.disconnected),
    ]


def _newest(paced: Seen, fed: Fed, times: Times) -> list[Claim]:
    newest = {number % TOPICS: number for number in range(fed.published - TOPICS, fed.published)}
    last = paced.last(TOPICS)
    return [
        none(f"of {TOPICS} topics, newest value is not the last", [t for t in newest if last.get(t) != newest[t]]),
        at_most(
            "a value that is shown is at its oldest",
            round(TURN * (1 + TOLERANCE) + LATE, 2),
            paced.oldest_shown(TOPICS, times.begin, times.end),
            "s",
        ),
    ]


def _in_time(paced: Seen, times: Times) -> list[Claim]:
    return [
        at_most("a value that comes is at its oldest", MOST_DELAY + LATE, max(paced.ages(times.begin, times.end)), "s")
    ]


def _undelayed(others: Seen, fed: Fed, times: Times) -> list[Claim]:
    """What the viewer without a limit is promised."""
    before, during = others.latency(times.rest, times.come)[1], others.latency(times.come, times.end)[1]
    return [
        holds("all of the feed was taken", fed.taken),
        exactly(f"lost by the other viewer, of {fed.published}", 0, len(others.missing(0, fed.published))),
        none("of these twice, or not in order", others.backwards(TOPICS)),
        at_most("99th percentile of the other viewer's latency", round(bearable(before) * 1e3, 1), during * 1e3, "ms"),
    ]
