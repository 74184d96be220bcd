"""The shared counters as Prometheus families.

Every label set is closed: packet types, faults, at most 64 workers, and the names of the operator's own limits and
classes; never a client, a user or a topic.
"""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .. import __version__
from ..engine import counters
from ..mqtt.errors import Fault
from ..mqtt.reasons import PacketType
from .processes import ProcessMetrics
from .source import Source, worker_name


def create_registry(source: Source) -> CollectorRegistry:
    """A registry of its own with everything that the gateway tells about itself; each scrape reads anew."""
    registry = CollectorRegistry()
    registry.register(GatewayMetrics(source))
    registry.register(ProcessMetrics(source))
    return registry


class GatewayMetrics(Collector):
    """What the workers counted, summed where the worker does not matter."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """All families; the counters of workers that died are in the sums, their gauges are not."""
        living = self._source.processes()
        alive = [row for row in range(self._source.workers) if worker_name(row) in living]
        yield from self._traffic()
        yield from self._connections(alive)
        yield from self._losses()
        yield from self._limits()
        yield from self._bans()
        yield from self._holds(alive)
        yield from self._wills(alive)
        yield self._delays()
        yield self._lag()
        yield _counter(
            "tidegate_worker_restarts",
            "Workers that ended by themselves and were replaced.",
            self._source.restarts,
        )
        build = GaugeMetricFamily("tidegate_build_info", "Always 1; tells the version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build

    def _traffic(self) -> Iterator[Metric]:
        packets = CounterMetricFamily(
            "tidegate_packets", "MQTT packets read, by sender and type.", labels=["direction", "type"]
        )
        size = CounterMetricFamily("tidegate_bytes", "Bytes read, by sender.", labels=["direction"])
        for direction, first, volume in (
            ("from_client", counters.PACKETS_FROM_CLIENT, counters.BYTES_FROM_CLIENT),
            ("from_broker", counters.PACKETS_FROM_BROKER, counters.BYTES_FROM_BROKER),
        ):
            for kind in PacketType:
                packets.add_metric([direction, kind.name.lower()], self._sum(first + kind))
            size.add_metric([direction], self._sum(volume))
        yield packets
        yield size

    def _connections(self, alive: list[int]) -> Iterator[Metric]:
        yield self._gauge(
            "tidegate_connections", "Client connections that are open now, by worker.", counters.CONNECTIONS, alive
        )
        yield _counter("tidegate_connections", "Client connections accepted.", self._sum(counters.CONNECTIONS_TOTAL))
        yield self._gauge(
            "tidegate_waiting_connections",
            "Client connections that limits on connecting keep waiting, by worker.",
            counters.WAITING_CONNECTIONS,
            alive,
        )
        up = bool(alive) and all(self._word(row, counters.UPSTREAM_UP) for row in alive)
        yield GaugeMetricFamily(
            "tidegate_upstream_up", "1 while every living worker reaches the broker, else 0.", value=int(up)
        )

    def _losses(self) -> Iterator[Metric]:
        malformed = CounterMetricFamily(
            "tidegate_malformed",
            "Packets that broke the specification, or were more than is taken, and ended their connection, by fault.",
            labels=["reason"],
        )
        for fault in Fault:
            malformed.add_metric([fault.name.lower()], self._sum(counters.MALFORMED + fault))
        yield malformed
        refused = CounterMetricFamily(
            "tidegate_refused",
            "Clients that were refused at CONNECT or before, by reason; those over a limit are in tidegate_limited.",
            labels=["reason"],
        )
        for refusal in counters.Refusal:
            refused.add_metric([refusal.name.lower()], self._sum(counters.REFUSED + refusal))
        yield refused
        timeouts = CounterMetricFamily(
            "tidegate_timeouts",
            "Clients closed for silence: no CONNECT in time, 1.5 times the keepalive, a packet that does not go on, "
            "keeping a window's places.",
            labels=["kind"],
        )
        timeouts.add_metric(["connect"], self._sum(counters.TIMED_OUT_CONNECT))
        timeouts.add_metric(["keepalive"], self._sum(counters.TIMED_OUT_KEEPALIVE))
        timeouts.add_metric(["packet"], self._sum(counters.TIMED_OUT_PACKET))
        timeouts.add_metric(["window"], self._sum(counters.TIMED_OUT_WINDOW))
        yield timeouts
        yield _counter(
            "tidegate_broker_lost",
            "Client connections that ended because the broker was gone.",
            self._sum(counters.BROKER_LOST),
        )

    def _limits(self) -> Iterator[Metric]:
        limited = CounterMetricFamily(
            "tidegate_limited", "Messages over a limit, by what became of them.", labels=["limit", "action"]
        )
        passed = CounterMetricFamily(
            "tidegate_passed", "Messages that a limit looked at and that passed all limits.", labels=["limit"]
        )
        crowded = CounterMetricFamily(
            "tidegate_crowded",
            "Messages that were counted with others, as their limit's share of the buckets was in use.",
            labels=["limit"],
        )
        buckets = GaugeMetricFamily(
            "tidegate_buckets",
            "Budgets in use (live), and those of them that would refuse the next message (full).",
            labels=["limit", "state"],
        )
        for limit in self._source.limits():
            for action in sorted(limit.actions):
                limited.add_metric([limit.name, action.name.lower()], limit.limited[action])
            passed.add_metric([limit.name], limit.passed)
            crowded.add_metric([limit.name], limit.crowded)
            buckets.add_metric([limit.name, "live"], limit.live)
            buckets.add_metric([limit.name, "full"], limit.full)
        yield from (limited, passed, crowded, buckets)
        yield _counter(
            "tidegate_events_lost",
            "Times that a client came under a limit, or no longer was, and nobody was told: too many at once.",
            self._source.events_lost,
        )
        yield GaugeMetricFamily(
            "tidegate_policy_generation",
            "Policies that have been in force since the start: one more for each reload.",
            value=self._source.policy_generation,
        )
        yield _counter(
            "tidegate_reloads_failed",
            "Reloads that changed nothing, because the configuration was wrong.",
            self._source.failed_reloads,
        )

    def _bans(self) -> Iterator[Metric]:
        active = GaugeMetricFamily("tidegate_bans", "Bans in force, by the limit that gave them.", labels=["limit"])
        total = CounterMetricFamily("tidegate_bans", "Bans that a limit has given.", labels=["limit"])
        for one in self._source.bans():
            active.add_metric([one.limit], one.active)
            if one.total is not None:
                total.add_metric([one.limit], one.total)
        yield from (active, total)
        yield _counter(
            "tidegate_bans_dropped",
            "Bans in force that were dropped, as there were too many.",
            self._source.bans_dropped,
        )

    def _holds(self, alive: list[int]) -> Iterator[Metric]:
        yield self._gauge(
            "tidegate_hold_bytes", "Bytes that wait under limits that delay, by worker.", counters.HOLD_BYTES, alive
        )
        yield self._gauge(
            "tidegate_held_messages",
            "Messages that wait under limits that delay, by worker.",
            counters.HELD_MESSAGES,
            alive,
        )
        inflight = GaugeMetricFamily(
            "tidegate_inflight",
            "QoS 1 and 2 messages that were passed on and whose exchange is not over, by sender.",
            labels=["direction"],
        )
        for direction, index in (
            ("from_client", counters.INFLIGHT_FROM_CLIENT),
            ("from_broker", counters.INFLIGHT_FROM_BROKER),
        ):
            inflight.add_metric([direction], sum(self._word(row, index) for row in alive))
        yield inflight
        discarded = CounterMetricFamily(
            "tidegate_hold_discarded", "Messages that were given up while they waited, by reason.", labels=["reason"]
        )
        for reason in counters.Discard:
            discarded.add_metric([reason.name.lower()], self._sum(counters.HOLD_DISCARDED + reason))
        yield discarded

    def _wills(self, alive: list[int]) -> Iterator[Metric]:
        yield self._gauge(
            "tidegate_wills_held", "Wills of clients that have gone which limits hold back.", counters.WILLS_HELD, alive
        )
        wills = CounterMetricFamily(
            "tidegate_wills", "Wills that limits concern, by what became of them.", labels=["outcome"]
        )
        for outcome in counters.Outcome:
            wills.add_metric([outcome.name.lower()], self._sum(counters.WILLS + outcome))
        yield wills

    def _delays(self) -> Metric:
        delays = HistogramMetricFamily(
            "tidegate_delay_seconds",
            "How long messages waited, by the limit that delayed them and the class of their clients.",
            labels=["limit", "class"],
        )
        for one in self._source.delays():
            within = list(accumulate(one.buckets))
            # A message that is being counted while we read may be in its bucket only: then that one tells the count.
            total = max(one.count, within[-1])
            buckets = [(str(bound), float(number)) for bound, number in zip(counters.DELAY_BOUNDS, within, strict=True)]
            delays.add_metric([one.limit, one.class_name], [*buckets, ("+Inf", float(total))], sum_value=one.seconds)
        return delays

    def _lag(self) -> Metric:
        lag = HistogramMetricFamily(
            "tidegate_loop_lag_seconds", "How late turns of a worker's event loop came.", labels=["worker"]
        )
        for row in range(self._source.workers):
            # The worker goes on counting while we read. The largest first, and none above the one before:
            # so every scrape is a histogram, and none of its numbers ever falls.
            ceiling = self._word(row, counters.LAG_COUNT)
            buckets = [("+Inf", float(ceiling))]
            for i, bound in reversed(list(enumerate(counters.LAG_BOUNDS))):
                ceiling = min(ceiling, self._word(row, counters.LAG_BUCKETS + i))
                buckets.append((str(bound), float(ceiling)))
            seconds = self._word(row, counters.LAG_MICROSECONDS) / 1e6
            lag.add_metric([str(row)], buckets[::-1], sum_value=seconds)
        return lag

    def _gauge(self, name: str, documentation: str, index: int, alive: list[int]) -> Metric:
        gauge = GaugeMetricFamily(name, documentation, labels=["worker"])
        for row in range(self._source.workers):
            # What a killed worker left in it are connections and messages that died with it.
            gauge.add_metric([str(row)], self._word(row, index) if row in alive else 0)
        return gauge

    def _word(self, row: int, index: int) -> int:
        return int(self._source.words[row * counters.ROW_WORDS + index])

    def _sum(self, index: int) -> int:
        return sum(self._word(row, index) for row in range(self._source.workers))


def _counter(name: str, documentation: str, value: int) -> Metric:
    return CounterMetricFamily(name, documentation, value=value)
