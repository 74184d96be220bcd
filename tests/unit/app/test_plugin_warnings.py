import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tidegate.app import plugin_warnings
from tidegate.app.plugin_warnings import unreadable_by_broker, warnings
from tidegate.audit.mosquitto_conf import read
from tidegate.engine.format import Written
from tidegate.policy.model import Event, KeyKind

BY_USER = Written("telemetry", Event.PUBLISH, frozenset({KeyKind.USERNAME}))
BY_CLIENT = Written("clients", Event.PUBLISH, frozenset({KeyKind.CLIENT}))
LISTENER = "listener 1883\nallow_anonymous true\n"


def warned(folder: Path, text: str, *limits: Written) -> list[str]:
    file = folder / "mosquitto.conf"
    file.write_text(text)
    return warnings(read(file), [], limits)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LISTENER, "any user name"),
        (LISTENER + "psk_file /p\npsk_hint h\n", "any user name"),
        (LISTENER + "password_file /p\n", "without a user name"),
        ("allow_anonymous true\nlistener 1883 0.0.0.0\n", "any user name"),
        ("allow_anonymous true\nport 1883\n", "any user name"),
        ("max_connections 5\n", "any user name"),
        ("per_listener_settings true\nlistener 1882\n" + LISTENER, "listener 1883: takes everybody"),
        ("listener 1883\n", ""),  # refuses who has no name, and nobody has one
        ("", ""),  # this machine's own clients only
        ("allow_anonymous true\nlistener 1883 127.0.0.1\n", ""),
        ("allow_anonymous true\nlistener 1883 ::1\n", ""),
        ("allow_anonymous true\nlistener 0 /run/m.sock\n", ""),
        ("allow_anonymous true\nbind_address localhost\n", ""),
        (LISTENER + "password_file /p\nallow_anonymous false\n", ""),
    ],
)
def test_names_that_nobody_has_to_prove(tmp_path: Path, text: str, said: str) -> None:
    found = [line for line in warned(tmp_path, text, BY_USER, BY_CLIENT) if "per username" in line]
    assert len(found) == bool(said)
    assert all(said in line and "(telemetry)" in line for line in found)
    assert not [line for line in warned(tmp_path, text, BY_CLIENT) if "per username" in line]


def test_names_that_tls_gives(tmp_path: Path) -> None:
    (text,) = warned(tmp_path, LISTENER + "use_identity_as_username true\n", BY_USER)
    assert "are not limited on connect" in text


def test_limits_that_are_not_enforced(tmp_path: Path) -> None:
    limits = [Written(f"l{number}", Event.DELIVER, frozenset()) for number in range(7)]
    (text,) = warned(tmp_path, "", BY_CLIENT, *limits)
    assert "l0, l1, l2, l3, l4 and 2 more" in text
    assert "tidegate policy check tidegate.toml --for plugin" in text
    assert warned(tmp_path, "", BY_CLIENT) == []


@pytest.mark.parametrize(
    ("plugins", "asked"),
    [
        (["/a/other.so"], 1),
        (["/a/mosquitto_dynamic_security.so"], 0),
        (["/o.so", "/a/mosquitto_dynamic_security.so"], 0),
    ],
)
def test_other_plugins_may_not_decide(tmp_path: Path, plugins: list[str], asked: int) -> None:
    file = tmp_path / "mosquitto.conf"
    file.write_text("".join(f"plugin {path}\n" for path in plugins))
    conf = read(file)
    found = warnings(conf, list(conf.of("plugin")), [])
    assert len(found) == asked
    assert all(text.startswith(f"{file}:1: another plugin is taken to decide") for text in found)


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home, of which one asks who is not root. (pytest's folders are nobody else's to enter.)"""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "mosquitto.conf").write_text("user nobody\n")
        home = Path(folder) / "home"
        home.mkdir()
        yield home


def mended(home: Path, name: str) -> str:
    (home / name).touch(0o644)
    found, is_sure = unreadable_by_broker(read(home.parent / "mosquitto.conf"), [home / name])
    assert not is_sure
    return "".join(found)


def test_no_home_is_opened(somebody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    somebody.chmod(0o700)
    assert f"; chmod o+x {somebody}" in mended(somebody, "a.tgp")
    monkeypatch.setattr(plugin_warnings, "_is_home", lambda folder: folder == somebody)
    text = mended(somebody, "a.tgp")
    assert "chmod" not in text
    assert f"{somebody}/a.tgp /etc/tidegate/a.tgp, and give --policy /etc/tidegate/a.tgp" in text
    assert mended(somebody, "a.so").endswith(
        "/usr/local/lib/tidegate/a.so, and give --plugin /usr/local/lib/tidegate/a.so"
    )
    somebody.chmod(0o711)
    assert mended(somebody, "a.tgp") == ""


def test_homes() -> None:
    root = Path(pwd.getpwuid(0).pw_dir)
    assert plugin_warnings._is_home(root)
    assert plugin_warnings._is_home(root / "tidegate")
    assert not plugin_warnings._is_home(Path("/etc/tidegate"))
    assert not plugin_warnings._is_home(Path("/"))
