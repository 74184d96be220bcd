"""What `tidegate demo` puts on the screen: a live table on a terminal, a line now and then where there is none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from .demo_figures import Board, Figures, State
from .demo_stage import POLICY
from .panel import WIDTH

LINE_SECONDS = 5.0
"""Between two lines where there is no terminal."""
ALIKE = 1.5
"""Two medians within such a factor are called about the same: two runs of one thing differ by as much."""

_CELL = 18  # columns of a phase in the table
_BARE, _THROUGH = "bare Mosquitto", "through Tidegate"

Watch = Callable[[Board], None]


@contextmanager
def silent() -> Iterator[Watch]:
    """Show nothing."""
    yield lambda _: None


@contextmanager
def watching(board: Board, console: Console) -> Iterator[Watch]:
    """Print what will be played; then show the board as it changes, its last state to stay."""
    console.print(introduction(board))
    if console.is_terminal and not console.is_dumb_terminal:
        with Live(table(board), console=console, auto_refresh=False) as live:
            yield lambda board: live.update(table(board), refresh=True)
        return
    lines = Lines()

    def tell(board: Board) -> None:
        for line in lines.due(board):
            console.out(line, highlight=False)

    yield tell
    console.print(Group("", table(board)))


def introduction(board: Board) -> RenderableType:
    """What will be played, and the policy that makes the difference; at most WIDTH wide, as all that follows."""
    halves = Table.grid(padding=(0, 2))
    first, then = Text(f"First {board.seconds} s"), Text(f"Then {board.seconds} s")
    halves.add_row(first, Text(f"all connect straight to Mosquitto {board.mosquitto}, with its defaults"))
    halves.add_row(then, Text("all connect to Tidegate before that Mosquitto, with this policy:"))
    return Constrain(
        Group(
            Rule(Text("Tidegate demo", style="bold"), align="left", style="cyan"),
            Padding(
                Text(
                    "Twenty sensors send two readings a second each. A control room subscribes to "
                    "plant/# and stores every message in SQLite. Beside them a pump has gone mad: "
                    "it publishes to plant/1/pump-7/status as fast as it can."
                ),
                (1, 2),
            ),
            _indented(halves),
            Padding(Text(POLICY.rstrip(), style="cyan"), (1, 4)),
            _indented(Text("It all runs here, on free ports of 127.0.0.1. Ctrl-C ends it.", style="dim")),
            "",
        ),
        WIDTH,
    )


def table(board: Board) -> RenderableType:
    """The figures of both phases beside each other."""
    both = (board.bare, board.through)
    grid = Table.grid(padding=(0, 3))
    grid.add_column(no_wrap=True)
    for _ in both:
        grid.add_column(justify="right", no_wrap=True, min_width=_CELL)

    def add(name: str, cell: Callable[[Figures], str | Text]) -> None:
        grid.add_row(name, *("" if one.state is State.NEXT else cell(one) for one in both))

    grid.add_row("", Text(_BARE, style="bold"), Text(_THROUGH, style="bold"))
    grid.add_row("", *(Text(progress(one, board.seconds), style="dim") for one in both))
    grid.add_row(Text("The sensors' readings", style="bold"), *map(_bar, both))
    add("  sent", lambda one: f"{one.sent:,}")
    add("  acknowledged by the broker", lambda one: f"{one.acknowledged:,}")
    add("  stored by the control room", lambda one: f"{one.arrived:,}")
    add("  lost", _lost)
    add("  latency, median", lambda one: Text(duration(one.median), style="bold"))
    add("  latency, 99th percentile", lambda one: duration(one.p99))
    grid.add_row(Text("The mad pump's messages", style="bold"))
    add("  published", lambda one: f"{one.flood_sent:,}")
    add("  over the limit", lambda one: "no limit" if one.limited is None else f"{one.limited:,}")
    add("  stored by the control room", lambda one: f"{one.flood_arrived:,}")
    return _indented(grid)


def outcome(board: Board, command: str) -> RenderableType:
    """What has happened, in words, and what to try next; `command` is what this shell calls Tidegate."""
    return Constrain(
        Group(
            "",
            *(_indented(Text(sentence)) for sentence in sentences(board)),
            Padding(Text("Next, limits of your own, every line of them explained:"), (1, 2, 0, 2)),
            Padding(Text(f"{command} init\n{command} serve -c tidegate.toml", style="cyan", overflow="fold"), (0, 4)),
        ),
        WIDTH,
    )


def sentences(board: Board) -> list[str]:
    """What has happened, whatever it was."""
    bare, through = board.bare, board.through
    told = [
        f"Bare, {_fate(bare)}.",
        f"Through Tidegate, {_fate(through)}{_compared(bare, through)}.",
    ]
    if through.limited:
        told.append(f"Of the pump's flood {through.flood_arrived:,} messages came through, within the policy.")
    if not bare.missing and bare.median and through.median and bare.median / through.median < ALIKE:
        told.append("Mosquitto and the control room bore this flood here: there was little to protect.")
    return told


class Lines:
    """The lines that are due where there is no terminal."""

    def __init__(self) -> None:
        self._told: dict[str, object] = {}

    def due(self, board: Board) -> Iterator[str]:
        """One at each change of a phase's state, and every LINE_SECONDS while it runs."""
        for name, one in ((_BARE, board.bare), (_THROUGH, board.through)):
            now = (one.state, one.elapsed // LINE_SECONDS)
            if one.state is State.NEXT or self._told.get(name) == now:
                continue
            self._told[name] = now
            yield (
                f"{name:16}  {progress(one, board.seconds):>10}  sent {one.sent}, stored {one.arrived}, "
                f"{'lost' if one.state is State.DONE else 'missing'} {one.missing}, "
                f"latency median {duration(one.median)}, p99 {duration(one.p99)}"
            )


def progress(figures: Figures, seconds: int) -> str:
    """How far a phase of so many seconds is."""
    if figures.state is State.RUNNING:
        return f"{min(int(figures.elapsed), seconds)} of {seconds} s"
    return str(figures.state.value)


def duration(seconds: float | None) -> str:
    """For a person; "-" for None."""
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.{1 if seconds < 0.01 else 0}f} ms"


def _indented(what: RenderableType) -> RenderableType:
    return Padding(what, (0, 2))


def _bar(figures: Figures) -> RenderableType:
    """What arrived of what was sent; where there is no colour, the missing part is left out."""
    if figures.state is State.NEXT:
        return ""
    missing = "red" if figures.state is State.DONE else "yellow"
    return ProgressBar(
        max(1, figures.sent),
        figures.arrived,
        width=_CELL,
        style=missing,
        complete_style="green",
        finished_style="green",
    )


def _lost(figures: Figures) -> Text:
    if figures.state is not State.DONE:
        return Text(f"{figures.missing:,} missing", style="yellow" if figures.missing else "")
    if not figures.missing:
        return Text("0", style="bold green")
    return Text(f"{figures.missing:,} = {100 * figures.loss:.1f} %", style="bold red")


def _fate(figures: Figures) -> str:
    latency = f"a median latency of {duration(figures.median)}"
    if not figures.missing:
        return f"all {figures.sent:,} readings arrived, with {latency}"
    untold = "" if figures.acknowledged < figures.sent else ", though the broker had acknowledged them all"
    rest = "not one arrived" if figures.median is None else f"those that arrived had {latency}"
    return f"{figures.missing:,} of {figures.sent:,} readings were lost ({100 * figures.loss:.0f} %){untold}; {rest}"


def _compared(bare: Figures, through: Figures) -> str:
    if not bare.median or not through.median:
        return ""
    ratio = bare.median / through.median
    if ratio >= ALIKE:
        return f": {ratio:,.0f} times less" if ratio >= 10 else f": {ratio:.1f} times less"
    if ratio > 1 / ALIKE:
        return ": about the same"
    return f": {1 / ratio:.1f} times more"
