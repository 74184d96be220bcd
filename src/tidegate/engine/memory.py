"""Memory that processes share: with a name, for those who meet by it, or without, for those who inherit it.

All of it is taken at once (posix_fallocate): a /dev/shm that is too small must fail here, with a reason, and not by
SIGBUS in the middle of a message. From 2 MiB on it is in huge pages where the machine gives them (huge_pages.py).
"""

import contextlib
import errno
import fcntl
import mmap
import os
import secrets
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from .errors import SegmentError

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LARGE = 2 << 20
"""Bytes: a huge page. Less has none."""


def boot() -> int:
    """A number that changes with every boot, as the clock that segments are written by does; 0 where there is none."""
    try:
        return zlib.crc32(BOOT_ID.read_bytes())
    except OSError:
        return 0


def secret() -> tuple[int, int]:
    """A new key for the hashes of one segment."""
    return secrets.randbits(64), secrets.randbits(64)


def create_anonymous(size: int) -> int:
    """A file descriptor of so many zeroed bytes without a name; SegmentError when there is not so much memory."""
    fd = os.memfd_create("tidegate-segment", os.MFD_ALLOW_SEALING)
    try:
        _take(fd, size, "memory")
        # Nobody who has it can take it away from under the others.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd


def map_memory(fd: int) -> memoryview:
    """The whole of it, for reading and writing; ValueError when it is empty."""
    size = os.fstat(fd).st_size
    if size < _LARGE:
        return memoryview(mmap.mmap(fd, size))
    from .huge_pages import map_aligned  # noqa: PLC0415  as in _take

    return map_aligned(fd, size)


def open_named(
    path: Path,
    size: int,
    fill: Callable[[memoryview], None],
    mode: int = 0o660,
    is_stale: Callable[[memoryview], bool] = lambda _: False,
) -> memoryview:
    """The memory behind `path`, made by the first who asks: `size` bytes, which `fill` writes before others see them.

    One that `is_stale` is replaced by a new one, at one moment for all. SegmentError when it can be neither opened
    nor made.
    """
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            _create_named(path, size, fill, mode, os.link)
            continue
        except OSError as error:
            raise SegmentError(
                f"{path}: cannot be opened: {error.strerror}", f"let this user read and write {path}"
            ) from error
        try:
            _check_owner(path, fd)
            memory = map_memory(fd)
            if not is_stale(memory):
                return memory
            # Whoever holds the lock of the old file replaces it; the others find another file behind the path.
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_behind(path, fd):
                _create_named(path, size, fill, mode, os.rename)
        except (OSError, ValueError) as error:  # ValueError: it is empty
            raise SegmentError(f"{path}: cannot be used: {error}", f"remove it: rm {path}") from error
        finally:
            os.close(fd)


def replace_named(path: Path, size: int, fill: Callable[[memoryview], None], mode: int = 0o660) -> int:
    """Put a new file of `size` bytes in the place of whatever is behind `path`, once `fill` has written it: its
    descriptor.

    Those who have the former one keep it. SegmentError when it cannot be made.
    """
    try:
        _create_named(path, size, fill, mode, os.rename)
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise SegmentError(f"{path}: cannot be used: {error.strerror}", "choose another path") from error


GUEST_ROWS = 4
"""Rows at the end of a segment that has a name, for processes that come and go: plugins (plugin/plugin.h)."""
_LOCKS = 1 << 62
"""The byte that the process of row 0 locks, far behind all that is there; the other rows' follow."""
_FLOCK = "hhqqi4x"


def row_is_held(fd: int, row: int) -> bool:
    """Whether a process that has opened the segment `fd` by itself has this row, by a lock that ends with it."""
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _LOCKS + row, 1, 0)
    return bool(struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK)


def _check_owner(path: Path, fd: int) -> None:
    """Raise SegmentError for a file that a stranger may change: he could take it away from under us at any time."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise SegmentError(f"{path}: not a regular file", "choose another path")
    ours = status.st_uid in (0, os.geteuid())
    shared = status.st_gid in (os.getegid(), *os.getgroups()) and not status.st_mode & stat.S_IWOTH
    if not (ours or shared):
        raise SegmentError(
            f"{path}: belongs to user {status.st_uid}", "choose another path, or have its owner remove it"
        )


def _is_behind(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _create_named(
    path: Path, size: int, fill: Callable[[memoryview], None], mode: int, name: Callable[[Path, Path], None]
) -> None:
    """Make the file under another name, whole, and then give it its own by `name`, unless somebody was faster."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise SegmentError(
            f"{path}: cannot be made: {error.strerror}", f"make {path.parent} a folder that this user may write to"
        ) from error
    try:
        _take(fd, size, str(path.parent))
        with map_memory(fd) as memory:
            fill(memory)
        os.fchmod(fd, mode)  # whatever the umask
        with contextlib.suppress(FileExistsError):
            name(draft, path)
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):  # renamed
            os.unlink(draft)


def _take(fd: int, size: int, where: str) -> None:
    if size >= _LARGE:
        from .huge_pages import take  # noqa: PLC0415  it needs ctypes, 1.5 ms and 0.2 MiB: small limiters do without

        take(fd, size)
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG, errno.EDQUOT):
            raise
        raise SegmentError(
            f"no room for {size / 2**20:.1f} MiB in {where}: {error.strerror}",
            "make room there (mount -o remount,size=…), or lower the number of buckets",
        ) from error
