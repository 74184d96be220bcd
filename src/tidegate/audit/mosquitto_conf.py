"""mosquitto.conf, read as Mosquitto 2 reads it: what is set, in which file and line, and for which listener.

It does not judge: keys that Mosquitto does not know are kept like all others.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PLUGIN_KEYS = ("plugin", "auth_plugin", "global_plugin", "plugin_load")
"""The keys that load a plugin; the last two are of 2.1. The options of a plugin follow its line."""
NOT_LOCAL = ("listener", "port", "bind_address")
"""With one of these, Mosquitto refuses whom nobody knows; without, it lets everybody on this machine in."""
OPENING = ("bind_interface", "socket_domain", "max_connections", "max_qos", "cafile", "use_username_as_clientid")
"""With one of these and none of NOT_LOCAL, 2.0.11 listens on all addresses and still lets everybody in (measured)."""
OPTION_PREFIXES = ("plugin_opt_", "auth_opt_")
_SEPARATOR = " "
"""Between key and value. Mosquitto takes a tab for a part of the key."""
_BLANKS = " \t\n\v\f\r"


class ConfError(Exception):
    """A file cannot be read as Mosquitto would; the text begins with its name, and the line where there is one."""


@dataclass(frozen=True)
class Line:
    """One setting."""

    file: Path
    number: int
    """From 1 on, in `file`."""
    key: str
    value: str
    section: "Line | None" = None
    """The `listener` line that it comes after, in the same file."""
    plugin: "Line | None" = None
    """The line of the plugin of which it is an option."""

    @property
    def place(self) -> str:
        """`FILE:LINE`."""
        return f"{self.file}:{self.number}"

    @property
    def path(self) -> str:
        """What a line that loads a plugin loads: `plugin_load` has a name before it."""
        return self.value.partition(" ")[2].strip(_BLANKS) if self.key == "plugin_load" else self.value


@dataclass(frozen=True)
class Conf:
    """All settings, those of included files at the place of their include_dir."""

    main: Path
    lines: tuple[Line, ...]

    def of(self, *keys: str) -> Iterator[Line]:
        """The lines with these keys, in Mosquitto's order."""
        return (line for line in self.lines if line.key in keys)

    def last(self, key: str) -> Line | None:
        """The line that holds, as later ones replace earlier ones."""
        return last_of(self.lines, key)

    def is_on(self, key: str) -> bool:
        """Whether this is true; not, unless it is set."""
        return is_true(self.last(key))

    @property
    def is_per_listener(self) -> bool:
        """Whether passwords, ACLs and plugins belong to listeners."""
        return self.is_on("per_listener_settings")

    @property
    def has_listeners(self) -> bool:
        """Whether there is a `listener` line."""
        return any(self.of("listener"))

    def sections(self) -> list[Line | None]:
        """The `listener` lines; None for the listener that Mosquitto has without one, or by `port` beside them."""
        default: list[Line | None] = [] if self.has_listeners and not any(self.of("port")) else [None]
        return [*default, *self.of("listener")]


def last_of(lines: Iterable[Line], key: str) -> Line | None:
    """The last line with this key."""
    found = None
    for line in lines:
        if line.key == key:
            found = line
    return found


def is_closed(conf: Conf, lines: Iterable[Line]) -> bool:
    """Whether Mosquitto refuses who gives no user name, by what `lines` say: those of a listener, or all of `conf`."""
    said = last_of(lines, "allow_anonymous")
    return not is_true(said) if said is not None else any(conf.of(*NOT_LOCAL))


def is_true(line: Line | None) -> bool:
    """Whether a boolean is set to true."""
    return line is not None and line.value.split(_SEPARATOR)[0] in ("true", "1")


def read(main: Path) -> Conf:
    """Read the main file and what it includes."""
    return Conf(main, tuple(_settings(main, contents(main))))


def contents(file: Path) -> str:
    """The file's text; what is no UTF-8 stays as it is when it is written with `encoded`."""
    try:
        return decoded(file.read_bytes())
    except OSError as error:
        raise ConfError(f"{file}: cannot be read: {error.strerror}; {_mend(error, 'file')}") from error


def _mend(error: OSError, kind: str) -> str:
    if isinstance(error, PermissionError):
        return f"be root (sudo), or let this user read the {kind}"
    return "give the path of Mosquitto's own configuration, as the broker is started with (mosquitto -c FILE)"


def decoded(text: bytes) -> str:
    """The text; `encoded` makes the same bytes of it."""
    return text.decode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """The reverse of `decoded`."""
    return text.encode("utf-8", "surrogateescape")


def setting(text: str) -> tuple[str, str] | None:
    """Key and value of one line; None for a comment, which has its # in the first column, and for an empty line."""
    text = text.partition("\0")[0]
    if text.startswith("#"):
        return None
    key, _, value = text.rstrip("\r\n").lstrip(_SEPARATOR).partition(_SEPARATOR)
    return (key, value.strip(_BLANKS)) if key else None


def _settings(file: Path, text: str, *, is_main: bool = True) -> Iterator[Line]:
    # Mosquitto begins each file anew: without a listener and without a plugin.
    section: Line | None = None
    plugin: Line | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        found = setting(raw)
        if found is None:
            continue
        key, value = found
        line = Line(file, number, key, value, section, plugin if key.startswith(OPTION_PREFIXES) else None)
        if key == "listener":
            line = section = Line(file, number, key, value)
        elif key in PLUGIN_KEYS:
            plugin = line
        yield line
        if key == "include_dir" and is_main:  # in included files Mosquitto ignores it
            for included in _included(line):
                yield from _settings(included, contents(included), is_main=False)


def _included(line: Line) -> list[Path]:
    """Its files in the order of Mosquitto: by letter, and of the same letter the upper case first."""
    if not line.value:
        raise ConfError(f"{line.place}: include_dir: no folder is named; name one, or take the line out")
    try:
        names = [name for name in os.listdir(line.value) if name.endswith(".conf") and len(name) > len(".conf")]
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        mend = "Mosquitto does not start with it either; take the line out, or make the folder"
        if isinstance(error, PermissionError):
            mend = _mend(error, "folder")
        raise ConfError(f"{line.place}: include_dir {line.value}: cannot be read: {why}; {mend}") from error
    return [Path(line.value) / name for name in sorted(names, key=_rank)]


def _rank(name: str) -> list[tuple[str, str]]:
    return [(letter.upper() if letter.isascii() else letter, letter) for letter in name]
