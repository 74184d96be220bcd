"""What `delay` and `concurrent` promise, shown one by one: what was promised, what was measured, PASS or FAIL.

    python -m benchmarks.shaping [order|fairness|keepalive|hold|window ...] [--seconds 60] [--on-excess delay]

order: a hundred messages at once under 20 a second come in order in three seconds, and hold nothing else up.
fairness: one flooder and forty light clients share a limit of all: who waits is the flooder.
keepalive: nobody loses a connection to a keepalive that he kept, though nothing of his reaches the broker.
hold: a flood into `delay` for --seconds: memory stays within `gateway.hold_pool`, and others do not feel it.
window: five in flight for a user over four connections on two workers, against a broker that is late.

All run when none is named. Each is a module of its own, shaping_NAME.py, whose text says how it is done. `--on-excess
drop` shows what becomes of it without `delay`.

Exit status: 0, or 1 when a promise was not kept.
"""

from collections.abc import Callable

from .claims import Claim
from .demonstrations import add_names, run
from .options import parser, positive
from .shaping_fairness import fairness
from .shaping_hold import hold
from .shaping_keepalive import keepalive
from .shaping_order import order
from .shaping_policy import Setting
from .shaping_window import window

DEMONSTRATIONS: dict[str, Callable[[Setting], list[Claim]]] = {
    "order": order,
    "fairness": fairness,
    "keepalive": keepalive,
    "hold": hold,
    "window": window,
}


def main() -> None:
    line = parser("shaping", __doc__)
    add_names(line, DEMONSTRATIONS)
    line.add_argument("--seconds", type=positive, default=60, metavar="N", help="of the flood of `hold`")
    line.add_argument("--on-excess", default="delay", metavar="ACTION", help="of the limits that delay")
    arguments = line.parse_args()
    setting = Setting(arguments.tidegate_command, arguments.on_excess, arguments.seconds)
    run(DEMONSTRATIONS, arguments.names, setting)


if __name__ == "__main__":
    main()
