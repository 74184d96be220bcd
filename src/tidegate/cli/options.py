"""What several commands have in common: `-c FILE`, and what it says."""

import sys
from pathlib import Path

import click

from ..policy.problems import SettingsError
from ..policy.settings import Settings, load

CONFIG = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration, tidegate.toml. Without it every setting has its default.",
)


def settings_of(config: Path | None) -> Settings:
    """The settings; tells all that is wrong with them and ends the command, with exit code 2."""
    try:
        return load(config)
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
