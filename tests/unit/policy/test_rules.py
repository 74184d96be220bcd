import pytest

from unit.policy.reading import limit_errors, limit_of

OTHERS = {
    "topic": '"publish" or "subscribe" or "deliver" or "will"',
    "qos": '"publish" or "deliver" or "will"',
    "retain": '"publish" or "deliver" or "will"',
    "bandwidth": '"publish" or "deliver" or "will" or "packet"',
    "concurrent": '"publish" or "connect" or "subscribe" or "deliver"',
    "size": '"publish" or "connect" or "deliver" or "will" or "packet"',
    "conflate": '"deliver"',
    "depth": '"subscribe"',
    "leading_wildcard": '"subscribe"',
    "max_qos": '"subscribe"',
    "will_delay": '"will"',
}
VALUES = {
    "topic": '"a"',
    "qos": "1",
    "retain": "true",
    "bandwidth": '"1KiB/s"',
    "concurrent": "5",
    "size": "5",
    "conflate": "true",
    "depth": "5",
    "leading_wildcard": "false",
    "max_qos": "1",
    "will_delay": '"20s"',
}
NEEDED = {("deliver", "size"): "qos = 0", ("will", "size"): 'on_excess = "drop"'}
"""Where a key cannot stand without another."""


@pytest.mark.parametrize(
    ("event", "keys"),
    [
        ("publish", "topic qos retain bandwidth concurrent size"),
        ("connect", "concurrent size"),
        ("subscribe", "topic concurrent depth leading_wildcard max_qos"),
        ("deliver", "topic qos retain bandwidth concurrent size conflate"),
        ("will", "topic qos retain bandwidth size will_delay"),
        ("packet", "bandwidth size"),
        ("auth_failure", ""),
    ],
)
def test_which_event_has_which_keys(event: str, keys: str) -> None:
    for key, value in VALUES.items():
        text = f'on = "{event}"\nrate = "1/s"\n{key} = {value}'
        if key in keys.split():
            limit_of(f"{text}\n{NEEDED.get((event, key), '')}")
        else:
            assert limit_errors(text) == [
                f'limit.{key} = {value}: means nothing for on = "{event}"; remove it; it is for on = {OTHERS[key]}'
            ]


FIX = "remove it, or give the limit rate or bandwidth or size"
LOCKOUT = "who claims another's name locks him out"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("", ["[[limit]]: limits nothing; give it rate or bandwidth or concurrent or size"]),
        ('on = "auth_failure"', ["[[limit]]: limits nothing; give it rate"]),
        (
            'rate = "1/s"\ntopic = [\n"a",\n"$share/g/b"]',
            [
                'limit.topic = "$share/g/b": no message has a topic like that; '
                "write the filter that stands behind $share/NAME/"
            ],
        ),
        (
            'on = "connect"\nrate = "1/s"\nper = ["ip", "topic/2"]',
            ['limit.per = "topic/2": on = "connect" has no topic; count by something else'],
        ),
        (
            'rate = "1/s"\non_excess = "drop"\nmax_delay = "1s"\nthen = "drop"',
            [
                'limit.max_delay = "1s": nothing is delayed; remove it, or write on_excess = "delay"',
                'limit.then = "drop": nothing is delayed; remove it, or write on_excess = "delay"',
            ],
        ),
        (
            'rate = "1/s"\non_excess = "drop"\nban = {}',
            ['limit.ban = {…}: nobody is banned; remove it, or write on_excess = "ban"'],
        ),
        (
            'rate = "1/s"\non_excess = "ban"\nper = "topic"',
            ['limit.per = "topic": there is nobody to ban; count per "ip", or ["client", "ip"]'],
        ),
        (
            'rate = "1/s"\non_excess = { qos0 = "drop", default = "ban" }',
            [
                f"limit.on_excess = {{…}}: a ban by client alone: {LOCKOUT}; "
                'write per = ["client", "ip"], or allow_lockout = true'
            ],
        ),
        (
            'rate = "1/s"\non_excess = "ban"\nper = ["username", "topic"]',
            [
                f'limit.per = ["username", "topic"]: a ban by username alone: {LOCKOUT}; '
                'write per = ["username", "topic", "ip"], or allow_lockout = true'
            ],
        ),
        (
            'on = "connect"\nrate = "1/s"\nper = "tenant"',
            [
                f'limit.per = "tenant": a refused connection by tenant alone: {LOCKOUT}; '
                'write per = ["tenant", "ip"], or allow_lockout = true'
            ],
        ),
        (
            'rate = "1/s"\nallow_lockout = true',
            [
                "limit.allow_lockout = true: nobody can be locked out; "
                "remove it; it is for bans, and for connect limits that refuse"
            ],
        ),
        (
            'on = "subscribe"',
            ["[[limit]]: limits nothing; give it rate or concurrent or depth or leading_wildcard or max_qos"],
        ),
        (
            'on = "will"\nwill_delay = "20s"\nper = "ip"\nmax_delay = "1s"',
            [
                f"limit.{key}: means nothing here: nothing exceeds will_delay; {FIX}"
                for key in ('per = "ip"', 'max_delay = "1s"')
            ],
        ),
        (
            'on = "subscribe"\nmax_qos = 1\non_excess = "observe"',
            [
                'limit.on_excess = "observe": means nothing here: nothing exceeds max_qos; '
                "remove it, or give the limit rate or concurrent or depth or leading_wildcard"
            ],
        ),
        *(
            (
                f'on = "deliver"\nsize = "1KiB"{more}',
                [
                    'limit.size = "1KiB": only QoS 0 can be dropped on its way to a client, and nothing gets smaller '
                    "by waiting; write qos = 0 in this limit"
                ],
            )
            for more in ("", "\nqos = [0, 1]", '\non_excess = { qos0 = "drop", default = "delay" }')
        ),
        (
            'on = "deliver"\nsize = 5\nqos = 0\nrate = "1/s"\nconflate = true',
            ["limit.size = 5: what is too large waits for ever beside conflate; give it a limit of its own"],
        ),
        (
            'on = "will"\nsize = 5',
            ['limit.size = 5: a will that is too large is sent all the same; write on_excess = "drop"'],
        ),
        (
            'on = "deliver"\nrate = "1/s"\nconflate = true\nmax_delay = "1s"\nthen = { qos0 = "drop" }',
            [
                f"limit.{key}: means nothing beside conflate: the newest waits for its turn; remove it"
                for key in ('max_delay = "1s"', "then = {…}")
            ],
        ),
        *(
            (
                f'on = "deliver"\nrate = "1/s"\nconflate = true\n{more}',
                [
                    'limit.conflate = true: no QoS 0 is delayed; remove it, or write on_excess = "delay", and QoS 0 '
                    "among those of `qos`"
                ],
            )
            for more in ("qos = [1, 2]", 'on_excess = { qos0 = "drop", default = "delay" }', 'on_excess = "observe"')
        ),
        (
            'on = "deliver"\nconcurrent = 5\nconflate = true',
            ["limit.conflate = true: no QoS 0 is delayed: a window does not count it; give it rate or bandwidth"],
        ),
        # What is wrong by itself is not complained about twice.
        ('rate = 5\nper = "client"\non_excess = 5\nban = {}', None),
    ],
)
def test_what_does_not_hold(keys: str, told: list[str] | None) -> None:
    found = limit_errors(keys)
    assert found == told if told is not None else len(found) == 2


@pytest.mark.parametrize(
    "keys",
    [
        'on_excess = "reject"\nmax_delay = "1s"',  # the v3 case is a delay
        'on_excess = "ban"\nper = ["client", "ip"]\nban = {}',
        'on_excess = "ban"\nallow_lockout = true',
        'on = "connect"\nper = ["username", "ip/24"]',
        'on = "connect"\nper = "username"\non_excess = "observe"',
        'on = "auth_failure"\nper = ["ip", "username"]',
        'on = "subscribe"\nper = "topic"',
        'on = "subscribe"\nmax_qos = 1\non_excess = "disconnect"',
        'on = "will"\nsize = 5\nthen = "drop"',
        'on = "will"\nsize = 5\non_excess = "observe"',
        'on = "deliver"\nqos = 0\nsize = 5',
        'on = "deliver"\nconflate = true\non_excess = { qos0 = "delay", default = "observe" }',
        'on = "deliver"\nconflate = false\nmax_delay = "1s"',
        'on_excess = "disconnect"\nper = "client"',
    ],
)
def test_what_only_looks_wrong(keys: str) -> None:
    limit_of(f'rate = "1/s"\n{keys}')
