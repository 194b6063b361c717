"""An open inode of the state segment: the port `StateSegment` of `shmsync._core.lifecycle`."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from typing import TYPE_CHECKING

from shmsync._core.isolated import INDEX, EndableVersion
from shmsync._core.layout import (
    LINE,
    STATE_MAGIC,
    STATE_SIZE,
    VERSION_AT,
    WRITER,
    WRITER_AT,
    StateHeader,
    pack_state_header,
    parse_state_header,
)
from shmsync._session import notify
from shmsync._session.control import map_control_segment, open_control_segment, truncated_state
from shmsync._session.public_state import PublicState, open_public
from shmsync._session.state import StateWords
from shmsync._session.write_lock import LOCK_AT, conflict, try_write_lock
from shmsync._shm import atomics, ofd_locks
from shmsync._shm.segment import Segment, status_of
from shmsync._util.backoff import backoff
from shmsync.errors import LayoutMismatchError, StateNotFoundError, StateReadError, WriteLockConflictError

if TYPE_CHECKING:
    from mmap import mmap

    from shmsync._core.lifecycle import VersionWord
    from shmsync._session.create_options import CreateOptions

Ignored = tuple["type[LayoutMismatchError | StateReadError]", ...]

_NAMES_LOCK_AT = 1
_NAMES_LOCK_TIMEOUT = 10.0  # seconds; its holder needs microseconds, and for a large segment the time to allocate it


class StateFile:
    """An open inode of the state segment: the port `StateSegment`.

    Args:
        options: options for initializing it.
        locks: the open segment; it carries the locks.
        ignored: errors of the header that make it count as not initialized instead of being raised.

    Attributes:
        header: the header; only of an initialized segment.
        memory: the mapped segment that contains the shared words: this one, or the public state.
        words: the shared words.
        public: the public state, if the incarnation is isolated and it is there.
        is_isolated: whether the incarnation is isolated; None if there is no header that says it.
        table_inode: inode of the reader table, once it is known to belong to this incarnation; otherwise 0.
    """

    header: StateHeader
    memory: mmap
    words: StateWords
    version: VersionWord

    def __init__(self, options: CreateOptions, locks: Segment, ignored: Ignored) -> None:
        self._options = options
        self._names = options.names
        self._locks = locks
        self._ignored = ignored
        self._owner = os.getpid()
        self._is_initialized = False
        self._inode: tuple[int, int] | None = None
        self.public: PublicState | None = None
        self.is_isolated: bool | None = None
        self.table_inode = 0

    def is_named(self) -> bool:
        """Return whether the name leads to this inode."""
        status = status_of(self._names.state)
        return status is not None and _identity(status) == self._identity()

    def _identity(self) -> tuple[int, int]:
        if self._inode is None:
            self._inode = _identity(self._locks.status())
        return self._inode

    def is_initialized(self) -> bool:
        """Return whether the header is complete.

        Raises:
            LayoutMismatchError, StateReadError: it cannot be used.
        """
        if not self._is_initialized:
            try:
                self._is_initialized = self._parse()
            except self._ignored:
                return False
        return self._is_initialized

    def _parse(self) -> bool:
        size = self._locks.status().st_size
        if size == 0:
            return False
        if size < STATE_SIZE:
            raise truncated_state(self._names.state, size)
        # Read, not mapped: without magic, no second descriptor is needed to find out.
        raw = self._locks.read(0, LINE)
        header = parse_state_header(self._names.state, memoryview(raw))
        if header is None:
            return False
        self.is_isolated = header.isolated
        self.header = header
        memory = self._map()
        if memory is None:
            return False
        self._use(memory)
        return True

    def _use(self, memory: mmap) -> None:
        """Use the words of the mapped segment, or of the public state."""
        self._pages = [memory]
        if self.header.isolated:
            if self.public is None:
                self.public = open_public(self._names, self.header)
            if self.public is not None:  # else no reader can attach, and the words here stay 0: see `can_continue`
                memory = self.public.memory
                self._pages.append(memory)
        self.memory = memory
        self.words = StateWords(memory)
        version = self.words.version
        self.version = EndableVersion(version, self.words.generations[INDEX]) if self.header.isolated else version

    def _map(self) -> mmap | None:
        """Map the segment; return None if the name does not lead to it any more."""
        # Opened a second time: a mapping keeps its open file description, and with it the locks, for as long as any
        # process has it mapped.
        try:
            with open_control_segment(self._names, self._names.state, writable=True) as segment:
                is_same = _identity(segment.status()) == self._identity()
                return map_control_segment(segment, writable=True) if is_same else None
        except StateNotFoundError:
            return None

    def try_lock_writer(self) -> bool:
        """Take the write lock; return False if another open file description holds it."""
        return try_write_lock(self._locks)

    def unlock_writer(self) -> None:
        """Release the write lock."""
        self._unlock(LOCK_AT)

    def lock_names(self) -> None:
        """Take the names lock.

        Raises:
            WriteLockConflictError: it was not released for ten seconds.
        """
        deadline = time.monotonic() + _NAMES_LOCK_TIMEOUT
        pauses = backoff(0.0001, 0.02)
        while not ofd_locks.try_lock(self._locks.fd, _NAMES_LOCK_AT):
            if time.monotonic() > deadline:
                raise WriteLockConflictError(
                    errno.EAGAIN,
                    f"the segments of {self._names.name!r} are locked by another process that creates or removes them, "
                    f"and has not finished for {_NAMES_LOCK_TIMEOUT:.0f} s; continue or end it if it is stopped",
                )
            time.sleep(next(pauses))

    def unlock_names(self) -> None:
        """Release the names lock, if it is held."""
        self._unlock(_NAMES_LOCK_AT)

    def _unlock(self, at: int) -> None:
        # A forked child shares the locks: only their owner releases them.
        if self._locks.fd >= 0 and self._owner == os.getpid():
            ofd_locks.unlock(self._locks.fd, at)

    def reserve(self) -> None:
        """Set mode and size, and allocate the memory.

        Raises:
            CapacityError: not enough memory.
        """
        options = self._options
        self._locks.set_mode(options.state_mode)
        if not options.isolated:
            self._allocate()
        self.header = StateHeader(1 + _random_63_bits(), options.max_readers, time.time_ns(), options.isolated)

    def _allocate(self) -> None:
        if self._locks.status().st_size == 0:
            self._locks.reserve(STATE_SIZE)

    def publish_header(self) -> None:
        """Write the header, the magic last: from now on readers attach. In isolated mode, they could before."""
        self._allocate()  # not before in isolated mode: see `state.open_channel`
        memory = self._map()
        if memory is None:
            return  # removed from outside: the next step finds that the name leads elsewhere
        memory[:] = pack_state_header(self.header, 0).ljust(STATE_SIZE, b"\0")
        self._use(memory)  # mapped here once, so that a later failure to map cannot prevent the incarnation's end
        atomics.bind(memory, 0).store(STATE_MAGIC)
        self.is_isolated = self.header.isolated
        self._is_initialized = True

    def has_other_permissions(self) -> bool:
        """Return whether an incarnation of an earlier writer, in the mode of this one, has other permission bits."""
        return not self.has_other_mode() and self._permissions() != self._options.read_mode

    def _permissions(self) -> int:
        return stat.S_IMODE(self._readable().status().st_mode)

    def _readable(self) -> Segment:
        return self._locks if self.public is None else self.public.segment

    def adopt_permissions(self) -> int:
        """Give the segment the permission bits of this writer, and return those that it had.

        Call it after the other segments have theirs: if this writer dies before, its successor sees that they differ.
        """
        found = self._permissions()
        self._readable().set_mode(self._options.read_mode)
        return found

    def has_other_mode(self) -> bool:
        """Return whether the incarnation is shared and has to be isolated, or the other way round."""
        return self.header.isolated != self._options.isolated

    def previous_owner_pid(self) -> int:
        """Return the process of the last writer; 0 if it has closed."""
        pid: int = WRITER.unpack_from(self._pages[0], WRITER_AT)[0]
        return pid

    def record_owner(self, pid: int, since_ns: int) -> None:
        """Record the process of the writer, and since when it is; for messages and tools only."""
        for page in self._pages:
            WRITER.pack_into(page, WRITER_AT, pid, since_ns)

    def wake_readers(self) -> None:
        """Wake all readers that sleep on the version word."""
        notify.wake(self.memory, VERSION_AT)

    def conflict(self, remedy: str) -> WriteLockConflictError:
        """Return the error for a write lock that another process holds."""
        return conflict(self._names, self._locks, remedy)

    def close(self) -> None:
        """Close the descriptors. The mappings stay."""
        self._locks.close()
        if self.public is not None:
            self.public.close()


def _random_63_bits() -> int:
    return int.from_bytes(os.urandom(8), sys.byteorder) >> 1


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
