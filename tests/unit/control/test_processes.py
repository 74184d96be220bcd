import os
import subprocess
import sys
import time

import psutil
import pytest
from prometheus_client import CollectorRegistry

from support.fake_source import FakeSource
from tidegate.control.processes import ProcessMetrics

NAMES = (
    "tidegate_process_cpu_seconds_total",
    "tidegate_process_resident_memory_bytes",
    "tidegate_process_open_fds",
    "tidegate_process_start_time_seconds",
)


def values(source: FakeSource, process: str) -> dict[str, float | None]:
    registry = CollectorRegistry()
    registry.register(ProcessMetrics(source))
    return {name: registry.get_sample_value(name, {"process": process}) for name in NAMES}


def test_figures_of_a_process() -> None:
    found = values(FakeSource(), "supervisor")
    me = psutil.Process(os.getpid())
    cpu, memory, files, start = (found[name] for name in NAMES)
    assert cpu is not None
    assert 0 < cpu <= sum(me.cpu_times()[:2])
    assert memory is not None
    assert memory > 1_000_000
    assert files is not None
    assert files >= 3
    assert start is not None
    assert 0 < start <= time.time() + 1


def test_a_process_that_has_died_has_no_figures_and_hides_no_other() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    source = FakeSource(workers=1)
    source.living = {"broker": child.pid, "supervisor": os.getpid()}
    assert set(values(source, "broker").values()) == {None}
    assert None not in values(source, "supervisor").values()


def test_a_zombie_hides_no_other() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    source = FakeSource(workers=1)
    source.living = {"broker": child.pid, "supervisor": os.getpid()}
    assert None not in values(source, "supervisor").values()
    child.wait()


@pytest.mark.parametrize("error", [psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess])
def test_a_figure_that_cannot_be_had_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, error: type[psutil.AccessDenied]
) -> None:
    def fail(process: psutil.Process) -> None:
        raise error(process.pid)

    monkeypatch.setattr(psutil.Process, "num_fds", fail)
    found = values(FakeSource(), "worker-0")
    assert found.pop("tidegate_process_open_fds") is None
    assert None not in found.values()
