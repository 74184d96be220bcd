import asyncio
import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tidegate.app import demo
from tidegate.app.demo_figures import Board, Figures, State
from tidegate.gateway.start_error import StartError

Play = Callable[["FakeStage", Board], object]


class FakeStage:
    mosquitto = "2.0.11"
    folder = Path("/nonexistent")

    def __init__(self) -> None:
        self.stopped = 0

    async def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> FakeStage:
    made = FakeStage()
    monkeypatch.setattr(demo, "Stage", lambda: made)
    return made


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80, color_system=None)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def fill(board: Board) -> None:
    board.bare = Figures(state=State.DONE, sent=40, acknowledged=40, latencies={(0, 0): 0.5}, flood_sent=9)
    board.through = Figures(state=State.DONE, sent=40, acknowledged=40, latencies={(0, 0): 0.001}, limited=7)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(stage: FakeStage, board: Board) -> None:
        fill(board)

    monkeypatch.setattr(demo, "play", play)


@pytest.mark.usefixtures("played")
def test_the_end_is_the_table_and_what_to_try(stage: FakeStage, console: Console) -> None:
    assert demo.run(1, False, console) == 0
    text = text_of(console)
    assert "First 1 s" in text
    assert "39 = 97.5 %" in text
    assert text.rstrip().endswith("serve -c tidegate.toml")
    assert stage.stopped == 1


@pytest.mark.usefixtures("played")
def test_json_is_all_that_is_printed(stage: FakeStage, console: Console) -> None:
    assert demo.run(1, True, console) == 0
    told = json.loads(text_of(console))
    assert list(told) == ["seconds", "sensors", "interval", "mosquitto", "policy", "bare", "through"]
    assert (told["seconds"], told["sensors"], told["interval"], told["mosquitto"]) == (1, 20, 0.5, "2.0.11")
    assert told["bare"]["lost"] == 39
    assert told["through"]["flood"]["limited"] == 7
    assert stage.stopped == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_order(
    stage: FakeStage,
    console: Console,
    number: signal.Signals,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = []

    async def play(stage: FakeStage, board: Board) -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), number)  # a second one hurries nothing
            await asyncio.sleep(0)
            ended.append(stage.stopped)

    monkeypatch.setattr(demo, "play", play)
    assert demo.run(1, True, console) == 128 + number
    assert ended == [0]
    assert stage.stopped == 1
    assert text_of(console) == ""
    assert capsys.readouterr().err == "tidegate demo: stopped, and nothing is left running\n"


def test_what_goes_wrong_is_raised_when_all_has_ended(
    stage: FakeStage, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(stage: FakeStage, board: Board) -> None:
        raise StartError("no room", "make some")

    monkeypatch.setattr(demo, "play", play)
    with pytest.raises(StartError, match="no room"):
        demo.run(1, False, console)
    assert stage.stopped == 1
    assert "The sensors' readings" not in text_of(console)
