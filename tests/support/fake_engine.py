"""As much of an engine as those who wait need: what they say to it, and what it tells them."""

from typing import cast

from tidegate.engine.binding import Engine


class FakeEngine:
    """Every answer is set by the test; seconds, rounds and bits as in `Engine`."""

    def __init__(self) -> None:
        self.wait = 0.05
        self.by_window = False
        self.conflates = False
        self.ahead = 0.0
        self.rows = 0
        self.has_place = True
        """To say who waits."""
        self.announced: dict[int, int] = {}
        """By key, the addresses that wait."""
        self.said: list[tuple[int, int]] = []
        """The same, each time that it was said."""
        self.passed: list[int] = []

    @property
    def real(self) -> Engine:
        """For the types' sake."""
        return cast(Engine, self)

    def wait_for(self, key: int, addresses: int) -> bool:
        self.announced[key] = addresses
        self.said.append((key, addresses))
        return self.has_place

    def lead(self, key: int) -> float:
        return self.ahead

    def served(self, key: int) -> None:
        self.passed.append(key)

    def level(self, key: int) -> None:
        self.ahead = 0.0

    def rows_to_wake(self) -> int:
        rows, self.rows = self.rows, 0
        return rows
