"""Unlink a name that this process does not write: end its incarnation and remove its segments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync._core.layout import names_of
from shmsync._core.lifecycle import NameOwner, force_unlink, unlink_all
from shmsync._session.create_options import CreateOptions
from shmsync._session.directory import SegmentDirectory
from shmsync.errors import LayoutMismatchError, StateReadError

if TYPE_CHECKING:
    from shmsync._core.layout import Names


def unlink(name: str, *, force: bool = False) -> bool:
    """Remove a name and its segments. Readers notice at their next call; open snapshots and views stay valid.

    Args:
        name: the name to remove.
        force: remove it even if a writer is active, or the segments are damaged or belong to another program. An
            active writer creates the name again with its next write.

    Returns:
        Whether the name existed.

    Raises:
        InvalidArgumentError: the name is not valid.
        WriteLockConflictError: a writer is active, and `force` is False; or another process that creates or removes
            the segments is stopped.
        LayoutMismatchError: the segments have another layout, or belong to another program, and `force` is False.
        StateReadError: the state segment cannot be opened, and `force` is False.
        DataWriteError: a segment cannot be removed: it belongs to another user, or is a directory.

    Example:
        >>> from shmsync import Writer, unlink
        >>> with Writer("unlink-example") as writer:
        ...     _ = writer.write("value")
        >>> unlink("unlink-example"), unlink("unlink-example")
        (True, False)
    """
    names = names_of(name)
    return force_unlink_name(names) if force else unlink_name(names, remedy=_REMEDY)


_REMEDY = "close that one first, or remove the name anyway: unlink(force=True), `shmsync rm --force`"


def unlink_name(names: Names, *, remedy: str = "") -> bool:
    """End the current incarnation of a name as its writer would; return whether there was one.

    Args:
        names: the name.
        remedy: what to do about an active writer, for the error message; empty for what a writer can do.

    Raises:
        WriteLockConflictError: the name has a live writer.
        LayoutMismatchError: the segments have another layout, or belong to another program; nothing was changed.
    """
    owner = NameOwner(SegmentDirectory(CreateOptions(names), ignored=(StateReadError,), remedy=remedy))
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
