"""`tidegate policy`: look at limits without running them. Exit codes: 0 good, 1 not done, 2 the file is wrong."""

import sys
from pathlib import Path

import click
from rich.console import Console

from ..app import policy_check, policy_explain
from ..app.policy_compile import NotWritten, compile_to
from ..policy.problems import SettingsError

_FILE = click.argument("file", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_object", is_flag=True, help="Print an object instead of text.")


@click.group()
def policy() -> None:
    """Check, explain and compile the limits of a configuration."""


@policy.command()
@_FILE
@_JSON
def check(file: Path, as_object: bool) -> None:
    """Read FILE as `serve` would, and tell all that is wrong or doubtful in it."""
    result = policy_check.check(file)
    if as_object:
        click.echo(policy_check.check_json(result))
    else:
        policy_check.show_check(result, Console(), Console(stderr=True))
    sys.exit(2 if result.problems else 0)


@policy.command()
@_FILE
@click.option("--client-id", default="", help="As in CONNECT.")
@click.option("--username", help="As in CONNECT; without it the client sends none.")
@click.option("--ip", "address", default="127.0.0.1", show_default=True, help="Its address; `unix` for a Unix socket.")
@click.option("--listener", help="The address that it connects to, as in gateway.listen; else the first.")
@click.option("--version", type=click.Choice(["3.1", "3.1.1", "5"]), default="5", show_default=True, help="Of MQTT.")
@click.option("--bridge", is_flag=True, help="It is a bridge of Mosquitto's.")
@click.option("--keep-session", is_flag=True, help="It connects without clean start.")
@click.option("--topic", required=True, help="Of the message.")
@click.option("--qos", type=click.IntRange(0, 2), default=0, show_default=True)
@click.option("--retain", is_flag=True, help="The message is retained.")
@click.option("--size", "payload", type=click.IntRange(0), default=64, show_default=True, help="Bytes of payload.")
@_JSON
def explain(
    file: Path,
    client_id: str,
    username: str | None,
    address: str,
    listener: str | None,
    version: str,
    bridge: bool,
    keep_session: bool,
    topic: str,
    qos: int,
    retain: bool,
    payload: int,
    as_object: bool,
) -> None:
    """Which limits of FILE a message meets: their keys and budgets, what happens on excess, and the line of each."""
    question = policy_explain.Question(
        client_id, username, address, listener, version, bridge, not keep_session, topic, qos, retain, payload
    )
    try:
        answer = policy_explain.explain(file, question)
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except policy_explain.BadQuestion as error:
        click.echo(f"tidegate policy explain: {error}", err=True)
        sys.exit(2)
    if as_object:
        click.echo(policy_explain.explain_json(answer))
    else:
        policy_explain.show_explain(answer, Console())


@policy.command(name="compile")
@_FILE
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="OUT")
def compile_(file: Path, output: Path) -> None:
    """Write the limits of FILE to OUT in the flat form that the engine reads."""
    try:
        size = compile_to(file, output)
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except NotWritten as error:
        click.echo(f"tidegate policy compile: {error}", err=True)
        sys.exit(1)
    click.echo(f"{output}: {size} bytes")
