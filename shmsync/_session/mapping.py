"""The mapping of a data segment from which a reader hands out views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shmsync._core.retention import ViewTracker
from shmsync._shm.ffi import BYTES, ffi
from shmsync._shm.segment import Mapping

if TYPE_CHECKING:
    from threading import RLock

    from shmsync._shm.segment import Segment


class TrackedMapping(Mapping):
    """A read-only mapping from which a reader exports views; it knows whether any of them is alive.

    Args:
        segment: an open data segment.
        index: index of the data segment, 0 or 1.
        generation: generation of the open inode.
        lock: the reader's lock.
        views: the tracker of an earlier mapping of this inode; None if there was none.

    Attributes:
        views: tracks the views. The memory refers to it, too, so the hazard word outlives every view.
    """

    __slots__ = ("views",)

    def __init__(
        self, segment: Segment, index: int, generation: int, lock: RLock, views: ViewTracker | None = None
    ) -> None:
        super().__init__(segment, index, generation, writable=False)
        self.views = self._memory.companion = views or ViewTracker(index, generation, lock)

    def export(self, start: int, end: int) -> memoryview:
        """Return a read-only view that may outlive the pin. Call while pinned."""
        # Views of a mapping refer to it directly, and a mapping cannot tell one reference from another. So views are
        # made from an object in between, which is destroyed with the last view and everything made from it.
        exporter = ffi.buffer(ffi.from_buffer(BYTES, self._memory))
        self.views.track(exporter)
        return memoryview(exporter).toreadonly()[start:end]
