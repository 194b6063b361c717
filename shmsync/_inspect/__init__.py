"""Inspection of names from outside: their writer, readers and segments. For tools.

A result is a sample, not a consistent snapshot: writer and readers continue during the scan.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shmsync import codecs
from shmsync._core.layout import CLOSED, Names, names_of
from shmsync._inspect import scan
from shmsync._inspect.words import unix_time
from shmsync._session.held import held_segments
from shmsync._shm.segment import segment_names, status_of
from shmsync._types import HeldSegmentInfo, Info, InstanceVersion, ReaderInfo, SegmentInfo
from shmsync.errors import InvalidArgumentError, ShmSyncError, StateReadError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shmsync._inspect.scan import Scan

_SUFFIX = "_state"
_ATTEMPTS = 3  # a problem is reported only if each of them finds it: another process may be creating the name
_RETRY_AFTER = 0.002
_RESOLUTION = 1.0  # the data header contains the time of the publish in whole seconds
_BLOCK = 512  # unit of st_blocks, in bytes


def names() -> list[str]:
    """List all names on this host, sorted. Names that this process may not read are included.

    Returns:
        Every NAME for which a segment NAME_state exists.

    Raises:
        StateReadError: /dev/shm cannot be listed.

    Example:
        >>> from shmsync import Writer, names
        >>> with Writer("names-example") as writer:
        ...     _ = writer.write(1)
        ...     "names-example" in names()
        ...     writer.unlink()
        True
    """
    found = []
    try:
        listing = segment_names()
    except OSError as error:
        reason = f"cannot list /dev/shm: {error.strerror}; POSIX shared memory needs a tmpfs mounted there"
        raise StateReadError(error.errno or 0, reason) from error
    for segment in listing:
        name = segment.removesuffix(_SUFFIX)
        if name != segment and _is_valid(name):
            found.append(name)
    return sorted(found)


def info(name: str) -> Info:
    """Inspect a name. Takes no reader slot and changes nothing.

    Segments that are damaged, missing or not readable are not an error: `problems` of the result describes them.

    Args:
        name: the name to inspect.

    Returns:
        The state of the name, its writer, its readers and its segments.

    Raises:
        InvalidArgumentError: the name is not valid.
        StateNotFoundError: the name does not exist.

    Example:
        >>> from shmsync import Writer, info
        >>> with Writer("info-example") as writer:
        ...     _ = writer.write({"price": 9.5})
        ...     found = info("info-example")
        ...     writer.unlink()
        >>> found.seq, found.codec, found.writer.state, found.problems
        (1, 'msgpack', 'alive', ())
    """
    segments = names_of(name)
    result = scan.scan(name, segments)
    for _ in range(_ATTEMPTS - 1):
        if not result.problems:
            break
        time.sleep(_RETRY_AFTER)
        result = scan.scan(name, segments)
    return _to_info(result, segments)


def readers(name: str) -> list[ReaderInfo]:
    """List the readers of a name: the slots of its reader table that are in use; none in isolated mode.

    Args:
        name: the name to inspect.

    Returns:
        One entry for each slot in use, in the order of the slots.

    Raises:
        InvalidArgumentError: the name is not valid.
        StateNotFoundError: the name does not exist.
        StateReadError: the state segment or the reader table cannot be read; `info` returns the rest.

    Example:
        >>> from shmsync import Reader, Writer, readers
        >>> with Writer("readers-example") as writer, Reader("readers-example") as reader:
        ...     _ = writer.write("value")
        ...     with reader.read():
        ...         [(found.slot, found.state, found.counts) for found in readers("readers-example")]
        ...     writer.unlink()
        [(0, 'reading', (1, 0))]
    """
    found = info(name)
    if found.max_readers is None:
        raise StateReadError(0, "; ".join(found.problems) or f"{name}: nothing has been published yet")
    return list(found.readers)


def _is_valid(name: str) -> bool:
    try:
        names_of(name)
    except InvalidArgumentError:
        return False
    return True


# ------------------------------------------------------------------------------------------------ from scan to result


def _to_info(result: Scan, segments: Names) -> Info:
    header, words = result.header, result.words
    seq = words.seq if words is not None and words.seq != CLOSED else None
    newest = result.data[result.index_of(seq)] if seq else None
    version = codec = age = None
    if newest is not None and newest.seq == seq:
        version = InstanceVersion(newest.seq, result.index_of(newest.seq), newest.size, newest.checksum)
        codec = _codec_name(newest.codec)
        least, most = _age(result, newest.seq)
        age = None if most is None else (least + most) / 2
    held, unexamined = held_segments(segments, (reader.pid for reader in result.readers or () if reader.alive))
    return Info(
        name=result.name,
        seq=seq,
        version=version,
        codec=codec,
        age=age,
        created=unix_time(header.created_ns) if header is not None else None,
        layout=result.layout,
        incarnation=header.incarnation if header is not None else None,
        max_readers=None if result.readers is None or header is None else 0 if result.isolated else header.max_readers,
        writer=result.writer,
        readers=tuple(
            _with_held_times(result, reader)._replace(held_memory=_held_memory(held, unexamined, reader))
            for reader in result.readers or ()
        ),
        segments=(
            _segment(segments.state),
            _segment(segments.readers),
            *(_data_segment(result, segments, idx) for idx in (0, 1)),
        ),
        problems=tuple(result.problems),
        readable=result.readable,
        held=held,
        unexamined=unexamined,
        isolated=result.isolated,
    )


def _held_memory(held: Sequence[HeldSegmentInfo], unexamined: Sequence[int], reader: ReaderInfo) -> int | None:
    if not reader.alive:
        return 0
    if reader.pid is None or reader.pid in unexamined:
        return None
    return sum(segment.memory for segment in held if reader.pid in segment.pids)


def _codec_name(number: int) -> str:
    try:
        return codecs.by_id(number).NAME
    except ShmSyncError:
        return f"unknown ({number})"


def _segment(name: str) -> SegmentInfo:
    status = status_of(name)
    if status is None:
        return SegmentInfo(name, None)
    memory = status.st_blocks * _BLOCK
    return SegmentInfo(name, status.st_size, memory, status.st_ino, status.st_mode & 0o7777, status.st_uid)


def _data_segment(result: Scan, segments: Names, idx: int) -> SegmentInfo:
    segment, header = _segment(segments.data[idx]), result.data[idx]
    generation = result.words.generations[idx] if result.words is not None else None
    return segment._replace(generation=generation, seq=header.seq if header is not None and segment.size else None)


# ------------------------------------------------------------------------------------------------- how long it is held


def _age(result: Scan, seq: int) -> tuple[float, float | None]:
    """Return bounds on the time since a version was published, in seconds; the upper one is None if unknown."""
    header = result.data[result.index_of(seq)]
    if header is None or header.seq != seq or not header.published:
        return 0.0, None
    most = max(0.0, time.monotonic() - header.published)
    return max(0.0, most - _RESOLUTION), most


def _with_held_times(result: Scan, reader: ReaderInfo) -> ReaderInfo:
    """Return a reader with bounds on how long it has held the oldest version it holds.

    Readers do not record that time, because each read would then have to ask the clock. But a reader started to hold a
    version while that was the newest one: after it was published, and before the next one was.
    """
    held = [(idx, not reader.evicted) for idx, count in enumerate(reader.counts) if count]
    held += [(retained.idx, retained.current) for retained in reader.retained]
    if not held or result.words is None:
        return reader
    attached = None if reader.since is None else max(0.0, time.time() - reader.since)
    bounds = [_held_time(result, result.words.seq, idx, attached, current=current) for idx, current in held]
    most = [most for _, most in bounds if most is not None]
    return reader._replace(
        held_at_least=max(least for least, _ in bounds), held_at_most=max(most) if len(most) == len(bounds) else None
    )


def _held_time(
    result: Scan, newest: int, idx: int, attached: float | None, *, current: bool
) -> tuple[float, float | None]:
    """Return bounds on how long a reader has held a data segment, in seconds; the upper one is None if unknown.

    Args:
        result: the scan that found the reader.
        newest: sequence number of the newest version.
        idx: index of the data segment.
        attached: seconds since the reader attached; None if unknown.
        current: whether the reader holds the segment's current inode, not one that was replaced.
    """
    header = result.data[idx]
    if header is None:
        return 0.0, attached
    least, most = _age(result, header.seq)
    if not current:  # the reader started before the version that is in the segment now was published
        return least, attached
    least = _age(result, newest)[0] if header.seq < newest else 0.0
    limits = [limit for limit in (most, attached) if limit is not None]
    return least, max(least, min(limits)) if limits else None
