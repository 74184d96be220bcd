"""A mosquitto.conf that `tidegate plugin install --write` has changed: Mosquitto starts with it, and limits hold."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from support import wire
from support.broker import Broker
from support.limited import burst, join, told, unique
from support.plugged import ROOMY
from support.raw import RawClient
from support.sides import password_file
from tidegate.app.policy_compile import compile_to
from tidegate.cli.main import main

POLICY = """
[[limit]]
name = "ten"
topic = "ten/#"
rate = "10/h burst 10"
on_excess = "reject"

[[limit]]
name = "connections"
on = "connect"
per = "ip"
rate = "1000/s burst 1000"
on_excess = "reject"

[[limit]]
name = "subscriptions"
on = "subscribe"
per = "ip"
rate = "1000/s burst 1000"
on_excess = "reject"
"""


def files(directory: Path) -> tuple[Path, Path]:
    """Passwords, and what their users may."""
    acl = directory / "acl"
    acl.write_text("user plant\ntopic readwrite ten/#\n")
    acl.chmod(0o600)
    return password_file(directory, "plant:any"), acl


def guarded(directory: Path) -> Broker:
    passwords, acl = files(directory)
    return Broker(directory, f"{ROOMY}\npassword_file {passwords}\nacl_file {acl}", anonymous=False)


def included(directory: Path) -> Broker:
    passwords, acl = files(directory)
    folder = directory / "conf.d"
    folder.mkdir()
    (folder / "b.conf").write_text(f"password_file {passwords}\n")
    (folder / "A.conf").write_text(f"{ROOMY}\nacl_file {acl}\n")
    return Broker(directory, f"include_dir {folder}", anonymous=False)


CASES: dict[str, tuple[Callable[[Path], Broker], str]] = {
    "open": (lambda directory: Broker(directory, ROOMY), "open"),
    "passwords and acl": (guarded, "others"),
    "include_dir": (included, "others"),
}


def install(broker: Broker, policy: Path) -> str:
    """What the command says."""
    done = CliRunner().invoke(main, ["plugin", "install", str(broker.config), "--policy", str(policy), "--write"])
    assert done.exit_code == 0, done.output
    return done.stderr


@pytest.mark.parametrize("name", CASES)
def test_the_broker_starts_and_the_limit_holds(tmp_path: Path, name: str) -> None:
    make, decides = CASES[name]
    directory = tmp_path / "b"
    directory.mkdir()
    broker = make(directory)
    toml, policy = directory / "policy.toml", directory / "policy.tgp"
    toml.write_text(POLICY)
    compile_to(toml, policy)
    assert "restart Mosquitto" in install(broker, policy)
    once = broker.config.read_text()
    assert "has these lines already" in install(broker, policy)
    assert broker.config.read_text() == once
    assert once.count(f" {decides}\n") == 2
    broker.start()
    try:
        with join(broker.port, unique("c"), wire.V5, username="plant") as client:
            client.send(burst(wire.V5, "ten/a", 15, 1))
            answers = [line.rpartition(" ")[2] for line in told(client)]
            assert answers[:10].count("0x00") + answers[:10].count("0x10") == 10
            assert all(int(answer, 16) >= 0x80 for answer in answers[10:])
            assert len(answers) == 15
        with RawClient(broker.port, wire.V5) as stranger:
            stranger.send(wire.connect(wire.V5, unique("s")))
            answer = stranger.read()
            assert answer is not None
            assert (wire.body_of(answer)[1] == 0) == (decides == "open")
    finally:
        broker.stop()
