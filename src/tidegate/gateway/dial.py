"""Opening a connection to a broker."""

import asyncio
import random
from collections.abc import Callable

from ..policy.address import Address

BUSY_PAUSE = 0.01
"""Seconds, more or less a half, between two tries at a Unix socket whose queue is full: a Mosquitto that is not stuck
takes the hundred that fit within that time."""


async def dial(address: Address, protocol: Callable[[], asyncio.BaseProtocol]) -> asyncio.Transport:
    """A connection to the broker at `address`; OSError when it cannot be had. The caller sets a time limit.

    By TCP a client waits when the broker's queue of connections is full. By Unix socket connect(2) refuses at once,
    with EAGAIN, and Mosquitto's queue is 100 long: when all clients return at once, that is a queue and not a failure.
    """
    loop = asyncio.get_running_loop()
    while True:
        try:
            if address.kind == "unix":
                transport, _ = await loop.create_unix_connection(protocol, address.path)
            else:
                transport, _ = await loop.create_connection(protocol, address.host, address.port)
        except BlockingIOError:
            await asyncio.sleep(BUSY_PAUSE * random.uniform(0.5, 1.5))
        else:
            return transport
