"""Spare inodes: data segments that were replaced, and that are used again once no reader has mapped them.

A reader that keeps a version for longer than the next one takes makes the writer replace an inode. If that one is
thrown away, the update that needed it copies the whole value into a new one. So the writer keeps a few of the inodes
that it has replaced, with what it knows about them (see `stale`), and exchanges one for the next that is in use.

A spare is used again only if no reader has mapped it. No word of a reader's slot says so: a hazard word is overwritten
when the reader retains a later generation. The kernel does. A reader takes a shared lock on the inode of a data
segment, after it has opened it, and before it looks at EVICTED (rule B of `protocol`). The lock belongs to the open
file description, which a mapping keeps: it ends with the last view of it, or with the process, also in children that
were forked without Python's knowledge. So there are three cases for a reader that has once opened the inode by its
name:

1. It has locked it: the inode is not free.
2. It has not locked it yet. Then it still pins that index, and has been evicted before the inode was replaced: it finds
   EVICTED after the lock, and drops the mapping without a look at what is in it.
3. It has locked it, and its last view is gone. Nothing of it is left.

No reader can open it after the replacement until it has a name again, which is that of a new generation.

Its header is wiped before. Otherwise a writer that takes over before the generation is stored could adopt it: a spare
serves either index, so its old generation may be the present one of the other index, which readers have mapped.

`tests/model` runs this with readers, writers and their successors, killed at any step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator


class SpareInode(Protocol):
    """An inode that a data segment had."""

    def fits(self, size: int, /) -> bool:
        """Return whether its memory may be used for a payload of `size` bytes."""

    def is_free(self, place: int, /) -> bool:
        """Return whether the spare name `place` leads to it, and no reader has locked it."""

    def wipe(self) -> None:
        """Make its header invalid."""


InodeT = TypeVar("InodeT", bound=SpareInode)


class Spares(Generic[InodeT]):
    """The spare inodes of a writer, each under a name of its own.

    Everything in it may be forgotten at any time, which costs a copy.

    Args:
        count: how many spares are kept.
    """

    def __init__(self, count: int) -> None:
        self._places: dict[int, InodeT | None] = dict.fromkeys(range(count))  # in the order in which they were put

    def __iter__(self) -> Iterator[InodeT]:
        return (inode for inode in self._places.values() if inode is not None)

    def find_free(self, size: int) -> int | None:
        """Return the place of a spare that fits and that no reader has mapped; None if there is none."""
        for place, inode in self._places.items():
            if inode is not None and inode.fits(size) and inode.is_free(place):
                return place
        return None

    def take(self, place: int) -> InodeT:
        """Remove a free spare, wiped: it may get the name of a data segment."""
        inode = self.forget(place)
        assert inode is not None
        inode.wipe()
        return inode

    def unused_place(self, preferred: int) -> int:
        """Return a place for one more: an empty one, or that of the oldest spare. What is there may be overwritten."""
        empty = [place for place, inode in self._places.items() if inode is None]
        return preferred if preferred in empty else empty[0] if empty else next(iter(self._places))

    def put(self, place: int, inode: InodeT) -> None:
        """Keep an inode that has been replaced, and now has the name of this place."""
        del self._places[place]
        self._places[place] = inode

    def forget(self, place: int) -> InodeT | None:
        """Forget what is in a place; return it."""
        inode, self._places[place] = self._places[place], None
        return inode

    def has(self, place: int) -> bool:
        """Return whether a spare is in this place."""
        return self._places[place] is not None
