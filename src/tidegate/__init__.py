"""Tidegate: flood protection and granular rate limiting for Mosquitto and any other MQTT broker.

The map, from the ground up; imports point down only:

- `tidegate.engine`: limits that every process shares, in C; counters; the public `Limiter`;
- `tidegate.mqtt`: bytes to packets and back, without clock or I/O;
- `tidegate.policy`: what the operator wrote, read and checked, and compiled for the engine;
- `tidegate.gateway`: connections and their limits, workers, the supervisor, the embedded broker;
- `tidegate.control`: metrics and the admin endpoint;
- `tidegate.app`: the only place where the parts meet;
- `tidegate.cli`: parse, call, print.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine.errors import SegmentError
    from .engine.limiter import Hit, Limiter

__all__ = ["Hit", "Limiter", "SegmentError", "__version__"]
__version__ = version("tidegate")

_LIBRARY = {"Hit": ".engine.limiter", "Limiter": ".engine.limiter", "SegmentError": ".engine.errors"}


def __getattr__(name: str) -> object:
    """The library, imported when it is first asked for: the commands and the workers do without."""
    if name not in _LIBRARY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LIBRARY[name], __name__), name)
