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
