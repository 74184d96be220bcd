"""What a hit of `tidegate.Limiter` costs in Python, beside the rate limiters of PyPI with their memory backends.

    python -m benchmarks.hits [--rounds 5] [--json OUT]

The same work for all: 1,000,000 a second per key, so that every hit passes; one key, and 100,000 in a random order.
Those that are not installed are left out: `pip install limits throttled-py pyrate-limiter`. What the figures do
not show: Tidegate's budgets are shared by processes; with these backends, the others count in the memory of one.

Exit status: 0 measured, 1 a hit was refused.
"""

import argparse
import json
import pathlib
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from tidegate import Limiter

from .options import positive
from .stage import Stage

AMOUNT = 1_000_000
"""A second, for each key."""
HITS = 100_000
MANY = 100_000
Hit = Callable[[str], object]
Made = Iterator[Hit]


@contextmanager
def tidegate(folder: pathlib.Path) -> Made:
    """GCRA in shared memory."""
    with Limiter(folder / "limits", f"{AMOUNT}/s", keys=MANY) as limiter:
        yield limiter.hit


@contextmanager
def limits_fixed(_folder: pathlib.Path) -> Made:
    """`limits`, its cheapest strategy."""
    limits = import_module("limits")
    item = limits.RateLimitItemPerSecond(AMOUNT)
    strategy = limits.strategies.FixedWindowRateLimiter(limits.storage.MemoryStorage())
    yield lambda key: strategy.hit(item, key)


@contextmanager
def limits_sliding(_folder: pathlib.Path) -> Made:
    """`limits`, the strategy between its fixed window and its exact log."""
    limits = import_module("limits")
    item = limits.RateLimitItemPerSecond(AMOUNT)
    strategy = limits.strategies.SlidingWindowCounterRateLimiter(limits.storage.MemoryStorage())
    yield lambda key: strategy.hit(item, key)


@contextmanager
def throttled_gcra(_folder: pathlib.Path) -> Made:
    """`throttled-py`, with the same algorithm as ours."""
    throttled = import_module("throttled")
    quota = throttled.rate_limiter.per_sec(AMOUNT, burst=AMOUNT)
    memory = throttled.store.MemoryStore(options={"MAX_SIZE": 2 * MANY})
    throttle = throttled.Throttled(using=throttled.RateLimiterType.GCRA.value, quota=quota, store=memory)
    yield lambda key: not throttle.limit(key).limited


@contextmanager
def pyrate_gcra(_folder: pathlib.Path) -> Made:
    """`pyrate-limiter`, with the same algorithm; it leaves to its user which key has which bucket."""
    pyrate: Any = import_module("pyrate_limiter")
    clock = pyrate.MonotonicClock()
    rates = [pyrate.Rate(AMOUNT, 1000)]  # per 1,000 ms
    buckets: dict[str, object] = {}

    class ByKey(pyrate.BucketFactory):  # type: ignore[misc]  # a class that types do not know
        def wrap_item(self, name: str, weight: int = 1) -> object:
            return pyrate.RateItem(name, clock.now(), weight=weight)

        def get(self, item: Any) -> object:
            bucket = buckets.get(item.name)
            if bucket is None:
                bucket = buckets[item.name] = pyrate.StateBucket(rates, clock=clock)
            return bucket

    limiter = pyrate.Limiter(ByKey())
    yield lambda key: limiter.try_acquire(key, blocking=False)


RIVALS: dict[str, tuple[str, Callable[[pathlib.Path], AbstractContextManager[Hit]]]] = {
    "tidegate": ("tidegate", tidegate),
    "limits, fixed window": ("limits", limits_fixed),
    "limits, sliding window counter": ("limits", limits_sliding),
    "throttled-py, GCRA": ("throttled", throttled_gcra),
    "pyrate-limiter, GCRA": ("pyrate_limiter", pyrate_gcra),
}
"""By name: the module, and how to make one."""
PACKAGES = {"throttled": "throttled-py", "pyrate_limiter": "pyrate-limiter"}


def nanoseconds(hit: Hit, keys: Sequence[str]) -> float:
    """CPU time per hit; exits when one is refused."""
    passed = True
    started = time.process_time_ns()
    for key in keys:
        passed = bool(hit(key)) and passed
    taken = (time.process_time_ns() - started) / len(keys)
    if not passed:
        sys.exit("a hit was refused, which costs something else: a slower machine needs a larger AMOUNT")
    return taken


def main(arguments: Sequence[str] | None = None) -> None:
    options = command_line().parse_args(arguments)
    work = {"one key": ["203.0.113.7"] * HITS, "100,000 keys": [f"client-{number}" for number in range(MANY)]}
    random.Random(1).shuffle(work["100,000 keys"])
    found: dict[str, dict[str, list[float]]] = {}
    with Stage() as stage, ExitStack() as stack:
        hits = {}
        for name, (module, make) in RIVALS.items():
            if find_spec(module) is None:
                print(f"{name}: not installed (pip install {PACKAGES.get(module, module)})", file=sys.stderr)
                continue
            hits[name] = stack.enter_context(make(stage.folder))
        for name, hit in hits.items():
            found[name] = {what: [] for what in work}
            for keys in work.values():
                nanoseconds(hit, keys)  # makes the budgets
        for _ in range(options.rounds):  # in turn, so that a drift of the machine meets all of them alike
            for name, hit in hits.items():
                for what, keys in work.items():
                    found[name][what].append(nanoseconds(hit, keys))
    print(f"{'CPU ns per hit':40s} " + " ".join(f"{what:>14s}" for what in work))
    for name, rounds in found.items():
        module = RIVALS[name][0]
        title = f"{name} ({version(PACKAGES.get(module, module))})"
        print(f"{title:40s} " + " ".join(f"{statistics.median(rounds[what]):14.0f}" for what in work))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def command_line() -> argparse.ArgumentParser:
    line = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="benchmarks.hits"
    )
    line.add_argument("--rounds", type=positive, default=5, help="of 100,000 hits each")
    line.add_argument("--json", type=pathlib.Path, metavar="OUT", help="write all rounds to this file")
    return line


if __name__ == "__main__":
    main()
