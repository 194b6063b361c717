"""Seal an inode: the writer never writes to it again, even if no reader pins or retains it.

A forked child goes on using what its parent had pinned or retained, but its own counts are nowhere. Counts that both
processes share cannot be taken back by either, and a fork that fails half-way falsifies them. So nothing is shared: the
parent seals the inode before the fork, and from then on child and parent need no protection for it, and need not know
of each other. It costs the writer one new inode at its next write to that segment.

The word `sealed` of a data segment is the newest generation that was sealed; all older ones are sealed, too. It only
grows, so readers that seal at the same time cannot undo each other.

Rule E: the writer loads the word after its scan of the slots. Invariant: what was pinned or retained when it was sealed
is not overwritten. Until the seal is stored, the pin or hazard protects it. If the scan finds neither in that slot,
both were dropped before, so the seal was stored before, and the load after the scan finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shmsync._core.ports import Word


class Seals:
    """The seals of the two data segments.

    Args:
        generations: the generation word of each data segment.
        sealed: the newest sealed generation of each.
    """

    __slots__ = ("_generations", "_sealed")

    def __init__(self, generations: tuple[Word, Word], sealed: tuple[Word, Word]) -> None:
        self._generations = generations
        self._sealed = sealed

    def generation(self, index: int) -> int:
        """Return the current generation of a data segment."""
        return self._generations[index].load()

    def seal(self, index: int) -> None:
        """Make the writer replace the current inode of data segment `index`. Call while it is pinned or retained."""
        generation = self._generations[index].load()
        word = self._sealed[index]
        # SYNC POINT seal: stored before the pin or hazard is dropped. A failed exchange means that another reader has
        # raised the word, so the loop is bounded by the number of readers that fork at this moment.
        while (now := word.load()) < generation and not word.compare_exchange(now, generation):
            pass

    def cover(self, index: int, generation: int) -> bool:
        """Return whether a generation is sealed (rule E). Call after the scan of the slots."""
        return self._sealed[index].load() >= generation > 0
