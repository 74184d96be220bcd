"""A gateway with limits before a broker that acknowledges only when it is told to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .gateway import Gateway
from .late_broker import LateBroker
from .limited import metric
from .wait import until


@dataclass(frozen=True)
class Late:
    """The gateway, and the broker behind it."""

    broker: LateBroker
    gateway: Gateway

    @property
    def port(self) -> int:
        """The gateway's."""
        return self.gateway.port

    @property
    def held(self) -> float:
        """Messages that wait in the gateway."""
        return metric(self.gateway, "tidegate_held_messages")

    def forwarded(self, count: int) -> None:
        """Wait until the broker has received so many messages, from all clients since its start."""
        until(lambda: len(self.broker.received) >= count, f"{count} messages at the broker")


@contextmanager
def late(
    directory: Path,
    policy: str,
    *,
    workers: int = 1,
    extra: str = "",
    receive_maximum: int | None = None,
    automatic: bool = False,
) -> Iterator[Late]:
    """Start both; `policy` is classes and limits, `extra` more of `[gateway]`. The gateway must end well."""
    with LateBroker(directory / "late.sock", receive_maximum=receive_maximum, automatic=automatic) as broker:
        gateway = Gateway(directory / "g", broker.address, workers=workers, extra=extra, tables=policy)
        try:
            gateway.start()
            yield Late(broker, gateway)
            gateway.stop()
        finally:
            gateway.end()
