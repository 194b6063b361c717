"""Names from outside: who writes, who reads, what is held. For tools.

What is found is a look, not a proof: writer and readers go on meanwhile.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from shmsync import codecs
from shmsync._core.layout import CLOSED, InstanceVersion, Names, index_of, names_of
from shmsync._inspect.scan import look, unix_time
from shmsync._shm.segment import segment_names, status_of
from shmsync._types import Info, ReaderInfo, SegmentInfo
from shmsync.errors import InvalidArgumentError, ShmSyncError, StateReadError

if TYPE_CHECKING:
    from shmsync._inspect.scan import Found

_SUFFIX = "_state"
_LOOKS = 3  # at a name with which something is wrong, before that is said: it may be in the middle of its creation
_PAUSE = 0.002
_WHOLE = 1.0  # the header has whole seconds
_BLOCK = 512  # bytes in which the kernel counts the memory of a file


def names() -> list[str]:
    """Return all names on this host, sorted: what has a segment NAME_state, whoever may read it.

    Raises:
        StateReadError: there is no /dev/shm.
    """
    found = []
    try:
        listing = segment_names()
    except OSError as error:
        reason = f"cannot list /dev/shm: {error.strerror}; POSIX shared memory needs a tmpfs there"
        raise StateReadError(error.errno or 0, reason) from error
    for segment in listing:
        name = segment.removesuffix(_SUFFIX)
        if name != segment and _is_name(name):
            found.append(name)
    return sorted(found)


def info(name: str) -> Info:
    """Look at a name. Takes no reader slot, changes nothing, and says in `problems` what is wrong with its segments.

    Raises:
        InvalidArgumentError: the name cannot be used.
        StateNotFoundError: there is no such name.
    """
    parts = names_of(name)
    found = look(name, parts)
    for _ in range(_LOOKS - 1):
        if not found.problems:
            break
        time.sleep(_PAUSE)
        found = look(name, parts)
    return _report(found, parts)


def readers(name: str) -> list[ReaderInfo]:
    """Look at the slots of the reader table that are in use.

    Raises:
        InvalidArgumentError: the name cannot be used.
        StateNotFoundError: there is no such name.
        StateReadError: its state or reader table cannot be read; `info` returns what can.
    """
    found = info(name)
    if found.max_readers is None:
        raise StateReadError(0, "; ".join(found.problems) or f"{name}: nothing is published yet")
    return list(found.readers)


def _is_name(name: str) -> bool:
    try:
        names_of(name)
    except InvalidArgumentError:
        return False
    return True


# ---------------------------------------------------------------------------------------------------------- the report


def _report(found: Found, parts: Names) -> Info:
    header, state = found.header, found.state
    seq = state.seq if state is not None and state.seq != CLOSED else None
    newest = found.data[index_of(seq)] if seq else None
    version = codec = age = None
    if newest is not None and newest.seq == seq:
        version = InstanceVersion(newest.seq, index_of(newest.seq), newest.size, newest.checksum)
        codec = _codec(newest.codec)
        least, most = _age(found, newest.seq)
        age = None if most is None else (least + most) / 2
    return Info(
        name=found.name,
        seq=seq,
        version=version,
        codec=codec,
        age=age,
        created=unix_time(header.created_ns) if header is not None else None,
        layout=found.layout,
        instance=header.incarnation if header is not None else None,
        max_readers=header.max_readers if found.table is not None and header is not None else None,
        writer=found.writer,
        readers=tuple(_with_time(found, reader) for reader in found.table or ()),
        segments=(_segment(parts.state), _segment(parts.readers), *(_data_segment(found, parts, i) for i in (0, 1))),
        problems=tuple(found.problems),
        readable=found.readable,
    )


def _age(found: Found, seq: int) -> tuple[float, float | None]:
    """Return since when a version is published, in seconds, at least and at most; None if that is not known."""
    header = found.data[index_of(seq)]
    if header is None or header.seq != seq or not header.published:
        return 0.0, None
    most = max(0.0, time.monotonic() - header.published)
    return max(0.0, most - _WHOLE), most


def _with_time(found: Found, reader: ReaderInfo) -> ReaderInfo:
    """Return a reader with how long it has held what it holds.

    It does not say so itself, which would cost each read a look at the clock. But it holds a version since a time when
    that was the newest: after it was published, and before the next one was.
    """
    held = [(idx, not reader.evicted) for idx, count in enumerate(reader.counts) if count]
    held += [(keep.idx, keep.present) for keep in reader.keeps]
    if not held or found.state is None:
        return reader
    attached = None if reader.since is None else max(0.0, time.time() - reader.since)
    spans = [_held_for(found, found.state.seq, idx, attached, present=present) for idx, present in held]
    most = [most for _, most in spans if most is not None]
    return reader._replace(
        held_at_least=max(least for least, _ in spans), held_at_most=max(most) if len(most) == len(spans) else None
    )


def _held_for(
    found: Found, newest: int, idx: int, attached: float | None, *, present: bool
) -> tuple[float, float | None]:
    """Return for how long a reader holds a data segment, at least and at most.

    Args:
        found: the look.
        newest: sequence number.
        idx: of the data segment.
        attached: for how long the reader is; None if that is not known.
        present: whether it holds what lies there now, or memory that was replaced.
    """
    header = found.data[idx]
    if header is None:
        return 0.0, attached
    least, most = _age(found, header.seq)
    if not present:  # then it was held before the version that lies there now
        return least, attached
    least = _age(found, newest)[0] if header.seq < newest else 0.0
    limits = [limit for limit in (most, attached) if limit is not None]
    return least, max(least, min(limits)) if limits else None


def _codec(number: int) -> str:
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


def _data_segment(found: Found, parts: Names, idx: int) -> SegmentInfo:
    segment, header = _segment(parts.data[idx]), found.data[idx]
    generation = found.state.generations[idx] if found.state is not None else None
    return segment._replace(generation=generation, seq=header.seq if header is not None and segment.size else None)
