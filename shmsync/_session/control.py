"""Open and map the state segment and the reader table; raise errors that contain the user's name."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from shmsync._core.layout import STATE_SIZE
from shmsync._shm.segment import access_of, open_segment, status_of
from shmsync._shm.users import user_name
from shmsync._util.os_errors import explain, raised_as
from shmsync.errors import StateReadError, not_found, not_published

if TYPE_CHECKING:
    from mmap import mmap

    from shmsync._core.layout import Names
    from shmsync._shm.segment import Segment

_CREATION_TIME = 10.0
"""Seconds that a state segment may take from its creation to its permissions: two system calls of its creator."""


def open_control_segment(names: Names, segment_name: str, *, writable: bool) -> Segment:
    """Open the state segment or the reader table.

    Args:
        names: segment names, for messages.
        segment_name: the one to open.
        writable: whether to open it for writing, too.

    Raises:
        StateNotFoundError: it does not exist.
        UninitializedStateError: it is being created, and does not have its permissions yet.
        StateReadError: it exists, but this process may not open it, or does not trust its owner.
    """
    segment = _open(names, segment_name, writable=writable)
    check_owner(names, segment)
    return segment


def check_owner(names: Names, segment: Segment) -> None:
    """Refuse a segment of a user that is not trusted, and close it.

    Any user may create a segment in /dev/shm under a free name. Its owner decides what readers get, and can read
    what a writer publishes there.

    Raises:
        StateReadError: it belongs to a user that is not in `names.owners`.
    """
    if names.owners is None:
        return
    status = segment.status()
    if status.st_uid in names.owners:
        return
    segment.close()
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.st_mtime))
    raise StateReadError(
        errno.EACCES,
        f"{segment.name} belongs to {user_name(status.st_uid)}, since {since} or before, and this process runs as "
        f"{user_name(os.geteuid())}; a Writer uses segments of its own user only; to read what that user publishes, "
        f"pass owner={status.st_uid} (--owner on the command line); otherwise choose another name",
    )


def _open(names: Names, segment_name: str, *, writable: bool) -> Segment:
    try:
        return open_segment(segment_name, writable=writable)
    except FileNotFoundError:
        raise not_found(names.name) from None
    except PermissionError as error:
        if segment_name != names.state or writable:
            raise _forbidden(segment_name, error, writable=writable) from error
        return _open_created(names)
    except OSError as error:
        if error.errno is None:  # raised by a signal handler
            raise
        text = f"cannot open {segment_name}: {explain(error)}"
        if error.errno == errno.EROFS and segment_name == names.readers:
            text += "; readers record in the reader table which version they use, so that it is not overwritten"
        raise StateReadError(error.errno, text) from error


def _forbidden(segment_name: str, error: OSError, *, writable: bool) -> StateReadError:
    return StateReadError(
        error.errno or errno.EACCES,
        f"cannot open {segment_name}: {explain(error)}: {access_of(segment_name)}, this process runs as user "
        f"{os.geteuid()}, group {os.getegid()} and needs to {'read and write' if writable else 'read'} it (see the "
        "mode of the Writer)",
    )


def _open_created(names: Names) -> Segment:
    """Open a state segment that could not be opened, perhaps because it was just being created."""
    if _is_being_created(names.state):
        raise not_published(names.name)
    with raised_as(StateReadError, f"open {names.state}"):
        try:  # again: its creator may have finished since
            return open_segment(names.state, writable=False)
        except FileNotFoundError:
            raise not_found(names.name) from None
        except PermissionError as error:
            raise _forbidden(names.state, error, writable=False) from error


def _is_being_created(segment_name: str) -> bool:
    """Return whether the creator of a state segment is about to set its permissions.

    A segment is created with mode 0600, then gets its mode, then its size. So an empty one does not have its mode yet,
    and one that has a size is forbidden on purpose. The creator may have died in between: an empty segment that is
    older is left as it is until a writer comes, and nothing can be said about its permissions but what they are now.
    """
    status = status_of(segment_name)
    return status is not None and status.st_size == 0 and abs(time.time() - status.st_ctime) < _CREATION_TIME


def map_control_segment(segment: Segment, *, writable: bool) -> mmap:
    """Map the state segment or the reader table.

    Raises:
        StateReadError: the segment cannot be mapped.
    """
    return segment.map(writable=writable)


def map_state(names: Names, segment: Segment, *, writable: bool = False) -> mmap:
    """Map a state segment.

    Raises:
        UninitializedStateError: the segment is empty, because its writer is creating it or died while doing so.
        StateReadError: the segment is truncated.
    """
    size = segment.status().st_size
    if size == 0:
        raise not_published(names.name)
    if size < STATE_SIZE:
        raise truncated_state(segment.name, size)
    return map_control_segment(segment, writable=writable)


def truncated_state(segment_name: str, size: int) -> StateReadError:
    """Return the error for a state segment of too few bytes."""
    text = f"{segment_name} is truncated: {size} of {STATE_SIZE} bytes; unlink the name and publish again"
    return StateReadError(errno.EINVAL, text)
