import pytest

from tidegate.policy.enforced import unenforced
from unit.policy.reading import CLASSES, settings_of


def told(text: str) -> list[str]:
    settings = settings_of(text)
    return [str(problem).removeprefix("t.toml:") for problem in unenforced(settings.policy, settings.document)]


def limit_told(keys: str) -> list[str]:
    return [line.partition(": ")[2] for line in told(f'{CLASSES}[[limit]]\nname = "x"\n{keys}\n')]


WHOLE = 'write on_excess = { v3 = "drop", default = "reject" }, or v3 = "disconnect"'


@pytest.mark.parametrize(
    ("keys", "lines"),
    [
        (
            'on = "connect"\nconcurrent = 5',
            ['limit.on = "connect": not enforced yet; remove the limit; on = "publish" is enforced'],
        ),
        (
            'concurrent = 5\non_excess = "drop"',
            ["limit.concurrent = 5: not enforced yet; remove it, or limit the rate"],
        ),
        (
            'rate = "1/s"\nshared = true\non_excess = "drop"',
            ["limit.shared = true: not enforced yet: each gateway has its own budget; remove it"],
        ),
        ('rate = "1/s"', [f'[[limit]]: on_excess is "delay" by default, which is not enforced yet; {WHOLE}']),
        ('rate = "1/s"\non_excess = "delay"', [f'limit.on_excess = "delay": not enforced yet; {WHOLE}']),
        (
            'rate = "1/s"\non_excess = "reject"',
            [f'limit.on_excess = "reject": the v3 case is "delay" by default, which is not enforced yet; {WHOLE}'],
        ),
        (
            'rate = "1/s"\non_excess = { default = "reject" }',
            [
                'limit.on_excess = {…}: the v3 case is "delay" by default, which is not enforced yet; '
                'write v3 = "drop" or "disconnect"'
            ],
        ),
        (
            'rate = "1/s"\non_excess = { qos0 = "drop" }',
            [
                'limit.on_excess = {…}: the default case is "delay" by default, which is not enforced yet; '
                'write default = "drop", or default = "reject" with v3 = "drop" or "disconnect"'
            ],
        ),
        (
            'rate = "1/s"\non_excess = { qos0 = "drop", v3 = "delay", default = "reject" }',
            ['limit.on_excess.v3 = "delay": not enforced yet; write v3 = "drop" or "disconnect"'],
        ),
        (
            'rate = "1/s"\non_excess = { v5 = "ban", default = "drop" }\nper = "ip"',
            ['limit.on_excess.v5 = "ban": not enforced yet; write v5 = "drop", "reject" or "disconnect"'],
        ),
        (
            'rate = "1/s"\non_excess = "ban"\nper = "ip"',
            [f'limit.on_excess = "ban": not enforced yet; {WHOLE}'],
        ),
    ],
)  # fmt: skip
def test_what_is_not_enforced(keys: str, lines: list[str]) -> None:
    assert limit_told(keys) == lines


@pytest.mark.parametrize(
    "keys",
    [
        'on_excess = { v3 = "drop", default = "reject" }',
        'on_excess = { v3 = "disconnect", default = "reject" }',
        'on_excess = "drop"\nbandwidth = "1MiB/s"\nsize = "64KiB"',
        'on_excess = "observe"\nshared = false',
        'on_excess = "disconnect"\nclass = "a"',
        # The delay that is the default cannot be reached.
        'on_excess = { qos0 = "drop", qos1 = "drop", qos2 = "drop" }',
        'qos = 0\non_excess = { qos0 = "drop" }',
    ],
)
def test_what_is_enforced(keys: str) -> None:
    assert limit_told(f'rate = "1/s"\n{keys}') == []


def test_certificates() -> None:
    text = '[class.x]\ncn = "a"\npriority = "low"\n[class.y]\nany = [{ bridge = true },\n{ san = "b" }]'
    assert told(text) == [
        '2: class.x.cn = "a": not enforced yet: no listener takes certificates; remove it',
        '6: class.y.any.san = "b": not enforced yet: no listener takes certificates; remove it',
    ]
