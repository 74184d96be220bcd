"""The load generator of the benchmarks, whose figures are only worth what its own memory is."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.sides import Sides

SOURCE = Path(__file__).parents[2] / "benchmarks" / "mqload.c"
GUARD = 60.0
"""Seconds that a load may take: above its own `-t`."""

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc: apt-get install gcc libc6-dev")


def compiled(folder: Path, *flags: str) -> Path:
    """The generator, built without a warning."""
    binary = folder / "mqload"
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", *flags, "-o", str(binary), str(SOURCE), "-pthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=GUARD)
    assert done.returncode == 0, done.stderr
    return binary


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generator, which ends with a report at its first misstep."""
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    return compiled(tmp_path_factory.mktemp("mqload"), *flags)


def run(binary: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # What it holds at its end goes with the process; only what it does with memory matters.
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run(
        [str(binary), *arguments], capture_output=True, text=True, check=False, timeout=GUARD, env=env
    )


def figures(binary: Path, port: int, *arguments: str) -> dict[str, Any]:
    """What a load that succeeds prints, which must be all that it says."""
    done = run(binary, "-p", str(port), "-t", "50", *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["refused"], found["lost_connections"]) == (0, 0)
    return found


@pytest.mark.parametrize("optimised", ["-O0", "-O2"])
def test_it_compiles_without_a_warning(tmp_path: Path, optimised: str) -> None:
    compiled(tmp_path, optimised)


@pytest.mark.parametrize("version", [(), ("-5",)])
class TestLoads:
    def test_qos_0(self, sanitized: Path, sides: Sides, version: tuple[str, ...]) -> None:
        found = figures(sanitized, sides.through, "-q", "0", "-c", "3", "-b", "10", "-n", "600", "-i", "q0", *version)
        assert found["messages"] == 600

    def test_qos_1_in_a_window(self, sanitized: Path, sides: Sides, version: tuple[str, ...]) -> None:
        arguments = ("-q", "1", "-c", "4", "-w", "20", "-b", "5", "-n", "2000", "-T", "7", "-i", "q1")
        found = figures(sanitized, sides.through, *arguments, *version)
        assert found["messages"] >= 2000
        latency = found["latency_us"]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["p999"]

    @pytest.mark.parametrize("size", ["1", "15000"])
    def test_subscribers_get_every_message(
        self, sanitized: Path, sides: Sides, version: tuple[str, ...], size: str
    ) -> None:
        arguments = ("-q", "1", "-c", "2", "-S", "3", "-n", "200", "-s", size, "-i", "fan")
        found = figures(sanitized, sides.through, *arguments, *version)
        assert found["delivered"] == 3 * found["messages"]


@pytest.mark.parametrize(
    "arguments", [("-q", "2"), ("-c", "0"), ("-w", "1", "-b", "2"), ("-s", "16001"), ("-x",), ("-p", "1", "more")]
)
def test_bad_arguments_are_refused(sanitized: Path, arguments: tuple[str, ...]) -> None:
    done = run(sanitized, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "bad arguments" in done.stderr


def test_a_broker_that_is_not_there(sanitized: Path) -> None:
    done = run(sanitized, "-p", "1", "-c", "1", "-n", "1")
    assert done.returncode == 1
    assert "was not accepted" in done.stderr
