"""`tidegate plugin`: where the plugin is, and the lines that mosquitto.conf needs for it."""

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

from ..audit.mosquitto_conf import PLUGIN_KEYS, Conf, Line, contents, encoded, is_closed, last_of, read
from ..engine.errors import PolicyError
from ..engine.format import Written
from .plugin_policy import read_compiled
from .plugin_warnings import unreadable_by_broker, warnings
from .replacing import replace

PLUGIN = Path(__file__).parent.parent / "tidegate_mosquitto.so"
BACKUP = ".before-tidegate"
MARK = "# Limits of Tidegate. Before the lines of other plugins."
MOST_GATEWAYS = 32
_OURS = ("policy", "segment", "gateway", "authentication", "authorisation")
"""The options that are written; others that are there stay."""


class NotInstalled(Exception):
    """It cannot be done; the text says why and what to do."""


@dataclass(frozen=True)
class Wanted:
    """What the operator asks for: one of `policy` and `segment`."""

    policy: Path | None = None
    segment: Path | None = None
    gateways: tuple[str, ...] = ()
    plugin: Path | None = None
    """A copy of the plugin; None: where the installation has it."""


@dataclass
class Plan:
    """What is to be in mosquitto.conf."""

    conf: Path
    blocks: list[tuple[str, list[str]]]
    """Where, and which lines; several when each listener has plugins of its own: then one of them is to be chosen."""
    obstacles: list[str] = field(default_factory=list)
    """Why Mosquitto would not start or not limit; nothing is written then."""
    warnings: list[str] = field(default_factory=list)
    text: str = ""
    """The whole file as it is to be."""
    is_there: bool = False
    """It is so already."""


def plugin_path() -> Path:
    """The plugin of this installation; NotInstalled when the build has left it out."""
    if PLUGIN.is_file():
        return PLUGIN
    raise NotInstalled(
        f"{PLUGIN} is missing: when Tidegate was built there were no headers of Mosquitto; "
        "apt-get install mosquitto-dev libmosquitto-dev, then build again in the folder of its sources: "
        "rm -f .venv/.built && make .venv/.built (installed with pip: pip install --force-reinstall --no-deps .)"
    )


def _copy_of_plugin(copy: Path) -> Path:
    """Its full path; NotInstalled when it is not the plugin of this installation."""
    original = plugin_path()
    command = f"install -D -m 644 {shlex.quote(str(original))} {shlex.quote(str(copy))}"
    try:
        if copy.name != PLUGIN.name:
            raise NotInstalled(
                f"--plugin {copy}: the file must be named {PLUGIN.name}, by which its lines are found again"
            )
        if copy.read_bytes() != original.read_bytes():
            raise NotInstalled(f"--plugin {copy}: is not the plugin of this Tidegate; {command}")
    except OSError as error:
        raise NotInstalled(f"--plugin {copy}: cannot be read: {error.strerror}; {command}") from error
    return Path(os.path.abspath(copy))


def plan(file: Path, wanted: Wanted) -> Plan:
    """What to write, and what is in its way. ConfError when Mosquitto could not read the file either, NotInstalled."""
    plugin = plugin_path() if wanted.plugin is None else _copy_of_plugin(wanted.plugin)
    _check(wanted)
    conf = read(file)
    ours, others = _plugins(conf)
    inside = [line for line in ours if line.file == file]
    made = Plan(file, [])
    kept, notes = _kept(conf, inside, wanted)
    own = conf.last("per_listener_settings") if conf.is_per_listener else None
    for section in conf.sections() if own else [None]:
        lines = conf.lines
        if own:
            lines = tuple(line for line in lines if line.section == section)
        where = f"below {section.place}: listener {section.value}" if section else str(file)
        if section is None and own is not None:  # Mosquitto starts only with that line before all plugins
            where = f"below {own.place}: the listener of port, before others"
        made.blocks.append((where, _block(plugin, wanted, conf, lines, others, kept)))
    limits, why_none = _limits(wanted)
    made.warnings = [*notes, *warnings(conf, others, limits)]
    if wanted.segment is not None and not wanted.segment.exists():
        made.warnings.append(
            f"{wanted.segment}: is not there: Mosquitto starts only while the gateway runs, or after it has"
        )
    unreadable, is_sure = unreadable_by_broker(
        conf, [plugin, *(path for path in (wanted.policy, wanted.segment) if path)]
    )
    made.obstacles = [*_obstacles(conf, ours, file), *why_none, *(unreadable if is_sure else [])]
    made.warnings += [] if is_sure else unreadable
    old = contents(file)
    made.text = _changed(old, conf, inside, others, made.blocks[0][1])
    made.is_there = made.text == old
    return made


def write(made: Plan) -> Path | None:
    """Change the file at once or not at all; the copy of what was there before, the first time. NotInstalled."""
    if made.obstacles:
        raise NotInstalled("; ".join(made.obstacles))
    if made.is_there:
        return None
    file = made.conf.resolve()
    backup = file.with_name(made.conf.name + BACKUP)
    try:
        copied = not backup.exists()
        if copied:
            replace(backup, file.read_bytes(), file.stat())
        replace(file, encoded(made.text), file.stat())
    except OSError as error:
        mend = "; be root (sudo)" if isinstance(error, PermissionError) else ""
        raise NotInstalled(f"{made.conf} stays as it is: {error.filename}: {error.strerror}{mend}") from error
    return backup if copied else None


def as_json(made: Plan, written: bool) -> str:
    """An object with all of the plan."""
    return json.dumps(
        {
            "file": str(made.conf),
            "written": written,
            "unchanged": made.is_there,
            "blocks": [{"where": where, "lines": lines} for where, lines in made.blocks],
            "obstacles": made.obstacles,
            "warnings": made.warnings,
        },
        indent=2,
    )


def _check(wanted: Wanted) -> None:
    """What mosquitto.conf cannot hold, or the plugin would refuse."""
    paths = (wanted.policy, wanted.segment, wanted.plugin)
    for text in (*(str(path) for path in paths if path is not None), *wanted.gateways):
        if text != text.strip() or any(ord(letter) < 32 or ord(letter) == 127 for letter in text) or not text:
            raise NotInstalled(
                f"{text!r} cannot be written in mosquitto.conf; use a name without line breaks and outer blanks"
            )
    if len(wanted.gateways) > MOST_GATEWAYS:
        raise NotInstalled(f"more than {MOST_GATEWAYS} --gateway; name a network instead of its addresses")
    for where in wanted.gateways:
        if not where.startswith("/"):
            try:
                ip_network(where)
            except ValueError as error:
                raise NotInstalled(
                    f"--gateway {where}: {error}; write an address, a network such as 10.0.0.0/24, "
                    "or the path of the Unix socket that the gateway connects to"
                ) from error


def _plugins(conf: Conf) -> tuple[list[Line], list[Line]]:
    """The lines that load ours, and those that load others."""
    lines = list(conf.of(*PLUGIN_KEYS))
    ours = [line for line in lines if Path(line.path).name == PLUGIN.name]
    return ours, [line for line in lines if line not in ours]


def _option(line: Line) -> str:
    return line.key.partition("_opt_")[2]


def _kept(conf: Conf, inside: Sequence[Line], wanted: Wanted) -> tuple[list[str], list[str]]:
    """Options that are there and stay, and what to say about them."""
    gateways_stay = not wanted.gateways
    options = [line for line in conf.lines if line.plugin in inside and line.plugin is not None]
    kept = [line for line in options if _option(line) not in _OURS or (_option(line) == "gateway" and gateways_stay)]
    notes = [f"{line.place}: plugin_opt_gateway {line.value} stays" for line in kept if _option(line) == "gateway"]
    return [f"plugin_opt_{_option(line)} {line.value}" for line in kept], notes


def _block(
    plugin: Path, wanted: Wanted, conf: Conf, lines: Sequence[Line], others: Sequence[Line], kept: Sequence[str]
) -> list[str]:
    """Our lines where `lines` say who may; in `conf` others may be written for other listeners."""
    other = any(line in others for line in lines)
    # A psk_file decides who may talk TLS; of user names it knows nothing. Where it or a certificate gives them,
    # nobody is asked, whatever is written here.
    passwords = other or last_of(lines, "password_file") is not None or is_closed(conf, lines)
    acl = other or last_of(lines, "acl_file") is not None
    limits = f"plugin_opt_policy {_absolute(wanted.policy)}" if wanted.policy else ""
    if wanted.segment:
        limits = f"plugin_opt_segment {_absolute(wanted.segment)}"
    return [
        f"plugin {plugin}",
        limits,
        *(f"plugin_opt_gateway {where}" for where in wanted.gateways),
        f"plugin_opt_authentication {'others' if passwords else 'open'}",
        f"plugin_opt_authorisation {'others' if acl else 'open'}",
        *kept,
    ]


def _absolute(path: Path | None) -> Path:
    assert path is not None
    return Path(os.path.abspath(path))


def _obstacles(conf: Conf, ours: Sequence[Line], file: Path) -> list[str]:
    found = [
        f"{line.place}: the plugin is loaded here, and may be loaded once; remove this line and its plugin_opt_ lines"
        for line in [*(line for line in ours if line.file != file), *[line for line in ours if line.file == file][1:]]
    ]
    per_listener = conf.last("per_listener_settings")
    if per_listener is not None and conf.is_per_listener:
        found.append(
            f"{per_listener.place}: per_listener_settings true: a plugin belongs to one listener, and this one can be "
            "loaded once; choose one, and put the lines that are printed for it below its listener line by hand, "
            "before those of its other plugins; or set per_listener_settings false, and this is asked no more"
        )
    return found


def _limits(wanted: Wanted) -> tuple[list[Written], list[str]]:
    """The limits of the policy, or why it is none that Mosquitto could start with."""
    if wanted.policy is None:
        return [], []
    command = "tidegate policy compile tidegate.toml -o"
    if wanted.policy.suffix == ".toml":
        out = shlex.quote(str(wanted.policy.with_suffix(".tgp")))
        mend = (
            f"compile it: tidegate policy compile {shlex.quote(str(wanted.policy))} -o {out}, and give --policy {out}"
        )
        return [], [f"{wanted.policy}: is not a compiled policy; {mend}"]
    if wanted.policy.is_dir():
        return [], [f"{wanted.policy}: is a folder; give --policy the file that tidegate policy compile has written"]
    # Whatever else this file is, it is not to be overwritten.
    out = shlex.quote(str(wanted.policy if wanted.policy.suffix == ".tgp" else "policy.tgp"))
    try:
        return read_compiled(wanted.policy), []
    except PermissionError as error:
        return [], [f"{wanted.policy}: cannot be read: {error.strerror}; be root (sudo), as for mosquitto.conf"]
    except OSError as error:
        return [], [f"{wanted.policy}: cannot be read: {error.strerror}; make it: {command} {out}"]
    except PolicyError as error:
        return [], [f"{wanted.policy}: {error}; make it: {command} {out}"]


def _changed(text: str, conf: Conf, inside: Sequence[Line], others: Sequence[Line], block: Sequence[str]) -> str:
    """The main file with these lines in the place of ours, before all that loads another plugin.

    The first time they go before that, or else before the first setting. Comments right above it are about it.
    """
    end = "\r" if "\r\n" in text else ""
    rows = text.split("\n")
    gone = {
        line.number - 1 for line in conf.lines if line in inside or (line.plugin is not None and line.plugin in inside)
    }
    gone |= {number - 1 for number in gone if number > 0 and rows[number - 1].rstrip("\r") == MARK}
    other = _first_other(conf, others)
    new = [f"{row}{end}" for row in (MARK, *block)]
    if gone and (other is None or min(gone) < other):
        at = min(gone)
    else:
        first = next((line.number - 1 for line in conf.lines if line.file == conf.main), len(rows) - 1)
        at = _above(rows, first if other is None else other)
        new.append(end)
    head = [row for number, row in enumerate(rows[:at]) if number not in gone]
    tail = [row for number, row in enumerate(rows[at:], at) if number not in gone]
    return "\n".join([*head, *new, *tail])


def _first_other(conf: Conf, others: Sequence[Line]) -> int | None:
    """The row of the main file that loads the first other plugin, or includes the file that does."""
    row = None
    for line in conf.lines:
        if line.file == conf.main:
            row = line.number - 1
        if line in others:
            return row
    return None


def _above(rows: Sequence[str], at: int) -> int:
    while at > 0 and rows[at - 1].startswith("#") and rows[at - 1].rstrip("\r") != MARK:
        at -= 1
    return at
