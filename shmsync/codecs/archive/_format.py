"""The archive, version 1: a value laid out so that it is read where it lies.

An archive is a tree of *columns*. A column holds `n` elements of one kind in a row; the elements of a list, the keys of
a map and its values are columns of their own. The archived value is the one element of the root column. All numbers are
in native byte order, all offsets count bytes from the start of the archive, whole columns of numbers start on multiples
of 64, everything else on multiples of 8.

    0                   magic u64; so no part of a column has the offset 0
    8                   columns: the parts of each, then its header
    size - 32           offset of the root header u64 | version u32 | 0 u32 | size of the archive u64 | magic u64

    column header, 64 bytes:  kind u32 | 0 u32 | n u64 | six words u64, by kind:

    kind         words                                             element i
    1 NULL       data                                              None; data is u8[n], all 0
    2 BOOL       data                                              data is u8[n], 0 or 1
    3 INT        data                                              data is i64[n]
    4 UINT       data                                              data is u64[n]; for integers beyond i64
    5 FLOAT      data                                              data is f64[n]
    6 STR        ends, bytes, size                                 UTF-8 in bytes[ends[i] : ends[i + 1]]; if `ends`
                                                                   is 0, all have the same length, size / n
    7 BYTES      ends, bytes, size                                 bytes, likewise
    8 LIST       ends, stride, child                               child's elements ends[i] up to ends[i + 1]; if `ends`
                                                                   is 0, elements stride * i up to stride * (i + 1)
    9 MAP        ends, keys, values, table, buckets                items ends[i] up to ends[i + 1] of keys and values
    10 RECORDS   keys, fields                                      a map: key j has the element i of the column
                                                                   fields[j]; all elements have the same keys
    11 ARRAY     dtype, length of dtype, shape, dimensions, data,  data[size * i : size * (i + 1)] in C order; dtype is
                 size                                              text as in .npy files, shape is u64[dimensions]
    12 MIX       kinds, places, children, number of children       children[kinds[i]]'s element places[i]
    13 BOXED     columns                                           element 0 of the column whose header is at columns[i]

`ends` is u64[n + 1] and begins with 0. `child`, `keys`, `values`, `fields`, `children` and `columns` are offsets of
headers. A header lies behind all that it refers to, and no column is referred to twice: so there are no cycles. No
column has more elements than the archive has bytes, since each takes at least one.

Lists of ints only (all within i64, or all within u64) and lists of floats only are *vectors*: elements of a LIST whose
child is INT, UINT or FLOAT. A tuple is written as a list; among the keys of a map, a list is a tuple.

Maps of more than 64 items stand alone (n = 1) and have a hash table at `table`: u32[buckets], then u32[items]. The
first is the newest item of each bucket, the second for each item the next one in its bucket; both as item number + 1,
0 for none, so that each link points to a smaller number. `buckets` is prime. The bucket of a key is `h % buckets`
(the remainder is never negative), where `h` is
- in a column of INT or UINT keys: the key itself;
- in a column of STR or BYTES keys: xxh3-64 of the bytes, seeded with `buckets`;
- in every other column: xxh3-64, seeded with `buckets`, of the key in msgpack, after every number in it that equals
  a 64-bit integer has become that integer (1.0 and True become 1), so that keys that are equal in Python meet.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from shmsync.errors import EntityReadError

VERSION = 1
MAGIC = 0x31484352414D4853  # "SHMARCH1" on a little-endian machine
HEADER = struct.Struct("=II7Q")
TRAILER = struct.Struct("=QIIQQ")
_WORD = struct.Struct("=Q")

NULL, BOOL, INT, UINT, FLOAT, STR, BYTES, LIST, MAP, RECORDS, ARRAY, MIX, BOXED = range(1, 14)
NUMBERS = {INT: "q", UINT: "Q", FLOAT: "d"}
"""Kinds of numbers, with their format code in `array`, `memoryview` and NumPy."""

ITEM = 8
LINK = 4
SMALL = 64
"""Maps of up to so many items have no hash table."""
LARGE = 4096
"""Bytes values of at least this size are handed out in place."""
DEEPEST = 100
"""How deep a value may be nested."""
MOST_ITEMS = (1 << 32) - 2
"""How many items a map may have: links are 32 bits wide."""


class Header(NamedTuple):
    """A parsed column header."""

    at: int
    kind: int
    n: int
    words: tuple[int, ...]


def damaged(what: str) -> EntityReadError:
    """Return the error for bytes that are no sound archive."""
    return EntityReadError(f"the published archive is damaged: {what}; the next write repairs it")


def pack_header(kind: int, n: int, *words: int) -> bytes:
    """Return a column header."""
    return HEADER.pack(kind, 0, n, *words, *(0,) * (6 - len(words)))


def header_at(archive: memoryview, at: int, before: int) -> Header:
    """Return the column header at an offset; all of it lies before `before`.

    Raises:
        EntityReadError: it does not, or is none.
    """
    if at % ITEM or at + HEADER.size > before:
        raise damaged(f"a column at {at}, beyond {before}")
    kind, zero, n, *words = HEADER.unpack_from(archive, at)
    if zero or n > at:
        raise damaged(f"the column at {at} has {n} elements")
    return Header(at, kind, n, tuple(words))


def part(archive: memoryview, column: Header, at: int, size: int) -> memoryview:
    """Return a part of a column, which lies before its header.

    Raises:
        EntityReadError: it does not.
    """
    if at % ITEM or at + size > column.at:
        raise damaged(f"{size} bytes at {at}, which belong to the column at {column.at}")
    return archive[at : at + size]


def pack_start() -> bytes:
    """Return the beginning of an archive."""
    return _WORD.pack(MAGIC)


def pack_trailer(root: int, at: int) -> bytes:
    """Return the end of an archive."""
    return TRAILER.pack(root, VERSION, 0, at + TRAILER.size, MAGIC)


def root_of(archive: memoryview) -> Header:
    """Return the root header.

    Raises:
        EntityReadError: not a whole archive, or of another version.
    """
    end = len(archive) - TRAILER.size
    if end < 0:
        raise damaged(f"it has {len(archive)} bytes")
    root, version, _, size, magic = TRAILER.unpack_from(archive, end)
    if magic != MAGIC or size != len(archive):
        raise damaged("it does not end as one")
    if version != VERSION:
        raise EntityReadError(
            f"the published archive has version {version}, this shmsync reads version {VERSION}; "
            "run the same shmsync in writer and readers"
        )
    column = header_at(archive, root, end)
    if column.n != 1:
        raise damaged(f"its root has {column.n} elements")
    return column
