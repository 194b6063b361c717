"""Futexes: sleep in the kernel until a shared word changes.

The futex is the low half of a word in a shared mapping, which may be read-only. A waiter passes the value that it has
seen; the kernel compares once more before it puts the caller to sleep, so no change in between is missed. Sources:
futex(2), and futex_waitv in include/uapi/linux/futex.h (Linux 5.16).
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

from shmsync._shm.ffi import BYTES, ffi, libc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from mmap import mmap

_NUMBERS = {"x86_64": 202, "AMD64": 202, "aarch64": 98, "riscv64": 98}
_MACHINE = os.uname().machine
_WAITV = 449
_WAIT, _WAKE = 0, 1  # without the private flag: the words are shared between processes
_ALL = 0x7FFFFFFF
_SIZE_U32 = 2
_WAITER = struct.Struct("=QQII")  # struct futex_waitv: value, address, flags, reserved
_TIMESPEC = ffi.typeof("long[2]")
_LOW_HALF = 0 if sys.byteorder == "little" else 4
_MASK = 0xFFFFFFFF
_EXPECTED = frozenset({errno.EAGAIN, errno.ETIMEDOUT, errno.EINTR})

MAX_WORDS = 128
"""How many words one call can wait for (FUTEX_WAITV_MAX)."""


def _system_call() -> Any:
    if _MACHINE not in _NUMBERS or sys.maxsize < 1 << 32 or sys.platform != "linux":
        return None
    return libc.syscall


_call = _system_call()
_NUMBER = _NUMBERS.get(_MACHINE, 0)


class Futex:
    """The futex of a shared word. Keeps its mapping alive."""

    __slots__ = ("_base", "address")

    def __init__(self, mapping: mmap | bytearray, offset: int) -> None:
        self._base = ffi.from_buffer(BYTES, mapping)
        self.address = int(ffi.cast("uintptr_t", self._base)) + offset + _LOW_HALF

    def wait(self, seen: int, timeout: float) -> bool:
        """Sleep while the word is `seen`, for at most `timeout` seconds. May return early, as after a signal.

        Return False if the kernel refuses, as after a sandbox was entered: then poll.
        """
        span = _timespec(timeout)
        if _call(_NUMBER, self.address, _WAIT, seen & _MASK, int(ffi.cast("uintptr_t", span)), 0, 0) < 0:
            return ffi.errno in _EXPECTED
        return True

    def wake(self) -> None:
        """Wake all waiters of the word; takes half a microsecond if there are none."""
        if AVAILABLE:
            _call(_NUMBER, self.address, _WAKE, _ALL, 0, 0, 0)


def wait_for_any(words: Sequence[tuple[Futex, int]], timeout: float) -> bool:
    """Sleep while each word has the value seen, for at most `timeout` seconds. May return early.

    Return False if the kernel refuses: then poll.
    """
    waiters = bytearray(b"".join(_WAITER.pack(seen & _MASK, futex.address, _SIZE_U32, 0) for futex, seen in words))
    array = ffi.from_buffer(BYTES, waiters)
    deadline = _timespec(time.clock_gettime(time.CLOCK_MONOTONIC) + timeout)
    addresses = [int(ffi.cast("uintptr_t", each)) for each in (array, deadline)]
    if _call(_WAITV, addresses[0], len(words), 0, addresses[1], time.CLOCK_MONOTONIC, 0) < 0:
        return ffi.errno in _EXPECTED
    return True


def _timespec(seconds: float) -> Any:
    whole = min(int(seconds), 1 << 40)
    return ffi.new(_TIMESPEC, [whole, int((seconds - whole) * 1e9) if seconds < 1 << 40 else 0])


def _probe(*, many: bool) -> bool:
    """Return whether the kernel has the system call and this process may use it."""
    if _call is None:
        return False
    futex = Futex(bytearray(8), 0)
    return wait_for_any([(futex, 1)], 0.0) if many else futex.wait(1, 0.0)


AVAILABLE = _probe(many=False)
"""Whether one word can be waited for."""
MANY_AVAILABLE = AVAILABLE and _probe(many=True)
"""Whether several words can be waited for."""
