"""`tidegate ban`: who is kept out.

Exit codes: 0 done, 1 not done, or the gateway does not go by it, 2 the configuration or the command line is wrong.
"""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from ..app import ban_show, bans
from ..policy.problems import BadValue
from ..policy.units import Duration
from .options import CONFIG, settings_of

_TIME = Duration("1s", "87600h")
_KEY_OPTIONS = (
    click.option("--ip", metavar="NETWORK", help="An address or network; unix: who comes by a Unix socket."),
    click.option("--client-id", metavar="ID", help="A client identifier."),
    click.option("--username", metavar="NAME", help="A user name."),
    click.option("--anonymous", is_flag=True, help="Who sends no user name."),
    click.option(
        "--capture", "captures", multiple=True, metavar="NAME=VALUE", help="What a class captures, e.g. tenant=acme."
    ),
)


def _key(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say who is meant; all that are given must fit."""
    for option in reversed(_KEY_OPTIONS):
        command = option(command)
    return command


@click.group()
def ban() -> None:
    """Keep clients out, and let them in again."""


@ban.command(name="list")
@CONFIG
@click.option("--json", "as_object", is_flag=True, help="Print a list of objects.")
def list_(config: Path | None, as_object: bool) -> None:
    """Tell who is banned.

    For each: by which limit, how many times in a row, since and until when. A gateway need not run.
    """
    now = time.time()
    try:
        found, problem = bans.listed(settings_of(config), now)
    except bans.NotDone as error:
        _fail("list", 1, error)
    if as_object:
        click.echo(ban_show.as_json(found, now))
    elif found or not problem:
        for line in ban_show.table(found, now):
            click.echo(line)
    if problem:
        _fail("list", 1, problem)


@ban.command()
@CONFIG
@_key
@click.option("--for", "duration", metavar="TIME", help="How long, for instance 30min or 24h; 1h, unless told.")
@click.option("--forever", is_flag=True, help="Until it is removed.")
@click.option("--note", default="", metavar="TEXT", help="Why; shown in the list.")
def add(config: Path | None, duration: str | None, forever: bool, note: str, **who: Any) -> None:
    r"""Ban somebody by hand.

    All that is given must fit. A gateway that runs goes by it at once; one that does not, when it starts.

    \b
        tidegate ban add -c tidegate.toml --ip 192.0.2.0/24 --for 24h
    """
    settings = settings_of(config)
    try:
        if forever and duration is not None:
            raise BadValue("forever: --for is given too", "leave one of the two out")
        seconds = math.inf if forever else _duration(duration or "1h")
        done = bans.add(settings, bans.key_from(**_parts(who)), seconds, note, time.time())
    except BadValue as error:
        _fail("add", 2, _as_options(error))
    except bans.NotDone as error:
        _fail("add", 1, error)
    (entry,) = done.entries
    length = "" if forever else f" (for {ban_show.left_text(seconds)})"
    _tell(done, f"banned {entry.key}, until {ban_show.until_text(entry)}{length}")


@ban.command()
@CONFIG
@_key
@click.option("--all", "everybody", is_flag=True, help="All bans that there are.")
def remove(config: Path | None, everybody: bool, **who: Any) -> None:
    """Lift a ban.

    Named as the list shows it; all bans of it are lifted, of whatever limit, and earlier ones are forgotten.
    """
    settings = settings_of(config)
    now = time.time()
    try:
        parts = _parts(who)
        if everybody and any(parts.values()):
            raise BadValue("all: somebody is named too", "leave one of the two out")
        done = bans.remove(settings, None if everybody else bans.key_from(**parts))
    except BadValue as error:
        _fail("remove", 2, _as_options(error))
    except bans.NotDone as error:
        _fail("remove", 1, error)
    count = sum(entry.until > now for entry in done.entries)
    _tell(done, f"lifted {count} ban{'' if count == 1 else 's'}" if count else "nobody was banned")


def _parts(who: dict[str, Any]) -> dict[str, Any]:
    """The options of `_key` as `bans.key_from` takes them."""
    return {"pairs" if name == "captures" else name: value for name, value in who.items()}


def _duration(text: str) -> float:
    try:
        return _TIME(text)
    except BadValue as error:
        raise BadValue(f"for: {error.text}", error.fix) from error


def _as_options(error: BadValue) -> str:
    """What is wrong, with the option's name for the key's part."""
    part, colon, text = str(error).partition(": ")
    option = "--capture" if part == "captures" else f"--{part.replace('_', '-')}"
    return f"{option}: {text}" if colon and part.replace("_", "").isalpha() else str(error)


def _tell(done: bans.Done, what: str) -> None:
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(what)
    click.echo(
        "no gateway runs: it holds from the next start on"
        if done.pid is None
        else f"in force: all workers of the gateway (pid {done.pid}) go by it"
    )


def _fail(command: str, code: int, why: object) -> NoReturn:
    click.echo(f"tidegate ban {command}: {why}", err=True)
    sys.exit(code)
