"""Questions about subscribers, wills and packets; the others are in test_policy_explain.py."""

from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.app.policy_explain import Answer, explain
from tidegate.app.policy_question import BadQuestion, Question

LIMITS = """\
[[limit]]
name = "down"
on = "deliver"
topic = "a/#"
qos = [0, 1]
size = { oncall = "none", default = "1MiB" }
on_excess = { qos0 = "drop", default = "observe" }
[[limit]]
name = "asked"
on = "subscribe"
topic = ["a/#", "$share/+/b"]
except_topic = "a/free/#"
per = ["client", "topic/1"]
depth = 3
max_qos = 1
[[limit]]
name = "wild"
on = "subscribe"
leading_wildcard = false
max_qos = { oncall = 0 }
[[limit]]
name = "patience"
on = "will"
retain = true
will_delay = { oncall = "1min", default = "90s" }
[[limit]]
name = "any"
on = "packet"
size = "1KiB"
on_excess = "disconnect"
[class.oncall]
username = "oncall"
[class.free]
username = "free"
exempt = true
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    path = tmp_path / "t.toml"
    path.write_text(LIMITS)
    return path


def ask(file: Path, on: str, topic: str | None = None, **changes: object) -> Answer:
    return explain(file, replace(Question(topic, client_id="c", on=on), **changes))  # type: ignore[arg-type]


def test_a_message_on_its_way_to_a_client(file: Path) -> None:
    answer = ask(file, "deliver", "a/b")
    assert answer.message == {"topic": "a/b", "qos": "0", "retain": "false", "payload": "64B", "packet": "72B"}
    assert [met.name for met in answer.met] == ["down"]
    assert ask(file, "deliver", "b", qos=2).not_met == {
        "down": ["the topic does not match a/#", "the QoS is not 0 or 1"]
    }
    # What the broker sends may be larger than what it is sent.
    answer = ask(file, "deliver", "a/b", size=1 << 21)
    assert (answer.verdict, answer.by) == ("drop", "down")


@pytest.mark.parametrize(
    ("topic", "keys"),
    [("a/#", {"client": "c", "topic/1": "a"}), ("$share/g/b", {"client": "c", "topic/1": "b"})],
)
def test_a_subscription(file: Path, topic: str, keys: dict[str, str]) -> None:
    answer = ask(file, "subscribe", topic, qos=2)
    assert answer.message == {"filter": topic, "qos": "2"}
    assert [(met.name, met.keys) for met in answer.met] == [("asked", keys), ("wild", {"client": "c"})]
    assert answer.met[0].budgets == {"depth": ["3"], "max_qos": ["1"]}
    assert answer.met[1].budgets == {"leading_wildcard": ["false"]}
    assert (answer.verdict, answer.by, answer.changed) == ("pass", None, "it gets QoS 1 instead of 2")


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("#", "the filter is not within a/# or $share/+/b"),
        ("b", "the filter is not within a/# or $share/+/b"),
        ("$share/g/+", "the filter is not within a/# or $share/+/b"),
        ("a/free/x", "the filter is excepted by a/free/#"),
    ],
)
def test_a_subscription_that_a_limit_is_not_about(file: Path, topic: str, reason: str) -> None:
    assert ask(file, "subscribe", topic).not_met == {"asked": [reason]}


@pytest.mark.parametrize(
    ("topic", "by"), [("a/b/c/d", "asked"), ("+/b", "wild"), ("$share/g/#", "wild"), ("a/b/+", None)]
)
def test_a_subscription_that_asks_for_too_much(file: Path, topic: str, by: str | None) -> None:
    answer = ask(file, "subscribe", topic)
    assert (answer.verdict, answer.by, answer.changed) == ("reject" if by else "pass", by, None)


def test_the_qos_of_a_subscription_depends_on_who_asks(file: Path) -> None:
    assert ask(file, "subscribe", "a", qos=1).changed is None
    assert ask(file, "subscribe", "a", qos=1, username="oncall").changed == "it gets QoS 0 instead of 1"
    assert ask(file, "subscribe", "a", qos=2, username="free").changed is None


def test_a_will(file: Path) -> None:
    held = "it is held back for {}, and never sent if its client is back by then"
    answer = ask(file, "will", "a", retain=True)
    assert (answer.met[0].budgets, answer.changed) == ({"will_delay": ["90s"]}, held.format("90s"))
    assert ask(file, "will", "a", retain=True, username="oncall").changed == held.format("1min")
    assert ask(file, "will", "a", retain=True, username="free").changed is None
    assert ask(file, "will", "a").changed is None


def test_any_packet(file: Path) -> None:
    answer = ask(file, "packet")
    assert (answer.message, answer.verdict) == ({"packet": "2B"}, "pass")
    answer = ask(file, "packet", size=1025)
    assert (answer.message, answer.verdict, answer.by) == ({"packet": "1025B"}, "disconnect", "any")


@pytest.mark.parametrize(
    ("on", "topic", "changes", "told"),
    [
        ("deliver", None, {}, "--topic: a message has one; write --topic TOPIC"),
        ("deliver", "a/#", {}, "--topic: the topic name holds a wildcard"),
        ("deliver", "a", {"size": 1 << 30}, "--size: no packet is larger than"),
        ("will", None, {}, "--topic: a message has one; write --topic TOPIC"),
        ("will", "a", {"size": 65536}, "--size: a will has 65535 bytes at most"),
        ("subscribe", None, {}, "--topic: a subscription has a filter; write --topic TOPIC"),
        ("subscribe", "a/#/b", {}, "--topic: # in a topic filter must be the whole of its last level"),
        ("subscribe", "$share//a", {}, "--topic: the share name"),
        ("subscribe", "a", {"size": 1}, "--size: means nothing with --on subscribe; leave it out"),
        ("subscribe", "a", {"retain": True}, "--retain: means nothing with --on subscribe; leave it out"),
        ("packet", "a", {}, "--topic: means nothing with --on packet; leave it out"),
        ("packet", None, {"qos": 1}, "--qos: means nothing with --on packet; leave it out"),
        ("packet", None, {"size": 1}, "--size: a packet has 2 bytes at least"),
        ("packet", None, {"size": 1 << 30}, "--size: the packet is larger than gateway.max_packet"),
    ],
)
def test_what_cannot_be(file: Path, on: str, topic: str | None, changes: dict[str, object], told: str) -> None:
    with pytest.raises(BadQuestion) as caught:
        ask(file, on, topic, **changes)
    assert str(caught.value).startswith(told)


def test_a_filter_of_mqtt_3_that_only_looks_shared(file: Path) -> None:
    assert [met.name for met in ask(file, "subscribe", "$share/b", version="3.1.1").met] == ["wild"]
