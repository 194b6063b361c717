"""Unlink a name that this process does not write: end its incarnation and remove its segments, under the write lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync._core.layout import CLOSED, STATE_SIZE, VERSION_AT, parse_state_header
from shmsync._session import notify
from shmsync._session.control import map_control_segment, open_control_segment
from shmsync._session.ownership import remove_segments
from shmsync._session.state import StateWords
from shmsync._session.write_lock import take_write_lock
from shmsync.errors import LayoutMismatchError, StateNotFoundError, StateReadError, WriteLockConflictError

if TYPE_CHECKING:
    from shmsync._core.layout import Names


def unlink_name(names: Names) -> bool:
    """End the current incarnation of a name as its writer would; return whether there was one.

    Raises:
        WriteLockConflictError: its writer is alive.
        LayoutMismatchError: the segments have another layout, or belong to another program; nothing was changed.
    """
    try:
        state = open_control_segment(names, names.state, writable=True)
    except StateNotFoundError:
        return False
    with state:
        take_write_lock(names, state)
        if state.status().st_size >= STATE_SIZE:
            memory = map_control_segment(state, writable=True)
            if parse_state_header(names.state, memoryview(memory)) is not None:
                StateWords(memory).version.store(CLOSED)
                notify.wake(memory, VERSION_AT)
        remove_segments(names)
    return True


def force_unlink_name(names: Names) -> bool:
    """Remove the segments of a name, even if they are damaged or foreign; return whether there were any.

    A live writer notices at its next write, and starts a new incarnation.

    Raises:
        DataWriteError: a segment cannot be removed: it belongs to another user, or is a directory.
    """
    try:
        found = unlink_name(names)  # if it can be unlinked properly, attached readers notice at once
    except (WriteLockConflictError, LayoutMismatchError, StateReadError):
        found = False
    return remove_segments(names) or found
