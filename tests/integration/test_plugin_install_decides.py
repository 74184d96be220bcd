"""What `tidegate plugin install` finds out about who decides is so: the same people may connect with its lines."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from support.broker import mosquitto_binary
from support.ports import accepts, free_port
from support.process import Process
from support.sides import password_file
from support.wait import until
from tidegate.app.policy_compile import compile_to
from tidegate.cli.main import main

POLICY = "".join(
    f'[[limit]]\nname = "{on}"\non = "{on}"\nper = "ip"\nrate = "1000000/s burst 1000000"\non_excess = "{action}"\n'
    for on, action in (("connect", "reject"), ("subscribe", "reject"), ("auth_failure", "ban"))
)
"""Asked about every connection, and never exceeded."""

PSK = ("--psk", "00112233", "--psk-identity", "device")
SECRET = "psk_hint any\npsk_file DIR/psk\n"
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "says nothing": ("listener PORT\n", ()),
    "port": ("port PORT\nbind_address 127.0.0.1\n", ()),
    "open": ("listener PORT\nallow_anonymous true\n", ()),
    "passwords, anonymous": ("listener PORT\nallow_anonymous true\npassword_file DIR/passwords\n", ()),
    "its own, says nothing": ("per_listener_settings true\nlistener PORT\n", ()),
    "its own, open": ("per_listener_settings true\nlistener PORT\nallow_anonymous true\n", ()),
    "its own, beside port": (
        "per_listener_settings true\nport PORT\nallow_anonymous true\nlistener OTHER\npassword_file DIR/passwords\n",
        (),
    ),
    "keys": (f"listener PORT\n{SECRET}", PSK),
    "keys, open": (f"listener PORT\nallow_anonymous true\n{SECRET}", PSK),
    "keys, passwords": (f"listener PORT\npassword_file DIR/passwords\n{SECRET}", PSK),
    "keys that are names": (f"listener PORT\n{SECRET}use_identity_as_username true\n", PSK),
    "keys that are names, open": (
        f"listener PORT\nallow_anonymous true\n{SECRET}use_identity_as_username true\n",
        PSK,
    ),
}
USERS = ((), ("-u", "plant", "-P", "secret"), ("-u", "plant", "-P", "wrong"), ("-u", "guest"))


@contextmanager
def running(directory: Path, conf: Path, port: int) -> Iterator[None]:
    """Mosquitto with this file."""
    broker = Process([mosquitto_binary(), "-c", conf], directory / "mosquitto")
    broker.start()
    try:
        until(lambda: not broker.running() or accepts(port), "Mosquitto's listener")
        assert broker.running(), broker.stderr()
        yield
    finally:
        broker.stop()


def outcome(port: int, how: tuple[str, ...]) -> list[int]:
    """What each user is told: 0, or the reason of the CONNACK."""
    return [
        subprocess.run(
            [
                "mosquitto_pub",
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "-V",
                "5",
                "-q",
                "1",
                "-t",
                "a",
                "-m",
                "b",
                *how,
                *user,
            ],
            capture_output=True,
            check=False,
            timeout=30,
        ).returncode
        for user in USERS
    ]


def install(conf: Path, policy: Path) -> None:
    """Write its lines, or those of the first listener by hand, as the command says."""
    arguments = ["plugin", "install", str(conf), "--policy", str(policy), "--write", "--json"]
    found = json.loads(CliRunner().invoke(main, arguments).stdout)
    if found["written"]:
        return
    (obstacle,) = found["obstacles"]
    assert "per_listener_settings true" in obstacle
    block = found["blocks"][0]
    rows = conf.read_text().splitlines()
    at = int(block["where"].removeprefix(f"below {conf}:").partition(":")[0])
    rows[at:at] = block["lines"]
    conf.write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("name", CASES)
def test_the_same_people_may_connect(tmp_path: Path, name: str) -> None:
    text, how = CASES[name]
    port, other = free_port(), free_port()
    password_file(tmp_path, "plant:secret")
    (tmp_path / "psk").write_text("device:00112233\n")
    (tmp_path / "policy.toml").write_text(POLICY)
    policy = tmp_path / "policy.tgp"
    compile_to(tmp_path / "policy.toml", policy)
    conf = tmp_path / "mosquitto.conf"
    text = text.replace("PORT", str(port)).replace("OTHER", str(other)).replace("DIR", str(tmp_path))
    conf.write_text(("user root\n" if os.geteuid() == 0 else "") + text)
    with running(tmp_path, conf, port):
        without = outcome(port, how)
    install(conf, policy)
    assert conf.read_text().count("plugin_opt_policy") == 1
    with running(tmp_path, conf, port):
        assert outcome(port, how) == without
