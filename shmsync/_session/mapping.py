"""The mapping of a data segment from which a reader hands out views."""

from __future__ import annotations

from functools import partial
from operator import getitem
from typing import TYPE_CHECKING, Any

from shmsync._core.layout import PAGE, PAYLOAD_AT, largest_payload
from shmsync._shm.atomics import IS_TSO
from shmsync._shm.ffi import BYTES, ffi
from shmsync._shm.segment import Mapping

if TYPE_CHECKING:
    from collections.abc import Callable

    from shmsync._core.retention import ViewTracker
    from shmsync._shm.segment import Segment


_get_item: Any = getitem


class TrackedMapping(Mapping):
    """A read-only mapping from which a reader exports views; it knows whether any of them is alive.

    Args:
        segment: an open data segment.
        index: index of the data segment, 0 or 1.
        views: tracks the views of the open inode.

    Attributes:
        copy_header: returns a copy of the header.
        copy_page: returns a copy of the whole segment; None if that cannot be read without a pin, because it is larger
            than a page, or because this machine may execute loads in another order.
        largest: size in bytes of the largest payload that fits.
        prefix: what the headers of all its versions begin with.
        views: tracks the views. The memory refers to it, too, so the hazard word outlives every view.
    """

    __slots__ = ("copy_header", "copy_page", "largest", "prefix", "views")

    copy_header: Callable[[], bytes]
    copy_page: Callable[[], bytes] | None
    prefix: bytes

    def __init__(self, segment: Segment, index: int, views: ViewTracker) -> None:
        super().__init__(segment, index, views.generation, writable=False)
        self.views = self.memory.companion = views
        self.largest = largest_payload(self.size)
        self.copy_header = partial(_get_item, self.memory, slice(0, PAYLOAD_AT))
        self.copy_page = partial(_get_item, self.memory, slice(0, PAGE)) if self.size == PAGE and IS_TSO else None

    def export(self, start: int, end: int) -> memoryview:
        """Return a read-only view that may outlive the pin. Call while pinned."""
        # Views of a mapping refer to it directly, and a mapping cannot tell one reference from another. So views are
        # made from an object in between, which is destroyed with the last view and everything made from it.
        exporter = ffi.buffer(ffi.from_buffer(BYTES, self.memory))
        self.views.track(exporter)
        return memoryview(exporter).toreadonly()[start:end]
