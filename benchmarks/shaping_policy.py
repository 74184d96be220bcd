"""The limits of the demonstrations of shaping, and how their gateways are started."""

import dataclasses

from .stage import Stage
from .targets import Broker, Target, start_gateway


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the command line says."""

    tidegate: tuple[str, ...]
    on_excess: str
    """The action of the limits that delay: to see what becomes of it without."""
    seconds: int

    def limit(self, name: str, keys: str, max_delay: str = "", then: str = "") -> str:
        """A `[[limit]]` that delays; `keys` are lines of TOML, `then` is an action."""
        text = f'[[limit]]\nname = "{name}"\n{keys}\non_excess = "{self.on_excess}"\n'
        if self.on_excess == "delay":  # with another action, these two are errors
            text += f'max_delay = "{max_delay}"\n' if max_delay else ""
            text += f'then = "{then}"\n' if then else ""
        return text

    def gateway(self, stage: Stage, broker: Broker, policy: str, workers: int = 1) -> Target:
        """A gateway with these limits, which reaches the broker by its Unix socket."""
        return start_gateway(stage, broker, self.tidegate, policy, workers)
