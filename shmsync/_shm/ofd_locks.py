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


def try_lock(fd: int, offset: int) -> bool:
    """Lock one byte of the file open at `fd` for this open file description; False if another one has it.

    It is free again when the last descriptor of this open file description is closed, in every process that inherited
    one; mmap makes one of its own.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_locked(fd: int, offset: int) -> bool:
    """Tell whether another open file description has one byte locked; takes nothing, and a read-only `fd` will do."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    kind: int = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0]
    return kind != fcntl.F_UNLCK


def unlock(fd: int, offset: int) -> None:
    """Unlock one byte, for every process that shares this open file description."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, offset, 1, 0))
