"""Gateways of a test's own: whatever it starts ends with it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.broker import Broker
from support.gateway import Gateway

StartGateway = Callable[..., Gateway]


@pytest.fixture
def make_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    """Make gateways (arguments as for Gateway, but the directory) that are ended after the test, however it ends."""
    made: list[Gateway] = []

    def make(upstream: str | None, **options: object) -> Gateway:
        gateway = Gateway(tmp_path / f"g{len(made)}", upstream, **options)  # type: ignore[arg-type]
        made.append(gateway)
        return gateway

    yield make
    for gateway in made:
        gateway.end()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that is not started yet."""
    made = Broker(tmp_path / "b")
    yield made
    made.process.end()
