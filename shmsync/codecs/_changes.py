"""Which bytes of a payload an update has changed.

Two kinds: ranges of bytes; and rows of an array that begins at an offset, given by an array of their numbers. Both may
cover more than what was changed, never less. Rows cost no Python step each: a million are recorded at NumPy's speed.

As an entry of the change log (see `shmsync._core.change_log`), a sequence of parts:

    row size u64 | count u64 | base u64, then
    ranges (row size 0, base 0): `count` times start u64 | stop u64
    rows: their numbers, `count` times u32, and 4 zero bytes if the count is odd; row N is at base + N * row size
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from shmsync.codecs import _blocks, _numpy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MANY_RANGES = 4096
"""So many ranges are merged; those that are still too many are rounded to blocks."""
_MANY_ARRAYS = 64
"""So many arrays of rows are joined."""
_ROW_NUMBER = 8  # bytes
_COARSE = 4096
_PART = struct.Struct("=QQQ")
_RANGE = struct.Struct("=QQ")
_ROW = struct.Struct("=I")
_ALIGNMENT = 8
_MAX_ROW = (1 << 32) - 1
_LARGE_ROW = 1024
"""Rows of this many bytes and more are recorded as ranges: copying one takes longer than a few Python steps."""


class Changes:
    """The parts of a payload that may differ from those of another version of it.

    Attributes:
        size: how many bytes they are, at most.
    """

    __slots__ = ("_limit", "_ranges", "_row_limit", "_rows", "size")

    def __init__(self) -> None:
        self._limit = _MANY_RANGES
        self._row_limit = _MANY_ARRAYS
        self._ranges: list[tuple[int, int]] = []
        self._rows: list[tuple[int, int, Any]] = []
        self.size = 0

    def add(self, start: int, stop: int) -> None:
        """Record the bytes from `start` to `stop`."""
        if start < stop:
            self._ranges.append((start, stop))
            self.size += stop - start
            if len(self._ranges) > self._limit:
                self._compact()

    def add_rows(self, base: int, row_size: int, rows: Any) -> None:
        """Record rows of an array.

        Args:
            base: offset of row 0 in bytes.
            row_size: size of a row in bytes.
            rows: their numbers: a one-dimensional array of int64, not negative.
        """
        if not len(rows) or not row_size:
            return
        if row_size < _LARGE_ROW and len(rows) > 1:
            self._add_many(base, row_size, rows)
            return
        ordered = _numpy.distinct(rows)
        breaks = _numpy.require_numpy().flatnonzero(ordered[1:] != ordered[:-1] + 1)
        firsts, lasts = [0, *(breaks + 1).tolist()], [*breaks.tolist(), len(ordered) - 1]
        for first, last in zip(ordered[firsts].tolist(), ordered[lasts].tolist(), strict=True):  # of rows in sequence
            self.add(base + row_size * first, base + row_size * (last + 1))

    def extend(self, other: Changes) -> None:
        """Record what another object has recorded."""
        for start, stop in other._ranges:
            self.add(start, stop)
        for base, row_size, rows in other._rows:
            self._add_many(base, row_size, rows)

    def _add_many(self, base: int, row_size: int, rows: Any) -> None:
        self._rows.append((base, row_size, rows))
        self.size += row_size * len(rows)
        if len(self._rows) > self._row_limit:
            self._compact_rows()

    def _compact_rows(self) -> None:
        """Join the rows of each array. Where that takes less memory, record the blocks that they touch, instead."""
        numpy = _numpy.require_numpy()
        arrays: dict[tuple[int, int], list[Any]] = {}
        for base, size, rows in self._rows:
            arrays.setdefault((base, size), []).append(rows)
        joined = []
        for (base, size), parts in arrays.items():
            rows = _numpy.distinct(numpy.concatenate(parts))
            first = _numpy.distinct((rows * size + base) // _COARSE)
            if len(first) * _COARSE <= len(rows) * _ROW_NUMBER:
                for block in first.tolist():
                    self.add(block * _COARSE, (block + 1) * _COARSE + size)
            else:
                joined.append((base, size, rows))
        self._rows = joined  # last: it may be interrupted before
        self._row_limit = max(_MANY_ARRAYS, 2 * len(self._rows))
        self._compact()

    def _compact(self) -> None:
        self._ranges = _merged(self._ranges)
        if len(self._ranges) > _MANY_RANGES // 2:
            coarse = ((start // _COARSE * _COARSE, -(-stop // _COARSE) * _COARSE) for start, stop in self._ranges)
            self._ranges = _merged(coarse)
        self._limit = max(_MANY_RANGES, 2 * len(self._ranges))  # so that this takes a constant time for each change
        self.size = sum(stop - start for start, stop in self._ranges)
        self.size += sum(size * len(rows) for _, size, rows in self._rows)

    def blocks(self, block_size: int, end: int) -> list[int]:
        """Return the numbers of the blocks that contain a part, ascending.

        Args:
            block_size: size of a block in bytes.
            end: size of the payload in bytes.
        """
        spans = [(start // block_size, -(-min(stop, end) // block_size)) for start, stop in self._ranges]
        if not self._rows:
            return sorted({block for first, last in spans for block in range(first, last)})
        numpy = _numpy.require_numpy()
        touched = numpy.zeros(-(-end // block_size), "?")  # marked, not sorted: there may be a million rows
        for first, last in spans:
            touched[first:last] = True
        for base, size, rows in self._rows:  # a row of `_rows` is in one or two blocks
            touched[(rows * size + base) // block_size] = True
            touched[(rows * size + (base + size - 1)) // block_size] = True
        found: list[int] = numpy.flatnonzero(touched).tolist()
        return found

    def packed(self, end: int) -> bytes | None:
        """Return an entry of the change log; None if rows have too large numbers for one.

        Args:
            end: size of the payload in bytes.
        """
        ranges = _merged((start, min(stop, end)) for start, stop in self._ranges)
        parts = [_PART.pack(0, len(ranges), 0), *(_RANGE.pack(*each) for each in ranges)] if ranges else []
        for base, size, rows in self._rows:
            if int(rows.max()) > _MAX_ROW:
                return None
            parts += _PART.pack(size, len(rows), base), rows.astype("=u4").tobytes(), bytes(len(rows) % 2 * _ROW.size)
        return b"".join(parts)

    @classmethod
    def unpacked(cls, entries: Iterable[memoryview], end: int) -> Changes:
        """Return what entries of a change log contain, together.

        Args:
            entries: the entries.
            end: size of the payload in bytes.

        Raises:
            ValueError: an entry is damaged.
        """
        result = cls()
        for entry in entries:
            for base, row_size, part in packed_parts(entry):
                if row_size:
                    result._add_packed_rows(base, row_size, part, end)
                else:
                    for start, stop in _RANGE.iter_unpack(part):
                        result.add(start, min(stop, end))
        return result

    def _add_packed_rows(self, base: int, size: int, part: memoryview, end: int) -> None:
        rows = _numpy.require_numpy().frombuffer(part, "=u4").astype("int64")
        if len(rows) and base + size * (int(rows.max()) + 1) > end:
            raise ValueError("a row of the change log is beyond the payload")
        self.add_rows(base, size, rows)

    def ranges(self) -> list[tuple[int, int]]:
        """Return the bytes as ranges: start and stop, ascending, disjoint."""
        found = list(self._ranges)
        for base, size, rows in self._rows:
            found += ((base + size * row, base + size * (row + 1)) for row in _numpy.distinct(rows).tolist())
        return _merged(found)

    def rows_in(self, base: int, row_size: int, count: int) -> Any:
        """Return the numbers of the rows of an array that contain a byte of these: an array of int64, ascending.

        Args:
            base: offset of row 0 in bytes.
            row_size: size of a row in bytes.
            count: how many rows the array has.
        """
        numpy = _numpy.require_numpy()
        found = [numpy.empty(0, "int64")]
        for start, stop in self._ranges:
            first, last = max(start - base, 0) // row_size, -(-(stop - base) // row_size)
            found.append(numpy.arange(min(first, count), max(0, min(last, count)), dtype="int64"))
        for at, size, rows in self._rows:
            if (at - base) % row_size == 0 and size == row_size:
                numbers = rows + (at - base) // row_size
            else:
                first = (rows * size + (at - base)) // row_size
                last = (rows * size + (at - base + size - 1)) // row_size
                most = int((last - first).max()) + 1
                numbers = numpy.minimum(first[:, None] + numpy.arange(most), last[:, None]).ravel()
            found.append(numbers[(numbers >= 0) & (numbers < count)])
        return _numpy.distinct(numpy.concatenate(found))

    def copy(self, target: memoryview, source: memoryview) -> None:
        """Copy the parts from one payload to another one of the same size."""
        for start, stop in self._ranges:
            last = min(stop, len(target))
            _blocks.copy(target[start:last], source[start:last], _ignore)
        for base, size, rows in self._rows:
            to, of = rows_of(target, base, size), rows_of(source, base, size)
            for part in _parts(rows, size):
                to[part] = of[part]


def _ignore(_: memoryview) -> None:
    pass


def rows_of(payload: memoryview, base: int, row_size: int) -> Any:
    """Return all rows of `row_size` bytes from an offset on, as an array of one item each, in place."""
    numpy = _numpy.require_numpy()
    kind = f"u{row_size}" if row_size in {1, 2, 4, 8} else f"V{row_size}"
    return numpy.frombuffer(payload, kind, (len(payload) - base) // row_size, base)


def _parts(rows: Any, row_size: int) -> Iterator[Any]:
    count = max(1, _blocks.BLOCK_SIZE // row_size)
    for start in range(0, len(rows), count):
        yield rows[start : start + count]


def packed_parts(entry: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Yield the parts of an entry of the change log: base, row size, and the numbers of rows; or ranges if that is 0.

    Raises:
        ValueError: the entry is truncated.
    """
    at = 0
    while at < len(entry):
        if at + _PART.size > len(entry):
            raise ValueError("an entry of the change log is truncated")
        row_size, count, base = _PART.unpack_from(entry, at)
        start, length = at + _PART.size, count * (_ROW if row_size else _RANGE).size
        at = start + -(-length // _ALIGNMENT) * _ALIGNMENT
        if at > len(entry):
            raise ValueError("an entry of the change log is truncated")
        yield base, row_size, entry[start : start + length]


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges in ascending order; those that overlap or touch are joined."""
    result: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if result and start <= result[-1][1]:
            if stop > result[-1][1]:
                result[-1] = result[-1][0], stop
        else:
            result.append((start, stop))
    return result
