"""One broker and one gateway per test process; tests keep apart by client ids and topics."""

from collections.abc import Iterator

import pytest

from support.gateway import RELAY
from support.sides import Sides, both_sides, password_file

pytest.register_assert_rewrite("integration.compare")


@pytest.fixture(scope="session")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """A broker that lets everybody in, and two workers in front of it."""
    with both_sides(tmp_path_factory.mktemp("open")) as made:
        yield made


@pytest.fixture(scope="session")
def guarded_sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    """A broker that wants user `plant` with password `secret`."""
    directory = tmp_path_factory.mktemp("guarded")
    file = password_file(directory, "plant:secret")
    with both_sides(directory, f"password_file {file}", anonymous=False) as made:
        yield made


@pytest.fixture
def behind_gateway() -> None:
    """For tests of what a dumb relay does not do."""
    if RELAY:
        pytest.skip("the dumb relay stands in for the gateway")
