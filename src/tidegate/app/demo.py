"""`tidegate demo`: a flood before your eyes, without Tidegate and with it.

Twenty sensors and a control room that stores what they send share a Mosquitto with one pump that has gone mad. All of
them first connect to the Mosquitto itself, then to a gateway before that same Mosquitto. A reading carries the time at
which it was to be sent, and its latency counts from there. What has not arrived when the flood has ended and everything
has drained is lost.
"""

import asyncio
import json
import signal
import sys
import time
from typing import Any

from rich.console import Console

from .demo_client import playing
from .demo_figures import Board, Figures, State
from .demo_roles import INTERVAL, SENSORS
from .demo_stage import POLICY, Stage
from .demo_view import outcome, silent, watching
from .serve import own_command

TICK = 0.5
"""Seconds between two pictures, and between two looks at what has come."""
QUIET_SECONDS = 2.0
"""Nothing has arrived for so long: all has drained."""


def run(seconds: int, as_object: bool, console: Console) -> int:
    """Play both phases of so many seconds on `console`, or print the figures alone, as JSON.

    The exit code: 0, or after a signal 128 and its number. StartError when something cannot be started, or ends by
    itself. Nothing is left running and no file is left, however it ends.
    """
    return asyncio.run(_run(seconds, as_object, console))


async def play(stage: Stage, board: Board) -> None:
    """Start the stage and play both phases on it, filling the board."""
    await stage.start()
    await _phase(stage, stage.broker_port, board.bare, board.seconds)
    board.through.limited = 0
    await _phase(stage, stage.gateway_port, board.through, board.seconds)


def as_json(board: Board) -> str:
    """The figures of both phases, and what they were measured under."""
    return json.dumps(
        {
            "seconds": board.seconds,
            "sensors": SENSORS,
            "interval": INTERVAL,
            "mosquitto": board.mosquitto,
            "policy": POLICY,
            "bare": board.bare.as_object(),
            "through": board.through.as_object(),
        },
        indent=2,
    )


async def _run(seconds: int, as_object: bool, console: Console) -> int:
    stop = _signals()
    stage = Stage()
    board = Board(seconds, stage.mosquitto)
    try:
        with silent() if as_object else watching(board, console) as watch:
            # A task of its own: a signal cuts it short wherever it is, and never what ends the processes.
            work = asyncio.create_task(play(stage, board))
            ends: set[asyncio.Future[Any]] = {work, stop}
            try:
                while not (work.done() or stop.done()):
                    await asyncio.wait(ends, timeout=TICK, return_when=asyncio.FIRST_COMPLETED)
                    watch(board)
            finally:
                work.cancel()
                await asyncio.wait({work})
            if not stop.done():
                work.result()
    finally:
        await stage.stop()
    if stop.done():
        print("tidegate demo: stopped, and nothing is left running", file=sys.stderr)
        return 128 + stop.result()
    if as_object:
        console.out(as_json(board), highlight=False)
    else:
        console.print(outcome(board, own_command()))
    return 0


async def _phase(stage: Stage, port: int, figures: Figures, seconds: int) -> None:
    """Have all clients at one port for so many seconds, and until everything has drained."""

    async def look() -> None:
        if figures.limited is not None:
            figures.limited = await stage.limited()

    database = stage.folder / f"control-room-{port}.db"
    async with (
        playing(figures.take, "control-room", port, database) as control_room,
        playing(figures.take, "sensors", port, seconds) as sensors,
    ):
        async with playing(figures.take, "mad-device", port) as mad_device:
            figures.state = State.RUNNING
            mad_device.begin()
            sensors.begin()
            began = time.monotonic()
            while not figures.finished:
                await asyncio.sleep(TICK)
                await look()
                figures.elapsed = time.monotonic() - began
                for client in (control_room, sensors, mad_device):
                    client.check()
        figures.state = State.DRAINING
        came, since = -1, 0.0
        while figures.missing and (came != figures.came or time.monotonic() - since < QUIET_SECONDS):
            if came != figures.came:
                came, since = figures.came, time.monotonic()
            await asyncio.sleep(TICK)
            control_room.check()
    await look()
    figures.state = State.DONE


def _signals() -> asyncio.Future[int]:
    """The first SIGINT, SIGTERM or SIGHUP; later ones change nothing, as all is being ended then."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[int] = loop.create_future()

    def handle(number: int) -> None:
        if not stop.done():
            stop.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, handle, number)
    return stop
