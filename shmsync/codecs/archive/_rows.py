"""The values of an archived map as the rows of one array, to be changed in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shmsync.codecs import _numpy
from shmsync.codecs.archive._columns import Numbers
from shmsync.codecs.archive._nested_columns import Arrays

if TYPE_CHECKING:
    from shmsync.codecs._draft_memory import DraftMemory
    from shmsync.codecs.archive._views import ArchivedMap


_MANY = 16
"""If one in so many rows is given, an array of all takes less time than sorting those."""


def rows_of_map(archived: ArchivedMap) -> MapRows | None:
    """Return the values of a map that are arrays of one shape, or numbers of one kind; None for others."""
    entries: Any = archived._entries
    column = getattr(entries, "values_column", None)
    if isinstance(column, Arrays):
        return MapRows(entries, column.rows(), is_numbers=False)
    if isinstance(column, Numbers) and _numpy.numpy_if_installed() is not None:
        return MapRows(entries, column.vector(), is_numbers=True)
    return None


class MapRows:
    """The values of a map.

    Args:
        entries: its entries.
        rows: the values of all entries of its column, stacked.
        is_numbers: whether they are Python numbers.

    Attributes:
        rows: the values of all entries of its column.
    """

    __slots__ = ("_entries", "_is_numbers", "rows")

    def __init__(self, entries: Any, rows: Any, *, is_numbers: bool) -> None:
        self._entries = entries
        self.rows = rows
        self._is_numbers = is_numbers

    def assign(self, memory: DraftMemory, key: Any, value: Any) -> bool:
        """Assign to a key; return whether the map contains it, and the value fits."""
        row = self._entries.find(key)
        if row < 0 or not row_fits(self.rows, value, is_number=self._is_numbers):
            return False
        self._write(memory, slice(row, row + 1), value)
        return True

    def _write(self, memory: DraftMemory, rows: Any, value: Any) -> None:
        offset = memory.offset_of(self.rows)
        array = memory.writable(self.rows, offset)
        size = array.strides[0]
        if isinstance(rows, slice):
            memory.changes.add(offset + size * rows.start, offset + size * rows.stop)
        else:
            memory.changes.add_rows(offset, size, rows)
        _numpy.assign_rows(array, rows, value)

    def assign_many(self, memory: DraftMemory, keys: Any, values: Any) -> bool:
        """Assign to many keys; return whether the map contains all of them, and the values fit."""
        numpy = _numpy.require_numpy()
        values = numpy.asarray(values)
        if not rows_fit(self.rows, values, is_number=self._is_numbers):
            return False
        rows = self.find_many(keys)
        if rows is None:
            return False
        if len(rows):
            if not are_distinct(numpy, rows, len(self.rows)):
                rows, values = last_of_each(numpy, rows, values)
            self._write(memory, rows, values)
        return True

    def find_many(self, keys: Any) -> Any:
        """Return the rows of keys, an array of int64; None if one of them is missing."""
        numpy = _numpy.require_numpy()
        find_many = getattr(self._entries.find, "__self__", None)
        vectorized = getattr(find_many, "find_many", None)
        if vectorized is not None and _numpy.is_array(keys) and keys.dtype.kind in "iu":
            rows = vectorized(numpy, keys)
        else:
            listed = keys.tolist() if _numpy.is_array(keys) else keys
            rows = numpy.fromiter(map(self._entries.find, listed), numpy.int64, len(keys))
        return None if len(rows) and rows.min() < 0 else rows


def row_fits(rows: Any, value: Any, *, is_number: bool) -> bool:
    """Return whether a value can be a row of an array, and is read back as the same kind of value."""
    numpy = _numpy.require_numpy()
    if is_number:
        value = _numpy.to_python_scalar(value)
        if rows.dtype.kind == "f":
            return type(value) is float
        limits = numpy.iinfo(rows.dtype)
        return type(value) is int and limits.min <= value <= limits.max
    try:
        given = numpy.asarray(value)
    except ValueError:  # rows of different lengths
        return False
    return bool(given.shape == rows.shape[1:] and numpy.can_cast(given.dtype, rows.dtype, "same_kind"))


def rows_fit(rows: Any, values: Any, *, is_number: bool) -> bool:
    """Return the same for an array of values."""
    if values.shape[1:] != rows.shape[1:] or (is_number and values.dtype.kind != rows.dtype.kind):
        return False
    return bool(_numpy.require_numpy().can_cast(values.dtype, rows.dtype, "same_kind"))


def are_distinct(numpy: Any, rows: Any, count: int) -> bool:
    """Return whether numbers of rows are distinct; False if that would have to be found by sorting them.

    Args:
        numpy: the module.
        rows: the numbers.
        count: how many rows there are.
    """
    if len(rows) * _MANY < count:
        return False
    order = numpy.arange(len(rows), dtype="u4")
    places = numpy.empty(count, "u4")
    places[rows] = order
    return bool((places[rows] == order).all())


def last_of_each(numpy: Any, keys: Any, values: Any) -> tuple[Any, Any]:
    """Return distinct keys or rows, each with the last of its values, in the order in which they occur first.

    NumPy does not say which one of several values for a row counts.
    """
    ordered = numpy.sort(keys)
    if not (ordered[1:] == ordered[:-1]).any():
        return keys, values
    order = numpy.argsort(keys, kind="stable")
    ordered = keys[order]
    is_other = ordered[1:] != ordered[:-1]
    first, last = order[numpy.concatenate(([True], is_other))], order[numpy.concatenate((is_other, [True]))]
    by_first = numpy.argsort(first)
    return keys[first[by_first]], values[last[by_first]]
