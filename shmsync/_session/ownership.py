"""The writer's tenure: the write lock, and the creation and takeover of a life of a name.

A life begins when a writer creates the state segment and ends when one marks it closed. Who writes is a matter of the
kernel lock on the first byte of the state segment alone; a writer that dies leaves the lock to the next, which finds
everything it needs in the segments.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shmsync._core.layout import (
    CLOSED,
    EVICTED,
    STATE_MAGIC,
    STATE_SIZE,
    VERSION_AT,
    WORD,
    WRITER,
    WRITER_AT,
    Names,
    StateHeader,
    pack_readers_header,
    pack_state_header,
    parse_state_header,
    readers_size,
)
from shmsync._core.protocol import Publisher
from shmsync._session import notify
from shmsync._session.data import DataSegments
from shmsync._session.state import ReaderTable, StateWords, map_part, open_part, slot_at
from shmsync._session.unlink import lock, remove_all, unlink
from shmsync._shm import atomics, ofd_locks
from shmsync._shm.segment import Segment, create_segment
from shmsync.errors import (
    CapacityError,
    DataWriteError,
    StateNotFoundError,
    StateReadError,
    reason,
)

if TYPE_CHECKING:
    from mmap import mmap

    from shmsync._core.ports import SlotLock
    from shmsync._core.protocol import Published


@dataclass(frozen=True)
class Terms:
    """What a life is created with.

    Attributes:
        names: the segment names.
        mode: permission bits of state and data; the reader table also lets readers of the group write.
        max_readers: slots of the reader table.
        longest_pause: seconds between two looks of a waiting writer.
    """

    names: Names
    mode: int
    max_readers: int
    longest_pause: float


class _Clock:
    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


class _SlotInReap:
    """The lock of a dead reader's slot, while the writer zeroes it."""

    __slots__ = ("_index", "_segment")

    def __init__(self, segment: Segment, index: int) -> None:
        self._segment = segment
        self._index = index

    def close(self) -> None:
        ofd_locks.unlock(self._segment.fd, slot_at(self._index))


class _WriterTable(ReaderTable):
    """The reader table in the writer's hands: it takes a slot's lock only to zero the slot, and gives it back."""

    def __init__(self, segment: Segment, header: StateHeader) -> None:
        super().__init__(segment, header)
        self._segment = segment

    def lock(self, index: int) -> SlotLock | None:
        return _SlotInReap(self._segment, index) if ofd_locks.try_lock(self._segment.fd, slot_at(index)) else None

    def evicted(self) -> list[int]:
        """Return the processes whose slots are evicted at present."""
        high = min(self.high_water.load(), self.max_readers)
        return [self.owner(index) for index in range(high) if self.slot(index).pin.load() & EVICTED]

    def close(self) -> None:
        self._segment.close()


class Tenure:
    """A writer's hold of one life of a name.

    Attributes:
        predecessor: process of the writer before this one, if that died without closing; otherwise 0.
        is_fresh: nothing was published under this name before; or one version, if a signal handler raised at once.
    """

    def __init__(self, terms: Terms, state: Segment, memory: mmap, header: StateHeader) -> None:
        self._names = terms.names
        self._state = state
        self._memory = memory
        words = StateWords(memory)
        self.version = words.version
        self.is_fresh = self.version.load() == 0
        self._table = _WriterTable(open_part(terms.names.readers, writable=True), header)
        self.predecessor: int = WRITER.unpack_from(memory, WRITER_AT)[0]
        WRITER.pack_into(memory, WRITER_AT, os.getpid(), time.time_ns())
        self.data = DataSegments(terms.names, header.instance, terms.mode)
        self._publisher = Publisher(
            words.version, words.generations, self._table, self.data, _Clock(), terms.longest_pause
        )
        self._bell = notify.Bell(memory, VERSION_AT, self.version, self._table.awaited)
        self.prepare = self._publisher.prepare

    def commit(self, prepared: Published) -> None:
        """Publish what was prepared, and wake whoever waits for it."""
        owed = self._bell.before()
        self._publisher.commit(prepared)
        self.is_fresh = False
        self._bell.after(owed=owed)

    def evicted(self) -> list[int]:
        """Return the processes whose slots are evicted at present. For messages only."""
        return self._table.evicted()

    def is_linked(self) -> bool:
        """Tell whether the state segment still has its name."""
        return self._state.status().st_nlink > 0

    def end(self) -> None:
        """Mark the life closed, so that attached readers notice, and remove its names."""
        self.version.store(CLOSED)
        self._bell.after(owed=True)
        if self.is_linked():
            remove_all(self._names)

    def resign(self) -> None:
        """Note that this writer leaves in good order, and let go of the lock."""
        WRITER.pack_into(self._memory, WRITER_AT, 0, 0)
        self.drop()

    def drop(self) -> None:
        """Close this process's share of the lock; say nothing (a forked child lets go of its parent's this way)."""
        self._state.close()
        self._table.close()


def begin(terms: Terms) -> Tenure:
    """Take over the present life of a name, or create one.

    Raises:
        WriteLockConflictError: its writer is alive.
        LayoutMismatchError, StateReadError: what is there cannot be used; nothing was changed.
        CapacityError, DataWriteError: it cannot be created; nothing is left behind.
    """
    while True:
        state = _lock_state(terms)
        try:
            tenure = _enter_life(terms, state)
        except BaseException:
            if not any(os.pread(state.fd, WORD, 0)):  # no magic: nobody uses it
                remove_all(terms.names)
            state.close()
            raise
        if tenure is not None:
            return tenure
        state.close()


def _enter_life(terms: Terms, state: Segment) -> Tenure | None:
    """Begin the tenure under the lock; None if this life has ended, and its names are removed."""
    names = terms.names
    if state.status().st_size == 0:
        state.reserve(STATE_SIZE)  # its creator died before it had done so, or is waiting behind our lock
    memory = _map_whole(state)
    if memory is None:
        return None
    header = parse_state_header(names.state, memoryview(memory))
    if header is None:
        header = _create(terms, memory)
    elif StateWords(memory).version.load() == CLOSED:
        remove_all(names)  # its writer died while it unlinked
        return None
    try:
        return Tenure(terms, state, memory, header)
    except StateNotFoundError:
        StateWords(memory).version.store(
            CLOSED
        )  # its reader table was removed from outside: nobody can attach any more
        remove_all(names)
        return None


def _lock_state(terms: Terms) -> Segment:
    """Open or create the state segment and lock it."""
    name = terms.names.state
    while True:
        try:
            state = _created(name, STATE_SIZE, terms.mode & ~0o022)
        except FileExistsError:
            try:
                state = open_part(name, writable=True)
            except StateNotFoundError:
                continue  # unlinked between the two
        try:
            lock(state)
        except BaseException:
            state.close()
            raise
        if state.status().st_nlink:
            return state
        state.close()  # unlinked before we had the lock


def _map_whole(state: Segment) -> mmap | None:
    """Map a locked state segment; None if its name leads elsewhere by now."""
    # Opened anew: a mapping keeps its open file, and with it the lock, and a fork could inherit the mapping for good.
    try:
        segment = open_part(state.name, writable=True)
    except StateNotFoundError:
        return None
    with segment:
        if segment.status().st_ino != state.status().st_ino:
            return None
        size = segment.status().st_size
        if size < STATE_SIZE:
            raise StateReadError(
                errno.EINVAL,
                f"{state.name} is truncated: {size} of {STATE_SIZE} bytes; unlink the name and publish again",
            )
        return map_part(segment, writable=True)


def _create(terms: Terms, memory: mmap) -> StateHeader:
    """Make the reader table and the header. The magic comes last: until then no reader attaches."""
    header = StateHeader(secrets.randbits(63) + 1, terms.max_readers, time.time_ns())
    for name in (terms.names.readers, *terms.names.data):
        unlink(name)  # leftovers of a life whose state was removed from outside
    group_writes = (terms.mode & 0o044) >> 1
    try:
        with _created(
            terms.names.readers, readers_size(header.max_readers), terms.mode & ~0o022 | group_writes
        ) as segment:
            readers = map_part(segment, writable=True)
            raw = pack_readers_header(header)
            readers[: len(raw)] = raw
    except BaseException:
        remove_all(terms.names)
        raise
    raw = pack_state_header(header, 0)
    memory[:] = raw.ljust(STATE_SIZE, b"\0")
    atomics.bind(memory, 0).store(STATE_MAGIC)
    return header


def _created(name: str, size: int, mode: int) -> Segment:
    try:
        return create_segment(name, size, mode)
    except (CapacityError, FileExistsError):
        raise
    except OSError as error:
        raise DataWriteError(error.errno or 0, f"cannot create {name}: {reason(error)}") from error
