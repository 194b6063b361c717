"""The reader table in shared memory: the port `Table`, for readers and for the writer."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from shmsync._core.layout import (
    EVICTED,
    HAZARD_AT,
    HIGH_WATER,
    HIGH_WATER_AT,
    OUTDATED,
    OUTDATED_AT,
    OWNER,
    OWNER_AT,
    SEALED_AT,
    SLOT_SIZE,
    SLOTS_AT,
    WAITERS_AT,
    Names,
    StateHeader,
    readers_belong,
    readers_size,
    slot_offset,
)
from shmsync._core.ports import SlotLock, SlotWords
from shmsync._session.control import map_control_segment, open_control_segment
from shmsync._shm import atomics, ofd_locks
from shmsync.errors import StateReadError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from shmsync._core.ports import Loads, Word
    from shmsync._shm.segment import Segment


class ReaderTable:
    """The reader table of one incarnation, as a reader uses it.

    Args:
        names: the segment names.
        segment: the open reader table. It is mapped; the caller may close it.
        header: header of the state segment that it belongs to.

    Raises:
        StateReadError: the reader table is truncated, or belongs to another state segment.
    """

    def __init__(self, names: Names, segment: Segment, header: StateHeader) -> None:
        self.max_readers = header.max_readers
        self._names = names
        self._inode = segment.status().st_ino
        remedy = "unlink the name and publish again"
        if segment.status().st_size < readers_size(self.max_readers):
            raise StateReadError(errno.EINVAL, f"{segment.name} is truncated; {remedy}")
        self._memory = map_control_segment(segment, writable=True)
        if not readers_belong(memoryview(self._memory), header):
            raise StateReadError(errno.ESTALE, f"{segment.name} does not belong to its state segment; {remedy}")
        self.high_water: Word = atomics.bind(self._memory, HIGH_WATER_AT)
        self.waiters: Word = atomics.bind(self._memory, WAITERS_AT)
        self.sealed = atomics.bind(self._memory, SEALED_AT[0]), atomics.bind(self._memory, SEALED_AT[1])

    def slot(self, index: int) -> SlotWords:
        """Return the words of a slot."""
        at = slot_offset(index)
        hazards = (atomics.bind(self._memory, at + HAZARD_AT[0]), atomics.bind(self._memory, at + HAZARD_AT[1]))
        return SlotWords(atomics.bind(self._memory, at), hazards)

    def owner(self, index: int) -> int:
        """Return the pid that claimed a slot. For messages only."""
        pid: int = OWNER.unpack_from(self._memory, slot_offset(index) + OWNER_AT)[0]
        return pid

    def lock_first(self, indexes: Iterable[int]) -> tuple[int, SlotLock] | None:
        """Take the lock of the first of these slots that no live process holds; return its index, too.

        The lock belongs to an open file description of its own, so that it can be kept by itself. A try that fails
        leaves nothing on it, so one is enough for all tries.
        """
        segment = open_control_segment(self._names, self._names.readers, writable=True)
        if segment.status().st_ino != self._inode:
            raise StateReadError(errno.ESTALE, f"{self._names.readers} was removed and created again")
        for index in indexes:
            if ofd_locks.try_lock(segment.fd, slot_offset(index)):
                # The owner's pid: for messages and tools only, never for a decision.
                OWNER.pack_into(self._memory, slot_offset(index) + OWNER_AT, os.getpid(), time.time_ns())
                OUTDATED.pack_into(self._memory, slot_offset(index) + OUTDATED_AT, 0, 0)
                return index, _SlotLock(segment, slot_offset(index))
        segment.close()
        return None


class _SlotLock:
    """The lock of a reader's own slot."""

    __slots__ = ("_offset", "_segment")

    def __init__(self, segment: Segment, offset: int) -> None:
        self._segment = segment
        self._offset = offset

    def close(self) -> None:
        # Unlocked explicitly: a child forked in C may have a copy of the descriptor, and closing ours is not enough.
        ofd_locks.unlock(self._segment.fd, self._offset)
        self._segment.close()


class _ReapLock:
    """The lock of a dead reader's slot, while the writer zeroes it."""

    __slots__ = ("_index", "_segment")

    def __init__(self, segment: Segment, index: int) -> None:
        self._segment = segment
        self._index = index

    def close(self) -> None:
        ofd_locks.unlock(self._segment.fd, slot_offset(self._index))


class WriterTable(ReaderTable):
    """The reader table as the writer uses it: it locks a slot only to zero it, and unlocks it right after."""

    def __init__(self, names: Names, segment: Segment, header: StateHeader) -> None:
        super().__init__(names, segment, header)
        self._segment = segment

    def lock(self, index: int) -> SlotLock | None:
        """Take the lock of a slot; return None if a live process holds it."""
        return _ReapLock(self._segment, index) if ofd_locks.try_lock(self._segment.fd, slot_offset(index)) else None

    def is_locked(self, index: int) -> bool:
        """Return whether a live process holds the lock of a slot."""
        return ofd_locks.is_locked(self._segment.fd, slot_offset(index))

    def bind_scan(self, count: int) -> tuple[Loads, tuple[Loads, Loads]]:
        """Return functions that load the pin words of the first `count` slots; and, by index, their hazard words."""
        pins, *hazards = (atomics.bind_loads(self._memory, SLOTS_AT + at, SLOT_SIZE, count) for at in (0, *HAZARD_AT))
        return pins, (hazards[0], hazards[1])

    def set_mode(self, mode: int) -> None:
        """Set the permission bits."""
        self._segment.set_mode(mode)

    def evicted(self) -> list[int]:
        """Return the pids whose slots are evicted now. For messages only."""
        high = min(self.high_water.load() & HIGH_WATER, self.max_readers)
        return [self.owner(index) for index in range(high) if self.slot(index).pin.load() & EVICTED]

    def record_outdated(self, index: int, generation: int, evicted: Collection[tuple[int, int]], moment: int) -> None:
        """Record in the slots of readers since when they have held memory that was replaced. For tools only.

        Called once for each replacement that readers caused, so the time of a hold that goes on is not changed. Only a
        writer that takes over finds the evictions of its predecessor again, and records a later time for them.

        Args:
            index: data segment that was replaced.
            generation: generation of the replaced inode.
            evicted: (slot, index) of readers that pin it and were evicted since the last replacement.
            moment: when the version in it was outdated, in seconds of the monotonic clock.
        """
        for number in range(min(self.high_water.load() & HIGH_WATER, self.max_readers)):
            words = self.slot(number)
            is_evicted = (number, index) in evicted
            if is_evicted or words.hazards[index].load() == generation:
                at = slot_offset(number) + OUTDATED_AT
                outdated = list(OUTDATED.unpack_from(self._memory, at))
                outdated[index] = moment
                if is_evicted and not words.hazards[1 - index].load():
                    outdated[1 - index] = 0  # of an earlier hold
                OUTDATED.pack_into(self._memory, at, *outdated)

    def close(self) -> None:
        """Close the segment."""
        self._segment.close()
