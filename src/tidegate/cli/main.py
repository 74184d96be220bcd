"""The commands. Exit codes: 0 success, 1 it could not be done, 2 the configuration or the command line is wrong."""

import asyncio
import shlex
import sys
from pathlib import Path

import click
import uvloop
from rich.console import Console

from .. import __version__
from ..app.demo import run as run_demo
from ..app.doctor import as_json, examine, failed, render
from ..app.init import NotMade, make
from ..app.reload import NotReloaded, request
from ..app.serve import serve as run_gateway
from ..gateway.start_error import StartError
from ..policy.problems import SettingsError
from .ban import ban
from .options import CONFIG, settings_of
from .plugin import plugin
from .policy import policy


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tidegate")
def main() -> None:
    """Flood protection and rate limiting for Mosquitto and any other MQTT broker."""


@main.command()
@CONFIG
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Overrides log.format.")
def serve(config: Path | None, log_format: str | None) -> None:
    """Run the gateway.

    Without a configuration it protects the broker that has port 1883, or runs a Mosquitto of its own. SIGTERM and
    Ctrl-C end it in order; SIGHUP reads the limits again.
    """
    settings = settings_of(config)
    if log_format is not None:
        settings = settings.with_log_format(log_format)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run_gateway(settings, config))
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except StartError as error:
        click.echo(f"{error.place or 'tidegate'}: {error}", err=True)
        sys.exit(1)


@main.command()
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="The configuration that the gateway was started with.",
)
def reload(config: Path) -> None:
    """Put changed limits in force.

    The running gateway reads classes and limits again. No connection is dropped, and limits that stay keep their
    budgets. A file that is wrong changes nothing.
    """
    settings = settings_of(config)
    try:
        answer = request(settings, config)
    except NotReloaded as error:
        click.echo(f"tidegate reload: {error}", err=True)
        sys.exit(1)
    for line in (*answer.problems, *answer.notes):
        click.echo(line, err=True)
    if answer.problems:
        sys.exit(2)
    limits = f"{answer.limits} limit{'' if answer.limits == 1 else 's'}"
    click.echo(f"reloaded: {limits} in force, generation {answer.generation} of the policy")


@main.command()
@click.argument("file", type=click.Path(path_type=Path), default="tidegate.toml")
def init(file: Path) -> None:
    """Write a first configuration.

    It goes to FILE, tidegate.toml unless told; a file that is there stays as it is. Limits are in it, and every line is
    explained.
    """
    try:
        make(file)
    except NotMade as error:
        click.echo(f"tidegate init: {error}", err=True)
        sys.exit(1)
    name = shlex.quote(str(file))
    click.echo(f"wrote {file}\nnext: tidegate policy check {name}\nthen: tidegate serve -c {name}")


@main.command()
@CONFIG
@click.option("--json", "as_object", is_flag=True, help="Print the findings as JSON.")
def doctor(config: Path | None, as_object: bool) -> None:
    """Examine this machine.

    Versions, permissions, limits, ports, the broker: what is missing, and how to mend it. Nothing is changed.
    """
    findings = asyncio.run(examine(settings_of(config)))
    if as_object:
        click.echo(as_json(findings))
    else:
        render(findings, Console())
    sys.exit(1 if failed(findings) else 0)


@main.command()
@click.option("--seconds", type=click.IntRange(1, 3600), default=20, show_default=True, help="The length of each half.")
@click.option("--json", "as_object", is_flag=True, help="Print the figures alone, as JSON.")
def demo(seconds: int, as_object: bool) -> None:
    """See a flood, bare and through Tidegate.

    Twenty sensors and a device that has gone mad, first straight on a Mosquitto, then through Tidegate before it:
    what arrives, how late, and what is lost. Needs no configuration and touches nothing of yours; Ctrl-C ends it.
    """
    try:
        sys.exit(run_demo(seconds, as_object, Console()))
    except StartError as error:
        click.echo(f"tidegate demo: {error}", err=True)
        sys.exit(1)


main.add_command(ban)
main.add_command(plugin)
main.add_command(policy)
