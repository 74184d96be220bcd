"""What the plugin says of itself below $SYS/broker/tidegate/."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from .peer import Arrived, Peer, heard, join, leave

LIMITS = "$SYS/broker/tidegate/limits/"
REPORT_SECONDS = 15.0
"""A report comes every ten seconds unless told otherwise, and takes a few ticks."""

Counts = dict[str, Counter[str]]


def reported(port: int, limits: Sequence[str], enough: Callable[[Collection[Counter[str]]], bool]) -> Counts:
    """What the plugin has counted for each of these limits, by the words of docs/plugin.md.

    Waits until it is `enough`, at most until a report must have come.
    """
    peer = Peer(port, "counts")
    join([peer])
    peer.subscribe(f"{LIMITS}#", 0)  # what is retained comes with the answer, so that is not waited for
    found: Counts = {name: Counter() for name in limits}
    end = time.monotonic() + REPORT_SECONDS
    while time.monotonic() < end and not enough(found.values()):
        for _, events in heard([peer], 0.2):
            for event in events:
                if isinstance(event, Arrived):
                    name, _, word = event.topic.removeprefix(LIMITS).partition("/")
                    if name in found:
                        found[name][word] = int(event.payload)
    leave([peer])
    return found
