"""The life cycle of a name: who may create, adopt, end and unlink its segments, as pure steps over the ports.

An incarnation of a name begins when a writer initializes a state segment, and ends when the version word is CLOSED.
One rule makes every step safe: *the lock on the inode that the name of the state segment leads to is the lock on all
four names.* A process that holds it, and has compared the inode of the name with its own since, may change the names.
The state segment is created first and unlinked last, so no process can get that lock while another one still changes
names. There are two locks on it:

    write lock   the writer, from acquisition to `release`; `unlink` while it removes
    names lock   every process that creates or unlinks one of the four names, for a few system calls; in isolated mode
                 also a publish, which is a rename

| state of the name | its state segment      | a writer that acquires it          | unlink  | a reader            |
|-------------------|------------------------|------------------------------------|---------|---------------------|
| absent            | none                   | creates the state, then as *empty* | nothing | not found           |
| empty             | without magic          | initializes it                     | ends it | not published yet   |
| unpublished       | version 0              | adopts it                          | ends it | not published yet   |
| live              | version 1 ...          | adopts it, continues its count     | ends it | reads               |
| closed            | version CLOSED         | ends it, then creates              | ends it | not found           |
| orphan            | not under its name     | its owner gives it up              | -       | keeps the value     |

An orphan is an incarnation whose name another program removed or renamed, or has lost to another incarnation. Its
owner keeps the locked inode open until the next incarnation has a value, and only then marks it CLOSED: its readers
keep the last value until there is a newer one. A reader compares the name from time to time, and leaves an orphan when
the name leads to another incarnation that has a value.

The inode is compared, not its link count, which a rename leaves at 1. `tests/model` runs this module under every
interleaving of writers, removers and readers, with death at every step and removal from outside at any step.

One window remains, because POSIX has no unlink by descriptor: if another program removes the state segment after a
process has compared it and before that process unlinks or renames, and a third process has created the name again in
between, then that hits the third one's segment. It heals like a removal from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from shmsync._core.layout import CLOSED
from shmsync.errors import DataWriteError, ShmSyncError

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = (0, 1)
READERS = 2
STATE = 3
"""The segments of a name, numbered in the order in which they are unlinked."""


class StaleIncarnationError(Exception):
    """The incarnation has ended, or the name leads to another one: acquire again. Handled by the Writer."""


class VersionWord(Protocol):
    """The version word, as the life cycle uses it."""

    def load(self) -> int:
        """Read the word."""

    def store(self, value: int) -> None:
        """Write the word."""


class StateSegment(Protocol):
    """An open inode of the state segment. Its locks belong to this open file description."""

    @property
    def version(self) -> VersionWord:
        """The version word; only of an initialized segment."""

    def is_named(self) -> bool:
        """Return whether the name leads to this inode."""

    def is_initialized(self) -> bool:
        """Return whether the magic is there: the header is complete, and so is the reader table."""

    def try_lock_writer(self) -> bool:
        """Take the write lock; return False if another open file description holds it."""

    def unlock_writer(self) -> None:
        """Release the write lock, for every process that inherited this open file description."""

    def lock_names(self) -> None:
        """Take the names lock. Waits for its holder, which needs it for a few system calls only.

        Raises:
            WriteLockConflictError: it was not released for seconds: its holder is stopped.
        """

    def unlock_names(self) -> None:
        """Release the names lock, if it is held."""

    def reserve(self) -> None:
        """Set mode and size of an empty segment, and allocate its memory."""

    def publish_header(self) -> None:
        """Write the header, the magic last: from now on the segment is initialized."""

    def wake_readers(self) -> None:
        """Wake all readers that sleep on the version word."""

    def close(self) -> None:
        """Close this process's share of the inode."""


StateT = TypeVar("StateT", bound=StateSegment)


class Directory(Protocol[StateT]):
    """The four names, as directory entries."""

    def is_empty(self) -> bool:
        """Return whether none of the four names exists."""

    def open_state(self) -> StateT | None:
        """Open the inode that the name of the state segment leads to; None if there is none."""

    def create_state(self) -> StateT | None:
        """Create an empty state segment; None if the name is taken."""

    def can_continue(self, state: StateT) -> bool:
        """Return whether this writer can go on with an incarnation: the name of the reader table leads to its own.

        In isolated mode, instead: the public state is there, and the data name leads to the last version.
        """

    def create_table(self, state: StateT) -> bool:
        """Create the reader table of an incarnation, or its public state; return False if the name is taken."""

    def unlink(self, segment: int) -> None:
        """Remove the name of a segment, if it exists; of a data segment, also what was prepared to replace it.

        Raises:
            DataWriteError: it cannot be removed.
        """

    def unlink_staged(self, index: int) -> None:
        """Remove the inodes that were prepared for a data segment, if there are any and this process may."""

    def conflict(self, state: StateT) -> Exception:
        """Return the error to raise when another process holds the write lock."""


class NameOwner(Generic[StateT]):
    """A process's hold on a name: the state segment whose write lock it holds, if any.

    An exception, also one from a signal handler, may interrupt it at any step; the next call resumes.

    Args:
        directory: the names.

    Attributes:
        state: the locked state segment; None if there is none.
    """

    def __init__(self, directory: Directory[StateT]) -> None:
        self._directory = directory
        self.state: StateT | None = None
        self._orphan: StateT | None = None

    def acquire(self) -> StateT:
        """Return the state segment of the current incarnation, locked; adopt or create one if necessary.

        Compares the names with the segments in hand. After an error, call `abort`.
        """
        while True:
            state = self.state
            if state is None:
                self._open_and_lock()
            elif not state.is_initialized():
                self._initialize(state)
            elif state.version.load() == CLOSED:
                self.end()  # by force, or its remover died: finish what it began
            elif not state.is_named():
                self._give_up(state)
            elif not self._directory.can_continue(state):
                self._abandon(state)  # no reader can attach any more, or it is of another mode
            else:
                return state

    def _open_and_lock(self) -> None:
        while True:
            state = self._directory.open_state() or self._directory.create_state()
            if state is None:
                continue  # unlinked between the two
            self.state = state  # before the lock is taken: `release` finds it after an exception
            locked = state.try_lock_writer()
            # Compared after the lock: a process that ended this incarnation and released it may have been faster.
            if state.is_named():
                if locked:
                    return
                error = self._directory.conflict(state)
                self._drop()
                raise error
            self._drop()

    def _initialize(self, state: StateT) -> None:
        """Begin an incarnation in an empty state segment. If that fails, nothing is left behind."""
        state.lock_names()
        try:
            while state.is_named():
                state.reserve()
                for leftover in (READERS, *DATA):  # of an incarnation whose state segment another program removed
                    self._directory.unlink(leftover)
                if self._directory.create_table(state):
                    state.publish_header()
                    state.unlock_names()
                    return
            self._drop()
        except BaseException:
            self.end()
            raise

    def replace(self, create: Callable[[Callable[[], None]], bool]) -> None:
        """Give the name of a data segment a new inode; or only prepare one, or only rename it.

        Args:
            create: prepares the inode under a name of its own, calls its argument, and renames it; or returns False if
                the name is taken. The argument is a function that raises if the names are not ours to change any more:
                it may take long to allocate the memory.

        Raises:
            StaleIncarnationError: the names are not ours to change.
        """
        state = self._changing_names()
        try:
            self._check_ours(state)
            while not create(lambda: self._check_ours(state)):
                self._check_ours(state)
        finally:
            state.unlock_names()

    def unlink_data(self, index: int) -> None:
        """Remove the name of a data segment, if it is ours."""
        self._remove(lambda: self._directory.unlink(DATA[index]))

    def unlink_staged(self, index: int) -> None:
        """Remove what a writer that died has prepared for a data segment, if the name is ours."""
        self._remove(lambda: self._directory.unlink_staged(index))

    def _remove(self, unlink: Callable[[], None]) -> None:
        state = self._changing_names()
        try:
            if _is_ours(state):
                unlink()
        finally:
            state.unlock_names()

    def _check_ours(self, state: StateT) -> None:
        if not _is_ours(state):
            raise StaleIncarnationError

    def _changing_names(self) -> StateT:
        if self.state is None:
            raise StaleIncarnationError
        self.state.lock_names()
        return self.state

    def _give_up(self, state: StateT) -> None:
        """Start over, because the name leads elsewhere. `published` closes the old incarnation."""
        self._close_orphan()
        self._orphan, self.state = state, None
        state.unlock_names()

    def _abandon(self, state: StateT) -> None:
        """Take the name away from an incarnation that cannot go on, and give it up."""
        state.lock_names()
        if _is_ours(state):
            self._directory.unlink(STATE)
            self._give_up(state)
        else:
            state.unlock_names()

    def published(self) -> None:
        """Send the readers of an orphan to the current incarnation. Call after each publish."""
        if self._orphan is not None:
            self._close_orphan()

    def _close_orphan(self) -> None:
        orphan = self._orphan
        if orphan is not None:
            orphan.version.store(CLOSED)
            orphan.wake_readers()
            orphan.unlock_writer()
            self._orphan = None
            orphan.close()

    def end(self) -> bool:
        """End the incarnation in hand: mark it as CLOSED, unlink its segments, and release it.

        Returns:
            Whether the name led to it. If not, it is CLOSED all the same, but no name is unlinked.
        """
        state = self.state
        if state is None:
            return False
        try:
            state.lock_names()
            return _end(self._directory, state)
        finally:
            self._drop()

    def unlink(self) -> bool:
        """End the current incarnation of the name, also that of another writer; return whether there was one."""
        self._close_orphan()
        while True:
            if self.state is None:
                if self._directory.is_empty():
                    return False
                self._open_and_lock()  # if only leftovers exist, a state segment is created: it carries the lock
            if self.end():
                return True

    def abort(self) -> None:
        """Release the name after an error; if nothing is published, end its incarnation instead."""
        state = self.state
        try:
            is_unpublished = state is not None and (not state.is_initialized() or state.version.load() == 0)
        except ShmSyncError:
            is_unpublished = False  # it is not ours, so it must not be ended
        if is_unpublished:
            self.end()
        else:
            self.release()

    def release(self) -> None:
        """Release the name. It stays, and the next writer adopts it. The readers of an orphan keep their value."""
        self._drop()
        orphan, self._orphan = self._orphan, None
        if orphan is not None:
            orphan.unlock_writer()
            orphan.close()

    def _drop(self) -> None:
        state = self.state
        if state is not None:
            # Unlocked, not only closed: a process that was forked without hooks has a copy of the descriptor.
            state.unlock_names()
            state.unlock_writer()
            self.state = None
            state.close()

    def close_inherited(self) -> None:
        """Close this process's copies of the descriptors, and leave the locks to the parent: for a forked child."""
        for state in (self.state, self._orphan):
            if state is not None:
                state.close()
        self.state = self._orphan = None


def force_unlink(directory: Directory[StateT]) -> bool:
    """Remove a name even if its writer is alive; return whether there was one.

    A live writer finds CLOSED at its next step, before it publishes or changes a name, and starts over.
    """
    while not directory.is_empty():
        state = directory.open_state() or directory.create_state()
        if state is None:
            continue
        try:
            state.lock_names()
            if state.is_named():
                return _end(directory, state)
        finally:
            state.unlock_names()
            state.close()
    return False


def _is_ours(state: StateSegment) -> bool:
    """Return whether the owner of an incarnation may still change its names. Call under the names lock."""
    return state.version.load() != CLOSED and state.is_named()


def _end(directory: Directory[StateT], state: StateT) -> bool:
    """Mark an incarnation as CLOSED, and unlink its segments. The caller holds the names lock."""
    is_named = state.is_named()
    if state.is_initialized():
        state.version.store(CLOSED)  # before the first unlink: if we die in between, no reader gets the removed value
        state.wake_readers()
    if is_named:
        unlink_all(directory)
    return is_named


def unlink_all(directory: Directory[StateT]) -> None:
    """Unlink the four names; if one cannot be removed, remove the others, then raise its error."""
    failed = None
    for segment in (*DATA, READERS, STATE):  # the state last: until then no process can create the name again
        try:
            directory.unlink(segment)
        except DataWriteError as error:  # noqa: PERF203 - the others still have to be removed
            failed = failed or error
    if failed is not None:
        raise failed
