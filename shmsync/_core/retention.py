"""Track which views of an inode are alive, and which slot's hazard word retains the inode for them.

A view that outlives its snapshot is protected by a hazard word instead of a pin (rule D). The hazard is cleared when
the last view is destroyed, which may happen at any time, in any thread, between any two instructions.

Invariant: a hazard is never cleared while a view is alive that only the hazard protects.

Setting and clearing exclude each other by the reader's lock. Before a hazard is cleared, the lock's holder checks that
no view is tracked. A view is tracked while its snapshot is pinned; before the snapshot unpins, it checks for tracked
views and sets the hazard. So for a view that is exported while another thread clears the hazard:

1. Exported before the check: the check sees it, and the hazard stays.
2. Exported after the check: its snapshot has to wait for the lock to set the hazard, and is pinned until then.

An attachment has one tracker for each inode, however often it maps it: a second one would not see the views of the
first, and clear the hazard that they rely on.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import RLock

    from shmsync._core.slots import Slot


class ViewTracker:
    """Tracks the views of one inode. The mapped memory refers to it, and each exporter to the memory.

    So the slot in `retained_by`, and its hazard word, outlives every view, even if reader and snapshots are gone.

    Args:
        index: index of the data segment.
        generation: generation of the inode.
        lock: the reader's lock.
        missed: gets the index if the hazard could not be cleared when the last view was destroyed.

    Attributes:
        generation: generation of the inode.
        retained_by: the slot whose hazard word retains the inode; None if none does.
    """

    __slots__ = ("_index", "_lock", "_missed", "exporters", "generation", "retained_by")

    def __init__(self, index: int, generation: int, lock: RLock, missed: list[int]) -> None:
        self._index = index
        self.generation = generation
        self._lock = lock
        self._missed = missed
        self.retained_by: Slot | None = None
        self.exporters: dict[int, weakref.ref[Any]] = {}

    def track(self, exporter: object) -> None:
        """Track an object that views are made from until it is destroyed. Call while pinned."""
        reference = weakref.ref(exporter, self._released)
        self.exporters[id(reference)] = reference

    def has_views(self) -> bool:
        """Return whether any view is alive."""
        return bool(self.exporters)

    def retain(self, slot: Slot) -> None:
        """Make the writer replace this inode rather than write into it. Call under the lock, pinned in `slot`."""
        if self.retained_by is None:  # one hazard is enough, in any slot
            slot.set_hazard(self._index, self.generation)
            self.retained_by = slot  # only now: if interrupted before, the next call retains as well
            # Another thread may have destroyed the last view since the caller's check, and found no slot here to clear.
            if not self.exporters:
                self.release_if_unused()

    def release_if_unused(self) -> None:
        """Let the writer reuse this inode if no view is alive. Call under the lock."""
        slot = self.retained_by
        if slot is not None and not self.exporters:
            self.retained_by = None  # first: if interrupted after this, the hazard stays, which costs one inode
            slot.clear_hazard(self._index, self.generation)

    def _released(self, reference: weakref.ref[Any], is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_finalizing():
            return  # see `Slot.__del__`
        self.exporters.pop(id(reference), None)
        if self.retained_by is None:
            return
        # Not blocking: the lock's holder may be waiting for this thread. In that case the reader's next call releases.
        if self._lock.acquire(blocking=False):
            try:
                self.release_if_unused()
            finally:
                self._lock.release()
        else:
            self._missed.append(self._index)
