"""The named tuples that calls return: what a write did, and what can be seen of a name from outside."""

from __future__ import annotations

from typing import NamedTuple

from shmsync._core.layout import InstanceVersion  # noqa: TC001 - a user may ask for the annotations at run time


class WriterInfo(NamedTuple):
    """The writer of a name.

    Attributes:
        state: "alive": one holds the write lock; "dead": the last one ended without closing; "closed": the last one
            closed in good order; "unknown": the segment cannot be read.
        pid: its process, as numbered in its own PID namespace; None if there is none or it is unknown.
        since: unix time in seconds at which it took the name; None likewise.
    """

    state: str
    pid: int | None = None
    since: float | None = None


class KeepInfo(NamedTuple):
    """Memory that a reader keeps for views that are in use beyond their read.

    Attributes:
        idx: data segment, 0 or 1.
        generation: which inode of it.
        present: whether that is the one that the segment's name leads to. If not, it is memory beside the two segments.
    """

    idx: int
    generation: int
    present: bool


class ReaderInfo(NamedTuple):
    """A slot of the reader table that is in use.

    Attributes:
        slot: its number.
        pid: the process that claimed it, as numbered in its own PID namespace; None if it did not say.
        since: unix time in seconds at which the slot was claimed; None likewise.
        alive: whether a live process holds its lock.
        counts: snapshots that are open on data segments 0 and 1.
        announced: reads that are between the two.
        evicted: it was inside a read for longer than the grace duration of a write. What it reads stays whole; the
            writer has taken new memory.
        keeps: memory that it keeps.
        held_at_least, held_at_most: seconds for which it has held what it holds, the oldest of it; None if it holds
            nothing, or that is not known. Told by the versions published since: readers do not look at the clock.
    """

    slot: int
    pid: int | None
    since: float | None
    alive: bool
    counts: tuple[int, int]
    announced: int
    evicted: bool
    keeps: tuple[KeepInfo, ...]
    held_at_least: float | None = None
    held_at_most: float | None = None

    @property
    def state(self) -> str:
        """One word: "dead", "evicted", "reading", "keeping" or "idle", the first of them that is true."""
        if not self.alive:
            return "dead"
        if self.evicted:
            return "evicted"
        if self.is_reading:
            return "reading"
        return "keeping" if self.keeps else "idle"

    @property
    def is_reading(self) -> bool:
        """Whether it has snapshots open, or is inside a `get`."""
        return self.announced > 0 or any(self.counts)


class SegmentInfo(NamedTuple):
    """One of the four segments of a name.

    Attributes:
        segment: its name in /dev/shm.
        size: in bytes; None if it is not there.
        memory: bytes that it takes up.
        inode: as `stat` has it.
        mode: permission bits.
        uid: user who owns it.
        generation: of a data segment, how many inodes it has had, by the state segment; None for the others.
        seq: of a data segment, the version that lies there; None if none does, or it is being written.
    """

    segment: str
    size: int | None
    memory: int = 0
    inode: int = 0
    mode: int = 0
    uid: int = 0
    generation: int | None = None
    seq: int | None = None


class Info(NamedTuple):
    """What can be seen of a name from outside. None stands for what cannot.

    Attributes:
        name: the user's name for it.
        seq: sequence number of the newest version; 0 if nothing is published yet.
        version: the newest version.
        codec: how it is encoded.
        age: seconds since the write of it began, give or take half a one; None if its writer did not say.
        created: unix time in seconds at which the name was created.
        layout: version of the memory layout.
        instance: random number of this life of the name.
        max_readers: slots of the reader table.
        writer: who writes.
        readers: slots in use.
        segments: state, reader table, data segments 0 and 1.
        problems: what is wrong with the segments, in sentences; empty if all is well. A dead writer is no problem.
        readable: whether this process may read its state segment; if not, `problems` says who may.
    """

    name: str
    seq: int | None
    version: InstanceVersion | None
    codec: str | None
    age: float | None
    created: float | None
    layout: int | None
    instance: int | None
    max_readers: int | None
    writer: WriterInfo
    readers: tuple[ReaderInfo, ...]
    segments: tuple[SegmentInfo, ...]
    problems: tuple[str, ...]
    readable: bool

    @property
    def memory(self) -> int:
        """Bytes of shared memory behind the four segments; what readers keep beside them is not seen from here."""
        return sum(segment.memory for segment in self.segments)

    @property
    def replaced(self) -> int:
        """How often a data segment got new memory, beyond the first two times."""
        return max(0, sum(segment.generation or 0 for segment in self.segments) - 2)


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
