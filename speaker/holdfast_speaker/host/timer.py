"""A timer with the kernel's precision (timerfd_create(2)).

Through ctypes, because the module os has it only from Python 3.13 on: this way there is one path and it is tested.
"""

from __future__ import annotations

import contextlib
import ctypes
import os

from holdfast_api.errors import EnvironmentFailure

_CLOCK_BOOTTIME = 7
_TFD_NONBLOCK = 0o4000
_TFD_CLOEXEC = 0o2000000
_TFD_TIMER_ABSTIME = 1
_NANOSECONDS = 1_000_000_000
_EXPIRATIONS_BYTES = 8


class _TimerSpecification(ctypes.Structure):
    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("value_seconds", ctypes.c_long),
        ("value_nanoseconds", ctypes.c_long),
    )


_libc = ctypes.CDLL("libc.so.6", use_errno=True)  # glibc itself, not what a preloaded library has in its place
_timerfd_settime = _libc.timerfd_settime
_timerfd_settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.POINTER(_TimerSpecification), ctypes.c_void_p)


def _failure(doing: str) -> EnvironmentFailure:
    return EnvironmentFailure(f"{doing}: {os.strerror(ctypes.get_errno())}")


class Timer:
    """Becomes readable at one instant of clock.now(). The constructor raises EnvironmentFailure."""

    def __init__(self) -> None:
        self._descriptor: int = _libc.timerfd_create(_CLOCK_BOOTTIME, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._descriptor < 0:
            raise _failure("cannot make a timer")
        self._specification = _TimerSpecification()
        self._pointer = ctypes.byref(self._specification)
        self._armed_for: int | None = None

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._descriptor

    def close(self) -> None:
        """Close the descriptor; more than once is no error."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def arm(self, at_ns: int | None) -> None:
        """Be readable from `at_ns` on (clock.now), at once when that has passed, never for None.

        Replaces the instant set before. Raises EnvironmentFailure.
        """
        if at_ns == self._armed_for:
            return
        if at_ns is None:
            seconds, nanoseconds = 0, 0
        else:
            # The value 0 would disarm it.
            seconds, nanoseconds = divmod(max(at_ns, 1), _NANOSECONDS)
        self._specification.value_seconds = seconds
        self._specification.value_nanoseconds = nanoseconds
        if _timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, self._pointer, None) < 0:
            raise _failure("cannot set a timer")
        self._armed_for = at_ns

    def read(self) -> None:
        """Be readable no longer, if the instant has come; the timer is then not armed."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, _EXPIRATIONS_BYTES)
            self._armed_for = None
