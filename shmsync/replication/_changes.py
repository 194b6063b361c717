"""What an entry with changes contains: the bytes that have changed, taken from one payload and put into another.

The parts are those of the change log of a segment: see `shmsync.codecs._changes`. Each is checked against the size of
the payload, and against the number of bytes that there are for it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from shmsync.codecs import _numpy
from shmsync.codecs._changes import Changes, packed_parts, rows_of
from shmsync.replication._entry import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_RANGE = struct.Struct("=QQ")
_ROW = struct.Struct("=I")


class _Ranges(NamedTuple):
    """Ranges of bytes: start and stop."""

    ranges: list[tuple[int, int]]

    @property
    def size(self) -> int:
        return sum(stop - start for start, stop in self.ranges)

    def gather(self, payload: memoryview) -> Iterator[Any]:
        return (payload[start:stop] for start, stop in self.ranges)

    def scatter(self, payload: memoryview, content: memoryview) -> None:
        at = 0
        for start, stop in self.ranges:
            end = at + stop - start
            payload[start:stop] = content[at:end]
            at = end

    def record(self, changes: Changes) -> None:
        for start, stop in self.ranges:
            changes.add(start, stop)


class _Rows(NamedTuple):
    """Rows of an array, by their numbers: an array of uint32, as NumPy has it."""

    base: int
    row_size: int
    numbers: Any

    @property
    def size(self) -> int:
        return self.row_size * len(self.numbers)

    def gather(self, payload: memoryview) -> Iterator[Any]:
        yield rows_of(payload, self.base, self.row_size)[self.numbers].tobytes()

    def scatter(self, payload: memoryview, content: memoryview) -> None:
        rows_of(payload, self.base, self.row_size)[self.numbers] = rows_of(content, 0, self.row_size)

    def record(self, changes: Changes) -> None:
        changes.add_rows(self.base, self.row_size, self.numbers.astype("int64"))


def gather(packed: bytes, payload: memoryview) -> bytes:
    """Return the changed bytes of a payload.

    Args:
        packed: which bytes have changed: `Changes.packed`.
        payload: the payload.
    """
    return b"".join(piece for part in _parts(packed, len(payload)) for piece in part.gather(payload))


class ReceivedChanges:
    """The changes of an entry.

    Args:
        packed: which bytes have changed.
        size: size of the payload in bytes.
        changed: how many bytes have changed.

    Raises:
        DamagedError: they are not within the payload, or another number of bytes.
    """

    def __init__(self, packed: bytes, size: int, changed: int) -> None:
        self._parts = list(_parts(packed, size))
        if sum(part.size for part in self._parts) != changed:
            raise DamagedError(f"the changes of a version are not {changed} bytes, as it says")

    def record(self, changes: Changes) -> None:
        """Record which bytes they are."""
        for part in self._parts:
            part.record(changes)

    def scatter(self, payload: memoryview, content: memoryview) -> None:
        """Write the changed bytes to their places.

        Args:
            payload: the payload, writable.
            content: the changed bytes, as many as there have to be.
        """
        at = 0
        for part in self._parts:
            part.scatter(payload, content[at : at + part.size])
            at += part.size


def _parts(packed: bytes, size: int) -> Iterator[_Ranges | _Rows]:
    try:
        for base, row_size, raw in packed_parts(memoryview(packed)):
            yield _rows(raw, row_size, base, size) if row_size else _ranges(raw, size)
    except ValueError:
        raise DamagedError("the changes of a version are truncated") from None


def _ranges(raw: memoryview, size: int) -> _Ranges:
    ranges = list(_RANGE.iter_unpack(raw))
    if not all(start < stop <= size for start, stop in ranges):
        raise DamagedError("the changes of a version are not within its payload")
    return _Ranges(ranges)


def _rows(raw: memoryview, row_size: int, base: int, size: int) -> _Ranges | _Rows:
    numpy = _numpy.numpy_if_installed()
    if numpy is None:
        numbers = [row for (row,) in _ROW.iter_unpack(raw)]
        largest = max(numbers, default=0)
    else:
        numbers = numpy.frombuffer(raw, "=u4")
        largest = int(numbers.max()) if len(numbers) else 0
    if len(numbers) and base + row_size * (largest + 1) > size:
        raise DamagedError("the changes of a version are not within its payload")
    if numpy is None:
        return _Ranges([(base + row_size * row, base + row_size * (row + 1)) for row in numbers])
    return _Rows(base, row_size, numbers)
