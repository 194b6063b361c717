"""The reader table: claim a slot, reap a dead reader's, free one's own.

The kernel lock alone decides who owns a slot. Claiming a slot means taking its lock; proving a reader dead means taking
its lock. Only the owner changes the counts in a slot, with two exceptions, both by the writer: it sets EVICTED, and it
zeroes a slot whose lock it holds.

Lifetime: a `Slot` is freed with the last reference to it. The reader that enters through it, each snapshot that is
pinned in it, and each mapping whose generation it retains refer to it. A slot that can no longer be used for entering
(evicted, interrupted in the middle of a step) is *poisoned*: its reader drops it and claims another, its counts are no
longer changed, and the last reference zeroes and unlocks it as a whole. That corrects a count that may be wrong after
an exception from a signal handler.

Which slot a claimer tries first is a matter of cost only, see `_candidates`: any order is correct, because the lock
decides, and because the claim is added to the high-water word, whichever slot it is (see `shmsync._core.protocol`).

A forked child never changes a slot of its parent: what the parent counted, the parent takes back. Before a fork, the
parent seals what it has pinned or retained (`shmsync._core.sealing`), so the child may go on using it without a slot.

Nothing may use a slot after it is freed. When the cyclic collector frees a slot together with snapshots that are pinned
in it, it runs their finalizers in any order, and a snapshot's may still set a hazard or unpin. So the resources to
release are kept in `_claims`, which the collector does not free. The slot's finalizer only creates a `_Sentinel`, which
is destroyed when all finalizers have run and the slot's own attributes are cleared.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from shmsync._core.layout import CLOSED, HIGH_WATER, HOLDS, ONE, ONE_CLAIM
from shmsync.errors import ReadersFullError

if TYPE_CHECKING:
    from shmsync._core.ports import SlotLock, SlotWords, Table, WriterTable
    from shmsync._core.sealing import Seals

Step = Callable[[], None]

MAX_REFERENCES = 1 << 20
"""How many references a slot may have before its reader claims another one.

Each open snapshot refers to its slot, and takes one of the 2**24 - 1 pins that the slot can count for a data segment.
Counting the references takes a read 0.04 us; loading the pin word would take 0.1 us.
"""

PROBES = 8
"""How many slots below the high-water mark a claimer tries before it takes one above.

If half of them are free, it finds one in 255 of 256 claims.
"""

_UNREFERENCED = 2  # references to a claim: `_claims`, and the argument of getrefcount


def _no_op() -> None:
    """Replace the unpin of a poisoned slot (its counts are cleared together when it is freed), or of the parent's."""


class _Claim:
    """The resources that are released when a slot is freed."""

    __slots__ = ("inherited", "lock", "owner", "words")

    def __init__(self, words: SlotWords, lock: SlotLock) -> None:
        self.words = words
        self.lock = lock
        self.owner = os.getpid()
        self.inherited = False

    def release(self) -> None:
        # The process is compared, too: a finalizer may run in a child that has not reset what it inherited yet.
        if not self.inherited and self.owner == os.getpid():
            _zero(self.words)
            self.lock.close()


_claims: dict[int, _Claim] = {}
_new_number = itertools.count().__next__
_new_attempt = itertools.count().__next__


def _release_claim(number: int) -> None:
    # If interrupted after the pop, the claim is dropped, and with it the lock: the writer then reaps the slot.
    claim = _claims.pop(number, None)
    if claim is not None:
        claim.release()


def _release_forgotten_claims() -> bool:
    """Release the claims whose finalizer was interrupted by an exception from a signal handler; return if any was."""
    found = False
    for number in list(_claims.copy()):  # copied: see `shmsync._util.weak`; a list, without references to the claims
        if sys.getrefcount(_claims.get(number)) == _UNREFERENCED:
            _release_claim(number)
            found = True
    return found


class _Sentinel:
    """The last part of a slot to be destroyed."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_finalizing():
            _release_claim(self._number)


class Slot:
    """A claimed slot, as its owner uses it.

    Attributes:
        index: position in the table.
        words: the shared words.
        enter, leave: the bound steps that pin and unpin, by index of the data segment.
        load_pin: loads the pin word.
        poisoned: whether the slot can no longer be used for entering.
        unprotected: whether it was inherited by a fork that sealed nothing: what is pinned here may be overwritten.
    """

    __slots__ = (
        *("__weakref__", "_claim", "_number", "_seals", "_sentinel"),
        *("enter", "index", "leave", "load_pin", "poisoned", "unprotected", "words"),
    )

    def __init__(self, index: int, words: SlotWords, lock: SlotLock, seals: Seals) -> None:
        pin = words.pin
        self.index = index
        self.words = words
        self.enter: tuple[Step, Step] = (pin.bind_add(ONE[0]), pin.bind_add(ONE[1]))
        self.leave: tuple[Step, Step] = (pin.bind_add(-ONE[0]), pin.bind_add(-ONE[1]))
        self.load_pin = pin.load
        self.poisoned = self.unprotected = False
        self._seals = seals
        self._number = _new_number()
        self._claim = _Claim(words, lock)
        _claims[self._number] = self._claim

    def poison(self) -> None:
        """Freeze the counts; the last reference frees the slot."""
        self.poisoned = True
        self.leave = (_no_op, _no_op)

    def set_hazard(self, index: int, generation: int) -> None:
        """Make the writer replace the inode of this generation rather than write into it (rule D).

        Call while pinned here. One word per index is enough: while the pin is counted, the generation cannot advance
        without an eviction, after which no reader enters here, and a generation that was replaced is never written.
        """
        if not self._claim.inherited:  # else it is the parent's word, and the inode is sealed or already lost
            self.words.hazards[index].store_release(generation)  # before the unpin, which is a read-modify-write

    def clear_hazard(self, index: int, generation: int) -> None:
        """Clear a hazard. Call under the reader's lock."""
        hazard = self.words.hazards[index]
        if not self._claim.inherited and hazard.load_relaxed() == generation:  # stored only here, and under the lock
            hazard.store_release(0)  # after the last access to a view

    def before_fork(self) -> None:
        """Seal what is pinned or retained here, so that the child may go on using it."""
        pin = self.words.pin.load()
        for index, hazard in enumerate(self.words.hazards):
            # An older generation in the hazard word was replaced: it is never written to again.
            if pin & HOLDS[index] or hazard.load() == self._seals.generation(index) > 0:
                self._seals.seal(index)

    def inherit(self, *, sealed: bool) -> None:
        """Leave this slot to the parent, in a child. Idempotent.

        Args:
            sealed: whether what is pinned or retained here was sealed before the fork.
        """
        self._claim.inherited = True  # first: if interrupted after this, nothing here touches the parent's words
        self.poison()
        self.unprotected = not sealed

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_finalizing():  # globals may have been deleted; the kernel is about to release the lock
            return
        number = getattr(self, "_number", None)
        if number is not None:
            self._sentinel = _Sentinel(number)


class NoSlot(Slot):
    """What stands for a slot in isolated mode, where nothing has to be pinned. It is not used for entering."""

    __slots__ = ()

    def __init__(self) -> None:
        self.index = -1
        self.unprotected = False
        self.poison()

    def set_hazard(self, index: int, generation: int) -> None:
        """Do nothing: the inode is never written to."""

    def clear_hazard(self, index: int, generation: int) -> None:
        """Do nothing."""


def claim(table: Table, seals: Seals) -> Slot:
    """Take a free slot.

    Args:
        table: the reader table.
        seals: the seals of the data segments, for forks.

    Raises:
        ReadersFullError: every slot is held by a live reader.
    """
    # Not by each claim of a process with many: the check takes as long as it has claims.
    if _new_attempt() % (1 + len(_claims) // 8) == 0:
        _release_forgotten_claims()
    claimed = table.lock_first(_candidates(table))
    if claimed is None and _release_forgotten_claims():
        claimed = table.lock_first(_candidates(table))
    if claimed is None:
        raise ReadersFullError(
            errno.EAGAIN,
            f"no reader slot is free: live readers hold all of them (max_readers={table.max_readers}), as `shmsync "
            "readers NAME` shows; close some, share one handle between threads, or unlink the name and create it with "
            "a larger max_readers",
        )
    return _claimed(table, seals, *claimed)


def claim_lower(table: Table, seals: Seals, slot: Slot) -> Slot | None:
    """Take a free slot far below one that keeps the high-water mark up.

    Args:
        table: the reader table.
        seals: the seals of the data segments, for forks.
        slot: the reader's slot.

    Returns:
        None if another slot is the highest, if the mark is low, or if most slots seem to be held.
    """
    if slot.index < 2 * PROBES or slot.index + 1 != table.high_water.load() & HIGH_WATER:
        return None
    claimed = table.lock_first(_some_below(slot.index // 2))
    return None if claimed is None else _claimed(table, seals, *claimed)


def _claimed(table: Table, seals: Seals, index: int, lock: SlotLock) -> Slot:
    words = table.slot(index)
    _zero(words)  # what a dead owner left behind: we hold the lock, so no reader is pinned here
    _add_claim(table, index + 1)  # before the first pin, or the writer would not scan it
    return Slot(index, words, lock, seals)


def _some_below(end: int) -> list[int]:
    """Return up to PROBES numbers below `end`, in ascending order: all of them, or one at random in each equal part."""
    if end <= PROBES:
        return [*range(end)]
    # Not `random`: it takes long to import, and forked processes must not pick the same slots.
    picks = os.urandom(2 * PROBES)
    edges = [end * part // PROBES for part in range(PROBES + 1)]
    return [
        low + int.from_bytes(picks[2 * part : 2 * part + 2], "little") % (high - low)
        for part, (low, high) in enumerate(itertools.pairwise(edges))
    ]


def _candidates(table: Table) -> Iterator[int]:
    """Yield the slots for a claimer to try: in the end all of them, but very few unless hardly any slot is free.

    The writer scans all slots below the high-water mark. So a claim raises the mark only if it finds no free slot among
    some below, taken at random: then most of them are held. While the mark is low, it takes the lowest free slot.
    """
    mark = min(table.high_water.load() & HIGH_WATER, table.max_readers)  # readers can write to that word
    probes = _some_below(mark)
    yield from probes
    index = mark
    while index < table.max_readers:
        yield index
        index = max(index + 1, table.high_water.load() & HIGH_WATER)  # other claimers may have raised it
    # The table has been full, but many of its slots may be free again.
    first = probes[0] if probes else 0
    yield from range(first, table.max_readers)
    yield from range(first)


def reap(table: WriterTable, index: int) -> bool:
    """Zero the slot of a dead reader; return whether there was one."""
    lock = table.lock(index)
    if lock is None:
        return False
    try:
        words = table.slot(index)
        if not words.pin.load() and not any(hazard.load() for hazard in words.hazards):
            return False  # its reader has released it properly since the writer saw a pin or a hazard
        _zero(words)
    finally:
        lock.close()
    return True


def lower_high_water(table: WriterTable, slots: Sequence[SlotWords]) -> bool:
    """Lower the high-water mark to the highest slot whose lock is held, and reap the slots above. Called by the writer.

    Args:
        table: the reader table.
        slots: the words of all slots that were below the mark at the last scan.

    Returns:
        Whether there was a dead reader.
    """
    now = table.high_water.load()
    least = now & HIGH_WATER
    if not 0 < least <= len(slots):
        return False  # one was claimed since the scan
    reset = False
    # Only queried, not locked: a claimer that finds a free slot locked could run out of slots.
    while least and not table.is_locked(least - 1):
        least -= 1
        words = slots[least]
        if words.pin.load() or any(hazard.load() for hazard in words.hazards):
            reset |= reap(table, least)
    # Fails if a slot was claimed in between: see `protocol`.
    table.high_water.compare_exchange(now, now & ~HIGH_WATER | least)
    return reset


def _add_claim(table: Table, least: int) -> None:
    """Raise the high-water mark to at least `least`; and count the claim, even if the mark is high enough."""
    while True:
        now = table.high_water.load()
        high = max(now & HIGH_WATER, least)
        if table.high_water.compare_exchange(now, (now & ~HIGH_WATER) + ONE_CLAIM + high & CLOSED):
            return  # each failure means that another claimer has raised it, or the writer has lowered it


def _zero(words: SlotWords) -> None:
    for hazard in words.hazards:
        hazard.store(0)
    words.pin.store(0)
