"""What the plugin does with a policy that it cannot use, at the start and at a reload, and what it says."""

import os
import signal
from pathlib import Path

import pytest

from support import wire
from support.limited import Watcher, burst, join, told, unique
from support.plugged import PLUGIN, Plugged, is_2_1, plugged

POLICY = '[[limit]]\nname = "ten"\ntopic = "ten/#"\nrate = "10/h burst 10"\non_excess = "reject"\n'


def fails_to_start(broker: Plugged) -> str:
    """Start it, which must fail at once; its log."""
    broker.process.start()
    assert broker.process.wait() != 0
    return broker.log()


def damage(blob: bytes) -> dict[str, bytes]:
    """Files that are none, by what the log says of them."""
    newer = blob[:8] + (9999).to_bytes(4, "little") + blob[12:]
    return {
        "truncated": blob[:-8],
        "10 bytes are no compiled policy": blob[:10],
        "empty": b"",
        "its checksum is wrong": blob[:-1] + bytes([blob[-1] ^ 1]),
        "compiled by another version": newer,
        "not a compiled policy of Tidegate": b"[[limit]]" * 100,
    }


@pytest.mark.parametrize("text", damage(bytes(200)))
def test_a_bad_file_stops_the_start_and_not_a_reload(tmp_path: Path, text: str) -> None:
    broker = Plugged(tmp_path / "b", POLICY)
    good = broker.policy.read_bytes()
    bad = damage(good)[text]
    broker.policy.write_bytes(bad)
    log = fails_to_start(broker)
    assert f"tidegate: {broker.policy}: " in log
    assert text in log
    broker.policy.write_bytes(good)
    broker.start()
    try:
        with Watcher(broker, "ten/#") as watcher, join(broker.port, unique("c")) as client:
            client.send(burst(wire.V311, "ten/a", 5))
            assert told(client) == []
            broker.policy.write_bytes(bad)
            broker.process.send(signal.SIGHUP)
            broker.says("the 1 limits that were in force stay so")
            client.send(burst(wire.V311, "ten/a", 20))
            assert told(client) == []
            assert len(watcher.messages()) == 10
    finally:
        broker.stop()


def test_a_missing_or_forbidden_file_stops_the_start(tmp_path: Path) -> None:
    broker = Plugged(tmp_path / "b", POLICY)
    broker.policy.unlink()
    assert "cannot be read: No such file or directory" in fails_to_start(broker)
    broker.policy.mkdir()
    assert "not a file" in fails_to_start(broker)
    broker.policy.rmdir()
    os.mkfifo(broker.policy)
    assert "not a file" in fails_to_start(broker)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("plugin_opt_polcy x", "plugin_opt_polcy: no such option"),
        ("plugin_opt_gateway 300.1.1.1", "plugin_opt_gateway 300.1.1.1: write an address"),
        ("plugin_opt_gateway 10.0.0.0/33", "plugin_opt_gateway 10.0.0.0/33: write an address"),
        ("plugin_opt_buckets 7", "plugin_opt_buckets 7: write a number from"),
        ("plugin_opt_sys_interval often", "plugin_opt_sys_interval often: write seconds"),
        ("plugin_opt_authentication maybe", 'plugin_opt_authentication maybe: write "others"'),
        ("plugin_opt_segment /s", "both plugin_opt_policy and plugin_opt_segment"),
        (f"plugin {PLUGIN}", "no limits: write plugin_opt_policy"),
        (f"plugin {PLUGIN}\nplugin_opt_policy POLICY", "loaded twice; keep one of its plugin lines"),
    ],
)
def test_options_that_cannot_be_obeyed(tmp_path: Path, options: str, says: str) -> None:
    policy = tmp_path / "b" / "policy.tgp"
    assert f"tidegate: {says}" in fails_to_start(
        Plugged(tmp_path / "b", POLICY, options=options.replace("POLICY", str(policy)))
    )


@pytest.mark.skipif(is_2_1(), reason="2.1 can be told that the plugin has no opinion")
@pytest.mark.parametrize(("on", "option"), [("connect", "authentication"), ("subscribe", "authorisation")])
def test_limits_that_need_to_know_who_decides(tmp_path: Path, on: str, option: str) -> None:
    policy = f'[[limit]]\nname = "x"\non = "{on}"\nper = "ip"\nrate = "1/s"\non_excess = "reject"\n'
    assert f"need plugin_opt_{option} in mosquitto.conf" in fails_to_start(Plugged(tmp_path / "b", policy))


def test_a_reload_keeps_the_budgets_of_limits_that_stay(tmp_path: Path) -> None:
    with (
        plugged(tmp_path / "b", POLICY) as broker,
        Watcher(broker, "#") as watcher,
        join(broker.port, unique("c")) as client,
    ):
        client.send(burst(wire.V311, "ten/a", 8))
        assert told(client) == []
        broker.compile(
            '[[limit]]\nname = "first"\ntopic = "five/#"\nrate = "5/h burst 5"\non_excess = "reject"\n' + POLICY
        )
        broker.process.send(signal.SIGHUP)
        broker.says("2 limits of")
        client.send(burst(wire.V311, "ten/a", 20) + burst(wire.V311, "five/a", 20))
        assert told(client) == []
        topics = [topic for topic, _ in watcher.messages()]
        assert (topics.count("ten/a"), topics.count("five/a")) == (10, 5)


def test_figures_below_sys_and_one_line_of_log(tmp_path: Path) -> None:
    with plugged(tmp_path / "b", POLICY, options="plugin_opt_sys_interval 1") as broker:
        with join(broker.port, unique("loud")) as client:
            client.send(burst(wire.V311, "ten/a", 50))
            assert told(client) == []
            with Watcher(broker, "$SYS/broker/tidegate/#") as watcher:
                seen: dict[str, bytes] = {}
                while {"limits/ten/passed", "limits/ten/rejected", "limits/count"} - seen.keys():
                    topic, payload = watcher.message()
                    seen[topic.removeprefix("$SYS/broker/tidegate/")] = payload
                assert (seen["limits/ten/passed"], seen["limits/ten/rejected"]) == (b"10", b"40")
                assert seen["limits/count"] == b"1"
            broker.says("tidegate: limit ten: loud-")
            assert broker.log().count("tidegate: limit ten: loud-") == 1
            assert "is over it, topic ten/a: rejected" in broker.log()
        # Kept for those who come later.
        with Watcher(broker, "$SYS/broker/tidegate/limits/ten/passed") as watcher:
            assert watcher.message() == ("$SYS/broker/tidegate/limits/ten/passed", b"10")
