"""The named tuples that the handles return: a version, the result of a write, counters.

Those that describe a name are in `_info_types`, which only tools import: creating such a class takes half as long as
importing a small module.
"""

from __future__ import annotations

from typing import NamedTuple

from shmsync._core.layout import CLOSED, LAST_SEQ
from shmsync.errors import InvalidInstanceVersionError


class InstanceVersion(NamedTuple):
    """One published version of the value.

    Attributes:
        seq: sequence number, one more for each publish, never repeated within one incarnation of the name.
        idx: data segment that holds it, 0 or 1.
        size: payload size in bytes.
        checksum: xxh3-64 of the payload.
    """

    seq: int
    idx: int
    size: int
    checksum: int


def instance_version(seq: int, idx: int, size: int, checksum: int) -> InstanceVersion:
    """Return a checked InstanceVersion.

    Raises:
        InvalidInstanceVersionError: a field is out of its range.
    """
    if not 0 < seq <= LAST_SEQ or not 0 <= size <= LAST_SEQ or not 0 <= checksum <= CLOSED:
        raise InvalidInstanceVersionError(
            f"the published version is out of range: seq {seq}, size {size}, checksum {checksum}; publish again"
        )
    return InstanceVersion(seq, idx, size, checksum)


class Origin(NamedTuple):
    """Which version of a publisher a replica has received: see `shmsync.replication`.

    Two versions on two hosts with equal epoch and sequence number are the same. A later version is greater.

    Attributes:
        epoch: number of the publisher's period. Each publisher of a name has a greater one than the publisher before.
        seq: sequence number of the version at its publisher.
        published: when its publisher sent it, in seconds of Unix time by the clock of that host.
        received: when it was received completely, in seconds of Unix time by the clock of this host.
    """

    epoch: int
    seq: int
    published: float
    received: float


class HeldSegmentInfo(NamedTuple):
    """A data segment that was replaced or unlinked, and takes up memory because processes still have it mapped.

    Attributes:
        segment: the name that it had.
        inode: inode number.
        memory: its size in bytes.
        pids: processes that have it mapped, as far as they are known and can be examined.
    """

    segment: str
    inode: int
    memory: int
    pids: tuple[int, ...]


class WriteResult(NamedTuple):
    """The result of a write.

    Attributes:
        size: size of the payload in bytes.
        reset: whether the write reclaimed the slot of a dead reader, or evicted a reader after the grace duration.
        version: the version that was published.
        copied: how many bytes were copied into shared memory: the size, or after an update fewer or more, since an
            update may first have to copy what earlier ones have changed.
    """

    size: int
    reset: bool
    version: InstanceVersion
    copied: int


class WriterStats(NamedTuple):
    """Counters of a Writer since it was opened.

    Attributes:
        writes: versions published.
        resets: writes that reclaimed the slot of a dead reader or evicted a reader.
        replaced: writes that allocated a new inode for their data segment, including the first two.
        takeovers: how often the writer took over from a writer that had died.
    """

    writes: int
    resets: int
    replaced: int
    takeovers: int


class ReaderStats(NamedTuple):
    """Counters of a Reader since it was opened.

    A `get` that returns an unchanged value is not counted: counting would take longer than returning the value.

    Attributes:
        values: changed values returned by `get` or `read`.
        attached: how often the reader attached to the name; it attaches again after an unlink, a removal or a fork.
        claimed: reader slots claimed: one for each attachment, and one more after each read whose slot had to be
            abandoned because it was evicted while other snapshots were open, interrupted by an exception, shared
            with a forked process, or the highest of many while few readers were left.
    """

    values: int
    attached: int
    claimed: int
