"""A logger that keeps what it is told."""


class RecordLog:
    """As much of a structured logger as the gateway uses; `said` has (level, event, fields) in order."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, dict[str, object]]] = []

    def debug(self, event: str, **fields: object) -> None:
        """Keep it."""
        self.said.append(("debug", event, fields))

    def info(self, event: str, **fields: object) -> None:
        """Keep it."""
        self.said.append(("info", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        """Keep it."""
        self.said.append(("warning", event, fields))

    def error(self, event: str, **fields: object) -> None:
        """Keep it."""
        self.said.append(("error", event, fields))

    def of(self, level: str) -> list[tuple[str, dict[str, object]]]:
        """What was said at one level: events and their fields."""
        return [(event, fields) for said, event, fields in self.said if said == level]

    def has(self, level: str, part: str) -> bool:
        """Whether an event that holds `part` was said at one level."""
        return any(part in event for event, _ in self.of(level))
