from fractions import Fraction
from ipaddress import ip_network

import pytest

from tidegate.policy.limits import can_be_exceeded, measures
from tidegate.policy.model import Action, ByClass, Cases, Conditions, Event, Key, KeyKind, Limit, Rate
from unit.policy.reading import CLASSES, errors_in, limit_errors, limit_of

PER_SECOND = (Rate(1, Fraction(1), 1),)


def test_what_nothing_is_said_about() -> None:
    assert limit_of('rate = "1/s"', classes="\n\n") == Limit(
        "x", Event.PUBLISH, Cases(Action.DELAY), rate=ByClass(PER_SECOND), line=3
    )


def test_all_keys_of_publish() -> None:
    limit = limit_of(
        """
        on = "publish"
        class = ["a", "!b"]
        listener = "tcp://127.0.0.1:1883"
        cidr = "10.0.0.0/8"
        username = ["u", "v*"]
        client_id = "c"
        topic = ["t/#", "u/+"]
        except_topic = "t/x"
        qos = [2, 1]
        retain = true
        per = ["ip/24", "topic/2"]
        rate = { default = "1/s", a = "none" }
        bandwidth = "1KiB/s"
        concurrent = 5
        size = "1KiB"
        on_excess = "delay"
        max_delay = "250ms"
        then = "drop"
        shared = true
        """
    )
    assert limit == Limit(
        "x",
        Event.PUBLISH,
        Cases(Action.DELAY),
        per=(Key(KeyKind.IP, 24, 64), Key(KeyKind.TOPIC, levels=2)),
        classes=("a",),
        not_classes=("b",),
        who=Conditions(
            client_id=("c",),
            username=("u", "v*"),
            cidr=(ip_network("10.0.0.0/8"),),
            listener=("tcp://127.0.0.1:1883",),
        ),
        topic=("t/#", "u/+"),
        except_topic=("t/x",),
        qos=(2, 1),
        retain=True,
        rate=ByClass(PER_SECOND, {"a": None}),
        bandwidth=ByClass((Rate(1024, Fraction(1), 1024),)),
        concurrent=ByClass(5),
        size=ByClass(1024),
        max_delay=0.25,
        then=Cases(Action.DROP),
        shared=True,
        line=limit.line,
    )


@pytest.mark.parametrize(
    ("event", "per"), [("publish", "client"), ("connect", "ip/32/64"), ("auth_failure", "ip/32/64")]
)
def test_per_by_default(event: str, per: str) -> None:
    assert list(map(str, limit_of(f'on = "{event}"\nrate = "1/s"').per)) == [per]


def test_keys_that_only_some_events_have() -> None:
    assert limit_of('on = "deliver"\nbandwidth = "1KiB/s"\nconflate = true').conflate
    assert limit_of('on = "connect"\nconcurrent = 5\nper = "username"\nallow_lockout = true').allow_lockout
    assert limit_of('on = "subscribe"\nconcurrent = 5\ntopic = "$share/g/a/#"').topic == ("$share/g/a/#",)
    limit = limit_of('on = "subscribe"\ndepth = { default = 6, a = 8 }\nleading_wildcard = false\nmax_qos = 1')
    assert (limit.depth, limit.leading_wildcard, limit.max_qos) == (ByClass(6, {"a": 8}), False, ByClass(1))
    assert limit_of('on = "will"\nwill_delay = { a = "20s", b = "none" }').will_delay == ByClass(
        None, {"a": 20.0, "b": None}
    )


def test_what_is_conflated_waits_for_its_turn_whatever_the_time() -> None:
    limit = limit_of('on = "deliver"\nrate = "1/s"\nconflate = true')
    assert limit.then == Cases(Action.DELAY)
    assert limit_of('on = "deliver"\nrate = "1/s"').then == Cases(Action.DELAY, {0: Action.DROP})


def test_a_table_below_the_limit_is_a_table_by_class() -> None:
    assert limit_of('[limit.concurrent]\ndefault = 5\na = "none"').concurrent == ByClass(5, {"a": None})


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            "on = 5\nrate = 5\nx = 1",
            ["on = 5: unknown value", "rate = 5: a rate needs its period", "x = 1: unknown key"],
        ),
        ("priority = 1", ["[[limit]]: limits nothing", "priority = 1: unknown key; it belongs below [class.NAME]"]),
        ("class = []", ["[[limit]]: limits nothing", "class = []: 0 values; name 1 to 1000"]),
        ('class = "c"\nsize = 1', ['class = "c": there is no [class.c]; known are a, b, free']),
        ('class = "!fre"\nsize = 1', ['class = "!fre": there is no [class.fre]; did you mean `free`?']),
        ("class = 5\nsize = 1", ['class = 5: not the name of a class; write "NAME" of a [class.NAME], or "!NAME"']),
        ('username = "{tenant}:*"\nsize = 1', ['username = "{tenant}:*": only a class can capture; write * here']),
        ('topic = ""\nsize = 1', ['topic = "": a topic filter is empty']),
        ("qos = 3\nsize = 1", ["qos = 3: not a QoS; write 0, 1 or 2, without quotes"]),
        ("qos = true\nsize = 1", ["qos = true: not a QoS"]),
        ("retain = false\nsize = 1", ["retain = false: only true means something"]),
        ('per = "tenat"\nsize = 1', ['per = "tenat": unknown value; did you mean "tenant"?']),
        ("concurrent = 0", ["concurrent = 0: not a number of them; write a whole number from 1 to 1000000"]),
        ("concurrent = { c = 1 }", ["concurrent.c = 1: there is no [class.c]; known are a, b, free"]),
        ("depth = 0", ["depth = 0: not a number of levels; write a whole number from 1 to 128"]),
        ("depth = true", ["depth = true: not a number of levels"]),
        ("leading_wildcard = true", ["leading_wildcard = true: only false means something; remove it"]),
        ("max_qos = 2", ["max_qos = 2: not a QoS below 2; write 0 or 1, without quotes"]),
        ("will_delay = 20", ['will_delay = 20: a time needs its unit; write "20s" if seconds are meant']),
        ('will_delay = "25h"', ['will_delay = "25h": out of range; write "1ms" to "24h"']),
        ('size = "0B"', ['size = "0B": out of range; write "1B" to "256MiB"']),
        ("size = 1\nmax_delay = 5", ['max_delay = 5: a time needs its unit; write "5s" if seconds are meant']),
    ],
)
def test_what_is_wrong(keys: str, told: list[str]) -> None:
    found = limit_errors(keys)
    assert len(found) == len(told)
    for line, start in zip(found, told, strict=True):
        assert line.startswith(start if start.startswith("[") else f"limit.{start}")


def test_a_limit_without_a_name() -> None:
    assert errors_in('\n[[limit]]\nrate = "1/s"') == [
        '2: [[limit]]: no name; give it one that no other has: name = "…"'
    ]
    assert errors_in('[[limit]]\nname = "a b"\nrate = "1/s"') == [
        '2: limit.name = "a b": not a name; use 1 to 64 letters, digits, _, . and -'
    ]


def test_no_limit_is_blamed_for_a_class_that_is_wrong_itself() -> None:
    text = CLASSES.replace('"{tenant}:*"', "5") + '[[limit]]\nname = "x"\nrate = "1/s"\nper = "tenant"\nclass = "b"'
    assert len(errors_in(text)) == 1
    assert len(errors_in('class = 5\n[[limit]]\nname = "x"\nrate = { c = "1/s" }\nclass = "b"')) == 1


def test_what_a_limit_measures() -> None:
    limit = limit_of('rate = "1/s"\nsize = { a = 5 }')
    assert measures(limit) == {"rate": ByClass(PER_SECOND), "size": ByClass(None, {"a": 5})}


def test_what_can_be_exceeded() -> None:
    assert can_be_exceeded(limit_of("concurrent = 5"))
    assert can_be_exceeded(limit_of('on = "subscribe"\nmax_qos = 1\nleading_wildcard = false'))
    assert can_be_exceeded(limit_of('on = "will"\nwill_delay = "1s"\nrate = "1/s"'))
    assert not can_be_exceeded(limit_of('on = "subscribe"\nmax_qos = 1'))
    assert not can_be_exceeded(limit_of('on = "will"\nwill_delay = "1s"'))
