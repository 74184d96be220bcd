"""What the demonstrations of subscribers have in common: their command line, and the broker that users have."""

import dataclasses

from .stage import Stage
from .targets import Broker, Target, start_gateway

BROKER_WINDOW = 20
DEFAULTS = f"max_inflight_messages {BROKER_WINDOW}\nmax_queued_messages 1000\n"
"""Mosquitto's own, which targets.py changes."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """For all of them."""

    tidegate: tuple[str, ...]
    seconds: int
    """For which a subscriber is paced, and others flood."""

    def gateway(self, stage: Stage, broker: Broker, policy: str, workers: int = 1) -> Target:
        """A gateway with this policy, which reaches the broker by its Unix socket."""
        return start_gateway(stage, broker, self.tidegate, policy, workers)


def limit(name: str, event: str, *keys: str) -> str:
    """A `[[limit]]`; each of `keys` is a line of TOML."""
    return "\n".join(["[[limit]]", f'name = "{name}"', f'on = "{event}"', *keys, ""])
