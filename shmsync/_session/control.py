"""Open and map the state segment and the reader table; raise errors that contain the user's name."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from shmsync._core.layout import STATE_SIZE
from shmsync._shm.segment import access_of, open_segment
from shmsync.errors import StateReadError, not_found, not_published, reason

if TYPE_CHECKING:
    from mmap import mmap

    from shmsync._core.layout import Names
    from shmsync._shm.segment import Segment


def open_control_segment(names: Names, segment_name: str, *, writable: bool) -> Segment:
    """Open the state segment or the reader table.

    Args:
        names: segment names, for messages.
        segment_name: the one to open.
        writable: whether to open it for writing, too.

    Raises:
        StateNotFoundError: the segment does not exist.
        StateReadError: the segment exists, but this process cannot open it.
    """
    try:
        return open_segment(segment_name, writable=writable)
    except FileNotFoundError:
        raise not_found(names.name) from None
    except OSError as error:
        text = f"cannot open {segment_name}: {reason(error)}"
        if isinstance(error, PermissionError):
            text += f": {access_of(segment_name)}, this process runs as user {os.geteuid()}, group {os.getegid()}"
            text += f" and needs to {'read and write' if writable else 'read'} it (see the mode of the Writer)"
        raise StateReadError(error.errno or errno.EIO, text) from error


def map_control_segment(segment: Segment, *, writable: bool) -> mmap:
    """Map the state segment or the reader table.

    Raises:
        StateReadError: the segment cannot be mapped.
    """
    try:
        return segment.map(writable=writable)
    except (OSError, ValueError) as error:
        code = getattr(error, "errno", None) or errno.EIO
        raise StateReadError(code, f"cannot map {segment.name}: {reason(error)}; see `shmsync inspect NAME`") from error


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
