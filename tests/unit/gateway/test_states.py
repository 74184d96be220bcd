import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tidegate.gateway.states import TRANSITIONS, Event, State, follow

ROOT = Path(__file__).parents[3]


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_states", ROOT / "tools" / "draw_states.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_state_but_the_first_is_reached_and_every_one_but_the_last_left() -> None:
    assert {State.GREETING, *TRANSITIONS.values()} == set(State)
    assert {state for state, _ in TRANSITIONS} == set(State) - {State.CLOSED}


def test_whatever_happens_a_connection_can_end() -> None:
    for state in set(State) - {State.CLOSED}:
        assert follow(state, Event.CLIENT_GONE) is State.CLOSED
        assert follow(state, Event.SHUTDOWN) is State.CLOSED


def test_what_the_table_does_not_have_is_an_error() -> None:
    with pytest.raises(KeyError):
        follow(State.GREETING, Event.ACCEPTED)


def test_the_drawing_is_up_to_date() -> None:
    drawn: str = load_tool().render()
    assert (ROOT / "docs" / "connection.md").read_text() == drawn, "run `python tools/draw_states.py`"
