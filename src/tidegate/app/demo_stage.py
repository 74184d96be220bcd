"""Where `tidegate demo` plays: a Mosquitto and a gateway before it, on free ports, in a folder that goes with them."""

import asyncio
import http.client
import json
import os
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from ..gateway.mosquitto_binary import MissingMosquitto, find_mosquitto, install_command, mosquitto_version
from ..gateway.mosquitto_process import MosquittoProcess
from ..gateway.probe import probe
from ..gateway.start_error import StartError
from ..policy.address import UNIX_PATH_BYTES, Address

POLICY = """\
# Each client below plant/: 20 messages a second, 40 at once; more wait.
[[limit]]
name  = "each-device"
topic = "plant/#"
per   = "client"
rate  = "20/s burst 40"
"""
"""What the gateway enforces. The sensors' two messages a second are far below it; no client is named in it."""

START_SECONDS = 30.0
"""For Mosquitto, and for the gateway, on a machine that is busy."""
STOP_SECONDS = 10.0
_HOST = "127.0.0.1"
_POLL = 0.02
_SOCKET_BYTES = len("/tidegate-demo-12345678/mosquitto.sock")
_SCRAPE_SECONDS = 5.0
# What the console script holds; its folder need not be on the PATH.
_SERVE = (sys.executable, "-c", "from tidegate.cli.main import main; main()", "serve", "--log-format", "json", "-c")


class Stage:
    """Begins with `start`; must be ended by `stop`, also when `start` was not called, has failed or was cancelled."""

    def __init__(self) -> None:
        """StartError when there is no Mosquitto."""
        self._binary = _find()
        self.mosquitto = mosquitto_version(self._binary) or "of unknown version"
        self.broker_port = 0
        self.gateway_port = 0
        self._admin_port = 0
        self._folder = tempfile.TemporaryDirectory(prefix="tidegate-demo-", dir=_place())
        self._processes: list[MosquittoProcess] = []

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return Path(self._folder.name)

    async def start(self) -> None:
        """Start Mosquitto, with its own defaults, and the gateway; StartError when one cannot be started.

        The gateway reaches Mosquitto by a Unix socket, as it does its embedded one. By TCP, Mosquitto's default is to
        hold a small packet back until the one before is acknowledged (Nagle), which receivers put off by 40 ms.
        """
        self.broker_port = _free_port()
        # As root it would change to its service user, who may not read this folder.
        user = "user root\n" if os.geteuid() == 0 else ""
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"listener {self.broker_port} {_HOST}\nlistener 0 mosquitto.sock\nallow_anonymous true\n{user}"
        )
        mosquitto = await self._run([self._binary, "-c", config], _Log())
        broker = Address(kind="unix", path=str(self.folder / "mosquitto.sock"))

        async def answers() -> bool:
            return await probe(broker, START_SECONDS) is None

        await _until(answers, "Mosquitto", mosquitto, "mend what it says")

        config = self.folder / "tidegate.toml"
        config.write_text(_gateway_config(broker, self.folder / "state"))
        log = _Log()
        gateway = await self._run([*_SERVE, config], log)

        async def serves() -> bool:
            return log.serving is not None

        await _until(serves, "the gateway", gateway, "run `tidegate doctor`")
        self.gateway_port, self._admin_port = log.serving or (0, 0)

    async def limited(self) -> int:
        """Messages that were over the limit so far, by the gateway's /metrics; StartError when it does not answer."""
        try:
            return limited(await asyncio.to_thread(self._scrape))
        except (OSError, http.client.HTTPException) as error:
            raise StartError(f"the gateway's /metrics do not answer: {error}", "run `tidegate doctor`") from error

    async def stop(self) -> None:
        """End both, the gateway first, and remove the folder."""
        for process in reversed(self._processes):
            await process.end(STOP_SECONDS)
        self._folder.cleanup()

    async def _run(self, command: list[str | Path], log: "_Log") -> MosquittoProcess:
        """Run a program as the embedded broker is run: it ends with this process, however that ends."""
        lives = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            process = await MosquittoProcess.start(command, self.folder, log, user=None, inherited_fd=lives)
        finally:
            os.close(lives)
        self._processes.append(process)
        return process

    def _scrape(self) -> str:
        admin = http.client.HTTPConnection(_HOST, self._admin_port, timeout=_SCRAPE_SECONDS)
        try:
            admin.request("GET", "/metrics")
            return admin.getresponse().read().decode()
        finally:
            admin.close()


def _find() -> Path:
    try:
        return find_mosquitto()
    except MissingMosquitto as error:
        raise StartError("the demo needs Mosquitto, and there is none on this machine", install_command()) from error


def limited(metrics: str) -> int:
    """The messages over the limit, in the text of /metrics. All are delayed first, whatever comes then."""
    samples = (sample for family in text_string_to_metric_families(metrics) for sample in family.samples)
    wanted = (sample for sample in samples if sample.name == "tidegate_limited_total")
    return int(sum(sample.value for sample in wanted if sample.labels["action"] == "delay"))


def _gateway_config(broker: Address, state_dir: Path) -> str:
    # A JSON string is a TOML one too, whatever $TMPDIR is.
    upstream, state = json.dumps(str(broker)), json.dumps(str(state_dir))
    return (
        f'[gateway]\nlisten = "tcp://{_HOST}:0"\nbroker = {upstream}\nstate_dir = {state}\ndrain_timeout = "1s"\n'
        f'[admin]\nlisten = "{_HOST}:0"\n{POLICY}'
    )


def _place() -> str:
    """The folder for temporary files, unless its path leaves no room for a Unix socket's."""
    place = tempfile.gettempdir()
    return place if len(os.fsencode(place)) + _SOCKET_BYTES <= UNIX_PATH_BYTES else "/tmp"


def _free_port() -> int:
    """A port that the kernel gives to nobody else for now; Mosquitto cannot be told to take any."""
    with socket.socket() as probing:
        probing.bind((_HOST, 0))
        port: int = probing.getsockname()[1]
        return port


async def _until(there: Callable[[], Awaitable[bool]], name: str, process: MosquittoProcess, fix: str) -> None:
    """Wait until it is there; StartError when its process ends instead, or takes too long."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await there():
                if process.over:
                    told = " | ".join(process.last_lines) or "it said nothing"
                    raise StartError(f"{name} ended at once: {told}", fix)
                await asyncio.sleep(_POLL)
    except TimeoutError as error:
        raise StartError(
            f"{name} does not serve after {START_SECONDS:g} s", "stop what keeps the machine busy"
        ) from error


class _Log:
    """Takes what a process logs, and learns from the gateway where it listens."""

    def __init__(self) -> None:
        self.serving: tuple[int, int] | None = None
        """The gateway's port, and its admin endpoint's."""

    def debug(self, event: str, **fields: object) -> None:
        """Nobody asks."""

    def info(self, event: str, **fields: object) -> None:
        """A line of the process."""
        self.serving = serving(event) or self.serving

    warning = error = debug


def serving(line: str) -> tuple[int, int] | None:
    """The ports of listener and admin endpoint, from the log line that tells them; None of another line."""
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict) or fields.get("event") != "serving":
        return None
    return int(fields["listen"][0].rpartition(":")[2]), int(fields["admin"].rpartition(":")[2])
