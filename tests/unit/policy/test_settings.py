# ruff: noqa: E501  the table holds the lines as a person sees them
from pathlib import Path

import pytest

from tidegate.policy.address import Address
from tidegate.policy.model import Policy
from tidegate.policy.problems import SettingsError
from tidegate.policy.settings import Settings, check, load
from tidegate.policy.toml import parse


def settings(text: str) -> Settings:
    return check(parse(text.encode(), "t.toml"))


def errors(text: str) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        settings(text)
    return str(raised.value).splitlines()


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/tidegate")
    for it in (load(None), settings(""), settings("[gateway]\n[log]\n")):
        assert it == load(None)
        assert it.gateway.listen == (Address("tcp", "127.0.0.1", 1883),)
        assert (it.gateway.workers, it.gateway.broker) == (1, None)
        assert it.gateway.state_dir == Path("/var/lib/tidegate")
        assert (it.gateway.connect_timeout, it.gateway.drain_timeout) == (5.0, 5.0)
        assert (it.gateway.packet_timeout, it.gateway.max_keepalive, it.gateway.peer_timeout) == (30.0, 0, 300.0)
        assert (it.gateway.max_packet, it.gateway.max_connect) == (1 << 20, 1 << 16)
        assert it.gateway.buckets == 1 << 18
        assert (it.gateway.hold_messages, it.gateway.hold_bytes, it.gateway.hold_pool) == (1000, 1 << 20, 1 << 26)
        assert it.policy == Policy()
        assert (it.admin.listen, it.admin.token) == (Address("tcp", "127.0.0.1", 9883), None)
        assert (it.log.format, it.log.level) == ("text", "info")


def test_a_connect_is_no_larger_than_any_packet_where_nothing_says_how_large() -> None:
    assert settings('[gateway]\nmax_packet = "32KiB"').gateway.max_packet == 32 << 10


def test_a_policy_comes_with_the_settings() -> None:
    policy = settings('[gateway]\nbuckets = 5000\n[class.a]\nbridge = true\n[[limit]]\nname = "b"\nrate = "1/s"').policy
    assert ([one.name for one in policy.classes], [limit.name for limit in policy.limits]) == (["a"], ["b"])


def test_a_wrong_listener_is_not_blamed_on_a_class() -> None:
    listener = 'listener = "tcp://127.0.0.1:1"\n'
    assert len(errors(f'[gateway]\nlisten = "tls://x:1"\n[class.a]\n{listener}')) == 1
    assert errors(f'[gateway]\nlisten = "unix:/a"\n[class.a]\n{listener}') == [
        't.toml:4: class.a.listener = "tcp://127.0.0.1:1": gateway.listen has no such address; it has unix:/a'
    ]


def test_places(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_text('\n[gateway]\nlisten = "tcp://127.0.0.1:1884"\n')
    it = load(file)
    assert it.place("gateway.listen") == f"{file}:3"
    assert it.is_set("gateway.listen")
    assert it.place("gateway.broker") is None
    assert not it.is_set("gateway.broker")
    assert it.place("admin.listen") is None
    assert load(None).place("gateway.listen") is None


def test_a_log_format_from_elsewhere() -> None:
    it = settings('[log]\nlevel = "error"').with_log_format("json")
    assert (it.log.format, it.log.level) == ("json", "error")


BROKER = 'broker = "tcp://192.0.2.7:1883"\n'
OPEN = "reachable beyond this host, where the embedded Mosquitto would ask nobody for a password"
TABLE = [
    ("[gateway]\nlisen = 1", ["t.toml:2: gateway.lisen = 1: unknown key; did you mean `listen`?"]),
    (
        "[gateway]\nx = {a = 1}",
        ["t.toml:2: [gateway.x]: unknown table; known are listen, workers, broker, state_dir, connect_timeout, packet_timeout, max_keepalive, peer_timeout, max_packet, max_connect, buckets, segment, hold_messages, hold_bytes, hold_pool, waiting_room, drain_timeout"],
    ),
    ("[gateway]\nlevel = 1", ["t.toml:2: gateway.level = 1: unknown key; it belongs below [log]"]),
    ("listen = 1", ["t.toml:1: listen = 1: unknown key; it belongs below [gateway] or [admin]"]),
    ("\n[gatway]", ["t.toml:2: [gatway]: unknown table; did you mean `gateway`?"]),
    ("[[limt]]", ["t.toml:1: [[limt]]: unknown table; did you mean `limit`?"]),
    ('"a\\nb" = 1', ['t.toml:1: "a\\nb" = 1: unknown key; known are gateway, admin, log, limit, class, alert']),
    ('rate = "1/s"', ['t.toml:1: rate = "1/s": unknown key; it belongs below [[limit]]']),
    ("[gateway]\npriority = 1", ["t.toml:2: gateway.priority = 1: unknown key; it belongs below [class.NAME]"]),
    ("[gateway]\nbuckets = 4095", ["t.toml:2: gateway.buckets = 4095: not a number of buckets; write 4096 to 67108864"]),
    (
        '[gateway]\nhold_messages = 0\nhold_bytes = "1KiB"\nhold_pool = "17GiB"',
        [
            "t.toml:2: gateway.hold_messages = 0: not a number of messages; write 1 to 10000",
            't.toml:3: gateway.hold_bytes = "1KiB": out of range; write "64KiB" to "256MiB"',
            't.toml:4: gateway.hold_pool = "17GiB": out of range; write "1MiB" to "16GiB"',
        ],
    ),
    (
        '[gateway]\nhold_bytes = "2MiB"\nhold_pool = "1MiB"',
        ['t.toml:2: gateway.hold_bytes = "2MiB": more than gateway.hold_pool, the 1MiB that all connections of a worker share; write at most "1MiB", or a larger hold_pool'],
    ),
    (
        '[gateway]\nhold_bytes = "128MiB"',
        ['t.toml:2: gateway.hold_bytes = "128MiB": more than gateway.hold_pool, the 64MiB that all connections of a worker share; write at most "64MiB", or a larger hold_pool'],
    ),
    ('[gateway]\nhold_bytes = "2MiB"\nhold_pool = 5', ['t.toml:3: gateway.hold_pool = 5: out of range; write "1MiB" to "16GiB"']),
    (
        '[gateway]\npacket_timeout = "0s"\nmax_keepalive = "0s"\npeer_timeout = "1s"\nmax_connect = "2MiB"',
        [
            't.toml:2: gateway.packet_timeout = "0s": out of range; write "1s" to "1h"',
            't.toml:3: gateway.max_keepalive = "0s": out of range; write "1s" to "18h"',
            't.toml:4: gateway.peer_timeout = "1s": out of range; write "5s" to "1h"',
            't.toml:5: gateway.max_connect = "2MiB": out of range; write "1KiB" to "1MiB"',
        ],
    ),
    (
        '[gateway]\nmax_packet = "32KiB"\nmax_connect = "64KiB"',
        ['t.toml:3: gateway.max_connect = "64KiB": more than gateway.max_packet, 32KiB, which holds for every packet; write at most "32KiB", or a larger max_packet'],
    ),
    ("[[alert]]", ["t.toml:1: [[alert]]: not enforced yet; remove it"]),
    ("alert = 5", ["t.toml:1: alert = 5: not enforced yet; remove it"]),
    ("[gateway]\n[[gateway.listener]]", ["t.toml:2: [[gateway.listener]]: not supported yet; remove it"]),
    ("gateway = 5", ["t.toml:1: gateway = 5: not a table; write [gateway] in a line of its own, its keys below"]),
    ("[[log]]", ["t.toml:1: log = [{…}]: not a table; write [log] in a line of its own, its keys below"]),
    ('[log]\nformat = "jsn"', ['t.toml:2: log.format = "jsn": unknown value; did you mean "json"?']),
    ("[log]\nformat = 3", ['t.toml:2: log.format = 3: unknown value; write "text" or "json"']),
    ("[gateway]\nlisten = []", ["t.toml:2: gateway.listen = []: 0 addresses; name 1 to 64"]),
    (
        "[gateway]\nlisten = 5",
        ['t.toml:2: gateway.listen = 5: neither an address nor a list of them; write for instance "tcp://127.0.0.1:1883"'],
    ),
    (
        '[gateway]\nlisten = [\n"tcp://127.0.0.1:1",\n5,\n"ws://x:1"]',
        [
            't.toml:4: gateway.listen = 5: not an address; write for instance "tcp://127.0.0.1:1883" or "unix:/run/tidegate/mqtt.sock"',
            't.toml:5: gateway.listen = "ws://x:1": ws:// is not supported yet; use tcp:// or unix:',
        ],
    ),
    (
        '[gateway]\nlisten = "tcp://0.0.0.0:1883"',
        [f't.toml:2: gateway.listen = "tcp://0.0.0.0:1883": {OPEN}; listen on 127.0.0.1:1883, or set gateway.broker to a broker that asks'],
    ),
    (
        f'[gateway]\nlisten = ["unix:/a",\n"unix:/a",\n"tcp://0.0.0.0:1",\n"tcp://10.0.0.1:1"]\n{BROKER}',
        [
            't.toml:3: gateway.listen = "unix:/a": listed twice; remove one of the two',
            't.toml:5: gateway.listen = "tcp://10.0.0.1:1": already taken by "tcp://0.0.0.0:1"; remove one of the two',
        ],
    ),
    (
        '[gateway]\nbroker = "tcp://localhost:1883"',
        ['t.toml:2: gateway.broker = "tcp://localhost:1883": the gateway itself listens there by default; set gateway.listen, for instance "tcp://127.0.0.1:1884"'],
    ),
    (
        '[gateway]\nlisten = "tcp://0.0.0.0:1883"\nbroker = "tcp://127.0.0.1:1883"',
        ['t.toml:2: gateway.listen = "tcp://0.0.0.0:1883": the gateway would be its own broker, "tcp://127.0.0.1:1883"; choose another port'],
    ),
    (
        '[admin]\nlisten = "127.0.0.1:1883"',
        ['t.toml:2: admin.listen = "127.0.0.1:1883": already taken by "tcp://127.0.0.1:1883" of gateway.listen; choose another port, for instance 9884'],
    ),
    (
        '[gateway]\nlisten = "tcp://127.0.0.1:9883"',
        ['t.toml:2: gateway.listen = "tcp://127.0.0.1:9883": already taken by admin.listen, by default "127.0.0.1:9883"; choose another port, or set admin.listen'],
    ),
    (
        '[admin]\nlisten = "0.0.0.0:9883"',
        ['t.toml:2: admin.listen = "0.0.0.0:9883": reachable beyond this host, but without a token; set admin.token_file, or listen on 127.0.0.1'],
    ),
    (
        "[admin]\nlisten = false",
        ["t.toml:2: admin.listen = false: the admin endpoint cannot be turned off; remove the key: by default only this host reaches it"],
    ),
    ('[admin]\ntoken = "hunter2"', ["t.toml:2: admin.token = ***: unknown key; did you mean `token_file`?"]),
    (
        "[admin]\nlisten = '0.0.0.0:1'\ntoken_file = 5",
        ['t.toml:3: admin.token_file = 5: not a path; write an absolute path in quotes, for instance "/var/lib/tidegate"'],
    ),
    (
        # Whatever is wrong by itself hides nothing else.
        '[gateway]\nlisten = [\n"tls://x:1",\n"tcp://0.0.0.0:1",\n]\nworkers = 0\nconnect_timeout = 5\nwrkers = 1\n'
        'broker = []\nmax_packet = "1m"\n[admin]\nlisten = "[::]:9"\n[log]\nlevel = "warn"\n[[limit]]\nname = "a"\n[class.b]',
        [
            't.toml:3: gateway.listen = "tls://x:1": tls:// is not supported yet; use tcp:// or unix:',
            't.toml:6: gateway.workers = 0: not a number of processes; write 1 to 64, or "auto" for one per core',
            't.toml:7: gateway.connect_timeout = 5: a time needs its unit; write "5s" if seconds are meant',
            "t.toml:8: gateway.wrkers = 1: unknown key; did you mean `workers`?",
            "t.toml:9: gateway.broker = []: failover is not supported yet; name one broker",
            't.toml:10: gateway.max_packet = "1m": not a size; write a number and B, KiB, MiB, GiB, kB, MB or GB, for instance "1MiB"',
            't.toml:12: admin.listen = "[::]:9": reachable beyond this host, but without a token; set admin.token_file, or listen on 127.0.0.1',
            't.toml:14: log.level = "warn": unknown value; did you mean "warning"?',
            "t.toml:15: [[limit]]: limits nothing; give it rate or bandwidth or concurrent or size",
            't.toml:17: [class.b]: fits every client; say which, for instance client_id = "sensor-*"',
        ],
    ),
    (
        '[gateway]\nlisten = [\n"tls://x:1",\n"tcp://0.0.0.0:1",\n]',
        [
            't.toml:3: gateway.listen = "tls://x:1": tls:// is not supported yet; use tcp:// or unix:',
            f't.toml:4: gateway.listen = "tcp://0.0.0.0:1": {OPEN}; listen on 127.0.0.1:1, or set gateway.broker to a broker that asks',
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "lines"), TABLE)
def test_wrong_configurations(text: str, lines: list[str]) -> None:
    assert errors(text) == lines


@pytest.mark.parametrize(
    "text",
    [
        f'[gateway]\nlisten = "tcp://0.0.0.0:1883"\n{BROKER}',  # a broker elsewhere on the same port
        '[gateway]\nlisten = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0"]\n[admin]\nlisten = "127.0.0.1:0"',
        '[gateway]\nlisten = ["tcp://127.0.0.1:1883", "tcp://[::1]:1883"]',
        '[gateway]\nlisten = "unix:/run/x"\nbroker = "unix:/run/y"',
        '[gateway]\nhold_bytes = "1MiB"\nhold_pool = "1MiB"',
    ],
)
def test_what_only_looks_wrong(text: str) -> None:
    settings(text)


def test_no_default_for_state_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "nowhere")
    with pytest.raises(SettingsError) as raised:
        load(None)
    text = "gateway.state_dir: this user has no home directory, so there is no default; set it to an absolute path"
    assert str(raised.value) == f"defaults: {text}"
    assert errors("\n[gateway]\nworkers = 0")[0] == f"t.toml:2: {text}"


def test_a_file_with_very_many_problems_tells_the_first_hundred() -> None:
    lines = errors("".join(f"k{number} = 1\n" for number in range(5000)))
    assert len(lines) == 101
    assert lines[99].startswith("t.toml:100: k99 = 1: unknown key")
    assert lines[100] == "and 4900 more: mend these first"


def test_only_a_short_word_is_compared_with_the_known_ones() -> None:
    assert errors(f"{'listen' * 100_000} = 1")[0].endswith(
        "unknown key; known are gateway, admin, log, limit, class, alert"
    )
