"""A real Mosquitto with the plugin, and a compiled policy for it."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tidegate
from tidegate.app.policy_compile import compile_to

from .broker import Broker, mosquitto_binary
from .wait import until

ROOMY = "max_inflight_messages 0\nmax_queued_messages 100000"
"""mosquitto.conf: as good as no window and no queue. Without a bound (0), Debian's 2.0.11 takes the queue of every
client whose message is denied for full, and closes the connection."""


def is_2_1() -> bool:
    """Whether the Mosquitto of these tests is 2.1 or newer, which can say more to clients."""
    told = subprocess.run([mosquitto_binary(), "-h"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"mosquitto version (\d+)\.(\d+)", told)
    return found is not None and (int(found[1]), int(found[2])) >= (2, 1)


PLUGIN = Path(tidegate.__file__).parent / "tidegate_mosquitto.so"
"""Beside the package, as it is installed."""


class Plugged(Broker):
    """`policy` is classes and limits, or there is a `segment`; `options`, `extra`: more lines of the plugin, and of
    the broker.
    """

    def __init__(
        self,
        directory: Path,
        policy: str | None,
        *,
        options: str = "",
        extra: str = ROOMY,
        anonymous: bool = True,
        segment: Path | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.policy = directory / "policy.tgp"
        self.toml = directory / "policy.toml"
        limits = f"plugin_opt_policy {self.policy}" if segment is None else f"plugin_opt_segment {segment}"
        super().__init__(directory, f"plugin {PLUGIN}\n{limits}\n{options}\n{extra}", anonymous=anonymous)
        if policy is not None:
            self.compile(policy)

    def compile(self, policy: str) -> None:
        """Make this the policy file's; the broker reads it when it is told to."""
        self.toml.write_text(policy)
        compile_to(self.toml, self.policy)

    def says(self, text: str, times: int = 1) -> None:
        """Wait until the broker's log has this text so often."""
        until(lambda: self.log().count(text) >= times, f"{text!r} in Mosquitto's log:\n{self.log()[-2000:]}")


@contextmanager
def plugged(
    directory: Path, policy: str, *, options: str = "", extra: str = ROOMY, anonymous: bool = True
) -> Iterator[Plugged]:
    """Start it; it must end well."""
    broker = Plugged(directory, policy, options=options, extra=extra, anonymous=anonymous)
    broker.start()
    try:
        yield broker
        assert broker.process.running(), broker.log()[-2000:]
    finally:
        broker.stop()
