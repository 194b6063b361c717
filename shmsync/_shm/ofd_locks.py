"""Open-file-description locks on single bytes of a segment (Linux 3.15, fcntl(2)): the only importer of fcntl.

Unlike POSIX record locks they belong to the open file description, not the process: two handles in one process exclude
each other, a fork shares the lock, and closing another descriptor of the same file does not release it. The kernel
releases them when their holders exit or are killed, and they work across PID namespaces.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress

from shmsync._util.os_errors import explain
from shmsync.errors import StateReadError

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of a 64-bit Linux: type, whence, start, length, pid


def check_available() -> None:
    """Try a lock on a file that nobody else cares about, so that a refusal is found before a segment is created.

    Raises:
        StateReadError: the kernel refuses.
    """
    try:
        null = open(os.devnull, "rb", buffering=0)  # noqa: PTH123, SIM115 - a device, closed below
    except OSError:
        return
    with null:
        try_lock(null.fileno(), 0, shared=True)


def try_lock(fd: int, offset: int, *, shared: bool = False) -> bool:
    """Lock one byte of the file open at `fd` for this open file description; return False if another one holds it.

    The lock is released when the last descriptor of this open file description is closed, in every process that
    inherited one; mmap duplicates the descriptor.

    Raises:
        StateReadError: the kernel refuses for another reason than a conflict.
    """
    try:
        _fcntl(fd, fcntl.F_OFD_SETLK, fcntl.F_RDLCK if shared else fcntl.F_WRLCK, offset)
    except BlockingIOError:
        return False
    return True


def is_locked(fd: int, offset: int) -> bool:
    """Return whether another open file description has locked one byte. Takes no lock; a read-only `fd` is enough.

    Raises:
        StateReadError: the kernel refuses to tell.
    """
    kind: int = _FLOCK.unpack(_fcntl(fd, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, offset))[0]
    return kind != fcntl.F_UNLCK


def unlock(fd: int, offset: int) -> None:
    """Unlock one byte, for every process that shares this open file description.

    A refusal is ignored: the lock ends with the last descriptor of the open file description at the latest.
    """
    with suppress(StateReadError):
        _fcntl(fd, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, offset)


def _fcntl(fd: int, command: int, kind: int, offset: int) -> bytes:
    try:
        return fcntl.fcntl(fd, command, _FLOCK.pack(kind, os.SEEK_SET, offset, 1, 0))
    except BlockingIOError:  # a conflict. Linux reports it as EAGAIN; PermissionError is the answer of a sandbox
        raise
    except OSError as error:
        if error.errno is None:  # raised by a signal handler
            raise
        raise StateReadError(error.errno, f"cannot lock {_path(fd)}: {_explain(error)}") from error


def _path(fd: int) -> str:
    try:
        path = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
    except OSError:
        return "a segment"
    return "a file" if path == os.devnull else path  # see `check_available`


def _explain(error: OSError) -> str:
    if error.errno == errno.EINVAL:
        return "this kernel or sandbox has no open-file-description locks (fcntl F_OFD_SETLK), which shmsync needs"
    return explain(error)
