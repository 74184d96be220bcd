"""The start-up panel: where Tidegate listens, what is behind it, and what to try first."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.constrain import Constrain
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

WIDTH = 80
"""Columns: what a terminal has at least, by long custom."""


_ANY = ("0.0.0.0", "::")
_DEFAULT = ("127.0.0.1", "localhost", *_ANY)
"""Hosts that mosquitto_pub reaches without being told."""

Listener = tuple[str, int] | Path
"""Host and port, or the path of a Unix socket."""


@dataclass(frozen=True)
class Started:
    """What the panel tells of a gateway that has just started."""

    version: str
    listeners: tuple[Listener, ...]
    """At least one."""
    broker: str
    """What is behind: `Mosquitto 2.0.11, embedded` or an address."""
    admin: str | None
    """The URL of the admin endpoint, if it is on."""
    command: str = "tidegate"
    """What this shell must be told to run another command of ours."""
    notes: tuple[str, ...] = ()
    """What the operator should know before anything else, such as a port that was taken."""


def show(started: Started, console: Console) -> None:
    """Print the panel if `console` is a terminal; elsewhere the log says it all."""
    if console.is_terminal:
        console.print(render(started))


def render(started: Started) -> RenderableType:
    """The panel, at most `WIDTH` wide. A command has its lines to itself, so that they can be copied."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for i, listener in enumerate(started.listeners):
        facts.add_row("" if i else "Listening", Text(_place(listener)))
    facts.add_row("Broker", Text(started.broker))
    if started.admin is not None:
        facts.add_row("Admin", Text(f"{started.admin}/metrics, /healthz, /readyz"))
    for note in started.notes:
        facts.add_row(Text("Note", style="yellow"), Text(note))
    target = _target(started.listeners)
    commands = (
        f"mosquitto_sub {target}-v -t 'plant/#'",
        f"mosquitto_pub {target}-t plant/1/t -m hi",
    )
    panel = Group(
        Rule(Text(f"Tidegate {started.version}", style="bold"), align="left", style="cyan"),
        Padding(facts, (1, 2)),
        Padding(Text("Try it from two more terminals:"), (0, 2)),
        *(Padding(Text(command, style="cyan", overflow="fold"), (0, 4)) for command in commands),
        Padding(
            Text.assemble(
                "Next: ",
                (f"{started.command} doctor", "cyan"),
                " checks this host; ",
                ("docs/", "cyan"),
                " explains settings and metrics.",
            ),
            (1, 2),
        ),
        Rule(Text("Ctrl-C stops it"), align="left", style="cyan"),
    )
    return Constrain(panel, WIDTH)


def _place(listener: Listener) -> str:
    if isinstance(listener, Path):
        return str(listener)
    host, port = listener
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{address} (every address of this host)" if host in _ANY else address


def _target(listeners: tuple[Listener, ...]) -> str:
    """What mosquitto_pub must be told to get here, beyond its defaults: nothing for localhost:1883."""
    tcp = next((listener for listener in listeners if not isinstance(listener, Path)), None)
    if tcp is None:
        return f"--unix {shlex.quote(str(listeners[0]))} "
    host, port = tcp
    return ("" if host in _DEFAULT else f"-h {host} ") + ("" if port == 1883 else f"-p {port} ")
