"""`tidegate demo`, its structure and its end. What it measures is the machine's business."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from support.gateway import tidegate_binary
from support.process import Process
from support.wait import until

PATIENCE = 100.0
"""Seconds: it floods the machine, and other tests run beside it."""
PROCESSES = 6
"""Mosquitto, the gateway, its worker, and the three kinds of clients."""
HALF = {"sent", "acknowledged", "arrived", "lost", "loss", "latency_ms", "flood"}


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[Process]:
    """It runs; its temporary files go to a folder of the test's own."""
    temporary = folder / "tmp"
    temporary.mkdir()
    process = Process([tidegate_binary(), "demo", *options], folder / "demo", env={"TMPDIR": str(temporary)})
    process.start()
    try:
        yield process
    finally:
        process.end()


def test_the_figures_of_both_halves(tmp_path: Path) -> None:
    with demo(tmp_path, "--seconds", "1", "--json") as process:
        assert process.wait(PATIENCE) == 0, process.stderr()
    assert process.stderr() == ""
    told = json.loads(process.stdout())
    assert set(told) == {"seconds", "sensors", "interval", "mosquitto", "policy", "bare", "through"}
    assert (told["seconds"], told["sensors"]) == (1, 20)
    assert "[[limit]]" in told["policy"]
    for half in (told["bare"], told["through"]):
        assert set(half) == HALF
        assert set(half["latency_ms"]) == {"median", "p99", "max"}
        assert half["sent"] == 40
        assert half["arrived"] + half["lost"] == half["sent"]
        assert half["flood"]["sent"] > 0
    assert told["bare"]["flood"]["limited"] is None
    assert told["through"]["flood"]["limited"] > 0
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path, "--seconds", "600") as process:
        itself = psutil.Process(process.pid)
        until(lambda: len(itself.children(recursive=True)) >= PROCESSES, "its processes", PATIENCE)
        children = itself.children(recursive=True)
        process.send(number)
        assert process.wait(PATIENCE) == 128 + number
    assert process.stderr() == "tidegate demo: stopped, and nothing is left running\n"
    assert [child for child in children if child.is_running()] == []
    assert list((tmp_path / "tmp").iterdir()) == []
