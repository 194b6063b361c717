"""Unlink a name that this process does not write: end its incarnation and remove its segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync._core.lifecycle import NameOwner, force_unlink, unlink_all
from shmsync._session.state_file import CreateOptions, SegmentDirectory
from shmsync.errors import LayoutMismatchError, StateReadError

if TYPE_CHECKING:
    from shmsync._core.layout import Names


def unlink_name(names: Names) -> bool:
    """End the current incarnation of a name as its writer would; return whether there was one.

    Raises:
        WriteLockConflictError: the name has a live writer.
        LayoutMismatchError: the segments have another layout, or belong to another program; nothing was changed.
    """
    owner = NameOwner(SegmentDirectory(CreateOptions(names), ignored=(StateReadError,)))
    try:
        return owner.unlink()
    finally:
        owner.release()


def force_unlink_name(names: Names) -> bool:
    """Remove the segments of a name, even if they are damaged or foreign; return whether there were any.

    A live writer notices before it publishes or changes a name, and starts a new incarnation.

    Raises:
        DataWriteError: a segment cannot be removed: it belongs to another user, or is a directory.
        WriteLockConflictError: another process holds the names lock, and is stopped.
    """
    directory = SegmentDirectory(CreateOptions(names), ignored=(StateReadError, LayoutMismatchError))
    try:
        return force_unlink(directory)
    except StateReadError:  # the state segment cannot be opened, so no writer has locked it
        unlink_all(directory)
        return True
