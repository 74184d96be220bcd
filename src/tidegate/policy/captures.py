"""What the patterns of classes capture of a client: `{tenant}` of `username = "{tenant}:*"`."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address

from .classes import captures
from .model import ClientClass, Conditions
from .patterns import first_fit


def captures_of_fitting(conditions: Conditions, client_id: str, username: str | None) -> dict[str, str]:
    """What conditions capture of a client that fulfils them."""
    return (first_fit(conditions.client_id, client_id) or {}) | (first_fit(conditions.username, username) or {})


def capturing(classes: Iterable[ClientClass]) -> tuple[ClientClass, ...]:
    """Those of the classes that capture anything."""
    return tuple(one for one in classes if captures(one))


def possible_captures(
    classes: Sequence[ClientClass],
    client_id: str,
    username: str | None,
    address: IPv4Address | IPv6Address | None,
) -> dict[str, str]:
    """What classes capture of a client that may be in them, as far as identifier, user name and address tell.

    Conditions on anything else (listener, version, clean start, bridge) count as fulfilled, those on certificates as
    not. Of two classes that capture the same, the later in the file holds, as in the engine. `address` None: it came by
    a Unix socket.
    """
    found: dict[str, str] = {}
    for one in classes:
        if not _may_fit(one.all_of, client_id, username, address):
            continue
        other = next((group for group in one.any_of if _may_fit(group, client_id, username, address)), None)
        if other is None and one.any_of:
            continue
        found |= captures_of_fitting(one.all_of, client_id, username)
        if other is not None:
            found |= captures_of_fitting(other, client_id, username)
    return found


def _may_fit(
    conditions: Conditions, client_id: str, username: str | None, address: IPv4Address | IPv6Address | None
) -> bool:
    if conditions.cn or conditions.san:
        return False
    if conditions.cidr and (address is None or not any(address in network for network in conditions.cidr)):
        return False
    return all(
        not patterns or first_fit(patterns, text) is not None
        for patterns, text in ((conditions.client_id, client_id), (conditions.username, username))
    )
