"""MQTT.js cannot tell the gateway from the broker behind it."""

from collections.abc import Iterator

import pytest

from integration.compare import same_both_ways
from integration.scenarios import Scenario, credentials, playable
from support import wire
from support.client import Library
from support.mqttjs_client import MqttJs
from support.sides import Sides

VERSIONS = {"3.1": wire.V31, "3.1.1": wire.V311, "5": wire.V5}
CANNOT = ("overrun",)
"""It stops acknowledging when the broker sends more at once than it said it would take."""


@pytest.fixture(scope="module")
def library() -> Iterator[Library]:
    made = MqttJs()
    yield made
    made.end()


@pytest.mark.parametrize(
    ("version", "scenario"),
    [
        pytest.param(version, scenario, id=f"{name}-{scenario.name}")
        for name, version in VERSIONS.items()
        for scenario in playable(version, *CANNOT)
    ],
)
def test_same_direct_and_through(sides: Sides, library: Library, version: int, scenario: Scenario) -> None:
    same_both_ways(scenario.play, library, version, sides)


@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_credentials_are_the_brokers_to_judge(guarded_sides: Sides, library: Library, version: int) -> None:
    seen = same_both_ways(credentials, library, version, guarded_sides)
    assert [record[2] == 0 for record in seen] == [True, False, False, False]
