"""`tidegate serve` in front of a broker, and the dumb relay that can take its place.

With TIDEGATE_TEST_RELAY=1 in the environment every suite that compares "through" with "direct" runs through HAProxy in
TCP mode instead: what fails there is a fault of the test, not of the gateway.
"""

import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Protocol

import httpx
import psutil

from .ports import accepts, free_port
from .process import Process
from .wait import until

# One for all: each would read the certificates of the world anew. It keeps no connection that a gateway would wait for.
_asking = httpx.Client(timeout=10, trust_env=False, headers={"connection": "close"})

RELAY = bool(os.environ.get("TIDEGATE_TEST_RELAY"))
"""Whether the dumb relay stands in for the gateway."""
_RELOADED = "policy reloaded"
"""What it logs when all workers have the new policy."""


def tidegate_binary() -> Path:
    """The command of the installed package, beside the interpreter that runs the tests."""
    return Path(sys.executable).with_name("tidegate")


class Middle(Protocol):
    """What stands between client and broker."""

    port: int

    def start(self) -> None:
        """Start it; return when it can be used."""

    def stop(self) -> None:
        """End it in order, and check that it ended well."""

    def end(self) -> None:
        """End it however it is."""


class Gateway:
    """`tidegate serve -c FILE` on a port of 127.0.0.1; `extra` is more of `[gateway]`, `tables` what follows.

    `upstream` None leaves `broker` out: the gateway runs a Mosquitto of its own. `files`: its open-file limit.
    """

    def __init__(
        self,
        directory: Path,
        upstream: str | None,
        *,
        workers: int = 2,
        extra: str = "",
        tables: str = "",
        files: int | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.admin_port = free_port()
        self.state_dir = directory / "state"
        self.config = directory / "tidegate.toml"
        broker = "" if upstream is None else f'broker = "{upstream}"\n'
        self._head = (
            "[gateway]\n"
            f'listen = "tcp://127.0.0.1:{self.port}"\n'
            f"{broker}"
            f"workers = {workers}\n"
            f'state_dir = "{self.state_dir}"\n'
            f"{extra}\n"
            "[admin]\n"
            f'listen = "127.0.0.1:{self.admin_port}"\n'
        )
        self.config.write_text(f"{self._head}{tables}\n")
        limit = [] if files is None else ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
        self.process = Process([*limit, tidegate_binary(), "serve", "-c", self.config], directory / "tidegate")

    def metric(self, sample: str) -> float:
        """A sample of /metrics; 0 where it is absent."""
        found = re.search(rf"^{re.escape(sample)} (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    def get(self, path: str) -> httpx.Response:
        """What the admin endpoint answers."""
        return _asking.get(f"http://127.0.0.1:{self.admin_port}{path}")

    def ready(self) -> bool:
        """Whether /readyz says that a client can connect and publish."""
        try:
            return self.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def launch(self) -> None:
        """Start it and wait for nothing."""
        self.process.start()

    def start(self) -> None:
        """Start it and return when /readyz answers 200."""
        self.launch()
        until(lambda: self.ready() or not self.process.running(), f"/readyz:\n{self.process.stderr()}")
        assert self.process.running(), f"tidegate serve ended at once:\n{self.process.stderr()}"

    def stop(self) -> None:
        """SIGTERM; it must end with exit code 0 and must not have logged a traceback."""
        code = self.process.stop()
        assert code == 0, f"tidegate serve ended with {code}:\n{self.process.stderr()}"
        assert "Traceback" not in self.process.stderr(), self.process.stderr()

    def end(self) -> None:
        """SIGKILL, if it still runs."""
        self.process.end()

    def reload(self, tables: str) -> None:
        """SIGHUP with `tables` in the place of those that it was made with; return when all workers go by them."""
        self.config.write_text(f"{self._head}{tables}\n")
        before = self.process.stderr().count(_RELOADED)
        self.process.send(signal.SIGHUP)
        until(lambda: self.process.stderr().count(_RELOADED) > before, f"the reload:\n{tables}")

    def children(self) -> list[psutil.Process]:
        """All its living descendants."""
        return [
            child
            for child in psutil.Process(self.process.pid).children(recursive=True)
            if child.status() != psutil.STATUS_ZOMBIE
        ]

    def workers(self) -> list[psutil.Process]:
        """Its descendants that have sockets on the listening port: those that serve clients."""
        return [child for child in self.children() if self.port in local_ports(child)]

    def worker_of(self, client_port: int) -> psutil.Process | None:
        """The worker that holds the connection from `client_port` of 127.0.0.1; None while nobody does."""
        for child in self.children():
            if client_port in remote_ports(child):
                return child
        return None


def local_ports(process: psutil.Process) -> set[int]:
    """The TCP ports on which `process` has sockets; none once it has ended."""
    try:
        return {held.laddr.port for held in process.net_connections("tcp") if held.laddr}
    except psutil.NoSuchProcess:
        return set()


def remote_ports(process: psutil.Process) -> set[int]:
    """The TCP ports to which `process` has established connections; none once it has ended."""
    try:
        return {
            held.raddr.port
            for held in process.net_connections("tcp")
            if held.raddr and held.status == psutil.CONN_ESTABLISHED
        }
    except psutil.NoSuchProcess:
        return set()


class Relay:
    """HAProxy in TCP mode: forwards bytes and knows nothing of MQTT."""

    def __init__(self, directory: Path, upstream: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        config = directory / "haproxy.cfg"
        server = upstream.removeprefix("tcp://").replace("unix:", "unix@")
        config.write_text(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
            f"listen mqtt\n  bind 127.0.0.1:{self.port}\n  server broker {server}\n"
        )
        haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
        assert haproxy, "no haproxy: apt-get install haproxy"
        self.process = Process([haproxy, "-f", config, "-db"], directory / "haproxy")

    def start(self) -> None:
        """Start it and return when it accepts."""
        self.process.start()
        until(lambda: accepts(self.port), "HAProxy's listener")

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self.process.stop()

    def end(self) -> None:
        """SIGKILL, if it still runs."""
        self.process.end()


def middle(directory: Path, upstream: str, *, workers: int = 2, extra: str = "") -> Middle:
    """The gateway in front of `upstream`, or the dumb relay when the environment asks for it."""
    if RELAY:
        return Relay(directory, upstream)
    return Gateway(directory, upstream, workers=workers, extra=extra)
