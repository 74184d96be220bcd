"""That what arrives is burst + rate x time: every action and QoS, and one budget over several workers.

    python -m benchmarks.rates [--seconds 10] [--rate 100] [--burst 100] [--times 5] [--tolerance 0.02]

Publishers written by hand, one for each case and all at once, publish --times faster than their limit through
`tidegate serve` with two workers; a subscriber directly at the Mosquitto behind counts what arrived. A case that is
disconnected comes back at once, at QoS 0 as another client whose limit counts by address, at QoS 1 as the same.
Meanwhile two polite clients wait, whenever they are rejected, as long as `retry-after-ms` says, and must then be
accepted; asking after half of that time must be refused. Then sixteen clients on both workers share one budget, as
their limit counts by address.

Expected are burst + rate x time messages, time being that from the first to the last PUBLISH. What arrived must be what
/metrics counts as passed, to the message, but for the client that is disconnected and comes back as the same: what it
has not seen acknowledged when it is cut off may be lost between gateway and broker. What was acknowledged without being
dropped must have arrived.

Exit status: 0, or 1 when anything was not as promised.
"""

import argparse
import dataclasses
import sys
import threading
import time
from collections.abc import Sequence

from .arrivals import Arrivals
from .metrics import Metrics
from .options import fraction, parser, positive
from .sender import REFUSED, Closed, Sender
from .stage import Stage, end_on_sigterm
from .targets import Options, start_mosquitto, start_target
from .wire import MESSAGE_RATE_TOO_HIGH, QUOTA_EXCEEDED

UNBOUNDED = "max_inflight_messages 0\nmax_queued_messages 0\n"
WINDOW = 20
"""Messages of one publisher in flight at most."""
PAYLOAD = 64
SIZE = 640
"""Bytes of a whole PUBLISH where bytes are counted."""
POLITE_RATE = 5
SHARING = 16
READ_SECONDS = 0.005


@dataclasses.dataclass(frozen=True)
class Case:
    """One limit, and the client that is over it."""

    name: str
    version: int
    qos: int
    action: str
    by: str = "rate"
    per: str = "client"

    @property
    def topic(self) -> str:
        """Of its messages."""
        return f"rates/{self.name}"


CASES = (
    Case("drop-qos0", 4, 0, "drop"),
    Case("drop-qos1", 4, 1, "drop"),
    Case("drop-qos2", 4, 2, "drop"),
    Case("drop-qos2-v5", 5, 2, "drop"),
    Case("drop-bytes", 4, 0, "drop", "bandwidth"),
    Case("reject-qos1-v5", 5, 1, "reject"),
    Case("reject-qos2-v5", 5, 2, "reject"),
    Case("disconnect-qos0", 4, 0, "disconnect", per="ip"),
    Case("disconnect-qos0-v5", 5, 0, "disconnect", per="ip"),
    Case("disconnect-qos1", 4, 1, "disconnect"),
    Case("observe-qos1", 4, 1, "observe"),
)
SHARED = Case("one-address", 4, 0, "drop")


@dataclasses.dataclass
class Row:
    """What became of a case."""

    case: str
    published: int
    arrived: int
    expected: float
    over: int
    """As /metrics counts those over the limit."""
    note: str
    wrong: list[str]


def on_excess(action: str) -> str:
    return '{ v3 = "drop", default = "reject" }' if action == "reject" else f'"{action}"'


def policy(rate: int, burst: int) -> str:
    """A limit for each case, and those of the polite and of the sharing."""
    parts = []
    for case in CASES:
        amount = f'"{rate}/s burst {burst}"'
        if case.by == "bandwidth":
            amount = f'"{rate * SIZE}B/s burst {burst * SIZE}B"'
        parts.append(_limit(case.name, case.per, f"{case.topic}/#", f"{case.by} = {amount}", case.action))
    polite = f'rate = "{POLITE_RATE}/s burst {POLITE_RATE}"'
    parts.append(_limit("polite", "client", "rates/polite/#", polite, "reject"))
    shared = f'rate = "{rate * 4}/s burst {burst * 4}"'
    parts.append(_limit(SHARED.name, "ip", f"{SHARED.topic}/#", shared, SHARED.action))
    return "\n".join(parts)


def _limit(name: str, per: str, topic: str, measure: str, action: str) -> str:
    return f'[[limit]]\nname = "{name}"\nper = "{per}"\ntopic = "{topic}"\n{measure}\non_excess = {on_excess(action)}\n'


class Flood:
    """Publishes at a pace by some clients in turn, whatever is said to them; a thread."""

    def __init__(self, case: Case, senders: Sequence[Sender], pace: float, seconds: float) -> None:
        self.case = case
        self.senders = senders
        self.first = self.last = 0.0
        """Monotonic seconds of its beginning, and of its last PUBLISH."""
        self.reasons: list[int | None] = []
        """Of all closes."""
        self.trouble: str | None = None
        self._pace = pace
        self._seconds = seconds
        self._thread = threading.Thread(target=self._run, name=case.name, daemon=True)

    @property
    def elapsed(self) -> float:
        """Seconds in which it has published."""
        return self.last - self.first

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, and leave."""
        self._thread.join()
        for sender in self.senders:
            sender.close()

    def _run(self) -> None:
        try:
            for sender in self.senders:
                sender.connect()
            self._flood()
            for sender in self.senders:
                self._settle(sender)
        except Exception as error:  # told in the table, beside the others' figures
            self.trouble = repr(error)

    def _flood(self) -> None:
        self.first = self.last = begin = time.monotonic()
        due = 0
        while (now := time.monotonic()) - begin < self._seconds:
            sent, due = due, int((now - begin) * self._pace)
            for number in range(sent, due):
                if self._publish(self.senders[number % len(self.senders)]):
                    self.last = time.monotonic()
            for sender in self.senders:
                try:
                    sender.read(READ_SECONDS / len(self.senders))
                except Closed as closed:
                    self._again(sender, closed)

    def _publish(self, sender: Sender) -> bool:
        if len(sender.in_flight) >= WINDOW:
            return False
        size = PAYLOAD
        if self.case.by == "bandwidth":  # what is before it: 3 bytes, and the topic with its length
            size = SIZE - 5 - len(self.case.topic)
        try:
            sender.publish(self.case.topic, (b"%d" % sender.published).ljust(size), self.case.qos)
        except Closed as closed:
            self._again(sender, closed)
            return False
        return True

    def _settle(self, sender: Sender) -> None:
        try:
            sender.settle()
        except Closed as closed:
            self.reasons.append(closed.reason)

    def _again(self, sender: Sender, closed: Closed) -> None:
        self.reasons.append(closed.reason)
        if self.case.per == "ip":
            sender.client_id = f"{self.case.name}-{len(self.reasons)}"
        sender.connect()


class Polite:
    """Waits as long as it is told; counts what it was then told. A thread."""

    def __init__(self, port: int, qos: int, seconds: float) -> None:
        self.accepted = self.early = 0
        self.wrong: list[str] = []
        self.qos = qos
        self._seconds = seconds
        self._sender = Sender(port, f"polite-{qos}", 5)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, and leave."""
        self._thread.join()
        self._sender.close()

    def _ask(self) -> tuple[int, int | None]:
        self._sender.publish("rates/polite", bytes(PAYLOAD), self.qos)
        while self._sender.in_flight:
            self._sender.read(1.0)
        answer = self._sender.answers[-1]
        return answer.reason, answer.retry_ms

    def _run(self) -> None:
        try:
            self._sender.connect()
            end = time.monotonic() + self._seconds
            while time.monotonic() < end:
                self._round()
        except Exception as error:
            self.wrong.append(repr(error))

    def _round(self) -> None:
        asked = time.monotonic()
        reason, retry = self._ask()
        if reason < REFUSED:
            return
        if reason != QUOTA_EXCEEDED or retry is None:
            self.wrong.append(f"refused with 0x{reason:02x}, retry-after-ms {retry}")
            return
        time.sleep(retry / 2000)
        early, later = self._ask()
        if (time.monotonic() - asked) * 1000 < retry - 1:  # the answer is rounded up
            if early < REFUSED or later is None:
                self.wrong.append(f"accepted before {retry} ms were over")
                return
            self.early += 1
            time.sleep(later / 1000)
        elif early >= REFUSED and later is not None:
            time.sleep(later / 1000)
        reason, retry = self._ask()
        if reason >= REFUSED:
            self.wrong.append(f"refused with 0x{reason:02x} after having waited, now {retry} ms")
        self.accepted += 1


def judge(flood: Flood, payloads: list[bytes], metrics: Metrics, rate: int, burst: int, tolerance: float) -> Row:
    """Compare what arrived with what was to."""
    case = flood.case
    arrived = len(payloads)
    published = sum(sender.published for sender in flood.senders)
    passed = metrics.sum("tidegate_passed_total", limit=case.name)
    over = metrics.sum("tidegate_limited_total", limit=case.name, action=case.action)
    row = Row(case.name, published, arrived, burst + rate * flood.elapsed, over, "", [])
    if flood.trouble:
        row.wrong.append(flood.trouble)
    if published < 1.5 * row.expected:
        row.wrong.append("published too slowly to be over the limit")
    if abs(passed / row.expected - 1) > tolerance:
        row.wrong.append(f"more than {tolerance:.0%} off")
    # Mosquitto reads no further once a session is taken over, or once it cannot write an acknowledgement as the
    # connection has ended.
    if cut := case.action == "disconnect" and case.per == "client":
        row.note = f"{passed - arrived} unacknowledged lost, "
    if (arrived > passed) if cut else arrived != (published if case.action == "observe" else passed):
        row.wrong.append(f"{passed} counted as passed")
    if case.action != "disconnect" and passed + over != published:
        row.wrong.append(f"{passed} passed and {over} over are not all")
    answers = [answer for sender in flood.senders for answer in sender.answers]
    if case.action != "drop":
        missing = {answer.number for answer in answers if answer.reason < REFUSED} - set(map(int, payloads))
        row.wrong += [f"{len(missing)} acknowledged messages were lost"] if missing else []
    reasons = [answer.reason for answer in answers]
    refused = [reason for reason in reasons if reason >= REFUSED]
    if case.action == "reject":
        row.note = f"{len(refused)} x 0x97"
        if len(refused) != over or set(refused) != {QUOTA_EXCEEDED}:
            row.wrong.append(f"refused with {sorted(set(refused))}")
    elif refused:
        row.wrong.append(f"{len(refused)} refused with {sorted(set(refused))}")
    if case.action == "disconnect":
        told = sum(reason == MESSAGE_RATE_TOO_HIGH for reason in flood.reasons)
        row.note += f"{len(flood.reasons)} closed" + (f", {told} x 0x96" if case.version == 5 else "")
        if len(flood.reasons) != over or told != (over if case.version == 5 else 0):
            row.wrong.append(f"closed {len(flood.reasons)} times, {told} times with 0x96")
    elif flood.reasons:
        row.wrong.append(f"connection closed {len(flood.reasons)} times")
    return row


def table(rows: Sequence[Row]) -> str:
    lines = [f"{'':20s} {'published':>9s} {'expected':>9s} {'arrived':>9s} {'off':>7s} {'over':>7s}  "]
    for row in rows:
        passed = row.published - row.over if "observe" in row.case else row.arrived
        lines.append(
            f"{row.case:20s} {row.published:9d} {row.expected:9.1f} {row.arrived:9d} {passed / row.expected - 1:+7.2%}"
            f" {row.over:7d}  {'; '.join(filter(None, [row.note, *(f'WRONG: {text}' for text in row.wrong)]))}"
        )
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """A row for each case, and what else was wrong."""
    rate, burst, seconds = arguments.rate, arguments.burst, arguments.seconds
    pace = rate * arguments.times
    options = Options(tidegate=arguments.tidegate_command, workers=2, policy=policy(rate, burst))
    with Stage() as stage:
        broker = start_mosquitto(stage, UNBOUNDED)
        target = start_target(stage, "tidegate-unix", broker, options)
        arrivals = Arrivals(broker.tcp, "rates/#")
        floods = [Flood(case, [Sender(target.port, case.name, case.version)], pace, seconds) for case in CASES]
        polite = [Polite(target.port, qos, seconds) for qos in (1, 2)]
        parties: list[Flood | Polite] = [*floods, *polite]
        for one in parties:
            one.start()
        for one in parties:
            one.join()
        senders = [Sender(target.port, f"sharing-{number}") for number in range(SHARING)]
        sharing = Flood(SHARED, senders, pace * 4, seconds)
        sharing.start()
        time.sleep(seconds / 2)
        workers = Metrics(target.admin).by("tidegate_connections", "worker")
        sharing.join()
        arrivals.settle()
        metrics = Metrics(target.admin)
        arrivals.close()
    rows = [
        judge(flood, arrivals.by_topic[flood.case.topic], metrics, rate, burst, arguments.tolerance) for flood in floods
    ]
    shared = judge(sharing, arrivals.by_topic[SHARED.topic], metrics, rate * 4, burst * 4, arguments.tolerance)
    shared.note = f"{SHARING} clients, by worker: {', '.join(map(str, workers.values()))}"
    if sum(count > 0 for count in workers.values()) < 2:
        shared.wrong.append("one worker had all of them: try again")
    wrong = []
    for client in polite:
        name = f"polite client at QoS {client.qos}"
        print(f"{name}: {client.accepted} times accepted after retry-after-ms,", end=" ")
        print(f"{client.early} times refused after half of it")
        wrong += [f"{name}: {text}" for text in client.wrong]
        if not client.accepted or not client.early:
            wrong.append(f"{name}: never had to wait")
    return [*rows, shared], wrong


def main() -> None:
    line = parser("rates", __doc__)
    line.add_argument("--seconds", type=positive, default=10, metavar="N", help="of each of the two parts")
    line.add_argument("--rate", type=positive, default=100, metavar="N", help="messages per second of a limit")
    line.add_argument("--burst", type=positive, default=100, metavar="N")
    line.add_argument("--times", type=positive, default=5, metavar="N", help="the pace, as a multiple of the rate")
    line.add_argument("--tolerance", type=fraction, default=0.02, metavar="X", help="0.02 is 2 %%")
    arguments = line.parse_args()
    end_on_sigterm()
    rows, wrong = run(arguments)
    print(table(rows))
    for text in wrong:
        print(f"WRONG: {text}")
    if wrong or any(row.wrong for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
