"""What a measurement ran on: figures of two machines, or of one under load, do not compare."""

import os
import pathlib
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import version

from .stage import program

VERSION_OPTION = {"mosquitto": "-h", "haproxy": "-v", "nginx": "-v", "gcc": "--version"}
VERSION_STATUS = (0, 3)
"""Mosquitto 2.0 ends its help with status 3."""


def describe(tidegate: Sequence[str]) -> dict[str, str]:
    """Processor with its clock, kernel, load average and the versions of all that takes part."""
    found = {
        "processor": f"{_cpuinfo('model name')}, {os.cpu_count()} cores",
        "clock": _clock(),
        "kernel": platform.release(),
        "load average at the start": ", ".join(f"{load:.2f}" for load in os.getloadavg()),
        "python": f"{platform.python_version()}, uvloop {version('uvloop')}",
    }
    for name, option in VERSION_OPTION.items():
        path = program(name)
        found[name] = _first_line([path, option]) if path else "not installed"
    found["tidegate"] = _first_line([*tidegate, "--version"])
    return found


def _cpuinfo(key: str) -> str:
    match = re.search(rf"^{key}\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _clock() -> str:
    folder = pathlib.Path("/sys/devices/system/cpu/cpu0/cpufreq")
    if not folder.exists():
        return f"{_cpuinfo('cpu MHz')} MHz, no frequency control visible"
    mhz = int((folder / "scaling_cur_freq").read_text()) // 1000
    return f"{mhz} MHz now, governor {(folder / 'scaling_governor').read_text().strip()}"


def _first_line(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except FileNotFoundError:
        return "not installed"
    lines = (done.stdout or done.stderr).splitlines() or ["says nothing"]
    return lines[0].strip() if done.returncode in VERSION_STATUS else f"does not run: {lines[-1]}"
