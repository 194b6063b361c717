"""The reader table: claim a slot, reap a dead reader's, let go of one's own.

Who owns a slot is a matter of its kernel lock alone. To claim a slot is to get its lock; to prove a reader dead is to
get its lock. The counts inside a slot are changed by its owner only, but for two strokes of the writer: EVICTED, and
the zeroing of a slot whose lock it holds.

Lifetime. A `Slot` is freed when the last thing that needs it is gone: the reader that enters through it, each snapshot
that counts in it, each data mapping whose generation it keeps. They simply refer to it. So a slot that can no longer
be used for entering (evicted, interrupted in the middle of a step, shared by a fork) is *retired*: its reader drops it
and claims another, its counts are no longer touched, and the last reference zeroes and unlocks it as a whole. That
makes a count exact again which a signal handler's exception had left in doubt.

The last reference must be the last indeed. When the cyclic collector frees a slot together with snapshots that count
in it, it runs their finalizers in any order, and a snapshot's may still keep or count out. So what is to be given back
stands in `_claims`, out of the collector's reach, and the slot's finalizer only leaves a `_Last` behind, which goes
when all finalizers have run and the slot itself is taken apart.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from shmsync._core.layout import ONE
from shmsync.errors import ReadersFullError

if TYPE_CHECKING:
    from shmsync._core.ports import SlotLock, SlotWords, Table

Step = Callable[[], None]

_NO_SLOT = 2  # references to a claim: `_claims`, and the argument of getrefcount


def _untouched() -> None:
    """Stand in for the way out of a retired slot: its counts go all at once, when it is freed."""


class _Claim:
    """What is to be given back when a slot is freed."""

    __slots__ = ("lock", "owner", "shared", "words")

    def __init__(self, words: SlotWords, lock: SlotLock) -> None:
        self.words = words
        self.lock = lock
        self.owner = os.getpid()
        self.shared = False

    def give_back(self) -> None:
        if self.shared:
            self.lock.close()
        elif self.owner == os.getpid():  # a fork that ran no hooks must not zero what its parent counts
            _zero(self.words)
            self.lock.close()


_claims: dict[int, _Claim] = {}
_new_number = itertools.count().__next__


def _give_back(number: int) -> None:
    # Interrupted after the pop, the claim is dropped, and with it the lock: the writer takes its owner for dead.
    claim = _claims.pop(number, None)
    if claim is not None:
        claim.give_back()


def _give_back_forgotten() -> None:
    """Do what an exception of a signal handler in a finalizer has prevented."""
    for number in tuple(_claims):
        if sys.getrefcount(_claims.get(number)) == _NO_SLOT:
            _give_back(number)


class _Last:
    """The last thing that goes of a slot."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self, ends: Callable[[], bool] = sys.is_finalizing) -> None:
        if not ends():
            _give_back(self._number)


class Slot:
    """A claimed slot, in the hands of its owner.

    Attributes:
        index: its place in the table.
        words: its shared words.
        enter, leave: by index of the data segment, the bound steps that count in and out.
        retired: nobody may enter here any more.
    """

    __slots__ = ("__weakref__", "_claim", "_last", "_number", "enter", "index", "leave", "retired", "words")

    def __init__(self, index: int, words: SlotWords, lock: SlotLock) -> None:
        pin = words.pin
        self.index = index
        self.words = words
        self.enter: tuple[Step, Step] = (pin.adder(ONE[0]), pin.adder(ONE[1]))
        self.leave: tuple[Step, Step] = (pin.adder(-ONE[0]), pin.adder(-ONE[1]))
        self.retired = False
        self._number = _new_number()
        self._claim = _Claim(words, lock)
        _claims[self._number] = self._claim

    def retire(self) -> None:
        """Leave the counts as they stand from now on; the last reference frees the slot."""
        self.retired = True
        self.leave = (_untouched, _untouched)

    def keep(self, index: int, generation: int) -> None:
        """Make the writer replace the inode of this generation rather than write into it (rule D).

        Call while counted in here. One word for each index is enough: the generation cannot move on under the count
        without an eviction, after which nobody enters here, and one that has moved on is never written again.
        """
        self.words.keep[index].store(generation)

    def unkeep(self, index: int, generation: int) -> None:
        """Take a keep back, unless the other side of a fork may still need it. Call under the reader's lock."""
        keep = self.words.keep[index]
        if not self._claim.shared and keep.peek() == generation:  # nobody else stores there, and not without the lock
            keep.store(0)

    def before_fork(self) -> None:
        """Share with the child what is held here.

        Both processes then refer to the same counts and hold the same kernel lock (one open file description). Nobody
        counts out any more, and the lock is free once both have let go of it, in order or by dying; then the writer or
        the next claimer zeroes the slot. So neither can release what the other still reads.

        Not only if something is held: another thread may enter between here and the fork. It finds the slot retired
        and has to claim another, which waits for the fork (see `_fork`); or it is just past that look, and its count
        stands here like the others.
        """
        self.retire()
        self._claim.shared = True

    def after_fork_in_child(self) -> None:
        """Nothing to do: it is shared."""

    def __del__(self, ends: Callable[[], bool] = sys.is_finalizing) -> None:
        if ends():  # the globals may be gone; the kernel drops the lock in a moment, and the counts count no more
            return
        number = getattr(self, "_number", None)
        if number is not None:
            self._last = _Last(number)


def claim(table: Table) -> Slot:
    """Take the first free slot.

    Raises:
        ReadersFullError: every slot is held by a live reader.
    """
    _give_back_forgotten()
    for index in range(table.max_readers):
        lock = table.lock(index)
        if lock is not None:
            words = table.slot(index)
            _zero(words)  # what a dead owner left behind: its lock is ours, so nobody counts here
            _raise_high_water(table, index + 1)  # before the first pin, or the writer would not scan it
            return Slot(index, words, lock)
    raise ReadersFullError(
        errno.EAGAIN,
        f"all {table.max_readers} reader slots are taken by live readers; close some, share one handle between "
        "threads, or let the writer create the name anew with a larger max_readers",
    )


def reap(table: Table, index: int) -> bool:
    """Zero the slot of a dead reader; tell whether there was one."""
    lock = table.lock(index)
    if lock is None:
        return False
    try:
        words = table.slot(index)
        if not words.pin.load():
            return False  # its reader has let go of it in good order since the writer saw a count
        _zero(words)
    finally:
        lock.close()
    return True


def _raise_high_water(table: Table, least: int) -> None:
    while (now := table.high_water.load()) < least and not table.high_water.compare_exchange(now, least):
        pass  # another claimer raised it: each failure is someone's progress, at most max_readers times


def _zero(words: SlotWords) -> None:
    for keep in words.keep:
        keep.store(0)
    words.pin.store(0)
