"""The plugin in a real Mosquitto: clients, users and topics of whatever bytes the broker lets through."""

import re
from pathlib import Path

import pytest

from support import wire
from support.limited import Watcher, answers, burst, join, told, unique
from support.plugged import Plugged, plugged
from support.raw import CLOSED, RawClient

OPEN = "plugin_opt_authentication open\nplugin_opt_authorisation open\nplugin_opt_sys_interval 1"
LIMIT = '[[limit]]\nname = "ten"\ntopic = "t/#"\nper = ["client", "username"]\nrate = "10/h burst 10"\n'
REJECT = LIMIT + 'on_excess = "reject"\n'
TEXTS = {
    "two bytes": "ß" * 300,
    "three bytes": "x" + "日" * 300,
    "four bytes": "xy" + "🌊" * 300,
    "combining": "e\u0301" * 100,
    "separators": "a\u2028b\u2029c\u00a0d\u3000e\ufeff",
    "turned around": "\u202eright to left\u202c",
    "private": "\ue000\U0010fffd",
    "spaces": "  in front, inside and behind  ",
    "quotes": """'single' "double" `back` \\ back\\nslash""",
    "formats": "%s%s%s%n%n%100000d%",
    "JSON and shell": '{"a": 1}; $(reboot) && $HOME | > /dev/null',
    "a line of log": "x: tidegate: limit ten: nobody is over it",
    "24 bytes": "x" * 24,
    "thousands": "long" * 5000,
    "all that fits": "m" * 32000 + "ü" * 1000,
}
LONGEST = "t/" + "/".join(["ü" * 160] * 198) + "/"
LONGEST += "x" * (65535 - len(LONGEST.encode()))


def lines_of(broker: Plugged) -> list[str]:
    """What the plugin has logged: in UTF-8. (Mosquitto cuts its own lines in the middle of characters.)"""
    own = [line for line in broker.process.stderr_file.read_bytes().split(b"\n") if b"tidegate: " in line]
    return [line.decode() for line in own if re.match(rb"\d+: tidegate: ", line)]


def cut(text: str, size: int) -> str:
    """As many of its characters as fit."""
    return text.encode()[:size].decode(errors="ignore")


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_whoever_it_is_and_wherever_is_limited_and_named(tmp_path: Path, text: str) -> None:
    topic = f"t/{text}"
    who = [(f"+#/{text}", text, wire.V311), (f"+#/{text}.", text, wire.V5), ("plain", f"{text}.", wire.V311)]
    with plugged(tmp_path / "b", REJECT, options=OPEN) as broker, Watcher(broker, "t/#") as watcher:
        for client_id, username, version in who:
            with join(broker.port, client_id, version, username=username) as client:
                client.send(burst(version, topic, 15, 1, payload=b"x"))
                assert len(told(client)) == 15
        assert watcher.messages() == [(topic, b"x")] * 30
        lines = [
            f"tidegate: limit ten: {cut(client_id, 64)} is over it, topic {cut(topic, 80)}: rejected"
            for client_id, _, _ in who
        ]
        broker.says(": limit ten: plain is over it")
        assert [line.partition(": ")[2] for line in lines_of(broker)[1:]] == lines


def test_figures_are_found_by_the_names_of_limits_alone(tmp_path: Path) -> None:
    with plugged(tmp_path / "b", REJECT, options=OPEN) as broker, Watcher(broker, "$SYS/#") as watcher:
        for text in TEXTS.values():
            with join(broker.port, text, username=text) as client:
                client.send(burst(wire.V311, f"t/{text}", 15))
                told(client)
        seen: dict[str, bytes] = {}
        while seen.get("$SYS/broker/tidegate/limits/ten/rejected") != str(5 * len(TEXTS)).encode():
            topic, payload = watcher.message()
            seen[topic] = payload
        assert {topic.removeprefix("$SYS/broker/tidegate/") for topic in seen if "tidegate" in topic} == {
            *("clients", "kicked", "limits/count", "limits/ten/passed", "limits/ten/rejected")
        }


def test_topics_of_all_lengths(tmp_path: Path) -> None:
    assert len(LONGEST.encode()) == 65535
    with plugged(tmp_path / "b", REJECT, options=OPEN) as broker, Watcher(broker, "t/#") as watcher:
        for topic in (LONGEST, "t/" + "/" * 198, "t//", "t", f"t/{'x' * 65533}"):
            with join(broker.port, unique("c")) as client:
                client.send(burst(wire.V311, topic, 15, 2, payload=b"x"))
                client.send(b"".join(b"\x62\x02" + number.to_bytes(2, "big") for number in range(1, 16)))
                assert len(told(client)) == 30
            assert [name for name, _ in watcher.messages()] == [topic] * 10
        assert all(len(line) < 400 for line in lines_of(broker))


def test_the_longest_names_are_kicked_and_banned(tmp_path: Path) -> None:
    policy = LIMIT.replace('"client", ', '"client", "ip", ') + 'on_excess = "ban"\n'
    with plugged(tmp_path / "b", policy, options=OPEN) as broker:
        for number, text in enumerate(("ß" * 32767, "x" + "日" * 21844, "xy" + "🌊" * 300, "%n\"'", "x" * 65535), 1):
            with join(broker.port, text) as client:
                client.send(burst(wire.V311, "t/a", 11))
                assert client.until_closed() == [CLOSED]
            with RawClient(broker.port) as again:
                again.send(wire.connect(wire.V311, text))
                assert again.until_closed() == ["CONNACK 0x05", CLOSED]
            broker.says("banned by limit ten", number)
            banned = [line for line in lines_of(broker) if "banned by" in line]
            assert banned[-1].endswith(f": tidegate: banned by limit ten for 30 s: client {cut(text, 64)}")


def test_subscriptions_and_wills_of_any_bytes(tmp_path: Path) -> None:
    policy = (
        '[[limit]]\nname = "s"\non = "subscribe"\ntopic = "t/#"\nrate = "2/h burst 2"\non_excess = "reject"\n'
        '[[limit]]\nname = "w"\non = "will"\ntopic = "w/#"\nper = ["topic", "ip"]\nrate = "1/h burst 1"\n'
        'on_excess = "drop"\n'
    )
    with plugged(tmp_path / "b", policy, options=OPEN) as broker:
        for text in (*TEXTS.values(), LONGEST[2:]):
            with join(broker.port, unique("c")) as client:
                for number, code in enumerate((0, 0, 0x80), 1):
                    suback = client.exchange(wire.subscribe(client.version, (f"t/{text}", 0), packet_id=number))
                    assert suback[-1] == code
            name = f"w/{text}"
            with Watcher(broker, "w/#", "end") as watcher:
                for _ in range(2):
                    join(broker.port, unique("c"), will=name).close()
                    ended = join(broker.port, unique("c"))
                    answers(ended)
                    ended.close()
                with join(broker.port, unique("c")) as client:
                    client.send(burst(wire.V311, "end", 1))
                    told(client)
                assert [topic for topic, _ in watcher.messages_until("end")] == [name]
        assert all("\ufffd" not in line for line in lines_of(broker))


@pytest.mark.parametrize("text", ["a\nb", "a\x00b", "a\x7fb", "a\x85b", b"a\xffb", b"\xc3", b"\xed\xa0\x80"])
def test_what_the_broker_refuses_leaves_nothing_behind(tmp_path: Path, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    with plugged(tmp_path / "b", REJECT, options=OPEN) as broker:
        body = wire.field("MQTT") + b"\x04\x02\x00\x3c" + wire.field(data)
        with RawClient(broker.port) as client:
            client.send(wire.packet(0x10, body))
            assert client.until_closed() == [CLOSED]
        with join(broker.port, unique("c")) as client:
            client.send(wire.publish(wire.V311, b"t/" + data, b"x"))
            assert client.until_closed() == [CLOSED]
        with join(broker.port, unique("c")) as client:
            client.send(burst(wire.V311, "t/a", 3))
            assert told(client) == []
        assert len(lines_of(broker)) == 1
