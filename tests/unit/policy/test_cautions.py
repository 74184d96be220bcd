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


UNTOLD = (
    "of many who go at once, only those are told of whose turn comes within max_delay, 5s; "
    "remove it: then they are told of all the same; or write a longer max_delay"
)
WATCHED = "no effect: a limit that observes changes nothing; give it a limit of its own"
READ = "makes all of the limit wait for CONNECT, to know its size; give it a limit of its own"
ONE = "who comes back is kept out until his former connection is known to be dead; write at least 2"
GUESS = 'who guesses with ever new names is never over it; add a limit on auth_failure per "ip"'
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
        ('on = "deliver"\nqos = 0\nsize = "1MiB"', []),
        (
            'on = "will"\non_excess = "drop"\nsize = "64KiB"',
            ['limit.size = "64KiB": no will has more than 65535 bytes; write a smaller one'],
        ),
        ('on = "will"\nbandwidth = "16KiB/s burst 128KiB"', []),
        (
            'on = "will"\nbandwidth = "16KiB/s"',
            [f'limit.bandwidth = "16KiB/s": {DEBT.replace("1MiB", "128KiB")} the `size`'],
        ),
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
        (
            'on = "connect"\nsize = "1KiB"\nconcurrent = 5',
            [f'limit.size = "1KiB": {READ}'],
        ),
        ('on = "connect"\nsize = "1KiB"', []),
        ('on = "connect"\nsize = "1KiB"\nrate = "1/s"\nper = ["ip", "username"]', []),
        ('on = "connect"\nsize = "1KiB"\nrate = { default = "1/s", b = "5/s" }', []),
        ('on = "connect"\nconcurrent = 1\nper = ["client", "ip"]', [f"limit.concurrent = 1: {ONE}"]),
        ('on = "connect"\nconcurrent = { default = 5, a = 1 }', [f"limit.concurrent.a = 1: {ONE}"]),
        ('on = "connect"\nconcurrent = 1\non_excess = "observe"', []),
        ('on = "auth_failure"\nrate = "5/min"', []),
        ('on = "auth_failure"\nrate = "5/min"\nper = ["ip", "username"]', [f'limit.per = ["ip", "username"]: {GUESS}']),
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
        ('on = "will"\nrate = "20/s"\nthen = "drop"', [f'limit.then = "drop": {UNTOLD}']),
        ('on = "will"\nsize = 5\nthen = "drop"', []),
        ('on = "will"\nrate = "20/s"\non_excess = "drop"', []),
        (
            'on = "will"\nwill_delay = "20s"\nrate = "1/s"\non_excess = "observe"',
            [f'limit.will_delay = "20s": {WATCHED}'],
        ),
        ('on = "subscribe"\nmax_qos = 1\nrate = "1/s"\non_excess = "observe"', [f"limit.max_qos = 1: {WATCHED}"]),
        (
            'on = "subscribe"\nmax_qos = { a = "none" }',
            ["limit.max_qos = {…}: limits nobody; remove it, or give it a number"],
        ),
        ('on = "subscribe"\nleading_wildcard = false', []),
        ('on = "subscribe"\nleading_wildcard = false\ntopic = ["a/#", "$share/g/+/x"]', []),
        (
            'on = "subscribe"\nleading_wildcard = false\ntopic = ["a/#", "$share/+/b"]',
            [
                "limit.leading_wildcard = false: no filter that begins with a wildcard is within these topics; "
                "remove it, or `topic`"
            ],
        ),
    ],
)  # fmt: skip
def test_limits(keys: str, told: list[str]) -> None:
    assert limit_cautions(keys) == told


def limits(*tables: str) -> str:
    return "".join(f'[[limit]]\nname = "{"xyz"[number]}"\n{keys}\n' for number, keys in enumerate(tables))


def test_one_limit_by_address_is_enough_against_guessing() -> None:
    by_name = 'on = "auth_failure"\nrate = "5/min"\nper = ["ip", "client"]'
    assert [line.split(":")[0] for line in cautions(limits(by_name, by_name))] == ["5", "10"]
    assert cautions(limits(by_name, 'on = "auth_failure"\nrate = "50/min"\nper = "ip/24"')) == []


EARLY = 'on = "connect"\nrate = "1/s"'
GUESSING = 'on = "auth_failure"\nrate = "5/min"'
NAMED = '[class.oncall]\nusername = "oncall"\ncidr = "10.0.0.0/8"\nexempt = true\n'
PLACED = '[class.staff]\nany = [{ cidr = "10.0.0.0/8" }, { listener = "tcp://127.0.0.1:1883" }]\nexempt = true\n'


@pytest.mark.parametrize(
    ("tables", "earlier"),
    [
        ((EARLY,), "x"),
        ((EARLY, GUESSING, EARLY), "x, y, z"),
        (('rate = "1/s"', f'{EARLY}\nper = ["username", "ip"]'), ""),
        ((f'{EARLY}\non_excess = "observe"', f'{GUESSING}\non_excess = "observe"'), ""),
    ],
)
def test_who_is_exempt_by_a_name_is_so_when_that_is_proven(tables: tuple[str, ...], earlier: str) -> None:
    told = (
        f"1: [class.oncall]: exempt, but not from {earlier}, until the broker has accepted a client; "
        "for these, exempt a class that has only cidr or listener"
    )
    assert cautions(NAMED + limits(*tables)) == ([told] if earlier else [])
    assert cautions(PLACED + limits(*tables)) == []


def test_many_limits_are_not_listed() -> None:
    tables = "".join(f'[[limit]]\nname = "n{number}"\n{EARLY}\n' for number in range(9))
    (told,) = cautions(NAMED + tables)
    assert "but not from n0, n1, n2 and 6 more, until" in told


def test_nothing_to_warn_of() -> None:
    assert cautions("") == []
    assert limit_cautions('rate = { default = "20/s", a = "40/s" }\nclass = "!free"') == []


def test_the_largest_packet_is_the_gateways() -> None:
    assert cautions('[[limit]]\nname = "x"\nbandwidth = "64KiB/s"', max_packet=1 << 16) == []


def test_warnings_stand_in_the_order_of_lines() -> None:
    text = '[[limit]]\nname = "x"\nsize = "1MiB"\n[class.x]\nbridge = true\nexempt = true'
    assert [line.partition(":")[0] for line in cautions(text)] == ["3", "4"]
