"""The four names of a user name, and the inode of its state segment: the ports of `shmsync._core.lifecycle`."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from shmsync._core.isolated import INDEX, EndableVersion, can_continue
from shmsync._core.layout import (
    LINE,
    PAGE,
    PAYLOAD_AT,
    STATE_MAGIC,
    STATE_SIZE,
    VERSION_AT,
    WRITER,
    WRITER_AT,
    Names,
    StateHeader,
    pack_readers_header,
    pack_state_header,
    parse_state_header,
    readers_belong,
    readers_size,
)
from shmsync._core.lifecycle import DATA
from shmsync._session import notify
from shmsync._session.control import map_control_segment, open_control_segment, truncated_state
from shmsync._session.data_name import newest_label, unlink_unpublished
from shmsync._session.public_state import PublicState, create_public, open_public
from shmsync._session.state import StateWords
from shmsync._session.write_lock import LOCK_AT, conflict, try_write_lock
from shmsync._shm import atomics, ofd_locks
from shmsync._shm.segment import Segment, create_empty_segment, create_segment, status_of, unlink_segment
from shmsync._util.backoff import backoff
from shmsync.errors import (
    CapacityError,
    DataWriteError,
    LayoutMismatchError,
    StateNotFoundError,
    StateReadError,
    WriteLockConflictError,
)

if TYPE_CHECKING:
    from mmap import mmap

    from shmsync._core.lifecycle import VersionWord

Ignored = tuple["type[LayoutMismatchError | StateReadError]", ...]

_NAMES_LOCK_AT = 1
_NAMES_LOCK_TIMEOUT = 10.0  # seconds; its holder needs microseconds, and for a large segment the time to allocate it


class CreateOptions(NamedTuple):
    """Options for creating an incarnation.

    Attributes:
        names: the segment names.
        mode: permission bits of state and data; the reader table also lets readers of the group write.
        max_readers: slots of the reader table.
        max_backoff: the longest pause in seconds while the writer waits for a reader.
        reuse_memory: whether the writer writes again to memory that readers have used; None: unless `mode` lets other
            users read.
    """

    names: Names
    mode: int = 0o600
    max_readers: int = 1
    max_backoff: float = 0.002
    reuse_memory: bool | None = None

    @property
    def read_mode(self) -> int:
        """Permission bits of state and data, which readers never write to."""
        return self.mode & ~0o022

    @property
    def table_mode(self) -> int:
        """Permission bits of the reader table, which every reader writes to."""
        return self.read_mode | (self.mode & 0o044) >> 1

    @property
    def isolated(self) -> bool:
        """Whether every version gets an inode of its own: see `isolated`."""
        return bool(self.read_mode & 0o077) if self.reuse_memory is None else not self.reuse_memory

    @property
    def state_mode(self) -> int:
        """Permission bits of the state segment. Who may open it can lock it, and so stop the writer."""
        return 0o600 if self.isolated else self.read_mode


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


class SegmentDirectory:
    """The four names in /dev/shm: the port `Directory`.

    Args:
        options: the names, and options for creating segments.
        ignored: errors of a state segment's header that do not prevent its removal.
        is_writer: whether values will be published there: only into segments of this process's user.
        remedy: what to do about a live writer, for the error; empty for what another writer can do.

    Attributes:
        switch_size: size of the payload that is about to be written: an incarnation of the other mode, shared or
            isolated, then cannot go on. None if there is none: a writer that has only acquired the name leaves it as
            it is, since its value may still be read.
    """

    def __init__(
        self, options: CreateOptions, ignored: Ignored = (), *, is_writer: bool = False, remedy: str = ""
    ) -> None:
        names = options.names
        self._remedy = remedy
        self._options = options
        self._names = names
        self._ignored = ignored
        self._is_writer = is_writer
        self._segments = (*names.data, names.readers, names.state)  # by number, see `lifecycle`
        self.switch_size: int | None = None
        self._opened: weakref.ref[StateFile] | None = None  # weak, so that it is unmapped when its owner drops it
        self._was_created = self._has_found_any = False  # any leftovers since

    def _trusting(self) -> Names:
        # Looked up each time: a process may change its user.
        return self._names._replace(owners=frozenset([os.geteuid()])) if self._is_writer else self._names

    def is_empty(self) -> bool:
        """Return whether none of the four names exists."""
        return all(status_of(segment) is None for segment in self._segments)

    def open_state(self) -> StateFile | None:
        """Open the state segment; None if there is none.

        Raises:
            StateReadError: this process may not open it.
        """
        try:
            segment = open_control_segment(self._trusting(), self._names.state, writable=True)
        except StateNotFoundError:
            return None
        return self._note_opened(segment, created=False)

    def _note_opened(self, segment: Segment, *, created: bool) -> StateFile:
        self._was_created = created
        self._has_found_any = False
        state = StateFile(self._options, segment, self._ignored)
        self._opened = weakref.ref(state)
        return state

    def create_state(self) -> StateFile | None:
        """Create an empty state segment; None if the name is taken.

        Raises:
            DataWriteError: it cannot be created.
        """
        ofd_locks.check_available()
        try:
            segment = create_empty_segment(self._names.state)
        except FileExistsError:
            return None
        return self._note_opened(segment, created=True)

    def can_continue(self, state: StateFile) -> bool:
        """Return whether what the incarnation needs is there; and it is of the mode that is wanted, if that matters.

        Raises:
            CapacityError, DataWriteError: it is of the other mode, and its value would be lost if it ended now.
        """
        if self.switch_size is not None and state.has_other_mode():
            self._check_room(self.switch_size)
            return False
        if not state.header.isolated:
            return self._has_table(state)
        if state.public is None or not state.public.is_named():
            return False
        words = state.words
        found = newest_label(self._names, state.header.incarnation, os.geteuid())
        return can_continue(found, words.version.load(), words.generations[INDEX].load())

    def _check_room(self, size: int) -> None:
        """Raise unless a new incarnation with a payload of `size` bytes has room beside the present one.

        Its segments get the names of the present ones, so these are unlinked first. A failure after that loses the
        value for new readers.
        """
        table = STATE_SIZE if self._options.isolated else readers_size(self._options.max_readers)
        staged = self._names.staged[INDEX]  # found and removed by any writer, if this one dies
        self.unlink_staged(INDEX)
        try:
            create_segment(staged, -(-(PAYLOAD_AT + size) // PAGE) * PAGE + STATE_SIZE + table, 0o600).close()
        except FileExistsError:
            return  # of another user
        except CapacityError as error:
            remedy = "; the writer changes the mode of the name; to release the memory of its value first, unlink it"
            raise CapacityError(error.errno, f"{error.strerror}{remedy}") from None
        finally:
            self.unlink_staged(INDEX)

    def _has_table(self, state: StateFile) -> bool:
        status = status_of(self._names.readers)
        if status is None:
            return False
        if not state.table_inode and self._is_table_of(state):
            state.table_inode = status.st_ino
        return status.st_ino == state.table_inode

    def _is_table_of(self, state: StateFile) -> bool:
        try:
            with open_control_segment(self._trusting(), self._names.readers, writable=True) as segment:
                raw = segment.read(0, LINE)
                size = segment.status().st_size
        except StateNotFoundError:
            return False
        return size >= readers_size(state.header.max_readers) and readers_belong(memoryview(raw), state.header)

    def create_table(self, state: StateFile) -> bool:
        """Create the reader table of an incarnation, or its public state; return False if the name is taken.

        Raises:
            CapacityError, DataWriteError: it cannot be created.
        """
        if state.header.isolated:
            state.public = create_public(self._names, state.header, self._options.read_mode)
            return state.public is not None
        size = readers_size(state.header.max_readers)
        try:
            segment = create_segment(self._names.readers, size, self._options.table_mode)
        except FileExistsError:
            return False
        with segment:
            readers = map_control_segment(segment, writable=True)
            raw = pack_readers_header(state.header)
            readers[: len(raw)] = raw
        return True

    def unlink(self, segment: int) -> None:
        """Remove a name, if it exists; of a data segment, also what was prepared to replace it.

        Raises:
            DataWriteError: it cannot be removed.
        """
        try:
            self._has_found_any |= unlink_segment(self._segments[segment])
        finally:
            if segment in DATA:
                self.unlink_staged(segment)

    def unlink_staged(self, index: int) -> None:
        """Remove the inodes that were prepared for a data segment, if there are any and this process may."""
        with suppress(DataWriteError):  # any user may create a file there
            unlink_segment(self._names.staged[index])
        if index == INDEX and self._may_have_unpublished():
            unlink_unpublished(self._names)

    def _may_have_unpublished(self) -> bool:
        """Return whether a writer in isolated mode may have left a version that it has not published.

        Finding it means to list /dev/shm, so names that were never isolated are spared that.
        """
        opened = None if self._opened is None else self._opened()
        if self._options.isolated or opened is None or opened.is_isolated:
            return True
        if opened.is_isolated is None:  # there is no header: nothing says what was there before
            return self._has_found_any or not self._was_created
        return False  # it was removed when this shared incarnation began

    def conflict(self, state: StateFile) -> WriteLockConflictError:
        """Return the error for a name whose writer is alive."""
        return state.conflict(self._remedy)


def _random_63_bits() -> int:
    return int.from_bytes(os.urandom(8), sys.byteorder) >> 1


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
