"""Values that need more than a unit: addresses, workers, paths, the token."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from .address import Address, parse_host_port
from .problems import BadValue, show
from .units import Duration

MAX_LISTENERS = 64
"""Addresses of one gateway: more is a mistake."""
MAX_WORKERS = 64
"""Worker processes: as many cores as one gateway is meant for."""
MIN_BUCKETS = 4096
"""64 KiB: less would hardly be a share for each limit."""
MAX_BUCKETS = 1 << 26
"""A GiB of memory."""
MAX_HOLD_MESSAGES = 10_000
MAX_WAITING_ROOM = 100_000
"""Messages of one connection that may wait: with the broker's own value they must fit Receive Maximum, 65,535."""
_KEEPALIVE = Duration("1s", "18h")
"""Of a keepalive: two bytes of seconds, which is a little more (section 3.1.2.10)."""
MAX_TOKEN = 4096
"""Bytes of a token: with the other headers of a request it fits the admin endpoint's 8 KiB."""


def read_address_list(value: object) -> tuple[object, ...]:
    """The elements of one address or a list of them, themselves unread."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise BadValue("neither an address nor a list of them", 'write for instance "tcp://127.0.0.1:1883"')
    if not 1 <= len(value) <= MAX_LISTENERS:
        raise BadValue(f"{len(value)} addresses", f"name 1 to {MAX_LISTENERS}")
    return tuple(value)


def read_listener(value: object) -> Address:
    """An address to listen on; port 0 is whichever is free."""
    if not isinstance(value, str):
        raise BadValue("not an address", 'write for instance "tcp://127.0.0.1:1883" or "unix:/run/tidegate/mqtt.sock"')
    return Address.parse(value)


def read_broker(value: object) -> Address | None:
    """The broker's address; None for one of our own."""
    if value is None:
        return None
    if isinstance(value, list):
        raise BadValue("failover is not supported yet", "name one broker")
    if not isinstance(value, str):
        raise BadValue("not an address", 'write for instance "tcp://192.0.2.7:1883" or "unix:/run/mosquitto/mqtt.sock"')
    if not value:
        raise BadValue("empty", "name the broker's address, or remove the key for a Mosquitto of our own")
    address = Address.parse(value)
    if address.kind == "tcp" and address.port == 0:
        raise BadValue("port 0 is no port to connect to", "write the broker's, usually 1883")
    return address


def read_admin_address(value: object) -> Address:
    """Where the admin endpoint listens: host and port."""
    if value is False or value == "":
        raise BadValue(
            "the admin endpoint cannot be turned off", "remove the key: by default only this host reaches it"
        )
    if not isinstance(value, str):
        raise BadValue("not an address", 'write "host:port", for instance "127.0.0.1:9883"')
    if value.startswith(("unix:", "/")):
        raise BadValue("a Unix socket is not supported yet", 'write "host:port", for instance "127.0.0.1:9883"')
    if "://" in value:
        raise BadValue("an address without tcp:// or http:// is wanted", 'write "host:port"')
    if "@" in value:
        raise BadValue("no user or password belongs here", "name a file with the token in admin.token_file")
    return Address("tcp", *parse_host_port(value))


def read_workers(value: object) -> int:
    """Worker processes; "auto" is one per core that this process may use."""
    if value == "auto":
        return min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_WORKERS:
        raise BadValue("not a number of processes", f'write 1 to {MAX_WORKERS}, or "auto" for one per core')
    return value


def read_buckets(value: object) -> int:
    """Buckets of the table, rounded up to a power of two, which it is addressed by."""
    if isinstance(value, bool) or not isinstance(value, int) or not MIN_BUCKETS <= value <= MAX_BUCKETS:
        raise BadValue("not a number of buckets", f"write {MIN_BUCKETS} to {MAX_BUCKETS}")
    return 1 << (value - 1).bit_length()


def read_hold_messages(value: object) -> int:
    """Messages that one connection's hold takes."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_HOLD_MESSAGES:
        raise BadValue("not a number of messages", f"write 1 to {MAX_HOLD_MESSAGES}")
    return value


def read_waiting_room(value: object) -> int:
    """Connections that may wait to be admitted."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_WAITING_ROOM:
        raise BadValue("not a number of connections", f"write 0 to {MAX_WAITING_ROOM}")
    return value


def read_max_keepalive(value: object) -> int:
    """The longest keepalive in seconds, as MQTT counts it; 0: any."""
    if value is None:
        return 0
    seconds = _KEEPALIVE(value)
    if seconds != int(seconds):
        raise BadValue("MQTT counts a keepalive in whole seconds", f'write for instance "{int(seconds) + 1}s"')
    return int(seconds)


def read_state_dir(value: object) -> Path:
    """The state directory; None is systemd's $STATE_DIRECTORY, else below the XDG state directory."""
    return default_state_dir() if value is None else _path(value)


def default_state_dir() -> Path:
    """Where state goes when nothing says so; BadValue when there is no such place."""
    # systemd separates several by colons (systemd.exec(5)); XDG ignores paths that are not absolute.
    systemd = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if systemd.startswith("/"):
        return Path(systemd)
    xdg = os.environ.get("XDG_STATE_HOME", "")
    if xdg.startswith("/"):
        return Path(xdg, "tidegate")
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and a user without an entry in the user database
        home = Path()
    if not home.is_absolute():
        raise BadValue("this user has no home directory, so there is no default", "set it to an absolute path")
    return home / ".local/state/tidegate"


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A file and the token that it holds."""

    path: Path
    token: str = field(repr=False)


def read_segment(value: object) -> Path | None:
    """The file of a segment; None for memory without a name."""
    return None if value is None else _path(value)


def read_token_file(value: object) -> TokenFile | None:
    """The file's token, white space around it removed; BadValue when it cannot be read or could not be sent."""
    if value is None:
        return None
    path = _path(value)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise BadValue("not a regular file", "name a file with the token in it")
            data = stream.read(MAX_TOKEN + 1)
    except OSError as error:
        make = f"make it: (umask 077; openssl rand -hex 32 > {path})"
        fix = make if isinstance(error, FileNotFoundError) else "let the user that runs Tidegate read it"
        raise BadValue(f"cannot be read: {error.strerror}", fix) from None
    token = data.strip()
    if not token:
        raise BadValue("the file is empty", f"write a token into it: openssl rand -hex 32 > {path}")
    if len(data) > MAX_TOKEN:
        raise BadValue(f"the file is larger than {MAX_TOKEN} bytes", "put nothing but one token into it")
    # What an HTTP header takes: RFC 6750, section 2.1, and a few characters more.
    if not all(0x21 <= byte <= 0x7E for byte in token):
        raise BadValue("the file holds more than one word of ASCII", "put nothing but one token into it")
    return TokenFile(path, token.decode("ascii"))


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise BadValue("not a path", 'write an absolute path in quotes, for instance "/var/lib/tidegate"')
    if not value.startswith("/"):
        whole = os.path.abspath(os.path.expanduser(value))
        raise BadValue("not an absolute path", f"write it whole: {show(whole)}")
    return Path(f"/{value.lstrip('/')}")
