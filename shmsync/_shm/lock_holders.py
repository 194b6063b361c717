"""Which processes hold a kernel lock. For messages only: what is read here is out of date at once.

The kernel does not record who holds an open-file-description lock, because every process that has inherited the
descriptor does. But /proc/PID/fdinfo/FD lists the locks of each open file description (Linux 4.1). Processes of other
users and of outer PID namespaces cannot be looked at.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from shmsync._shm import processes

if TYPE_CHECKING:
    from collections.abc import Iterator


def holders(fd: int, offset: int, limit: float) -> list[int]:
    """Return the processes that hold the lock on a byte of the open file `fd`, as far as this one may see.

    Args:
        fd: a descriptor of the file.
        offset: the byte.
        limit: seconds after which to give up the search: a large host has millions of descriptors.
    """
    deadline = time.monotonic() + limit
    found = []
    for entry in _listing("/proc"):
        if time.monotonic() > deadline:
            break
        if entry.isdigit() and holds(int(entry), fd, offset):
            found.append(int(entry))
    return found


def holds(pid: int, fd: int, offset: int) -> bool:
    """Return whether a process is seen to hold the lock on a byte of the open file `fd`."""
    try:
        wanted = os.fstat(fd)
    except OSError:
        return False
    return any(_has_lock(pid, other, offset) for other in _descriptors(pid, wanted))


def can_see(pid: int) -> bool:
    """Return whether this process may look at the descriptors of another one, and it exists."""
    try:
        os.listdir(f"/proc/{pid}/fd")  # noqa: PTH208 - only whether it works
    except OSError:
        return False
    return True


def may_have_run_at(pid: int, moment: float) -> bool:
    """Return whether a process exists and had started at a Unix time: if not, its pid was used again."""
    found = processes.status(pid)
    return found is not None and processes.start_time(found) <= moment + processes.TOLERANCE


def _descriptors(pid: int, wanted: os.stat_result) -> Iterator[str]:
    """Yield the descriptors of a process that refer to a file."""
    for fd in _listing(f"/proc/{pid}/fd"):
        try:
            status = os.stat(f"/proc/{pid}/fd/{fd}")  # noqa: PTH116
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
            yield fd


def _has_lock(pid: int, fd: str, offset: int) -> bool:
    """Return whether an open file description holds a lock that begins at a byte.

    A line is "lock: 1: OFDLCK ADVISORY WRITE -1 00:1b:42 0 0": its last two fields are the first and the last byte.
    """
    try:
        with open(f"/proc/{pid}/fdinfo/{fd}", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except OSError:
        return False
    return any(line.startswith("lock:") and "OFDLCK" in line and line.split()[-2] == str(offset) for line in lines)


def _listing(directory: str) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 - only the names are needed
    except OSError:
        return []
