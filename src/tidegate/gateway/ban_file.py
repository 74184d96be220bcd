"""The bans on disk: `bans.json` in the state directory, which the gateway and `tidegate ban` both change.

Who changes it holds the lock beside it (flock(2)) from reading to writing. A reader needs none: the file is replaced
at one moment. One that cannot be read as bans is kept aside, and nothing fails for it.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..policy.problems import BadValue, show
from .ban_book import Entry, read_entry
from .state import try_lock

VERSION = 1
MAX_BYTES = 64 << 20
"""The largest file that is read: no limit can ban so many of so long names (`policy.ban_keys`)."""
_MEND = "mend it, or remove it"
PATIENCE = 5.0
"""Seconds to wait for the lock, which nobody has for longer than a file takes to be written."""


class BanFileError(Exception):
    """The file cannot be read or written; `text` says why and `fix` what to do."""

    def __init__(self, path: Path, what: str, error: OSError) -> None:
        self.text = f"{path}: {what}: {error.strerror or error}"
        self.fix = "let the gateway's user read and write its folder, run this as that user, or make room there"
        super().__init__(f"{self.text}; {self.fix}")


@dataclass(frozen=True, slots=True)
class Found:
    """What a file says."""

    entries: list[Entry]
    problem: str = ""
    """What of it could not be read, with the file's name; empty when all could."""


class BanFile:
    """`bans.json` of one state directory. Its methods wait for disks and locks: not for an event loop."""

    def __init__(self, state_dir: Path, patience: float = PATIENCE) -> None:
        self.path = state_dir / "bans.json"
        self._lock_path = state_dir / "bans.lock"
        self._patience = patience
        self._seen: tuple[int, ...] | None = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all others from changing it; makes the directory where there is none. BanFileError."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = self._create(self._lock_path)
        except OSError as error:
            raise BanFileError(self._lock_path, "cannot be opened", error) from error
        try:
            deadline = time.monotonic() + self._patience
            while not try_lock(fd, fcntl.LOCK_EX):
                if time.monotonic() >= deadline:
                    raise BanFileError(self._lock_path, "another process keeps it locked", TimeoutError())
                time.sleep(0.01)
            yield
        finally:
            os.close(fd)

    @property
    def is_changed(self) -> bool:
        """Whether it is another file than the one that was read or written here last."""
        return self._identity() != self._seen

    def read(self) -> Found:
        """All entries that can be read; nothing where there is no file. BanFileError when one cannot be opened now."""
        identity = self._identity()
        try:
            with open(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except FileNotFoundError:
            data = None
        except (PermissionError, IsADirectoryError) as error:
            return Found(
                [], f"{self.path}: cannot be read: {error.strerror}; let the gateway's user read it, or be him"
            )
        except OSError as error:
            raise BanFileError(self.path, "cannot be read", error) from error
        self._seen = identity
        if data is None:
            return Found([])
        return _parse(self.path, data)

    def write(self, entries: Iterable[Entry]) -> None:
        """Replace it, at once or not at all. BanFileError."""
        lines = ",\n  ".join(json.dumps(entry.as_object()) for entry in entries)
        text = f'{{"version": {VERSION}, "bans": [\n  {lines}\n]}}\n'
        draft = self.path.with_name(f"{self.path.name}.new")
        try:
            fd = self._create(draft)
            with open(fd, "wb") as stream:
                stream.truncate()
                stream.write(text.encode())
                stream.flush()
                os.fsync(fd)
            draft.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()  # half a file would only take the room that there is none of
            self._seen = None  # what has been read here has not been put to use
            raise BanFileError(self.path, "cannot be written", error) from error
        self._seen = self._identity()

    def set_aside(self) -> Path:
        """Give a file that cannot be read another name, under which it stays; that name. BanFileError."""
        aside = self.path.with_name(f"{self.path.name}.broken")
        try:
            self.path.replace(aside)
        except OSError as error:
            raise BanFileError(self.path, "cannot be renamed", error) from error
        return aside

    def _create(self, path: Path) -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        # What root makes must not be closed to the gateway, whose directory it is.
        owner = path.parent.stat()
        if os.geteuid() == 0 and owner.st_uid != os.fstat(fd).st_uid:
            os.fchown(fd, owner.st_uid, owner.st_gid)
        return fd

    def _identity(self) -> tuple[int, ...] | None:
        """What tells this file from all that were or will be in its place."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _parse(path: Path, data: bytes) -> Found:
    if len(data) > MAX_BYTES:
        return Found([], f"{path}: larger than {MAX_BYTES >> 20} MiB: not a list of bans; {_MEND}")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:  # ValueError: also not UTF-8
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        return Found([], f"{path}{line}: not JSON: {error}; {_MEND}")
    if not isinstance(document, dict) or not isinstance(bans := document.get("bans"), list):
        return Found([], f"{path}: not a list of bans; {_MEND}")
    if document.get("version") != VERSION:
        return Found([], f"{path}: version {show(document.get('version'))} of the format is not known here; {_MEND}")
    entries, problem = [], ""
    for number, value in enumerate(bans):
        try:
            entries.append(read_entry(value))
        except BadValue as error:
            problem = problem or f"{path}: bans[{number}]: {error}"
    return Found(entries, problem)
