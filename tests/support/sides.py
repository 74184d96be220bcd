"""The two ways to one broker, and how to build them."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .broker import Broker
from .gateway import Middle, middle


@dataclass(frozen=True)
class Sides:
    """A broker, and what stands before it."""

    broker: Broker
    middle: Middle

    @property
    def direct(self) -> int:
        """The broker's port."""
        return self.broker.port

    @property
    def through(self) -> int:
        """The gateway's port."""
        return self.middle.port


@contextmanager
def both_sides(
    directory: Path, extra: str = "", *, anonymous: bool = True, gateway_extra: str = "", workers: int = 2
) -> Iterator[Sides]:
    """Start a broker with `extra` lines and a gateway before its Unix socket; both must end well."""
    broker = Broker(directory / "b", extra, anonymous=anonymous)
    between = middle(directory / "g", broker.unix, workers=workers, extra=gateway_extra)
    broker.start()
    try:
        between.start()
        yield Sides(broker, between)
        between.stop()
    finally:
        between.end()
        broker.stop()


def password_file(directory: Path, *lines: str) -> Path:
    """A Mosquitto password file for lines of `user:password`."""
    file = directory / "passwords"
    file.write_text("".join(f"{line}\n" for line in lines))
    file.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", str(file)], check=True)
    return file
