"""One limit for all, 1000 messages a second, a flooder at five times that, and forty light clients: who waits?

The light clients publish two QoS 1 messages a second each, by a plan (company.py); they and the flooder, who is a
process of his own with one connection of MQTT 3.1.1 at QoS 1, come from one address and are spread over two workers.
First without the flooder, then with him. Twice: with the burst that the limit has by default, a second's worth, and
with a burst of 1, where no two messages may pass at once.
"""

import time

from .claims import Claim, at_most, exactly, holds, none
from .company import Company
from .flooder import Flood
from .metrics import Metrics
from .rates import UNBOUNDED
from .shaping_policy import Setting
from .stage import Stage
from .targets import start_mosquitto

RATE = 1000
TIMES = 5
LIGHT, EACH = 40, 2.0
MEDIAN_SECONDS = 0.010
REST_SECONDS = 5.0
FILL_SECONDS = 2.0
"""In which the flooder uses up the burst and fills his hold."""
FLOOD_SECONDS = 15.0
SETTLE_SECONDS = 10.0
READY_SECONDS = 30.0
OVER = 1.02
"""What passes may be so many times the rate: the two readings take a moment."""


def fairness(setting: Setting) -> list[Claim]:
    """The demonstration."""
    return [claim for burst in (RATE, 1) for claim in _with_burst(setting, burst)]


def _with_burst(setting: Setting, burst: int) -> list[Claim]:
    # He is to stay, and to want more all the time: what waits too long is dropped, which an MQTT 3 client survives.
    keys = f'per = "all"\ntopic = "fair/#"\nrate = "{RATE}/s burst {burst}"'
    policy = setting.limit("fair", keys, max_delay="5s", then="drop")
    with Stage() as stage:
        broker = start_mosquitto(stage, UNBOUNDED)
        target = setting.gateway(stage, broker, policy, workers=2)
        company = Company(target.port, broker.tcp, clients=LIGHT, each=EACH, topic="fair/light", name="light")
        company.start()
        rest = time.monotonic()
        time.sleep(REST_SECONDS)
        flood = Flood(
            stage, "flooder", target.port, RATE * TIMES, clients=1, qos=1, topic="fair/flood", protocol="3.1.1"
        )
        flood.wait_ready(READY_SECONDS)
        begin = time.monotonic()
        time.sleep(FILL_SECONDS)
        passed, read = _passed(target.admin), time.monotonic()
        time.sleep(FLOOD_SECONDS)
        passed, seconds = _passed(target.admin) - passed, time.monotonic() - read
        end = time.monotonic()
        workers = Metrics(target.admin).by("tidegate_connections", "worker")
        counts = flood.stop()
        company.stop(SETTLE_SECONDS)
    before, during = company.between(rest, begin), company.between(begin, end)
    name = f"burst {burst}"
    print(
        f"  {name}: connections by worker: {', '.join(map(str, workers.values()))}; the flooder wanted"
        f" {counts.due / counts.seconds:.0f}/s, got {counts.acknowledged / counts.seconds:.0f}/s acknowledged;"
        f" all together {passed / seconds:.0f}/s passed; light clients, ms:"
        f" p50 {before.arrived[0] * 1e3:.1f}, p99 {before.arrived[1] * 1e3:.1f} before,"
        f" p50 {during.arrived[0] * 1e3:.1f}, p99 {during.arrived[1] * 1e3:.1f} with him",
        flush=True,
    )
    return [
        holds(f"{name}: both workers have connections", all(workers.values())),
        exactly(f"{name}: messages of light clients lost, of {during.planned}", 0, before.harm + during.harm),
        none(f"{name}: light clients disconnected", company.trouble),
        at_most(f"{name}: their median wait", MEDIAN_SECONDS * 1e3, during.arrived[0] * 1e3, "ms"),
        at_most(f"{name}: what passed, beside the limit", OVER, passed / seconds / RATE, "x"),
        none(f"{name}: ends of the flooder's connection", list(counts.closed.items())),
    ]


def _passed(admin: int) -> int:
    return Metrics(admin).sum("tidegate_passed_total", limit="fair")
