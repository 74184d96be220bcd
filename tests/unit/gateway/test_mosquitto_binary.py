import platform
from pathlib import Path

import pytest

from tidegate.gateway import mosquitto_binary
from tidegate.gateway.mosquitto_binary import (
    MissingMosquitto,
    find_mosquitto,
    install_command,
    mosquitto_version,
)


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ({"ID": "debian"}, "apt-get install mosquitto"),
        ({"ID": "raspbian", "ID_LIKE": "debian"}, "apt-get install mosquitto"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "apt-get install mosquitto"),
        (
            {"ID": "rocky", "ID_LIKE": "rhel centos fedora"},
            "dnf install epel-release && dnf install mosquitto",
        ),
        ({"ID": "alpine"}, "apk add mosquitto"),
        ({"ID": "nixos"}, "install the package mosquitto"),
    ],
)
def test_the_install_command_is_the_distributions(
    release: dict[str, str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
    assert install_command() == command


def test_without_os_release_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> dict[str, str]:
        raise OSError

    monkeypatch.setattr(platform, "freedesktop_os_release", missing)
    assert install_command() == "install the package mosquitto"


def test_a_program_beside_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = program(tmp_path / "mosquitto", "")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(mosquitto_binary, "_SYSTEM_FOLDERS", str(tmp_path))
    assert find_mosquitto() == expected


def test_a_missing_program_is_told_with_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(mosquitto_binary, "_SYSTEM_FOLDERS", "/nonexistent")
    with pytest.raises(MissingMosquitto, match=r"gateway\.broker") as caught:
        find_mosquitto()
    assert caught.value.fix.startswith(install_command())
    assert "gateway.broker" in caught.value.fix


def test_the_version_is_what_the_help_begins_with(tmp_path: Path) -> None:
    telling = program(tmp_path / "mosquitto", "echo 'mosquitto version 2.1.2'; echo; exit 1")
    assert mosquitto_version(telling) == "2.1.2"


def test_a_program_that_does_not_tell_has_no_version(tmp_path: Path) -> None:
    assert mosquitto_version(program(tmp_path / "mosquitto", "echo hello")) is None
    assert mosquitto_version(tmp_path / "missing") is None
