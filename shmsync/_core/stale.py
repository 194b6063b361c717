"""What the writer knows about the memory that it may write to again: where it differs from the newest version.

An update changes a part of a large value. The two data segments alternate, so that of the next version holds an older
one. It is brought up to date by what has changed since, and then changed: the cost is that of two changes.

With each inode that may be written to again, the writer keeps a record in its own memory: which bytes are *stale*.

Invariant: while the newest version is the one that a record names, every byte of its inode outside the record equals
that byte of the newest version. A record of more bytes is right, too. Without a record, all bytes count as stale, so
what is not known costs a full copy, and never a wrong byte. Hence:

1. A byte is added before it is changed, and a record is emptied after the copy that makes it true (`note_copied`). An
   abort, an exception or a signal at any step then needs no handling.
2. A record names the newest version, and only an update that is published changes that (`note_published`). So a full
   write, or another writer, makes all records void by publishing: there is nothing to note.
3. Before an inode is written in full, its record is dropped (`forget`): the write may be interrupted, and then nothing
   is published.

`tests/model/test_updates.py` runs this under every sequence of updates, writes, interruptions and replacements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Bytes(Protocol):
    """A set of bytes of a payload."""

    def extend(self, other: Any, /) -> None:
        """Add the bytes of another set."""


class Inode(Protocol):
    """An inode that the writer has mapped.

    Attributes:
        stale: its record: the sequence number that it names, and the bytes; None if there is none.
    """

    stale: tuple[int, Any] | None


def stale_bytes(inode: Inode, newest: int) -> Any:
    """Return the bytes of an inode that may differ from version `newest`; None if all of them may."""
    record = inode.stale
    return record[1] if record is not None and record[0] == newest else None


def forget(inode: Inode) -> None:
    """Drop the record of an inode. Call before it is written in full."""
    inode.stale = None


def note_copied(inode: Inode, newest: int, changes: Bytes) -> None:
    """Record that an inode equals version `newest` outside `changes`, to which the caller adds what it changes next.

    Call after the copy.
    """
    inode.stale = newest, changes


def note_published(inode: Inode, previous: Inode, spares: Iterable[Inode], seq: int, changes: Bytes) -> None:
    """Record that an update was published. Call after the publish: until then, the newest version is another one.

    Args:
        inode: the inode of the new version. Nothing in it is stale, which no record has to say: see `previous`.
        previous: the inode of the version before it.
        spares: the other inodes that may be written to again.
        seq: the new sequence number.
        changes: what the update has changed. The record of `previous` keeps it.
    """
    inode.stale = None
    for spare in spares:
        stale = stale_bytes(spare, seq - 1)
        if stale is not None:
            stale.extend(changes)
            spare.stale = seq, stale  # last: if interrupted before, the record names an older version
    # It equals the version before the new one, whatever its record says.
    previous.stale = seq, changes
