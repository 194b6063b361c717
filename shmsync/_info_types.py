"""The named tuples that `info` and `readers` return: the state of a name, of its writer, readers and segments."""

from __future__ import annotations

from typing import NamedTuple

from shmsync._types import HeldSegmentInfo, InstanceVersion, Origin  # noqa: TC001 - the annotations resolve at run time


class ProcessInfo(NamedTuple):
    """A process, as /proc describes it.

    Attributes:
        state: "running", "sleeping", "blocked" (in a system call that no signal interrupts), "stopped" (by a signal or
            a debugger), "zombie" or "unknown".
        command: its command line, without the directory of the program.
    """

    state: str
    command: str


class WriterInfo(NamedTuple):
    """The writer of a name.

    Attributes:
        state: "alive": a process holds the write lock; "dead": the last writer ended without closing; "closed": the
            last writer closed; "unknown": the state segment cannot be read.
        pid: process ID of the writer, in its own PID namespace; None if there is no writer or it is unknown.
        since: when the writer acquired the name, in seconds of Unix time; None if there is no writer or it is unknown.
        process: its process; None if it is not alive or unknown.
    """

    state: str
    pid: int | None = None
    since: float | None = None
    process: ProcessInfo | None = None


class RetainedInfo(NamedTuple):
    """A data segment that a reader retains because views of it are still referenced after the read.

    Attributes:
        idx: index of the data segment, 0 or 1.
        generation: which inode of the data segment is retained; the first one is 1.
        current: whether the segment's name still refers to that inode. If False, the writer has replaced it, and it
            takes up memory in addition to the two data segments.
    """

    idx: int
    generation: int
    current: bool


class ReaderInfo(NamedTuple):
    """A slot of the reader table that is in use.

    Attributes:
        slot: index of the slot.
        pid: process ID of the reader, in its own PID namespace; None if unknown.
        since: when the slot was claimed, in seconds of Unix time; None if unknown.
        alive: whether a live process holds the lock of the slot.
        counts: number of open snapshots on data segments 0 and 1.
        announced: number of reads that have started but have not pinned a data segment yet.
        evicted: whether a read took longer than the grace duration of a write. The data it reads stays intact: the
            writer has allocated a new segment.
        retained: data segments that are retained for views.
        outdated: seconds since the oldest version that the reader holds was replaced by a newer one, accurate to half a
            second; None if the reader holds none, or only the newest, or the time is unknown.
        held_memory: memory of replaced segments that its process has mapped, in bytes; None if that is unknown.
        process: its process; None if it is not alive or unknown.
    """

    slot: int
    pid: int | None
    since: float | None
    alive: bool
    counts: tuple[int, int]
    announced: int
    evicted: bool
    retained: tuple[RetainedInfo, ...]
    outdated: float | None = None
    held_memory: int | None = None
    process: ProcessInfo | None = None

    @property
    def state(self) -> str:
        """The first that applies of "dead", "evicted", "reading", "retaining" and "idle"."""
        if not self.alive:
            return "dead"
        if self.evicted:
            return "evicted"
        if self.is_reading:
            return "reading"
        return "retaining" if self.retained else "idle"

    @property
    def is_reading(self) -> bool:
        """Whether the reader has open snapshots or is inside a `get`."""
        return self.announced > 0 or any(self.counts)


class SegmentInfo(NamedTuple):
    """One of the four shared memory segments of a name.

    Attributes:
        segment: name of the segment, with a leading slash; the file is in /dev/shm.
        size: size in bytes; None if the segment does not exist.
        memory: allocated memory in bytes.
        inode: inode number.
        mode: permission bits.
        uid: user ID of the owner.
        generation: for a data segment, the number of inodes allocated so far; None for the other segments.
        seq: for a data segment, the sequence number of the version in it; None if there is none, or while it is being
            written.
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
    """The state of a name, seen from outside. A field is None if it cannot be determined.

    Attributes:
        name: the name that was inspected.
        seq: sequence number of the newest version; 0 if nothing has been published yet.
        version: the newest version.
        codec: name of the codec of the newest version.
        age: seconds since the write of the newest version began, accurate to half a second; None if the writer did not
            record it.
        created: when the name was created, in seconds of Unix time.
        layout: version of the memory layout.
        incarnation: random number that is drawn whenever the name is created.
        max_readers: number of slots in the reader table; 0 in isolated mode, where readers are not known.
        writer: the newest writer of the name, which may have closed or died.
        readers: slots of the reader table that are in use.
        segments: state segment, reader table (in isolated mode: the public state), data segments 0 and 1.
        held: data segments that were replaced, and that attached readers still have mapped.
        unexamined: processes of attached readers whose mappings this process may not see.
        isolated: whether the name is in isolated mode: see `reuse_memory` of the Writer.
        spares: data segments that were replaced, and that the writer keeps to use them again for an update; also those
            that it is about to use.
        problems: one sentence for each problem of the segments; empty if there is none. A dead writer is not a problem.
        readable: whether this process may read the state segment; if not, `problems` says who may.
        origin: which version of a publisher on another host the newest version is; None if it was written on this host.
    """

    name: str
    seq: int | None
    version: InstanceVersion | None
    codec: str | None
    age: float | None
    created: float | None
    layout: int | None
    incarnation: int | None
    max_readers: int | None
    writer: WriterInfo
    readers: tuple[ReaderInfo, ...]
    segments: tuple[SegmentInfo, ...]
    problems: tuple[str, ...]
    readable: bool
    held: tuple[HeldSegmentInfo, ...] = ()
    unexamined: tuple[int, ...] = ()
    isolated: bool = False
    spares: tuple[SegmentInfo, ...] = ()
    origin: Origin | None = None

    @property
    def memory(self) -> int:
        """Memory of the segments, of spares, and of replaced ones that readers hold, in bytes.

        Without what is unexamined.
        """
        return sum(segment.memory for segment in (*self.segments, *self.spares)) + self.held_memory

    @property
    def held_memory(self) -> int:
        """Memory of replaced segments that readers still hold, in bytes."""
        return sum(segment.memory for segment in self.held)

    @property
    def replaced(self) -> int:
        """How often a data segment was replaced by a new inode, not counting its creation."""
        return max(0, sum(segment.generation or 0 for segment in self.segments) - (1 if self.isolated else 2))
