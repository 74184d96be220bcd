"""No window ever holds more than its number, in whatever order the steps of several processes come.

The engine's sources are compiled so that each atomic operation lets another process go on;
see tests/native/interleave.c.
Without any one of the checks in native/window.c these seeds find dozens of messages too many.
"""

import json
import platform
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NATIVE = TESTS.parent / "src/tidegate/engine/native"
STEPS = 8_000_000


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine among processes that take turns by chance."""
    program = tmp_path_factory.mktemp("interleave") / "interleave"
    options = ["-std=gnu11", "-O2", "-include", str(TESTS / "native/steps.h"), f"-I{NATIVE}"]
    if platform.machine() == "x86_64":
        options.append("-mcx16")
    sources = [TESTS / "native/interleave.c", *sorted(NATIVE.glob("*.c"))]
    subprocess.run(["cc", *options, "-o", str(program), *map(str, sources)], check=True)
    return program


@pytest.mark.parametrize(
    ("processes", "keys", "number", "seed"), [(8, 40, 1, 1), (8, 24, 2, 2), (4, 30, 1, 3), (12, 50, 1, 4)]
)
def test_no_order_of_steps_lets_a_window_hold_too_much(
    program: Path, processes: int, keys: int, number: int, seed: int
) -> None:
    numbers = (processes, keys, number, STEPS, seed)
    done = json.loads(subprocess.run([program, *map(str, numbers)], capture_output=True, check=True).stdout)
    assert done["taken"] > 10_000
    assert done["refused"] > 1000
    assert done["killed"] > 100
    assert done["crowds"] > 1000, "there was room for all keys"
    assert (done["too_many"], done["left"]) == (0, 0)
