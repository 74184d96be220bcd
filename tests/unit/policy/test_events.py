from tidegate.policy.events import EVERYWHERE, MEANINGS, MEASURES
from tidegate.policy.limits import FIELDS
from tidegate.policy.model import Action, Event


def test_every_event_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Event)


def test_every_key_means_something_for_some_event() -> None:
    own = {key for meaning in MEANINGS.values() for key in meaning.keys}
    assert own | EVERYWHERE == set(FIELDS)
    assert not own & EVERYWHERE


def test_what_happens_by_default_is_allowed() -> None:
    for meaning in MEANINGS.values():
        assert meaning.on_excess in meaning.actions
        assert set(meaning.keys) & set(MEASURES)
        assert Action.PASS not in meaning.actions
