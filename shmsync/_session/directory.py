"""The four names of a user name in /dev/shm: the port `Directory` of `shmsync._core.lifecycle`."""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from shmsync._core.isolated import INDEX, can_continue
from shmsync._core.layout import (
    LINE,
    STATE_SIZE,
    allocated_size,
    pack_readers_header,
    readers_belong,
    readers_size,
)
from shmsync._core.lifecycle import DATA
from shmsync._session.control import map_control_segment, open_control_segment
from shmsync._session.data_name import newest_label, unlink_unpublished
from shmsync._session.public_state import create_public
from shmsync._session.state_file import StateFile
from shmsync._shm import ofd_locks
from shmsync._shm.segment import create_empty_segment, create_segment, status_of, unlink_segment
from shmsync.errors import CapacityError, DataWriteError, StateNotFoundError

if TYPE_CHECKING:
    from shmsync._core.layout import Names
    from shmsync._session.create_options import CreateOptions
    from shmsync._session.state_file import Ignored
    from shmsync._shm.segment import Segment
    from shmsync.errors import WriteLockConflictError


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
            create_segment(staged, allocated_size(size) + STATE_SIZE + table, 0o600).close()
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
