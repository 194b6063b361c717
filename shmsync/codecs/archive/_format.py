"""The archive format, version 1: a columnar layout that is read in place.

An archive is a tree of *columns*. A column holds `n` elements of one kind. The elements of lists, and the keys and the
values of maps, are child columns. The archived value is the only element of the root column. All numbers are in native
byte order; offsets of buffers and headers are in bytes from the start of the archive. Numbers and arrays of 1 KiB and
more are aligned to 64 bytes, all other buffers to 8 bytes. Where Arrow has an equivalent, the terms are Arrow's:
https://arrow.apache.org/docs/format/Columnar.html

    0                   magic u64; so no buffer has the offset 0
    8                   columns: the buffers of each, then its header
    size - 32           offset of the root header u64 | version u32 | 0 u32 | size of the archive u64 | magic u64

    column header, 64 bytes:  kind u32 | 0 u32 | n u64 | six words u64, by kind:

    kind           words                                           element i
    1 NULL         data                                            None; data is u8[n], all 0
    2 BOOL         data                                            data is u8[n], 0 or 1
    3 INT          data                                            data is i64[n]
    4 UINT         data                                            data is u64[n]; for integers beyond i64
    5 FLOAT        data                                            data is f64[n]
    6 STR          offsets, data, size                             UTF-8 in data[offsets[i] : offsets[i + 1]]; if
                                                                   `offsets` is 0, all have the same length, size / n
    7 BYTES        offsets, data, size                             bytes, likewise
    8 LIST         offsets, list size, child                       child's elements offsets[i] to offsets[i + 1]; if
                                                                   `offsets` is 0, list size * i to list size * (i + 1)
    9 MAP          offsets, keys, values, table, buckets,          entries offsets[i] to offsets[i + 1]: keys and values
                   capacity
    10 STRUCT      keys, fields                                    a map: key j has the element i of the column
                                                                   fields[j]; all elements have the same keys
    11 ARRAY       dtype, length of dtype, shape, dimensions,      data[size * i : size * (i + 1)] in C order; dtype is
                   data, size                                      text as in .npy files, shape is u64[dimensions]
    12 DENSE_UNION type ids, value offsets, children, number of    element value_offsets[i] of children[type_ids[i]];
                   children                                        type ids are u8[n], value offsets and children u64
    13 CHUNKED     chunks                                          element 0 of the column whose header is at chunks[i]
    14 STR_VIEW    spans, data, size, room                         UTF-8 in data[spans[2 * i] : spans[2 * i + 1]]; size
                                                                   bytes of data are in use, there is room for `room`
    15 BYTES_VIEW  spans, data, size, room                         bytes, likewise

Ranges exclude their end. `offsets` is u64[n + 1] and starts with 0. `child`, `keys` and `values` are offsets of
headers; `fields`, `children` and `chunks` are arrays of such offsets. A header comes after everything that it refers
to, and no column is referred to twice, so there are no cycles. No column has more elements than the archive has bytes,
since each takes at least one byte.

Lists of ints only (all within i64, or all within u64) and lists of floats only are *vectors*: elements of a LIST whose
child is INT, UINT or FLOAT. A tuple is written as a list; among the keys of a map, a list is a tuple.

Maps of more than 64 entries, and maps with a capacity, have a column of their own (n = 1) and a hash table at `table`:
u32[buckets], then u32[entries]. The first array contains the last entry of each bucket, the second the successor of
each entry in its chain. Both contain entry index + 1, or 0 for none; along a chain these values decrease. `buckets` is
prime. The bucket of a key is `h % buckets` (the remainder is never negative), where `h` is:
- in a column of INT or UINT keys: the key itself;
- in a column of STR or BYTES keys, or of views of them: xxh3-64 of the bytes, seeded with `buckets`;
- in every other column: xxh3-64, seeded with `buckets`, of the key in msgpack, after replacing every number in it that
  equals a 64-bit integer with that integer (1.0 and True become 1), so that equal keys have the same hash.

A map whose *capacity* is not 0 has INT, UINT, STR_VIEW or BYTES_VIEW keys, and INT, UINT, FLOAT or ARRAY values. After
its keys (or their spans), its values and the second array of its table there is room for so many entries in all, whose
bytes have no meaning. An update that adds or removes entries changes the number of entries, which is at three places:
in `offsets`, and in the headers of `keys` and `values`. Entries are dense: a removed one is replaced by the last. So a
reader does not need the capacity. Strings have spans, because the last of them is seldom as long as the removed one.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from shmsync.errors import EntityReadError

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = 1
MAGIC = 0x31484352414D4853  # "SHMARCH1" on a little-endian machine
HEADER = struct.Struct("=II7Q")
TRAILER = struct.Struct("=QIIQQ")
_U64 = struct.Struct("=Q")

NULL, BOOL, INT, UINT, FLOAT, STR, BYTES, LIST, MAP, STRUCT, ARRAY, DENSE_UNION, CHUNKED = range(1, 14)
STR_VIEW, BYTES_VIEW = 14, 15
NUMBERS = {INT: "q", UINT: "Q", FLOAT: "d"}
"""Kinds of numbers, with their format code in `array`, `memoryview` and NumPy."""

WORD = 8
"""Size of a number and of an offset, in bytes."""
N_AT = 8
"""Offset of the number of elements in a column header."""
USED_AT = 32
"""Offset of the number of bytes that are in use, in the header of a column of views."""
LINK_SIZE = 4
"""Size of a link in a hash table, in bytes."""
MAX_UNHASHED = 64
"""Maps of up to this many entries have no hash table."""
VIEW_FROM = 4096
"""With `zero_copy_bytes`, values of type bytes of at least this many bytes are returned as views of the segment."""
MAX_DEPTH = 100
"""How many levels deep a value may be nested."""
MAX_ENTRIES = (1 << 32) - 2
"""How many entries a map may have: links are 32 bits wide."""


class Header(NamedTuple):
    """A parsed column header.

    Attributes:
        zero_copy_bytes: how to read the column and its children: whether large bytes are returned as views.
        open_map: for an update: opens a map that has a capacity, from its column, to be changed; None for readers.
    """

    offset: int
    kind: int
    n: int
    words: tuple[int, ...]
    zero_copy_bytes: bool = False
    open_map: Callable[[Any], Any] | None = None

    @property
    def span(self) -> tuple[int, int]:
        """Its bytes in the archive."""
        return self.offset, self.offset + HEADER.size


def damaged(what: str) -> EntityReadError:
    """Return the error for bytes that are not a valid archive."""
    return EntityReadError(f"the published archive is damaged: {what}; publish the value again")


def pack_header(kind: int, n: int, *words: int) -> bytes:
    """Return a column header."""
    return HEADER.pack(kind, 0, n, *words, *(0,) * (6 - len(words)))


def header_at(archive: memoryview, offset: int, limit: int) -> Header:
    """Return the column header at an offset.

    Args:
        archive: the whole archive.
        offset: offset of the header.
        limit: the offset that it must end before.

    Raises:
        EntityReadError: the header extends beyond the limit, or is not valid.
    """
    if offset % WORD or offset + HEADER.size > limit:
        raise damaged(f"a column at {offset} is misaligned or extends beyond {limit}")
    kind, zero, n, *words = HEADER.unpack_from(archive, offset)
    if zero or n > offset:
        raise damaged(f"the column at {offset} has {n} elements and the reserved word {zero}")
    return Header(offset, kind, n, tuple(words))


def buffer_at(archive: memoryview, column: Header, offset: int, size: int) -> memoryview:
    """Return a buffer of a column, which comes before the column's header.

    Raises:
        EntityReadError: the buffer is misaligned, or extends beyond the header.
    """
    if offset % WORD or offset + size > column.offset:
        raise damaged(f"{size} bytes at {offset} cannot belong to the column at {column.offset}")
    return archive[offset : offset + size]


def pack_start() -> bytes:
    """Return the first bytes of an archive."""
    return _U64.pack(MAGIC)


def pack_trailer(root: int, offset: int) -> bytes:
    """Return the trailer of an archive.

    Args:
        root: offset of the root header.
        offset: offset of the trailer itself.
    """
    return TRAILER.pack(root, VERSION, 0, offset + TRAILER.size, MAGIC)


def trailer_span(archive: memoryview) -> tuple[int, int]:
    """Return where the trailer is."""
    return len(archive) - TRAILER.size, len(archive)


def root_of(archive: memoryview) -> Header:
    """Return the root header.

    Raises:
        EntityReadError: the archive is truncated, or has another version.
    """
    end = len(archive) - TRAILER.size
    if end < 0:
        raise damaged(f"{len(archive)} bytes are too few for a trailer")
    root, version, _, size, magic = TRAILER.unpack_from(archive, end)
    if magic != MAGIC or size != len(archive):
        raise damaged("its trailer is missing")
    if version != VERSION:
        raise EntityReadError(
            f"the published archive has version {version}, but this shmsync reads version {VERSION}; "
            "run the same version of shmsync in writer and readers"
        )
    column = header_at(archive, root, end)
    if column.n != 1:
        raise damaged(f"its root has {column.n} elements")
    return column
