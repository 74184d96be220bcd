"""The Mosquitto that is installed on this machine."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from .start_error import StartError

_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin"  # Debian's place for it, which is on no ordinary user's PATH
_VERSION_SECONDS = 5.0  # for a program that prints a help text

_INSTALL = {
    "debian": "apt-get install mosquitto",
    "ubuntu": "apt-get install mosquitto",
    "fedora": "dnf install mosquitto",
    "rhel": "dnf install epel-release && dnf install mosquitto",
    "alpine": "apk add mosquitto",
    "arch": "pacman -S mosquitto",
    "suse": "zypper install mosquitto",
}
"""By ID or ID_LIKE of os-release(5)."""


class MissingMosquitto(StartError):
    """No broker is configured, and there is no Mosquitto to embed."""

    def __init__(self) -> None:
        super().__init__(
            "no gateway.broker is set, and there is no Mosquitto to embed, neither on the PATH nor in "
            + _SYSTEM_FOLDERS.replace(":", " or "),
            f"{install_command()}, or set gateway.broker to the broker to protect",
        )


def find_mosquitto() -> Path:
    """The program's path; MissingMosquitto when there is none."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_FOLDERS}")
    if found is None:
        raise MissingMosquitto
    return Path(found)


def mosquitto_version(binary: Path) -> str | None:
    """Its version, such as "2.0.11"; None when it cannot be run or does not tell."""
    try:
        told = subprocess.run([binary, "-h"], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"mosquitto version (\S+)", told.stdout)
    return match[1] if match else None


def install_command() -> str:
    """What installs Mosquitto on this machine's distribution."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    for name in (release.get("ID", ""), *release.get("ID_LIKE", "").split()):
        if name in _INSTALL:
            return _INSTALL[name]
    return "install the package mosquitto"
