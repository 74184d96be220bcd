import asyncio
import socket
from pathlib import Path

import pytest
import uvloop

from tidegate.gateway.dial import BUSY_PAUSE, dial
from tidegate.policy.address import Address


def test_a_full_queue_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the loop of a worker: asyncio's own takes a connection that was refused with EAGAIN for one that was made."""
    path = str(tmp_path / "broker")
    pauses: list[float] = []

    async def queue() -> None:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
            listener.bind(path)
            listener.listen(0)
            first.connect(path)

            async def pause(seconds: float) -> None:
                pauses.append(seconds)
                listener.accept()[0].close()

            monkeypatch.setattr("tidegate.gateway.dial.asyncio.sleep", pause)
            (await dial(Address("unix", path=path), asyncio.Protocol)).close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(queue())
    assert len(pauses) == 1
    assert BUSY_PAUSE / 2 <= pauses[0] <= BUSY_PAUSE * 1.5


async def test_nobody_there_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await dial(Address("unix", path=str(tmp_path / "none")), asyncio.Protocol)
