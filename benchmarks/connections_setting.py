"""What the command line of the demonstrations of connections says."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Setting:
    """For all of them."""

    tidegate: tuple[str, ...]
    seconds: int
    """Of a storm, and of the rest before it."""
    rate: int
    """Connections per second of a storm."""
    sources: int
    """Addresses that a storm comes from."""
    share: float | None
    """Of a core, for the broker of a storm; None: all that it wants."""
    files: int
    """The open-file limit that is met."""
