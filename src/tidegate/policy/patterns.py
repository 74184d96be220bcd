"""Values that clients are compared with: globs with captures, networks, topic filters."""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from ..mqtt.errors import PacketError
from ..mqtt.topics import check_filter
from .problems import BadValue, show

KEY_WORDS = ("client", "username", "ip", "topic", "class", "listener", "all")
"""What `per` knows by itself, so that no capture may be called it."""
MAX_PATTERN = 1024
"""Characters of a pattern; a client identifier has rarely more than 64."""
MAX_PATTERNS_READY = 4096
"""Patterns that are kept as regular expressions; beyond it they are made anew."""
MAX_FILTER = 65535
"""Bytes of a topic filter (section 1.5.4)."""
MAX_LEVELS = 128
"""Levels of a topic filter: as deep as the engine's tree goes."""
_ANY_SHARE = "$share/+/"

_BRACES = re.compile(r"\{([^{}]*)\}")
_CAPTURE = re.compile(r"[a-z][a-z0-9_]{0,31}")
_RUNS = re.compile(r"(\*+|\{[a-z][a-z0-9_]*\})")


def read_pattern(value: object) -> str:
    """A glob with captures: `*`, `?`, `{name}`."""
    if not isinstance(value, str):
        raise BadValue("not text", 'write a pattern in quotes, for instance "sensor-*"')
    if not value:
        raise BadValue("empty", 'write a pattern, for instance "sensor-*"; "*" fits all')
    if len(value) > MAX_PATTERN:
        raise BadValue(f"a pattern of {len(value)} characters", f"write at most {MAX_PATTERN}")
    if "\0" in value:
        raise BadValue("no text of MQTT holds U+0000", "leave it out")
    names = captures_of(value)
    if set("{}") & set(_BRACES.sub("", value)):
        raise BadValue("a brace that is no capture", "write {name} for a capture, or ? for any one character")
    for name in names:
        if not _CAPTURE.fullmatch(name):
            raise BadValue(
                f"{show(name)} is no name of a capture", "use a to z, 0 to 9 and _, at most 32, for instance {tenant}"
            )
        if name in KEY_WORDS:
            raise BadValue(f'per = "{name}" has another meaning', f"call the capture otherwise, e.g. {{my_{name}}}")
    if len(set(names)) < len(names):
        raise BadValue("the same capture twice", "give each a name of its own, or write * for one of them")
    if "}{" in value:
        raise BadValue("nothing tells where the one capture ends", "write what stands between the two")
    return value


def read_plain_pattern(value: object) -> str:
    """A glob without captures."""
    pattern = read_pattern(value)
    if captures_of(pattern):
        raise BadValue("only a class can capture", "write * here, or name a [class.NAME] with this pattern")
    return pattern


def captures_of(pattern: str) -> list[str]:
    """The names of a pattern's captures."""
    return _BRACES.findall(pattern)


def is_capture(name: str) -> bool:
    """Whether a capture can be called so."""
    return bool(_CAPTURE.fullmatch(name)) and name not in KEY_WORDS


def first_fit(patterns: Sequence[str], text: str | None) -> dict[str, str] | None:
    """What the first pattern that fits the whole text captures; None when none does, as of a text that is not there."""
    for pattern in patterns:
        if text is not None and (found := _regex(pattern).fullmatch(text)):
            return found.groupdict()
    return None


@lru_cache(maxsize=MAX_PATTERNS_READY)
def _regex(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression, which reads a hostile text once as well.

    Each run takes as little as it can, and all but the last are atomic groups, which are not tried again: as in
    native/subject.c, an earlier run never needs more than its shortest match.
    """
    head, *rest = _RUNS.split(pattern)
    runs = [
        (".*?" if run.startswith("*") else f"(?P<{run[1:-1]}>.+?)") + _plain(text)
        for run, text in zip(rest[::2], rest[1::2], strict=True)
    ]
    regex = _plain(head) + "".join(f"(?>{run})" for run in runs[:-1]) + "".join(runs[-1:])
    return re.compile(regex, re.DOTALL)


def _plain(text: str) -> str:
    return ".".join(map(re.escape, text.split("?")))


def read_network(value: object) -> IPv4Network | IPv6Network:
    """An address or network."""
    fix = 'write for instance "10.20.0.0/16", "192.0.2.7" or "2001:db8::/32"'
    if not isinstance(value, str) or "%" in value or len(value) > 64:
        raise BadValue("not a network", fix)
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        raise BadValue("not a network", fix) from None
    if str(network.network_address) != str(ip_network(value.partition("/")[0]).network_address):
        raise BadValue("an address with a network's length", f'write "{network}", or the address alone')
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped and network.prefixlen >= 96:
        plain = f"{network.network_address.ipv4_mapped}/{network.prefixlen - 96}"
        raise BadValue("no client comes from there: an IPv4 client has its IPv4 address", f'write "{plain}"')
    return network


def read_filter(value: object) -> str:
    """A topic filter; that of a shared subscription may leave its NAME open: `$share/+/FILTER`."""
    if not isinstance(value, str):
        raise BadValue("not a topic filter", 'write text, for instance "plant/+/telemetry/#"')
    try:
        check_filter(value.replace(_ANY_SHARE, "$share/any/", 1) if value.startswith(_ANY_SHARE) else value)
    except PacketError as error:
        raise BadValue(error.text, 'write for instance "plant/+/telemetry/#"') from None
    if "\0" in value or len(value.encode()) > MAX_FILTER:
        raise BadValue("no topic is like that", f"write at most {MAX_FILTER} bytes, without U+0000")
    if value.count("/") >= MAX_LEVELS:
        raise BadValue(f"a topic filter of {value.count('/') + 1} levels", f"write at most {MAX_LEVELS}")
    return value
