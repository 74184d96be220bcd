import pytest

from tidegate.policy.cautions import warnings
from unit.policy.reading import CLASSES, settings_of


def cautions(text: str, max_packet: int = 1 << 20) -> list[str]:
    settings = settings_of(text)
    found = warnings(settings.policy, settings.document, max_packet)
    return [str(problem).removeprefix("t.toml:") for problem in found]


def limit_cautions(keys: str) -> list[str]:
    return [line.partition(": ")[2] for line in cautions(f'{CLASSES}[[limit]]\nname = "x"\n{keys}\n')]


CLAIM = "though any client can claim to be in it; add a condition that is proven: username, cidr, listener or cn"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('client_id = "a"\nexempt = true', [f"1: [class.x]: exempt, {CLAIM}"]),
        ('client_id = "a"\npriority = "critical"', [f"1: [class.x]: critical, {CLAIM}"]),
        ("bridge = true\nexempt = true", [f"1: [class.x]: exempt, {CLAIM}"]),
        ('username = "*"\nclient_id = "a"\nexempt = true', [f"1: [class.x]: exempt, {CLAIM}"]),
        ('exempt = true\nany = [{ username = "a" }, { client_id = "a" }]', [f"1: [class.x]: exempt, {CLAIM}"]),
        ('exempt = true\nany = [{ username = "a" }, { cidr = "10.0.0.0/8" }]', []),
        ('exempt = true\nusername = "a"\nany = [{ client_id = "a" }]', []),
        ('client_id = "a"\npriority = "high"', []),
    ],
)
def test_classes_that_anyone_can_claim(keys: str, told: list[str]) -> None:
    assert cautions(f"[class.x]\n{keys}") == told


def test_classes_with_the_same_conditions() -> None:
    text = '[class.x]\nclient_id = ["a", "b"]\n[class.y]\nclient_id = ["b", "a"]\n[class.z]\nclient_id = "a"\n'
    assert cautions(text) == [
        "3: [class.y]: the same clients as [class.x] in line 1; merge the two, or tell them apart"
    ]


UNCOUNTED = "only QoS 1 and 2 are acknowledged: a window never holds QoS 0; remove it, or write qos = [1, 2]"


def waits(pause: str, longest: str) -> str:
    return (
        f"what is over it waits up to {pause} for its turn, but no longer than max_delay, {longest}: most of it gets "
        "`then`; write a longer max_delay or a faster rate, or another action than delay"
    )


DEBT = 'after a packet of 1MiB, larger than the burst, everything waits for its debt; write "… burst 1MiB", or limit'


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('bandwidth = "64KiB/s"', [f'limit.bandwidth = "64KiB/s": {DEBT} the `size`']),
        ('bandwidth = "64KiB/s burst 1MiB"', []),
        ('bandwidth = "64KiB/s"\nsize = "64KiB"', []),
        (
            'bandwidth = { default = "1MiB/s", a = "1KiB/s" }\nsize = { default = "64KiB", a = "none" }',
            [f'limit.bandwidth.a = "1KiB/s": {DEBT} the `size`'],
        ),
        ('size = "1MiB"', ['limit.size = "1MiB": gateway.max_packet is 1MiB already; write a smaller one']),
        ('on = "deliver"\nsize = "1MiB"', []),
        (
            'rate = { a = "none", default = "none" }\nsize = 5',
            ["limit.rate = {…}: limits nobody; remove it, or give it a number"],
        ),
        ('rate = "1/s"\nclass = ["a", "!a", "b"]', ['limit.class = "a": excluded as well; remove "a" or "!a"']),
        (
            'rate = "1/s"\nclass = "free"',
            ['limit.class = "free": whoever is in it is exempt; remove the limit, or the exemption'],
        ),
        ('rate = "1/s"\nclass = ["free", "a"]', []),
        (
            'class = "!a"\nrate = { default = "1/s", a = "2/s", free = "1/s" }',
            [
                'limit.rate.a = "2/s": no effect: `class` has "!a"; remove it',
                'limit.rate.free = "1/s": no effect: [class.free] is exempt; remove it',
            ],
        ),
        (
            'class = ["a", "b"]\nconcurrent = { default = 5, a = 5, b = 6 }',
            ["limit.concurrent.default = 5: no effect: each class of the limit has its own; remove it"],
        ),
        ('class = ["a", "b"]\nconcurrent = { default = 5, a = 5 }', []),
        (
            'rate = "1/s"\ntopic = ["a/#", "b"]\nexcept_topic = ["b", "a/x"]',
            ['limit.topic = "b": excepted by except_topic; remove one of the two'],
        ),
        (
            'rate = "1/s"\ntopic = "a"\nexcept_topic = "#"',
            ['limit.topic = "a": excepted by except_topic; remove one of the two'],
        ),
        (
            'rate = "1/s"\nexcept_topic = "#"',
            ['limit.except_topic = "#": excepts every topic; remove the limit, or name topics'],
        ),
        ("concurrent = 5\nqos = 0", [f"limit.concurrent = 5: {UNCOUNTED}"]),
        ('on = "deliver"\nconcurrent = { default = 5, a = 6 }\nqos = [0]', [f"limit.concurrent = {{…}}: {UNCOUNTED}"]),
        ("concurrent = 5\nqos = [0, 1]", []),
        ('on = "connect"\nconcurrent = 5', []),
        ('rate = "10/min"', [f'limit.rate = "10/min": {waits("6s", "5s")}']),
        ('rate = "3/10s"\nmax_delay = "3s"', [f'limit.rate = "3/10s": {waits("3334ms", "3s")}']),
        ('rate = ["5/s", "6/h"]\nmax_delay = "1h"', []),
        (
            'rate = { default = ["5/s", "6/h"], a = "1/s", b = "none" }',
            [f'limit.rate.default = ["5/s", "6/h"]: {waits("10min", "5s")}'],
        ),
        ('rate = "1/5s"', []),
        ('rate = "10/3s"\nmax_delay = "300ms"', []),
        ('rate = "10/min"\non_excess = "reject"', [f'limit.rate = "10/min": {waits("6s", "5s")}']),
        ('rate = "10/min"\non_excess = { v3 = "drop", default = "reject" }', []),
        ('rate = "10/min"\non_excess = "reject"\nqos = 0', []),
        # A message for a subscriber waits on, a will passes in the end.
        ('on = "deliver"\nqos = 1\nrate = "10/min"', []),
        ('on = "deliver"\nqos = 0\nrate = "10/min"', [f'limit.rate = "10/min": {waits("6s", "5s")}']),
        ('on = "will"\nrate = "2/min"', []),
    ],
)  # fmt: skip
def test_limits(keys: str, told: list[str]) -> None:
    assert limit_cautions(keys) == told


def test_nothing_to_warn_of() -> None:
    assert cautions("") == []
    assert limit_cautions('rate = { default = "20/s", a = "40/s" }\nclass = "!free"') == []


def test_the_largest_packet_is_the_gateways() -> None:
    assert cautions('[[limit]]\nname = "x"\nbandwidth = "64KiB/s"', max_packet=1 << 16) == []


def test_warnings_stand_in_the_order_of_lines() -> None:
    text = '[[limit]]\nname = "x"\nsize = "1MiB"\n[class.x]\nbridge = true\nexempt = true'
    assert [line.partition(":")[0] for line in cautions(text)] == ["3", "4"]
