"""What limits on connections, bans and bounds promise, shown one by one, with PASS or FAIL.

    python -m benchmarks.connections [storm|refusals|slow|guess|files ...] [--seconds 10] [--rate 2000]
                                     [--sources 4] [--share X] [--files 2000]

storm: a storm of connections from --sources addresses, beside bare Mosquitto and HAProxy: others do not feel it. With
--share, the broker may use so much of one core, by a CPU quota (quota.py), which takes root.
refusals: how many connections are refused for a second of CPU, beside HAProxy.
slow: two thousand that never finish their CONNECT, and others that trickle, are gone when their time is over.
guess: who guesses passwords is banned, for longer each time; the user whose they are notices nothing.
files: at the open-file limit, who comes is refused, and nobody else notices.

All run when none is named. Each is a module of its own, connections_NAME.py, whose text says how it is done.

Exit status: 0, or 1 when a promise was not kept.
"""

from collections.abc import Callable

from .claims import Claim
from .connections_files import files
from .connections_guess import guess
from .connections_refusals import refusals
from .connections_setting import Setting
from .connections_slow import slow
from .connections_storm import storm
from .demonstrations import add_names, run
from .options import fraction, parser, positive

DEMONSTRATIONS: dict[str, Callable[[Setting], list[Claim]]] = {
    "storm": storm,
    "refusals": refusals,
    "slow": slow,
    "guess": guess,
    "files": files,
}


def main() -> None:
    line = parser("connections", __doc__)
    add_names(line, DEMONSTRATIONS)
    line.add_argument("--seconds", type=positive, default=10, metavar="N", help="of a storm, and of the rest before it")
    line.add_argument("--rate", type=positive, default=2000, metavar="N", help="connections per second of a storm")
    line.add_argument("--sources", type=positive, default=4, metavar="N", help="addresses that a storm comes from")
    line.add_argument("--share", type=fraction, metavar="X", help="of a core, for the broker of `storm`")
    line.add_argument("--files", type=positive, default=2000, metavar="N", help="the open-file limit that is met")
    arguments = line.parse_args()
    setting = Setting(
        arguments.tidegate_command,
        arguments.seconds,
        arguments.rate,
        arguments.sources,
        arguments.share,
        arguments.files,
    )
    run(DEMONSTRATIONS, arguments.names, setting)


if __name__ == "__main__":
    main()
