"""Kernel locks on single bytes of a segment: the only importer of fcntl.

Open-file-description locks (Linux 3.15). Unlike classic record locks they belong to the open file, not the process:
two handles in one process exclude each other, a fork shares the lock, and closing some other descriptor of the same
file does not drop it. The kernel frees them however their holders end, and they hold across PID namespaces.
"""

from __future__ import annotations

import fcntl
import os
import struct

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of a 64-bit Linux: type, whence, start, length, pid


class ByteLock:
    """A held lock on one byte, and the file descriptor that carries it.

    The descriptor must come from an open of its own: a duplicate (mmap makes one) would keep the lock alive.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def release(self) -> None:
        """Close the descriptor; the lock goes with the last process that has it open. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self.release()


def try_lock(fd: int, offset: int) -> bool:
    """Lock one byte of the file open at `fd` for this open file description; False if another one has it."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def unlock(fd: int, offset: int) -> None:
    """Unlock one byte, for every process that shares this open file description."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, offset, 1, 0))
