"""The change log of a version: which bytes each of the updates before it has changed, as the segment contains it.

It is in the same segment as the version, in what remains behind the table of digests, so a reader that has pinned the
version has pinned its log, too. Only updates write one, and only a log that names the version counts: sequence number
and checksum. A full write leaves the log of an older version behind, which is of no use, and no step has to remove it.

    0    magic u64 | seq u64 | checksum of the version u64 | base u64 | size u64 | digest u64: xxh3-64 of the 40 bytes
         before it
    48   entries, `size` bytes: for each of the versions base + 1 to seq: size u64, in bytes | digest u64: xxh3-64 of
         that many bytes | its parts (see `shmsync.codecs._changes`)
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from shmsync._core.layout import LINE, checksum_of, table_span

if TYPE_CHECKING:
    from collections import deque

LOG_MAGIC = 0x43_434E5953_4D4853  # "SHMSYNCC" on a little-endian machine
_HEADER = struct.Struct("=QQQQQ")
_WORD = struct.Struct("=Q")
_ENTRY = struct.Struct("=QQ")
_ENTRIES_AT = _HEADER.size + _WORD.size


def log_offset(size: int) -> int:
    """Return where the change log is in a segment whose payload has `size` bytes."""
    return -(-table_span(size)[1] // LINE) * LINE


def pack_entry(parts: bytes) -> bytes:
    """Return an entry with its size and digest."""
    return _ENTRY.pack(len(parts), checksum_of(parts)) + parts


def pack_log(seq: int, checksum: int, entries: deque[bytes], room: int) -> bytes | None:
    """Return the log of a version; None if there is no room for its own entry.

    Args:
        seq: sequence number of the version.
        checksum: its checksum.
        entries: those of the versions up to it, the newest last. The oldest that there is no room for are removed.
        room: how many bytes the log may take.
    """
    while entries and sum(map(len, entries)) > room - _ENTRIES_AT:
        entries.popleft()
    if not entries:
        return None
    size = sum(map(len, entries))
    header = _HEADER.pack(LOG_MAGIC, seq, checksum, seq - len(entries), size)
    return b"".join((header, _WORD.pack(checksum_of(header)), *entries))


def unpack_log(raw: memoryview, seq: int, checksum: int, since: int) -> list[memoryview] | None:
    """Return the parts that each version after `since` has changed.

    None if there is no log of this version, if it does not go back that far, or if it is damaged.

    Args:
        raw: the bytes of the segment from `log_offset` on.
        seq: sequence number of the version.
        checksum: its checksum.
        since: sequence number of an older version.
    """
    if len(raw) < _ENTRIES_AT:
        return None
    magic, of, label, base, size = _HEADER.unpack_from(raw)
    if (magic, of, label) != (LOG_MAGIC, seq, checksum) or not base <= since or size > len(raw) - _ENTRIES_AT:
        return None
    if checksum_of(raw[: _HEADER.size]) != _WORD.unpack_from(raw, _HEADER.size)[0]:
        return None
    content = raw[_ENTRIES_AT : _ENTRIES_AT + size]
    entries, at = list[memoryview](), 0
    for version in range(base + 1, seq + 1):
        if at + _ENTRY.size > size:
            return None
        length, digest = _ENTRY.unpack_from(content, at)
        at += _ENTRY.size + length
        if version > since:
            entry = content[at - length : at]
            if len(entry) != length or checksum_of(entry) != digest:
                return None
            entries.append(entry)
    return entries if at == size else None
