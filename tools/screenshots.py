"""Draw docs/images/demo.svg, the end of a `tidegate demo`, measured here and now: `python tools/screenshots.py`."""

import asyncio
import html
import io
import re
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tidegate.app.demo import play
from tidegate.app.demo_figures import Board
from tidegate.app.demo_stage import Stage
from tidegate.app.demo_view import introduction, outcome, table
from tidegate.app.panel import WIDTH

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "demo.svg"
SECONDS = 20
"""What `tidegate demo` takes for each half by default."""
_SPACE = "&#160;"


async def measure() -> Board:
    """A whole demo, seen by nobody."""
    stage = Stage()
    try:
        board = Board(SECONDS, stage.mosquitto)
        await play(stage, board)
    finally:
        await stage.stop()
    return board


def draw(board: Board) -> str:
    """What a terminal shows in the end. The picture fetches no font: a page that shows it may not let it."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "dim"), "tidegate demo"))
    console.print(introduction(board))
    console.print(table(board))
    console.print(outcome(board, "tidegate"))
    frame = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return trim(console.export_svg(title="tidegate demo", code_format=frame, unique_id="demo"))


def trim(svg: str) -> str:
    """Without the spaces around each piece of text, which some programs do not draw: the piece begins behind them."""

    def moved(match: re.Match[str]) -> str:
        before, x, between, length, behind, text = match.groups()
        width = float(length) / len(html.unescape(text))
        start, text = text, re.sub(f"^(?:{_SPACE})+", "", text)
        shift = (len(start) - len(text)) // len(_SPACE)
        text = re.sub(f"(?:{_SPACE})+$", "", text)
        if not text:
            return ""
        return f"{before}{float(x) + shift * width:g}{between}{len(html.unescape(text)) * width:g}{behind}{text}</text>"

    return re.sub(
        r'(<text class="[^"]*" x=")([\d.]+)(" y="[^"]*" textLength=")([\d.]+)("[^>]*>)(.*?)</text>', moved, svg
    )


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(asyncio.run(measure())))
    print(f"drew {PICTURE.name}: {SECONDS} s bare, {SECONDS} s through Tidegate")
