"""The public state of an isolated incarnation, as the writer uses it: the words that readers look at.

The state segment carries the locks, and has mode 0600: with a descriptor, even a read-only one, another user could hold
a shared lock on it indefinitely. So readers get these words in a segment of their own, on which nothing is locked.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from shmsync._core.layout import LINE, PUBLIC_MAGIC, STATE_SIZE, pack_state_header, parse_state_header
from shmsync._session.control import map_control_segment, open_control_segment
from shmsync._shm import atomics
from shmsync._shm.segment import create_segment, status_of
from shmsync.errors import LayoutMismatchError, StateNotFoundError

if TYPE_CHECKING:
    from mmap import mmap

    from shmsync._core.layout import Names, StateHeader
    from shmsync._shm.segment import Segment


class PublicState:
    """The open public state of an incarnation.

    Args:
        names: the segment names.
        segment: the open segment. It is mapped; `close` closes it.

    Attributes:
        segment: the open segment.
        memory: the mapped segment.
    """

    def __init__(self, names: Names, segment: Segment) -> None:
        self._names = names
        self.segment = segment
        self._inode = segment.status().st_ino
        self.memory: mmap = map_control_segment(segment, writable=True)

    def is_named(self) -> bool:
        """Return whether the name leads to this inode."""
        status = status_of(self._names.public)
        return status is not None and status.st_ino == self._inode

    def close(self) -> None:
        """Close the descriptor. The mapping stays."""
        self.segment.close()


def open_public(names: Names, header: StateHeader) -> PublicState | None:
    """Open the public state of the incarnation with this header; None if it is not there.

    Raises:
        StateReadError: it cannot be opened.
    """
    try:
        segment = open_control_segment(names, names.public, writable=True)
    except StateNotFoundError:
        return None
    status = segment.status()
    # Of another user: it was removed from outside, and a copy put in its place.
    if status.st_size < STATE_SIZE or status.st_uid != _owner(names) or not _belongs(names, segment, header):
        segment.close()
        return None
    return PublicState(names, segment)


def _owner(names: Names) -> int:
    status = status_of(names.state)
    return os.geteuid() if status is None else status.st_uid


def _belongs(names: Names, segment: Segment, header: StateHeader) -> bool:
    try:
        found = parse_state_header(names.public, memoryview(segment.read(0, LINE)), PUBLIC_MAGIC)
    except LayoutMismatchError:  # the reader table of a shared incarnation, or a foreign file
        return False
    return found == header


def create_public(names: Names, header: StateHeader, mode: int) -> PublicState | None:
    """Create the public state of an incarnation; return None if the name is taken.

    Raises:
        CapacityError, DataWriteError, StateReadError: it cannot be created.
    """
    try:
        segment = create_segment(names.public, STATE_SIZE, mode)
    except FileExistsError:
        return None
    public = PublicState(names, segment)
    raw = pack_state_header(header, 0)
    public.memory[: len(raw)] = raw
    atomics.bind(public.memory, 0).store(PUBLIC_MAGIC)
    return public
