"""What limits on the way down promise, on subscriptions, wills and single packets, shown one by one, with PASS or FAIL.

    python -m benchmarks.subscribers [pace|window|scale|wills|floods|replay ...] [--seconds 30]

pace: a dashboard that subscribes to `#` may have 64 KiB a second, behind a feed of 5 MB a second.
window: clients that ask for a Receive Maximum of 65,535 have twenty messages in flight, and lose nothing.
scale: a scale factor changes windows while clients are connected: twenty, five, twenty.
wills: five hundred clients die at once, and their wills come paced; a client that flaps is never seen offline.
floods: PINGREQs, subscriptions and retained messages come far too fast: the budgets are kept, others notice nothing.
replay: five hundred retained messages at every reconnect, paced: every topic comes, the newest value last.

All run when none is named. Each is a module of its own, subscribers_NAME.py, whose text says how it is done.

Exit status: 0, or 1 when a promise was not kept.
"""

from collections.abc import Callable

from .claims import Claim
from .demonstrations import add_names, run
from .options import parser, positive
from .subscribers_floods import floods
from .subscribers_pace import pace
from .subscribers_replay import replay
from .subscribers_scale import scale
from .subscribers_setting import Setting
from .subscribers_wills import wills
from .subscribers_window import window

DEMONSTRATIONS: dict[str, Callable[[Setting], list[Claim]]] = {
    "pace": pace,
    "window": window,
    "scale": scale,
    "wills": wills,
    "floods": floods,
    "replay": replay,
}


def main() -> None:
    line = parser("subscribers", __doc__)
    add_names(line, DEMONSTRATIONS)
    line.add_argument("--seconds", type=positive, default=30, metavar="N", help="of `pace` and `floods`")
    arguments = line.parse_args()
    run(DEMONSTRATIONS, arguments.names, Setting(arguments.tidegate_command, arguments.seconds))


if __name__ == "__main__":
    main()
