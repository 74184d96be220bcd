"""Who may connect, publish, subscribe and leave a will is the same with the plugin as without it."""

import base64
import hashlib
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from support import wire
from support.broker import Broker, mosquitto_library
from support.limited import Watcher, burst, login, told, unique
from support.plugged import ROOMY, Plugged, plugged
from support.raw import RawClient
from support.sides import password_file
from support.wait import until

EVERYTHING = "".join(
    f'[[limit]]\nname = "{on}"\non = "{on}"\n{per}rate = "1000000/s burst 1000000"\non_excess = "{action}"\n'
    for on, per, action in (
        ("publish", "", "reject"),
        ("connect", 'per = "ip"\n', "reject"),
        ("subscribe", "", "reject"),
        ("will", "", "drop"),
        ("auth_failure", 'per = "ip"\n', "ban"),
    )
)
"""Limits on all that the plugin can be asked about, which nothing here exceeds."""

ACL = """topic read shared/#
user watcher
topic readwrite #
user plant
topic readwrite plant/#
topic write shared/#
pattern readwrite own/%u/#
"""
USERS = ((None, "any"), ("plant", "secret"), ("plant", "wrong"), ("guest", "any"), ("", ""))
TOPICS = ("plant/a", "plant/forbidden", "shared/a", "own/plant/a", "own/guest/a", "$SYS/a", "other")
FILTERS = (*TOPICS, "#", "plant/#", "$share/g/plant/#", "$SYS/#")


def outcome(broker: Broker, version: int, user: str | None, password: str) -> list[object]:
    """All that this user finds out about what he may."""
    flags, rest = login(user, password)
    found: list[object] = []
    with RawClient(broker.port, version) as client:
        client.send(wire.connect(version, unique("c"), flags=0x02 | flags, rest=rest))
        answer = client.read()
        found.append(None if answer is None else wire.tell(answer, version))
        if answer is None or wire.body_of(answer)[1] != 0:
            return found
        for number, name in enumerate(FILTERS, 1):
            client.send(wire.subscribe(version, (name, 1), packet_id=number))
            found.append([line for line in told(client) if line.startswith("SUBACK")])
        for number, name in enumerate(TOPICS, 1):
            client.send(burst(version, name, 1, 1, first_id=number))
            found.append([line for line in told(client) if line.startswith("PUBACK")])
    with Watcher(broker, "#", username="watcher", password="watcher") as watcher:
        for name in TOPICS:
            with RawClient(broker.port, version) as client:
                will = wire.properties(version) + wire.field(name) + wire.field("will")
                client.connect(unique("c"), flags=0x06 | flags, rest=will + rest)
        # One that is always allowed comes last. (What is retained of $SYS is no will.)
        with RawClient(broker.port, version) as client:
            will = wire.properties(version) + wire.field("shared/end") + wire.field("will")
            client.connect(
                unique("c"), flags=0x06 | login("watcher", "watcher")[0], rest=will + login("watcher", "watcher")[1]
            )
        found.append(sorted(topic for topic, payload in watcher.messages_until("shared/end") if payload == b"will"))
    return found


Case = tuple[str, str, bool]
CASES: dict[str, Callable[[Path], Case]] = {
    "open": lambda _: ("plugin_opt_authentication open\nplugin_opt_authorisation open", "", True),
    "closed": lambda _: ("plugin_opt_authentication others\nplugin_opt_authorisation open", "", False),
    "passwords": lambda d: (
        "plugin_opt_authentication others\nplugin_opt_authorisation open",
        f"password_file {password_file(d, 'plant:secret', 'watcher:watcher')}",
        False,
    ),
    "passwords, anonymous": lambda d: (
        "plugin_opt_authentication others\nplugin_opt_authorisation open",
        f"password_file {password_file(d, 'plant:secret', 'watcher:watcher')}",
        True,
    ),
    "acl": lambda d: (
        "plugin_opt_authentication open\nplugin_opt_authorisation others",
        f"acl_file {acl_file(d)}",
        True,
    ),
    "passwords and acl": lambda d: (
        "plugin_opt_authentication others\nplugin_opt_authorisation others",
        f"password_file {password_file(d, 'plant:secret', 'watcher:watcher')}\nacl_file {acl_file(d)}",
        True,
    ),
    "dynamic security": lambda d: (
        "plugin_opt_authentication others\nplugin_opt_authorisation others",
        dynamic_security(d),
        True,
    ),
    "files by plugins": lambda d: ("", files_by_plugins(d), True),
    # What was open when the plugin's lines were written, and is not any more.
    "passwords and acl, untold": lambda d: (
        "plugin_opt_authentication open\nplugin_opt_authorisation open",
        f"password_file {password_file(d, 'plant:secret', 'watcher:watcher')}\nacl_file {acl_file(d)}",
        True,
    ),
}


def acl_file(directory: Path) -> Path:
    """A file of what users may."""
    file = directory / "acl"
    file.write_text(ACL)
    return file


def files_by_plugins(directory: Path) -> str:
    """The same files, read by plugins that come with Mosquitto 2.1; the lines of mosquitto.conf."""
    lines = []
    for name, file in (
        ("password_file", password_file(directory, "plant:secret", "watcher:watcher")),
        ("acl_file", acl_file(directory)),
    ):
        found = mosquitto_library(f"mosquitto/mosquitto_{name}.so")
        if found is None:
            pytest.skip(f"this Mosquitto has no mosquitto_{name}.so")
        lines.append(f"plugin {found}\nplugin_opt_{name} {file}")
    return "\n".join(lines)


def dynamic_security(directory: Path) -> str:
    """Mosquitto's own plugin with users, roles and denials; the lines of mosquitto.conf."""
    found = mosquitto_library("mosquitto_dynamic_security.so")
    if found is None:
        pytest.skip("this Mosquitto has no mosquitto_dynamic_security.so")
    roles = {
        "plant": [("publishClientSend", "plant/#"), ("subscribePattern", "plant/#"), ("subscribePattern", "$SYS/#")],
        "shared": [("publishClientSend", "shared/#"), ("subscribeLiteral", "shared/a")],
        "everything": [(kind, "#") for kind in ("publishClientSend", "publishClientReceive", "subscribePattern")],
    }
    config = {
        "defaultACLAccess": {
            "publishClientSend": False,
            "publishClientReceive": True,
            "subscribe": False,
            "unsubscribe": True,
        },
        "clients": [_known("plant", "secret", ["plant", "shared"]), _known("watcher", "watcher", ["everything"])],
        "groups": [{"groupname": "anonymous", "clients": [], "roles": [{"rolename": "shared"}]}],
        "anonymousGroup": "anonymous",
        "roles": [
            {
                "rolename": name,
                "acls": [
                    *({"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind, topic in allowed),
                    {"acltype": "publishClientSend", "topic": "plant/forbidden", "priority": 1, "allow": False},
                ],
            }
            for name, allowed in roles.items()
        ],
    }
    file = directory / "dynamic-security.json"
    file.write_text(json.dumps(config))
    return f"plugin {found}\nplugin_opt_config_file {file}"


def _known(name: str, password: str, roles: list[str]) -> dict[str, object]:
    """A client of dynamic security; its password as PBKDF2 of SHA-512."""
    salt, iterations = b"twelve-bytes", 101
    key = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, iterations)
    return {
        "username": name,
        "password": base64.b64encode(key).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": iterations,
        "roles": [{"rolename": role} for role in roles],
    }


@contextmanager
def bare(directory: Path, extra: str, anonymous: bool) -> Iterator[Broker]:
    """The same broker without the plugin."""
    broker = Broker(directory, extra, anonymous=anonymous)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.mark.parametrize("name", CASES)
def test_nobody_may_more_or_less(tmp_path: Path, name: str) -> None:
    options, extra, anonymous = CASES[name](tmp_path)
    extra = f"{ROOMY}\nset_tcp_nodelay true\nlog_type all\n{extra}"
    found = []
    sides: tuple[AbstractContextManager[Broker | Plugged], ...] = (
        bare(tmp_path / "a", extra, anonymous),
        plugged(tmp_path / "b", EVERYTHING, options=options, extra=extra, anonymous=anonymous),
    )
    for side in sides:
        with side as broker:
            seen: list[object] = [
                outcome(broker, version, user, password) for version in (wire.V311, wire.V5) for user, password in USERS
            ]
            # The same after a reload, which asks once more about everybody who is connected.
            with RawClient(broker.port) as staying:
                flags, rest = login("plant", "secret")
                staying.send(wire.connect(wire.V311, unique("c"), flags=0x02 | flags, rest=rest))
                answer = staying.read()
                seen.append(answer)
                broker.process.send(signal.SIGHUP)
                until(lambda: "Reloading config" in broker.log(), "the reload")
                if answer is not None and wire.body_of(answer)[1] == 0:
                    seen.append(staying.until_fence())
            seen += [outcome(broker, wire.V5, user, password) for user, password in USERS]
            found.append(seen)
    assert found[0] == found[1]
