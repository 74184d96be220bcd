"""The fuzzer's own check on its seeds, on every cut of them, and on pairs of them in one stream."""

import runpy
from pathlib import Path

import pytest

HARNESS = runpy.run_path(str(Path(__file__).parents[3] / "fuzz" / "fuzz_mqtt.py"))
SEEDS: list[bytes] = HARNESS["seeds"]()


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed[:12].hex())
def test_seed(seed: bytes) -> None:
    for size in range(len(seed) + 1):
        HARNESS["fuzz_one"](seed[:size])
    for mode in range(6):
        HARNESS["fuzz_one"](bytes([mode]) + seed[1:])


def test_streams_of_two() -> None:
    for first, second in zip(SEEDS, reversed(SEEDS), strict=True):
        HARNESS["fuzz_one"](first + second[1:])


def test_bytes_that_are_no_packet() -> None:
    for size in range(8):
        for byte in range(256):
            HARNESS["fuzz_one"](bytes([5]) + bytes([byte]) * size)
