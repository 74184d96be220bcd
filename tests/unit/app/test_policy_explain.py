import json
from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.app.policy_explain import Answer, Met, explain, explain_json
from tidegate.app.policy_question import BadQuestion, Question
from tidegate.policy.problems import SettingsError

GATEWAY = '[gateway]\nlisten = ["tcp://127.0.0.1:1883", "unix:/run/t.sock"]\nmax_packet = "64KiB"\n'
CLASSES = """\
[class.plc]
username = "plc-*"
priority = "critical"
[class.oncall]
username = "{shift}:*"
exempt = true
[class.site]
client_id = "{site}-{number}"
"""
DROP = 'on_excess = "drop"'
ASKED = Question("plant/1/t", client_id="c")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    return tmp_path / "t.toml"


def limits(file: Path, *keys: str) -> None:
    """The file has a limit for each of these texts; the first is called a."""
    tables = (f'[[limit]]\nname = "{"abcdef"[number]}"\n{text}\n' for number, text in enumerate(keys))
    file.write_text(GATEWAY + CLASSES + "".join(tables))


def ask(file: Path, **changes: object) -> Answer:
    return explain(file, replace(ASKED, **changes))  # type: ignore[arg-type]


def only(file: Path, keys: str, **changes: object) -> Met:
    """How the only limit, which must be met, is told."""
    limits(file, f"{keys}\n{DROP}" if "on_excess" not in keys else keys)
    answer = ask(file, **changes)
    assert not answer.not_met
    (met,) = answer.met
    return met


@pytest.mark.parametrize(
    ("per", "changes", "keys"),
    [
        ("client", {}, {"client": "c"}),
        ("client", {"client_id": ""}, {"client": "this connection, which has no client id"}),
        ("username", {"username": "u"}, {"username": "u"}),
        ("username", {"username": ""}, {"username": ""}),
        ("username", {}, {"username": "all who have no user name"}),
        ("ip", {}, {"ip/32/64": "127.0.0.1"}),
        ("ip", {"address": "2001:db8::1:2"}, {"ip/32/64": "2001:db8::/64"}),
        ("ip/24/56", {"address": "192.0.2.77"}, {"ip/24/56": "192.0.2.0/24"}),
        ("ip/24/128", {"address": "fe80::1%eth0"}, {"ip/24/128": "fe80::1"}),
        ("ip", {"address": "::ffff:192.0.2.1"}, {"ip/32/64": "192.0.2.1"}),
        ("ip", {"address": "unix"}, {"ip/32/64": "all who come by a Unix socket"}),
        ("listener", {}, {"listener": "tcp://127.0.0.1:1883"}),
        ("listener", {"listener": "unix:/run/t.sock"}, {"listener": "unix:/run/t.sock"}),
        ("class", {"username": "plc-1", "client_id": "x-1"}, {"class": "plc"}),
        ("class", {}, {"class": "all who are in no class"}),
        ("topic", {}, {"topic": "plant/1/t"}),
        ("topic/2", {}, {"topic/2": "plant/1"}),
        ("topic/9", {}, {"topic/9": "plant/1/t"}),
        ("site", {"client_id": "mill-press-7"}, {"site": "mill"}),
        ("number", {"client_id": "mill-press-7"}, {"number": "press-7"}),
        ("all", {}, {"all": "everybody together"}),
    ],
)
def test_what_is_counted_per(file: Path, per: str, changes: dict[str, object], keys: dict[str, str]) -> None:
    assert only(file, f'per = "{per}"\nrate = "1/s"', **changes).keys == keys


def test_several_keys_are_told_in_their_order(file: Path) -> None:
    met = only(file, 'per = ["topic/1", "client"]\nrate = "1/s"')
    assert list(met.keys.items()) == [("topic/1", "plant"), ("client", "c")]


@pytest.mark.parametrize(
    ("numbers", "changes", "budgets"),
    [
        ('rate = "20/s burst 40"', {}, {"rate": ["20/s burst 40"]}),
        ('rate = ["20/s", "600/min", "5/10s", "7/250ms", "1/2d"]', {}, None),
        (
            'rate = ["20/s", "600/min", "5/10s", "7/250ms"]',
            {},
            {"rate": ["20/s burst 20", "600/min burst 600", "5/10s burst 5", "7/250ms burst 7"]},
        ),
        ('rate = "3/120min"', {}, {"rate": ["3/2h burst 3"]}),
        ('bandwidth = "64KiB/s burst 1MiB"', {}, {"bandwidth": ["64KiB/s burst 1MiB"]}),
        ('size = "1KiB"', {}, {"size": ["1KiB"]}),
        ('concurrent = 5\nsize = "4B"', {"size": 0}, {"concurrent": ["5"], "size": ["4B"]}),
        ('rate = { default = "1/s", plc = "9/s" }', {}, {"rate": ["1/s burst 1"]}),
        ('rate = { default = "1/s", plc = "9/s" }', {"username": "plc-1"}, {"rate": ["9/s burst 9"]}),
        (
            'rate = { default = "1/s", plc = "9/s", site = "3/s" }',
            {"username": "plc-1", "client_id": "a-1"},
            {"rate": ["3/s burst 3"]},
        ),
        ('rate = { default = "1/s", plc = "none" }\nsize = "1KiB"', {"username": "plc-1"}, {"size": ["1KiB"]}),
    ],
)
def test_budgets_are_those_of_the_client(
    file: Path, numbers: str, changes: dict[str, object], budgets: dict[str, list[str]] | None
) -> None:
    if budgets is None:
        with pytest.raises(SettingsError):
            only(file, numbers, **changes)
    else:
        assert only(file, numbers, **changes).budgets == budgets


@pytest.mark.parametrize(
    ("on_excess", "version", "qos", "action", "wire"),
    [
        ('"drop"', "5", 0, "drop", "discarded, and nothing is said"),
        ('"drop"', "5", 1, "drop", "discarded, and acknowledged (PUBACK) as if it had arrived"),
        ('"drop"', "3.1", 2, "drop", "discarded, and acknowledged (PUBREC) as if it had arrived"),
        ('{ v3 = "drop", default = "reject" }', "5", 0, "reject", "discarded, and nothing is said"),
        ('{ v3 = "drop", default = "reject" }', "5", 1, "reject", "PUBACK 0x97 (quota exceeded)"),
        ('{ v3 = "drop", default = "reject" }', "5", 2, "reject", "PUBREC 0x97 (quota exceeded)"),
        ('{ v3 = "drop", default = "reject" }', "3.1.1", 1, "drop", "discarded, and acknowledged (PUBACK)"),
        ('{ qos0 = "observe", default = "disconnect" }', "5", 0, "observe", "passes, and is counted"),
        ('"disconnect"', "5", 1, "disconnect", "DISCONNECT 0x96"),
        ('"disconnect"', "3.1.1", 0, "disconnect", "the connection is closed without a word"),
        ('"observe"', "5", 1, "observe", "passes, and is counted"),
    ],
)
def test_what_the_client_sees_depends_on_version_and_qos(
    file: Path, on_excess: str, version: str, qos: int, action: str, wire: str
) -> None:
    met = only(file, f'rate = "1/s"\non_excess = {on_excess}', version=version, qos=qos)
    assert met.enforced
    assert met.action == action
    assert met.wire.startswith(wire)


CLOSED = "the connection is closed without a word: MQTT 3 has none for it"
REJECTED = "PUBACK 0x97 (quota exceeded), with the reason and retry-after-ms"


@pytest.mark.parametrize(
    ("keys", "changes", "max_delay", "then", "wire"),
    [
        (
            'rate = "1/s"',
            {},
            5.0,
            "reject",
            f"held back until its budget allows it, at most 5s; then reject: {REJECTED}",
        ),
        (
            'bandwidth = "1KiB/s"\nmax_delay = "250ms"\nthen = "drop"',
            {"qos": 2},
            0.25,
            "drop",
            "held back until its budget allows it, at most 250ms; then drop: discarded, and acknowledged (PUBREC) as "
            "if it had arrived",
        ),
        (
            "concurrent = 5",
            {"version": "3.1.1"},
            5.0,
            "disconnect",
            f"held back until one in flight is acknowledged, at most 5s; then disconnect: {CLOSED}",
        ),
        (
            'concurrent = 5\nrate = "1/s"\nmax_delay = "2min"',
            {},
            120.0,
            "reject",
            "held back until one in flight is acknowledged and its budget allows it, at most 2min; then reject: "
            + REJECTED,
        ),
        (
            'concurrent = 5\nrate = "1/s"',
            {"qos": 0},
            5.0,
            "reject",
            "held back until its budget allows it, at most 5s; then reject: discarded, and nothing is said: QoS 0 is "
            "never answered",
        ),
        (
            "concurrent = 5",
            {"qos": 0},
            5.0,
            "reject",
            "never happens: QoS 0 is not acknowledged, so a window does not count it",
        ),
        (
            "concurrent = 5",
            {"qos": 2},
            5.0,
            "reject",
            "held back until one in flight is acknowledged, at most 5s; then reject: PUBREC 0x97 (quota exceeded), "
            "with the reason",
        ),
        (
            'size = "1KiB"',
            {},
            5.0,
            "reject",
            "as waiting makes nothing smaller, at once reject: PUBACK 0x97 (quota exceeded), with the reason",
        ),
    ],
)
def test_a_delay_is_told_with_what_follows_it(
    file: Path, keys: str, changes: dict[str, object], max_delay: float, then: str, wire: str
) -> None:
    limits(file, keys)
    (met,) = ask(file, **{"qos": 1, **changes}).met
    assert met.enforced
    assert (met.action, met.max_delay, met.then, met.wire) == ("delay", max_delay, then, wire)


def test_what_waits_for_nothing_has_no_delay(file: Path) -> None:
    met = only(file, f'concurrent = 5\nrate = "1/s"\n{DROP}', qos=1)
    assert (met.action, met.max_delay, met.then) == ("drop", None, None)
    assert met.wire == "discarded, and acknowledged (PUBACK) as if it had arrived"
    assert only(file, f"concurrent = 5\n{DROP}").wire.startswith("never happens: QoS 0 is not acknowledged")


@pytest.mark.parametrize(
    ("keys", "times"),
    [
        ("", "for 30s, 4 times as long each next time, at most 1h"),
        (
            'ban = { first = "2min", factor = 1.5, max = "24h" }',
            "for 2min, 1.5 times as long each next time, at most 24h",
        ),
        ('ban = { first = "2min", factor = 1 }', "for 2min"),
        ('ban = { first = "2min", max = "2min" }', "for 2min"),
    ],
)
def test_a_ban_is_told_with_its_times(file: Path, keys: str, times: str) -> None:
    met = only(file, f'rate = "1/s"\non_excess = "ban"\nper = ["ip", "client"]\n{keys}')
    assert met.enforced
    assert (met.action, met.wire) == (
        "ban",
        "DISCONNECT 0x96 (message rate too high) with the reason, and the connection is closed; "
        f"whoever has the same ip and client is banned {times}",
    )


def test_what_is_not_enforced_yet_is_marked(file: Path) -> None:
    met = only(file, 'rate = "1/s"\nshared = true')
    assert not met.enforced
    assert met.action == "drop"
    assert met.wire.startswith("discarded")


def test_only_the_limits_that_are_not_enforced_are_marked(file: Path) -> None:
    limits(file, f'rate = "1/s"\n{DROP}', 'rate = "1/s"\nshared = true', 'rate = "1/s"')
    file.write_text(file.read_text() + '[class.sealed]\ncn = "x"\n')
    assert [met.enforced for met in ask(file).met] == [True, False, True]


def test_where_a_limit_is_written(file: Path) -> None:
    limits(file, f'rate = "1/s"\n{DROP}', f'rate = "2/s"\n{DROP}')
    lines = file.read_text().splitlines()
    for met in ask(file).met:
        name, _, line = met.place.rpartition(":")
        assert name == str(file)
        assert lines[int(line) - 1] == "[[limit]]"
        assert lines[int(line)] == f'name = "{met.name}"'


@pytest.mark.parametrize(
    ("keys", "changes", "reasons"),
    [
        ('topic = "plant/+/set/#"', {}, ["the topic does not match plant/+/set/#"]),
        ('topic = ["a", "b/#", "c"]', {}, ["the topic does not match a, b/# or c"]),
        ('topic = "#"', {"topic": "$SYS/x"}, ["the topic does not match #"]),
        ('except_topic = ["a", "plant/#"]', {}, ["the topic is excepted by plant/#"]),
        ("qos = [1, 2]", {}, ["the QoS is not 1 or 2"]),
        ("retain = true", {}, ["the message is not retained"]),
        ('class = "plc"', {}, ["the client is not in class plc"]),
        ('class = ["plc", "site"]', {}, ["the client is not in class plc or site"]),
        ('class = "!plc"', {"username": "plc-1"}, ["the client is in class plc"]),
        ('client_id = "d*"', {}, ["the client id is not d*"]),
        ('username = ["a", "b"]', {"username": "c"}, ["the user name is not a or b"]),
        ('username = "*"', {}, ["the client has no user name"]),
        ('cidr = "10.0.0.0/8"', {}, ["the address is not in 10.0.0.0/8"]),
        ('cidr = "::/0"', {"address": "unix"}, ["the address is not in ::/0"]),
        ('listener = "unix:/run/t.sock"', {}, ["the listener is not unix:/run/t.sock"]),
        ('per = "site"', {}, ["no class of the client captures {site}"]),
        (
            'topic = "x"\nqos = 2\nclass = "plc"',
            {},
            ["the topic does not match x", "the QoS is not 2", "the client is not in class plc"],
        ),
    ],
)
def test_all_that_keeps_a_limit_from_being_met(
    file: Path, keys: str, changes: dict[str, object], reasons: list[str]
) -> None:
    limits(file, f'{keys}\nrate = "1/s"\n{DROP}')
    answer = ask(file, **changes)
    assert answer.met == []
    assert answer.not_met == {"a": reasons}


@pytest.mark.parametrize(
    ("rate", "username"), [('{ default = "1/s", plc = "none" }', "plc-1"), ('{ plc = "1/s" }', "u")]
)
def test_a_limit_without_a_number_for_the_client_is_not_met(file: Path, rate: str, username: str) -> None:
    limits(file, f"rate = {rate}\n{DROP}")
    assert ask(file, username=username).not_met == {"a": ['it has no number for this client: "none", or no default']}


def test_classes_know_more_than_limits(file: Path) -> None:
    conditions = ['version = ["3.1", "3.1.1"]', "clean_start = false", "bridge = true"]
    classes = "".join(f"[class.k{number}]\n{text}\n" for number, text in enumerate(conditions))
    file.write_text(classes)
    assert ask(file).classes == []
    assert ask(file, version="3.1.1", clean_start=False, bridge=True).classes == ["k0", "k1", "k2"]


def test_limits_on_other_events_are_not_this_messages_business(file: Path) -> None:
    limits(file, 'on = "connect"\nrate = "1/s"', f'rate = "1/s"\n{DROP}', 'on = "packet"\nrate = "1/s"')
    answer = ask(file)
    assert ([met.name for met in answer.met], answer.not_met) == (["b"], {})


def test_classes_and_priority(file: Path) -> None:
    limits(file, f'rate = "1/s"\n{DROP}')
    answer = ask(file, username="plc-1", client_id="a-1")
    assert (answer.classes, answer.priority, answer.exempt) == (["plc", "site"], "critical", False)
    answer = ask(file)
    assert (answer.classes, answer.priority, answer.exempt) == ([], "normal", False)


def test_who_is_exempt_is_never_limited(file: Path) -> None:
    limits(file, f'size = "1B"\n{DROP}')
    answer = ask(file, username="night:x")
    assert answer.exempt
    assert (answer.verdict, answer.by) == ("pass", None)
    assert [met.name for met in answer.met] == ["a"]


@pytest.mark.parametrize(("payload", "verdict", "by"), [(10, "pass", None), (11, "drop", "a"), (21, "disconnect", "b")])
def test_what_is_too_large_is_over_the_limit_at_once(file: Path, payload: int, verdict: str, by: str | None) -> None:
    limits(file, f'size = "10B"\n{DROP}', 'size = "20B"\non_excess = "disconnect"')
    answer = ask(file, size=payload)
    assert (answer.verdict, answer.by) == (verdict, by)


@pytest.mark.parametrize(("version", "verdict"), [("5", "reject"), ("3.1.1", "disconnect")])
def test_what_is_too_large_does_not_wait_to_get_smaller(file: Path, version: str, verdict: str) -> None:
    limits(file, 'size = "10B"\nrate = "1/s"')
    answer = ask(file, size=11, version=version, qos=1)
    assert (answer.verdict, answer.by) == (verdict, "a")


@pytest.mark.parametrize(
    ("changes", "packet"),
    [
        ({"version": "3.1.1", "size": 0}, "13B"),
        ({"version": "5", "size": 0}, "14B"),
        ({"version": "5", "size": 0, "qos": 1}, "16B"),
        ({"version": "3.1.1", "size": 127 - 11}, "129B"),
        ({"version": "3.1.1", "size": 128 - 11}, "131B"),
    ],
)
def test_the_packet_is_as_large_as_on_the_wire(file: Path, changes: dict[str, object], packet: str) -> None:
    limits(file)
    assert ask(file, **changes).message["packet"] == packet


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"topic": "a/+"}, "--topic: the topic name holds a wildcard"),
        ({"topic": ""}, "--topic: "),
        ({"topic": "x" * 65536}, "--topic: 65536 bytes"),
        ({"topic": "\udcff"}, "--topic: not UTF-8"),
        ({"client_id": "\udcff"}, "--client-id: not UTF-8"),
        ({"username": "\udcff"}, "--username: not UTF-8"),
        ({"address": "300.0.0.1"}, "--ip: '300.0.0.1' is no address"),
        ({"address": "10.0.0.0/8"}, "--ip: '10.0.0.0/8' is no address"),
        ({"address": "unix", "listener": "tcp://127.0.0.1:1883"}, "--ip: nobody comes from unix to tcp://"),
        ({"address": "10.0.0.1", "listener": "unix:/run/t.sock"}, "--ip: nobody comes from 10.0.0.1 to unix:"),
        ({"listener": "127.0.0.1:1883"}, "--listener: an address without its kind"),
        ({"listener": "tcp://127.0.0.1:1"}, "--listener: gateway.listen has no tcp://127.0.0.1:1; it has tcp://"),
        ({"size": 1 << 16}, "--size: the packet is larger than gateway.max_packet = 64KiB"),
        ({"size": (1 << 16) - 14}, "--size: the packet is larger"),
        ({"size": 1 << 40}, "--size: the packet is larger"),
    ],
)
def test_a_message_that_cannot_be(file: Path, changes: dict[str, object], told: str) -> None:
    limits(file)
    with pytest.raises(BadQuestion) as caught:
        ask(file, **changes)
    assert str(caught.value).startswith(told)


def test_an_address_finds_the_listener_that_it_can_come_to(file: Path) -> None:
    limits(file)
    assert ask(file).client["listener"] == "tcp://127.0.0.1:1883"
    assert ask(file, address="unix").client["listener"] == "unix:/run/t.sock"
    assert ask(file, listener="unix:/run/t.sock").client["address"] == "unix"
    file.write_text('[gateway]\nlisten = "unix:/run/t.sock"\n')
    assert ask(file).client["address"] == "unix"
    with pytest.raises(BadQuestion, match=r"^--ip: gateway\.listen has no port; it has unix:/run/t\.sock$"):
        ask(file, address="10.0.0.1")
    file.write_text("")
    with pytest.raises(BadQuestion, match=r"^--ip: gateway\.listen has no Unix socket; it has tcp:"):
        ask(file, address="unix")


def test_a_wrong_file_is_told_before_the_question(file: Path) -> None:
    file.write_text("[gatway]\n")
    with pytest.raises(SettingsError):
        ask(file, topic="#")


# Connections


def arrive(file: Path, on: str = "connect", **changes: object) -> Answer:
    return ask(file, topic=None, on=on, **changes)


ANSWERED = "its CONNECT is answered by CONNACK 0x9F (connection rate exceeded) with the reason and retry-after-ms"
RETRY = ANSWERED.removeprefix("its CONNECT is answered by ")


def test_each_limit_on_connect_is_told_with_its_stage(file: Path) -> None:
    limits(
        file,
        'on = "connect"\nrate = "1/s"\nper = ["username", "ip"]\non_excess = "drop"',
        'on = "connect"\nrate = "5/s"\nconcurrent = 9\non_excess = "reject"',
        f'rate = "1/s"\n{DROP}',
        'on = "connect"\nrate = "1/s"\nclass = "plc"',
    )
    answer = arrive(file, username="u")
    assert (answer.on, answer.message, answer.verdict, answer.by) == ("connect", {"packet": "19B"}, "pass", None)
    early, late = answer.met
    assert (early.name, early.stage, early.awaits) == ("b", "accept", [])
    assert (early.keys, early.budgets) == ({"ip/32/64": "127.0.0.1"}, {"rate": ["5/s burst 5"], "concurrent": ["9"]})
    assert (early.action, early.wire) == ("reject", f"{ANSWERED} or CONNACK 0x97 (quota exceeded) with the reason")
    assert (late.name, late.stage, late.awaits) == ("a", "connect", ['per "username"'])
    assert (late.keys, late.wire) == (
        {"username": "u", "ip/32/64": "127.0.0.1"},
        "the connection is closed without an answer",
    )
    assert answer.not_met == {"d": ["the client is not in class plc"]}


@pytest.mark.parametrize(
    ("keys", "version", "wire"),
    [
        ('rate = "1/s"\non_excess = "reject"', "5", ANSWERED),
        ('rate = "1/s"\non_excess = "disconnect"', "3.1", "its CONNECT is answered by CONNACK 3 (server unavailable)"),
        ('rate = "1/s"\non_excess = "drop"', "5", "the connection is closed without an answer"),
        ('rate = "1/s"\non_excess = "observe"', "5", "passes, and is counted"),
        (
            'concurrent = 5\nper = ["client", "ip"]\non_excess = { v5 = "reject", default = "drop" }',
            "5",
            "it is answered by CONNACK 0x97 (quota exceeded) with the reason",
        ),
        (
            'concurrent = 5\nper = ["client", "ip"]\non_excess = { v5 = "reject", default = "drop" }',
            "3.1.1",
            "the connection is closed without an answer",
        ),
        (
            'size = "1KiB"',
            "5",
            "as waiting makes nothing smaller, at once reject: it is answered by CONNACK 0x95 (packet too large) with "
            "the reason",
        ),
        (
            'rate = "1/s"',
            "5",
            f"has to wait, and is not read, until its budget allows it, at most 5s; then reject: {ANSWERED}",
        ),
        (
            'rate = "1/s"\nconcurrent = 5\nmax_delay = "2s"\nthen = "drop"',
            "5",
            "has to wait, and is not read, until one connection ends and its budget allows it, at most 2s; then drop: "
            "the connection is closed without an answer",
        ),
        (
            'rate = "1/s"\non_excess = "ban"\nper = "ip/24"\nban = { factor = 1 }',
            "5",
            "its CONNECT is answered by CONNACK 0x8A (banned); whoever has the same ip/24/64 is banned for 30s",
        ),
        (
            'rate = "1/s"\non_excess = "ban"\nper = ["username", "ip"]\nban = { factor = 1 }',
            "3.1.1",
            "it is answered by CONNACK 5 (not authorized); whoever has the same username and ip is banned for 30s",
        ),
    ],
)
def test_what_a_client_sees_that_may_not_come_in(file: Path, keys: str, version: str, wire: str) -> None:
    limits(file, f'on = "connect"\n{keys}')
    (met,) = arrive(file, version=version).met
    assert met.enforced
    assert met.wire == wire


@pytest.mark.parametrize(("size", "verdict", "by"), [(100, "pass", None), (101, "reject", "b")])
def test_a_connect_may_be_too_large(file: Path, size: int, verdict: str, by: str | None) -> None:
    limits(file, 'on = "connect"\nrate = "1/s"', 'on = "connect"\nsize = "100B"')
    answer = arrive(file, size=size)
    assert (answer.verdict, answer.by, answer.message) == (verdict, by, {"packet": f"{size}B"})


@pytest.mark.parametrize(
    ("keys", "version", "wire"),
    [
        (
            "ban = { factor = 1 }",
            "5",
            "in place of the broker's answer it gets CONNACK 0x8A (banned); whoever has the same ip is banned for 30s",
        ),
        (
            'per = ["ip", "username"]\nban = { factor = 1 }',
            "3.1.1",
            "in place of the broker's answer it gets CONNACK 5 (not authorized); "
            "whoever has the same ip and username is banned for 30s",
        ),
        ('on_excess = "disconnect"', "5", "the connection is closed without the broker's answer"),
        ('on_excess = "observe"', "5", "gets its answer, and is counted"),
    ],
)
def test_what_a_client_sees_that_guesses(file: Path, keys: str, version: str, wire: str) -> None:
    limits(file, f'on = "auth_failure"\nrate = "5/min"\n{keys}', 'on = "connect"\nrate = "1/s"')
    answer = arrive(file, "auth_failure", version=version)
    assert (answer.on, answer.message, answer.verdict, answer.not_met) == ("auth_failure", {}, "pass", {})
    (met,) = answer.met
    assert (met.name, met.stage, met.wire, met.enforced) == ("a", None, wire, True)


def test_who_only_says_that_he_is_exempt_is_not_yet(file: Path) -> None:
    limits(file, 'on = "connect"\nrate = "1/s"', 'on = "connect"\nrate = "1/s"\nper = ["client", "ip"]', GUESSING)
    answer = arrive(file, username="night:x")
    assert answer.exempt
    assert [(met.name, met.exempt) for met in answer.met] == [("a", False), ("b", True)]
    answer = arrive(file, "auth_failure", username="night:x")
    assert answer.exempt
    assert [met.exempt for met in answer.met] == [False]


def test_who_is_exempt_for_his_address_is_from_the_start(file: Path) -> None:
    limits(file, 'on = "connect"\nrate = "1/s"', GUESSING)
    file.write_text(file.read_text() + '[class.staff]\ncidr = "127.0.0.0/8"\nexempt = true\n')
    for on in ("connect", "auth_failure"):
        assert [met.exempt for met in arrive(file, on).met] == [True]


GUESSING = 'on = "auth_failure"\nrate = "5/min"'


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"on": "publish"}, "--topic: a message has one; write --topic TOPIC, or ask with --on about something else"),
        ({"topic": "a"}, "--topic: means nothing with --on connect; leave it out"),
        ({"qos": 1}, "--qos: means nothing with --on connect"),
        ({"retain": True}, "--retain: means nothing with --on connect"),
        ({"on": "auth_failure", "size": 64}, "--size: means nothing with --on auth_failure"),
        ({"on": "auth_failure", "topic": "a"}, "--topic: means nothing with --on auth_failure"),
        ({"size": 13}, "--size: a CONNECT that says this has 14 bytes at least; write more, or leave it out"),
        ({"username": "x" * 100, "size": 14}, "--size: a CONNECT that says this has 116 bytes at least"),
        ({"size": (1 << 16) + 1}, "--size: the packet is larger than gateway.max_packet = 64KiB"),
        ({"client_id": "x" * 65_535}, "--client-id: "),
    ],
)
def test_a_connection_that_cannot_be(file: Path, changes: dict[str, object], told: str) -> None:
    limits(file)
    with pytest.raises(BadQuestion) as caught:
        ask(file, **{"topic": None, "on": "connect", "version": "3.1.1", "client_id": "", **changes})
    assert str(caught.value).startswith(told)


def test_json_is_an_object_of_plain_values(file: Path) -> None:
    limits(file, f'rate = "1/s"\n{DROP}', 'qos = 2\nrate = "1/s"\non_excess = "observe"')
    line = file.read_text().splitlines().index("[[limit]]") + 1
    assert json.loads(explain_json(ask(file))) == {
        "client": {
            "client_id": "c",
            "address": "127.0.0.1",
            "listener": "tcp://127.0.0.1:1883",
            "version": "5",
            "session": "new",
            "bridge": "false",
        },
        "on": "publish",
        "message": {"topic": "plant/1/t", "qos": "0", "retain": "false", "payload": "64B", "packet": "78B"},
        "classes": [],
        "priority": "normal",
        "exempt": False,
        "verdict": "pass",
        "by": None,
        "met": [
            {
                "name": "a",
                "place": f"{file}:{line}",
                "stage": None,
                "awaits": [],
                "keys": {"client": "c"},
                "budgets": {"rate": ["1/s burst 1"]},
                "action": "drop",
                "max_delay": None,
                "then": None,
                "wire": "discarded, and nothing is said: QoS 0 is never answered",
                "exempt": False,
                "enforced": True,
            }
        ],
        "not_met": {"b": ["the QoS is not 2"]},
        "changed": None,
    }
