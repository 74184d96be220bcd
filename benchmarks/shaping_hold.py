"""A flood into `delay` for a minute: memory stays within the holds' bound, and other connections do not feel it.

Two hundred clients of MQTT 3.1.1 flood QoS 1 through one worker under a limit of 20 a second for each client: half of
them with small messages, of which a hold takes a thousand, half with larger ones, of which it takes a mebibyte; that is
more than `gateway.hold_pool`, 64 MiB by default, so that the largest must be cut. Who is full is not read for a while,
and then what he sends is dropped, which keeps the holds full. Twenty well-behaved clients of the same limit go on as
before.

Read is the resident memory of the gateway's process tree, once a second; it grows by the holds, and by what the
connections themselves take: at most ALLOWANCE. (PSS would stop the worker for milliseconds each time it is read.)
"""

import time

from .claims import Claim, at_most
from .company import Company, undisturbed
from .flooder import Flood
from .rates import UNBOUNDED
from .shaping_policy import Setting
from .stage import Stage, resident
from .targets import start_mosquitto

MIB = 1 << 20
POOL = 64 * MIB
"""gateway.hold_pool by default."""
FLOODERS = 100
"""Of each kind."""
SIZES = (64, 2000)
FLOOD_RATE = 10_000
"""Messages per second of all flooders of a kind."""
PER_CONNECTION = 2 * 64 * 1024
"""Bytes: a packet that is not whole yet (STORE of bounds.py), and what the broker has not taken (relay.py)."""
ALLOWANCE = 2 * FLOODERS * PER_CONNECTION
"""Bytes that the connections may take besides."""
CLIENTS, EACH = 20, 10.0
REST_SECONDS = 10.0
READY_SECONDS = 60.0
SETTLE_SECONDS = 15.0


def hold(setting: Setting) -> list[Claim]:
    """The demonstration."""
    policy = setting.limit("each", 'per = "client"\nrate = "20/s burst 40"', max_delay="30s", then="drop")
    with Stage() as stage:
        broker = start_mosquitto(stage, UNBOUNDED)
        target = setting.gateway(stage, broker, policy)
        company = Company(target.port, broker.tcp, clients=CLIENTS, each=EACH)
        company.start()
        rest = time.monotonic()
        time.sleep(REST_SECONDS)
        base = highest = resident(target.pid)
        between = time.monotonic()
        floods = [
            Flood(stage, f"flood-{size}", target.port, FLOOD_RATE, clients=FLOODERS, qos=1, size=size) for size in SIZES
        ]
        for flood in floods:
            flood.wait_ready(READY_SECONDS)
        for _ in range(setting.seconds):
            time.sleep(1.0)
            highest = max(highest, resident(target.pid))
        end = time.monotonic()
        counts = [flood.stop() for flood in floods]
        company.stop(SETTLE_SECONDS)
        after = resident(target.pid)
    before, during = company.between(rest, between), company.between(between, end)
    for size, count in zip(SIZES, counts, strict=True):
        print(
            f"  flood of {size} bytes: {count.due} due, {count.published} taken, {count.acknowledged} acknowledged;"
            f" closed: {count.closed or 'none'}"
        )
    print(
        f"  resident: {base / MIB:.1f} MiB before, {highest / MIB:.1f} at the highest, {after / MIB:.1f} after;"
        f" others, ms: p50 {before.arrived[0] * 1e3:.1f}, p99 {before.arrived[1] * 1e3:.1f} before,"
        f" p50 {during.arrived[0] * 1e3:.1f}, p99 {during.arrived[1] * 1e3:.1f} during it",
        flush=True,
    )
    bound = (POOL + ALLOWANCE) / MIB
    return [
        at_most("memory grew at the highest by (64 are the holds')", bound, (highest - base) / MIB, "MiB"),
        *undisturbed("others", before, during, company.trouble),
    ]
