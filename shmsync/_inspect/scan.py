"""One scan of the segments of a name, from outside; it changes nothing and takes no lock.

Everything is read with `pread` from read-only descriptors, so segments that are damaged, foreign, or truncated during
the scan do no harm. The kernel locks show which processes are alive.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from shmsync._core.isolated import INDEX
from shmsync._core.layout import (
    CLOSED,
    HAZARD_AT,
    HIGH_WATER,
    HIGH_WATER_AT,
    OWNER,
    OWNER_AT,
    PAYLOAD_AT,
    STATE_HEADER,
    STATE_MAGIC,
    STATE_SIZE,
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
    unpack_pin,
)
from shmsync._inspect.isolated import scan_public
from shmsync._inspect.words import WORD, StateWords, unix_time
from shmsync._session.control import open_control_segment
from shmsync._shm import ofd_locks
from shmsync._shm.segment import open_segment
from shmsync._types import ReaderInfo, RetainedInfo, WriterInfo
from shmsync.errors import ShmSyncError, StateNotFoundError, StateReadError, format_error

if TYPE_CHECKING:
    from shmsync._shm.segment import Segment

_ATTEMPTS = 20  # a fast writer may change state and data header while they are read


class Scan:
    """The result of one scan.

    Attributes:
        name: the user's name.
        layout: version of the memory layout; None if the state segment does not belong to shmsync.
        header: header of the state segment; None if it is incomplete.
        words: shared words of the state segment, read together with the data headers.
        writer: the newest writer of the name, which may have closed or died.
        readers: slots in use; None if the reader table cannot be read.
        data: header of each data segment; None if it is missing or damaged.
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
        self.readers: tuple[ReaderInfo, ...] | None = None
        self.data: list[DataHeader | None] = [None, None]
        self.problems: list[str] = []
        self.readable = True
        self.isolated = False

    def index_of(self, seq: int) -> int:
        """Return which data segment holds a version."""
        return INDEX if self.isolated else index_of(seq)


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
    return result


def _is_public(result: Scan, segments: Names) -> bool:
    """Scan the public state of a name whose state segment is forbidden; return whether there is one."""
    try:
        scan_public(result, segments)
    except (ShmSyncError, OSError):
        return False
    return result.isolated


def _scan_state(result: Scan, segment: Segment) -> None:
    size = segment.status().st_size
    raw = segment.read(0, STATE_SIZE)
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
    result.words = StateWords.read(segment)
    if result.words.seq == CLOSED and not header.isolated:
        result.problems.append(f"{segment.name} is marked as removed but still exists; the next writer replaces it")


def _remove(result: Scan) -> str:
    return f"remove it with `shmsync rm {result.name}`"


# -------------------------------------------------------------------------------------------------- the data segments


def _scan_data(result: Scan, segments: Names, state: Segment) -> None:
    """Read the state and both data headers until they agree on the newest version, or the state stops changing."""
    for _ in range(_ATTEMPTS):
        before = result.words = StateWords.read(state)
        headers = [_data_header(segment) for segment in segments.data]
        result.data = [header if isinstance(header, DataHeader) else None for header in headers]
        if before.seq in {0, CLOSED} or _is_consistent(result, idx := index_of(before.seq)):
            return
        if StateWords.read(state) == before:
            newest = headers[idx]
            result.problems.append(newest if isinstance(newest, str) else _mismatch(segments.data[idx], newest, before))
            return


def _data_header(name: str) -> DataHeader | str:
    """Return the header of a data segment, or a message that describes the problem."""
    try:
        with open_segment(name, writable=False) as segment:
            raw = segment.read(0, PAYLOAD_AT)
            return parse_data_header(name, raw, segment.status().st_size)
    except FileNotFoundError:
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
            raw = segment.read(0, readers_size(header.max_readers))
            if len(raw) < readers_size(header.max_readers):
                result.problems.append(f"{segment.name} is truncated: {len(raw)} bytes; {_remove(result)}")
            elif not readers_belong(memoryview(raw), header):
                result.problems.append(f"{segment.name} does not belong to its state segment; {_remove(result)}")
            else:
                result.readers = tuple(_used_slots(result, segment, raw))
    except StateReadError as error:
        missing = isinstance(error, StateNotFoundError)
        result.problems.append(f"{segments.readers} is missing; {_remove(result)}" if missing else format_error(error))


def _used_slots(result: Scan, segment: Segment, raw: bytes) -> list[ReaderInfo]:
    assert result.header is not None
    # Every reader may write to the table, so the high-water word is not trusted.
    high_water = min(WORD.unpack_from(raw, HIGH_WATER_AT)[0] & HIGH_WATER, result.header.max_readers)
    used = []
    for index in range(high_water):
        alive = ofd_locks.is_locked(segment.fd, slot_offset(index))
        slot = _unpack_slot(result, index, raw[slot_offset(index) : slot_offset(index + 1)], alive=alive)
        if alive or slot.is_reading or slot.evicted or slot.retained:
            used.append(slot)
    return used


def _unpack_slot(result: Scan, index: int, raw: bytes, *, alive: bool) -> ReaderInfo:
    assert result.words is not None
    evicted, announced, counts = unpack_pin(WORD.unpack_from(raw)[0])
    retained = []
    for idx, at in enumerate(HAZARD_AT):
        (generation,) = WORD.unpack_from(raw, at)
        if generation:
            retained.append(RetainedInfo(idx, generation, generation == result.words.generations[idx]))
    pid, since = OWNER.unpack_from(raw, OWNER_AT)
    return ReaderInfo(index, pid or None, unix_time(since), alive, counts, announced, evicted, tuple(retained))
