"""Processor time, memory and files of every process, as Prometheus families."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .source import Source


class _Figure(NamedTuple):
    family: type[CounterMetricFamily] | type[GaugeMetricFamily]
    name: str
    documentation: str
    read: Callable[[psutil.Process], float]


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


_FIGURES = (
    _Figure(CounterMetricFamily, "tidegate_process_cpu_seconds", "Processor time, user and system.", _cpu_seconds),
    _Figure(
        GaugeMetricFamily,
        "tidegate_process_resident_memory_bytes",
        "Resident memory.",
        lambda process: process.memory_info().rss,
    ),
    _Figure(
        GaugeMetricFamily,
        "tidegate_process_open_fds",
        "Open file descriptors; every proxied connection takes two.",
        lambda process: process.num_fds(),
    ),
    _Figure(
        GaugeMetricFamily,
        "tidegate_process_start_time_seconds",
        "When the process started, in seconds since the epoch.",
        lambda process: process.create_time(),
    ),
)


class ProcessMetrics(Collector):
    """One sample per figure and process; a process that died since it was listed has none."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """All families, each with the `process` label."""
        families = [figure.family(figure.name, figure.documentation, labels=["process"]) for figure in _FIGURES]
        for name, pid in self._source.processes().items():
            try:
                process = psutil.Process(pid)
            except psutil.NoSuchProcess:
                continue
            with process.oneshot():
                for figure, family in zip(_FIGURES, families, strict=True):
                    try:
                        value = figure.read(process)
                    except (psutil.NoSuchProcess, psutil.AccessDenied):
                        # Denied: the files of a broker that changed its user, in a container without
                        # CAP_SYS_PTRACE. The other figures can still be read.
                        continue
                    family.add_metric([name], value)
        yield from families
