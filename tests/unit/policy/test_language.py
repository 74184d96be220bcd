import pytest

from tidegate.engine.format import MAX_CLASSES, MAX_LIMITS
from tidegate.policy.compile import assign_slots, compile_policy
from tidegate.policy.model import Event
from unit.policy.reading import errors_in, settings_of

EXAMPLE = """\
[gateway]
listen = ["tcp://0.0.0.0:1883"]
broker = "unix:/run/mosquitto/mqtt.sock"
state_dir = "/var/lib/tidegate"

[class.sensor]
client_id = ["sensor-*", "probe-*"]
priority  = "low"

[class.plc]
username  = ["plc"]
cidr      = ["10.20.0.0/16"]
priority  = "critical"

[class.bridge]
bridge = true

[class.tenant]
username = "{tenant}:*"

[class.debug]
username = "oncall"
cidr     = "10.0.9.0/24"
exempt   = true

[class.dashboard]
client_id = "dash-*"

[[limit]]
name = "telemetry"
class = "sensor"
topic = "plant/+/telemetry/#"
per  = "client"
rate = "20/s burst 40"
on_excess = "delay"
max_delay = "5s"
then = "reject"

[[limit]]
name = "window"
per  = "username"
concurrent = { default = 50, plc = 500, bridge = "none" }
on_excess = "delay"

[[limit]]
name = "flood"
per  = "ip/24/56"
rate = { default = ["500/s burst 1000", "10000/min"], plc = "5000/s", bridge = "none" }
bandwidth = "1MiB/s"
on_excess = { qos0 = "drop", v3 = "delay", default = "reject" }

[[limit]]
name = "devices-of-the-hub"
topic = "zigbee2mqtt/#"
per  = ["client", "topic/2"]
rate = "5/s burst 20"

[[limit]]
name = "tenants"
per  = "tenant"
rate = "1000/s"
shared = true

[[limit]]
name = "alarms-are-rare"
topic = "alarm/#"
except_topic = "alarm/test/#"
per  = ["client", "topic"]
rate = "6/min"
on_excess = "observe"

[[limit]]
name = "connects"
on   = "connect"
per  = "ip"
rate = "10/s burst 30"
concurrent = 200
on_excess = "delay"
max_delay = "2s"
then = "reject"

[[limit]]
name = "guessing"
on   = "auth_failure"
per  = ["ip", "username"]
rate = "5/min"
on_excess = "ban"
ban  = { first = "30s", factor = 4, max = "1h" }

[[limit]]
name = "dashboards"
on   = "deliver"
class = "dashboard"
per  = "client"
bandwidth = "256KiB/s"
conflate = true

[[limit]]
name = "flapping"
on   = "will"
per  = "client"
rate = "2/min"
on_excess = "delay"
max_delay = "20s"
"""


def test_one_of_everything() -> None:
    policy = settings_of(EXAMPLE).policy
    assert [one.name for one in policy.classes] == ["sensor", "plc", "bridge", "tenant", "debug", "dashboard"]
    assert [limit.name for limit in policy.limits][:3] == ["telemetry", "window", "flood"]
    assert [limit.on for limit in policy.limits][6:] == [
        Event.CONNECT,
        Event.AUTH_FAILURE,
        Event.DELIVER,
        Event.WILL,
    ]
    lines = EXAMPLE.splitlines()
    for limit in policy.limits:
        assert lines[limit.line - 1 : limit.line + 1] == ["[[limit]]", f'name = "{limit.name}"']
    for one in policy.classes:
        assert lines[one.line - 1] == f"[class.{one.name}]"
    assert compile_policy(policy, assign_slots(policy))


def test_a_name_that_is_used_again_is_told_at_every_place() -> None:
    limit = '[[limit]]\nname = "a"\nrate = "1/s"\n'
    assert errors_in(f'{limit}[[limit]]\nname = "b"\nrate = "1/s"\n{limit}{limit}') == [
        '2: limit.name = "a": used again in line 8; give each limit its own name',
        '8: limit.name = "a": already used in line 2; give each limit its own name',
        '11: limit.name = "a": already used in line 2; give each limit its own name',
    ]


def test_all_is_told_at_once_in_the_order_of_lines() -> None:
    text = '[[limit]]\nname = 5\n[class.x]\n[gateway]\nworkers = 0\n[[limit]]\nname = "a"\nrate = "x"\n[class.y]\nz = 1'
    assert [line.partition(":")[0] for line in errors_in(text)] == ["1", "2", "3", "5", "8", "9", "10"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("limit = 5", "1: limit = 5: not a list of tables; write [[limit]] in a line of its own, its keys below"),
        ("[limit]", "1: [limit]: not a list of tables; write [[limit]] in a line of its own, its keys below"),
        ("limit = [5]", "1: limit = 5: not a table; write [[limit]] in a line of its own, its keys below"),
        ("class = 5", "1: class = 5: not a table; write [class.NAME] in a line of its own, its keys below"),
        ("[[class]]", "1: [[class]]: not a table; write [class.NAME] in a line of its own, its keys below"),
    ],
)
def test_tables_of_the_wrong_kind(text: str, told: str) -> None:
    assert errors_in(text) == [told]


def limits(count: int, keys: str = 'rate = "1/s"\n') -> str:
    return "".join(f'[[limit]]\nname = "n{number}"\n{keys}' for number in range(count))


def test_as_many_limits_as_there_may_be() -> None:
    assert len(settings_of(limits(MAX_LIMITS)).policy.limits) == MAX_LIMITS


def test_too_many_limits_are_one_error() -> None:
    assert errors_in("\n" + limits(MAX_LIMITS + 1)) == ["2: [[limit]]: 10001 limits; write at most 10000"]
    told = errors_in(limits(MAX_LIMITS + 1, "rate = 5\n"))
    assert told[0] == "1: [[limit]]: 10001 limits; write at most 10000"
    assert (len(told), told[-1]) == (101, "and 9901 more: mend these first")


def test_too_many_classes_are_one_error() -> None:
    text = "".join(f"[class.c{number}]\nbridge = true\n" for number in range(MAX_CLASSES + 1))
    assert errors_in(text) == ["1: [class]: 257 classes; write at most 256"]
    assert len(settings_of(text.replace("[class.c256]\nbridge = true\n", "")).policy.classes) == MAX_CLASSES
    # The last one is there all the same, for whoever names it.
    assert len(errors_in(f'{text}[[limit]]\nname = "x"\nclass = "c256"\nrate = "1/s"\nper = "any_capture"')) == 1


def test_too_many_captures() -> None:
    text = "".join(f'[class.c{number}]\nusername = "{{n{number}}}"\n' for number in range(18))
    assert errors_in(text) == ["33: [class.c16]: 17 names of captures up to here; use at most 16 in all classes"]


def test_too_many_keys() -> None:
    text = "".join(f'[[limit]]\nname = "n{number}"\nrate = "1/s"\nper = "ip/24/{number + 1}"\n' for number in range(66))
    assert errors_in(text) == [
        '260: limit.per = "ip/24/65": 65 different keys up to here; use at most 64 in all limits together'
    ]


CLASSES = """\
[class.office]
cidr = "10.0.0.0/8"
[class.plc]
username = "plc-*"
"""
UNKNOWN = (
    "the limit is decided when a client is accepted, before its version is known; write one action for all versions"
)


def connect_limit(keys: str) -> str:
    return f'{CLASSES}[[limit]]\nname = "x"\non = "connect"\nrate = "1/s"\n{keys}\n'


def test_at_accept_there_are_no_cases() -> None:
    keys = 'class = "office"\non_excess = { v5 = "delay", default = "drop" }\nthen = { v3 = "drop", v5 = "reject" }'
    assert errors_in(connect_limit(keys)) == [
        f'10: limit.on_excess.v5 = "delay": {UNKNOWN}',
        f'11: limit.then.v3 = "drop": {UNKNOWN}',
        f'11: limit.then.v5 = "reject": {UNKNOWN}',
    ]


@pytest.mark.parametrize(
    "keys",
    [
        'on_excess = { default = "drop" }\nclass = "office"',
        'on_excess = { v5 = "delay", default = "drop" }\nclass = "plc"',
        'on_excess = { v5 = "delay", default = "drop" }\nper = ["username", "ip"]',
        'on_excess = { v5 = "delay", default = "drop" }\nsize = "1KiB"',
    ],
)
def test_by_connect_there_are(keys: str) -> None:
    (limit,) = settings_of(connect_limit(keys)).policy.limits
    assert limit.on is Event.CONNECT


def test_a_class_that_is_wrong_is_told_alone() -> None:
    text = connect_limit('class = "office"\non_excess = { v5 = "drop", default = "drop" }').replace(
        "10.0.0.0/8", "10/8"
    )
    assert [line.split(": ")[1] for line in errors_in(text)] == ['class.office.cidr = "10/8"']
