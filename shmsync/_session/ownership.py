"""Ownership of a name: the write lock, and the creation and takeover of an incarnation.

An incarnation begins when a writer creates the state segment, and ends when the version word is set to CLOSED. The
kernel lock on the first byte of the state segment alone decides who writes. A writer that dies releases the lock, and
the next writer finds everything that it needs in the segments.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shmsync._core.layout import (
    CLOSED,
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
from shmsync._session.control import map_control_segment, open_control_segment, truncated_state
from shmsync._session.data import DataSegments, Encoded
from shmsync._session.notify import Notifier
from shmsync._session.reader_table import WriterTable
from shmsync._session.state import StateWords
from shmsync._session.write_lock import take_write_lock
from shmsync._shm import atomics, ofd_locks
from shmsync._shm.segment import Segment, create_segment, unlink_segment
from shmsync.errors import DataWriteError, ShmSyncError, StateNotFoundError

if TYPE_CHECKING:
    from mmap import mmap

    from shmsync._core.protocol import PreparedWrite


@dataclass(frozen=True)
class CreateOptions:
    """Options for creating an incarnation.

    Attributes:
        names: the segment names.
        mode: permission bits of state and data; the reader table also lets readers of the group write.
        max_readers: slots of the reader table.
        max_backoff: the longest pause in seconds while the writer waits for a reader.
    """

    names: Names
    mode: int
    max_readers: int
    max_backoff: float


class _Clock:
    now = staticmethod(time.monotonic)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds)  # looked up each time: gevent or eventlet may replace it after this module is imported


class Ownership:
    """The write lock on one incarnation, and the segments that its holder writes to.

    Args:
        options: options for creating an incarnation.
        state: the open state segment, locked.
        memory: mapping of the state segment.
        header: header of the state segment.

    Attributes:
        previous_owner_pid: process of the previous writer, if it died without closing; otherwise 0.
        is_unpublished: whether nothing has been published in this incarnation; also True if a signal handler raised
            right after the first version.
    """

    def __init__(self, options: CreateOptions, state: Segment, memory: mmap, header: StateHeader) -> None:
        names = self._names = options.names
        self._state = state
        self._memory = memory
        words = StateWords(memory)
        self.version = words.version
        self.is_unpublished = self.version.load() == 0
        self._table = WriterTable(names, open_control_segment(names, names.readers, writable=True), header)
        self.previous_owner_pid: int = WRITER.unpack_from(memory, WRITER_AT)[0]
        WRITER.pack_into(memory, WRITER_AT, os.getpid(), time.time_ns())
        self.data = DataSegments(names, header.incarnation, options.mode)
        publisher: Publisher[Encoded] = Publisher(
            words.version, words.generations, self._table, self.data, _Clock(), options.max_backoff
        )
        self._publisher = publisher
        self._notifier = Notifier(memory, VERSION_AT, self.version, self._table.waiters)
        self.prepare = publisher.prepare

    def commit(self, prepared: PreparedWrite, value: Encoded) -> int:
        """Publish a value into a prepared segment, and wake the waiters; return the checksum of the payload."""
        had_waiters = self._notifier.disarm()
        checksum = self._publisher.commit(prepared, value)
        self.is_unpublished = False
        self._notifier.notify(had_waiters=had_waiters)
        return checksum

    def evicted(self) -> list[int]:
        """Return the pids whose slots are evicted now. For messages only."""
        return self._table.evicted()

    def is_linked(self) -> bool:
        """Return whether the state segment still has its name."""
        return self._state.status().st_nlink > 0

    def end_incarnation(self) -> None:
        """Mark the incarnation as closed, so that attached readers notice, and remove its segments."""
        self.version.store(CLOSED)
        self._notifier.notify(had_waiters=True)
        if self.is_linked():
            remove_segments(self._names)

    def release(self) -> None:
        """Record that this writer has closed, and release the lock."""
        WRITER.pack_into(self._memory, WRITER_AT, 0, 0)
        self.close_inherited()

    def close_inherited(self) -> None:
        """Close this process's share of the lock without a record: a forked child does this with its parent's."""
        self._state.close()
        self._table.close()


def acquire(options: CreateOptions) -> Ownership:
    """Take over the current incarnation of a name, or create one.

    Raises:
        WriteLockConflictError: its writer is alive.
        LayoutMismatchError, StateReadError: the existing segments cannot be used; nothing was changed.
        CapacityError, DataWriteError: the segments cannot be created; nothing is left behind.
    """
    while True:
        state = _open_and_lock(options)
        try:
            ownership = _join(options, state)
        except BaseException:
            _abandon(options.names, state)
            raise
        if ownership is not None:
            return ownership
        state.close()


def _abandon(names: Names, state: Segment) -> None:
    """Remove what a failed creation has left, and release the lock. The error that it failed with says more."""
    with state, suppress(ShmSyncError):
        if not any(state.read(0, WORD)):  # no magic: no reader has attached
            remove_segments(names)


def _join(options: CreateOptions, state: Segment) -> Ownership | None:
    """Own the incarnation whose lock is held; return None if it has ended, and its segments are removed."""
    names = options.names
    if state.status().st_size == 0:
        state.set_mode(options.mode & ~0o022)
        state.reserve(STATE_SIZE)  # its creator died before reserving it, or is waiting for our lock
    memory = _map_whole(names, state)
    if memory is None:
        return None
    header = parse_state_header(names.state, memoryview(memory))
    if header is None:
        return _join_created(options, state, memory)
    if StateWords(memory).version.load() == CLOSED:
        remove_segments(names)  # its writer died while it was unlinking
        return None
    try:
        return Ownership(options, state, memory, header)
    except StateNotFoundError:
        # Its reader table was removed by another program: no reader can attach any more.
        StateWords(memory).version.store(CLOSED)
        remove_segments(names)
        return None


def _join_created(options: CreateOptions, state: Segment, memory: mmap) -> Ownership:
    """Create an incarnation and own it. If that fails, no reader has been given anything: remove it under the lock."""
    header = _create(options, memory)
    try:
        return Ownership(options, state, memory, header)
    except BaseException:
        StateWords(memory).version.store(CLOSED)
        with suppress(ShmSyncError):
            remove_segments(options.names)
        raise


def _open_and_lock(options: CreateOptions) -> Segment:
    """Open or create the state segment and lock it."""
    names = options.names
    ofd_locks.check_available()
    while True:
        try:
            state = create_segment(names.state, STATE_SIZE, options.mode & ~0o022)
        except FileExistsError:
            try:
                state = open_control_segment(names, names.state, writable=True)
            except StateNotFoundError:
                continue  # unlinked between the two
        try:
            take_write_lock(names, state)
        except BaseException:
            state.close()
            raise
        try:
            is_linked = state.status().st_nlink > 0
        except BaseException:
            _abandon(names, state)
            raise
        if is_linked:
            return state
        state.close()  # unlinked before we had the lock


def _map_whole(names: Names, state: Segment) -> mmap | None:
    """Map a locked state segment; return None if its name refers to another segment by now."""
    # Opened again: a mapping keeps its open file, and with it the lock, and a fork could inherit the mapping.
    try:
        segment = open_control_segment(names, names.state, writable=True)
    except StateNotFoundError:
        return None
    with segment:
        if segment.status().st_ino != state.status().st_ino:
            return None
        size = segment.status().st_size
        if size < STATE_SIZE:
            raise truncated_state(state.name, size)
        return map_control_segment(segment, writable=True)


def _create(options: CreateOptions, memory: mmap) -> StateHeader:
    """Create the reader table and the header. The magic is stored last: until then no reader attaches."""
    names = options.names
    header = StateHeader(secrets.randbits(63) + 1, options.max_readers, time.time_ns())
    for segment_name in (names.readers, *names.data):
        unlink_segment(segment_name)  # leftovers of an incarnation whose state segment another program removed
    group_writes = (options.mode & 0o044) >> 1
    mode = options.mode & ~0o022 | group_writes
    try:
        with create_segment(names.readers, readers_size(header.max_readers), mode) as segment:
            readers = map_control_segment(segment, writable=True)
            raw = pack_readers_header(header)
            readers[: len(raw)] = raw
    except BaseException:
        with suppress(ShmSyncError):  # the first error says more
            remove_segments(names)
        raise
    raw = pack_state_header(header, 0)
    memory[:] = raw.ljust(STATE_SIZE, b"\0")
    atomics.bind(memory, 0).store(STATE_MAGIC)
    return header


def remove_segments(names: Names) -> bool:
    """Remove all segments of a name; return whether there were any.

    Raises:
        DataWriteError: one cannot be removed; the others were.
    """
    found, failed = 0, None
    for segment_name in (*names.data, names.readers, names.state):  # the state last: other processes look for it
        try:
            found += unlink_segment(segment_name)
        except DataWriteError as error:  # noqa: PERF203 - the others still have to be removed
            failed = failed or error
    try:
        if failed is not None:
            raise failed
    finally:
        del failed  # its traceback refers to this frame: a cycle, which would keep the caller's locked segment open
    return found > 0
