"""A timer of the kernel's that is exact: the event loop's own rounds to milliseconds, which costs a rate above a
hundred a second what it is late, unless its burst makes up for it.
"""

import asyncio
import ctypes
import os
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC

_libc = ctypes.CDLL(None, use_errno=True)


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class Alarm:
    """Calls back once at a time of the monotonic clock; OSError when the process has no descriptor left."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        if self._fd < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        self._loop = loop
        self._callback = callback
        loop.add_reader(self._fd, self._ring)

    def set(self, at: float) -> None:
        """Call back at `at`, in seconds, and not when it was said before; infinity: not at all."""
        setting = _Setting()
        if at != float("inf"):
            nanoseconds = max(1, int(at * 1e9) + 1)  # 0 would mean never; a nanosecond late is not too early
            setting.value.seconds, setting.value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        if _libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(setting), None) < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))

    def close(self) -> None:
        """Call back no more."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # it was set anew meanwhile
            return
        self._callback()
