"""The tests' broker that acknowledges a PUBLISH only when it is told to, and counts what is unacknowledged."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.late_broker import LateBroker

__all__ = ["LateBroker"]
