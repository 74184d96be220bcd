"""Does a broker answer at an address?"""

import asyncio
import secrets
from contextlib import suppress
from pathlib import Path

from ..mqtt.connect import Connect
from ..mqtt.session import Disconnect
from ..policy.address import Address

_KEEPALIVE = 10
"""Seconds: what makes the broker forget a probe whose process was stopped before it could say goodbye."""


async def probe(address: Address, timeout: float) -> str | None:  # noqa: ASYNC109  the caller's own time limits differ
    """None if a broker at `address` answers an MQTT 3.1.1 CONNECT with a CONNACK within `timeout` seconds.

    Else one sentence that says why not. A CONNACK that refuses counts as an answer: a broker that wants a
    password is well. It reads at most four bytes.
    """
    try:
        async with asyncio.timeout(timeout):
            return await _ask(address)
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except FileNotFoundError:
        return f"there is no socket {address.path}: the broker is not running or listens elsewhere"
    except ConnectionRefusedError:
        return "connection refused: nothing listens there"
    except ConnectionResetError:
        return "the connection was reset: does not speak MQTT, or takes no more connections"
    except PermissionError:
        return _not_permitted(address)
    except OSError as error:
        return error.strerror or str(error)


async def _ask(address: Address) -> str | None:
    if address.kind == "unix":
        reader, writer = await asyncio.open_unix_connection(address.path, limit=64)
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=64)
    try:
        client_id = f"tidegate-probe-{secrets.token_hex(4)}"
        writer.write(Connect(4, bridge=False, clean_start=True, keepalive=_KEEPALIVE, client_id=client_id).write())
        try:
            answer = await reader.readexactly(4)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                return "does not speak MQTT"
            return "closed the connection without an answer: does not speak MQTT, or takes no more connections"
        if answer[:2] != b"\x20\x02":  # CONNACK, 3.1.1 section 3.2
            return "does not speak MQTT"
        if answer[3] == 0:
            writer.write(Disconnect().write())
        return None
    finally:
        writer.close()
        with suppress(OSError):  # a reset while closing changes nothing about the answer
            await writer.wait_closed()


def permissions(path: str) -> str:
    """A socket's mode, user and group, such as "0770 mosquitto:mosquitto"."""
    found = Path(path)
    return f"{found.stat().st_mode & 0o777:04o} {found.owner()}:{found.group()}"


def _not_permitted(address: Address) -> str:
    """Why a Unix socket answers EACCES, and the command that mends it."""
    try:
        has, group = permissions(address.path), Path(address.path).group()
    except PermissionError:
        return f"permission denied: this user may not enter a folder on the way to {address.path}"
    return f"permission denied: {address.path} is {has}; join its group: usermod -aG {group} USER"
