import json

import pytest

from tidegate.app.demo_figures import Figures, percentile


def test_nothing_yet() -> None:
    figures = Figures()
    assert (figures.arrived, figures.missing, figures.loss, figures.median, figures.p99) == (0, 0, 0.0, None, None)


@pytest.mark.parametrize(
    ("values", "part", "expected"),
    [
        ([], 0.5, None),
        ([7.0], 0.01, 7.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([4.0, 3.0, 2.0, 1.0], 0.5, 2.0),
        ([float(number) for number in range(1, 101)], 0.99, 99.0),
        ([float(number) for number in range(1, 102)], 0.99, 100.0),
        ([1.0, 2.0, 3.0], 1.0, 3.0),
    ],
)
def test_percentiles_are_values_that_occurred(values: list[float], part: float, expected: float | None) -> None:
    assert percentile(values, part) == expected


def test_what_was_sent_and_did_not_arrive_is_missing() -> None:
    figures = Figures()
    figures.take({"ready": True})
    figures.take({"sent": 8, "acknowledged": 7, "finished": False})
    figures.take({"arrived": [[0, 0, 0.25], [1, 0, 0.5]], "flood_arrived": 90})
    figures.take({"flood_sent": 100})
    assert (figures.sent, figures.acknowledged, figures.arrived, figures.missing, figures.loss) == (8, 7, 2, 6, 0.75)
    assert (figures.flood_sent, figures.flood_arrived, figures.came) == (100, 90, 92)
    assert not figures.finished
    figures.take({"sent": 8, "acknowledged": 8, "finished": True})
    assert figures.finished


def test_a_reading_that_comes_again_counts_once_and_by_its_first_arrival() -> None:
    figures = Figures(sent=2)
    figures.take({"arrived": [[3, 1, 0.25], [3, 1, 9.0], [3, 2, 0.5]]})
    assert (figures.arrived, figures.missing, figures.median) == (2, 0, 0.25)


def test_a_reading_that_is_told_before_its_sending_is_not_missing() -> None:
    figures = Figures(sent=1)
    figures.take({"arrived": [[0, 0, 0.1], [1, 0, 0.1]]})
    assert figures.missing == 0


def test_the_object_has_milliseconds() -> None:
    figures = Figures(sent=3, acknowledged=3, flood_sent=50, flood_arrived=40, limited=10)
    figures.take({"arrived": [[0, 0, 0.0012345], [1, 0, 2.5]]})
    assert json.loads(json.dumps(figures.as_object())) == {
        "sent": 3,
        "acknowledged": 3,
        "arrived": 2,
        "lost": 1,
        "loss": 0.3333,
        "latency_ms": {"median": 1.234, "p99": 2500.0, "max": 2500.0},
        "flood": {"sent": 50, "arrived": 40, "limited": 10},
    }
    latency = Figures().as_object()["latency_ms"]
    assert latency == {"median": None, "p99": None, "max": None}
