"""Draw docs/connection.md from the table that connections follow: `python tools/draw_states.py`."""

import inspect
import re
from enum import IntEnum
from pathlib import Path

from tidegate.gateway import states
from tidegate.gateway.states import TRANSITIONS, Event, State

PAGE = Path(__file__).parent.parent / "docs" / "connection.md"

HEAD = """\
# The states of a connection

Drawn by `tools/draw_states.py` from the table in `src/tidegate/gateway/states.py`, which `Connection` follows: what is
not in the table cannot happen. A client's connection begins in GREETING.
"""


def meanings(kind: type[IntEnum]) -> dict[str, str]:
    """The docstring below each member of an enumeration."""
    source = inspect.getsource(kind)
    return {name: " ".join(text.split()) for name, text in re.findall(r'(\w+) = \d+\n\s+"""(.+?)"""', source, re.S)}


def render() -> str:
    """The whole page."""
    lines = [HEAD, "```mermaid", "stateDiagram-v2", "    [*] --> GREETING"]
    by_arrow: dict[tuple[str, str], list[str]] = {}
    for (state, event), following in TRANSITIONS.items():
        by_arrow.setdefault((state.name, following.name), []).append(event.name)
    lines += [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in by_arrow.items()]
    lines += ["    CLOSED --> [*]", "```", ""]
    for title, kind, said in (
        ("State", State, "waits for"),
        ("Event", Event, "what happened"),
    ):
        told = meanings(kind)
        lines += [f"| {title} | {said} |", "|---|---|"]
        lines += [f"| {member.name} | {told[member.name]} |" for member in kind]
        lines.append("")
    lines += ["| " + " | ".join(["", *(event.name for event in Event)]) + " |", "|---" * (len(Event) + 1) + "|"]
    for state in State:
        cells = [TRANSITIONS.get((state, event)) for event in Event]
        names = [cell.name if cell is not None else "-" for cell in cells]
        lines.append("| " + " | ".join([state.name, *names]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render())
    print(f"drew {PAGE.name} from {states.__name__}")
