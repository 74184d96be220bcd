"""`tidegate plugin`: the same limits inside Mosquitto.

Exit codes: 0 done, 1 not done, 2 the command line or mosquitto.conf is wrong.
"""

import json
import sys
from pathlib import Path

import click

from ..app import plugin_install
from ..audit.mosquitto_conf import ConfError

_PATH = click.Path(readable=False, path_type=Path)
"""What may not be read is told by the command, with what to do."""
_JSON = click.option("--json", "as_object", is_flag=True, help="Print an object instead of text.")


@click.group()
def plugin() -> None:
    """Limit inside Mosquitto, without a proxy."""


@plugin.command()
@_JSON
def path(as_object: bool) -> None:
    """Print where the plugin is."""
    try:
        found = plugin_install.plugin_path()
    except plugin_install.NotInstalled as error:
        click.echo(f"tidegate plugin path: {error}", err=True)
        sys.exit(1)
    click.echo(json.dumps({"path": str(found)}) if as_object else str(found))


@plugin.command()
@click.argument("file", metavar="[MOSQUITTO_CONF]", type=_PATH, default="/etc/mosquitto/mosquitto.conf")
@click.option("--policy", type=_PATH, metavar="FILE", help="A compiled policy.")
@click.option("--segment", type=_PATH, metavar="PATH", help="The segment of a gateway that runs.")
@click.option(
    "--gateway",
    "gateways",
    multiple=True,
    metavar="WHERE",
    help="Who comes from here has been limited by a gateway: an address, a network, or the path of a Unix socket. "
    "May be repeated.",
)
@click.option(
    "--plugin",
    "copy",
    type=_PATH,
    metavar="FILE",
    help="A copy of the plugin, where the broker's user may not read the one that `tidegate plugin path` prints.",
)
@click.option("--write", is_flag=True, help="Change the file; what was there is kept beside it.")
@_JSON
def install(
    file: Path,
    policy: Path | None,
    segment: Path | None,
    gateways: tuple[str, ...],
    copy: Path | None,
    write: bool,
    as_object: bool,
) -> None:
    """Print the lines that mosquitto.conf needs, or write them.

    MOSQUITTO_CONF, /etc/mosquitto/mosquitto.conf unless told, is read as Mosquitto does, with all that it includes.
    Nothing is changed without --write.
    """
    if (policy is None) == (segment is None):
        raise click.UsageError("name one of --policy FILE and --segment PATH")
    backup = None
    try:
        made = plugin_install.plan(file, plugin_install.Wanted(policy, segment, gateways, copy))
        for text in made.warnings:
            click.echo(f"warning: {text}", err=True)
        if write and not made.obstacles:
            backup = plugin_install.write(made)
    except ConfError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except plugin_install.NotInstalled as error:
        click.echo(f"tidegate plugin install: {error}", err=True)
        sys.exit(1)
    if as_object:
        click.echo(plugin_install.as_json(made, write and not made.obstacles))
        sys.exit(1 if made.obstacles else 0)
    for text in made.obstacles:
        click.echo(f"to mend first: {text}", err=True)
    for where, lines in made.blocks:
        click.echo("\n".join((f"# {where}", *lines)))
    if made.obstacles:
        sys.exit(1)
    click.echo(_next(made, backup, policy is not None, write), err=True)


def _next(made: plugin_install.Plan, backup: Path | None, has_policy: bool, write: bool) -> str:
    """What has been done, and what is to be done next."""
    if made.is_there:
        said = [f"{made.conf} has these lines already"]
    elif write:
        said = [f"wrote {made.conf}" + (f"; {backup} is what was there before" if backup else "")]
    else:
        said = [f"nothing is changed: write these lines into {made.conf} before other plugins', or add --write"]
    said.append("restart Mosquitto, a reload is not enough for a new plugin: systemctl restart mosquitto")
    said.append("ten seconds later: mosquitto_sub -v -t '$SYS/broker/tidegate/#' (as a client that may read $SYS)")
    if has_policy:
        said.append("how each limit is enforced there: tidegate policy check tidegate.toml --for plugin")
    return "\n".join(said)
