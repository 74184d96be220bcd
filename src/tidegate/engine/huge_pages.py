"""Large shared memory in huge pages: else a random bucket costs a walk through the page tables besides its own access.

Linux gives them to shared memory by itself only where shmem_enabled says so, which is `never` on most machines; but
since 6.1 it gives them to who asks for pieces of 2 MiB (MADV_COLLAPSE, madvise(2)), unless that is `deny`. The mapping
must begin at a multiple of 2 MiB, which is why it is placed by hand. To ask before the memory is taken, with one byte
of each piece there (Linux 6.18 refuses a piece that is all hole), is faster than to take small pages: 0.3 ms for 4 MiB
instead of 1.3. Rejected: to take those first, as posix_fallocate does, and have them copied, which is 2 to 10 ms.

What is refused, and the rest below 2 MiB at the end, is in small pages as ever: no byte more is taken.
"""

import contextlib
import ctypes
import mmap
import os

HUGE_PAGE = 2 << 20
"""Bytes, with pages of 4 KiB, on x86-64 and AArch64; with larger ones Linux refuses, as no huge page is so small."""
_COLLAPSE = 25  # MADV_COLLAPSE, asm-generic/mman-common.h; Python does not know it yet
_FIXED = 0x10  # MAP_FIXED, the same
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_FAILED = ctypes.c_void_p(-1).value


def take(fd: int, size: int) -> bool:
    """Give a new file its size, and take of it in huge pages what can be had; whether that is each whole piece."""
    whole = size - size % HUGE_PAGE
    if not whole:
        return False
    try:
        os.ftruncate(fd, size)
        for at in range(0, whole, HUGE_PAGE):
            os.pwrite(fd, b"\0", at)
        room, start = _place(fd, size)
        with room:
            room.madvise(_COLLAPSE, start, whole)
    except OSError:  # also where there is no room, which posix_fallocate will say better
        return False
    return True


def map_aligned(fd: int, size: int) -> memoryview:
    """So many bytes of the file for reading and writing, placed so that its huge pages are used."""
    room, start = _place(fd, size)
    return memoryview(room)[start : start + size]


def are_given() -> bool:
    """Whether this machine has huge pages for shared memory just now: tries with one, which it gives back."""
    fd = os.memfd_create("tidegate-try")
    try:
        return take(fd, HUGE_PAGE)
    finally:
        os.close(fd)


def _place(fd: int, size: int) -> tuple[mmap.mmap, int]:
    """Addresses with the file in them, and where it begins there; they end with the object, the file's with them."""
    room = mmap.mmap(-1, size + HUGE_PAGE, flags=mmap.MAP_PRIVATE)  # addresses alone: nobody touches its memory
    address = ctypes.addressof(ctypes.c_char.from_buffer(room))
    start = -address % HUGE_PAGE
    if _libc.mmap(address + start, size, _READ_WRITE, mmap.MAP_SHARED | _FIXED, fd, 0) == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    # Where shmem_enabled is `advise` Linux makes huge pages of what it could not give at first.
    with contextlib.suppress(OSError):
        room.madvise(mmap.MADV_HUGEPAGE, start, size)
    return room, start
