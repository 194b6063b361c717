"""What writers and readers tell of themselves."""

from __future__ import annotations

from typing import NamedTuple

from shmsync._layout import InstanceVersion  # noqa: TC001 - a user may ask for the annotations at run time


class WriteResult(NamedTuple):
    """What a write did.

    Attributes:
        size: payload size in bytes.
        reset: a dead reader was cleared away, or a reader was evicted when the grace duration was over.
        version: the version that was published.
    """

    size: int
    reset: bool
    version: InstanceVersion


class WriterStats(NamedTuple):
    """What a Writer did so far.

    Attributes:
        writes: versions published.
        resets: writes that cleared a dead reader away or evicted one.
        replaced: writes that gave their data segment a new inode, the first two included.
        takeovers: how often it followed a writer that had died.
    """

    writes: int
    resets: int
    replaced: int
    takeovers: int


class ReaderStats(NamedTuple):
    """What a Reader did so far. Unchanged values are not counted: that would cost more than to return them.

    Attributes:
        values: changed values taken, by `get` or `read`.
        attached: how often it attached to a name: more than once after an unlink, a fork, a removal.
        claimed: reader slots claimed: one for each attachment, and one more after each read that could not be ended in
            good order: evicted while other snapshots were open, interrupted by an exception, or shared with a fork.
    """

    values: int
    attached: int
    claimed: int
