"""What `tidegate plugin install` warns of: Mosquitto's traps, limits that do not hold, files it may not read."""

import grp
import os
import pwd
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

from ..audit.mosquitto_conf import NOT_LOCAL, OPENING, Conf, Line, is_closed, is_true, last_of
from ..engine.format import Written
from ..policy.in_plugin import NEVER
from ..policy.model import KeyKind

NAMED = 5
"""Limits that a warning names; the others are counted."""
DECIDES = "mosquitto_dynamic_security.so"
"""Mosquitto's own plugin that decides about both, clients and what they do."""
_PEOPLE = 1000
"""User ids from here on are people's (adduser); 0 is root. Their homes are nobody else's business."""


def warnings(conf: Conf, others: Sequence[Line], limits: Sequence[Written]) -> list[str]:
    """What the operator should know before he starts Mosquitto with these limits."""
    found = []
    queued = conf.last("max_queued_messages")
    if queued is not None and queued.value == "0":
        found.append(
            f"{queued.place}: max_queued_messages 0: Debian's Mosquitto 2.0.11 disconnects every client of which a "
            "message is refused; write a number, for instance 100000"
        )
    if conf.is_per_listener:
        found.append(
            "per_listener_settings true: Mosquitto 2.0.11 does not tick for plugins then: nobody is kicked, nothing is "
            "published below $SYS, a segment's new policies are not seen; use on_excess = reject, and SIGHUP"
        )
    for line in conf.of("use_identity_as_username", "use_subject_as_username"):
        if is_true(line):
            found.append(f"{line.place}: {line.key} true: clients of this listener are not limited on connect")
    unknown = [line for line in others if Path(line.path).name != DECIDES]
    if unknown and len(unknown) == len(others):
        found.append(
            f"{unknown[0].place}: another plugin is taken to decide who may connect and what clients may do; "
            "where none does, write open instead of others"
        )
    unseen = [limit.name for limit in limits if limit.event in NEVER]
    if unseen:
        found.append(
            f"limits on deliver and packet are not enforced inside Mosquitto: {_names(unseen)}; what can be done: "
            "tidegate policy check tidegate.toml --for plugin, with the file that the policy was compiled from"
        )
    by_user = [limit.name for limit in limits if KeyKind.USERNAME in limit.kinds and limit.event not in NEVER]
    if by_user:
        found += _unproven(conf, others, _names(by_user))
    return found


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _unproven(conf: Conf, others: Sequence[Line], limits: str) -> Iterator[str]:
    """Where clients need not prove, or even have, the name that these limits count by."""
    for section in conf.sections():
        lines = [line for line in conf.lines if line.section == section]
        settings = lines if conf.is_per_listener else conf.lines
        if is_closed(conf, settings) or any(line in others for line in settings) or _is_named(lines):
            continue
        if not _from_elsewhere(conf, section, lines):
            continue
        place = f"{section.place}: listener {section.value}" if section else str(conf.main)
        if last_of(settings, "password_file") is None:
            yield (
                f"{place}: takes everybody from everywhere under any user name, or none: limits per username do not "
                f'hold who changes his ({limits}); write per = "ip", or set a password_file and allow_anonymous false'
            )
        else:
            yield (
                f"{place}: takes clients without a user name from everywhere: all of them share one budget of limits "
                f'per username ({limits}); write per = ["username", "ip"], or set allow_anonymous false'
            )


def _is_named(lines: Sequence[Line]) -> bool:
    """Whether TLS gives clients their user names."""
    keys = ("use_identity_as_username", "use_subject_as_username")
    return any(is_true(last_of(lines, key)) for key in keys)


def _from_elsewhere(conf: Conf, section: Line | None, lines: Sequence[Line]) -> bool:
    """Whether others than this machine's own clients reach the listener."""
    if section is None:
        bound = last_of(lines, "bind_address")
        return any(conf.of(*NOT_LOCAL, *OPENING)) and not (bound is not None and _is_loopback(bound.value))
    port, _, address = section.value.partition(" ")
    return port != "0" and not _is_loopback(address.strip())


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ip_address(address).is_loopback
    except ValueError:
        return False


def unreadable_by_broker(conf: Conf, files: Sequence[Path]) -> tuple[list[str], bool]:
    """What the broker's user may not read, each with what mends it; and whether that is sure.

    It is where root asks: then it is tried as that user. Others only see the modes, and may run the broker themselves.
    """
    line = conf.last("user")
    name = line.value if line is not None and line.value else "mosquitto"
    try:
        user = pwd.getpwnam(name)
    except (KeyError, ValueError):
        place = f"{line.place}: " if line is not None else ""
        return [f"{place}this machine has no user {name}, whom the broker becomes when root starts it"], False
    if user.pw_uid == 0:
        return [], True
    groups = {user.pw_gid, *(group.gr_gid for group in grp.getgrall() if name in group.gr_mem)}
    test = shutil.which("test") if os.geteuid() == 0 else None
    found = []
    for file in files:
        path = Path(os.path.abspath(file))
        blocked = _blocked(path, user.pw_uid, groups)
        keeps_out = bool(blocked)
        if test is not None:
            keeps_out = path.exists() and not _reads(test, path, user, groups)
        if keeps_out:
            found.append(f"{path}: cannot be read by {name}, the broker's user; {_mend(path, blocked, user)}")
    return found, test is not None


def _reads(test: str, path: Path, user: pwd.struct_passwd, groups: set[int]) -> bool:
    """Whether this user can; only root may ask, by the command `test`."""
    tried = subprocess.run(
        [test, "-r", str(path)],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=sorted(groups),
        cwd="/",
        check=False,
    )
    return tried.returncode == 0


def _blocked(path: Path, uid: int, groups: set[int]) -> list[Path]:
    """The file and the folders on its way that keep this user out, by their modes and as far as they can be seen."""
    found = []
    try:
        for place in (*reversed(path.parents), path):
            if not _allowed(place.stat(), 4 if place == path else 1, uid, groups):
                found.append(place)
    except OSError:
        pass  # what cannot be seen cannot be told
    return found


def _allowed(state: os.stat_result, bit: int, uid: int, groups: set[int]) -> bool:
    mode = stat.S_IMODE(state.st_mode)
    if state.st_uid == uid:
        return bool(mode >> 6 & bit)
    if state.st_gid in groups:
        return bool(mode >> 3 & bit)
    return bool(mode & bit)


def _mend(path: Path, blocked: Sequence[Path], user: pwd.struct_passwd) -> str:
    """The commands that let this user read it. No home is opened for that: what lies in one goes elsewhere."""
    group = _group(user)
    if any(_is_home(place) for place in blocked):
        if path.suffix == ".so":
            copy = Path("/usr/local/lib/tidegate") / path.name
            return f"copy it out of there: install -D -m 644 {_quoted(path)} {copy}, and give --plugin {copy}"
        if path.suffix == ".tgp":
            copy = Path("/etc/tidegate") / path.name
            owner = f" -g {group}" if group else ""
            mode = "640" if group else "644"
            command = f"install -D -m {mode}{owner} {_quoted(path)} {_quoted(copy)}"
            return f"move it out of there: {command}, and give --policy {_quoted(copy)}"
        return "move it out of there, and name it again"
    commands = []
    for place in blocked:
        if place != path:
            commands.append(f"chmod o+x {_quoted(place)}")
        elif group:
            commands.append(f"chgrp {group} {_quoted(place)} && chmod g+r {_quoted(place)}")
        else:
            commands.append(f"chmod o+r {_quoted(place)}")
    return " && ".join(commands) or "see its access list: getfacl"


def _group(user: pwd.struct_passwd) -> str:
    try:
        return shlex.quote(grp.getgrgid(user.pw_gid).gr_name)
    except KeyError:
        return ""


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _is_home(folder: Path) -> bool:
    """Whether this is where somebody lives, or a part of it."""
    people = (Path(user.pw_dir) for user in pwd.getpwall() if user.pw_uid == 0 or user.pw_uid >= _PEOPLE)
    return any(home in (folder, *folder.parents) for home in people if len(home.parts) > 1)
