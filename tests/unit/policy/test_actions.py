import pytest

from tidegate.policy.actions import after_delay, reached
from tidegate.policy.model import Action, BanTimes, Cases
from unit.policy.reading import limit_errors, limit_of

A = Action
RATE = 'rate = "1/s"\n'
BY_IP = 'rate = "1/s"\nper = "ip"\n'


@pytest.mark.parametrize(
    ("keys", "cases"),
    [
        ("", Cases(A.DELAY)),
        ('on_excess = "drop"', Cases(A.DROP)),
        # A client of MQTT 3 cannot be told: it waits, unless something is said.
        ('on_excess = "reject"', Cases(A.REJECT, {0: A.REJECT}, v3=A.DELAY)),
        ('on_excess = { default = "reject" }', Cases(A.REJECT, {0: A.REJECT}, v3=A.DELAY)),
        ('on_excess = { v3 = "drop", default = "reject" }', Cases(A.REJECT, v3=A.DROP)),
        ('on_excess = { v5 = "reject", default = "drop" }', Cases(A.DROP, v5=A.REJECT)),
        ('on_excess = { qos0 = "drop", qos2 = "disconnect" }', Cases(A.DELAY, {0: A.DROP, 2: A.DISCONNECT})),
        (
            'on_excess = { qos0 = "drop", v3 = "delay", default = "reject" }',
            Cases(A.REJECT, {0: A.DROP}, v3=A.DELAY),
        ),
        ('on = "connect"\non_excess = "disconnect"', Cases(A.REJECT)),
        (
            'on = "connect"\nper = ["client", "ip"]\non_excess = { v5 = "disconnect" }',
            Cases(A.DELAY, v5=A.REJECT),
        ),
        ('on = "subscribe"\non_excess = "reject"', Cases(A.REJECT)),
        ('on = "auth_failure"', Cases(A.BAN)),
        ('on = "auth_failure"\non_excess = { v5 = "observe" }', Cases(A.BAN, v5=A.OBSERVE)),
        ('on = "deliver"\non_excess = { qos0 = "drop", default = "delay" }', Cases(A.DELAY, {0: A.DROP})),
        ('on = "deliver"\nqos = 0\non_excess = "drop"', Cases(A.DROP)),
    ],
)
def test_on_excess(keys: str, cases: Cases) -> None:
    assert limit_of(RATE + keys).on_excess == cases


@pytest.mark.parametrize(
    ("keys", "cases"),
    [
        # Nobody is told of QoS 0: that is no reason to end a connection.
        ("", Cases(A.REJECT, {0: A.REJECT}, v3=A.DISCONNECT)),
        ('then = "reject"', Cases(A.REJECT, {0: A.REJECT}, v3=A.DISCONNECT)),
        ('then = { v5 = "drop" }', Cases(A.REJECT, {0: A.DROP}, v3=A.DISCONNECT, v5=A.DROP)),
        ('then = "drop"', Cases(A.DROP)),
        ('then = { v3 = "drop" }', Cases(A.REJECT, v3=A.DROP)),
        ('then = { qos0 = "drop" }', Cases(A.REJECT, {0: A.DROP}, v3=A.DISCONNECT)),
        ('on = "connect"\nthen = "disconnect"', Cases(A.REJECT)),
        ('on = "connect"', Cases(A.REJECT)),
        ('on = "subscribe"', Cases(A.REJECT)),
        ('on = "packet"', Cases(A.DISCONNECT)),
        ('on = "deliver"', Cases(A.DELAY, {0: A.DROP})),
        ('on = "deliver"\nthen = { qos0 = "drop" }', Cases(A.DELAY, {0: A.DROP})),
        ('on = "will"', Cases(A.PASS)),
        ('on = "will"\nthen = "drop"', Cases(A.DROP)),
    ],
)
def test_then(keys: str, cases: Cases) -> None:
    assert limit_of(RATE + keys).then == cases


TOLD = "a client of MQTT 3 cannot be told of a refusal"


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('on_excess = "delai"', ['limit.on_excess = "delai": unknown value; did you mean "delay"?']),
        (
            "on_excess = 5",
            [
                'limit.on_excess = 5: unknown value; write "observe" or "delay" or "drop" or "reject" or "disconnect" '
                'or "ban"'
            ],
        ),
        (
            "on_excess = {}",
            ['limit.on_excess = {…}: an empty table; write for instance { qos0 = "drop", default = "reject" }'],
        ),
        (
            'on_excess = { qos3 = "drop" }',
            ['limit.on_excess.qos3 = "drop": unknown key; did you mean `qos2`?'],
        ),
        (
            'on_excess = { v3 = "reject" }',
            [f'limit.on_excess.v3 = "reject": {TOLD}; write "delay", "drop" or "disconnect"'],
        ),
        ('then = { v3 = "reject" }', [f'limit.then.v3 = "reject": {TOLD}; write "drop" or "disconnect"']),
        (
            'on_excess = { qos1 = "reject" }',
            [
                f'limit.on_excess.qos1 = "reject": {TOLD}, and the QoS decides before the version; leave qos1 out and '
                'write default = "reject", with a v3 case'
            ],
        ),
        (
            'then = "observe"',
            ['limit.then = "observe": not possible after a delay; write "drop" or "reject" or "disconnect"'],
        ),
        (
            'on = "deliver"\non_excess = "drop"',
            [
                'limit.on_excess = "drop": only QoS 0 can be dropped on its way to a client; '
                'write { qos0 = "drop", default = "delay" }'
            ],
        ),
        (
            'on = "packet"\non_excess = { qos0 = "delay", default = "drop" }',
            [
                'limit.on_excess.qos0 = "delay": on = "packet" has no QoS; write cases default, v3 and v5 only',
                'limit.on_excess.default = "drop": not possible for on = "packet"; '
                'write "delay" or "disconnect" or "ban" or "observe"',
            ],
        ),
    ],
)
def test_what_is_wrong(keys: str, told: list[str]) -> None:
    assert limit_errors(RATE + keys) == told


@pytest.mark.parametrize(
    ("event", "actions"),
    [
        ("publish", "delay drop reject disconnect ban observe"),
        ("connect", "delay drop reject disconnect ban observe"),
        ("subscribe", "delay reject disconnect ban observe"),
        ("deliver", "delay drop observe"),
        ("will", "delay drop observe"),
        ("packet", "delay disconnect ban observe"),
        ("auth_failure", "ban disconnect observe"),
    ],
)
def test_which_event_has_which_actions(event: str, actions: str) -> None:
    for action in ("delay", "drop", "reject", "disconnect", "ban", "observe"):
        keys = f'on = "{event}"\nrate = "1/s"\nper = "ip"\nqos = 0\non_excess = "{action}"\n'
        if event not in ("publish", "deliver", "will"):
            keys = keys.replace("qos = 0\n", "")
        if action in actions.split():
            assert limit_of(keys).on_excess.default.name.lower() in (action, "reject")
        else:
            (told,) = limit_errors(keys)
            assert told.startswith(f'limit.on_excess = "{action}": not possible for on = "{event}"; write ')


@pytest.mark.parametrize(
    ("written", "times"),
    [
        ("{}", BanTimes()),
        ('{ first = "1min", factor = 2, max = "24h" }', BanTimes(60, 2, 86400)),
        ("{ factor = 1.5 }", BanTimes(30, 1.5, 3600)),
    ],
)
def test_bans(written: str, times: BanTimes) -> None:
    assert limit_of(f'{BY_IP}on_excess = "ban"\nban = {written}').ban == times


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("5", 'limit.ban = 5: not a table; write { first = "30s", factor = 4, max = "1h" }'),
        ("{ factor = 0.5 }", "limit.ban.factor = 0.5: not a number from 1 to 100; write for instance 4"),
        ("{ factor = nan }", "limit.ban.factor = nan: not a number from 1 to 100"),
        ("{ factor = true }", "limit.ban.factor = true: not a number from 1 to 100"),
        ('{ first = "2h" }', "limit.ban = {…}: the first ban is longer than the longest; write a longer `max`"),
        ('{ longest = "2h" }', 'limit.ban.longest = "2h": unknown key; known are first, factor, max'),
        ('{ first = "2h", max = 5 }', "limit.ban.max = 5: a time needs its unit"),
    ],
)
def test_what_is_no_ban(written: str, told: str) -> None:
    (line,) = limit_errors(f'{BY_IP}on_excess = "ban"\nban = {written}')
    assert line.startswith(told)


def test_what_can_be_reached() -> None:
    cases = Cases(A.REJECT, {0: A.DROP}, v3=A.DELAY)
    assert reached(cases) == {A.DROP, A.DELAY, A.REJECT}
    assert reached(cases, (0,)) == {A.DROP}


def test_what_can_follow_a_delay() -> None:
    on_excess, then = Cases(A.DELAY, {0: A.DROP}), Cases(A.REJECT, {0: A.DROP}, v3=A.DISCONNECT)
    assert after_delay(on_excess, then) == {A.REJECT, A.DISCONNECT}
    assert after_delay(on_excess, then, (0,)) == set()
    assert after_delay(Cases(A.REJECT, v3=A.DELAY), then, (1, 2)) == {A.DISCONNECT}
