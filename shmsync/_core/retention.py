"""What is lent out of one inode, and the slot that keeps the inode for it.

A view that outlives its snapshot is protected by a keep word instead of a count (rule D). The keep is taken back when
the last view is gone, which may be at any time, in any thread, in the middle of anything. What must never happen is
that a keep is taken back while a view is alive that only the keep protects.

Keeping and taking back exclude each other by the reader's lock. Who takes back looks under the lock whether anything
is lent. A view is lent while its snapshot is counted in; before it counts out, the snapshot looks whether anything is
lent, and keeps. So for a view that is lent while somebody takes back:

1. Before the look: it is seen, and nothing is taken back.
2. After the look: its snapshot has to wait for the lock before it can keep, and is counted in until then.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import RLock

    from shmsync._core.slots import Slot


class Lending:
    """The lending of one mapped inode. The memory refers to it, and each lender to the memory.

    So the slot in here, and its keep word, outlives every view, whatever becomes of reader and snapshots.

    Args:
        index, generation: of the inode.
        lock: of the reader.

    Attributes:
        keeper: the slot that keeps the inode at present.
    """

    __slots__ = ("_generation", "_index", "_lent", "_lock", "keeper")

    def __init__(self, index: int, generation: int, lock: RLock) -> None:
        self._index = index
        self._generation = generation
        self._lock = lock
        self.keeper: Slot | None = None
        self._lent: dict[int, weakref.ref[Any]] = {}

    def lend(self, lender: object) -> None:
        """Note what views are made from; it is returned when it and they are gone. Call while counted in."""
        reference = weakref.ref(lender, self._returned)
        self._lent[id(reference)] = reference

    def is_lent(self) -> bool:
        """Tell whether there are views."""
        return bool(self._lent)

    def keep(self, slot: Slot) -> None:
        """Make the writer replace this inode rather than write into it. Call under the lock, counted in in `slot`."""
        if self.keeper is None:  # one keep is enough, whichever slot it stands in
            slot.keep(self._index, self._generation)
            self.keeper = slot  # only now: interrupted before, the next one keeps, too

    def give_up(self) -> None:
        """Let the writer use this inode again, if nothing is lent. Call under the lock."""
        keeper = self.keeper
        if keeper is not None and not self._lent:
            self.keeper = None  # first: interrupted after this, the keep stays, which costs one inode
            keeper.unkeep(self._index, self._generation)

    def _returned(self, reference: weakref.ref[Any], ends: Callable[[], bool] = sys.is_finalizing) -> None:
        if ends():
            return  # see `Slot.__del__`
        self._lent.pop(id(reference), None)
        # Not worth waiting for: whoever has the lock may be waiting for us. Then the reader's next call gives it up.
        if self.keeper is not None and self._lock.acquire(blocking=False):
            try:
                self.give_up()
            finally:
                self._lock.release()
