"""The end of a life of a name: its segments are removed, under the write lock."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from shmsync._core.layout import CLOSED, STATE_SIZE, VERSION_AT, WRITER, WRITER_AT, Names, parse_state_header
from shmsync._session import notify
from shmsync._session.state import StateWords, map_part, open_part
from shmsync._shm import ofd_locks
from shmsync._shm.segment import unlink_segment
from shmsync.errors import (
    DataWriteError,
    LayoutMismatchError,
    StateNotFoundError,
    StateReadError,
    WriteLockConflictError,
    reason,
)

if TYPE_CHECKING:
    from shmsync._shm.segment import Segment

_LOCK_AT = 0


def remove(names: Names) -> bool:
    """End the present life of a name as a writer would; tell whether there was one.

    Raises:
        WriteLockConflictError: its writer is alive.
        LayoutMismatchError: it is not a segment of this layout; nothing was changed.
    """
    try:
        state = open_part(names.state, writable=True)
    except StateNotFoundError:
        return False
    with state:
        lock(state)
        if state.status().st_size >= STATE_SIZE:
            memory = map_part(state, writable=True)
            if parse_state_header(names.state, memoryview(memory)) is not None:
                StateWords(memory).version.store(CLOSED)
                notify.wake(memory, VERSION_AT)
        remove_all(names)
    return True


def remove_by_force(names: Names) -> bool:
    """Remove the segments of a name whatever they are; tell whether there were any.

    A writer that is alive notices at its next write, and begins a new life of the name.

    Raises:
        DataWriteError: one cannot be removed: it belongs to somebody else, or is a directory.
    """
    try:
        found = remove(names)  # if it goes in good order, attached readers notice at once
    except (WriteLockConflictError, LayoutMismatchError, StateReadError):
        found = False
    return remove_all(names) or found


def lock(state: Segment) -> None:
    """Take the write lock.

    Raises:
        WriteLockConflictError: a writer is alive.
    """
    if ofd_locks.try_lock(state.fd, _LOCK_AT):
        return
    holder = ""
    if state.status().st_size >= STATE_SIZE:
        pid, since_ns = WRITER.unpack_from(state.map(writable=False), WRITER_AT)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since_ns / 1e9))
        holder = f" by process {pid} since {since}" if pid else ""
    raise WriteLockConflictError(
        errno.EAGAIN, f"{state.name} is being written{holder}; a name has one writer at a time: close that one first"
    )


def remove_all(names: Names) -> bool:
    """Remove all segments; tell whether there were any."""
    found, failed = 0, None
    for name in (*names.data, names.readers, names.state):  # the state last: it is what everyone looks for
        try:
            found += unlink(name)
        except DataWriteError as error:  # noqa: PERF203 - the others are to be removed all the same
            failed = failed or error
    if failed is not None:
        raise failed
    return found > 0


def unlink(name: str) -> bool:
    """Remove a segment; tell whether it was there.

    Raises:
        DataWriteError: it cannot be removed.
    """
    try:
        return unlink_segment(name)
    except OSError as error:
        raise DataWriteError(error.errno or 0, f"cannot remove {name}: {reason(error)}") from error
