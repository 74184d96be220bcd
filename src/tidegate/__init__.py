"""Tidegate: flood protection and granular rate limiting for Mosquitto and any other MQTT broker.

The map, from the ground up; imports point down only:

- `tidegate.engine`: counters that every process shares, without clock or I/O;
- `tidegate.mqtt`: bytes to packets and back, without clock or I/O;
- `tidegate.policy`: what the operator wrote, read and checked;
- `tidegate.gateway`: connections, workers, the supervisor, the embedded broker;
- `tidegate.control`: metrics and the admin endpoint;
- `tidegate.app`: the only place where the parts meet;
- `tidegate.cli`: parse, call, print.
"""

from importlib.metadata import version

__version__ = version("tidegate")
