from collections.abc import Mapping
from typing import Any

import pytest

from support.ports import free_port
from tidegate.app.demo_client import playing
from tidegate.gateway.start_error import StartError


@pytest.mark.parametrize("role", ["sensors", "mad-device", "control-room"])
async def test_a_client_that_cannot_connect_is_told(role: str) -> None:
    told: list[Mapping[str, Any]] = []
    with pytest.raises(StartError, match=f"{role} ended: .*Connection refused"):
        async with playing(told.append, role, free_port(), 1):
            pass
    assert [list(one) for one in told] == [["trouble"]]
