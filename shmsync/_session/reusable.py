"""A data segment that the writer has mapped, and may write to again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync._core.layout import PAGE, PAYLOAD_AT, largest_payload
from shmsync._shm import ofd_locks
from shmsync._shm.segment import Mapping, open_segment
from shmsync.errors import StateReadError

if TYPE_CHECKING:
    from shmsync._core.layout import Names
    from shmsync._shm.segment import Segment
    from shmsync.codecs._changes import Changes

SMALL = 64 * 1024
"""Segments of up to this many bytes are used again for every smaller payload; updates copy them in full. Small values
are written there without dropping a record first: see `DataSegments.try_write`, which never uses larger segments."""
_SHRINK_BELOW = 4


class ReusableMapping(Mapping):
    """A data segment that the writer has mapped.

    Args:
        names: the segment names.

    Attributes:
        sizes: the sizes of payloads in bytes for which its memory is used again.
        sizes_at_once: those up to a page.
        stale: where it differs from the newest version, if that is known: see `shmsync._core.stale`.
    """

    __slots__ = ("_names", "sizes", "sizes_at_once", "stale")

    def __init__(self, names: Names, segment: Segment, index: int, generation: int) -> None:
        super().__init__(segment, index, generation, writable=True)
        self._names = names
        self.stale: tuple[int, Changes] | None = None
        self.sizes = payload_sizes(self.size)
        self.sizes_at_once = range(self.sizes.start, min(self.sizes.stop, PAGE + 1))

    def label(self, index: int, generation: int) -> None:
        """Note that it will be that of another index or generation."""
        self.index = index
        self.generation = generation

    def is_at(self, name: str) -> bool:
        """Return whether a name leads to it."""
        try:
            with open_segment(name, writable=False) as segment:
                return segment.status().st_ino == self.inode
        except OSError:
            return False

    # The port `SpareInode`.

    def fits(self, size: int) -> bool:
        """Return whether its memory may be used for a payload of `size` bytes."""
        return size in self.sizes

    def is_free(self, place: int) -> bool:
        """Return whether it has this spare name, and no process that has mapped it holds the readers' lock."""
        try:
            with open_segment(self._names.staged[place], writable=False) as segment:
                return segment.status().st_ino == self.inode and not ofd_locks.is_locked(segment.fd, 0)
        except (OSError, StateReadError):
            return False

    def wipe(self) -> None:
        """Make the header invalid."""
        self.memory[:PAYLOAD_AT] = bytes(PAYLOAD_AT)


def payload_sizes(segment_size: int) -> range:
    """Return the sizes of payloads in bytes for which the memory of a segment is used again."""
    least = 0 if segment_size <= SMALL else -(-segment_size // _SHRINK_BELOW)
    return range(max(0, least - PAYLOAD_AT), largest_payload(segment_size) + 1)
