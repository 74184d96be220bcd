"""Reload under load, again and again: nobody is disconnected, nothing is lost, and budgets go on where they were.

    python -m benchmarks.reload [--reloads 50] [--clients 50] [--rate 100] [--burst 100] [--tolerance 0.02]

Two policies take turns behind `tidegate serve` with two workers, each put in force by `tidegate reload`. One limit is
the same in both, though at another place; of the others each policy has some of its own, and some of other numbers.
Clients stream numbered QoS 1 messages through limits that none of them exceeds, as a class that only one of the
policies knows. One client is over the limit that stays, at QoS 1 as well, all the time: what the broker gets of it
must be burst + rate x time, as if nothing had been reloaded. After every tenth reload the file is broken, and the
gateway is told by the command and by SIGHUP: neither may change anything.

Prints what was counted, as JSON. Exit status: 0, or 1 when anything was not as promised.
"""

import argparse
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import psutil

from .arrivals import Arrivals
from .metrics import Metrics
from .options import fraction, parser, positive
from .rates import UNBOUNDED
from .sender import REFUSED, Sender
from .stage import Stage, end_on_sigterm
from .targets import Options, Target, start_mosquitto, start_target

PACE = 20
"""Messages per second of a client within its limits."""
TIMES = 5
"""The pace of the one that is over, as a multiple of its rate."""
WINDOW = 20
BROKEN_EVERY = 10
BROKEN = '\n[[limit]]\nname = "broken"\nrate = "many"\n'
WRONG_CONFIGURATION = 2
"""Exit status of `tidegate reload`."""
READ_SECONDS = 0.01
ANSWER_SECONDS = 30.0
FIRST_SECONDS = 1.0
"""Of traffic before the first reload and after the last."""
STAYS = "stays"


def policies(rate: int, burst: int) -> tuple[str, str]:
    """The two that take turns."""
    stays = _limit(STAYS, "reload/over", f"{rate}/s burst {burst}")
    changes = [_limit("changes", "reload/stream/#", f"{number}/s") for number in (PACE * 50, PACE * 100)]
    classes = '[class.streams]\nclient_id = "stream-*"\n'
    extra = [_limit(f"only-second-{number}", f"reload/stream/{number}", f"{PACE * 50}/s") for number in range(20)]
    by_class = _limit("by-class", "reload/stream/#", f"{PACE * 50}/s", 'class = "streams"\nper = ["client", "topic"]\n')
    first = [stays, changes[0], _limit("only-first", "reload/#", f"{PACE * 1000}/s", 'per = "topic"\n')]
    second = [classes, *extra, changes[1], by_class, stays]
    return "\n".join(first), "\n".join(second)


def _limit(name: str, topic: str, rate: str, more: str = "") -> str:
    return f'[[limit]]\nname = "{name}"\n{more}topic = "{topic}"\nrate = "{rate}"\non_excess = "drop"\n'


class Stream:
    """A client that publishes numbered messages, of QoS 1 unless told, at a pace; a thread."""

    def __init__(self, port: int, name: str, topic: str, pace: float, *, qos: int = 1, version: int = 4) -> None:
        self.topic = topic
        self.sender = Sender(port, name, version)
        self.elapsed = 0.0
        """Seconds between the first and the last message."""
        self.trouble: str | None = None
        self._pace = pace
        self._qos = qos
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Connect, and begin."""
        self.sender.connect()
        self._thread.start()

    def stop(self) -> None:
        """Publish no more."""
        self._stop.set()

    def join(self) -> None:
        """Wait until all is acknowledged, and leave."""
        self._thread.join()
        self.sender.close()

    def _run(self) -> None:
        try:
            self._publish()
            self.sender.settle()
        except Exception as error:  # Closed above all
            self.trouble = repr(error)

    def _publish(self) -> None:
        sender = self.sender
        begin = last = time.monotonic()
        due = 0
        while not self._stop.is_set():
            sent, due = due, int((time.monotonic() - begin) * self._pace)
            for _ in range(sent, due):
                if len(sender.in_flight) < WINDOW:
                    sender.publish(self.topic, b"%d" % sender.published, self._qos)
                    last = time.monotonic()
            sender.read(READ_SECONDS)
        self.elapsed = last - begin


class Reloading:
    """Writes configurations, has them read, and notes what should not have been answered."""

    def __init__(self, tidegate: tuple[str, ...], target: Target, rate: int, burst: int) -> None:
        self.wrong: list[str] = []
        self.seconds = 0.0
        """The longest reload, the command's own start included."""
        self._command = [*tidegate, "reload", "-c", str(target.config)]
        self._target = target
        self._base = target.config.read_text().partition("[[limit]]")[0]
        self._policies = policies(rate, burst)

    def good(self, number: int) -> None:
        """Put the other policy in force."""
        self._target.config.write_text(self._base + self._policies[number % 2])
        begin = time.monotonic()
        done = subprocess.run(self._command, capture_output=True, text=True, check=False)
        self.seconds = max(self.seconds, time.monotonic() - begin)
        if done.returncode or Metrics(self._target.admin).sum("tidegate_policy_generation") != number + 1:
            self.wrong.append(f"reload {number}: status {done.returncode}, {done.stdout}{done.stderr}")

    def broken(self) -> None:
        """A file that is wrong, by the command and by SIGHUP."""
        text = self._target.config.read_text()
        before = Metrics(self._target.admin)
        self._target.config.write_text(text + BROKEN)
        done = subprocess.run(self._command, capture_output=True, text=True, check=False)
        if done.returncode != WRONG_CONFIGURATION or "limit.rate" not in done.stderr:
            self.wrong.append(f"a broken file: status {done.returncode}, {done.stdout}{done.stderr}")
        psutil.Process(self._target.pid).send_signal(signal.SIGHUP)
        failed = before.sum("tidegate_reloads_failed_total") + 1
        deadline = time.monotonic() + ANSWER_SECONDS
        while (after := Metrics(self._target.admin)).sum("tidegate_reloads_failed_total") < failed:
            if time.monotonic() > deadline:
                self.wrong.append(f"SIGHUP with a broken file: no failure counted within {ANSWER_SECONDS:.0f} s")
                break
            time.sleep(0.05)
        if after.sum("tidegate_policy_generation") != before.sum("tidegate_policy_generation"):
            self.wrong.append("a broken file made a generation")
        self._target.config.write_text(text)


def run(arguments: argparse.Namespace) -> dict[str, object]:
    """The counts; the keys that end in `violations` must hold nothing."""
    rate, burst = arguments.rate, arguments.burst
    options = Options(tidegate=arguments.tidegate_command, workers=2, policy=policies(rate, burst)[0])
    with Stage() as stage:
        broker = start_mosquitto(stage, UNBOUNDED)
        target = start_target(stage, "tidegate-unix", broker, options)
        arrivals = Arrivals(broker.tcp, "reload/#")
        streams = [
            Stream(target.port, f"stream-{number}", f"reload/stream/{number}", PACE)
            for number in range(arguments.clients)
        ]
        over = Stream(target.port, "over", "reload/over", rate * TIMES)
        for one in (*streams, over):
            one.start()
        time.sleep(FIRST_SECONDS)
        reloading = Reloading(arguments.tidegate_command, target, rate, burst)
        for number in range(1, arguments.reloads + 1):
            reloading.good(number)
            if number % BROKEN_EVERY == 0:
                reloading.broken()
        time.sleep(FIRST_SECONDS)
        for one in (*streams, over):
            one.stop()
        for one in (*streams, over):
            one.join()
        arrivals.settle()
        metrics = Metrics(target.admin)
        arrivals.close()
    return verdict(streams, over, arrivals, metrics, reloading, arguments)


def verdict(
    streams: list[Stream],
    over: Stream,
    arrivals: Arrivals,
    metrics: Metrics,
    reloading: Reloading,
    arguments: argparse.Namespace,
) -> dict[str, object]:
    everyone = [*streams, over]
    expected = arguments.burst + arguments.rate * over.elapsed
    admitted = arrivals.count(over.topic)
    passed = metrics.sum("tidegate_passed_total", limit=STAYS)
    dropped = metrics.sum("tidegate_limited_total", limit=STAYS, action="drop")
    found = {stream.topic: Counter(arrivals.by_topic.get(stream.topic, [])) for stream in streams}
    budget = []
    if abs(admitted / expected - 1) > arguments.tolerance:
        budget.append(f"{admitted} arrived, {expected:.1f} were expected")
    if (passed, passed + dropped) != (admitted, over.sender.published):
        budget.append(f"{passed} counted as passed and {dropped} as dropped, of {over.sender.published}")
    return {
        "reloads": arguments.reloads,
        "seconds": round(over.elapsed, 1),
        "longest reload, seconds": round(reloading.seconds, 2),
        "broken files": metrics.sum("tidegate_reloads_failed_total"),
        "published within limits": sum(stream.sender.published for stream in streams),
        "arrived": sum(sum(some.values()) for some in found.values()),
        "published over the limit": over.sender.published,
        "expected of them": round(expected, 1),
        "arrived of them": admitted,
        "off": f"{admitted / expected - 1:+.2%}",
        "reload violations": reloading.wrong,
        "disconnect violations": [
            f"{one.topic}: {one.sender.connects} connects, {one.trouble}"
            for one in everyone
            if one.trouble or one.sender.connects != 1
        ],
        "lost violations": [
            f"{stream.topic}: {stream.sender.published} published, {len(found[stream.topic])} arrived"
            for stream in streams
            if set(found[stream.topic]) != {b"%d" % number for number in range(stream.sender.published)}
        ],
        "doubled violations": [topic for topic, some in found.items() if max(some.values(), default=0) > 1],
        "acknowledgement violations": [
            one.topic
            for one in everyone
            if len(one.sender.answers) != one.sender.published
            or any(answer.reason >= REFUSED for answer in one.sender.answers)
        ],
        "budget violations": budget,
    }


def main() -> None:
    line = parser("reload", __doc__)
    line.add_argument("--reloads", type=positive, default=50, metavar="N")
    line.add_argument("--clients", type=positive, default=50, metavar="N", help="within their limits")
    line.add_argument("--rate", type=positive, default=100, metavar="N", help="messages per second of the limit")
    line.add_argument("--burst", type=positive, default=100, metavar="N")
    line.add_argument("--tolerance", type=fraction, default=0.02, metavar="X", help="0.02 is 2 %%")
    arguments = line.parse_args()
    end_on_sigterm()
    counts = run(arguments)
    print(json.dumps(counts, indent=1))
    if any(found for name, found in counts.items() if name.endswith("violations")):
        sys.exit(1)


if __name__ == "__main__":
    main()
