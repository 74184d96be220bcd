import io

import pytest
from rich.console import Console, RenderableType

from tidegate.app.demo_figures import Board, Figures, State
from tidegate.app.demo_stage import POLICY
from tidegate.app.demo_view import Lines, duration, introduction, outcome, progress, sentences, table, watching
from tidegate.app.panel import WIDTH


def figures(sent: int, latencies: list[float], *, acknowledged: int | None = None, **more: object) -> Figures:
    return Figures(
        state=State.DONE,
        sent=sent,
        acknowledged=sent if acknowledged is None else acknowledged,
        latencies={(0, number): latency for number, latency in enumerate(latencies)},
        **more,  # type: ignore[arg-type]
    )


def board(bare: Figures, through: Figures) -> Board:
    return Board(20, "2.0.11", bare, through)


FLOODED = board(
    figures(800, [0.5] * 40 + [1.25] * 40, flood_sent=1_876_750, flood_arrived=471_292),
    figures(800, [0.0012] * 700 + [0.0148] * 100, flood_sent=54_200, flood_arrived=440, limited=2_044),
)


def shown(what: RenderableType, width: int = WIDTH) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def test_the_whole_table() -> None:
    assert (
        shown(table(FLOODED))
        == """\
                                     bare Mosquitto     through Tidegate
                                               done                 done
  The sensors' readings          ━╸                   ━━━━━━━━━━━━━━━━━━
    sent                                        800                  800
    acknowledged by the broker                  800                  800
    stored by the control room                   80                  800
    lost                               720 = 90.0 %                    0
    latency, median                          500 ms               1.2 ms
    latency, 99th percentile                  1.2 s                15 ms
  The mad pump's messages
    published                             1,876,750               54,200
    over the limit                         no limit                2,044
    stored by the control room              471,292                  440"""
    )


def test_a_phase_that_has_not_begun_has_no_figures() -> None:
    bare = Figures(state=State.RUNNING, elapsed=3.7, sent=140, latencies={(0, 0): 0.2})
    lines = shown(table(board(bare, Figures()))).splitlines()
    assert lines[1].split() == ["3", "of", "20", "s", "next"]
    assert [line.split()[-2:] for line in lines if " lost " in line] == [["139", "missing"]]
    assert [line[52:] for line in lines[2:]] == [""] * 11


def test_everything_fits_a_plain_terminal() -> None:
    for what in (introduction(FLOODED), table(FLOODED), outcome(FLOODED, ".venv/bin/tidegate")):
        assert max(map(len, shown(what, 200).splitlines())) <= WIDTH
    assert len(shown(table(FLOODED)).splitlines()) < 24


def test_the_introduction_shows_the_policy_as_it_is() -> None:
    text = shown(introduction(FLOODED))
    for line in POLICY.splitlines():
        assert f"    {line}\n" in text
    assert "First 20 s" in text
    assert "Mosquitto 2.0.11" in text


def test_what_happened_is_said_in_words() -> None:
    assert sentences(FLOODED) == [
        "Bare, 720 of 800 readings were lost (90 %), though the broker had acknowledged them all; those that arrived "
        "had a median latency of 500 ms.",
        "Through Tidegate, all 800 readings arrived, with a median latency of 1.2 ms: 417 times less.",
        "Of the pump's flood 440 messages came through, within the policy.",
    ]


@pytest.mark.parametrize(
    ("bare", "through", "compared"),
    [(0.02, 0.005, ": 4.0 times less."), (0.005, 0.005, ": about the same."), (0.002, 0.005, ": 2.5 times more.")],
)
def test_the_comparison_is_what_was_measured(bare: float, through: float, compared: str) -> None:
    told = sentences(board(figures(10, [bare] * 9), figures(10, [through] * 10)))
    assert told[1].endswith(compared)


def test_a_flood_that_did_no_harm_is_told() -> None:
    told = sentences(board(figures(10, [0.002] * 10), figures(10, [0.002] * 10)))
    assert told[0] == "Bare, all 10 readings arrived, with a median latency of 2.0 ms."
    assert told[-1] == "Mosquitto and the control room bore this flood here: there was little to protect."


def test_a_loss_through_tidegate_is_told_as_well() -> None:
    told = sentences(board(figures(10, [], acknowledged=4), figures(10, [0.002] * 9)))
    assert told[0] == "Bare, 10 of 10 readings were lost (100 %); not one arrived."
    assert told[1] == (
        "Through Tidegate, 1 of 10 readings were lost (10 %), though the broker had acknowledged them all; "
        "those that arrived had a median latency of 2.0 ms."
    )


def test_the_outcome_ends_with_what_to_try() -> None:
    lines = shown(outcome(FLOODED, ".venv/bin/tidegate")).splitlines()
    assert [line.strip() for line in lines[-2:]] == [
        ".venv/bin/tidegate init",
        ".venv/bin/tidegate serve -c tidegate.toml",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.00042, "0.4 ms"), (0.0099, "9.9 ms"), (0.0123, "12 ms"), (0.67183, "672 ms"), (1.04, "1.0 s")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_progress() -> None:
    assert progress(Figures(), 20) == "next"
    assert progress(Figures(state=State.RUNNING, elapsed=7.9), 20) == "7 of 20 s"
    assert progress(Figures(state=State.RUNNING, elapsed=20.3), 20) == "20 of 20 s"
    assert progress(Figures(state=State.DRAINING, elapsed=20.3), 20) == "draining"


def test_lines_come_at_each_change_and_every_five_seconds() -> None:
    lines, shown_board = Lines(), board(Figures(), Figures())
    assert list(lines.due(shown_board)) == []
    bare = shown_board.bare
    bare.state, bare.elapsed, bare.sent = State.RUNNING, 0.5, 20
    assert len(list(lines.due(shown_board))) == 1
    bare.elapsed = 4.9
    assert list(lines.due(shown_board)) == []
    bare.elapsed, bare.sent, bare.latencies = 5.1, 200, {(0, 0): 0.5}
    assert list(lines.due(shown_board)) == [
        "bare Mosquitto     5 of 20 s  sent 200, stored 1, missing 199, latency median 500 ms, p99 500 ms"
    ]
    bare.state = State.DONE
    shown_board.through.state = State.RUNNING
    told = list(lines.due(shown_board))
    assert [line.split("  ")[0] for line in told] == ["bare Mosquitto", "through Tidegate"]
    assert "lost 199" in told[0]
    assert list(lines.due(shown_board)) == []


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_is_redrawn_and_a_pipe_gets_lines(terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=WIDTH, color_system=None, _environ={"TERM": "xterm"})
    with watching(FLOODED, console) as watch:
        watch(FLOODED)
    text = out.getvalue()
    assert text.count("Tidegate demo") == 1
    assert "acknowledged by the broker" in text
    assert ("\x1b[" in text) is terminal
    assert ("bare Mosquitto          done  sent 800" in text) is not terminal
