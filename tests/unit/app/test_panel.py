import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tidegate.app.panel import WIDTH, Listener, Started, show

STARTED = Started(
    version="0.1.0",
    listeners=(("127.0.0.1", 1883),),
    broker="Mosquitto 2.0.11, embedded",
    admin="http://127.0.0.1:9183",
)


def shown(started: Started, *, terminal: bool = True, width: int = 120) -> str:
    out = io.StringIO()
    show(
        started,
        Console(file=out, force_terminal=terminal, width=width, color_system=None, legacy_windows=False),
    )
    return out.getvalue()


def test_the_whole_panel() -> None:
    text = "\n".join(line.rstrip() for line in shown(STARTED, width=WIDTH).splitlines())
    assert (
        text
        == f"""\
Tidegate 0.1.0 {"─" * 65}

  Listening  127.0.0.1:1883
  Broker     Mosquitto 2.0.11, embedded
  Admin      http://127.0.0.1:9183/metrics, /healthz, /readyz

  Try it from two more terminals:
    mosquitto_sub -v -t 'plant/#'
    mosquitto_pub -t plant/1/t -m hi

  Next: tidegate doctor checks this host; docs/ explains settings and metrics.

Ctrl-C stops it {"─" * 64}"""
    )


def test_nothing_where_there_is_no_terminal() -> None:
    assert shown(STARTED, terminal=False) == ""


@pytest.mark.parametrize(
    ("listener", "options"),
    [
        (("127.0.0.1", 1883), ""),
        (("localhost", 1884), "-p 1884 "),
        (("0.0.0.0", 1884), "-p 1884 "),
        (("::", 1883), ""),
        (("::1", 1883), "-h ::1 "),
        (("192.0.2.7", 2883), "-h 192.0.2.7 -p 2883 "),
        (Path("/run/tidegate/mqtt.sock"), "--unix /run/tidegate/mqtt.sock "),
        (Path("/run/my gate/x.sock"), "--unix '/run/my gate/x.sock' "),
    ],
)
def test_the_commands_reach_the_listener(listener: Listener, options: str) -> None:
    lines = [line.strip() for line in shown(replace(STARTED, listeners=(listener,))).splitlines()]
    assert f"mosquitto_sub {options}-v -t 'plant/#'" in lines
    assert f"mosquitto_pub {options}-t plant/1/t -m hi" in lines


def test_every_listener_is_listed_and_tcp_is_what_is_tried() -> None:
    listeners: tuple[Listener, ...] = (Path("/run/tidegate/mqtt.sock"), ("::1", 1884), ("0.0.0.0", 1885))
    text = shown(replace(STARTED, listeners=listeners))
    assert "Listening  /run/tidegate/mqtt.sock" in text
    assert "           [::1]:1884 " in text
    assert "           0.0.0.0:1885 (every address of this host)" in text
    assert "mosquitto_pub -h ::1 -p 1884 -t" in text


def test_notes_and_no_admin_endpoint() -> None:
    text = shown(replace(STARTED, admin=None, notes=("Port 1883 is taken by mosquitto (pid 812).", "Two.")))
    assert "Admin" not in text
    assert "Note       Port 1883 is taken by mosquitto (pid 812)." in text
    assert "Note       Two." in text


def test_never_wider_than_80_columns_and_nothing_is_lost() -> None:
    path = "/home/somebody/" + "deep/" * 16 + "x.sock"
    text = shown(replace(STARTED, listeners=(Path(path),), broker="b" * 200, notes=("n " * 100,)))
    assert max(map(len, text.splitlines())) <= WIDTH
    squeezed = "".join(text.split())
    assert squeezed.count(path) == 3
    assert "b" * 200 in squeezed


def test_values_are_not_taken_for_markup() -> None:
    text = shown(replace(STARTED, broker="[red]x[/red]", notes=("[bold]",), listeners=(Path("/run/[b]/x"),)))
    assert all(literal in text for literal in ("[red]x[/red]", "[bold]", "/run/[b]/x"))
