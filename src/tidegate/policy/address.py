"""Where something listens: `tcp://host:port` or `unix:/path`."""

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Literal, Self

from .problems import BadValue

UNIX_PATH_BYTES = 107
"""The longest path of a Unix socket on Linux: `sun_path` has 108 bytes, one of them the final NUL (unix(7))."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_NOT_YET = ("tls", "ssl", "ws", "wss", "mqtts")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
"""One part of a host name (RFC 1123, section 2.1), with the underscore that container networks use."""
_ANY = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Address:
    """One address; `path` belongs to a Unix socket, `host` and `port` to TCP.

    `parse` gives hosts in one spelling, IP addresses canonical and names in lower case, so that equal addresses
    compare equal.
    """

    kind: Literal["tcp", "unix"]
    host: str = ""
    port: int = 0
    """0: whichever is free, where it is listened on."""
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address that `text` writes, also the reverse of `str()`; BadValue for anything else."""
        if text.startswith("unix:"):
            return cls("unix", path=_socket_path(text.removeprefix("unix:")))
        if text.startswith("/"):
            raise BadValue("an address without its kind", f'write "unix:{text}"')
        scheme, place = "tcp", text
        if found := _SCHEME.fullmatch(text):
            scheme, place = found[1].lower(), found[2]
        if "@" in place:
            raise BadValue("no user or password belongs here", "leave them out: clients bring their own")
        if scheme in _NOT_YET:
            raise BadValue(f"{scheme}:// is not supported yet", "use tcp:// or unix:")
        if scheme not in ("tcp", "mqtt"):
            raise BadValue(f"there is no {scheme[:20]}://", "use tcp:// or unix:")
        host, port = parse_host_port(place)
        address = cls("tcp", host, port)
        if found is None or scheme == "mqtt":
            raise BadValue("an address without its kind", f'write "{address}"')
        return address

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        return f"tcp://{self.place}"

    @property
    def place(self) -> str:
        """Host and port, an IPv6 address in brackets; or the path of a Unix socket."""
        if self.kind == "unix":
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach it: a Unix socket, 127.0.0.0/8, ::1 or `localhost`."""
        if self.kind == "unix" or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def clashes(self, other: Self) -> bool:
        """Whether both surely cannot be listened on: the same place, or one host and every host, at one port.

        Names other than `localhost` are not resolved. IPv6 listeners take no IPv4, so [::] is no 0.0.0.0.
        """
        if self.kind != other.kind:
            return False
        if self.kind == "unix":
            return os.path.normpath(self.path) == os.path.normpath(other.path)
        if self.port != other.port or self.port == 0:
            return False
        mine, theirs = _resolved(self.host), _resolved(other.host)
        if mine == theirs:
            return True
        return any(
            one in _ANY and _is_ip(another) and (":" in one) == (":" in another)
            for one, another in ((mine, theirs), (theirs, mine))
        )


def parse_host_port(text: str) -> tuple[str, int]:
    """Host and port of `host:port`, an IPv6 address in brackets; BadValue for anything else."""
    host, colon, port = text.rpartition(":")
    if text.endswith("]") or not colon:
        raise BadValue("there is no port", "write host:port, for instance 127.0.0.1:1883")
    if host.startswith("[") and host.endswith("]"):
        host = _ipv6(host[1:-1])
    elif ":" in host:
        raise BadValue("an IPv6 address needs brackets", "write [address]:port, for instance [::1]:1883")
    else:
        host = _host(host)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise BadValue("the port is not a number up to 65535", "write host:port, for instance 127.0.0.1:1883")
    return host, int(port)


def _host(text: str) -> str:
    if not text:
        raise BadValue("there is no host", "write 127.0.0.1 for this host alone, 0.0.0.0 for every IPv4 address")
    if re.fullmatch(r"[0-9.]+", text):
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise BadValue(
                "the host is not an IPv4 address", "write four numbers up to 255, without leading zeros"
            ) from None
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise BadValue("the host is neither a name nor an address", "write a name, an IPv4 or an [IPv6] address")
    return text.lower()


def _ipv6(text: str) -> str:
    _, percent, zone = text.partition("%")
    try:
        if percent and not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", zone):  # the name of an interface (IFNAMSIZ)
            raise ValueError
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise BadValue("what is in brackets is not an IPv6 address", "write for instance [::1]:1883") from None


def _socket_path(path: str) -> str:
    if path.startswith("//"):
        raise BadValue("a path begins with one slash", f'write "unix:/{path.lstrip("/")}"')
    if not path.startswith("/"):
        raise BadValue("the path is not absolute", 'write the whole path, for instance "unix:/run/mosquitto/mqtt.sock"')
    if "\0" in path or path.endswith("/"):
        raise BadValue("the path names no file", 'write for instance "unix:/run/mosquitto/mqtt.sock"')
    size = len(os.fsencode(path))
    if size > UNIX_PATH_BYTES:
        raise BadValue(
            f"the path of a Unix socket has at most {UNIX_PATH_BYTES} bytes, this one {size}",
            "choose a shorter one, for instance under /run",
        )
    return path


def _resolved(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
