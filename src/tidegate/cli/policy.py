"""`tidegate policy`: look at limits without running them.

Exit codes: 0 good, 1 not done, or not enforced by this version, 2 the file or the command line is wrong.
"""

import sys
from pathlib import Path

import click
from rich.console import Console

from ..app import policy_check, policy_explain, policy_match, policy_question, policy_show
from ..app.policy_compile import NotWritten, compile_to
from ..policy.problems import SettingsError

_FILE = click.argument("file", type=click.Path(path_type=Path))
_JSON = click.option("--json", "as_object", is_flag=True, help="Print an object instead of text.")
_EXPLAIN_EXAMPLES = """\b
Examples:
  tidegate policy explain FILE --client-id sensor-1 --topic plant/1/t --qos 1
  tidegate policy explain FILE --on connect --ip 192.0.2.7
  tidegate policy explain FILE --on subscribe --topic 'plant/#' --qos 2
"""
_VERSION = click.Choice(list(policy_match.VERSIONS))


@click.group()
def policy() -> None:
    """Check, explain and compile limits."""


@policy.command()
@_FILE
@click.option(
    "--for",
    "where",
    type=click.Choice(("gateway", "plugin")),
    default="gateway",
    show_default=True,
    help="Where the limits are to hold. plugin: inside Mosquitto; tells of each limit how it is enforced there.",
)
@_JSON
def check(file: Path, where: str, as_object: bool) -> None:
    """Tell all that is wrong or doubtful in FILE.

    FILE is read as `serve` would; nothing is started. Exit code 1: it is right, but `serve` would refuse it, as it asks
    for what this version does not enforce; with `--for plugin`: some of its limits are not enforced there.
    """
    result = policy_check.check(file, for_plugin=where == "plugin")
    if as_object:
        click.echo(policy_check.check_json(result))
    else:
        policy_check.show_check(result, Console(), Console(stderr=True))
    sys.exit(policy_check.exit_code(result))


@policy.command(epilog=_EXPLAIN_EXAMPLES)
@_FILE
@click.option(
    "--on",
    type=click.Choice(list(policy_question.ON)),
    default=policy_question.Question.on,
    metavar="EVENT",
    help=f"{', '.join(policy_question.ON)}: it sends a message (unless told), connects, subscribes, is sent a message, "
    "leaves its will, sends any packet, or fails to prove who it is.",
)
@click.option("--topic", help="Topic of the message, or filter of the subscription; needed for one.")
@click.option(
    "--qos", type=click.IntRange(0, 2), default=0, show_default=True, help="QoS of the message, or the one asked for."
)
@click.option("--retain", is_flag=True, help="The message is retained.")
@click.option(
    "--size",
    type=click.IntRange(0),
    metavar="BYTES",
    help=f"Bytes of its payload, {policy_question.PAYLOAD} unless told; with --on connect or packet, of the whole.",
)
@click.option("--client-id", default="", metavar="ID", help="Client identifier; without it the broker assigns one.")
@click.option("--username", metavar="NAME", help="User name; without it the client sends none.")
@click.option("--ip", "address", metavar="IP", help="Where the client connects from; 127.0.0.1, unless told.")
@click.option("--listener", metavar="ADDRESS", help="Where it connects to; the first of gateway.listen, unless told.")
@click.option("--version", type=_VERSION, default="5", show_default=True, help="Version of MQTT.")
@click.option("--bridge", is_flag=True, help="The client says that it is a bridge.")
@click.option("--keep-session", is_flag=True, help="The client connects without clean start.")
@_JSON
def explain(
    file: Path,
    on: str,
    topic: str | None,
    qos: int,
    retain: bool,
    size: int | None,
    client_id: str,
    username: str | None,
    address: str | None,
    listener: str | None,
    version: str,
    bridge: bool,
    keep_session: bool,
    as_object: bool,
) -> None:
    """Tell which limits of FILE a message, a subscription or a connection meets.

    For each: what it is counted per, the budget of this client, what the client sees when it is used up, and the line
    in FILE. For each other limit on the same event: what keeps it from being met.
    """
    question = policy_question.Question(
        topic, client_id, username, address, listener, version, bridge, not keep_session, qos, retain, size, on
    )
    try:
        answer = policy_explain.explain(file, question)
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except policy_question.BadQuestion as error:
        click.echo(f"tidegate policy explain: {error}", err=True)
        sys.exit(2)
    if as_object:
        click.echo(policy_explain.explain_json(answer))
    else:
        policy_show.show(answer, Console())


@policy.command(name="compile")
@_FILE
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="OUT",
    help="The file to write; one that is there is replaced at once, or stays as it is.",
)
def compile_(file: Path, output: Path) -> None:
    """Write limits in the engine's form.

    The limits of FILE are written to OUT in the flat form that the engine reads, for the plugin inside Mosquitto. What
    it does otherwise than a gateway is told on standard error.
    """
    try:
        size = compile_to(file, output)
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except NotWritten as error:
        click.echo(f"tidegate policy compile: {error}", err=True)
        sys.exit(1)
    for line in policy_check.lines(policy_check.check(file, for_plugin=True)):
        Console(stderr=True).print(line, highlight=False, soft_wrap=True)
    click.echo(f"{output}: {size} bytes")
