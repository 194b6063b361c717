"""The opened segments of one name, as the ports that the protocol works on.

A channel belongs to one life of the name: the state segment with its instance id, and the reader table made for it.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from shmsync._core.layout import (
    AWAITED_AT,
    GENERATION_AT,
    HIGH_WATER_AT,
    KEEP_AT,
    OWNER,
    OWNER_AT,
    SLOT_SIZE,
    SLOTS_AT,
    STATE_SIZE,
    VERSION_AT,
    Names,
    StateHeader,
    parse_state_header,
    readers_belong,
    readers_size,
)
from shmsync._core.ports import SlotLock, SlotWords
from shmsync._session.notify import Bell
from shmsync._shm import atomics, ofd_locks
from shmsync._shm.segment import Segment, access_of, open_segment, status_of
from shmsync.errors import StateReadError, UninitializedStateError, not_found, reason

if TYPE_CHECKING:
    from mmap import mmap

    from shmsync._core.ports import Word


class StateWords:
    """The shared words of a mapped state segment."""

    __slots__ = ("generations", "version")

    def __init__(self, memory: mmap) -> None:
        self.version: Word = atomics.bind(memory, VERSION_AT)
        self.generations: tuple[Word, Word] = (
            atomics.bind(memory, GENERATION_AT[0]),
            atomics.bind(memory, GENERATION_AT[1]),
        )


class ReaderTable:
    """The reader table in shared memory (the port `Table`), in a reader's hands."""

    def __init__(self, segment: Segment, header: StateHeader) -> None:
        self.max_readers = header.max_readers
        self._name = segment.name
        self._inode = segment.status().st_ino
        if segment.status().st_size < readers_size(self.max_readers):
            raise StateReadError(errno.EINVAL, f"{segment.name} is truncated; {_REMEDY}")
        self._memory = map_part(segment, writable=True)
        if not readers_belong(memoryview(self._memory), header):
            raise StateReadError(errno.ESTALE, f"{segment.name} does not belong to its state segment; {_REMEDY}")
        self.high_water: Word = atomics.bind(self._memory, HIGH_WATER_AT)
        self.awaited: Word = atomics.bind(self._memory, AWAITED_AT)

    def slot(self, index: int) -> SlotWords:
        """Return the words of a slot."""
        at = slot_at(index)
        keep = (atomics.bind(self._memory, at + KEEP_AT[0]), atomics.bind(self._memory, at + KEEP_AT[1]))
        return SlotWords(atomics.bind(self._memory, at), keep)

    def owner(self, index: int) -> int:
        """Return the process that claimed a slot. For messages only."""
        pid: int = OWNER.unpack_from(self._memory, slot_at(index) + OWNER_AT)[0]
        return pid

    def lock(self, index: int) -> SlotLock | None:
        """Take the lock of a slot, on an open file description of its own; None if a live process holds it."""
        segment = open_part(self._name, writable=True)
        if segment.status().st_ino != self._inode:
            raise StateReadError(errno.ESTALE, f"{self._name} was removed and created anew")
        if not ofd_locks.try_lock(segment.fd, slot_at(index)):
            segment.close()
            return None
        # Who holds it: for messages and tools only, never for a decision.
        OWNER.pack_into(self._memory, slot_at(index) + OWNER_AT, os.getpid(), time.time_ns())
        return segment


class Channel:
    """One life of a name, as a reader sees it: the state mapped read-only, and the reader table."""

    __slots__ = ("_inode", "_memory", "_names", "bell", "generations", "header", "table", "version", "version_cell")

    table: ReaderTable
    bell: Bell

    def __init__(self, names: Names) -> None:
        self._names = names
        with open_part(names.state, writable=False) as segment:
            memory = map_state(segment)
            self._inode = segment.status().st_ino
        header = parse_state_header(names.state, memoryview(memory))
        if header is None:
            raise UninitializedStateError(f"{names.state} is there, but nothing is published yet; try again later")
        self.header = header
        words = StateWords(memory)
        self.version = words.version
        self.generations = words.generations
        self.version_cell = memoryview(memory)[VERSION_AT : VERSION_AT + 8].cast("Q")
        self._memory = memory

    @property
    def key(self) -> tuple[str, int]:
        """What is the same for all channels of one life of a name."""
        return self._names.state, self.header.instance

    def open_table(self) -> None:
        """Open the reader table that belongs to this state."""
        with open_part(self._names.readers, writable=True) as segment:
            self.table = ReaderTable(segment, self.header)
        self.bell = Bell(self._memory, VERSION_AT, self.version, self.table.awaited)

    def is_current(self) -> bool:
        """Tell whether the name still leads to this life: not unlinked by the writer, nor removed from outside."""
        # The inode lives, and keeps its number, as long as it is mapped here.
        status = status_of(self._names.state)
        return status is not None and status.st_ino == self._inode


def attach(names: Names) -> Channel:
    """Open what is published under a name at present.

    Raises:
        StateNotFoundError, UninitializedStateError, StateReadError, LayoutMismatchError: see `Reader.get`.
    """
    while True:
        channel = Channel(names)
        try:
            channel.open_table()
        except StateReadError:
            # State and table of two lives, if the name was given a new one between the two opens.
            if channel.is_current():
                raise
        else:
            return channel


_REMEDY = "let the writer unlink the name and publish again"


def slot_at(index: int) -> int:
    """Return the offset of a slot in the reader table; its first byte is the one that its lock covers."""
    return SLOTS_AT + SLOT_SIZE * index


def map_state(segment: Segment, *, writable: bool = False) -> mmap:
    """Map a state segment.

    Raises:
        UninitializedStateError: empty: its writer is just creating it, or died there.
        StateReadError: truncated.
    """
    size = segment.status().st_size
    if size == 0:
        raise UninitializedStateError(f"{segment.name} is there, but nothing is published yet; try again later")
    if size < STATE_SIZE:
        raise StateReadError(errno.EINVAL, f"{segment.name} is truncated: {size} of {STATE_SIZE} bytes; {_REMEDY}")
    return map_part(segment, writable=writable)


def map_part(segment: Segment, *, writable: bool) -> mmap:
    """Map the state segment or the reader table.

    Raises:
        StateReadError: it cannot be mapped.
    """
    try:
        return segment.map(writable=writable)
    except (OSError, ValueError) as error:
        code = getattr(error, "errno", None) or errno.EIO
        raise StateReadError(code, f"cannot map {segment.name}: {reason(error)}") from error


def open_part(name: str, *, writable: bool) -> Segment:
    """Open the state segment or the reader table.

    Raises:
        StateNotFoundError: not there.
        StateReadError: there, but may not be opened.
    """
    try:
        return open_segment(name, writable=writable)
    except FileNotFoundError:
        raise not_found(name) from None
    except OSError as error:
        text = f"cannot open {name}: {reason(error)}"
        if isinstance(error, PermissionError):
            text += f": {access_of(name)}, this process runs as user {os.geteuid()}, group {os.getegid()}"
            text += f" and needs to {'read and write' if writable else 'read'} it (see the mode of the Writer)"
        raise StateReadError(error.errno or errno.EIO, text) from error
