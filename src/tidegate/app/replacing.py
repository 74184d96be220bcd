"""A file that others read, written anew: they find the former one or this one, never a part of it."""

import contextlib
import os
import stat
from pathlib import Path


def replace(file: Path, data: bytes, like: os.stat_result | None) -> None:
    """Write it at once or not at all, with mode and owner of another; None: as a new file has them. OSError."""
    draft = file.with_name(f".{file.name}.new")
    try:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        mode = 0o666 if like is None else 0o600  # nobody reads it before it is his to read
        number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(number, "wb") as out:
            out.write(data)
            out.flush()
            if like is not None:
                _resemble(out.fileno(), like)
            os.fsync(out.fileno())
        draft.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _resemble(number: int, like: os.stat_result) -> None:
    state = os.fstat(number)
    if (state.st_uid, state.st_gid) != (like.st_uid, like.st_gid):
        os.fchown(number, like.st_uid, like.st_gid)
    os.fchmod(number, stat.S_IMODE(like.st_mode))
