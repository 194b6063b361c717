"""One scan of the segments of a name, from outside; it changes nothing and takes no lock.

Everything is read with `pread` from read-only descriptors, so segments that are damaged, foreign, or truncated during
the scan do no harm. The kernel locks show which processes are alive.

A scan contains no time and no conclusion that depends on one: two scans of a name that has not changed are equal, so
`Inspector` uses what it concluded from the previous one.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from shmsync._core.isolated import INDEX
from shmsync._core.layout import (
    CLOSED,
    HIGH_WATER,
    HIGH_WATER_AT,
    PAYLOAD_AT,
    STATE_HEADER,
    STATE_MAGIC,
    STATE_SIZE,
    VERSION_AT,
    WRITER,
    WRITER_AT,
    DataHeader,
    Names,
    StateHeader,
    index_of,
    parse_data_header,
    parse_state_header,
    readers_belong,
    readers_size,
    slot_offset,
)
from shmsync._info_types import SegmentInfo, WriterInfo
from shmsync._inspect.isolated import scan_public
from shmsync._inspect.words import USED, WORD, StateWords, segment_info, unix_time
from shmsync._session.control import open_control_segment
from shmsync._session.origin import origin_in
from shmsync._session.reusable import SMALL
from shmsync._shm import ofd_locks
from shmsync._shm.segment import open_segment, status_of
from shmsync.errors import ShmSyncError, StateNotFoundError, StateReadError, format_error

if TYPE_CHECKING:
    from shmsync._shm.segment import Segment
    from shmsync._types import Origin

_ATTEMPTS = 20  # a fast writer may change state and data header while they are read


class Table(NamedTuple):
    """A reader table.

    Attributes:
        slots: the bytes of the slots below the high-water mark, and of what precedes them.
        locked: by slot, whether a live process holds its lock.
    """

    slots: bytes
    locked: tuple[bool, ...]


class Scan:
    """The result of one scan.

    Attributes:
        name: the user's name.
        layout: version of the memory layout; None if the state segment does not belong to shmsync.
        header: header of the state segment; None if it is incomplete.
        words: shared words of the state segment, read together with the data headers.
        writer: the newest writer of the name, which may have closed or died.
        table: the reader table; None if it cannot be read.
        data: header of each data segment; None if it is missing or damaged.
        origin: origin of the newest version; None if it has none.
        segments: size and memory of state segment, reader table, data segments 0 and 1, as far as they were read.
        spares: the replaced data segments that still have a name.
        problems: one message for each problem of the segments.
        readable: whether this process may read the state segment, or the public state.
        isolated: whether the incarnation is isolated: see `shmsync._core.isolated`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.layout: int | None = None
        self.header: StateHeader | None = None
        self.words: StateWords | None = None
        self.writer = WriterInfo("unknown")
        self.table: Table | None = None
        self.data: list[DataHeader | None] = [None, None]
        self.origin: Origin | None = None
        self.segments: dict[str, SegmentInfo] = {}
        self.spares: tuple[SegmentInfo, ...] = ()
        self.problems: list[str] = []
        self.readable = True
        self.isolated = False

    def index_of(self, seq: int) -> int:
        """Return which data segment holds a version."""
        return INDEX if self.isolated else index_of(seq)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scan) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


def scan(name: str, segments: Names) -> Scan:
    """Scan the segments of a name once.

    Raises:
        StateNotFoundError: the name does not exist.
    """
    result = Scan(name)
    try:
        with open_control_segment(segments, segments.state, writable=False) as state:
            _scan_state(result, state)
            if result.header is not None and result.header.isolated:
                scan_public(result, segments)
            elif result.header is not None and result.words is not None:
                _scan_data(result, segments, state)
                _scan_readers(result, segments)
    except StateNotFoundError:
        raise
    except (ShmSyncError, OSError) as error:
        forbidden = getattr(error, "errno", None) == errno.EACCES
        if not (forbidden and result.header is None and _is_public(result, segments)):
            result.problems.append(format_error(error))
            result.readable = not forbidden
    for segment in (segments.state, segments.readers, *segments.data):
        if segment not in result.segments:  # this process may not open it, or did not need to
            result.segments[segment] = segment_info(segment, status_of(segment))
    if any((result.segments[segment].size or 0) > SMALL for segment in segments.data):  # of smaller ones, none is kept
        spares = (segment_info(segment, status_of(segment)) for segment in segments.staged)
        result.spares = tuple(spare for spare in spares if spare.size is not None)
    return result


def _is_public(result: Scan, segments: Names) -> bool:
    """Scan the public state of a name whose state segment is forbidden; return whether there is one."""
    try:
        scan_public(result, segments)
    except (ShmSyncError, OSError):
        return False
    return result.isolated


def _scan_state(result: Scan, segment: Segment) -> None:
    status = segment.status()
    size = status.st_size
    result.segments[segment.name] = segment_info(segment.name, status)
    raw = segment.read(0, USED)
    locked = ofd_locks.is_locked(segment.fd, 0)
    if size < STATE_SIZE:
        result.writer = WriterInfo("alive" if locked else "unknown")
        if size or not locked:
            result.problems.append(f"{segment.name} is truncated: {size} of {STATE_SIZE} bytes; {_remove(result)}")
        return
    magic, layout, *_ = STATE_HEADER.unpack_from(raw)
    result.layout = layout if magic == STATE_MAGIC else None
    result.header = header = parse_state_header(segment.name, memoryview(raw))
    pid, since = WRITER.unpack_from(raw, WRITER_AT)
    state = "alive" if locked else "dead" if pid else "closed"
    result.writer = WriterInfo(state, pid or None, unix_time(since) if pid else None)
    if header is None:
        if not locked:
            result.problems.append(f"{segment.name}: its writer died while creating it; the next writer repairs it")
        return
    result.words = StateWords.parse(raw)
    if result.words.seq == CLOSED and not header.isolated:
        result.problems.append(f"{segment.name} is marked as removed but still exists; the next writer replaces it")


def _remove(result: Scan) -> str:
    return f"remove it with `shmsync rm {result.name}`"


# -------------------------------------------------------------------------------------------------- the data segments


def _scan_data(result: Scan, segments: Names, state: Segment) -> None:
    """Read the state and both data headers until they agree on the newest version, or the state stops changing."""
    for left in reversed(range(_ATTEMPTS)):
        before = result.words = StateWords.read(state)
        result.origin, idx = None, index_of(before.seq)
        headers = [_data_header(result, segment, newest=at == idx) for at, segment in enumerate(segments.data)]
        result.data = [header if isinstance(header, DataHeader) else None for header in headers]
        if before.seq in {0, CLOSED}:
            return
        if _is_consistent(result, idx):
            # If a later version has been published since, the origin may have been overwritten before it was read.
            if result.origin is not None or not left or state.read(VERSION_AT, WORD.size) == WORD.pack(before.seq):
                return
        elif StateWords.read(state) == before:
            newest = headers[idx]
            result.problems.append(newest if isinstance(newest, str) else _mismatch(segments.data[idx], newest, before))
            return


def _data_header(result: Scan, name: str, *, newest: bool) -> DataHeader | str:
    """Return the header of a data segment, or a message that describes the problem. Note the origin of the newest."""
    try:
        with open_segment(name, writable=False) as segment:
            status = segment.status()
            result.segments[name] = segment_info(name, status)
            header = parse_data_header(name, segment.read(0, PAYLOAD_AT), status.st_size)
            if newest:
                result.origin = origin_in(segment, header, status.st_size)
            return header
    except FileNotFoundError:
        result.segments[name] = SegmentInfo(name, None)
        return f"{name} is missing; the next write creates it again"
    except (ShmSyncError, OSError) as error:
        return format_error(error)


def _is_consistent(result: Scan, idx: int) -> bool:
    header, words, state = result.data[idx], result.words, result.header
    assert words is not None
    assert state is not None
    return header is not None and header[:3] == (state.incarnation, words.generations[idx], words.seq)


def _mismatch(name: str, header: DataHeader, words: StateWords) -> str:
    return (
        f"{name} contains version {header.seq} of generation {header.generation}, but the state says version "
        f"{words.seq} of generation {words.generations[index_of(words.seq)]}; the next write repairs it"
    )


# --------------------------------------------------------------------------------------------------- the reader table


def _scan_readers(result: Scan, segments: Names) -> None:
    header = result.header
    assert header is not None
    try:
        with open_control_segment(segments, segments.readers, writable=False) as segment:
            status = segment.status()
            result.segments[segment.name] = segment_info(segment.name, status)
            raw = segment.read(0, slot_offset(0))
            if status.st_size < readers_size(header.max_readers):
                result.problems.append(f"{segment.name} is truncated: {status.st_size} bytes; {_remove(result)}")
            elif not readers_belong(memoryview(raw), header):
                result.problems.append(f"{segment.name} does not belong to its state segment; {_remove(result)}")
            else:
                result.table = _read_table(segment, raw, header.max_readers)
    except StateReadError as error:
        missing = isinstance(error, StateNotFoundError)
        result.problems.append(f"{segments.readers} is missing; {_remove(result)}" if missing else format_error(error))


def _read_table(segment: Segment, head: bytes, max_readers: int) -> Table:
    # Every reader may write to the table, so the high-water word is not trusted.
    high_water = min(WORD.unpack_from(head, HIGH_WATER_AT)[0] & HIGH_WATER, max_readers)
    if not high_water:
        return Table(head, ())
    slots = segment.read(0, slot_offset(high_water))  # before the locks: a slot may be claimed in between
    return Table(slots, tuple(ofd_locks.is_locked(segment.fd, slot_offset(index)) for index in range(high_water)))
