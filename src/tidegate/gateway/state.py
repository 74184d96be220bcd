"""The state directory: what must outlive the process, and the lock that gives it to one gateway at a time."""

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from .start_error import StartError

LOCK_PATIENCE = 1.0
"""Seconds to wait for the lock: the workers of a gateway that was killed end within milliseconds, not at
once."""


class StateDirError(StartError):
    """The state directory cannot be made or written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"gateway.state_dir = {str(path)!r} cannot be used: {reason}",
            "set gateway.state_dir to a folder that this user may make and write, or chown this one",
        )


@dataclass(frozen=True)
class Owner:
    """The gateway that has a state directory, as it wrote itself into the lock."""

    pid: int
    admin: str
    """Where its admin endpoint listens."""


class StateDirTaken(StartError):
    """Another gateway has the state directory."""

    def __init__(self, path: Path, owner: Owner | None) -> None:
        who = f"pid {owner.pid}, admin endpoint at {owner.admin}" if owner else "it is just starting"
        super().__init__(
            f"a gateway runs already with gateway.state_dir = {str(path)!r} ({who})",
            f"{f'kill {owner.pid}' if owner else 'stop it'}, or set another gateway.state_dir for this one",
        )
        self.owner = owner


class StateDir:
    """A directory that one gateway at a time has.

    The lock is flock(2) on the file `lock` in it: the kernel releases it when the last process that has
    inherited its descriptor is gone, however that ended. The file itself stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = path / "lock"
        self._fd = -1

    @property
    def lock_fd(self) -> int:
        """The lock's descriptor. A worker that inherits it keeps the directory taken until it has ended."""
        return self._fd

    def lock(self, admin: str, patience: float = LOCK_PATIENCE) -> None:
        """Make the directory (0700) and lock it in this process's name; `admin` is written in it for others
        to read.

        StateDirTaken when another has kept it for `patience` seconds, StateDirError when it cannot be made
        or written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StateDirError(self.path, _reason(error)) from error
        deadline = time.monotonic() + patience
        while not try_lock(fd, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                owner = _read_owner(fd)
                os.close(fd)
                raise StateDirTaken(self.path, owner)
            time.sleep(0.01)
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps({"pid": os.getpid(), "admin": admin}).encode(), 0)
        except OSError as error:  # the disk is full
            os.close(fd)
            raise StateDirError(self.path, _reason(error)) from error
        self._fd = fd

    def unlock(self) -> None:
        """Give the lock back; without one, nothing happens."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def owner(self) -> Owner | None:
        """Who has the directory now, None if nobody; StateDirError when this user may not look."""
        try:
            fd = os.open(self._lock_path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateDirError(self.path, _reason(error)) from error
        try:
            return None if try_lock(fd, fcntl.LOCK_SH) else _read_owner(fd)
        finally:
            os.close(fd)

    def check_writable(self) -> None:
        """Raise the StateDirError that `lock` would raise, without making anything."""
        place = self.path
        try:
            while not place.exists() and place != place.parent:
                place = place.parent
        except OSError as error:  # a folder on the way that this user may not enter
            raise StateDirError(self.path, _reason(error)) from error
        if not place.is_dir():
            raise StateDirError(self.path, f"{place} is not a folder")
        if not os.access(place, os.W_OK | os.X_OK):
            raise StateDirError(self.path, f"this user may not write in {place}")


def try_lock(fd: int, kind: int) -> bool:
    """Take flock(2) of `kind` (fcntl.LOCK_EX or LOCK_SH) at once; False if another process is in the way."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_owner(fd: int) -> Owner | None:
    """What the lock says; None while its owner has locked it but not yet written."""
    try:
        return Owner(**json.loads(os.pread(fd, 4096, 0)))
    except (ValueError, TypeError):
        return None


def _reason(error: OSError) -> str:
    return f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)
