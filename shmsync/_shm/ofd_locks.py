"""Open-file-description locks on single bytes of a segment (Linux 3.15, fcntl(2)): the only importer of fcntl.

Unlike POSIX record locks they belong to the open file description, not the process: two handles in one process exclude
each other, a fork shares the lock, and closing another descriptor of the same file does not release it. The kernel
releases them when their holders exit or are killed, and they work across PID namespaces.
"""

from __future__ import annotations

import fcntl
import os
import struct

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of a 64-bit Linux: type, whence, start, length, pid


def try_lock(fd: int, offset: int) -> bool:
    """Lock one byte of the file open at `fd` for this open file description; return False if another one holds it.

    The lock is released when the last descriptor of this open file description is closed, in every process that
    inherited one; mmap duplicates the descriptor.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_locked(fd: int, offset: int) -> bool:
    """Return whether another open file description has locked one byte. Takes no lock; a read-only `fd` is enough."""
    query = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0)
    kind: int = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, query))[0]
    return kind != fcntl.F_UNLCK


def unlock(fd: int, offset: int) -> None:
    """Unlock one byte, for every process that shares this open file description."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, offset, 1, 0))
