"""What the plugin for Mosquitto promises, shown one by one, with PASS or FAIL.

    python -m benchmarks.plugin [cost|budget|shared|flood|reload|memory ...] [--mosquitto PATH] [--rounds 15]
                                [--seconds 60]

cost: CPU per message of Mosquitto with the plugin and a hundred limits, beside the same Mosquitto without it.
budget: at each QoS, in MQTT 3.1.1 and 5, what passes is burst + rate x time, and who keeps to the limit loses nothing.
shared: a gateway and the plugin of the broker behind it let pass one budget together.
flood: under ten times the limit the broker with the plugin uses less CPU than without it, and others wait less.
reload: fifty policies in turn under load: nothing is lost, nobody dropped, budgets go on, and the last one holds.
memory: strangers, bans and reloads without end: resident memory is flat, as it is without the plugin.

All run when none is named. Each is a module of its own, plugin_NAME.py, whose text says how it is done.

Exit status: 0, or 1 when a promise was not kept.
"""

import pathlib
import sys
from collections.abc import Callable

import tidegate

from .claims import Claim
from .demonstrations import add_names, run
from .options import fraction, parser, positive
from .plugin_budget import budget
from .plugin_cost import cost
from .plugin_flood import flood
from .plugin_memory import flat
from .plugin_reload import reload
from .plugin_setting import Setting, installed
from .plugin_shared import shared

DEMONSTRATIONS: dict[str, Callable[[Setting], list[Claim]]] = {
    "cost": cost,
    "budget": budget,
    "shared": shared,
    "flood": flood,
    "reload": reload,
    "memory": flat,
}
PLUGIN = pathlib.Path(tidegate.__file__).parent / "tidegate_mosquitto.so"


def main() -> None:
    line = parser("plugin", __doc__)
    add_names(line, DEMONSTRATIONS)
    line.add_argument("--mosquitto", metavar="PATH", help="the broker; else the one that is installed")
    line.add_argument("--plugin", type=pathlib.Path, default=PLUGIN, metavar="PATH", help="else the one of this Python")
    line.add_argument("--seconds", type=positive, default=60, metavar="N", help="of `memory`")
    line.add_argument("--rounds", type=positive, default=15, metavar="N", help="of `cost` and `flood`")
    line.add_argument("--scale", type=fraction, default=1.0, metavar="X", help="times the number of messages of `cost`")
    arguments = line.parse_args()
    if not arguments.plugin.exists():
        sys.exit(f"no plugin at {arguments.plugin}: it needs Mosquitto's headers and another build (docs/plugin.md)")
    setting = Setting(
        arguments.tidegate_command,
        arguments.mosquitto or installed(),
        arguments.plugin.absolute(),
        arguments.seconds,
        arguments.rounds,
        arguments.scale,
    )
    run(DEMONSTRATIONS, arguments.names, setting)


if __name__ == "__main__":
    main()
