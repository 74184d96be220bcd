"""The worker's process: `python -m tidegate.app.worker CONTROL_FD`, started by the supervisor and by nobody else."""

import asyncio
import socket
import sys

import structlog
import uvloop

from ..gateway.worker import Orders, serve
from .logs import configure


def main() -> None:
    """Read the orders, then serve until the supervisor says otherwise."""
    control = socket.socket(fileno=int(sys.argv[1]))
    with control.makefile("rb", buffering=0) as lines:  # unbuffered: what follows the orders is for `serve`
        line = lines.readline()
    if not line.endswith(b"\n"):
        sys.exit("the supervisor is gone")
    orders = Orders.parse(line)
    configure(orders.log_format, orders.log_level, process=f"worker-{orders.row}")
    control.setblocking(False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(orders, control, structlog.get_logger()))


if __name__ == "__main__":
    main()
