"""A gateway and the plugin of the broker behind it, on one policy, let pass one budget together.

The gateway, with one worker, offers its segment (gateway.segment); the broker's plugin attaches to it, and knows that
what comes by the Unix socket has been decided by the gateway. Each of the six cases of plugin_budget.py has a limit of
its own by address, `100/s burst 100`, and two publishers at 127.0.0.1: one through the gateway and one directly at the
broker. All twelve publish at once for FLOOD_SECONDS, each three times as fast as the limit of both. A subscriber counts
what arrives. Expected are burst + rate x time messages of a case, time being that from the first PUBLISH of its two
publishers to the last.

Both sides' counters are in the segment: what /metrics say of a limit must be what arrived, and what did not. Where each
side had a budget of its own, twice as much would arrive; where the plugin decided again on what the gateway has let
pass, more would be counted than arrived.
"""

import dataclasses
import time

from .arrivals import Arrivals
from .claims import Claim, exactly, none, within
from .metrics import Metrics
from .plugin_budget import BURST, CASES, FLOOD_SECONDS, RATE, bounded
from .plugin_setting import Setting
from .rates import Case, Flood, on_excess
from .sender import Sender
from .stage import Stage
from .targets import TARGETS, Broker, Options, Target, wait_accepting

THROUGH, DIRECT = "through", "direct"
TIMES = 3
LEAST_SHARE = 10.0
"""Per cent of a budget that either side must have had, or it was not shared."""
SEGMENT_SECONDS = 30.0
GATEWAY = "tidegate-unix"


def policy() -> str:
    """A limit for each case."""
    return "\n".join(
        f'[[limit]]\nname = "{case.name}"\nper = "ip"\ntopic = "{case.topic}/#"\n'
        f'rate = "{RATE}/s burst {BURST}"\non_excess = {on_excess("reject")}\n'
        for case in CASES
    )


def shared(setting: Setting) -> list[Claim]:
    """The demonstration."""
    with Stage() as stage:
        gateway, broker = _both(stage, setting)
        arrivals = Arrivals(broker.tcp, "rates/#")
        floods = {
            case: [_flood(case, side, port) for side, port in ((THROUGH, gateway.port), (DIRECT, broker.tcp))]
            for case in CASES
        }
        for pair in floods.values():
            for flood in pair:
                flood.start()
        for pair in floods.values():
            for flood in pair:
                flood.join()
        arrivals.settle()
        metrics = Metrics(gateway.admin)
        arrivals.close()
    return [claim for case, pair in floods.items() for claim in _judge(case, pair, arrivals, metrics)]


def _both(stage: Stage, setting: Setting) -> tuple[Target, Broker]:
    """The gateway first: a broker does not start where its segment is not there yet."""
    name = "plugged"
    segment = stage.folder / "segment"
    to_be = Broker(0, stage.folder / f"{name}.sock", 0)
    options = Options(setting.tidegate, policy=policy(), gateway_keys=f'segment = "{segment}"')
    gateway = TARGETS[GATEWAY](stage, GATEWAY, to_be, options)
    deadline = time.monotonic() + SEGMENT_SECONDS
    while not segment.exists():
        if time.monotonic() > deadline or not stage.is_running(gateway.pid):
            raise TimeoutError(f"no segment was made: {stage.log_tail(gateway.pid)}")
        time.sleep(0.01)
    broker = setting.attached(stage, segment, name, f"plugin_opt_gateway {to_be.unix}\n")
    wait_accepting(stage, gateway.port, gateway.pid)
    return gateway, broker


def _flood(case: Case, side: str, port: int) -> Flood:
    one = dataclasses.replace(case, name=f"{case.name}/{side}")
    return Flood(one, [Sender(port, one.name, case.version)], RATE * TIMES, FLOOD_SECONDS)


def _judge(case: Case, pair: list[Flood], arrivals: Arrivals, metrics: Metrics) -> list[Claim]:
    seconds = max(flood.last for flood in pair) - min(flood.first for flood in pair)
    expected = BURST + RATE * seconds
    came = [len(arrivals.by_topic.get(flood.case.topic, [])) for flood in pair]
    passed = sum(came)
    published = sum(flood.senders[0].published for flood in pair)
    print(
        f"  {case.name}: published {published} in {seconds:.2f} s, expected {expected:.1f}, arrived {passed}:"
        f" {passed / expected - 1:+.2%}, {came[0]} through the gateway",
        flush=True,
    )
    counted = metrics.sum("tidegate_passed_total", limit=case.name)
    over = metrics.sum("tidegate_limited_total", limit=case.name)
    ends = [why for flood in pair for why in (*flood.reasons, *filter(None, [flood.trouble]))]
    return [
        bounded(f"{case.name}: arrived of both", expected, passed),
        within(f"{case.name}: share of the lesser side", LEAST_SHARE, 50, 100 * min(came) / passed, "%"),
        exactly(f"{case.name}: passed and over, by /metrics", (passed, published - passed), (counted, over)),
        none(f"{case.name}: ends of connections", ends),
    ]
