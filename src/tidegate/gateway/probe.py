"""Does a broker answer at an address?"""

import asyncio
import grp
import os
import pwd
import secrets
from contextlib import suppress

from ..mqtt.connect import Connect
from ..mqtt.session import Disconnect
from ..policy.address import Address
from .dial import dial

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
    reader = asyncio.StreamReader(limit=64)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport = await dial(address, lambda: protocol)
    writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
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
    """A socket's mode, user and group, such as "0770 mosquitto:mosquitto". OSError when it cannot be seen."""
    found = os.stat(path)
    return f"{found.st_mode & 0o777:04o} {_user(found.st_uid)}:{_group(found.st_gid)}"


def _user(number: int) -> str:
    """A user's name; the number where this system has none, as for a socket that a container has made."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _not_permitted(address: Address) -> str:
    """Why a Unix socket answers EACCES, and the command that mends it."""
    try:
        has, group = permissions(address.path), _group(os.stat(address.path).st_gid)
    except OSError:
        return f"permission denied: this user may not enter a folder on the way to {address.path}"
    return f"permission denied: {address.path} is {has}; join its group: usermod -aG {group} USER"
