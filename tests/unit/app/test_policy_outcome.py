"""What limits on subscribers, wills and packets do, in words; the other events are in test_policy_explain.py."""

import pytest

from tidegate.app.policy_outcome import Excess, outcome
from unit.policy.reading import limit_of

BUDGETS = ("rate", "bandwidth", "concurrent", "size", "depth", "max_qos", "leading_wildcard", "will_delay")


def told(keys: str, version: int = 5, qos: int = 0) -> str:
    return outcome(Excess(limit_of(keys), [key for key in BUDGETS if f"{key} = " in keys], version, qos))


DELIVER = 'on = "deliver"\n'
LOST = "discarded: this client does not get it"
NEWEST = "held back until its budget allows it, however long that takes; of each topic, only the newest is kept"


@pytest.mark.parametrize(
    ("keys", "qos", "seen"),
    [
        ('rate = "1/s"', 0, f"held back until its budget allows it, at most 5s; then drop: {LOST}"),
        ('rate = "1/s"', 1, "held back until its budget allows it, however long that takes"),
        ('rate = "1/s"\nconflate = true', 0, NEWEST),
        ('rate = "1/s"\nconflate = true', 2, "held back until its budget allows it, however long that takes"),
        ("concurrent = 5", 1, "held back until one in flight is acknowledged, however long that takes"),
        ("concurrent = 5", 0, "never happens: QoS 0 is not acknowledged, so a window does not count it"),
        ("qos = 0\nsize = 5", 0, f"as waiting makes nothing smaller, at once drop: {LOST}"),
        ('rate = "1/s"\non_excess = { qos0 = "drop", default = "delay" }', 0, LOST),
        ('rate = "1/s"\non_excess = "observe"', 0, "passes, and is counted"),
    ],
)
def test_what_is_delivered(keys: str, qos: int, seen: str) -> None:
    assert told(DELIVER + keys, qos=qos) == seen


SUBSCRIBE = 'on = "subscribe"\n'
FAILED = "SUBACK 0x97 (quota exceeded) for this filter, with the reason{}; the others of its packet are not concerned"
RETRY = FAILED.format(" and retry-after-ms")
FAILED_3 = "SUBACK 0x80 (failure) for this filter; the others of its packet are not concerned"


@pytest.mark.parametrize(
    ("keys", "version", "seen"),
    [
        ("depth = 5", 5, f"as waiting makes nothing smaller, at once reject: {FAILED.format('')}"),
        (
            'leading_wildcard = false\non_excess = "reject"',
            4,
            FAILED_3,
        ),
        (
            'rate = "1/s"\non_excess = "reject"',
            3,
            "the connection is closed: MQTT 3.1 cannot refuse a subscription",
        ),
        (
            'concurrent = 5\nrate = "1/s"',
            5,
            "held back until one subscription ends and its budget allows it, at most 5s; then reject: " + RETRY,
        ),
        (
            'rate = "1/s"\non_excess = "disconnect"',
            4,
            "the connection is closed without a word: MQTT 3 has none for it",
        ),
        (
            'depth = 5\non_excess = "disconnect"',
            5,
            "DISCONNECT 0x97 (quota exceeded) with the reason, and the connection is closed",
        ),
        ("max_qos = 1", 5, "never happens: nothing exceeds max_qos"),
    ],
)
def test_what_is_subscribed_to(keys: str, version: int, seen: str) -> None:
    assert told(SUBSCRIBE + keys, version) == seen


UNSENT = "never sent: the broker is told that the client has gone on purpose"
HELD = "held back until its budget allows it, unless its client comes back before, at most 5s; then"


@pytest.mark.parametrize(
    ("keys", "seen"),
    [
        ('rate = "1/s"', f"{HELD} pass: it is sent all the same"),
        ('rate = "1/s"\nthen = "drop"', f"{HELD} drop: {UNSENT}"),
        ('size = 5\non_excess = "drop"', UNSENT),
        ('will_delay = "20s"', "never happens: nothing exceeds will_delay"),
    ],
)
def test_wills(keys: str, seen: str) -> None:
    assert told(f'on = "will"\n{keys}') == seen


@pytest.mark.parametrize(
    ("keys", "seen"),
    [
        (
            "",
            "has to wait, and its client is not read, until its budget allows it, at most 5s; then "
            "disconnect: DISCONNECT 0x96 (message rate too high) with the reason, and the connection is closed",
        ),
        (
            'on_excess = "ban"\nper = ["client", "ip"]\nban = { first = "1min", factor = 1 }',
            "DISCONNECT 0x96 (message rate too high) with the reason, and the connection is closed; "
            "whoever has the same client and ip is banned for 1min",
        ),
    ],
)
def test_any_packet(keys: str, seen: str) -> None:
    assert told(f'on = "packet"\nrate = "1/s"\n{keys}') == seen
