"""The origin of a version: which version of a publisher on another host it is a copy of, as the segment contains it.

Only a replica (see `shmsync.replication`) writes one, into the last 64 bytes of the segment. A reader that has pinned
the version has pinned its origin, too. It counts only if it names the version: sequence number and checksum. A value
that has no room for it, because payload and digests extend into these bytes, has none.

    0    magic u64 | seq u64 | checksum of the version u64 | epoch u64 | seq of the origin u64 | published u64 |
         received u64, both in nanoseconds of Unix time | digest u64: xxh3-64 of the 56 bytes before it
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from shmsync._core.layout import LAST_SEQ, LINE, checksum_of, required_size
from shmsync._types import Origin

if TYPE_CHECKING:
    from shmsync._core.layout import DataHeader
    from shmsync._shm.segment import Mapping, Segment

ORIGIN_SIZE = LINE
ORIGIN_MAGIC = 0x4F_434E5953_4D4853  # "SHMSYNCO" on a little-endian machine
_RECORD = struct.Struct("=QQQQQQQ")
_WORD = struct.Struct("=Q")
_MAGIC = _WORD.pack(ORIGIN_MAGIC)
_NANOSECONDS = 1e9


def pack_origin(header: DataHeader, origin: Origin) -> bytes:
    """Return the record of a version.

    Args:
        header: its header.
        origin: its origin.
    """
    times = (int(moment * _NANOSECONDS) for moment in (origin.published, origin.received))
    record = _RECORD.pack(ORIGIN_MAGIC, header.seq, header.checksum, origin.epoch, origin.seq, *times)
    return record + _WORD.pack(checksum_of(record))


def origin_of(mapping: Mapping, header: DataHeader) -> Origin | None:
    """Return the origin of the version in a segment; None if it has none.

    Args:
        mapping: the segment.
        header: header of the version.
    """
    return unpack_origin(mapping.copy(mapping.size - ORIGIN_SIZE, mapping.size), header, mapping.size)


def origin_in(segment: Segment, header: DataHeader, segment_size: int) -> Origin | None:
    """Return the origin of the version in a segment that is not mapped; None if it has none.

    Args:
        segment: the segment.
        header: header of the version.
        segment_size: size of the segment in bytes.

    Raises:
        StateReadError: the kernel refuses.
    """
    return unpack_origin(segment.read(segment_size - ORIGIN_SIZE, ORIGIN_SIZE), header, segment_size)


def unpack_origin(raw: bytes | memoryview, header: DataHeader, segment_size: int) -> Origin | None:
    """Return the origin of a version; None if it has none.

    Args:
        raw: the last `ORIGIN_SIZE` bytes of its segment.
        header: its header.
        segment_size: size of the segment in bytes.
    """
    if raw[: _WORD.size] != _MAGIC:  # as of most versions
        return None
    if len(raw) != ORIGIN_SIZE or required_size(header.size) + ORIGIN_SIZE > segment_size:
        return None
    _magic, seq, checksum, epoch, origin_seq, published, received = _RECORD.unpack_from(raw)
    if (seq, checksum) != (header.seq, header.checksum) or not 0 < origin_seq <= LAST_SEQ:
        return None
    if checksum_of(raw[: _RECORD.size]) != _WORD.unpack_from(raw, _RECORD.size)[0]:
        return None
    return Origin(epoch, origin_seq, published / _NANOSECONDS, received / _NANOSECONDS)
