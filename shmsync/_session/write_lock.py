"""The write lock of a name: a kernel lock on the first byte of its state segment, and who holds it."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from shmsync._core.layout import WRITER, WRITER_AT
from shmsync._shm import lock_holders, ofd_locks
from shmsync.errors import WriteLockConflictError

if TYPE_CHECKING:
    from shmsync._core.layout import Names
    from shmsync._shm.segment import Segment

LOCK_AT = 0
_WAIT = "close that one first, or pass lock_timeout= to wait for it"
_SEARCH_LIMIT = 0.3  # seconds that an error message may take to find out who holds the lock


def try_write_lock(state: Segment) -> bool:
    """Take the write lock of an open state segment; return False if another holds it."""
    return ofd_locks.try_lock(state.fd, LOCK_AT)


def conflict(names: Names, state: Segment, remedy: str = "") -> WriteLockConflictError:
    """Return the error for a write lock that another holds; it names the holder if it can be found.

    Args:
        names: the name.
        state: its state segment.
        remedy: what to do about a live writer; empty for what another writer can do.
    """
    return WriteLockConflictError(errno.EAGAIN, _describe(names.name, state, remedy))


def _describe(name: str, state: Segment, remedy: str) -> str:
    pid, since_ns = _recorded(state)
    since = since_ns / 1e9
    if not (pid and _is_writer(pid, since, state)):
        return _describe_unrecorded(name, state, pid, since, remedy)
    text = f"{name!r} already has a writer (pid {pid}, since {_local_time(since)}"
    if pid == os.getpid():
        text, remedy = f"{text}, another Writer of this process", remedy or "close it, or write with it"
    return f"{text}); a name has only one at a time; {remedy or _WAIT}"


def _describe_unrecorded(name: str, state: Segment, pid: int, since: float, remedy: str) -> str:
    """Describe a lock that the recorded writer does not hold: it has died (pid is not 0), or closed."""
    found = lock_holders.holders(state.fd, LOCK_AT, _SEARCH_LIMIT)
    pids = ", ".join(map(str, found))
    if not found:
        return (
            f"{name!r} already has a writer, in a process that this one cannot see: of another user, or in another "
            f"container; a name has only one at a time; to find it, run `fuser /dev/shm{state.name}` as root outside "
            "of containers"
        )
    if not pid:  # a writer that has the lock, but is not recorded yet, looks the same
        return (
            f"{name!r} already has a writer (pid {pids}), which is opening the name, or was forked in C by one that "
            f"has closed; a name has only one at a time; {remedy or _WAIT}"
        )
    gone = f"{name!r} cannot be written: its writer (pid {pid}, since {_local_time(since)}) has ended"
    if os.getpid() in found:
        return (
            f"{gone}, but this process (pid {os.getpid()}) was forked by it, in C, and still holds its write lock; end "
            "this process, or close inherited descriptors after the fork"
        )
    return (
        f"{gone}, but a process that it forked holds the write lock: pid {pids}; end that process, or wait until it "
        "ends"
    )


def _recorded(state: Segment) -> tuple[int, int]:
    """Return the pid of the writer that was last recorded, and the time of that in nanoseconds; 0 if it has closed."""
    raw = state.read(WRITER_AT, WRITER.size)
    pid, since_ns = WRITER.unpack(raw.ljust(WRITER.size, b"\0"))
    return pid, since_ns


def _is_writer(pid: int, since: float, state: Segment) -> bool:
    """Return whether the recorded writer still holds the lock.

    A process of another user shows neither its descriptors nor its locks. It is believed if it is old enough.
    """
    if lock_holders.can_see(pid):
        return lock_holders.holds(pid, state.fd, LOCK_AT)
    return lock_holders.may_have_run_at(pid, since)


def _local_time(since: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
