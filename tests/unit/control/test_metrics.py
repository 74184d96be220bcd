import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from support.fake_source import FakeSource
from tidegate import __version__
from tidegate.control.metrics import create_registry
from tidegate.engine import counters
from tidegate.mqtt.errors import Fault
from tidegate.mqtt.reasons import PacketType
from tidegate.policy.counts import BanCounts, DelayCounts, LimitCounts
from tidegate.policy.model import Action

DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


def value(source: FakeSource, name: str, **labels: str) -> float | None:
    return create_registry(source).get_sample_value(name, labels)


def families(source: FakeSource) -> dict[str, str]:
    """The families as a scraper sees them, with their HELP."""
    text = generate_latest(create_registry(source)).decode()
    return dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))


def test_packets_and_bytes_are_summed_over_workers(source: FakeSource) -> None:
    source.rows[0].add(counters.PACKETS_FROM_CLIENT + PacketType.PUBLISH, 3)
    source.rows[1].add(counters.PACKETS_FROM_CLIENT + PacketType.PUBLISH, 4)
    source.rows[1].add(counters.PACKETS_FROM_BROKER + PacketType.PINGRESP, 1)
    source.rows[0].add(counters.BYTES_FROM_CLIENT, 100)
    source.rows[1].add(counters.BYTES_FROM_BROKER, 7)
    assert value(source, "tidegate_packets_total", direction="from_client", type="publish") == 7
    assert value(source, "tidegate_packets_total", direction="from_broker", type="pingresp") == 1
    assert value(source, "tidegate_packets_total", direction="from_broker", type="publish") == 0
    assert value(source, "tidegate_bytes_total", direction="from_client") == 100
    assert value(source, "tidegate_bytes_total", direction="from_broker") == 7


@pytest.mark.parametrize(
    ("word", "name"),
    [
        (counters.CONNECTIONS, "tidegate_connections"),
        (counters.HOLD_BYTES, "tidegate_hold_bytes"),
        (counters.HELD_MESSAGES, "tidegate_held_messages"),
        (counters.WILLS_HELD, "tidegate_wills_held"),
    ],
)
def test_gauges_by_worker_without_what_died_with_theirs(source: FakeSource, word: int, name: str) -> None:
    for row in source.rows:
        row.put(word, 5)
    del source.living["worker-1"]
    assert value(source, name, worker="0") == 5
    assert value(source, name, worker="1") == 0


def test_connections_are_counted_also_of_workers_that_died(source: FakeSource) -> None:
    for row in source.rows:
        row.add(counters.CONNECTIONS_TOTAL, 10)
    del source.living["worker-1"]
    assert value(source, "tidegate_connections_total") == 20


def test_wills_are_counted_by_what_became_of_them_also_by_workers_that_died(source: FakeSource) -> None:
    for outcome in counters.Outcome:
        assert value(source, "tidegate_wills_total", outcome=outcome.name.lower()) == 0
        for row in source.rows:
            row.add(counters.WILLS + outcome, outcome + 1)
    del source.living["worker-1"]
    for outcome in counters.Outcome:
        assert value(source, "tidegate_wills_total", outcome=outcome.name.lower()) == 2 * (outcome + 1)


def test_messages_in_flight_are_those_of_living_workers(source: FakeSource) -> None:
    for row in source.rows:
        row.put(counters.INFLIGHT_FROM_CLIENT, 3)
        row.put(counters.INFLIGHT_FROM_BROKER, 4)
    assert value(source, "tidegate_inflight", direction="from_client") == 6
    assert value(source, "tidegate_inflight", direction="from_broker") == 8
    del source.living["worker-0"]
    assert value(source, "tidegate_inflight", direction="from_client") == 3
    assert value(source, "tidegate_inflight", direction="from_broker") == 4


@pytest.mark.parametrize(
    ("up", "dead", "expected"),
    [
        ((1, 1), (), 1),
        ((1, 0), (), 0),
        ((1, 0), ("worker-1",), 1),
        ((0, 1), ("worker-1",), 0),
        ((1, 1), ("worker-0", "worker-1"), 0),
    ],
)
def test_upstream_is_up_when_every_living_worker_says_so(
    source: FakeSource, up: tuple[int, int], dead: tuple[str, ...], expected: int
) -> None:
    for row, says in zip(source.rows, up, strict=True):
        row.put(counters.UPSTREAM_UP, says)
    for name in dead:
        del source.living[name]
    assert value(source, "tidegate_upstream_up") == expected


def test_every_fault_is_a_reason(source: FakeSource) -> None:
    for fault in Fault:
        source.rows[1].add(counters.MALFORMED + fault, fault + 1)
    for fault in Fault:
        assert value(source, "tidegate_malformed_total", reason=fault.name.lower()) == fault + 1


def test_every_reason_to_discard_is_a_reason(source: FakeSource) -> None:
    for reason in counters.Discard:
        assert value(source, "tidegate_hold_discarded_total", reason=reason.name.lower()) == 0
        for row in source.rows:
            row.add(counters.HOLD_DISCARDED + reason, reason + 1)
    del source.living["worker-1"]
    for reason in counters.Discard:
        assert value(source, "tidegate_hold_discarded_total", reason=reason.name.lower()) == 2 * (reason + 1)


@pytest.mark.parametrize(
    ("word", "name", "labels"),
    [
        *(
            (counters.REFUSED + refusal, "tidegate_refused_total", {"reason": refusal.name.lower()})
            for refusal in counters.Refusal
        ),
        (counters.TIMED_OUT_CONNECT, "tidegate_timeouts_total", {"kind": "connect"}),
        (counters.TIMED_OUT_KEEPALIVE, "tidegate_timeouts_total", {"kind": "keepalive"}),
        (counters.BROKER_LOST, "tidegate_broker_lost_total", {}),
    ],
)
def test_losses(source: FakeSource, word: int, name: str, labels: dict[str, str]) -> None:
    source.rows[0].add(word, 2)
    source.rows[1].add(word, 3)
    assert value(source, name, **labels) == 5


def test_restarts_and_version(source: FakeSource) -> None:
    source.restarts = 4
    assert value(source, "tidegate_worker_restarts_total") == 4
    assert value(source, "tidegate_build_info", version=__version__) == 1


def limited(name: str, *actions: Action) -> LimitCounts:
    """Counts of a limit that can take these actions; each number is another one."""
    return LimitCounts(
        name, frozenset(actions), 100, {action: 10 + action for action in Action if action}, crowded=3, live=5, full=2
    )


def test_each_limit_has_its_counts(source: FakeSource) -> None:
    source.counted = [limited("flood", Action.DROP, Action.REJECT), limited("retained", Action.OBSERVE)]
    for limit in ("flood", "retained"):
        assert value(source, "tidegate_passed_total", limit=limit) == 100
        assert value(source, "tidegate_crowded_total", limit=limit) == 3
        assert value(source, "tidegate_buckets", limit=limit, state="live") == 5
        assert value(source, "tidegate_buckets", limit=limit, state="full") == 2
    assert value(source, "tidegate_limited_total", limit="flood", action="drop") == 10 + Action.DROP
    assert value(source, "tidegate_limited_total", limit="flood", action="reject") == 10 + Action.REJECT
    assert value(source, "tidegate_limited_total", limit="retained", action="observe") == 10 + Action.OBSERVE


def test_actions_that_a_limit_cannot_take_have_no_sample(source: FakeSource) -> None:
    source.counted = [limited("flood", Action.DROP)]
    samples = re.findall(
        r"^tidegate_limited_total\{(.*)\}", generate_latest(create_registry(source)).decode(), re.MULTILINE
    )
    assert samples == ['action="drop",limit="flood"']


def test_limits_that_come_and_go_are_read_at_each_scrape(source: FakeSource) -> None:
    registry = create_registry(source)
    assert registry.get_sample_value("tidegate_passed_total", {"limit": "flood"}) is None
    source.counted = [limited("flood", Action.DROP)]
    assert registry.get_sample_value("tidegate_passed_total", {"limit": "flood"}) == 100
    source.counted = []
    assert registry.get_sample_value("tidegate_passed_total", {"limit": "flood"}) is None


def test_reloads_and_what_nobody_was_told(source: FakeSource) -> None:
    source.policy_generation, source.failed_reloads, source.events_lost = 7, 2, 9
    assert value(source, "tidegate_policy_generation") == 7
    assert value(source, "tidegate_reloads_failed_total") == 2
    assert value(source, "tidegate_events_lost_total") == 9


def test_bans_are_counted_by_limit(source: FakeSource) -> None:
    source.banned = [BanCounts("", 2, None), BanCounts("guess", 3, 7), BanCounts("other", 1, None)]
    source.bans_dropped = 4
    assert [value(source, "tidegate_bans", limit=limit) for limit in ("", "guess", "other")] == [2, 3, 1]
    assert [value(source, "tidegate_bans_total", limit=limit) for limit in ("", "guess", "other")] == [None, 7, None]
    assert value(source, "tidegate_bans_dropped_total") == 4


def test_families_of_limits_are_there_without_limits(source: FakeSource) -> None:
    assert {"tidegate_limited_total", "tidegate_passed_total", "tidegate_crowded_total", "tidegate_buckets"} <= set(
        families(source)
    )


DELAY_COUNTS = (1, 0, 2, 0, 0, 3, 0, 0, 0, 4, 0, 5)
WITHIN = [1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10, 15]


def delay_buckets(source: FakeSource, **labels: str) -> list[float | None]:
    bounds = [*map(str, counters.DELAY_BOUNDS), "+Inf"]
    registry = create_registry(source)
    return [registry.get_sample_value("tidegate_delay_seconds_bucket", {**labels, "le": bound}) for bound in bounds]


def test_delays_are_a_histogram_per_limit_and_class(source: FakeSource) -> None:
    nothing = (0,) * len(counters.DELAY_BOUNDS)
    source.delayed = [
        DelayCounts("pace", "", 17, 2.5, DELAY_COUNTS),
        DelayCounts("pace", "plc", 1, 31.0, nothing),
        DelayCounts("other", "other", 2, 80.0, nothing),
    ]
    labels = {"limit": "pace", "class": ""}
    assert delay_buckets(source, **labels) == [*WITHIN, 17]
    assert value(source, "tidegate_delay_seconds_count", **labels) == 17
    assert value(source, "tidegate_delay_seconds_sum", **labels) == 2.5
    assert delay_buckets(source, **{"limit": "pace", "class": "plc"}) == [*nothing, 1]
    assert value(source, "tidegate_delay_seconds_sum", **{"limit": "other", "class": "other"}) == 80
    assert value(source, "tidegate_delay_seconds_count", **{"limit": "other", "class": ""}) is None


def test_delays_stay_a_histogram_while_a_worker_counts(source: FakeSource) -> None:
    source.delayed = [DelayCounts("pace", "", 14, 2.5, DELAY_COUNTS)]
    assert delay_buckets(source, **{"limit": "pace", "class": ""}) == [*WITHIN, 15]


def test_delays_that_nobody_had_are_a_family_without_samples(source: FakeSource) -> None:
    text = generate_latest(create_registry(source)).decode()
    assert re.findall(r"^.*tidegate_delay_seconds.*$", text, re.MULTILINE) == [
        "# HELP tidegate_delay_seconds " + families(source)["tidegate_delay_seconds"],
        "# TYPE tidegate_delay_seconds histogram",
    ]


def lag_buckets(source: FakeSource, worker: str) -> list[float | None]:
    bounds = [*map(str, counters.LAG_BOUNDS), "+Inf"]
    registry = create_registry(source)
    name = "tidegate_loop_lag_seconds_bucket"
    return [registry.get_sample_value(name, {"worker": worker, "le": bound}) for bound in bounds]


def test_lag_is_a_histogram_per_worker(source: FakeSource) -> None:
    row = source.rows[1]
    row.add(counters.LAG_COUNT, 9)
    row.add(counters.LAG_MICROSECONDS, 2_500_000)
    for i, count in enumerate((1, 2, 3, 4, 5, 6, 7)):
        row.add(counters.LAG_BUCKETS + i, count)
    assert lag_buckets(source, "1") == [1, 2, 3, 4, 5, 6, 7, 9]
    assert value(source, "tidegate_loop_lag_seconds_sum", worker="1") == 2.5
    assert value(source, "tidegate_loop_lag_seconds_count", worker="1") == 9
    assert lag_buckets(source, "0") == [0] * 8


def test_lag_stays_a_histogram_while_the_worker_counts(source: FakeSource) -> None:
    row = source.rows[0]
    row.add(counters.LAG_COUNT, 3)
    for i, count in enumerate((1, 4, 3, 4, 4, 4, 4)):
        row.add(counters.LAG_BUCKETS + i, count)
    assert lag_buckets(source, "0") == [1, 3, 3, 3, 3, 3, 3, 3]


def test_words_hold_the_largest_count(source: FakeSource) -> None:
    source.rows[0].put(counters.BYTES_FROM_CLIENT, 2**64 - 1)
    assert value(source, "tidegate_bytes_total", direction="from_client") == 2**64 - 1


def test_a_scraper_can_read_it_and_every_family_has_help(source: FakeSource) -> None:
    text = generate_latest(create_registry(source)).decode()
    samples = [
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    assert len(samples) == len(set(samples))
    assert all(families(source).values())
    assert text.count("# TYPE ") == text.count("# HELP ") == len(families(source))


def test_labels_are_bounded_with_the_most_workers() -> None:
    text = generate_latest(create_registry(FakeSource(workers=64))).decode()
    assert len(text.splitlines()) < 1400


def test_the_documentation_names_every_family_and_reason_and_no_other(source: FakeSource) -> None:
    text = DOCS.read_text()
    rows = re.findall(r"^\| `(tidegate_\w+)` \|(.*)$", text, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(families(source))
    for name, row in rows:
        cells = [cell.strip() for cell in row.strip(" |").split("|")]
        assert len(cells) == 3, name
        assert all(cells), name
    assert all(f"`{reason.name.lower()}`" in text for reason in (*Fault, *counters.Discard, *counters.Refusal))
