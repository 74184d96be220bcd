"""What the engine refuses."""


class SegmentError(Exception):
    """Shared memory that cannot be used: `text` says why, `fix` what to do."""

    def __init__(self, text: str, fix: str) -> None:
        super().__init__(f"{text}; {fix}")
        self.text = text
        self.fix = fix


class StaleSegment(SegmentError):
    """One of ours, but written before the last boot: the clock of its times has ended."""


class PolicyError(Exception):
    """A compiled policy that cannot be loaded; the text says why."""
