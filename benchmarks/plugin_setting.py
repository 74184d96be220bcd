"""What the demonstrations of the plugin have in common: their command line, and a broker with the plugin or without."""

import dataclasses
import pathlib
import re
import signal
import subprocess
import sys

import psutil

from .stage import Stage, program, require
from .targets import Broker, start_mosquitto

ROOMY = "max_inflight_messages 0\nmax_queued_messages 1000000\n"
"""As good as unbounded; 0, Debian's 2.0.11 takes the queue of every client of which a message is refused for full."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """For all of them."""

    tidegate: tuple[str, ...]
    mosquitto: str
    """Where the broker is."""
    plugin: pathlib.Path
    seconds: int
    """For which strangers come."""
    rounds: int
    scale: float

    def version(self) -> tuple[int, ...]:
        """Of the broker."""
        told = subprocess.run([self.mosquitto, "-h"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"mosquitto version (\d+)\.(\d+)\.(\d+)", told)
        if not found:
            sys.exit(f"{self.mosquitto} does not say which Mosquitto it is: {told[:200]!r}")
        return tuple(map(int, found.groups()))

    def bare(self, stage: Stage, name: str = "bare", extra: str = ROOMY) -> Broker:
        """The broker without the plugin; a stage has one of each name."""
        return start_mosquitto(stage, extra, name=name, command=self.mosquitto)

    def plugged(
        self, stage: Stage, policy: str, name: str = "plugged", options: str = "", extra: str = ROOMY
    ) -> Broker:
        """The broker with the plugin and this policy; `options` are more lines of the plugin."""
        self.compile(stage, policy, name)
        return self.bare(stage, name, f"{extra}{self._lines(f'policy {_policy(stage, name)}', options)}")

    def attached(self, stage: Stage, segment: pathlib.Path, name: str = "plugged", options: str = "") -> Broker:
        """The broker with the plugin, which limits by the budgets of the gateway whose segment this is."""
        return self.bare(stage, name, f"{ROOMY}{self._lines(f'segment {segment}', options)}")

    def compile(self, stage: Stage, policy: str, name: str = "plugged") -> None:
        """Make this the policy file of the broker of that name, which reads it when it is told to."""
        source = stage.folder / f"{name}.toml"
        source.write_text(policy)
        command = [*self.tidegate, "policy", "compile", str(source), "-o", str(_policy(stage, name))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"the policy cannot be compiled: {done.stdout}{done.stderr}")

    def reload(self, broker: Broker) -> None:
        """Tell the broker to read its policy file again."""
        psutil.Process(broker.pid).send_signal(signal.SIGHUP)

    def damage(self, stage: Stage, name: str = "plugged") -> None:
        """Cut that broker's policy file short, as a full disk would."""
        path = _policy(stage, name)
        path.write_bytes(path.read_bytes()[:-1])

    def _lines(self, limits: str, options: str) -> str:
        return f"plugin {self.plugin}\nplugin_opt_{limits}\n{options}"


def installed() -> str:
    """The Mosquitto of this machine; exits where there is none."""
    require(["mosquitto"])
    return str(program("mosquitto"))


def _policy(stage: Stage, name: str) -> pathlib.Path:
    return stage.folder / f"{name}.tgp"
