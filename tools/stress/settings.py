"""What the harness and its processes share."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shmsync import ReadersFullError, StateNotFoundError, UninitializedStateError

if TYPE_CHECKING:
    from stress.removals import Removals

REPORT_INTERVAL = 0.1
"""Seconds between two messages of a process to the harness."""
UNAVAILABLE = (StateNotFoundError, UninitializedStateError, ReadersFullError)
"""Errors that a reader expects while the name is unlinked, is being replaced, or has no free slot."""


class Settings(NamedTuple):
    """Settings of a run, the same for all processes.

    Attributes:
        name: name that is written and read.
        grace: grace duration of the writers, in seconds.
        largest: largest payload, in bytes.
        unlinks: one in this number of writes is followed by an unlink; 0: none.
        locks: whether the writers may test the lock of a slot to prove its reader dead.
        reentrant: the share of writes that a signal handler interrupts, which calls the writer.
        other_user: id of the user of one of the writers; None: all writers have the same user.
        removals: the removals from outside.
        isolated: whether every version gets an inode of its own.
    """

    name: str
    grace: float
    largest: int
    unlinks: int
    locks: bool
    reentrant: float
    other_user: int | None
    removals: Removals
    isolated: bool = False


class Violation(Exception):  # noqa: N818 - a result of the test, not an error of it
    """A guarantee of the library does not hold."""
