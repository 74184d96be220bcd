from pathlib import Path

import pytest

from tidegate.policy.in_plugin import InPlugin, action_in_plugin, in_plugin
from tidegate.policy.model import Action, Event
from tidegate.policy.settings import load

CLASSES = """
[class.door]
listener = "tcp://127.0.0.1:1883"
[class.either]
any = [{ bridge = true }, { client_id = "c" }]
[class.bridges]
any = [{ bridge = true }, { san = "x" }]
[class.no-bridge]
bridge = false
"""


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


def limit_of(tmp_path: Path, lines: str) -> InPlugin:
    """One limit of these lines."""
    file = tmp_path / "t.toml"
    file.write_text(f'{CLASSES}[[limit]]\nname = "a"\n{lines}\n')
    settings = load(file)
    (found,) = in_plugin(settings.policy, settings.document)
    return found


def keys(found: InPlugin) -> list[str]:
    return [problem.key for problem in found.changes]


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("action", Action)
def test_nothing_is_delayed_and_all_else_stays(event: Event, action: Action) -> None:
    done = action_in_plugin(event, action)
    assert done is not Action.DELAY
    assert done == action or action is Action.DELAY


def test_what_a_gateway_delays_is_refused_and_said(tmp_path: Path) -> None:
    found = limit_of(tmp_path, 'rate = "1/s"')
    assert (found.enforced, keys(found)) == (True, ["limit.on_excess"])
    assert found.excess[0].startswith("refused; MQTT 5 is told 0x97")
    assert 'write "reject" to say so' in str(found.changes[0])


def test_whom_nobody_can_tell_of_a_refusal_is_said(tmp_path: Path) -> None:
    found = limit_of(tmp_path, 'rate = "1/s"\non_excess = "reject"')
    assert "refuses clients of MQTT 3 as well, whom a gateway would delay" in str(found.changes[0])
    advice = '{ default = "reject", v3 = "drop" }'
    assert f"write {advice} to say so" in str(found.changes[0])
    assert keys(limit_of(tmp_path, f'rate = "1/s"\non_excess = {advice}')) == []


def test_a_will_is_dropped(tmp_path: Path) -> None:
    found = limit_of(tmp_path, 'on = "will"\nrate = "1/s"\nwill_delay = "1s"')
    assert (found.enforced, found.excess) == (True, ("not published",))
    assert keys(found) == ["limit.will_delay", "limit.on_excess"]


@pytest.mark.parametrize("action", ["drop", "disconnect", "ban", "observe", '{ v3 = "drop", default = "reject" }'])
def test_what_is_as_in_a_gateway_has_nothing_to_say(tmp_path: Path, action: str) -> None:
    written = action if action.startswith("{") else f'"{action}"'
    lines = f'rate = "1/s"\nsize = 10\nclass = ["either", "no-bridge"]\nper = "ip"\non_excess = {written}'
    found = limit_of(tmp_path, lines)
    assert (found.enforced, found.changes) == (True, ())
    assert (found.excess == ("counted, nothing else",)) == (action == "observe")


def test_of_several_actions_each_is_told_once(tmp_path: Path) -> None:
    found = limit_of(tmp_path, 'rate = "1/s"\non_excess = { qos0 = "drop", v3 = "disconnect", default = "reject" }')
    assert [text.split(";")[0].split(",")[0] for text in found.excess] == ["refused", "refused"]
    assert len(set(found.excess)) == 2


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('on = "deliver"\nrate = "1/s"', "limit.on"),
        ('on = "packet"\nrate = "1/s"', "limit.on"),
        ('concurrent = 3\non_excess = "drop"', "limit.concurrent"),
        ('on = "connect"\nsize = 300\non_excess = "reject"', "limit.size"),
        ('on = "subscribe"\nmax_qos = 1', "limit.max_qos"),
        ('on = "subscribe"\nconcurrent = 1\non_excess = "reject"', "limit.concurrent"),
        ('on = "will"\nwill_delay = "1s"', "limit.will_delay"),
        ('listener = "tcp://127.0.0.1:1883"\nrate = "1/s"\non_excess = "drop"', "limit.listener"),
        ('class = "door"\nrate = "1/s"\non_excess = "drop"', "limit.class"),
        ('class = ["door", "bridges"]\nrate = "1/s"\non_excess = "drop"', "limit.class"),
    ],
)
def test_what_a_plugin_cannot_do_is_not_enforced(tmp_path: Path, lines: str, key: str) -> None:
    found = limit_of(tmp_path, lines)
    assert (found.enforced, found.excess) == (False, ())
    assert set(keys(found)) == {key}


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ('concurrent = 3\nrate = "1/s"\non_excess = "drop"', "limit.concurrent"),
        ('on = "subscribe"\nmax_qos = 1\nleading_wildcard = false\non_excess = "reject"', "limit.max_qos"),
        ('per = "listener"\nrate = "1/s"\non_excess = "drop"', "limit.per"),
        ('class = ["either", "door"]\nrate = "1/s"\non_excess = "drop"', "limit.class"),
    ],
)
def test_the_rest_of_a_limit_is_enforced(tmp_path: Path, lines: str, key: str) -> None:
    found = limit_of(tmp_path, lines)
    assert (found.enforced, keys(found)) == (True, [key])
    assert found.excess


def test_bans_are_those_of_a_gateway(tmp_path: Path) -> None:
    found = limit_of(tmp_path, 'per = "ip"\nrate = "1/s"\non_excess = "ban"\nban = { first = "1min", max = "24h" }')
    assert (found.enforced, found.changes) == (True, ())


@pytest.mark.parametrize(("depth", "wild"), [("depth = 3", ""), ("", "leading_wildcard = false")])
def test_filters_are_judged(tmp_path: Path, depth: str, wild: str) -> None:
    found = limit_of(tmp_path, f'on = "subscribe"\n{depth}\n{wild}\non_excess = "reject"')
    assert (found.enforced, found.changes) == (True, ())
