"""`tidegate plugin`: where the plugin is, and the lines that mosquitto.conf needs for it."""

import contextlib
import grp
import json
import os
import pwd
import shlex
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

from ..audit.mosquitto_conf import PLUGIN_KEYS, Conf, Line, contents, encoded, is_closed, is_true, last_of, read

PLUGIN = Path(__file__).parent.parent / "tidegate_mosquitto.so"
BACKUP = ".before-tidegate"
MARK = "# Limits of Tidegate. Before the lines of other plugins."
MOST_GATEWAYS = 32
_MAGIC = b"TGPOLICY"
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
        "apt-get install mosquitto-dev libmosquitto-dev, then install again from source: "
        "pip install --force-reinstall --no-binary tidegate tidegate"
    )


def plan(file: Path, wanted: Wanted) -> Plan:
    """What to write, and what is in its way. ConfError when Mosquitto could not read the file either, NotInstalled."""
    plugin = plugin_path()
    _check(wanted)
    conf = read(file)
    ours, others = _plugins(conf)
    inside = [line for line in ours if line.file == file]
    made = Plan(file, [])
    kept, notes = _kept(conf, inside, wanted)
    for section in conf.sections() if conf.is_per_listener else [None]:
        lines = conf.lines
        if conf.is_per_listener:
            lines = tuple(line for line in lines if line.section == section)
        where = f"below {section.place}: listener {section.value}" if section else str(file)
        if section is None and conf.has_listeners:
            where = f"above the first listener of {file}"
        made.blocks.append((where, _block(plugin, wanted, conf, lines, others, kept)))
    made.obstacles = [*_obstacles(conf, ours, file), *_not_limits(wanted)]
    made.warnings = [*notes, *_warnings(conf, others, wanted), *_unreadable(conf, plugin, wanted)]
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
            _replace(backup, file.read_bytes(), file.stat())
        _replace(file, encoded(made.text), file.stat())
    except OSError as error:
        raise NotInstalled(f"{made.conf} stays as it is: {error.filename}: {error.strerror}") from error
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
    for text in (*(str(path) for path in (wanted.policy, wanted.segment) if path), *wanted.gateways):
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
    # A psk_file decides who may talk TLS; of user names it knows nothing. Where it, or a certificate, gives them, nobody
    # is asked: no difference what is written here.
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
            "loaded once; write the lines below that listener by hand, before those of its other plugins, "
            "or set per_listener_settings false"
        )
    return found


def _not_limits(wanted: Wanted) -> list[str]:
    """Why the policy is none that Mosquitto could start with."""
    if wanted.policy is None:
        return []
    name = shlex.quote(str(wanted.policy))
    command = f"tidegate policy compile tidegate.toml -o {name}"
    try:
        with wanted.policy.open("rb") as source:
            head = source.read(len(_MAGIC))
    except OSError as error:
        return [f"{wanted.policy}: cannot be read: {error.strerror}; make it: {command}"]
    if head == _MAGIC:
        return []
    if wanted.policy.suffix == ".toml":
        out = shlex.quote(str(wanted.policy.with_suffix(".tgp")))
        command = f"tidegate policy compile {name} -o {out}, and name {out}"
    return [f"{wanted.policy}: is not a compiled policy; make one: {command}"]


def _warnings(conf: Conf, others: Sequence[Line], wanted: Wanted) -> list[str]:
    found = []
    queued = conf.last("max_queued_messages")
    if queued is not None and queued.value == "0":
        found.append(
            f"{queued.place}: max_queued_messages 0: Debian's Mosquitto 2.0.11 disconnects every client of which a "
            "message is refused; write a number, for instance 100000"
        )
    if conf.is_per_listener:
        found.append(
            "per_listener_settings true: Mosquitto 2.0 does not tick for plugins then: nobody is kicked, nothing is "
            "published below $SYS, a segment's new policies are not seen; use on_excess = reject, and SIGHUP"
        )
    for line in conf.of("use_identity_as_username", "use_subject_as_username"):
        if is_true(line):
            found.append(f"{line.place}: {line.key} true: clients of this listener are not limited on connect")
    if wanted.segment is not None and not wanted.segment.exists():
        found.append(f"{wanted.segment}: is not there: Mosquitto starts only while the gateway runs, or after it has")
    if others:
        found.append(
            f"{others[0].place}: another plugin is taken to decide who may connect and what clients may do; "
            "where none does, write open instead of others"
        )
    return found


def _unreadable(conf: Conf, plugin: Path, wanted: Wanted) -> list[str]:
    """What the broker's user may not read, and the command that mends it."""
    line = conf.last("user")
    name = line.value if line is not None and line.value else "mosquitto"
    try:
        user = pwd.getpwnam(name)
    except (KeyError, ValueError):
        place = f"{line.place}: " if line is not None else ""
        return [f"{place}this machine has no user {name}, whom the broker becomes when root starts it"]
    if user.pw_uid == 0:
        return []
    groups = {user.pw_gid, *(group.gr_gid for group in grp.getgrall() if name in group.gr_mem)}
    found = []
    for path in (plugin, wanted.policy, wanted.segment):
        if path is not None and (command := _mend(_absolute(path), user, groups)):
            found.append(f"{_absolute(path)}: cannot be read by {name}, the broker's user: {command}")
    return found


def _mend(path: Path, user: pwd.struct_passwd, groups: set[int]) -> str:
    """The commands that let this user read a file; empty when he may, or when it cannot be told."""
    commands = []
    group = shlex.quote(grp.getgrgid(user.pw_gid).gr_name) if user.pw_gid in {g.gr_gid for g in grp.getgrall()} else ""
    with contextlib.suppress(OSError):
        for place in (*reversed(path.parents), path):
            state = place.stat()
            bit = 4 if place == path else 1
            if not _allowed(state, bit, user.pw_uid, groups):
                quoted = shlex.quote(str(place))
                if place == path and group:
                    commands.append(f"chgrp {group} {quoted} && chmod g+r {quoted}")
                else:
                    commands.append(f"chmod o+{'r' if place == path else 'x'} {quoted}")
    return " && ".join(commands)


def _allowed(state: os.stat_result, bit: int, uid: int, groups: set[int]) -> bool:
    mode = stat.S_IMODE(state.st_mode)
    if state.st_uid == uid:
        return bool(mode >> 6 & bit)
    if state.st_gid in groups:
        return bool(mode >> 3 & bit)
    return bool(mode & bit)


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


def _replace(file: Path, data: bytes, like: os.stat_result) -> None:
    """Write a file with the mode and owner of another, at once or not at all."""
    draft = file.with_name(f".{file.name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(number, "wb") as out:
            out.write(data)
            out.flush()
            state = os.fstat(out.fileno())
            if (state.st_uid, state.st_gid) != (like.st_uid, like.st_gid):
                os.fchown(out.fileno(), like.st_uid, like.st_gid)
            os.fchmod(out.fileno(), stat.S_IMODE(like.st_mode))
            os.fsync(out.fileno())
        draft.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
