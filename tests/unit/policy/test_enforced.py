import pytest

from tidegate.policy.enforced import unenforced
from unit.policy.reading import CLASSES, settings_of


def told(text: str) -> list[str]:
    settings = settings_of(text)
    return [str(problem).removeprefix("t.toml:") for problem in unenforced(settings.policy, settings.document)]


def limit_told(keys: str) -> list[str]:
    return [line.partition(": ")[2] for line in told(f'{CLASSES}[[limit]]\nname = "x"\n{keys}\n')]


@pytest.mark.parametrize("event", ["publish", "connect", "subscribe", "deliver", "will", "packet", "auth_failure"])
def test_one_budget_over_several_gateways(event: str) -> None:
    assert limit_told(f'on = "{event}"\nrate = "1/s"\nshared = true') == [
        "limit.shared = true: not enforced yet: each gateway has its own budget; remove it"
    ]


@pytest.mark.parametrize(
    "keys",
    [
        "",
        'on_excess = "delay"\nmax_delay = "2s"\nthen = "drop"',
        "concurrent = 5",
        'on_excess = "reject"',
        'on_excess = { qos0 = "drop", v3 = "disconnect", default = "reject" }',
        'on_excess = "drop"\nbandwidth = "1MiB/s"\nsize = "64KiB"',
        'on_excess = "observe"\nshared = false',
        'on_excess = "disconnect"\nclass = "a"',
        'on_excess = "ban"\nper = "ip"',
        'on_excess = { v3 = "drop", default = "ban" }\nper = ["client", "ip"]\nban = { first = "1min" }',
        'on = "connect"',
        'on = "connect"\nconcurrent = 5\nper = ["client", "ip"]\non_excess = { v5 = "ban", default = "drop" }',
        'on = "auth_failure"',
        'on = "auth_failure"\nper = ["ip", "username"]\non_excess = "observe"',
        'on = "deliver"\nconflate = true',
        'on = "subscribe"\nconcurrent = 5\ndepth = 6\nleading_wildcard = false\nmax_qos = 1',
        'on = "will"\nwill_delay = "20s"',
        'on = "packet"\non_excess = "disconnect"',
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
