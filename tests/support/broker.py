"""A real Mosquitto on a TCP port of 127.0.0.1 and on a Unix socket.

With TIDEGATE_TEST_MOSQUITTO=PATH in the environment it is that one: tools/brokers.py fetches other versions.
"""

import os
import shutil
import signal
from pathlib import Path

from .ports import accepts, free_port
from .process import Process
from .wait import until


def mosquitto_binary() -> str:
    """The broker's path: Debian keeps it in /usr/sbin, which is not on every user's PATH."""
    given = os.environ.get("TIDEGATE_TEST_MOSQUITTO")
    if given:
        found = shutil.which(given)
        assert found, f"TIDEGATE_TEST_MOSQUITTO={given}: no program is there"
        return found
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    assert found, "no mosquitto: apt-get install mosquitto mosquitto-clients"
    return found


def mosquitto_library(name: str) -> Path | None:
    """A plugin that came with that broker; None when none did."""
    binary = Path(mosquitto_binary())
    for prefix in (binary.parent / "root" / "usr", binary.parent.parent):  # as tools/brokers.py has it, as installed
        for library in (*prefix.glob(f"lib/*/{name}"), prefix / "lib" / name):
            if library.exists():
                return library
    return None


class Broker:
    """Mosquitto with `extra` lines of mosquitto.conf; without a password file, anonymous clients may connect.

    `directory` must be its own, and its path short: a Unix socket's path ends at 107 bytes.
    """

    def __init__(self, directory: Path, extra: str = "", *, anonymous: bool = True) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.socket = directory / "mqtt.sock"
        self.config = directory / "mosquitto.conf"
        # As root, Mosquitto would become the user `mosquitto`, who may not write here.
        user = "user root\n" if os.geteuid() == 0 else ""
        self.config.write_text(
            f"{user}"
            f"allow_anonymous {'true' if anonymous else 'false'}\n"
            f"listener {self.port} 127.0.0.1\n"
            f"listener 0 {self.socket}\n"
            "sys_interval 1\n"
            "log_type all\n"
            "log_dest stderr\n"
            f"{extra}\n"
        )
        self.process = Process([mosquitto_binary(), "-c", self.config], directory / "mosquitto")

    @property
    def unix(self) -> str:
        """Its Unix socket, as tidegate.toml writes it."""
        return f"unix:{self.socket}"

    @property
    def tcp(self) -> str:
        """Its TCP listener, as tidegate.toml writes it."""
        return f"tcp://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return when both of its listeners accept."""
        self.process.start()
        until(
            lambda: not self.process.running() or (accepts(self.port) and self.socket.exists()),
            "Mosquitto's listeners",
        )
        assert self.process.running(), f"Mosquitto ended at once:\n{self.process.stderr()}"

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self.process.stop()
        self.socket.unlink(missing_ok=True)

    def kill(self) -> None:
        """SIGKILL: its clients see the connection end without a word."""
        self.process.stop(signal.SIGKILL)
        self.socket.unlink(missing_ok=True)

    def log(self) -> str:
        """What it has logged."""
        return self.process.stderr()
