"""One look at the segments of a name, from outside; it changes nothing and takes no lock.

Everything is read with `pread` from read-only descriptors, so segments that are truncated meanwhile, damaged or not of
shmsync at all do no harm. Who is alive is asked of the kernel locks.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from shmsync._core.layout import (
    CLOSED,
    GENERATION_AT,
    HAZARD_AT,
    HIGH_WATER_AT,
    OWNER,
    OWNER_AT,
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
    unpack_pin,
)
from shmsync._session.control import open_control_segment
from shmsync._shm import ofd_locks
from shmsync._shm.segment import open_segment
from shmsync._types import KeepInfo, ReaderInfo, WriterInfo
from shmsync.errors import ShmSyncError, StateNotFoundError, StateReadError, format_error

if TYPE_CHECKING:
    from typing_extensions import Self

    from shmsync._shm.segment import Segment

_WORD = struct.Struct("=Q")
_TRIES = 20  # to catch the newest version's header, which a quick writer changes again and again


class _State(NamedTuple):
    """What stands in a state segment."""

    seq: int
    generations: tuple[int, int]

    @classmethod
    def read(cls, segment: Segment) -> Self:
        raw = os.pread(segment.fd, STATE_SIZE, 0).ljust(STATE_SIZE, b"\0")
        seq, *generations = (_WORD.unpack_from(raw, at)[0] for at in (VERSION_AT, *GENERATION_AT))
        return cls(seq, (generations[0], generations[1]))


class Found:
    """What one look has found so far.

    Attributes:
        name: the user's name.
        layout: version of the memory layout; None if the segment is none of shmsync.
        header: of the state segment; None if it is not complete.
        state: what else stands there, at the time of the data headers.
        writer: who writes.
        table: the slots in use; None if the reader table cannot be read.
        data: headers of the data segments; None where there is none that is sound.
        problems: what is wrong, in sentences.
        readable: whether this process may read the state segment.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.layout: int | None = None
        self.header: StateHeader | None = None
        self.state: _State | None = None
        self.writer = WriterInfo("unknown")
        self.table: tuple[ReaderInfo, ...] | None = None
        self.data: list[DataHeader | None] = [None, None]
        self.problems: list[str] = []
        self.readable = True


def look(name: str, parts: Names) -> Found:
    """Look at a name once.

    Raises:
        StateNotFoundError: there is no such name.
    """
    found = Found(name)
    try:
        with open_control_segment(parts, parts.state, writable=False) as state:
            _look_at_state(found, state)
            if found.header is not None and found.state is not None:
                _look_at_data(found, parts, state)
                _look_at_readers(found, parts)
    except StateNotFoundError:
        raise
    except (ShmSyncError, OSError) as error:
        found.problems.append(format_error(error))
        found.readable = getattr(error, "errno", None) != errno.EACCES
    return found


def _look_at_state(found: Found, segment: Segment) -> None:
    size = segment.status().st_size
    raw = os.pread(segment.fd, STATE_SIZE, 0)
    locked = ofd_locks.is_locked(segment.fd, 0)
    if size < STATE_SIZE:
        found.writer = WriterInfo("alive" if locked else "unknown")
        if size or not locked:
            found.problems.append(f"{segment.name} is truncated: {size} of {STATE_SIZE} bytes; remove the name")
        return
    magic, layout, *_ = STATE_HEADER.unpack_from(raw)
    found.layout = layout if magic == STATE_MAGIC else None
    found.header = header = parse_state_header(segment.name, memoryview(raw))
    pid, since = WRITER.unpack_from(raw, WRITER_AT)
    state = "alive" if locked else "dead" if pid else "closed"
    found.writer = WriterInfo(state, pid or None, unix_time(since) if pid else None)
    if header is None:
        if not locked:
            found.problems.append(f"{segment.name}: its writer died while it created it; the next one repairs it")
        return
    found.state = _State.read(segment)
    if found.state.seq == CLOSED:
        found.problems.append(f"{segment.name} is marked as removed, but still there; the next writer replaces it")


def unix_time(nanoseconds: int) -> float | None:
    """Return nanoseconds of unix time as seconds; None for 0."""
    return nanoseconds / 1e9 if nanoseconds else None


# -------------------------------------------------------------------------------------------------- the data segments


def _look_at_data(found: Found, parts: Names, segment: Segment) -> None:
    """Read the headers of both data segments, until the newest version's fits the state, or the state stands still."""
    for _ in range(_TRIES):
        before = found.state = _State.read(segment)
        headers = [_data_header(part) for part in parts.data]
        found.data = [header if isinstance(header, DataHeader) else None for header in headers]
        if before.seq in {0, CLOSED} or _fits(found, idx := index_of(before.seq)):
            return
        if _State.read(segment) == before:
            newest = headers[idx]
            found.problems.append(newest if isinstance(newest, str) else _misfit(parts.data[idx], newest, before))
            return


def _data_header(name: str) -> DataHeader | str:
    """Return the header of a data segment, or what is wrong with it."""
    try:
        with open_segment(name, writable=False) as segment:
            raw = os.pread(segment.fd, PAYLOAD_AT, 0)
            return parse_data_header(name, raw, segment.status().st_size)
    except FileNotFoundError:
        return f"{name} is not there; the next write creates it anew"
    except (ShmSyncError, OSError) as error:
        return format_error(error)


def _fits(found: Found, idx: int) -> bool:
    header, state, life = found.data[idx], found.state, found.header
    assert state is not None
    assert life is not None
    return header is not None and header[:3] == (life.incarnation, state.generations[idx], state.seq)


def _misfit(name: str, header: DataHeader, state: _State) -> str:
    return (
        f"{name} holds version {header.seq} of generation {header.generation}, the state says version {state.seq} of "
        f"generation {state.generations[index_of(state.seq)]}; the next write repairs it"
    )


# --------------------------------------------------------------------------------------------------- the reader table


def _look_at_readers(found: Found, parts: Names) -> None:
    header = found.header
    assert header is not None
    try:
        with open_control_segment(parts, parts.readers, writable=False) as segment:
            raw = os.pread(segment.fd, readers_size(header.max_readers), 0)
            if len(raw) < readers_size(header.max_readers):
                found.problems.append(f"{segment.name} is truncated: {len(raw)} bytes; remove the name")
            elif not readers_belong(memoryview(raw), header):
                found.problems.append(f"{segment.name} does not belong to its state segment; remove the name")
            else:
                found.table = tuple(_slots(found, segment, raw))
    except StateReadError as error:
        gone = isinstance(error, StateNotFoundError)
        found.problems.append(f"{parts.readers} is not there; remove the name" if gone else format_error(error))


def _slots(found: Found, segment: Segment, raw: bytes) -> list[ReaderInfo]:
    assert found.header is not None
    high = min(_WORD.unpack_from(raw, HIGH_WATER_AT)[0], found.header.max_readers)  # readers may scribble there
    slots = []
    for number in range(high):
        alive = ofd_locks.is_locked(segment.fd, slot_offset(number))
        slot = _slot(found, number, raw[slot_offset(number) : slot_offset(number + 1)], alive=alive)
        if alive or slot.is_reading or slot.evicted or slot.keeps:
            slots.append(slot)
    return slots


def _slot(found: Found, number: int, raw: bytes, *, alive: bool) -> ReaderInfo:
    assert found.state is not None
    evicted, announced, counts = unpack_pin(_WORD.unpack_from(raw)[0])
    keeps = []
    for idx, at in enumerate(HAZARD_AT):
        (generation,) = _WORD.unpack_from(raw, at)
        if generation:
            keeps.append(KeepInfo(idx, generation, generation == found.state.generations[idx]))
    pid, since = OWNER.unpack_from(raw, OWNER_AT)
    return ReaderInfo(number, pid or None, unix_time(since), alive, counts, announced, evicted, tuple(keeps))
